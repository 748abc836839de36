//! The threads that are kept for the next turn of their conversations, and their release.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::de::IgnoredAny;
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;
use tokio_util::task::TaskTracker;

use super::sessions::Sessions;

use crate::config::Config;
use crate::engine::app_server::answer::Progress;
use crate::engine::app_server::parking::{Limits, Parking};
use crate::engine::app_server::past::Past;
use crate::engine::app_server::rpc::RpcError;
use crate::engine::app_server::turn::Run;
use crate::engine::app_server::wire::TurnInterrupt;
use crate::engine::app_server::worker::{Worker, lock};
use crate::turn::{Identity, Turn};

/// How much text the kept conversations may have together.
const BYTES: usize = 64 << 20;

/// A thread that is kept.
#[derive(Debug)]
pub struct Kept {
    /// Whose it is.
    pub worker: Arc<Worker>,
    /// Its id.
    pub thread: String,
    /// Where it was left.
    pub progress: Progress,
    /// Which conversation it is of, where that matters.
    pub conversation: Option<Identity>,
}

/// All of them.
#[derive(Debug)]
pub struct Parked {
    parking: Mutex<Parking<Kept>>,
    sessions: Mutex<Sessions>,
    changed: Notify,
    /// Where releases run.
    tasks: TaskTracker,
}

impl Parked {
    /// None yet. Releases run among `tasks`.
    pub fn new(tasks: TaskTracker) -> Parked {
        Parked { parking: Mutex::default(), sessions: Mutex::default(), changed: Notify::new(), tasks }
    }

    /// Keeps a thread, if there is room. Gives its number.
    pub fn park(&self, past: Past, kept: Kept, config: &Config) -> u64 {
        if let Some(conversation) = kept.conversation {
            let _ = self.session(conversation);
        }
        let limits = Limits { most: config.parked_conversations, lasts: config.parked_seconds, bytes: BYTES };
        let (number, gone) = {
            let mut parking = lock(&self.parking);
            // Looked at under the lock: whoever replaces the worker lets its threads go after that.
            if kept.worker.keeps_threads() {
                parking.park(past, kept, limits, Instant::now())
            } else {
                (0, vec![kept])
            }
        };
        self.give_up(gone);
        self.changed.notify_one();
        number
    }

    /// A conversation was begun in the session of this thread.
    pub fn begun(&self, conversation: Identity, thread: &str) {
        lock(&self.sessions).note(conversation, thread, Instant::now());
    }

    /// The session id of a conversation, if the upstream may still have something of it.
    pub fn session(&self, conversation: Identity) -> Option<String> {
        lock(&self.sessions).used(conversation, Instant::now())
    }

    /// The thread that a turn goes on from, and the item at which it does.
    pub fn take(&self, turn: &Turn) -> Option<(Kept, usize)> {
        lock(&self.parking).take(turn, Instant::now())
    }

    /// Lets go of one.
    pub fn leave(&self, number: u64) {
        let gone = lock(&self.parking).remove(|at, _| at == number);
        self.give_up(gone);
    }

    /// Lets go of those of one worker, which keeps none any more.
    pub fn leave_worker(&self, worker: &Arc<Worker>) {
        worker.keep_no_threads();
        let gone = lock(&self.parking).remove(|_, kept| Arc::ptr_eq(&kept.worker, worker));
        self.give_up(gone);
    }

    /// Lets go of the longest unused one, for its memory is wanted. Whether there was one.
    pub fn give_way(&self) -> bool {
        let gone = lock(&self.parking).remove_first();
        let any = gone.is_some();
        self.give_up(gone);
        any
    }

    /// Lets go of all.
    pub fn leave_all(&self) {
        let gone = lock(&self.parking).remove(|_, _| true);
        self.give_up(gone);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        lock(&self.parking).len()
    }

    /// Releases threads that nobody goes on from. What they wait for is interrupted first, for
    /// else the model would be asked about it.
    pub fn give_up(&self, threads: impl IntoIterator<Item = Kept>) {
        for Kept { worker, thread, progress, conversation: _ } in threads {
            self.tasks.spawn(async move {
                if let Some(turn_id) = &progress.held {
                    let params = TurnInterrupt { thread_id: &thread, turn_id };
                    let done: Result<IgnoredAny, RpcError> = worker.call("turn/interrupt", &params).await;
                    if let Err(error) = done {
                        tracing::debug!(%error, "a kept turn was not interrupted");
                    }
                }
                worker.detach(&thread);
                if worker.is_alive() {
                    Run::release(&worker, &thread).await;
                }
            });
        }
    }

    /// Lets go of what is kept too long, until the pool closes; then of all.
    pub async fn tend(&self, mut closing: watch::Receiver<bool>) {
        loop {
            let next = lock(&self.parking).next_end();
            let due = async {
                match next {
                    Some(next) => sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
                _ = closing.wait_for(|closing| *closing) => break,
            }
            let gone = lock(&self.parking).expired(Instant::now());
            self.give_up(gone);
        }
        self.leave_all();
    }
}
