//! The requests of a turn and their replies.

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::custom;
use crate::codex::rollout;
use crate::engine::app_server::tool_names::Names;
use crate::turn::{self, At, Failure, ToolKind};

/// `thread/start`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadStart<'a> {
    /// Not written to disk.
    pub ephemeral: bool,
    /// `Some([])`: nowhere to run anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environments: Option<[(); 0]>,
    /// `Some("")`: none of Codex's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_instructions: Option<&'a str>,
    /// Where an agent works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<&'a Path>,
    /// The model, if not Codex's default. Named with the turn alone, it would have functions twice: as
    /// it takes them, and as the default model does (0.169).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// The caller's functions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dynamic_tools: Vec<DynamicTool<'a>>,
    /// Function calls as the model wrote them; also echoes the whole history, hence only if needed.
    pub experimental_raw_events: bool,
    /// Settings of this thread alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ThreadConfig>,
}

/// `thread/fork` of a recording.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadFork<'a> {
    /// The recording.
    pub path: &'a Path,
    /// Empty: the path says which.
    pub thread_id: &'static str,
    /// Not written to disk.
    pub ephemeral: bool,
    /// The reply needs no history.
    pub exclude_turns: bool,
    /// `""`: none of Codex's own.
    pub base_instructions: &'static str,
    /// `never`.
    pub approval_policy: &'static str,
    /// `read-only`. Without it Codex resolves its permission profile for each fork, which takes 0.3 s
    /// (0.169), for tools that a fork of ours does not have.
    pub sandbox: &'static str,
    /// Else the recorded one.
    pub cwd: &'a Path,
    /// As of [`ThreadStart`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// Settings of this thread alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ThreadConfig>,
}

/// Settings of one thread.
#[derive(Debug, Serialize)]
pub struct ThreadConfig {
    model_verbosity: &'static str,
}

impl ThreadConfig {
    /// With this length of answers.
    pub fn new(verbosity: turn::Verbosity) -> ThreadConfig {
        ThreadConfig { model_verbosity: verbosity.name() }
    }
}

/// One of the caller's functions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DynamicTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    description: Cow<'a, str>,
    input_schema: &'a RawValue,
}

impl<'a> DynamicTool<'a> {
    /// The functions of a turn under the names they go out with.
    ///
    /// # Errors
    /// If parameters are not JSON.
    pub fn all(tools: &'a [turn::Tool], names: &'a Names) -> Result<Vec<DynamicTool<'a>>, Failure> {
        let one = |(index, tool): (usize, &'a turn::Tool)| {
            let (description, schema) = match &tool.kind {
                ToolKind::Function { parameters, .. } => {
                    (Cow::Borrowed(&*tool.description), parameters.as_str())
                }
                ToolKind::Custom { format } => {
                    (Cow::Owned(custom::description(&tool.description, format)), custom::PARAMETERS)
                }
            };
            let input_schema = serde_json::from_str(schema)
                .map_err(|_| Failure::bad(At::Tool(index), "The parameters must be a JSON object."))?;
            Ok(DynamicTool {
                kind: "function",
                name: names.out(&tool.full_name()).to_owned(),
                description,
                input_schema,
            })
        };
        tools.iter().enumerate().map(one).collect()
    }

    /// The same in a recording.
    pub fn recorded(&self) -> rollout::DynamicTool<'_> {
        rollout::DynamicTool {
            name: &self.name,
            description: &self.description,
            input_schema: self.input_schema,
        }
    }
}

/// The reply to `thread/start` and `thread/fork`.
#[derive(Debug, Deserialize)]
pub struct ThreadStarted {
    /// The thread.
    pub thread: Id,
}

/// The reply to `turn/start`.
#[derive(Debug, Deserialize)]
pub struct TurnStarted {
    /// The turn.
    pub turn: Id,
}

/// Anything with an id.
#[derive(Debug, Deserialize)]
pub struct Id {
    /// The id.
    pub id: String,
}

/// `turn/start`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnStart<'a> {
    /// Of which thread.
    pub thread_id: &'a str,
    /// Empty: the conversation is there already.
    pub input: [(); 0],
    /// `Some([])`: nowhere to run anything. A fork does not take it, so each turn says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environments: Option<[(); 0]>,
    /// The model, if not Codex's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// Reasoning effort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<&'static str>,
    /// Reasoning summary: `none`, `auto`, `concise`, `detailed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<&'static str>,
    /// Service tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<&'static str>,
    /// JSON Schema of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Cow<'a, RawValue>>,
}

/// `turn/interrupt`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnInterrupt<'a> {
    /// Of which thread.
    pub thread_id: &'a str,
    /// Which turn.
    pub turn_id: &'a str,
}

/// `thread/unsubscribe`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadUnsubscribe<'a> {
    /// Which thread.
    pub thread_id: &'a str,
}
