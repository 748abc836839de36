//! The turns of one request: queued together, begun as slots come free, heard together.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::running::Entered;
use crate::observe::Trace;
use crate::turn::{Event, Events, Failure, Outcome, Phase, Turn};

/// `n` turns of one request. Dropping it leaves the queue and interrupts whatever runs.
pub struct Turns {
    /// What was asked.
    turn: Turn,
    runs: Vec<Run>,
    joined: Instant,
    /// When the queue last moved for this request: a slot was granted or one of its turns ended.
    moved: Instant,
    queue_timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// The end of the drain: whatever still runs is cut.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Where to listen first, so that no turn starves the others.
    first: usize,
    /// What a turn's time, slot granted to answer known, counts as.
    phase: Phase,
    /// Where people see it, and can end it.
    entered: Entered,
    /// The latency record of the request.
    pub trace: Trace,
}

/// What ends a request from outside.
pub struct Ends {
    /// How long its turns may wait for slots.
    pub queue_timeout: Duration,
    /// The end of the drain.
    pub cut: CancellationToken,
    /// Where people see it, and can end it.
    pub entered: Entered,
}

/// One of them.
pub enum Run {
    /// Begins when its slot comes. Dropping it leaves the queue.
    Waiting(Pin<Box<dyn Future<Output = Result<Events, Failure>> + Send + Sync>>),
    /// Has its slot.
    Running {
        /// What it reports.
        events: Events,
        /// Since when.
        granted: Instant,
    },
    /// Ended.
    Over,
}

impl Turns {
    /// Listens to `runs` of `turn`, which joined the queue at `joined`.
    pub fn new(
        turn: Turn,
        runs: Vec<Run>,
        joined: Instant,
        ends: Ends,
        phase: Phase,
        mut trace: Trace,
    ) -> Turns {
        let Ends { queue_timeout, cut, entered } = ends;
        for run in &runs {
            if let Run::Running { granted, .. } = run {
                trace.phase(Phase::QueueWait, granted.saturating_duration_since(joined));
                entered.begins();
            }
        }
        Turns {
            turn,
            runs,
            joined,
            moved: Instant::now(),
            queue_timeout,
            timer: Box::pin(tokio::time::sleep(queue_timeout)),
            cut: Box::pin(cut.cancelled_owned()),
            first: 0,
            phase,
            entered,
            trace,
        }
    }

    /// When waiting must end: never while one of the request's own turns runs, because then the
    /// request is being served and its other turns wait for that one.
    fn queue_deadline(&self) -> Option<Instant> {
        let runs = || self.runs.iter();
        let waiting = runs().any(|run| matches!(run, Run::Waiting(_)));
        let running = runs().any(|run| matches!(run, Run::Running { .. }));
        (waiting && !running).then(|| self.moved + self.queue_timeout)
    }

    /// The next thing any of the turns has to say, with the turn's index. `None` once all are
    /// over. After an error the others are interrupted and only `None` follows.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Outcome)>> {
        let count = self.runs.len();
        if self.entered.is_interrupted() {
            return Poll::Ready(self.fail(0, Failure::Interrupted));
        }
        loop {
            let mut granted = false;
            for offset in 0..count {
                let index = (self.first + offset) % count;
                match &mut self.runs[index] {
                    Run::Over => {}
                    Run::Waiting(begin) => match begin.as_mut().poll(cx) {
                        Poll::Pending => {}
                        Poll::Ready(Err(failure)) => return Poll::Ready(self.fail(index, failure)),
                        Poll::Ready(Ok(events)) => {
                            self.moved = Instant::now();
                            self.trace.phase(Phase::QueueWait, self.moved - self.joined);
                            self.runs[index] = Run::Running { events, granted: self.moved };
                            self.entered.begins();
                            granted = true;
                        }
                    },
                    Run::Running { events, .. } => {
                        if let Poll::Ready(Some(item)) = events.poll_next(cx) {
                            self.first = (index + 1) % count;
                            return Poll::Ready(self.heard(index, item));
                        }
                    }
                }
            }
            if self.runs.iter().all(|run| matches!(run, Run::Over)) {
                // Who was told that the request is interrupted was told the truth.
                let interrupted = self.entered.over();
                return Poll::Ready(interrupted.then_some((0, Err(Failure::Interrupted))));
            }
            // A turn that has just begun was not listened to yet.
            if !granted {
                return self.poll_ends(cx);
            }
        }
    }

    /// What ends a request from outside: somebody, the drain's deadline, or too long a queue.
    fn poll_ends(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Outcome)>> {
        self.entered.wake(cx);
        if self.entered.is_interrupted() {
            return Poll::Ready(self.fail(0, Failure::Interrupted));
        }
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.fail(0, Failure::Draining));
        }
        let Some(deadline) = self.queue_deadline().map(tokio::time::Instant::from_std) else {
            return Poll::Pending;
        };
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(self.fail(0, Failure::QueueTimeout { after: self.queue_timeout }))
    }

    fn heard(&mut self, index: usize, item: Outcome) -> Option<(usize, Outcome)> {
        let now = Instant::now();
        self.trace.see(&item, now);
        match item {
            Err(failure) => {
                let failure = failure.shown_to(&self.turn);
                self.over(index, !failure.may_have_cost());
                return self.fail(index, failure);
            }
            Ok(Event::Done { usage, .. }) => self.over(index, usage.is_some()),
            Ok(Event::Text(ref text)) => self.entered.said(text),
            Ok(Event::ToolCall(ref call)) => self.entered.said(&call.arguments),
            Ok(_) => {}
        }
        Some((index, item))
    }

    /// Ends one turn: leaves the queue, or interrupts it.
    pub fn end(&mut self, index: usize) {
        self.over(index, false);
    }

    /// One turn is over, and `told` whether what it cost is known.
    fn over(&mut self, index: usize, told: bool) {
        self.moved = Instant::now();
        if let Run::Running { granted, .. } = std::mem::replace(&mut self.runs[index], Run::Over) {
            self.trace.phase(self.phase, granted.elapsed());
            if !told {
                self.trace.cost_unknown();
            }
        }
    }

    /// The first failure cancels the rest and is the answer.
    fn fail(&mut self, index: usize, failure: Failure) -> Option<(usize, Outcome)> {
        self.end_all();
        // Whatever it fails of, it has failed: an interruption would change nothing.
        self.entered.over();
        Some((index, Err(failure)))
    }

    /// Ends every turn: leaves the queue, interrupts what runs.
    pub fn end_all(&mut self) {
        (0..self.runs.len()).for_each(|index| self.end(index));
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        // Before the trace is dropped and writes its line.
        self.end_all();
    }
}
