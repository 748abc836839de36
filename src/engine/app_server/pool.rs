//! The workers: so many seats, one keeper each.
//!
//! ```text
//!             +------------- pause (doubling, jittered) <-----------+
//!             v                                                      |
//!   Starting --> Ready --(another installation, worn)-------> its replacement starts beside it,
//!      |           |                                          takes its seat; it ends when idle
//!      |           +--(died, hung)--> Starting
//!      |           +--(logged out)--> Failed
//!      +--(failed)--> Failed --(a request, or the pause is over)--> Starting
//! ```
//! Workers start one at a time: a refresh token can be used once.

mod keeper;
mod parked;
mod sessions;
mod source;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::answer::{Answer, Settlement, TurnContext};
use super::features::Features;
use super::tool_names::{Names, Taken};
use super::turn::{Ended, Run};
use super::worker::{Worker, lock};
use super::{Status, Timing};
use crate::codex::Codex;
use crate::config::{Config, Live, Profile};
use crate::engine::plan::Plan;
use crate::turn::{Events, Failure, Slot, Turn, backlogged_events};
use source::Source;

pub use parked::{Kept, Parked};
pub use sessions::Session;
pub(in crate::engine) use source::ask_plan;
pub use source::examine;

/// How long a failure to start is believed before a request has it tried again.
const FAILURE_LASTS: Duration = Duration::from_secs(1);

/// How many workers a turn is given to, as long as nothing of it can have gone upstream.
const TRIES: usize = 2;

/// How often turns have the CLI's files looked at.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// Keeps workers and gives them turns.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    live: Live,
    source: Source,
    timing: Timing,
    seats: Mutex<Vec<Seat>>,
    /// Counts changes of seats and loads, for those who wait for one.
    changes: watch::Sender<u64>,
    /// Held while a worker starts.
    gate: tokio::sync::Mutex<()>,
    /// Counts reloads, for keepers whose seat may be one too many.
    reloads: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    /// Why no worker could be started, as it was logged last.
    told: Mutex<Option<Failure>>,
    /// When the CLI was last looked at on behalf of a turn.
    looked: Mutex<Instant>,
    /// What the account has left.
    plan: Plan,
    /// Threads between two turns.
    parked: Arc<Parked>,
    /// Keepers, retiring workers and turns.
    tasks: TaskTracker,
}

enum Seat {
    /// Not wanted; nobody keeps it.
    Vacant,
    Starting,
    Ready(Arc<Worker>),
    Failed {
        why: Failure,
        at: Instant,
        again: Arc<Notify>,
    },
}

impl Seat {
    fn failed(why: Failure) -> Seat {
        Seat::Failed { why, at: Instant::now(), again: Arc::default() }
    }
}

impl Pool {
    /// Starts the workers in the background.
    pub fn start(live: Live, codex: Codex, plan: Plan) -> Pool {
        Pool::over(live, Source::of(codex), Timing::default(), plan)
    }

