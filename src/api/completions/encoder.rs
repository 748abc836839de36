//! The answer on the wire: a `text_completion`, whole or in pieces of the same shape.

use bytes::Bytes;
use serde::Serialize;

use crate::api::dialect::{Encoder, Frames, Heading, Piece, WholeAnswer};
use crate::api::error::ErrorReply;
use crate::api::openai::{WireUsage, finish_name};
use crate::api::sse;
use crate::turn::{At, Failure, Finish, Usage};

use super::request::CompletionsRequest;

/// The reply to one request.
pub(super) struct CompletionsEncoder {
    heading: Heading,
    model: String,
    /// Whether `usage` is part of a stream: `null` on each piece but the last.
    include_usage: bool,
    n: usize,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: Id<'a>,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    /// Not there where Codex did not say what it cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<WireUsage>>,
    system_fingerprint: &'a str,
}

#[derive(Serialize)]
struct Choice<'a> {
    text: &'a str,
    index: usize,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

/// `cmpl-…`.
struct Id<'a>(&'a str);

impl Serialize for Id<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("cmpl-{}", self.0))
    }
}

impl CompletionsEncoder {
    pub(super) fn new(asked: &CompletionsRequest, heading: Heading) -> CompletionsEncoder {
        let CompletionsRequest { request, include_usage } = asked;
        CompletionsEncoder {
            heading,
            model: request.model.clone(),
            include_usage: *include_usage,
            n: request.n,
        }
    }

    fn completion<'a>(
        &'a self,
        choices: &'a [Choice<'a>],
        usage: Option<Option<WireUsage>>,
    ) -> Completion<'a> {
        Completion {
            id: Id(&self.heading.unique),
            object: "text_completion",
            created: self.heading.created,
            model: &self.model,
            choices,
            usage,
            system_fingerprint: &self.heading.fingerprint,
        }
    }

    fn more(&self, index: usize, text: &str, finish: Option<Finish>, out: &mut Frames) {
        let choices = [choice(index, text, finish)];
        out.data(&self.completion(&choices, self.include_usage.then_some(None)));
    }
}

fn choice(index: usize, text: &str, finish: Option<Finish>) -> Choice<'_> {
    Choice { text, index, logprobs: None, finish_reason: finish.map(finish_name) }
}

impl Encoder for CompletionsEncoder {
    fn open(&mut self, out: &mut Frames) {
        for index in 0..self.n {
            self.more(index, "", None, out);
        }
    }

    fn piece(&mut self, index: usize, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Text(text) => self.more(index, &text, None, out),
            Piece::Finish(finish) => self.more(index, "", Some(finish), out),
            // There is no place for what was thought, and no tool was offered.
            Piece::Message { .. }
            | Piece::ReasoningPart { .. }
            | Piece::Reasoning(_)
            | Piece::Thought(_)
            | Piece::ToolCall(_)
            | Piece::Stopped(_) => {}
        }
    }

    fn close(&mut self, usage: Option<Usage>, out: &mut Frames) {
        // Without numbers it would be nothing but an empty list of choices.
        if let Some(usage) = usage.filter(|_| self.include_usage) {
            out.data(&self.completion(&[], Some(Some(usage.into()))));
        }
        out.push(sse::DONE);
    }

    fn fail(&mut self, reply: &ErrorReply, out: &mut Frames) {
        out.push([b"data: ", &reply.envelope()[..], b"\n\n"].concat().into());
    }

    fn whole(&mut self, answers: Vec<WholeAnswer>, usage: Option<Usage>) -> Result<Bytes, Failure> {
        let mut answers: Vec<(String, Option<Finish>)> = answers.into_iter().map(text).collect();
        if answers.iter().any(|(_, finish)| finish.is_none()) {
            return Err(Failure::Internal { detail: "an answer has not ended".into() });
        }
        let choices: Vec<Choice> = answers
            .iter_mut()
            .enumerate()
            .map(|(index, (text, finish))| choice(index, text, *finish))
            .collect();
        let encoding = |error| Failure::Internal { detail: format!("encoding the answer: {error}") };
        let completion = self.completion(&choices, usage.map(|usage| Some(usage.into())));
        serde_json::to_vec(&completion).map(Bytes::from).map_err(encoding)
    }

    fn path(&self, at: &At) -> String {
        match at {
            At::Field(path) => path.clone(),
            At::Model => "model".into(),
            At::Workdir => "metadata.cwd".into(),
            At::Conversation | At::Item(_) | At::Tools | At::Tool(_) | At::Schema => "prompt".into(),
        }
    }
}

