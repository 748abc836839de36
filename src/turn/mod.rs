//! The domain: what is asked of the model and what comes back, free of HTTP, JSON and Codex.
//!
//! Everybody may name this module; it names nobody. The client's wire format becomes a [`Turn`]
//! in its format's folder below `api`; an engine runs the turn and answers with [`Events`].

pub mod caller;
pub mod event;
pub mod failure;
pub mod forced;
pub mod identity;
pub mod json;
pub mod output;
pub mod pace;
pub mod prompt;
pub mod said;
pub mod tool;
pub mod workdir;

use std::sync::Arc;

use crate::names::names;

pub use caller::Caller;
pub use event::{Event, Events, Gone, NotTaken, Outcome, Phase, Sink, backlogged_events, events};
pub use failure::{At, Failure};
pub use identity::Identity;
pub use json::Json;
pub use output::Output;
pub use said::Said;
pub use tool::{CallKind, Format, Tool, ToolCall, ToolChoice, ToolKind};
pub use workdir::Workdir;

/// One question to the model: a whole conversation and how it is to be answered.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Who asks.
    pub caller: Caller,
    /// The client's own name for the conversation, where it sends one.
    pub client_name: Option<Arc<str>>,
    /// The model Codex is asked for; `None` = the configured or Codex's own default.
    pub model: Option<String>,
    /// The conversation, oldest first. Never empty.
    pub conversation: Arc<[Item]>,
    /// Where Codex works, already checked against the allowed roots.
    pub workdir: Workdir,
    /// The form the answer must have.
    pub output: Output,
    /// Reasoning effort, if the client chose one.
    pub effort: Option<Effort>,
    /// Answer length, if the client chose one.
    pub verbosity: Option<Verbosity>,
    /// Service tier, if the client chose one.
    pub service_tier: Option<ServiceTier>,
    /// Tools the model may ask the caller to run. Empty on the exec engine.
    pub tools: Arc<[Tool]>,
    /// Whether a tool must be called.
    pub tool_choice: ToolChoice,
    /// How much of the model's reasoning the client wants to read; the setting `reasoning` may
    /// allow less.
    pub reasoning: Summary,
    /// Whether [`Event::Thought`] is wanted, with what only the upstream can read. Off unless
    /// needed: it makes Codex repeat the whole conversation to us.
    pub want_encrypted: bool,
    /// What counts the memory of the conversation.
    pub memory: Memory,
}

impl Turn {
    /// A question for text of nobody in particular, without tools or wishes.
    pub fn new(conversation: impl Into<Arc<[Item]>>, workdir: Workdir) -> Turn {
        Turn {
            caller: Caller::Unknown,
            client_name: None,
            model: None,
            conversation: conversation.into(),
            workdir,
            output: Output::Text,
            effort: None,
            verbosity: None,
            service_tier: None,
            tools: Arc::new([]),
            tool_choice: ToolChoice::Auto,
            reasoning: Summary::None,
            want_encrypted: false,
            memory: Memory::default(),
        }
    }

    /// The memory that the question takes, in bytes.
    pub fn bytes(&self) -> u64 {
        let tool = |tool: &Tool| {
            size_of::<Tool>()
                + tool.name.len()
                + tool.description.len()
                + match &tool.kind {
                    ToolKind::Function { parameters, .. } => parameters.as_str().len(),
                    ToolKind::Custom { format: Format::Text } => 0,
                    ToolKind::Custom { format: Format::Grammar { definition, .. } } => definition.len(),
                }
        };
        let schema = self.output.schema().map_or(0, |schema| schema.as_str().len());
        let items = self.conversation.iter().map(Item::bytes).sum::<u64>();
        items + (self.tools.iter().map(tool).sum::<usize>() + schema) as u64
    }
}

/// What gives a turn's memory free when the last who has the turn drops it.
#[derive(Clone, Default)]
pub struct Memory(Option<Arc<dyn Send + Sync>>);

impl Memory {
    /// Wraps whatever gives the memory free when dropped.
    pub fn new(claim: impl Send + Sync + 'static) -> Memory {
        Memory(Some(Arc::new(claim)))
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({})", if self.0.is_some() { "counted" } else { "not counted" })
    }
}

/// One entry of a conversation. Small, for there may be hundreds of thousands of short ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Something said.
    Message {
        /// Who said it.
        role: Role,
        /// Text and images in order.
        content: Vec<Part>,
        /// Of the model: what it said that for, where known.
        phase: Option<Saying>,
    },
    /// What the model thought, as [`Event::Thought`] gave it.
    Reasoning {
        /// What only the upstream can read.
        encrypted: Box<str>,
        /// The parts of its summary.
        summary: Box<[String]>,
    },
    /// The model asked the caller to run a tool.
    ToolCall(Box<ToolCall>),
    /// What the caller's tool answered.
    ToolResult {
        /// The [`ToolCall::id`] this answers.
        call_id: Box<str>,
        /// The answer.
        content: Vec<Part>,
    },
}

impl Item {
    /// Something said.
    pub fn message(role: Role, content: Vec<Part>) -> Item {
        Item::Message { role, content, phase: None }
    }

