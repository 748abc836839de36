//! The answer on the wire: a whole message, or the events of a stream.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::dialect::{Frames, Heading};
use crate::turn::{Failure, Finish, Usage};

use super::blocks::{Block, Step};
use super::content::outer_id;

/// What a stop reason is called.
fn stop_reason(finish: Finish, stop_sequence: Option<&str>) -> &'static str {
    match finish {
        _ if stop_sequence.is_some() => "stop_sequence",
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
    }
}

#[derive(Default, Serialize)]
struct WireUsage {
    /// Without those of the cache.
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    cache_creation: Option<()>,
    server_tool_use: Option<()>,
    inference_geo: Option<()>,
    speed: Option<()>,
    service_tier: Standard,
}

#[derive(Default, Serialize)]
struct OutputDetails {
    thinking_tokens: u64,
}

/// `"standard"`.
#[derive(Default)]
struct Standard;

impl Serialize for Standard {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("standard")
    }
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> WireUsage {
        WireUsage {
            input_tokens: usage.input.saturating_sub(usage.cached_input),
            cache_read_input_tokens: usage.cached_input,
            output_tokens: usage.output,
            output_tokens_details: OutputDetails { thinking_tokens: usage.reasoning_output },
            ..WireUsage::default()
        }
    }
}

/// Zeros where nothing is known: clients fail without numbers.
fn wire_usage(usage: Option<Usage>) -> WireUsage {
    usage.unwrap_or_default().into()
}

#[derive(Serialize)]
struct Message<'a> {
    id: Id<'a>,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: &'a [WireBlock<'a>],
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    stop_details: Option<()>,
    container: Option<()>,
    usage: WireUsage,
}

/// `msg_…`.
struct Id<'a>(&'a str);

impl Serialize for Id<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("msg_{}", self.0))
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireBlock<'a> {
    Thinking { thinking: Cow<'a, str>, signature: Cow<'a, str> },
    Text { text: Cow<'a, str>, citations: Citations },
    ToolUse { id: Cow<'a, str>, name: Cow<'a, str>, input: Box<RawValue>, caller: Caller },
}

/// None. A list all the same: the published schema wants the key, and strict readers (the AI SDK) take no null.
type Citations = [(); 0];

/// Who calls a tool: the model itself, no code that it had run.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Caller {
    Direct,
}

impl<'a> WireBlock<'a> {
    /// As it begins: with nothing in it.
    fn begun(block: Block<'a>) -> WireBlock<'a> {
        match block {
            Block::Text => WireBlock::Text { text: "".into(), citations: [] },
            Block::Thinking => WireBlock::Thinking { thinking: "".into(), signature: "".into() },
            Block::ToolUse(call) => WireBlock::ToolUse {
                id: outer_id(&call.id),
                name: call.full_name(),
                input: RawValue::NULL.to_owned(),
                caller: Caller::Direct,
            },
        }
    }

    fn into_owned(self) -> WireBlock<'static> {
        let owned = |text: Cow<str>| Cow::Owned(text.into_owned());
        match self {
            WireBlock::Thinking { thinking, signature } => {
                WireBlock::Thinking { thinking: owned(thinking), signature: owned(signature) }
            }
            WireBlock::Text { text, citations } => WireBlock::Text { text: owned(text), citations },
            WireBlock::ToolUse { id, name, input, caller } => {
                WireBlock::ToolUse { id: owned(id), name: owned(name), input, caller }
            }
        }
    }
}

/// The content of a whole message in the making.
#[derive(Default)]
pub(super) struct Content {
    blocks: Vec<WireBlock<'static>>,
    broken: Option<String>,
}

impl Content {
    /// Adds a step.
    pub(super) fn add(&mut self, step: Step) {
        match (step, self.blocks.last_mut()) {
            (Step::Start(block), _) => self.blocks.push(WireBlock::begun(block).into_owned()),
            (Step::Text(more), Some(WireBlock::Text { text, .. })) => text.to_mut().push_str(more),
            (Step::Thinking(more), Some(WireBlock::Thinking { thinking, .. })) => {
                thinking.to_mut().push_str(more);
            }
            (Step::Signature(signed), Some(WireBlock::Thinking { signature, .. })) => {
                *signature = signed.into()
            }
            (Step::Input(json), Some(WireBlock::ToolUse { input, .. })) => {
                match RawValue::from_string(json.trim().to_owned()) {
                    Ok(json) => *input = json,
                    Err(error) => self.broken = Some(error.to_string()),
                }
            }
            (Step::Stop, _) => {}
            (step, _) => self.broken = Some(format!("a step without its block: {step:?}")),
        }
    }
}

