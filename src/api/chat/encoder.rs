//! What is written when: the chunks of a stream, or a whole `chat.completion`.

use bytes::Bytes;

use crate::api::dialect::{Encoder, Frames, Heading, Piece, WholeAnswer};
use crate::api::error::ErrorReply;
use crate::api::sse;
use crate::turn::{At, Failure, Saying, Usage};

use super::reply::{Chunks, Whole, whole};
use super::request::ChatRequest;

/// The reply to one request.
pub(super) struct ChatEncoder {
    chunks: Chunks,
    show_reasoning: bool,
    /// Of which message each item was made.
    origins: Vec<usize>,
    /// Which of the request's functions each of the turn's is.
    tool_origins: Vec<usize>,
    choices: Vec<Choice>,
}

/// One answer in the making.
#[derive(Clone, Default)]
struct Choice {
    fold: Fold,
    calls: usize,
}

impl ChatEncoder {
    pub(super) fn new(asked: &ChatRequest, heading: Heading, show_reasoning: bool) -> ChatEncoder {
        let chunks =
            Chunks { heading, model: asked.request.model.clone(), include_usage: asked.include_usage };
        ChatEncoder {
            chunks,
            show_reasoning,
            origins: asked.origins.clone(),
            tool_origins: asked.tool_origins.clone(),
            choices: vec![Choice::default(); asked.request.n],
        }
    }
}

impl Encoder for ChatEncoder {
    fn open(&mut self, out: &mut Frames) {
        for index in 0..self.choices.len() {
            self.chunks.role(index, out);
        }
    }

    fn piece(&mut self, index: usize, piece: Piece, out: &mut Frames) {
        let Some(choice) = self.choices.get_mut(index) else { return };
        match choice.fold.take(piece) {
            Folded::Text(text) => self.chunks.text(index, &text, out),
            Folded::Reasoning(text) if self.show_reasoning => self.chunks.reasoning(index, &text, out),
            Folded::Other(Piece::ToolCall(call)) => {
                self.chunks.tool_call(index, choice.calls, &call, out);
                choice.calls += 1;
            }
            Folded::Other(Piece::Finish(finish)) => self.chunks.finish(index, finish, out),
            Folded::Reasoning(_) | Folded::Other(_) => {}
        }
    }

    fn close(&mut self, usage: Option<Usage>, out: &mut Frames) {
        self.chunks.usage(usage, out);
        out.push(sse::DONE);
    }

    fn fail(&mut self, reply: &ErrorReply, out: &mut Frames) {
        out.push([b"data: ", &reply.envelope()[..], b"\n\n"].concat().into());
    }

    fn whole(&mut self, answers: Vec<WholeAnswer>, usage: Option<Usage>) -> Result<Bytes, Failure> {
        let answers: Vec<Whole> =
            answers.into_iter().map(|pieces| gather(pieces, self.show_reasoning)).collect();
        whole(&self.chunks.heading, &self.chunks.model, &answers, usage)
    }

    fn path(&self, at: &At) -> String {
        match at {
            At::Field(path) => path.clone(),
            At::Model => "model".into(),
            At::Conversation => "messages".into(),
            At::Item(item) => match self.origins.get(*item) {
                Some(message) => format!("messages[{message}]"),
                None => "messages".into(),
            },
            At::Tools => "tools".into(),
            At::Tool(tool) => {
                let tool = self.tool_origins.get(*tool).unwrap_or(tool);
                format!("tools[{tool}].function.parameters")
            }
            At::Schema => "response_format.json_schema.schema".into(),
            At::Workdir => "metadata.cwd".into(),
        }
    }
}

fn gather(pieces: WholeAnswer, show_reasoning: bool) -> Whole {
    let mut fold = Fold::default();
    let mut answer = Whole::default();
    for piece in pieces {
        match fold.take(piece) {
            Folded::Text(text) => append(&mut answer.text, text),
            Folded::Reasoning(text) if show_reasoning => append(&mut answer.reasoning, text),
            Folded::Other(Piece::ToolCall(call)) => answer.tool_calls.push(call),
            Folded::Other(Piece::Finish(finish)) => answer.finish = Some(finish),
            Folded::Reasoning(_) | Folded::Other(_) => {}
        }
    }
    answer
}

fn append(text: &mut String, more: String) {
    if text.is_empty() { *text = more } else { text.push_str(&more) }
}

/// This format has one text and one reasoning for each answer: the pieces of either are joined by a
/// blank line, and progress told on the way is reasoning.
#[derive(Clone, Debug, Default)]
struct Fold {
    commentary: bool,
    text: Joint,
    reasoning: Joint,
}

/// A piece once folded.
#[derive(Debug, PartialEq, Eq)]
enum Folded {
    Text(String),
    Reasoning(String),
    Other(Piece),
}

#[derive(Clone, Debug, Default)]
struct Joint {
    begun: bool,
    gap: bool,
}

impl Joint {
    /// What follows is another piece.
    fn part(&mut self) {
        self.gap = self.begun;
    }

    fn add(&mut self, text: String) -> String {
        self.begun = true;
        if std::mem::take(&mut self.gap) { format!("\n\n{text}") } else { text }
    }
}

impl Fold {
    fn take(&mut self, piece: Piece) -> Folded {
        match piece {
            Piece::Text(text) if self.commentary => Folded::Reasoning(self.reasoning.add(text)),
            Piece::Text(text) => Folded::Text(self.text.add(text)),
            Piece::Reasoning(text) => Folded::Reasoning(self.reasoning.add(text)),
            Piece::Message { phase, .. } => {
                self.commentary = Saying::is_progress(phase);
                if self.commentary {
                    self.reasoning.part()
                } else {
                    self.text.part()
                }
                Folded::Other(piece)
            }
            Piece::ReasoningPart { .. } => {
                self.reasoning.part();
                Folded::Other(piece)
            }
            Piece::Thought(_) | Piece::ToolCall(_) | Piece::Stopped(_) | Piece::Finish(_) => {
                Folded::Other(piece)
            }
        }
    }
}

#[cfg(test)]
mod tests;
