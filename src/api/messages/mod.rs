//! `POST /v1/messages`: Anthropic's Messages API, as a conversation of ours and back.
//!
//! The only place that knows this wire format: `request`, `content`, `tools` and `thinking` read it,
//! `encoder` decides what is written when, `blocks` what belongs to which content block, `reply` is the
//! JSON of it, `failure` of what went wrong.

mod blocks;
mod content;
mod encoder;
mod failure;
mod reply;
mod request;
mod thinking;
mod tools;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::config::Config;
use crate::turn::Failure;

use super::dialect::{Decoded, Dialect, RequestParts};
use super::error::ErrorReply;
use encoder::MessagesEncoder;

/// The format.
pub static MESSAGES: Messages = Messages;

/// What its clients name a request by.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The answer to `POST /v1/messages/count_tokens`.
pub(in crate::api) use request::count;

/// Anthropic's Messages.
#[derive(Debug)]
pub struct Messages;

impl Dialect for Messages {
    fn name(&self) -> &'static str {
        "messages"
    }

    fn decode(&self, parts: &RequestParts, config: &Config) -> Result<Decoded, Failure> {
        let asked = request::decode(parts.body, parts.wanted, config)?;
        let encoder = MessagesEncoder::new(&asked, parts.heading.clone());
        Ok(Decoded { request: asked.request, encoder: Box::new(encoder) })
    }

    fn error(&self, reply: &ErrorReply, request_id: &str) -> Bytes {
        failure::envelope(reply, request_id)
    }

    fn status(&self, reply: &ErrorReply) -> StatusCode {
        failure::status(reply)
    }

    fn headers(&self, request_id: &str, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
    }

    fn object_arguments(&self) -> bool {
        true
    }

    fn recognizes(&self, headers: &HeaderMap) -> bool {
        headers.contains_key("anthropic-version")
    }
}