    fn over(live: Live, source: Source, timing: Timing, plan: Plan) -> Pool {
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            live,
            source,
            timing,
            seats: Mutex::default(),
            changes: watch::Sender::new(0),
            gate: tokio::sync::Mutex::default(),
            reloads: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            told: Mutex::default(),
            looked: Mutex::new(Instant::now()),
            plan,
            parked: Arc::new(Parked::new(tasks.clone())),
            tasks,
        });
        shared.fill_seats();
        let (parked, closing) = (Arc::clone(&shared.parked), shared.closing.subscribe());
        shared.tasks.spawn(async move { parked.tend(closing).await });
        Pool { shared }
    }

    /// Runs a turn; see [`crate::engine::Engine::run`].
    pub fn run(&self, turn: Turn, slot: Slot) -> Events {
        let granted = Instant::now();
        let config = self.shared.live.get();
        let (sink, events) = backlogged_events();
        let sink = Arc::new(sink);
        let names = Arc::new(Names::new(&turn.tools, &turn.conversation, Taken::of(&config)));
        let context = TurnContext {
            tools: Arc::clone(&turn.tools),
            want_encrypted: turn.want_encrypted,
            names: Arc::clone(&names),
            model: turn.model.clone().or_else(|| config.model.clone()),
            lean: config.profile() == Profile::Model,
        };
        let change = Arc::new(Notify::new());
        let settlement = Settlement::new(Arc::clone(&sink), slot, granted, Arc::clone(&change));
        let answer = Answer::new(settlement, context, self.shared.plan.clone());
        let answer = Arc::new(Mutex::new(answer));
        let parked = Arc::clone(&self.shared.parked);
        let conversation = OnceLock::new();
        let (login_changed, namespace) = (AtomicBool::new(false), OnceLock::new());
        let run = Run {
            turn,
            names,
            config,
            answer,
            change,
            sink,
            granted,
            parked,
            login_changed,
            conversation,
            namespace,
        };
        let shared = Arc::clone(&self.shared);
        // In a box: on its way to the runtime it would be copied several times.
        self.shared.tasks.spawn(Box::pin(async move { shared.serve(run).await }));
        events
    }

    /// Lets go of the longest unused of the kept threads, with the memory of its conversation. Whether
    /// there was one.
    pub fn give_way(&self) -> bool {
        self.shared.parked.give_way()
    }

    /// Brings the workers in line with changed settings, as they fall idle.
    pub fn reload(&self) {
        (self.shared.source.look_again)();
        self.shared.parked.leave_all();
        self.shared.fill_seats();
        self.shared.reloads.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The state of the pool.
    pub fn status(&self) -> Status {
        let mut status = Status { ready: 0, total: self.shared.wanted(), reason: None, functions: None };
        for seat in lock(&self.shared.seats).iter() {
            match seat {
                Seat::Vacant | Seat::Starting => {}
                Seat::Ready(worker) => {
                    status.ready += usize::from(worker.takes_turns());
                    let lack = worker.features().and_then(Features::no_functions);
                    let reason = || worker.installation.functions.reason().map(str::to_owned);
                    status.functions = lack.or_else(reason);
                }
                Seat::Failed { why, .. } => status.reason = Some(why.clone()),
            }
        }
        status
    }

    /// Marked changed whenever [`Pool::status`] may have.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// How many threads are kept for the next request of their conversations.
    pub fn parked(&self) -> usize {
        self.shared.parked.len()
    }

    /// Somebody looks at the account's plan: a worker is asked for it, if that is due.
    pub fn look_at_plan(&self) {
        let latest = self.shared.source.latest.borrow().clone();
        let Some(latest) = latest.filter(|_| !self.shared.is_closing()) else { return };
        let worker = lock(&self.shared.seats).iter().find_map(|seat| match seat {
            Seat::Ready(worker) if worker.takes_turns() && Arc::ptr_eq(&worker.installation, &latest) => {
                Some(Arc::clone(worker))
            }
            _ => None,
        });
        if let Some(worker) = worker
            && let Some(asking) = self.shared.plan.look(&latest)
        {
            // Ends with its worker.
            self.shared.tasks.spawn(async move { source::ask(&worker, &asking).await });
        }
    }

    /// Ends all turns and workers; returns when no process is left.
    pub async fn shutdown(&self) {
        self.shared.closing.send_replace(true);
        self.shared.reloads.send_modify(|count| *count = count.wrapping_add(1));
        self.shared.changed();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// A place on a worker, given back when dropped.
struct Place {
    worker: Arc<Worker>,
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.load.fetch_sub(1, Ordering::Relaxed);
        self.shared.changed();
    }
}

impl Shared {
    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Has the CLI looked at now and then while it is used, so that a new login or program is seen.
    fn look_sometimes(&self) {
        let mut looked = lock(&self.looked);
        if looked.elapsed() > LOOK_AFTER {
            *looked = Instant::now();
            (self.source.look_again)();
        }
    }

    async fn serve(self: Arc<Self>, run: Run) {
        self.look_sometimes();
        let given_up = || Failure::codex_failed("given up before it began");
        let mut tries = 1;
        let mut kept = self.parked.take(&run.turn);
        let mut parked = None;
        let release = loop {
            if let Some((kept, at)) = kept.take() {
                let place = self.place_beside(&kept.worker);
                let Some(place) = place else {
                    self.parked.give_up([kept]);
                    continue;
                };
                match run.go_on(kept, at).await {
                    Ended::Over(thread) => {
                        break thread.map(|thread| (Arc::clone(&place.worker), thread));
                    }
                    Ended::Kept(number) => {
                        parked = Some(number);
                        break None;
                    }
                    Ended::Unsent(failure) => {
                        tracing::info!(cause = ?failure, "a kept thread was of no use; the turn begins a new one");
                        lock(&run.answer).start_over();
                        continue;
                    }
                }
            }
            let place = tokio::select! {
                place = self.place(&run.config) => place,
                // The outcome of a turn that was given up is told already.
                _ = run.given_up() => Err(given_up()),
            };
            let failure = match place {
                Ok(place) => match run.on(&place.worker).await {
                    Ended::Over(thread) => {
                        break thread.map(|thread| (Arc::clone(&place.worker), thread));
                    }
                    Ended::Kept(number) => {
                        parked = Some(number);
                        break None;
                    }
                    Ended::Unsent(failure) => failure,
                },
                Err(failure) => {
                    lock(&run.answer).over(Err(failure));
                    break None;
                }
            };
            if tries == TRIES || self.is_closing() {
                lock(&run.answer).over(Err(failure));
                break None;
            }
            tries += 1;
            tracing::info!(cause = ?failure, "a turn that its worker had not begun is given to another one");
            lock(&run.answer).start_over();
        };
        if run.login_changed.load(Ordering::Relaxed) {
            (self.source.look_again)();
        }
        if let Some(number) = parked {
            let mut closing = self.closing.subscribe();
            tokio::select! {
                () = run.sink.closed() => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
            if !run.sink.is_read() {
                self.parked.leave(number);
            }
        }
        drop(run);
        if let Some((worker, thread)) = release {
            Run::release(&worker, &thread).await;
        }
    }

    /// A place for a turn that goes on where a thread of this worker was left, beyond those there are
    /// if need be: turns are bounded by their slots.
    fn place_beside(self: &Arc<Self>, worker: &Arc<Worker>) -> Option<Place> {
        let there = !self.is_closing() && worker.keeps_threads() && worker.take_place(usize::MAX);
        there.then(|| Place { worker: Arc::clone(worker), shared: Arc::clone(self) })
    }

    /// A place on the least busy worker, waiting while one starts.
    async fn place(self: &Arc<Self>, config: &Config) -> Result<Place, Failure> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if self.is_closing() {
                return Err(Failure::Draining);
            }
            if let Some(place) = self.look_for_place(config.turns_per_worker)? {
                return Ok(place);
            }
            if changes.changed().await.is_err() {
                return Err(Failure::Draining);
            }
        }
    }

    /// `None`: one may come free.
    fn look_for_place(self: &Arc<Self>, places: usize) -> Result<Option<Place>, Failure> {
        let mut seats = lock(&self.seats);
        let ready = |seat: &Seat| match seat {
            Seat::Ready(worker) => Some(Arc::clone(worker)),
            Seat::Vacant | Seat::Starting | Seat::Failed { .. } => None,
        };
        let mut workers: Vec<Arc<Worker>> = seats.iter().filter_map(ready).collect();
        workers.sort_by_key(|worker| worker.load.load(Ordering::Relaxed));
        if let Some(worker) = workers.into_iter().find(|worker| worker.take_place(places)) {
            return Ok(Some(Place { worker, shared: Arc::clone(self) }));
        }
        let mut failure = None;
        for seat in seats.iter_mut() {
            match seat {
                Seat::Vacant => {}
                Seat::Starting | Seat::Ready(_) => return Ok(None),
                Seat::Failed { why, at, .. } if at.elapsed() < FAILURE_LASTS => failure = Some(why.clone()),
                Seat::Failed { again, .. } => {
                    // What was missing may be there now.
                    again.notify_one();
                    *seat = Seat::Starting;
                    return Ok(None);
                }
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// As many keepers as the settings want. Seats beyond become vacant by themselves.
    fn fill_seats(self: &Arc<Self>) {
        let mut seats = lock(&self.seats);
        for index in 0..self.wanted().max(seats.len()) {
            if index == seats.len() {
                seats.push(Seat::Vacant);
            }
            if index < self.wanted() && matches!(seats[index], Seat::Vacant) {
                seats[index] = Seat::Starting;
                let shared = Arc::clone(self);
                self.tasks.spawn(async move { shared.keep(index).await });
            }
        }
    }

    fn wanted(&self) -> usize {
        if self.is_closing() { 0 } else { self.live.get().workers.max(1) }
    }

    /// Puts something on a seat and gives what was there.
    fn seat(&self, index: usize, seat: Seat) -> Option<Seat> {
        let before = lock(&self.seats).get_mut(index).map(|place| std::mem::replace(place, seat));
        self.changed();
        before
    }
}

#[cfg(test)]
mod tests;
