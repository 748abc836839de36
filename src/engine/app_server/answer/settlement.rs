//! Where an answer goes and what it holds: the client's end of it, its slot, and how far it is.
//!
//! ```text
//!   Running --- the outcome is known before the end: calls collected,  ---> Unwanted
//!      |        client gone or slow, deadline, begun twice, cut             |
//!      +----------------- turn/completed, worker gone -----> Over <---------+
//!      +--- complete, and the thread may be kept; --> Resting -------------> Over
//!           or failed, and the cause is looked for
//! ```
//! The outcome is told when Running is left, or Resting. The slot is given back on Over, before the outcome if
//! that is still to come: whoever sees the end of a turn finds its place free.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::turn::{Event, Failure, NotTaken, Outcome, Phase, Sink, Slot};

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Codex works on it.
    Running,
    /// Its outcome is known and not told yet: its thread may be kept for the next turn, or what it failed
    /// of is looked into.
    Resting,
    /// Its outcome is told; Codex works on it and must be told to stop.
    Unwanted,
    /// Nothing of it runs any more.
    Over,
}

/// The slot and the listener of one turn.
#[derive(Debug)]
pub struct Settlement {
    pub(super) sink: Arc<Sink>,
    pub(super) slot: Option<Slot>,
    /// Told of each new stage.
    change: Arc<Notify>,
    stage: Stage,
    granted: Instant,
    accepted: Option<Instant>,
    /// Measured, and told with what is told next: alone it would wake the listener for nothing.
    measured: Vec<(Phase, Duration)>,
    /// Anything of the answer or its reasoning is out.
    begun: bool,
    /// The outcome, while [`Stage::Resting`].
    resting: Option<Outcome>,
}

impl Settlement {
    /// Of a turn whose slot was granted at `granted`. `change` is told of each new [`Stage`].
    pub fn new(sink: Arc<Sink>, slot: Slot, granted: Instant, change: Arc<Notify>) -> Settlement {
        Settlement {
            sink,
            slot: Some(slot),
            change,
            stage: Stage::Running,
            granted,
            accepted: None,
            measured: Vec::new(),
            begun: false,
            resting: None,
        }
    }

    /// How far the turn is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether anything of the answer, or of the reasoning before it, came.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Forgets what was measured on another worker.
    pub fn start_over(&mut self) {
        self.accepted = None;
        self.measured.clear();
    }

    /// The thread is there; starting it was begun at `from`.
    pub fn thread_started(&mut self, from: Instant) {
        self.measured.push((Phase::AppServerThreadStart, from.elapsed()));
    }

    /// The turn, sent at `sent`, was accepted.
    pub fn accepted(&mut self, sent: Instant) {
        self.accepted = Some(Instant::now());
        self.measured.push((Phase::AppServerTurnStart, sent.elapsed()));
    }

    /// Tells the client something, as long as it waits for more.
    pub fn tell(&mut self, event: Event) {
        if self.stage != Stage::Running {
            return;
        }
        if !self.begun {
            self.begun = true;
            let from = self.accepted.unwrap_or(self.granted);
            self.measured.push((Phase::AppServerFirstDelta, from.elapsed()));
        }
        self.tell_measured();
        match self.sink.push(Ok(event)) {
            Ok(()) => {}
            Err(NotTaken::TooSlow) => self.stop(Err(Failure::ClientTooSlow)),
            Err(NotTaken::Gone) => self.abandon(),
        }
    }

    /// The outcome is known while Codex still works on the turn.
    pub fn stop(&mut self, outcome: Outcome) {
        if self.stage == Stage::Running {
            self.tell_outcome(outcome);
            self.reach(Stage::Unwanted);
        }
    }

    /// The outcome is known, and something is to be done before it is told. Unless `held` open by Codex, nothing of the turn runs any more.
    pub fn rest(&mut self, outcome: Outcome, held: bool) {
        if self.stage == Stage::Running {
            self.resting = Some(outcome);
            self.reach(Stage::Resting);
        } else if !held {
            self.end(outcome);
        }
    }

    /// The failure with which it rests. What is told then is what [`Settlement::end`] is given.
    pub fn rested_failure(&mut self) -> Option<Failure> {
        self.resting.take_if(|outcome| outcome.is_err())?.err()
    }

    /// Nobody listens any more.
    pub fn abandon(&mut self) {
        if self.stage == Stage::Running {
            self.reach(Stage::Unwanted);
        }
    }

    /// Nothing of the turn runs any more; `outcome` is told unless one was already.
    pub fn end(&mut self, outcome: Outcome) {
        self.slot.take();
        match self.stage {
            Stage::Running => self.tell_outcome(outcome),
            Stage::Resting => {
                let outcome = self.resting.take().unwrap_or(outcome);
                self.tell_outcome(outcome);
            }
            Stage::Unwanted | Stage::Over => {}
        }
        if self.stage != Stage::Over {
            self.reach(Stage::Over);
        }
    }

    fn reach(&mut self, stage: Stage) {
        self.stage = stage;
        self.wake();
    }

    /// Has whoever waits for another stage look again.
    pub fn wake(&self) {
        self.change.notify_one();
    }

    fn tell_outcome(&mut self, outcome: Outcome) {
        if let Some(accepted) = self.accepted {
            self.measured.push((Phase::AppServerTurnComplete, accepted.elapsed()));
        }
        self.tell_measured();
        // Nobody there to hear the end: then it was over for them before.
        let _ = self.sink.push(outcome);
    }

    /// Without effect on the answer; whether anybody listens shows elsewhere.
    fn tell_measured(&mut self) {
        for (phase, took) in self.measured.drain(..) {
            let _ = self.sink.push(Ok(Event::Phase(phase, took)));
        }
    }
}
