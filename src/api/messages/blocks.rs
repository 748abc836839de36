//! Which piece of an answer belongs to which content block: blocks follow each other and never overlap.

use std::borrow::Cow;

use crate::api::dialect::Piece;
use crate::turn::{Finish, ToolCall};

use super::request::Shown;
use super::thinking;

/// What happens to the block under way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// One begins.
    Start(Block<'a>),
    /// More text of it.
    Text(&'a str),
    /// More of what was thought.
    Thinking(&'a str),
    /// The signature of what was thought.
    Signature(String),
    /// All of a call's arguments.
    Input(&'a str),
    /// It is complete.
    Stop,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block<'a> {
    /// Text of the model.
    Text,
    /// What it thought.
    Thinking,
    /// A call of a tool.
    ToolUse(&'a ToolCall),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

/// The answer so far.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    shown: Shown,
    open: Option<Open>,
    /// The reasoning item under way was told, or a part of it.
    told: bool,
    /// What was told of it is a part that has ended.
    gap: bool,
    /// Why the answer ended.
    pub(super) finish: Option<Finish>,
    /// The stop string that ended it.
    pub(super) stop_sequence: Option<String>,
}

impl Blocks {
    pub(super) fn new(shown: Shown) -> Blocks {
        Blocks { shown, ..Blocks::default() }
    }

    /// Takes the next piece; tells `step` what becomes of it.
    pub(super) fn take(&mut self, piece: &Piece, step: &mut impl FnMut(Step)) {
        match piece {
            // The next text is another block's.
            Piece::Message { .. } => self.stop(step),
            Piece::Text(text) => {
                self.open(Open::Text, step);
                step(Step::Text(text));
            }
            Piece::ReasoningPart { .. } => self.gap = self.told,
            Piece::Reasoning(text) if self.shown.text => {
                let text = match std::mem::take(&mut self.gap) && self.open == Some(Open::Thinking) {
                    true => Cow::Owned(format!("\n\n{text}")),
                    false => Cow::Borrowed(text.as_str()),
                };
                self.open(Open::Thinking, step);
                self.told = true;
                step(Step::Thinking(&text));
            }
            Piece::Reasoning(_) => {}
            Piece::Thought(thought) if self.shown.blocks => {
                let told = std::mem::take(&mut self.told);
                self.gap = false;
                let summary =
                    if told || !self.shown.text { String::new() } else { thought.summary.join("\n\n") };
                let signature = thinking::sign(thought);
                if self.open == Some(Open::Thinking) || !summary.is_empty() || !signature.is_empty() {
                    self.open(Open::Thinking, step);
                    if !summary.is_empty() {
                        step(Step::Thinking(&summary));
                    }
                    if !signature.is_empty() {
                        step(Step::Signature(signature));
                    }
                    self.stop(step);
                }
            }
            Piece::Thought(_) => {}
            Piece::ToolCall(call) => {
                self.stop(step);
                step(Step::Start(Block::ToolUse(call)));
                step(Step::Input(&call.arguments));
                step(Step::Stop);
            }
            Piece::Stopped(by) => self.stop_sequence = Some(by.clone()),
            Piece::Finish(finish) => {
                self.stop(step);
                self.finish = Some(*finish);
            }
        }
    }

    fn open(&mut self, block: Open, step: &mut impl FnMut(Step)) {
        if self.open == Some(block) {
            return;
        }
        self.stop(step);
        self.open = Some(block);
        step(Step::Start(match block {
            Open::Text => Block::Text,
            Open::Thinking => Block::Thinking,
        }));
    }

    fn stop(&mut self, step: &mut impl FnMut(Step)) {
        if self.open.take().is_some() {
            step(Step::Stop);
        }
    }
}
