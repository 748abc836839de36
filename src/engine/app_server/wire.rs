//! The few app-server messages we say and hear. Unknown fields are ignored.
//!
//! What goes out is serialized straight from the turn; what comes in is borrowed from its line.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::names::Names;
use super::rpc::Text;
use crate::turn::{self, Failure, Item, Output, Part, Role, ToolChoice, Turn, Usage};

/// Notifications we have no use for; the app-server then does not write them.
const UNHEARD: &[&str] = &[
    "app/list/updated",
    "command/exec/outputDelta",
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "item/plan/delta",
    "mcpServer/startupStatus/updated",
    "remoteControl/status/changed",
    "skills/changed",
    "thread/settings/updated",
    "thread/started",
    "thread/status/changed",
    "turn/diff/updated",
    "turn/plan/updated",
];

/// `initialize`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialize {
    client_info: ClientInfo,
    capabilities: Capabilities,
}

#[derive(Debug, Serialize)]
struct ClientInfo {
    name: &'static str,
    title: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    /// `dynamicTools`, `environments` and raw events need it.
    experimental_api: bool,
    request_attestation: bool,
    opt_out_notification_methods: &'static [&'static str],
}

impl Initialize {
    /// Who we are.
    pub fn new() -> Initialize {
        Initialize {
            client_info: ClientInfo {
                name: env!("CARGO_PKG_NAME"),
                title: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
            },
            capabilities: Capabilities {
                experimental_api: true,
                request_attestation: false,
                opt_out_notification_methods: UNHEARD,
            },
        }
    }
}

/// The reply to `initialize`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialized {
    #[serde(default)]
    user_agent: String,
}

impl Initialized {
    /// `0.169.0` of `codex-api-proxy/0.169.0 (Debian …)`.
    pub fn version(&self) -> Option<&str> {
        let rest = self.user_agent.split_once('/')?.1;
        let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// `getAuthStatus`: answered offline.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetAuthStatus {
    /// Never: we have no business with tokens.
    pub include_token: bool,
    /// Neither: Codex refreshes when it must.
    pub refresh_token: bool,
}

/// Its reply.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthStatus {
    /// `chatgpt`, `apikey`…; `None` without a login.
    #[serde(default)]
    pub auth_method: Option<String>,
    /// False for a configured provider that needs no login.
    #[serde(default)]
    pub requires_openai_auth: Option<bool>,
}

/// `model/list`.
#[derive(Debug, Default, Serialize)]
pub struct ModelList<'a> {
    /// Where to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<&'a str>,
}

/// Its reply.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Models {
    /// One page.
    pub data: Vec<ListedModel>,
    /// Where to go on, if there is more.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// One model of the CLI's own list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedModel {
    /// The name the upstream knows.
    pub model: String,
    /// Not for choosing.
    #[serde(default)]
    pub hidden: bool,
    /// What Codex takes if nobody asks for another.
    #[serde(default)]
    pub is_default: bool,
}

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
    /// The caller's functions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dynamic_tools: Vec<DynamicTool<'a>>,
    /// Function calls as the model wrote them; also echoes the whole history, hence only if needed.
    pub experimental_raw_events: bool,
    /// Settings of this thread alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ThreadConfig>,
}

/// Settings of one thread.
#[derive(Debug, Serialize)]
pub struct ThreadConfig {
    /// `low`, `medium`, `high`.
    pub model_verbosity: &'static str,
}

/// One of the caller's functions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DynamicTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    description: &'a str,
    input_schema: &'a RawValue,
}

impl<'a> DynamicTool<'a> {
    /// The functions of a turn under the names they go out with.
    ///
    /// # Errors
    /// If parameters are not JSON.
    pub fn all(tools: &'a [turn::Tool], names: &'a Names) -> Result<Vec<DynamicTool<'a>>, Failure> {
        let one = |(index, tool): (usize, &'a turn::Tool)| {
            let input_schema = serde_json::from_str(&tool.parameters).map_err(|_| {
                Failure::bad(
                    format!("tools[{index}].function.parameters"),
                    "The parameters must be a JSON object.",
                )
            })?;
            Ok(DynamicTool {
                kind: "function",
                name: names.out(&tool.name),
                description: &tool.description,
                input_schema,
            })
        };
        tools.iter().enumerate().map(one).collect()
    }
}

/// The reply to `thread/start`.
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

/// `thread/inject_items`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InjectItems<'a> {
    /// Into which thread.
    pub thread_id: &'a str,
    /// The conversation.
    pub items: Vec<ResponseItem<'a>>,
}

/// One item of a conversation as the upstream's Responses API has it.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ResponseItem<'a> {
    Message { role: &'a str, content: Vec<Content<'a>> },
    FunctionCall { call_id: &'a str, name: &'a str, arguments: &'a str },
    FunctionCallOutput { call_id: &'a str, output: FunctionOutput<'a> },
}

