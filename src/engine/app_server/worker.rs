//! One `codex app-server` process: its handshake, its threads, its end.
//!
//! ```text
//!   start: pipes up -> initialize -> features, login -> ready
//!   ready: lines -> the answer of the thread they name     (never waiting for any of them)
//!   doubt: a deadline missed -> no new turns -> a sign of life, or its end
//!   end:   EOF, exit, broken output, failed -> process reaped -> whoever waits is told
//! ```

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use super::answer::Answer;
use super::features::Features;
use super::rpc::{self, OnReply, Rpc, RpcError, Sent, Vital, place};
use super::threads::{LateCall, OpenCall, Threads};
use super::wire::{
    self, AuthStatus, GetAuthStatus, Initialize, Initialized, InjectItems, RateLimits, RateLimitsNotification,
};
use super::{Link, Timing};
use crate::codex::{Continuation, Databases, Installation, Login};
use crate::engine::plan::Plan;
use crate::process::Child;
use crate::turn::Failure;

mod life;

/// After so many turns its size is looked at.
const LOOK_AFTER: usize = 64;

/// Asks for the result of a function.
const TOOL_CALL: &str = "item/tool/call";

/// A worker that is or was ready.
#[derive(Debug)]
pub struct Worker {
    /// What it was started from: another one in force means it is to be replaced.
    pub installation: Arc<Installation>,
    /// Its deadlines.
    pub timing: Timing,
    /// When it was started.
    pub since: Instant,
    /// The process id; `None` in tests.
    pub pid: Option<u32>,
    /// The turns it has now.
    pub load: AtomicUsize,
    /// What it has to itself in the state folder.
    pub databases: Option<Arc<Databases>>,
    /// It was seen to begin a turn before it had taken the conversation sent ahead of it.
    pub overtakes: AtomicBool,
    turns: AtomicUsize,
    used: Notify,
    rpc: Rpc,
    features: OnceLock<Features>,
    threads: Mutex<Threads>,
    /// Whether its threads may be kept for later turns.
    keeps: AtomicBool,
    warm: Mutex<Vec<String>>,
    warming: tokio::sync::Mutex<()>,
    plan: Plan,
    /// Why it must end, once somebody decided that.
    stop_reason: watch::Sender<Option<Failure>>,
    /// It missed a deadline and gets no turns until it has shown that it lives.
    doubtful: AtomicBool,
    doubts: Notify,
    /// How it ended, once it has.
    exit: watch::Sender<Option<Exit>>,
}

/// How a worker ended.
#[derive(Clone, Debug)]
pub struct Exit {
    /// Why.
    pub failure: Failure,
    /// Of all that was written to it, it read no more than so many bytes; `None`: not known.
    pub read: Option<u64>,
}

impl Exit {
    /// Whether a request that was sent, or not even that, was surely never read.
    pub fn never_read(&self, sent: Option<u64>) -> bool {
        sent.is_none_or(|begins| self.read.is_some_and(|read| begins >= read))
    }
}

