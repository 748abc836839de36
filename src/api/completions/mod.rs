//! `POST /v1/completions`: OpenAI's older Completions, a prompt and the text that answers it.
//!
//! The only place that knows this wire format: `request` reads it, `encoder` writes the answer.
//! Codex has no way to go on with a text: the prompt is what a user says, and the model answers it.

mod encoder;
mod request;

use crate::config::Config;
use crate::turn::Failure;

use super::dialect::{Decoded, Dialect, RequestParts};
use encoder::CompletionsEncoder;

/// The format.
pub static COMPLETIONS: Completions = Completions;

/// Completions.
#[derive(Debug)]
pub struct Completions;

impl Dialect for Completions {
    fn name(&self) -> &'static str {
        "completions"
    }

    fn one_text(&self) -> bool {
        true
    }

    fn decode(&self, parts: &RequestParts, config: &Config) -> Result<Decoded, Failure> {
        let asked = request::decode(parts.body, parts.wanted, config)?;
        let encoder = CompletionsEncoder::new(&asked, parts.heading.clone());
        Ok(Decoded { request: asked.request, encoder: Box::new(encoder) })
    }
}
