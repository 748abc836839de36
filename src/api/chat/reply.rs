//! The answer on the wire: a whole `chat.completion`, or the chunks of a stream.

use bytes::Bytes;
use serde::Serialize;

use crate::api::dialect::{Frames, Heading};
use crate::api::openai::{WireUsage, finish_name};
use crate::turn::{Failure, Finish, ToolCall, Usage};

/// One answer of a whole reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    /// The text.
    pub(super) text: String,
    /// The reasoning summaries.
    pub(super) reasoning: String,
    /// The function calls.
    pub(super) tool_calls: Vec<ToolCall>,
    /// Why it ended; `None` until it has.
    pub(super) finish: Option<Finish>,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: Id<'a>,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WireChoice<'a>>,
    /// Not there where Codex did not say what it cost: client libraries take it for optional, and some
    /// fail on `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WireUsage>,
    system_fingerprint: &'a str,
}

#[derive(Serialize)]
struct WireChoice<'a> {
    index: usize,
    message: WireMessage<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    refusal: Option<()>,
    annotations: [(); 0],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
}

#[derive(Serialize)]
struct WireCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    id: &'a str,
    r#type: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

fn wire_call(call: &ToolCall, index: Option<usize>) -> WireCall<'_> {
    let function = WireFunction { name: &call.name, arguments: &call.arguments };
    WireCall { index, id: &call.id, r#type: "function", function }
}

/// `chatcmpl-…`.
struct Id<'a>(&'a str);

impl Serialize for Id<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("chatcmpl-{}", self.0))
    }
}

/// `None` for an answer that has not ended.
fn wire_choice((index, answer): (usize, &Whole)) -> Option<WireChoice<'_>> {
    let message = WireMessage {
        role: "assistant",
        // As OpenAI: calls without a word have no content.
        content: (answer.tool_calls.is_empty() || !answer.text.is_empty()).then_some(&*answer.text),
        reasoning_content: &answer.reasoning,
        refusal: None,
        annotations: [],
        tool_calls: answer.tool_calls.iter().map(|call| wire_call(call, None)).collect(),
    };
    Some(WireChoice { index, message, logprobs: None, finish_reason: finish_name(answer.finish?) })
}

/// The body of a whole reply.
///
/// # Errors
/// [`Failure::Internal`] if an answer has not ended.
pub(super) fn whole(
    heading: &Heading,
    model: &str,
    answers: &[Whole],
    usage: Option<Usage>,
) -> Result<Bytes, Failure> {
    let choices: Option<Vec<WireChoice>> = answers.iter().enumerate().map(wire_choice).collect();
    let completion = Completion {
        id: Id(&heading.unique),
        object: "chat.completion",
        created: heading.created,
        model,
        choices: choices.ok_or_else(|| Failure::Internal { detail: "an answer has not ended".into() })?,
        usage: usage.map(Into::into),
        system_fingerprint: &heading.fingerprint,
    };
    let encoding = |error| Failure::Internal { detail: format!("encoding the answer: {error}") };
    serde_json::to_vec(&completion).map(Bytes::from).map_err(encoding)
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: Id<'a>,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<WireUsage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[WireCall<'a>; 1]>,
}

/// Writes the chunks of a stream.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    /// What all chunks share.
    pub(super) heading: Heading,
    /// The model as the client named it.
    pub(super) model: String,
    /// Whether `usage` is part of the stream: `null` on each chunk but the last.
    pub(super) include_usage: bool,
}

impl Chunks {
    fn chunk(&self, index: usize, delta: Delta, finish: Option<Finish>, out: &mut Frames) {
        let choices = [ChunkChoice { index, delta, logprobs: None, finish_reason: finish.map(finish_name) }];
        self.write(&choices, self.include_usage.then_some(None), out);
    }

    fn write(&self, choices: &[ChunkChoice], usage: Option<Option<WireUsage>>, out: &mut Frames) {
        out.data(&Chunk {
            id: Id(&self.heading.unique),
            object: "chat.completion.chunk",
            created: self.heading.created,
            model: &self.model,
            system_fingerprint: &self.heading.fingerprint,
            choices,
            usage,
        });
    }

    /// The chunk that opens an answer.
    pub(super) fn role(&self, index: usize, out: &mut Frames) {
        let delta = Delta { role: Some("assistant"), content: Some(""), ..Delta::default() };
        self.chunk(index, delta, None, out);
    }

    /// More text.
    pub(super) fn text(&self, index: usize, text: &str, out: &mut Frames) {
        self.chunk(index, Delta { content: Some(text), ..Delta::default() }, None, out);
    }

    /// More of the reasoning summary.
    pub(super) fn reasoning(&self, index: usize, text: &str, out: &mut Frames) {
        self.chunk(index, Delta { reasoning_content: Some(text), ..Delta::default() }, None, out);
    }

