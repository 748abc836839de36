//! The lines `codex exec --json` prints, one JSON object each; unknown types and fields are ignored.

use serde::Deserialize;

use crate::turn::Usage;

/// One line of output.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Line {
    /// Something was finished.
    #[serde(rename = "item.completed")]
    ItemCompleted {
        /// What.
        item: Item,
    },
    /// The turn is over and complete.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        /// What it cost.
        usage: Option<WireUsage>,
    },
    /// The turn is over and failed.
    #[serde(rename = "turn.failed")]
    TurnFailed {
        /// Why.
        error: WireError,
    },
    /// Progress of a failing connection, or the reason for the `turn.failed` that follows.
    #[serde(rename = "error")]
    Error {
        /// The text.
        message: String,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// A finished item.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Item {
    /// A message of the model.
    #[serde(rename = "agent_message")]
    AgentMessage {
        /// The text.
        text: String,
    },
    /// A summary of the model's reasoning.
    #[serde(rename = "reasoning")]
    Reasoning {
        /// The text.
        text: String,
    },
    /// The history was cut to fit the model's window.
    #[serde(rename = "context_compaction", alias = "contextCompaction")]
    ContextCompaction {},
    /// Commands, patches, warnings.
    #[serde(other)]
    Other,
}

/// Token counts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireUsage {
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    reasoning_output_tokens: u64,
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Usage {
        Usage {
            input: wire.input_tokens,
            cached_input: wire.cached_input_tokens,
            output: wire.output_tokens,
            reasoning_output: wire.reasoning_output_tokens,
        }
    }
}

/// Why a turn failed.
#[derive(Debug, Deserialize)]
pub(super) struct WireError {
    /// The text.
    #[serde(default)]
    pub(super) message: String,
}
