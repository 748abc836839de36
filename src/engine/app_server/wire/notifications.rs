//! What the app-server tells of its own accord, borrowed from its line.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine::app_server::rpc::Text;
use crate::turn::Usage;

/// The thread a message is about, if any.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About<'a> {
    /// Its id.
    #[serde(borrow, default)]
    pub thread_id: Option<Text<'a>>,
}

/// `item/tool/call`: Codex asks for the result of a function.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCallRequest<'a> {
    /// Of which thread.
    #[serde(borrow)]
    pub thread_id: Text<'a>,
    /// Which call of the model.
    #[serde(borrow)]
    pub call_id: Text<'a>,
    /// The function, by the name it went out with.
    #[serde(borrow)]
    pub tool: Text<'a>,
    /// As Codex read them: where the model wrote other white space, it is lost.
    #[serde(borrow)]
    pub arguments: &'a RawValue,
}

/// `item/agentMessage/delta` and `item/reasoning/summaryTextDelta`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeltaNotification<'a> {
    /// Which thread.
    #[serde(borrow)]
    pub thread_id: Text<'a>,
    /// Which message.
    #[serde(borrow)]
    pub item_id: Text<'a>,
    /// The text.
    pub delta: String,
}

/// `item/started` and `item/completed`.
#[derive(Debug, Deserialize)]
pub struct ItemNotification<'a> {
    /// The item.
    #[serde(borrow)]
    pub item: ThreadItem<'a>,
}

/// An item of a turn, as far as we look.
#[derive(Debug, Deserialize)]
pub struct ThreadItem<'a> {
    /// `agentMessage`, `reasoning`, `contextCompaction`…
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    /// Its id.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Of an agent message: all of it.
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    /// Of an agent message: `commentary`, `partial_answer`, `final_answer`; often absent.
    #[serde(borrow, default)]
    pub phase: Option<Text<'a>>,
}

/// `rawResponseItem/completed`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawResponseItemNotification<'a> {
    /// Of which turn; echoes of the history have one that is not ours.
    #[serde(borrow)]
    pub turn_id: Text<'a>,
    /// The item.
    #[serde(borrow)]
    pub item: RawItem<'a>,
}

/// An item of the upstream, as far as we look.
#[derive(Debug, Deserialize)]
pub struct RawItem<'a> {
    /// `function_call`, `reasoning`…
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    /// Of a message: who said it.
    #[serde(borrow, default)]
    pub role: Option<Text<'a>>,
    /// Its id.
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    /// Of reasoning: a list of [`SummaryText`].
    #[serde(borrow, default)]
    pub summary: Option<&'a RawValue>,
    /// Of reasoning: what only the upstream can read.
    #[serde(default)]
    pub encrypted_content: Option<String>,
    /// Of a call: its id.
    #[serde(default)]
    pub call_id: Option<String>,
    /// Of a call: the function.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// Of a call: among which functions the model has it.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Of a call: the arguments, exactly as the model wrote them. A string there, something else
    /// in items that do not concern us.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
    /// Of a call of a custom tool: its input.
    #[serde(default)]
    pub input: Option<String>,
}

/// A part of a reasoning summary.
#[derive(Debug, Deserialize)]
pub struct SummaryText {
    /// What it says.
    #[serde(default)]
    pub text: String,
}

/// `rawResponse/completed`.
#[derive(Debug, Deserialize)]
pub struct RawResponseCompletedNotification {
    /// What this request to the upstream cost.
    #[serde(default)]
    pub usage: Option<Tokens>,
}

/// `thread/tokenUsage/updated`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUsageNotification {
    /// What the thread cost.
    pub token_usage: TokenUsage,
}

/// What a thread cost.
#[derive(Debug, Deserialize)]
pub struct TokenUsage {
    /// All its requests together.
    pub total: Tokens,
}

/// Counted tokens.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tokens {
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    reasoning_output_tokens: u64,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Usage {
        Usage {
            input: tokens.input_tokens,
            cached_input: tokens.cached_input_tokens,
            output: tokens.output_tokens,
            reasoning_output: tokens.reasoning_output_tokens,
        }
    }
}

/// `error`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorNotification {
    /// What happened.
    pub error: TurnError,
    /// Whether Codex goes on.
    #[serde(default)]
    pub will_retry: bool,
}

/// What went wrong in a turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnError {
    /// In words.
    #[serde(default)]
    pub message: String,
    /// Codex's code: a string, or an object with one key.
    #[serde(default)]
    pub codex_error_info: Option<Value>,
    /// More words; for a retry the reason of it.
    #[serde(default)]
    pub additional_details: Option<String>,
}

/// `turn/started` and `turn/completed`.
#[derive(Debug, Deserialize)]
pub struct TurnNotification<'a> {
    /// The turn.
    #[serde(borrow)]
    pub turn: TurnState<'a>,
}

/// A turn, as far as we look.
#[derive(Debug, Deserialize)]
pub struct TurnState<'a> {
    /// Its id.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// `completed`, `interrupted`, `failed`, `inProgress`.
    #[serde(borrow)]
    pub status: Text<'a>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<TurnError>,
}

/// `account/rateLimits/updated`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitsNotification {
    /// The account's windows.
    pub rate_limits: RateLimits,
}

/// The account's rate-limit windows, and what else is told of its plan.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimits {
    /// Of what: `codex` for the plan itself.
    #[serde(default)]
    pub limit_id: Option<String>,
    /// `plus`, `pro`…
    #[serde(default)]
    pub plan_type: Option<String>,
    /// What is left to pay with beyond the windows.
    #[serde(default)]
    pub credits: Option<CreditsLeft>,
    /// Which limit is reached, if one is.
    #[serde(default)]
    pub rate_limit_reached_type: Option<String>,
    /// The shorter window.
    #[serde(default)]
    pub primary: Option<RateWindow>,
    /// The longer one.
    #[serde(default)]
    pub secondary: Option<RateWindow>,
}

/// Credits of the account.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreditsLeft {
    /// Whether there are any.
    #[serde(default)]
    pub has_credits: bool,
    /// Whether there is no end of them.
    #[serde(default)]
    pub unlimited: bool,
    /// How many.
    #[serde(default)]
    pub balance: Option<String>,
}

/// One window.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateWindow {
    /// Of 100.
    pub used_percent: f64,
    /// Its length.
    #[serde(default)]
    pub window_duration_mins: Option<u64>,
    /// Unix time at which it starts anew.
    #[serde(default)]
    pub resets_at: Option<u64>,
}