    /// A function call, whole: Codex has no argument deltas. `number` counts the answer's calls.
    pub(super) fn tool_call(&self, index: usize, number: usize, call: &ToolCall, out: &mut Frames) {
        let delta = Delta { tool_calls: Some([wire_call(call, Some(number))]), ..Delta::default() };
        self.chunk(index, delta, None, out);
    }

    /// The end of an answer.
    pub(super) fn finish(&self, index: usize, finish: Finish, out: &mut Frames) {
        self.chunk(index, Delta::default(), Some(finish), out);
    }

    /// The token counts, if the client asked for them and they are known.
    pub(super) fn usage(&self, usage: Option<Usage>, out: &mut Frames) {
        // Without numbers it would be nothing but an empty list of choices.
        if let Some(usage) = usage.filter(|_| self.include_usage) {
            self.write(&[], Some(Some(usage.into())), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openai::told::{USAGE, heading, usage};
    use serde_json::{Value, json};

    fn call() -> ToolCall {
        ToolCall::function("call_1", "f", "{\"a\": 1}")
    }

    #[test]
    fn a_whole_reply_has_openais_shape() {
        let text = Whole { text: "pong".into(), finish: Some(Finish::Stop), ..Whole::default() };
        let calls = Whole {
            reasoning: "hm".into(),
            tool_calls: vec![call()],
            finish: Some(Finish::ToolCalls),
            ..Whole::default()
        };
        let body = whole(&heading(), "m", &[text, calls], Some(USAGE)).unwrap();
        let expect = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "pong", "refusal": null, "annotations": []},
                 "logprobs": null, "finish_reason": "stop"},
                {"index": 1, "message": {"role": "assistant", "content": null, "reasoning_content": "hm", "refusal": null,
                    "annotations": [],
                    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
                 "logprobs": null, "finish_reason": "tool_calls"},
            ],
            "usage": usage(), "system_fingerprint": "fp",
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expect);
    }

    #[test]
    fn an_answer_that_has_not_ended_is_never_sent_whole() {
        let half = Whole { text: "half".into(), ..Whole::default() };
        assert!(matches!(whole(&heading(), "m", &[half], None), Err(Failure::Internal { .. })));
    }

    #[test]
    fn an_unknown_cost_is_left_out() {
        let cut = Whole { finish: Some(Finish::Length), ..Whole::default() };
        let body: Value = serde_json::from_slice(&whole(&heading(), "m", &[cut], None).unwrap()).unwrap();
        assert_eq!((body.get("usage"), &body["choices"][0]["message"]["content"]), (None, &json!("")));
    }

    #[test]
    fn chunks_have_openais_shape() {
        let check = |write: &dyn Fn(&mut Frames), choices: Value, usage: Option<Value>| {
            let mut out = Frames::default();
            write(&mut out);
            let frame = out.pop().unwrap();
            assert!(out.is_empty());
            let text = std::str::from_utf8(&frame).unwrap();
            let data = text.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
            let mut expect = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m",
                "system_fingerprint": "fp", "choices": choices});
            if let Some(usage) = usage {
                expect["usage"] = usage;
            }
            assert_eq!(serde_json::from_str::<Value>(data).unwrap(), expect);
        };
        let one = |delta: Value, finish: Value| json!([{"index": 1, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        let chunks = Chunks { heading: heading(), model: "m".into(), include_usage: false };
        check(
            &|out| chunks.role(1, out),
            one(json!({"role": "assistant", "content": ""}), Value::Null),
            None,
        );
        check(&|out| chunks.text(1, "a\n", out), one(json!({"content": "a\n"}), Value::Null), None);
        check(
            &|out| chunks.reasoning(1, "hm", out),
            one(json!({"reasoning_content": "hm"}), Value::Null),
            None,
        );
        let wire = json!({"tool_calls": [{"index": 2, "id": "call_1", "type": "function",
            "function": {"name": "f", "arguments": "{\"a\": 1}"}}]});
        check(&|out| chunks.tool_call(1, 2, &call(), out), one(wire, Value::Null), None);
        check(&|out| chunks.finish(1, Finish::Length, out), one(json!({}), json!("length")), None);
        let mut out = Frames::default();
        chunks.usage(Some(USAGE), &mut out);
        assert!(out.is_empty());

        let counted = Chunks { include_usage: true, ..chunks };
        check(&|out| counted.finish(1, Finish::Stop, out), one(json!({}), json!("stop")), Some(Value::Null));
        check(&|out| counted.usage(Some(USAGE), out), json!([]), Some(usage()));
        counted.usage(None, &mut out);
        assert!(out.is_empty());
    }
}