/// What a function answered: plain text, or parts.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum FunctionOutput<'a> {
    Text(&'a str),
    Parts(Vec<Content<'a>>),
}

/// A part of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Content<'a> {
    InputText { text: &'a str },
    OutputText { text: &'a str },
    InputImage { image_url: String },
}

/// Said to the model where a function has to be called; Codex has no way to enforce it.
const CALL_SOME: &str = "Answer by calling one or more of the provided functions. Do not answer in text.";

/// Said to the model where any JSON object is asked for; Codex enforces schemas only.
const JSON_OBJECT: &str =
    "Answer with one valid JSON object and nothing else: no text around it, no code fence.";

/// The items of a turn's conversation, and at its end what the model must be told because no
/// field of the protocol carries it (told is where [`hint`] says).
pub fn items<'a>(turn: &'a Turn, names: &'a Names, hint: Option<&'a str>) -> Vec<ResponseItem<'a>> {
    let mut items: Vec<ResponseItem<'a>> =
        turn.conversation.iter().map(|item| response_item(item, names)).collect();
    if let Some(hint) = hint {
        items.push(ResponseItem::Message {
            role: Role::Developer.name(),
            content: vec![Content::InputText { text: hint }],
        });
    }
    items
}

/// What the model must be told beside the conversation.
pub fn hint(turn: &Turn, names: &Names) -> Option<String> {
    let call = match &turn.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::Required => Some(CALL_SOME.to_owned()),
        ToolChoice::Named(name) => {
            Some(format!("Answer by calling the function `{}`. Do not answer in text.", names.out(name)))
        }
    };
    call.or_else(|| (turn.output == Output::JsonObject).then(|| JSON_OBJECT.to_owned()))
}

fn response_item<'a>(item: &'a Item, names: &'a Names) -> ResponseItem<'a> {
    match item {
        Item::Message { role, content } => ResponseItem::Message {
            // Codex silently drops items of role "system".
            role: if *role == Role::System { Role::Developer.name() } else { role.name() },
            content: content.iter().map(|part| self::content(part, *role == Role::Assistant)).collect(),
        },
        Item::ToolCall(call) => ResponseItem::FunctionCall {
            call_id: &call.id,
            name: names.out(&call.name),
            arguments: &call.arguments,
        },
        Item::ToolResult { call_id, content } => ResponseItem::FunctionCallOutput {
            call_id,
            output: match content.as_slice() {
                [] => FunctionOutput::Text(""),
                [Part::Text(text)] => FunctionOutput::Text(text),
                parts => FunctionOutput::Parts(parts.iter().map(|part| self::content(part, false)).collect()),
            },
        },
    }
}

fn content(part: &Part, said_by_model: bool) -> Content<'_> {
    match part {
        Part::Text(text) if said_by_model => Content::OutputText { text },
        Part::Text(text) => Content::InputText { text },
        Part::Image(image) => {
            Content::InputImage { image_url: format!("data:{};base64,{}", image.media_type, image.base64) }
        }
    }
}

/// `turn/start`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnStart<'a> {
    /// Of which thread.
    pub thread_id: &'a str,
    /// Empty: the conversation is there already.
    pub input: [(); 0],
    /// The model, if not Codex's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// Reasoning effort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<&'static str>,
    /// Reasoning summary: `auto` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<&'static str>,
    /// Service tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<&'static str>,
    /// JSON Schema of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<&'a RawValue>,
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

/// The thread a message is about, if any.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About<'a> {
    /// Its id.
    #[serde(borrow, default)]
    pub thread_id: Option<Text<'a>>,
}

/// `item/agentMessage/delta` and `item/reasoning/summaryTextDelta`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delta<'a> {
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
pub struct ItemNews<'a> {
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
pub struct RawItemNews<'a> {
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
    /// `function_call`…
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    /// Of a call: its id.
    #[serde(default)]
    pub call_id: Option<String>,
    /// Of a call: the function.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// Of a call: the arguments, exactly as the model wrote them. A string there, something else
    /// in items that do not concern us.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}

/// `rawResponse/completed`.
#[derive(Debug, Deserialize)]
pub struct RawCompleted {
    /// What this request to the upstream cost.
    #[serde(default)]
    pub usage: Option<Tokens>,
}

/// `thread/tokenUsage/updated`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageNews {
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
pub struct ErrorNews {
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
pub struct TurnNews<'a> {
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
pub struct RateLimitsNews {
    /// The account's windows.
    pub rate_limits: RateLimits,
}

/// The account's rate-limit windows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimits {
    /// The shorter window.
    #[serde(default)]
    pub primary: Option<RateWindow>,
    /// The longer one.
    #[serde(default)]
    pub secondary: Option<RateWindow>,
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

/// The `"result":…` or `"error":…` of our answer to a request of the app-server: nobody is there
/// to approve anything, and nothing may be approved.
pub fn refusal(method: &str) -> &'static str {
    match method {
        "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
            r#""result":{"decision":"decline"}"#
        }
        "execCommandApproval" | "applyPatchApproval" => r#""result":{"decision":"denied"}"#,
        "item/tool/requestUserInput" => r#""result":{"answers":{}}"#,
        "mcpServer/elicitation/request" => r#""result":{"action":"decline","content":null}"#,
        "item/tool/call" => {
            r#""result":{"contentItems":[{"type":"inputText","text":"The caller runs this function itself."}],"success":false}"#
        }
        _ => r#""error":{"code":-32601,"message":"not supported by this client"}"#,
    }
}

#[cfg(test)]
mod tests;
