//! From Codex's lines to events: which message is the answer, and how the turn ended.

use std::time::{Duration, Instant};

use crate::codex::errors;
use crate::turn::{Event, Failure, Finish, Outcome, Usage, pace};

use super::wire::{Item, Line};

/// Reads the lines of one turn. Feed it each line, then ask it for the end.
///
/// The answer is the last message; that one is the last is known only at the end, so each waits
/// until the next or the end decides. Earlier messages are the model thinking aloud.
#[derive(Debug, Default)]
pub(super) struct Answer {
    last_message: Option<String>,
    last_error: Option<String>,
    end: Option<Outcome>,
    heard: bool,
    /// The completed turn cost something.
    paid: bool,
    parsing: Duration,
}

/// What a line means for the stream.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing to pass on.
    Quiet,
    /// The first or a further assistant message was seen; an earlier one turned out as reasoning.
    Message {
        /// That earlier message.
        earlier: Option<String>,
    },
    /// A reasoning summary.
    Reasoning(String),
    /// The turn is over.
    Over,
}

impl Answer {
    /// Takes one line. What is no JSON of Codex's is ignored, as other programs' chatter would be.
    pub(super) fn line(&mut self, line: &[u8]) -> Step {
        let start = Instant::now();
        let parsed = pace::apart(line.len(), || parse(line));
        self.parsing += start.elapsed();
        let Some(parsed) = parsed else {
            if !line.trim_ascii().is_empty() {
                tracing::debug!(bytes = line.len(), "codex printed a line that is not JSON");
            }
            return Step::Quiet;
        };
        self.heard = true;
        match parsed {
            Line::ItemCompleted { item: Item::AgentMessage { text } } => {
                Step::Message { earlier: self.last_message.replace(text) }
            }
            Line::ItemCompleted { item: Item::Reasoning { text } } => Step::Reasoning(text),
            Line::ItemCompleted { item: Item::ContextCompaction {} } => {
                self.over(Err(Failure::ContextLength))
            }
            Line::TurnCompleted { usage } => {
                let usage: Option<Usage> = usage.map(Into::into);
                self.paid = usage.is_some_and(|usage| usage != Usage::default());
                self.over(Ok(Event::Done { finish: Finish::Stop, usage }))
            }
            Line::TurnFailed { error } => {
                let message = if error.message.is_empty() {
                    self.last_error.take().unwrap_or_default()
                } else {
                    error.message
                };
                let end = if errors::is_output_limit(&message) {
                    Ok(Event::Done { finish: Finish::Length, usage: None })
                } else {
                    Err(errors::classify(None, &message))
                };
                self.over(end)
            }
            Line::Error { message } => {
                self.last_error = Some(message);
                Step::Quiet
            }
            Line::ItemCompleted { item: Item::Other } | Line::Other => Step::Quiet,
        }
    }

    /// The first end counts.
    fn over(&mut self, end: Outcome) -> Step {
        self.end.get_or_insert(end);
        Step::Over
    }

    /// Whether Codex told anything.
    pub(super) fn heard(&self) -> bool {
        self.heard
    }

    /// Whether Codex told the end of the turn.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// The time spent parsing so far.
    pub(super) fn parsing(&self) -> Duration {
        self.parsing
    }

    /// The answer's text and the terminal outcome, once the output has ended.
    ///
    /// `exit` and `stderr` say how the process went, for a turn whose end Codex did not tell.
    pub(super) fn finish(self, exit: &str, stderr: &str) -> (Option<String>, Outcome) {
        match self.end {
            // Cut at the output limit, even nothing is an answer.
            Some(Ok(Event::Done { finish: Finish::Length, usage })) => {
                (self.last_message, Ok(Event::Done { finish: Finish::Length, usage }))
            }
            Some(Ok(done)) => match self.last_message {
                Some(text) => (Some(text), Ok(done)),
                // A response without a message in it is an empty answer. That there was one shows in its cost.
                None if self.paid => (None, Ok(done)),
                None => (None, Err(Failure::NoAnswer)),
            },
            Some(Err(failure)) => (None, Err(failure)),
            None => {
                let failure = match self.last_error {
                    Some(message) => errors::classify(None, &message),
                    None => errors::exited(exit, stderr),
                };
                (None, Err(failure))
            }
        }
    }
}

