//! The keeper of one seat: starts its worker, watches it, replaces it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::source::is_about_login;
use super::{Seat, Shared};
use crate::codex::Installation;
use crate::engine::app_server::Timing;
use crate::engine::app_server::rpc::Vital;
use crate::engine::app_server::worker::{Worker, lock};
use crate::os::process::resident_bytes;
use crate::turn::Failure;

/// By how much a worker may grow beyond what it had when it was ready, in bytes. Under mixed traffic
/// one of Codex 0.169 grows by some 100 MB an hour.
const MOST_GROWTH: u64 = 512 << 20;

/// How many turns a worker is given: what grows with each of them in its memory and on the disk stays
/// small, and its start is a small part of what they cost.
const MOST_TURNS: usize = 1000;

/// The longest pause after a worker that could be started, but died soon.
const LONGEST_AFTER_DEATH: Duration = Duration::from_secs(2);

impl Shared {
    /// Keeps one seat taken until it is not wanted any more.
    pub(super) async fn keep(self: Arc<Self>, index: usize) {
        let mut pause = Pause::new(self.timing);
        let mut reloads = self.reloads.subscribe();
        while index < self.wanted() {
            let started = tokio::select! {
                started = self.start_worker() => started,
                () = self.unwanted(index, &mut reloads) => break,
            };
            let (seat, wait, keeps_old) = match started {
                Ok(worker) => {
                    *lock(&self.told) = None;
                    if let Some(Seat::Ready(old)) = self.seat(index, Seat::Ready(Arc::clone(&worker))) {
                        self.retire(old);
                    }
                    let next = self.watch(&worker, index).await;
                    self.parked.leave_worker(&worker);
                    match next {
                        Next::Replace => continue,
                        Next::Leave => break,
                        Next::LoggedOut(why) => (Seat::failed(why), pause.next(), false),
                        Next::Died(why) => {
                            tracing::warn!(pid = worker.pid, "a codex worker ended: {why}");
                            if worker.since.elapsed() >= self.timing.settled {
                                pause = Pause::new(self.timing);
                            }
                            // It could be started; whoever comes now waits for the next one.
                            (Seat::Starting, pause.next().min(LONGEST_AFTER_DEATH), true)
                        }
                    }
                }
                Err(why) => {
                    // Once for all seats, not at every try.
                    if lock(&self.told).replace(why.clone()).as_ref() != Some(&why) {
                        tracing::warn!("a codex worker did not start: {why}");
                    }
                    let keeps_old = !is_about_login(&why);
                    (Seat::failed(why), pause.next(), keeps_old)
                }
            };
            let again = match &seat {
                Seat::Failed { again, .. } => Arc::clone(again),
                _ => Arc::default(),
            };
            // A worker out of date still does its work while its replacement fails to start; not with a
            // login that was given up.
            if !(keeps_old && self.has_useful(index))
                && let Some(Seat::Ready(old)) = self.seat(index, seat)
            {
                self.retire(old);
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = again.notified() => {}
                () = self.unwanted(index, &mut reloads) => break,
            }
        }
        if let Some(Seat::Ready(worker)) = self.seat(index, Seat::Vacant) {
            self.retire(worker);
        }
        // Wanted again meanwhile?
        self.fill_seats();
    }

    /// Resolves when the seat is one too many, or the pool closes.
    async fn unwanted(&self, index: usize, reloads: &mut watch::Receiver<u64>) {
        // The sender lives as long as we do.
        let _ = reloads.wait_for(|_| index >= self.wanted()).await;
    }

    fn has_useful(&self, index: usize) -> bool {
        matches!(lock(&self.seats).get(index), Some(Seat::Ready(worker)) if worker.takes_turns())
    }

    async fn start_worker(&self) -> Result<Arc<Worker>, Failure> {
        let _alone = self.gate.lock().await;
        let worker = self.source.start(self.timing, self.plan.clone()).await?;
        tracing::info!(pid = worker.pid, took = ?worker.since.elapsed(), "a codex worker is ready");
        Ok(worker)
    }

