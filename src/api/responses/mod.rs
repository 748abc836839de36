//! `POST /v1/responses`: OpenAI's Responses API, as a conversation of ours and back.
//!
//! The only place that knows this wire format: `request`, `input` and `tools` read it; `encoder`
//! decides what is written when, `said` what items that makes; `events`, `items` and `object` are JSON.

mod encoder;
mod events;
mod input;
mod items;
mod object;
mod request;
mod said;
mod tools;

use crate::config::Config;
use crate::turn::Failure;

use super::dialect::{Decoded, Dialect, RequestParts};
use super::status;
use encoder::ResponsesEncoder;

/// The answer to `POST /v1/responses/input_tokens`.
pub(in crate::api) use request::count;

/// The format.
pub static RESPONSES: Responses = Responses;

/// What a client reads that asks for something below the route: `ID`, `ID/cancel`, `compact`…
pub fn absent(name: &str) -> &'static str {
    match name {
        "compact" => "Conversations are not compacted here: send the items that matter in `input`.",
        _ => "Nothing is stored: there is no response with this id.",
    }
}

/// The Responses API.
#[derive(Debug)]
pub struct Responses;

impl Dialect for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn decode(&self, parts: &RequestParts, config: &Config) -> Result<Decoded, Failure> {
        let asked = request::decode(parts.body, parts.remembered, parts.wanted, config)?;
        let encoder = ResponsesEncoder::new(
            asked.answered,
            parts.heading.clone(),
            parts.remembered.clone(),
            status::unix_now,
        );
        Ok(Decoded { request: asked.request, encoder: Box::new(encoder) })
    }
}
