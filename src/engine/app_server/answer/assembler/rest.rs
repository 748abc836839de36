//! Whether the thread of an answer may be kept for the next turn of its conversation, and where it is left.

use super::{Action, Assembler};
use crate::turn::{Event, Finish, Outcome, Usage};

/// Where a thread is left when it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The turn that waits for results of its calls, if one does.
    pub held: Option<String>,
    /// Whether it has raw events.
    pub raw: bool,
    /// The namespace that the model's calls have, where they have one.
    pub namespace: Option<String>,
    /// What was told of the thread's cost so far.
    pub accounted: Usage,
    /// Messages of the turn that waits.
    pub known: Vec<String>,
}

/// Whether the thread may be kept.
#[derive(Debug, Default)]
pub struct Rest {
    /// It shall be.
    pub wanted: bool,
    /// Responses themselves are told of, not only what they cost.
    pub raw: bool,
    /// Codex has something in its history that neither the caller sent nor the model said to it, or
    /// may have.
    pub spoilt: bool,
    /// Messages of the caller that are still to be repeated to us as of this turn.
    pub echoes: usize,
    /// How many requests to the upstream were answered, as far as told: with raw events at their
    /// ends, without when the calls in them are answered too.
    pub responses: usize,
    /// Where the thread was left before.
    pub from: Progress,
}

impl Assembler {
    /// The thread, with raw events or without, may be kept.
    pub fn may_rest(&mut self, raw: bool) {
        (self.rest.wanted, self.rest.raw) = (true, raw);
    }

    /// The thread has what the caller's conversation has not.
    pub fn spoil(&mut self) {
        self.rest.spoilt = true;
    }

    /// The thread was kept, and left there. So many `messages` are put in besides.
    pub fn goes_on(&mut self, from: &Progress, messages: usize) {
        self.turn_id.clone_from(&from.held);
        if from.held.is_some() {
            self.conversation.taken();
            // What is put in while a turn waits is repeated as its own.
            self.rest.echoes = messages;
        }
        self.may_rest(from.raw);
        self.rest.from = from.clone();
    }

    /// Where the thread is left.
    pub fn progress(&self) -> Progress {
        let mut accounted = self.rest.from.accounted;
        accounted += self.usage().unwrap_or_default();
        let called = self.finish == Some(Finish::ToolCalls);
        let messages = self.messages.iter().map(|message| message.id.clone());
        let known = self.rest.from.known.iter().cloned().chain(messages);
        Progress {
            held: self.turn_id.clone().filter(|_| called),
            raw: self.rest.raw,
            namespace: self.namespace.clone().or_else(|| self.rest.from.namespace.clone()),
            accounted,
            known: if called { known.collect() } else { Vec::new() },
        }
    }

    /// A complete answer. More than one request to the upstream means that Codex answered the model
    /// by itself in between.
    pub(super) fn complete(&mut self, finish: Finish) -> Option<Outcome> {
        self.finish = Some(finish);
        let called_before = !self.rest.raw && self.rest.from.held.is_some();
        let this = self.rest.raw || finish != Finish::ToolCalls;
        let own = usize::from(called_before) + usize::from(this);
        let rests = self.rest.wanted && !self.rest.spoilt && self.rest.responses <= own;
        let outcome = Ok(Event::Done { finish, usage: self.usage() });
        if !rests {
            return Some(outcome);
        }
        self.actions.push(Action::Rest { outcome, held: finish == Finish::ToolCalls });
        None
    }
}

/// What is above what was told before.
pub fn less(all: Usage, before: Usage) -> Usage {
    Usage {
        input: all.input.saturating_sub(before.input),
        cached_input: all.cached_input.saturating_sub(before.cached_input),
        output: all.output.saturating_sub(before.output),
        reasoning_output: all.reasoning_output.saturating_sub(before.reasoning_output),
    }
}