    /// The memory it takes, in bytes.
    pub fn bytes(&self) -> u64 {
        let part = |part: &Part| {
            size_of::<Part>()
                + match part {
                    Part::Text(text) => text.len(),
                    Part::Image(image) => size_of::<Image>() + image.base64.len() + image.media_type.len(),
                }
        };
        let parts = |parts: &[Part]| parts.iter().map(part).sum::<usize>();
        let more = match self {
            Item::Message { content, .. } => parts(content),
            Item::Reasoning { encrypted, summary } => {
                encrypted.len() + summary.iter().map(|part| size_of::<String>() + part.len()).sum::<usize>()
            }
            Item::ToolCall(call) => {
                let namespace = call.namespace.as_ref().map_or(0, String::len);
                size_of::<ToolCall>() + call.id.len() + call.name.len() + namespace + call.arguments.len()
            }
            Item::ToolResult { call_id, content } => call_id.len() + parts(content),
        };
        (size_of::<Item>() + more) as u64
    }
}

impl From<ToolCall> for Item {
    fn from(call: ToolCall) -> Item {
        Item::ToolCall(Box::new(call))
    }
}

const _: () = assert!(size_of::<Item>() <= 40 && size_of::<Part>() <= 16);

/// What the model said a message for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    /// To tell of its progress.
    Commentary,
    /// To answer.
    Final,
}

impl Saying {
    /// Whether a message of this phase is progress told on the way, not the answer.
    pub fn is_progress(phase: Option<Saying>) -> bool {
        phase == Some(Saying::Commentary)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Saying::Commentary => "commentary",
            Saying::Final => "final_answer",
        }
    }

    /// What that name on the wire means.
    pub fn from_name(name: &str) -> Option<Saying> {
        match name {
            "commentary" => Some(Saying::Commentary),
            "final" | "final_answer" => Some(Saying::Final),
            _ => None,
        }
    }
}

/// Who said a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the application (older name).
    System,
    /// Instructions of the application (newer name).
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in a block header and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A piece of a message. Small, like [`Item`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(Box<str>),
    /// An inline image.
    Image(Box<Image>),
}

impl From<Image> for Part {
    fn from(image: Image) -> Part {
        Part::Image(Box::new(image))
    }
}

/// An inline image: the client's `data:` URL, already checked to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
    pub media_type: String,
    /// The picture, still in base64 (standard alphabet, padded).
    pub base64: String,
}

/// A reasoning item of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thought {
    /// The upstream's id of it.
    pub id: String,
    /// The parts of its summary.
    pub summary: Vec<String>,
    /// What only the upstream can read and takes back, where the turn asked for it.
    pub encrypted: Option<String>,
}

impl Thought {
    /// How much text it has, in bytes.
    pub fn bytes(&self) -> usize {
        self.summary.iter().map(String::len).sum::<usize>() + self.encrypted.as_ref().map_or(0, String::len)
    }
}

names! {
    /// `reasoning_effort` of the OpenAI reference, and the two levels above it that Codex lists.
    Effort {
        /// No reasoning.
        None = "none",
        /// Hardly any.
        Minimal = "minimal",
        /// Little.
        Low = "low",
        /// The usual amount.
        Medium = "medium",
        /// Much.
        High = "high",
        /// Very much.
        XHigh = "xhigh",
        /// As much as the model can.
        Max = "max",
        /// Beyond `max`, where a model offers it.
        Ultra = "ultra",
    }
}

names! {
    /// `verbosity` of the OpenAI reference.
    Verbosity {
        /// Short answers.
        Low = "low",
        /// The usual length.
        Medium = "medium",
        /// Long answers.
        High = "high",
    }
}

names! {
    /// How much of the model's reasoning is summed up for the reader.
    Summary {
        /// Nothing.
        None = "none",
        /// As much as the model offers.
        Auto = "auto",
        /// Little.
        Concise = "concise",
        /// Much.
        Detailed = "detailed",
    }
}

names! {
    /// `service_tier` of the OpenAI reference.
    ServiceTier {
        /// The project's setting.
        Auto = "auto",
        /// Standard.
        Default = "default",
        /// Cheaper and slower.
        Flex = "flex",
        /// Faster and dearer.
        Priority = "priority",
        /// As negotiated.
        Scale = "scale",
    }
}

impl ServiceTier {
    /// The tier to name upstream; `auto` and `default` are the upstream's own choice.
    pub fn upstream(self) -> Option<&'static str> {
        match self {
            ServiceTier::Auto | ServiceTier::Default => None,
            ServiceTier::Flex | ServiceTier::Priority | ServiceTier::Scale => Some(self.name()),
        }
    }
}

/// Real token counts as Codex reported them; never estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// Of those, read from the upstream's cache.
    pub cached_input: u64,
    /// Tokens generated, reasoning included.
    pub output: u64,
    /// Of those, reasoning.
    pub reasoning_output: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.input += other.input;
        self.cached_input += other.cached_input;
        self.output += other.output;
        self.reasoning_output += other.reasoning_output;
    }
}

/// Why a complete answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or a stop string was reached.
    Stop,
    /// The upstream's output limit.
    Length,
    /// The model wants functions run.
    ToolCalls,
}

/// A place among the running turns, held until nothing of the turn runs any more.
///
/// The engine keeps it beside the child process or thread and drops it after that is gone, so
/// that a slot never counts as free while its turn still spends.
pub struct Slot(Box<dyn Send + Sync>);

impl Slot {
    /// Wraps whatever gives the place back when dropped.
    pub fn new(permit: impl Send + Sync + 'static) -> Slot {
        Slot(Box::new(permit))
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = &self.0;
        f.write_str("Slot")
    }
}
