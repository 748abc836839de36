//! The answer of one turn as it comes together: what Codex says in, events out, no waiting.
//!
//! ```text
//!   message -> assembler (what it means, pure) -> actions -> settlement (client, slot, stage)
//! ```
//! `guard` has the states that keep anything from being told out of order or twice.

mod assembler;
mod failed;
mod guard;
mod settlement;

use std::sync::Arc;
use std::time::Instant;

pub use assembler::TurnContext;
pub use settlement::{Settlement, Stage};

use super::past::Told;
use crate::engine::plan::Plan;
use crate::turn::{Failure, Outcome};
pub use assembler::Progress;
use assembler::{Action, Assembler};
use guard::Conversation;

/// The answer of one turn.
#[derive(Debug)]
pub struct Answer {
    assembler: Assembler,
    settlement: Settlement,
    plan: Plan,
    last_heard: Instant,
    /// What the client was told, where the thread may be kept.
    said: Option<Told>,
}

impl Answer {
    /// An answer of which nothing is there yet.
    pub fn new(settlement: Settlement, context: TurnContext, plan: Plan) -> Answer {
        Answer {
            assembler: Assembler::new(Arc::new(context)),
            settlement,
            plan,
            said: None,
            last_heard: Instant::now(),
        }
    }

    /// Forgets what another worker did for the turn, none of which is out.
    pub fn start_over(&mut self) {
        self.assembler = Assembler::new(Arc::clone(&self.assembler.context));
        self.settlement.start_over();
        self.said = None;
    }

    /// Its thread, with raw events or without, may be kept for the next turn of the conversation.
    pub fn may_rest(&mut self, raw: bool) {
        self.assembler.may_rest(raw);
        self.said.get_or_insert_default();
    }

    /// Its thread cannot be left at rest any more.
    pub fn spoil(&mut self) {
        self.assembler.spoil();
    }

    /// It is the answer of a thread that was kept, and left there. So many `messages` are put in besides.
    pub fn goes_on(&mut self, from: &Progress, messages: usize) {
        self.assembler.goes_on(from, messages);
        self.said.get_or_insert_default();
    }

    /// What was said, and where its thread is left, while [`Stage::Resting`].
    pub fn rested(&mut self) -> (Told, Progress) {
        (self.said.take().unwrap_or_default(), self.assembler.progress())
    }

    /// Takes the failure out of an answer that is [`Stage::Resting`] with one.
    pub fn rested_failure(&mut self) -> Option<Failure> {
        self.settlement.rested_failure()
    }

    /// How far the turn is.
    pub fn stage(&self) -> Stage {
        self.settlement.stage()
    }

    /// Whether anything of the answer, or of the reasoning before it, came.
    pub fn has_begun(&self) -> bool {
        self.settlement.has_begun()
    }

    /// When Codex last said anything about its thread.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// The thread is there; starting it was begun at `from`.
    pub fn thread_started(&mut self, from: Instant) {
        self.settlement.thread_started(from);
    }

    /// The turn, sent at `sent`, was accepted.
    pub fn accepted(&mut self, sent: Instant) {
        self.settlement.accepted(sent);
    }

    /// The turn goes by this id.
    pub fn called(&mut self, turn_id: &str) {
        self.assembler.called(turn_id);
    }

    /// Codex has the conversation: what it says from now on can be an answer to it.
    pub fn conversation_taken(&mut self) {
        self.assembler.conversation.taken();
    }

    /// Whether the turn began before Codex had the conversation, which is a failure.
    pub fn was_early(&self) -> bool {
        self.assembler.conversation == Conversation::Overtaken
    }

    /// A delta of an agent message: by far the most frequent of all.
    pub fn message_delta(&mut self, item_id: &str, delta: String) {
        self.last_heard = Instant::now();
        self.assembler.message_delta(item_id, delta);
        self.act();
    }

    /// Takes in any other notification about this thread. Unknown ones, and parts of known ones
    /// that cannot be read, change nothing.
    pub fn hear(&mut self, method: &str, params: &str) {
        self.last_heard = Instant::now();
        self.assembler.hear(method, params);
        self.act();
    }

    fn act(&mut self) {
        for action in self.assembler.actions() {
            match action {
                Action::Tell(event) => {
                    if let Some(said) = &mut self.said {
                        said.note(&event);
                    }
                    self.settlement.tell(event);
                }
                Action::Rest { outcome, held } => self.settlement.rest(outcome, held),
                Action::Stop(outcome) => self.settlement.stop(outcome),
                // Somebody has to look first what became of the login.
                Action::End(outcome @ Err(Failure::UpstreamAuth { .. } | Failure::LoginChanged)) => {
                    self.settlement.rest(outcome, false);
                }
                Action::End(outcome) => {
                    self.settlement.end(outcome.map_err(|why| failed::dated(why, &self.plan)));
                }
            }
        }
    }

    /// The turn has failed while Codex still works on it.
    pub fn fail(&mut self, failure: Failure) {
        self.settlement.stop(Err(failure));
    }

    /// Codex asks for the result of a call. False: not taken notice of, as the answer is over.
    pub fn asked_for(&mut self, call_id: &str, tool: &str, arguments: &str) -> bool {
        if self.stage() != Stage::Running {
            return false;
        }
        self.last_heard = Instant::now();
        self.assembler.asked_for(call_id, tool, arguments);
        self.settlement.wake();
        true
    }

    /// Whether there are calls, and nothing will tell when they are all.
    pub fn waits_for_more_calls(&self) -> bool {
        self.assembler.waits_for_more_calls()
    }

    /// No more calls are to come.
    pub fn calls_are_all(&mut self) {
        self.assembler.calls_are_all();
        self.act();
    }

    /// Nobody listens any more.
    pub fn abandon(&mut self) {
        self.settlement.abandon();
    }

    /// Nothing of the turn runs any more; `outcome` is reported unless one was already.
    pub fn over(&mut self, outcome: Outcome) {
        self.settlement.end(outcome);
    }
}

#[cfg(test)]
mod tests;
