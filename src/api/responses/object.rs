//! The response object: what it repeats of the request, and what came of it.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::turn::{Effort, ServiceTier, Summary, Usage, Verbosity};

use super::items::OutputItem;

/// What a response repeats of its request.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pub(super) instructions: Option<Box<RawValue>>,
    pub(super) max_output_tokens: Option<i64>,
    pub(super) max_tool_calls: Option<i64>,
    pub(super) metadata: Option<Box<RawValue>>,
    pub(super) parallel_tool_calls: bool,
    pub(super) prompt_cache_key: Option<String>,
    pub(super) effort: Option<Effort>,
    pub(super) summary: Option<Summary>,
    pub(super) safety_identifier: Option<String>,
    pub(super) service_tier: Option<ServiceTier>,
    /// `text.format`.
    pub(super) format: Option<Box<RawValue>>,
    pub(super) verbosity: Option<Verbosity>,
    pub(super) tool_choice: Option<Box<RawValue>>,
    pub(super) tools: Option<Box<RawValue>>,
    pub(super) auto_truncation: bool,
    pub(super) user: Option<String>,
}

/// How a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

/// What is not the same in every object of one response.
pub(super) struct State<'a> {
    pub(super) status: Status,
    pub(super) completed_at: Option<u64>,
    pub(super) output: &'a [OutputItem],
    pub(super) usage: Option<Usage>,
    /// Code and message.
    pub(super) error: Option<(&'a str, &'a str)>,
}

/// All keys of a response.
#[derive(Serialize)]
pub(super) struct Response<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    completed_at: Option<u64>,
    status: Status,
    background: bool,
    error: Option<WireError<'a>>,
    incomplete_details: Option<Incomplete>,
    instructions: Option<&'a RawValue>,
    max_output_tokens: Option<i64>,
    max_tool_calls: Option<i64>,
    model: &'a str,
    output: &'a [OutputItem],
    parallel_tool_calls: bool,
    previous_response_id: Option<()>,
    prompt_cache_key: Option<&'a str>,
    reasoning: WireReasoning,
    safety_identifier: Option<&'a str>,
    service_tier: &'static str,
    store: bool,
    /// What was in effect, as Codex sends none of these: the upstream's own, whatever the request said.
    temperature: f64,
    text: WireText<'a>,
    tool_choice: OrElse<'a, &'static str>,
    tools: OrElse<'a, [(); 0]>,
    top_logprobs: u8,
    top_p: f64,
    presence_penalty: f64,
    frequency_penalty: f64,
    truncation: &'static str,
    usage: Option<WireUsage>,
    user: Option<&'a str>,
    metadata: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct WireError<'a> {
    code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct WireReasoning {
    effort: Option<&'static str>,
    summary: Option<&'static str>,
}

#[derive(Serialize)]
struct WireText<'a> {
    format: OrElse<'a, PlainText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'static str>,
}

#[derive(Serialize)]
struct PlainText {
    r#type: &'static str,
}

/// What the client sent, or what it would have meant by leaving it out.
#[derive(Serialize)]
#[serde(untagged)]
enum OrElse<'a, T> {
    Sent(&'a RawValue),
    Meant(T),
}

impl<'a, T> OrElse<'a, T> {
    fn of(sent: Option<&'a RawValue>, meant: T) -> OrElse<'a, T> {
        sent.map_or(OrElse::Meant(meant), OrElse::Sent)
    }
}

#[derive(Serialize)]
struct WireUsage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> WireUsage {
        WireUsage {
            input_tokens: usage.input,
            input_tokens_details: InputDetails { cached_tokens: usage.cached_input },
            output_tokens: usage.output,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning_output },
            total_tokens: usage.input + usage.output,
        }
    }
}

impl Echo {
    /// What of it may be long, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let written = [&self.instructions, &self.metadata, &self.format, &self.tool_choice, &self.tools];
        let texts = [&self.prompt_cache_key, &self.safety_identifier, &self.user];
        let written = written.into_iter().flatten().map(|value| value.get().len());
        let texts = texts.into_iter().flatten().map(String::len);
        written.chain(texts).sum::<usize>() as u64
    }

    /// The whole object.
    pub(super) fn response<'a>(
        &'a self,
        id: &'a str,
        created_at: u64,
        model: &'a str,
        state: State<'a>,
    ) -> Response<'a> {
        let State { status, completed_at, output, usage, error } = state;
        let incomplete = Incomplete { reason: "max_output_tokens" };
        Response {
            id,
            object: "response",
            created_at,
            completed_at,
            status,
            background: false,
            error: error.map(|(code, message)| WireError { code, message }),
            incomplete_details: (status == Status::Incomplete).then_some(incomplete),
            instructions: self.instructions.as_deref(),
            max_output_tokens: self.max_output_tokens,
            max_tool_calls: self.max_tool_calls,
            model,
            output,
            parallel_tool_calls: self.parallel_tool_calls,
            previous_response_id: None,
            prompt_cache_key: self.prompt_cache_key.as_deref(),
            reasoning: WireReasoning {
                effort: self.effort.map(Effort::name),
                summary: self.summary.map(Summary::name),
            },
            safety_identifier: self.safety_identifier.as_deref(),
            service_tier: self.service_tier.unwrap_or(ServiceTier::Auto).name(),
            store: false,
            temperature: 1.0,
            text: WireText {
                format: OrElse::of(self.format.as_deref(), PlainText { r#type: "text" }),
                verbosity: self.verbosity.map(Verbosity::name),
            },
            tool_choice: OrElse::of(self.tool_choice.as_deref(), "auto"),
            tools: OrElse::of(self.tools.as_deref(), []),
            top_logprobs: 0,
            top_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            truncation: if self.auto_truncation { "auto" } else { "disabled" },
            usage: usage.map(Into::into),
            user: self.user.as_deref(),
            metadata: self.metadata.as_deref(),
        }
    }
}
