//! The events of a stream, each with its number.

use serde::Serialize;

use crate::api::dialect::Frames;

use super::items::{OutputItem, SummaryPart, TextPart};
use super::object::Response;

/// Where events go, if anybody reads them, and the number of the next.
pub(super) struct Events<'a> {
    pub(super) next: &'a mut u64,
    pub(super) out: Option<&'a mut Frames>,
}

#[derive(Serialize)]
struct Event<'a, T> {
    r#type: &'a str,
    sequence_number: u64,
    #[serde(flatten)]
    data: &'a T,
}

impl Events<'_> {
    /// Writes one.
    pub(super) fn write(&mut self, name: &str, data: &impl Serialize) {
        if let Some(out) = &mut self.out {
            out.named(name, &Event { r#type: name, sequence_number: *self.next, data });
            *self.next += 1;
        }
    }
}

/// `response.created` and all that tell of the response as a whole.
#[derive(Serialize)]
pub(super) struct ResponseEvent<'a> {
    pub(super) response: Response<'a>,
}

/// `response.output_item.added`, `.done`.
#[derive(Serialize)]
pub(super) struct ItemEvent<'a> {
    pub(super) output_index: usize,
    pub(super) item: &'a OutputItem,
}

/// `response.output_text.delta`.
#[derive(Serialize)]
pub(super) struct TextDelta<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) content_index: usize,
    pub(super) delta: &'a str,
    pub(super) logprobs: [(); 0],
}

/// `response.output_text.done`.
#[derive(Serialize)]
pub(super) struct TextDone<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) content_index: usize,
    pub(super) text: &'a str,
    pub(super) logprobs: [(); 0],
}

/// `response.content_part.added`, `.done`.
#[derive(Serialize)]
pub(super) struct ContentEvent<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) content_index: usize,
    pub(super) part: &'a TextPart,
}

/// `response.reasoning_summary_…`.
#[derive(Serialize)]
pub(super) struct SummaryEvent<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    pub(super) summary_index: usize,
    #[serde(flatten)]
    pub(super) said: Summary<'a>,
}

/// What such an event says.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Summary<'a> {
    Part(&'a SummaryPart),
    Delta(&'a str),
    Text(&'a str),
}

/// `response.function_call_arguments.…`, `response.custom_tool_call_input.…`.
#[derive(Serialize)]
pub(super) struct CallEvent<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    #[serde(flatten)]
    pub(super) said: Call<'a>,
}

/// What such an event says.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Call<'a> {
    Delta { delta: &'a str },
    Arguments { name: &'a str, arguments: &'a str },
    Input { input: &'a str },
}

/// `error`: flat, as the reference has it, and nested. Only so do all libraries raise it.
#[derive(Serialize)]
pub(super) struct ErrorEvent<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) param: Option<&'a str>,
    pub(super) error: NestedError<'a>,
}

/// The same once more.
#[derive(Serialize)]
pub(super) struct NestedError<'a> {
    pub(super) message: &'a str,
    pub(super) r#type: &'a str,
    pub(super) param: Option<&'a str>,
    pub(super) code: &'a str,
}