/// Broken UTF-8 inside a line is replaced, not fatal: the rest of the answer is still right.
fn parse(line: &[u8]) -> Option<Line> {
    match std::str::from_utf8(line) {
        Ok(text) => serde_json::from_str(text).ok(),
        Err(_) => serde_json::from_str(&String::from_utf8_lossy(line)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: &str = r#"{"type":"turn.completed","usage":{"input_tokens":10,"cached_input_tokens":4,"cache_write_input_tokens":0,"output_tokens":5,"reasoning_output_tokens":2}}"#;

    fn message(text: &str) -> String {
        serde_json::json!({"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": text}}).to_string()
    }

    fn read(lines: &[&str]) -> (Vec<Step>, Option<String>, Outcome) {
        let mut answer = Answer::default();
        let steps = lines
            .iter()
            .map(|line| answer.line(line.as_bytes()))
            .filter(|step| *step != Step::Quiet)
            .collect();
        let (text, end) = answer.finish("exit status: 1", "tail");
        (steps, text, end)
    }

    fn done() -> Outcome {
        let usage = Usage { input: 10, cached_input: 4, output: 5, reasoning_output: 2 };
        Ok(Event::Done { finish: Finish::Stop, usage: Some(usage) })
    }

    #[test]
    fn the_last_message_is_the_answer_and_earlier_ones_are_reasoning() {
        let lines = [
            r#"{"type":"thread.started","thread_id":"t"}"#,
            r#"{"type":"turn.started"}"#,
            r#"{"type":"item.completed","item":{"id":"r","type":"reasoning","text":"hm"}}"#,
            &message("let me look"),
            r#"{"type":"item.completed","item":{"id":"c","type":"command_execution","command":"ls"}}"#,
            &message("pong"),
            DONE,
        ];
        let (steps, text, end) = read(&lines);
        let expect = [
            Step::Reasoning("hm".into()),
            Step::Message { earlier: None },
            Step::Message { earlier: Some("let me look".into()) },
            Step::Over,
        ];
        assert_eq!(steps, expect);
        assert_eq!((text.as_deref(), end), (Some("pong"), done()));
    }

    #[test]
    fn every_end_has_its_outcome() {
        let limit = r#"{"type":"turn.failed","error":{"message":"Incomplete response returned, reason: max_output_tokens"}}"#;
        let overflow = r#"{"type":"turn.failed","error":{"message":"Codex ran out of room in the model's context window."}}"#;
        let error = r#"{"type":"error","message":"Codex ran out of room in the model's context window."}"#;
        let half = message("half");
        let exited = || {
            Err(Failure::CodexExited {
                status: "exit status: 1".into(),
                detail: "4 bytes on its stderr".into(),
            })
        };
        let length = || Ok(Event::Done { finish: Finish::Length, usage: None });
        for (lines, text, end) in [
            (&[DONE][..], None, done()),
            (&[&message(""), DONE], Some(""), done()),
            (&[r#"{"type":"turn.completed","usage":null}"#], None, Err(Failure::NoAnswer)),
            (&[r#"{"type":"turn.completed","usage":{"input_tokens":0}}"#], None, Err(Failure::NoAnswer)),
            (&[&half, limit], Some("half"), length()),
            (&[limit], None, length()),
            (&[&half, overflow], None, Err(Failure::ContextLength)),
            (&[error, r#"{"type":"turn.failed","error":{}}"#], None, Err(Failure::ContextLength)),
            (&[error], None, Err(Failure::ContextLength)),
            (&[&half], None, exited()),
            (&[], None, exited()),
            (&["garbage", "", "{\"type\":\"new.thing\"}", "[1]", &half, DONE], Some("half"), done()),
            (&[&half, DONE, overflow], Some("half"), done()),
        ] {
            let (_, got_text, got_end) = read(lines);
            assert_eq!((got_text.as_deref(), got_end), (text, end), "{lines:?}");
        }
    }

    #[test]
    fn broken_utf8_is_replaced() {
        let mut answer = Answer::default();
        let line = [
            br#"{"type":"item.completed","item":{"type":"agent_message","text":"a"#,
            &b"\xff"[..],
            br#"b"}}"#,
        ]
        .concat();
        assert_eq!(answer.line(&line), Step::Message { earlier: None });
        answer.line(DONE.as_bytes());
        assert_eq!(answer.finish("", "").0.as_deref(), Some("a\u{fffd}b"));
    }
}
