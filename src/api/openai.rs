//! What OpenAI's two older formats, chat and text completions, have in common.

use serde::Serialize;

use crate::turn::{Failure, Finish, Usage};

use super::fields::{Fields, wrong};
use super::stop::Stops;

/// `finish_reason`.
pub(super) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

/// `usage`.
#[derive(Serialize)]
pub(super) struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> WireUsage {
        WireUsage {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.input + usage.output,
            // Codex has neither audio nor predictions: these zeros are facts.
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_input, audio_tokens: 0 },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning_output,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
        }
    }
}

/// Whether a stream ends with the token counts: `stream_options.include_usage`.
///
/// # Errors
/// [`Failure::BadRequest`] naming the field.
pub(super) fn include_usage(fields: &Fields, stream: bool) -> Result<bool, Failure> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(fields.invalid("stream_options", "is only allowed when stream is true"));
    }
    let options = Fields::of(options, "stream_options.")?;
    options.boolean("include_obfuscation")?;
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

/// `stop`: one string, or a list of them.
///
/// # Errors
/// [`Failure::BadRequest`] naming the field.
pub(super) fn stop(fields: &Fields) -> Result<Stops, Failure> {
    let Some(value) = fields.get("stop") else { return Stops::new::<&str>(&[]) };
    match value.items() {
        Some(items) => Stops::read(items, &fields.path("stop")),
        None => match value.string() {
            Some(stop) => Stops::of([(fields.path("stop"), stop)], &fields.path("stop")),
            None => Err(wrong("stop", "a string or an array of strings", value)),
        },
    }
}

/// What tests of both formats have the answers told with, and how they read them.
#[cfg(test)]
pub(super) mod told {
    use serde_json::{Value, json};

    use crate::api::dialect::{Frames, Heading};
    use crate::turn::Usage;

    pub fn heading() -> Heading {
        Heading { unique: "1".into(), created: 7, fingerprint: "fp".into(), ..Heading::default() }
    }

    pub const USAGE: Usage = Usage { input: 10, cached_input: 4, output: 5, reasoning_output: 2 };

    pub fn usage() -> Value {
        json!({
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        })
    }

    pub fn read(out: &mut Frames) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = out.pop() {
            let event = std::str::from_utf8(&event).unwrap().to_owned();
            let data = event.strip_prefix("data: ").unwrap().trim_end();
            events.push(serde_json::from_str(data).unwrap_or_else(|_| json!(data)));
        }
        events
    }
}