/// What all of a reply shares.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) heading: Heading,
    /// The model as the client named it.
    pub(super) model: String,
}

impl Reply {
    fn message<'a>(&'a self, content: &'a [WireBlock<'a>], usage: Option<Usage>) -> Message<'a> {
        Message {
            id: Id(&self.heading.unique),
            r#type: "message",
            role: "assistant",
            model: &self.model,
            content,
            stop_reason: None,
            stop_sequence: None,
            stop_details: None,
            container: None,
            usage: wire_usage(usage),
        }
    }

    /// The body of a whole reply.
    ///
    /// # Errors
    /// [`Failure::Internal`] if the answer has not ended or cannot be written.
    pub(super) fn whole(
        &self,
        content: Content,
        finish: Option<Finish>,
        stop_sequence: Option<&str>,
        usage: Option<Usage>,
    ) -> Result<Bytes, Failure> {
        let internal = |detail: String| Failure::Internal { detail };
        if let Some(error) = content.broken {
            return Err(internal(format!("encoding the answer: {error}")));
        }
        let finish = finish.ok_or_else(|| internal("an answer has not ended".into()))?;
        let message = Message {
            stop_reason: Some(stop_reason(finish, stop_sequence)),
            stop_sequence,
            ..self.message(&content.blocks, usage)
        };
        let written = serde_json::to_vec(&message);
        written.map(Bytes::from).map_err(|error| internal(format!("encoding the answer: {error}")))
    }

    /// The event that opens a stream.
    pub(super) fn start(&self, out: &mut Frames) {
        out.named("message_start", &Event::MessageStart { message: self.message(&[], None) });
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart { message: Message<'a> },
    ContentBlockStart { index: usize, content_block: BegunBlock<'a> },
    ContentBlockDelta { index: usize, delta: Delta<'a> },
    ContentBlockStop { index: usize },
    MessageDelta { delta: Ending<'a>, usage: WireUsage },
    MessageStop,
    Ping,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BegunBlock<'a> {
    Thinking { thinking: &'static str, signature: &'static str },
    Text { text: &'static str, citations: Citations },
    ToolUse { id: Cow<'a, str>, name: Cow<'a, str>, input: Nothing, caller: Caller },
}

/// `{}`.
#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

#[derive(Serialize)]
struct Ending<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
    stop_details: Option<()>,
    container: Option<()>,
}

/// Writes a step of the block with that number.
pub(super) fn step(index: usize, step: Step, out: &mut Frames) {
    let mut delta = |delta| out.named("content_block_delta", &Event::ContentBlockDelta { index, delta });
    match step {
        Step::Text(text) => delta(Delta::Text { text }),
        Step::Thinking(thinking) => delta(Delta::Thinking { thinking }),
        Step::Signature(signature) => delta(Delta::Signature { signature: &signature }),
        Step::Input(partial_json) => delta(Delta::InputJson { partial_json }),
        Step::Start(block) => {
            let content_block = match block {
                Block::Text => BegunBlock::Text { text: "", citations: [] },
                Block::Thinking => BegunBlock::Thinking { thinking: "", signature: "" },
                Block::ToolUse(call) => BegunBlock::ToolUse {
                    id: outer_id(&call.id),
                    name: call.full_name(),
                    input: Nothing {},
                    caller: Caller::Direct,
                },
            };
            out.named("content_block_start", &Event::ContentBlockStart { index, content_block });
        }
        Step::Stop => out.named("content_block_stop", &Event::ContentBlockStop { index }),
    }
}

/// Shows the client that it is being served.
pub(super) fn ping(out: &mut Frames) {
    out.named("ping", &Event::Ping);
}

/// The events that close a stream.
pub(super) fn end(finish: Finish, stop_sequence: Option<&str>, usage: Option<Usage>, out: &mut Frames) {
    let delta = Ending {
        stop_reason: stop_reason(finish, stop_sequence),
        stop_sequence,
        stop_details: None,
        container: None,
    };
    out.named("message_delta", &Event::MessageDelta { delta, usage: wire_usage(usage) });
    out.named("message_stop", &Event::MessageStop);
}