/// The text of an answer, and why it ended; `None` until it has.
fn text(pieces: WholeAnswer) -> (String, Option<Finish>) {
    let (mut all, mut end) = (String::new(), None);
    for piece in pieces {
        match piece {
            Piece::Text(text) if all.is_empty() => all = text,
            Piece::Text(text) => all.push_str(&text),
            Piece::Finish(finish) => end = Some(finish),
            _ => {}
        }
    }
    (all, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::answer;
    use crate::api::openai::told::{USAGE, heading, read, usage};
    use serde_json::{Value, json};

    fn encoder(n: usize, include_usage: bool) -> CompletionsEncoder {
        CompletionsEncoder { heading: heading(), model: "m".into(), include_usage, n }
    }

    fn object(choices: Value) -> Value {
        json!({
            "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "choices": choices,
            "system_fingerprint": "fp",
        })
    }

    fn one(index: usize, text: &str, finish: Value) -> Value {
        json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish})
    }

    fn said(text: &str, finish: Finish) -> WholeAnswer {
        vec![
            Piece::ReasoningPart { item: "r".into() },
            Piece::Reasoning("hm".into()),
            Piece::Text(text.into()),
            Piece::ReasoningPart { item: "r".into() },
            Piece::Text("!".into()),
            Piece::Finish(finish),
        ]
    }

    #[test]
    fn a_whole_reply_has_openais_shape() {
        let answers = vec![said("pong", Finish::Stop), said("po", Finish::Length)];
        let body = encoder(2, false).whole(answers, Some(USAGE)).unwrap();
        let mut expect = object(json!([one(0, "pong!", json!("stop")), one(1, "po!", json!("length"))]));
        expect["usage"] = usage();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expect);
        // Whose cost is not known.
        let body = encoder(1, true).whole(vec![vec![Piece::Finish(Finish::Stop)]], None).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            object(json!([one(0, "", json!("stop"))]))
        );
        let half = vec![vec![Piece::Text("half".into())]];
        assert!(matches!(encoder(1, false).whole(half, None), Err(Failure::Internal { .. })));
    }

    #[test]
    fn a_stream_has_openais_shape() {
        for include_usage in [false, true] {
            let mut encoder = encoder(2, include_usage);
            let mut out = Frames::default();
            encoder.open(&mut out);
            said("a", Finish::Stop).into_iter().for_each(|piece| encoder.piece(1, piece, &mut out));
            said("b", Finish::Length).into_iter().for_each(|piece| encoder.piece(0, piece, &mut out));
            encoder.close(Some(USAGE), &mut out);
            assert_eq!(out.check(), Ok(()));
            let choices = [
                one(0, "", Value::Null),
                one(1, "", Value::Null),
                one(1, "a", Value::Null),
                one(1, "!", Value::Null),
                one(1, "", json!("stop")),
                one(0, "b", Value::Null),
                one(0, "!", Value::Null),
                one(0, "", json!("length")),
            ];
            let mut expect: Vec<Value> = choices.into_iter().map(|choice| object(json!([choice]))).collect();
            if include_usage {
                expect.iter_mut().for_each(|chunk| chunk["usage"] = Value::Null);
                expect.push(object(json!([])));
                expect.last_mut().unwrap()["usage"] = usage();
            }
            expect.push(json!("[DONE]"));
            assert_eq!(read(&mut out), expect);
        }
    }

    #[test]
    fn a_failure_names_this_formats_fields() {
        let mut encoder = encoder(1, true);
        let mut out = Frames::default();
        encoder.close(None, &mut out);
        assert_eq!(read(&mut out), [json!("[DONE]")]);
        encoder.fail(&answer(&Failure::NoAnswer), &mut out);
        assert_eq!(read(&mut out)[0]["error"]["code"], "no_answer");
        for (at, path) in [
            (At::Field("stop[1]".into()), "stop[1]"),
            (At::Model, "model"),
            (At::Conversation, "prompt"),
            (At::Item(0), "prompt"),
            (At::Workdir, "metadata.cwd"),
        ] {
            assert_eq!(encoder.path(&at), path);
        }
    }
}