/// Locks for a moment; nothing can panic while it is held.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// Makes a worker of a fresh process.
    ///
    /// # Errors
    /// Why it did not become ready; the process is gone then.
    pub async fn start(
        link: Link,
        installation: Arc<Installation>,
        timing: Timing,
        plan: Plan,
    ) -> Result<Arc<Worker>, Failure> {
        let (rpc, outbox) = Rpc::new();
        let Link { reader, writer, child, input, databases } = link;
        let worker = Arc::new(Worker {
            installation,
            timing,
            since: Instant::now(),
            pid: child.as_ref().map(Child::pid),
            load: AtomicUsize::new(0),
            databases,
            turns: AtomicUsize::new(0),
            used: Notify::new(),
            overtakes: AtomicBool::new(false),
            rpc,
            features: OnceLock::new(),
            threads: Mutex::default(),
            keeps: AtomicBool::new(true),
            warm: Mutex::default(),
            warming: tokio::sync::Mutex::default(),
            plan,
            stop_reason: watch::Sender::new(None),
            doubtful: AtomicBool::new(false),
            doubts: Notify::new(),
            exit: watch::Sender::new(None),
        });
        let writing = tokio::spawn(rpc::write(outbox, writer));
        tokio::spawn(Arc::clone(&worker).live(reader, child, writing, input));
        match worker.handshake().await {
            Ok(()) => {
                worker.warm_up();
                Ok(worker)
            }
            Err(failure) => {
                // A process that ended tells more than the reply it did not send.
                worker.fail(failure);
                Err(worker.wait_exited().await.failure)
            }
        }
    }

    async fn handshake(&self) -> Result<(), Failure> {
        let limit = self.timing.handshake;
        let greeting: Initialized = self.expect("initialize", &Initialize::new(), limit).await?;
        self.rpc.notify("initialized");
        tracing::debug!(version = greeting.version(), pid = self.pid, "an app-server is up");
        let features = Features::ask(&self.rpc, self.timing.handshake, &self.installation).await?;
        let has_login_status = features.has("getAuthStatus");
        if !features.has("thread/fork") {
            // Whether another worker of it said so already makes no difference.
            let _ = self.installation.refused.set(());
        }
        // TurnContext once for each worker.
        let _ = self.features.set(features);
        if has_login_status {
            let ask = GetAuthStatus { include_token: false, refresh_token: false };
            let login: AuthStatus = self.expect("getAuthStatus", &ask, limit).await?;
            if login.auth_method.is_none()
                && login.requires_openai_auth == Some(true)
                && self.installation.login != Login::NotNeeded
            {
                return Err(Failure::NotLoggedIn {
                    bin: self.installation.config.codex_bin.clone(),
                    program: self.installation.program.clone(),
                });
            }
        }
        Ok(())
    }

    /// What it carries; `None` before its handshake.
    pub fn features(&self) -> Option<&Features> {
        self.features.get()
    }

    /// A request whose failure means that the worker is of no use.
    async fn expect<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
        limit: Duration,
    ) -> Result<T, Failure> {
        let broken = |what: String| Failure::codex_failed(format!("app-server, {method}: {what}"));
        let reply = self.rpc.call(method, params, limit).await.map_err(|error| broken(error.to_string()))?;
        serde_json::from_str(reply.get())
            .map_err(|error| broken(format!("unexpected reply: {}", place(&error))))
    }

    /// A request on behalf of a turn.
    ///
    /// # Errors
    /// As [`Rpc::call`]. A worker whose reply does not come in time hangs, one whose reply has an
    /// unknown form cannot be followed any further: it is failed.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
    ) -> Result<T, RpcError> {
        let sent = self.send(method, params, None).await?;
        self.reply(sent).await
    }

    /// The first half of [`Worker::call`]: what is sent one after the other arrives in that order.
    /// `on_reply` sees the reply before anything later of this worker is heard.
    ///
    /// # Errors
    /// As [`Worker::call`].
    pub async fn send(
        &self,
        method: &'static str,
        params: &impl Serialize,
        on_reply: Option<OnReply>,
    ) -> Result<Sent, RpcError> {
        let sent = self.rpc.send(method, params, self.timing.rpc, on_reply).await;
        sent.inspect_err(|error| self.judge(error))
    }

    /// The same with a conversation, which is written item by item.
    ///
    /// # Errors
    /// As [`Worker::call`].
    pub async fn inject(
        &self,
        items: InjectItems,
        bytes: usize,
        on_reply: OnReply,
    ) -> Result<Sent, RpcError> {
        let (method, limit) = ("thread/inject_items", self.timing.rpc);
        let sent = self.rpc.send_pieces(method, items.pieces(), bytes, limit, Some(on_reply)).await;
        sent.inspect_err(|error| self.judge(error))
    }

    /// The second half.
    ///
    /// # Errors
    /// As [`Worker::call`].
    pub async fn reply<T: DeserializeOwned>(&self, sent: Sent) -> Result<T, RpcError> {
        let method = sent.method();
        let mut reply = pin!(self.rpc.reply(sent));
        let reply = match timeout(self.timing.patience, &mut reply).await {
            Ok(reply) => reply,
            Err(_) => {
                self.doubt();
                reply.await
            }
        };
        let reply = reply.inspect_err(|error| self.judge(error))?;
        serde_json::from_str(reply.get()).map_err(|error| {
            let detail = format!("the app-server gave an unexpected reply to {method}: {}", place(&error));
            self.fail(Failure::codex_failed(detail));
            RpcError::Closed
        })
    }

    fn judge(&self, error: &RpcError) {
        if let RpcError::Late { .. } = error {
            self.fail(Failure::codex_failed(format!("the app-server hangs: {error}")));
        }
    }

    /// What the account has left; `None` if its login has no plan.
    ///
    /// # Errors
    /// As [`Rpc::call`]. Whether the model service tells is no matter of the worker's: it lives on.
    pub async fn rate_limits(&self) -> Result<Option<RateLimits>, RpcError> {
        let reply = self.rpc.call("account/rateLimits/read", &serde_json::json!({}), self.timing.rpc).await;
        match reply {
            Ok(reply) => {
                let read: Result<RateLimitsNotification, _> = serde_json::from_str(reply.get());
                let unexpected = |error| RpcError::Refused {
                    code: 0,
                    message: format!("unexpected reply: {}", place(&error)),
                };
                read.map(|read| Some(read.rate_limits)).map_err(unexpected)
            }
            Err(RpcError::Refused { message, .. }) if message.contains("authentication required") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends what concerns this thread to `answer` from now on.
    pub fn attach(&self, thread: &str, answer: Arc<Mutex<Answer>>) {
        lock(&self.threads).attach(thread, answer);
    }

    /// Keeps a thread for later: nobody listens to it meanwhile.
    pub fn park(&self, thread: &str) {
        lock(&self.threads).park(thread);
    }

    /// Sends what concerns a kept thread to `answer` from now on. False if it is of no use any more.
    pub fn resume(&self, thread: &str, answer: Arc<Mutex<Answer>>) -> bool {
        lock(&self.threads).resume(thread, answer)
    }

    /// The calls that Codex made on a thread when nobody took notice.
    pub fn late_calls(&self, thread: &str) -> Vec<LateCall> {
        lock(&self.threads).late(thread)
    }

    /// Gives Codex the result of a call: now, or as soon as it asks. Gives where the answer begins
    /// in all that is written to the worker, if it was sent.
    ///
    /// # Errors
    /// As [`Worker::call`].
    pub async fn supply(&self, thread: &str, call_id: &str, result: String) -> Result<Option<u64>, RpcError> {
        let due = lock(&self.threads).supply(thread, call_id, result);
        let Some((call, result)) = due else { return Ok(None) };
        let sent = self.rpc.respond(&call.request, &result, self.timing.rpc).await;
        sent.map(Some).inspect_err(|error| self.judge(error))
    }

    /// Whether its threads may be kept for later turns.
    pub fn keeps_threads(&self) -> bool {
        self.is_alive() && self.keeps.load(Ordering::Relaxed)
    }

    /// Keeps no threads any more: it is to be replaced.
    pub fn keep_no_threads(&self) {
        self.keeps.store(false, Ordering::Relaxed);
    }

    /// Forgets a thread, and answers what Codex still waits for on it.
    pub fn detach(&self, thread: &str) {
        let open = lock(&self.threads).detach(thread);
        self.refuse(&open);
    }

    /// Refuses what Codex waits for on a thread, which is of no use for another turn then. Gives
    /// how many calls it were.
    pub fn refuse_calls(&self, thread: &str) -> usize {
        let calls = lock(&self.threads).spoil(thread);
        self.refuse(&calls);
        calls.len()
    }

    fn refuse(&self, calls: &[OpenCall]) {
        for call in calls {
            self.rpc.answer(&call.request, wire::refusal(TOOL_CALL));
        }
    }

    /// Ends the worker. The first reason given stands; turns on it fail with it.
    pub fn fail(&self, why: Failure) {
        self.stop_reason.send_if_modified(|stop_reason| {
            let first = stop_reason.is_none();
            stop_reason.get_or_insert(why);
            first
        });
    }

    /// Waits for the end of the process, and says how it ended.
    pub async fn wait_exited(&self) -> Exit {
        let forgotten = || Failure::Internal { detail: "a worker was forgotten".into() };
        wait(&self.exit).await.unwrap_or_else(|| Exit { failure: forgotten(), read: None })
    }

    /// Whether it has not ended, nor is about to.
    pub fn is_alive(&self) -> bool {
        self.exit.borrow().is_none() && self.stop_reason.borrow().is_none()
    }

    /// Whether it can take turns.
    pub fn takes_turns(&self) -> bool {
        self.is_alive() && !self.doubtful.load(Ordering::Relaxed)
    }

    /// Something that was due did not come: no turns for it until it has shown that it lives.
    pub fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
        self.doubts.notify_one();
    }

    /// Waits for a doubt, and asks for a sign of life. A worker that is well takes turns again, one
    /// that says nothing is ended.
    pub async fn check_doubt(&self) -> Vital {
        self.doubts.notified().await;
        let limit = self.timing.vital;
        let vital = self.rpc.vital(limit).await;
        match vital {
            Vital::Well => self.doubtful.store(false, Ordering::Relaxed),
            Vital::Overdue => {}
            Vital::Mute => self.fail(Failure::codex_failed(format!(
                "the app-server hangs: it gave no sign of life within {limit:?}"
            ))),
        }
        vital
    }

    /// A thread started beforehand, if there is one; another one is then started.
    pub fn take_warm(self: &Arc<Self>) -> Option<String> {
        let thread = lock(&self.warm).pop();
        if thread.is_some() {
            self.warm_up();
        }
        thread
    }

    /// Starts threads for later, one after the other, up to `prewarm`.
    fn warm_up(self: &Arc<Self>) {
        let config = Arc::clone(&self.installation.config);
        // Where sessions are chosen, a thread cannot be begun before its conversation is known.
        if config.prewarm == 0 || matches!(self.installation.continuation(), Continuation::Full(_)) {
            return;
        }
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            let Ok(_alone) = worker.warming.try_lock() else { return };
            while lock(&worker.warm).len() < config.prewarm && worker.is_alive() {
                let params = super::turn::plain_thread(&config, &config.default_cwd);
                match worker.call::<wire::ThreadStarted>("thread/start", &params).await {
                    Ok(started) => lock(&worker.warm).push(started.thread.id),
                    Err(error) => {
                        tracing::debug!(%error, "no thread could be started beforehand");
                        return;
                    }
                }
            }
        });
    }
}

impl Worker {
    /// Ends it when the last of its turns has ended.
    pub async fn retire(&self, mut changes: watch::Receiver<u64>) {
        while self.load.load(Ordering::Relaxed) > 0 && self.is_alive() {
            // The sender is the pool; without it there are no turns either.
            if changes.changed().await.is_err() {
                break;
            }
        }
        self.fail(Failure::Draining);
    }

    /// Takes a place for one turn if there is one.
    pub fn take_place(&self, places: usize) -> bool {
        let room = |load: usize| (load < places).then_some(load + 1);
        let taken =
            self.takes_turns() && self.load.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        if taken && (self.turns.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(LOOK_AFTER) {
            self.used.notify_one();
        }
        taken
    }

    /// Waits until it has been given so many turns that its size is worth a look.
    pub async fn used(&self) {
        self.used.notified().await;
    }

    /// How many turns it has been given.
    pub fn turns(&self) -> usize {
        self.turns.load(Ordering::Relaxed)
    }
}

async fn wait<T: Clone>(cell: &watch::Sender<Option<T>>) -> Option<T> {
    let mut receiver = cell.subscribe();
    // The sender lives as long as we do.
    receiver.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
}