    /// Watches a worker until something has to be done.
    async fn watch(&self, worker: &Worker, index: usize) -> Next {
        let mut latest = self.source.latest.clone();
        let mut reloads = self.reloads.subscribe();
        let outdated = |latest: &Option<Arc<Installation>>| {
            latest.as_ref().is_some_and(|latest| !Arc::ptr_eq(latest, &worker.installation))
        };
        let another = async {
            if latest.wait_for(outdated).await.is_err() {
                // Nobody surveys any more: the pool is about to close.
                std::future::pending::<()>().await;
            }
        };
        let mut login = self.source.logged_out.clone();
        let logged_out = async {
            let why = login.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
            match why {
                Some(why) => why,
                // Nobody surveys any more.
                None => std::future::pending().await,
            }
        };
        let at_first = worker.pid.and_then(resident_bytes);
        let worn = async {
            loop {
                tokio::select! {
                    () = worker.used() => {}
                    // Who logs in while nobody asks anything is served by a worker of the new login.
                    () = sleep(self.timing.look) => (self.source.look_again)(),
                }
                if let Some(how) = wear(worker, at_first).await {
                    return how;
                }
            }
        };
        let unfit = async {
            loop {
                match worker.check_doubt().await {
                    Vital::Well => self.changed(),
                    Vital::Overdue => return,
                    // Its end is near, and is heard of.
                    Vital::Mute => {}
                }
            }
        };
        tokio::select! {
            exit = worker.wait_exited() => Next::Died(exit.failure),
            () = self.unwanted(index, &mut reloads) => Next::Leave,
            () = another => {
                tracing::info!(pid = worker.pid, "a codex worker is replaced: settings, program or login changed");
                Next::Replace
            }
            why = logged_out => {
                tracing::info!(pid = worker.pid, "a codex worker gets no more turns: {why}");
                Next::LoggedOut(why)
            }
            () = unfit => {
                tracing::warn!(pid = worker.pid, "a codex worker is replaced: it does not answer all that it is asked");
                Next::Replace
            }
            how = worn => {
                tracing::info!(pid = worker.pid, turns = worker.turns(), "a codex worker is replaced: {how}");
                Next::Replace
            }
        }
    }

    /// Lets a worker that is not wanted any more finish what it has, unless the pool closes.
    fn retire(&self, worker: Arc<Worker>) {
        let changes = self.changes.subscribe();
        let mut closing = self.closing.subscribe();
        self.tasks.spawn(async move {
            let closed = async { drop(closing.wait_for(|closing| *closing).await) };
            tokio::select! {
                () = worker.retire(changes) => {}
                () = closed => worker.fail(Failure::Draining),
            }
            drop(worker.wait_exited().await);
        });
    }
}

/// How a worker is worn, if it is to be replaced for that.
async fn wear(worker: &Worker, at_first: Option<u64>) -> Option<&'static str> {
    if worker.turns() >= MOST_TURNS {
        return Some("it has had its turns");
    }
    if let (Some(first), Some(now)) = (at_first, worker.pid.and_then(resident_bytes))
        && now.saturating_sub(first) > MOST_GROWTH
    {
        return Some("its memory has grown");
    }
    let databases = worker.databases.clone()?;
    let full = tokio::task::spawn_blocking(move || databases.are_full()).await;
    full.is_ok_and(|full| full).then_some("its log has grown")
}

/// What becomes of a watched worker.
enum Next {
    /// It ended.
    Died(Failure),
    /// Another one is to take its seat.
    Replace,
    /// Its login is none any more.
    LoggedOut(Failure),
    /// Its seat is not wanted any more.
    Leave,
}

/// Pauses between attempts: doubling, with jitter.
pub(super) struct Pause {
    timing: Timing,
    attempts: u32,
}

impl Pause {
    pub(super) fn new(timing: Timing) -> Pause {
        Pause { timing, attempts: 0 }
    }

    pub(super) fn next(&mut self) -> Duration {
        let doubled = self.timing.first_pause.saturating_mul(1 << self.attempts.min(16));
        self.attempts += 1;
        // Randomly seeded by the standard library; a quarter up or down.
        let dice = RandomState::new().hash_one(self.attempts) % 1000;
        doubled.min(self.timing.longest_pause).mul_f64(0.75 + dice as f64 / 2000.0)
    }
}
