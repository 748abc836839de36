//! `POST /v1/chat/completions`: OpenAI's Chat Completions, as a conversation of ours and back.
//!
//! The only place that knows this wire format: `request`, `messages` and `tools` read it, `encoder`
//! decides what is written when, `reply` is the JSON of it.

mod encoder;
mod messages;
mod reply;
mod request;
mod tools;

use crate::config::{Config, ReasoningOutput};
use crate::turn::Failure;

use super::dialect::{Decoded, Dialect, RequestParts};
use encoder::ChatEncoder;

/// The format.
pub static CHAT: Chat = Chat;

/// Chat Completions.
#[derive(Debug)]
pub struct Chat;

impl Dialect for Chat {
    fn name(&self) -> &'static str {
        "chat_completions"
    }

    fn one_text(&self) -> bool {
        true
    }

    fn decode(&self, parts: &RequestParts, config: &Config) -> Result<Decoded, Failure> {
        let asked = request::decode(parts.body, parts.wanted, config)?;
        let show_reasoning = config.reasoning == ReasoningOutput::ReasoningContent;
        let encoder = ChatEncoder::new(&asked, parts.heading.clone(), show_reasoning);
        Ok(Decoded { request: asked.request, encoder: Box::new(encoder) })
    }
}
