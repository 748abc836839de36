//! One turn on one worker, from its thread to its end.
//!
//! ```text
//!   thread (see `thread`) -> inject_items, turn/start -> events -> [interrupt] -> unsubscribe
//!   kept thread -> the rest of the items, or results of calls -> events ->  or kept (see `kept`)
//! ```
//! The conversation and the start of the turn go out together: Codex takes the requests of one
//! thread in their order. If it refuses the conversation, or is seen to begin without it, nothing
//! that follows counts.
//!
//! No request under way is abandoned: when the client leaves or time runs out, the outcome is told
//! at once, and what was begun is then undone in order.

mod kept;
mod silence;
mod thread;

use std::borrow::Cow;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout};

use super::answer::{Answer, Stage};
use super::pool::{Kept, Parked};
use super::rpc::RpcError;
use super::tool_names::Names;
use super::wire::{self, InjectItems, ThreadUnsubscribe, TurnInterrupt, TurnStart};
use super::worker::{Worker, lock};
use crate::codex::Continuation;
use crate::config::{Config, Profile, ReasoningOutput, ToolTransport};
use crate::turn::{At, CallKind, Failure, Identity, Item, Output, Said, Sink, Summary, Tool, Turn, forced};

pub use thread::plain_thread;

/// JSON-RPC code of "Server overloaded; retry later."
const OVERLOADED: i64 = -32001;

/// What became of a turn on one worker.
#[derive(Debug)]
pub enum Ended {
    /// Its answer is over. What is left is the thread to release.
    Over(Option<String>),
    /// The worker ended, and nothing of the turn can have gone upstream: either `turn/start`, which
    /// alone causes requests, was never sent, or the system knows that it was never read. The
    /// answer is not over; another worker may try.
    Unsent(Failure),
    /// Its answer is over, and its thread is kept under this number.
    Kept(u64),
}

/// A turn under way and who waits for it.
pub struct Run {
    /// What is asked.
    pub turn: Turn,
    /// The stand-ins of function names.
    pub names: Arc<Names>,
    /// The settings it runs under.
    pub config: Arc<Config>,
    /// Its answer.
    pub answer: Arc<Mutex<Answer>>,
    /// Told when the answer's stage changes.
    pub change: Arc<Notify>,
    /// Where the answer goes; closed when the client is gone.
    pub sink: Arc<Sink>,
    /// When the slot was granted.
    pub granted: Instant,
    /// Where its thread may be kept.
    pub parked: Arc<Parked>,
    /// It failed because its worker's login is none any more.
    pub login_changed: AtomicBool,
    /// Which conversation it belongs to, once that was found out.
    pub conversation: OnceLock<Identity>,
    /// The namespace that calls of the conversation had at the upstream.
    pub namespace: OnceLock<String>,
}

impl Run {
    /// How far the answer is.
    fn stage(&self) -> Stage {
        lock(&self.answer).stage()
    }

    fn over(&self, failure: Failure) {
        lock(&self.answer).over(Err(failure));
    }

    /// Waits until the client leaves or time runs out, and tells the answer. Gives whether it was
    /// the time.
    pub async fn given_up(&self) -> bool {
        let after = self.config.timeout_seconds;
        let end = self.granted + after;
        let first = self.config.first_event_timeout_seconds.filter(|first| *first < after);
        let silent = async {
            let Some(after) = first else { return std::future::pending().await };
            sleep_until((self.granted + after).into()).await;
            if lock(&self.answer).has_begun() {
                std::future::pending::<()>().await;
            }
            after
        };
        let failure = tokio::select! {
            () = self.sink.closed() => {
                lock(&self.answer).abandon();
                return false;
            }
            () = sleep_until(end.into()) => Failure::TurnTimedOut { after },
            after = silent => Failure::FirstEventTimedOut { after },
        };
        lock(&self.answer).fail(failure);
        true
    }

    /// Runs the turn to its end, telling the answer if it is given up meanwhile. The answer is over
    /// when this returns, unless it says otherwise.
    pub async fn on(&self, worker: &Arc<Worker>) -> Ended {
        self.to_its_end(worker, self.work(worker)).await
    }

    /// [`Run::on`] the thread that was kept, from the item `at` on. If nothing of it went upstream, the
    /// thread is given up and the turn may begin another one.
    pub async fn go_on(&self, kept: Kept, at: usize) -> Ended {
        let worker = Arc::clone(&kept.worker);
        self.to_its_end(&worker, self.continued(kept, at)).await
    }

    /// Does the work, telling the answer if it is given up meanwhile; what was begun is then undone.
    async fn to_its_end(&self, worker: &Worker, work: impl Future<Output = Ended>) -> Ended {
        tokio::pin!(work);
        tokio::select! {
            biased;
            ended = &mut work => return ended,
            late = self.given_up() => if late {
                // It may be the model that is slow, or the worker that hangs.
                worker.doubt();
            }
        }
        work.await
    }

    async fn work(&self, worker: &Arc<Worker>) -> Ended {
        let thread = match self.thread(worker).await {
            Ok(thread) => thread,
            Err(stop) => return self.stopped(worker, stop, None, None).await,
        };
        if self.stage() != Stage::Running {
            self.over(Failure::codex_failed("given up before it began"));
            return Ended::Over(Some(thread));
        }
        worker.attach(&thread, Arc::clone(&self.answer));
        let mut begins = None;
        let asked = match self.ask(worker, &thread, &mut begins).await {
            Ok(turn) => self.see_through(worker, &thread, turn).await,
            Err(stop) => Err(stop),
        };
        let ended = match asked {
            Ok(Some(number)) => return Ended::Kept(number),
            Ok(None) => Ended::Over(Some(thread.clone())),
            Err(stop) => self.stopped(worker, stop, begins, Some(&thread)).await,
        };
        worker.detach(&thread);
        ended
    }

    /// Releases the thread of an ended turn.
    pub async fn release(worker: &Worker, thread: &str) {
        if !worker.features().is_none_or(|features| features.has("thread/unsubscribe")) {
            return;
        }
        let done: Result<IgnoredAny, _> =
            worker.call("thread/unsubscribe", &ThreadUnsubscribe { thread_id: thread }).await;
        if let Err(error) = done {
            tracing::debug!(%error, "a thread was not released");
        }
    }

    /// Hands the conversation over, starts the turn and waits for its end. `begins` is where the
    /// request that starts it stands in all that was written to the worker, once it was sent.
    async fn ask(
        &self,
        worker: &Arc<Worker>,
        thread: &str,
        begins: &mut Option<u64>,
    ) -> Result<Option<String>, Stop> {
        let items = InjectItems {
            tools: match self.offers_items() {
                true => wire::additional_tools(&self.turn.tools, &self.names)?,
                false => Vec::new(),
            },
            hint: wire::hint(&self.turn, &self.names),
            at_head: !matches!(worker.installation.continuation(), Continuation::Off { .. }),
            ..self.items(thread, 0)
        };
        let params = self.start_params(thread)?;
        let answer = Arc::clone(&self.answer);
        let (tools, names) = (Arc::clone(&self.turn.tools), Arc::clone(&self.names));
        let taken = move |reply: Result<(), &RpcError>| match reply {
            Ok(()) => lock(&answer).conversation_taken(),
            Err(error) => lock(&answer).fail(failure(error, &tools, &names)),
        };
        let history = worker.inject(items, self.bytes(), Box::new(taken)).await?;
        let (answer, began) = (Arc::clone(&self.answer), Instant::now());
        let accepted = move |reply: Result<(), &RpcError>| {
            if reply.is_ok() {
                lock(&answer).accepted(began);
            }
        };
        let start = async || {
            let sent = worker.send("turn/start", &params, Some(Box::new(accepted))).await;
            sent.inspect(|sent| *begins = Some(sent.begins()))
        };
        let (history, started) = if worker.overtakes.load(Ordering::Relaxed) {
            let history: Result<IgnoredAny, RpcError> = worker.reply(history).await;
            if self.stage() != Stage::Running {
                self.over(Failure::codex_failed("given up before it began"));
                return Ok(None);
            }
            (history, worker.reply(start().await?).await)
        } else {
            let start = start().await?;
            (worker.reply(history).await, worker.reply(start).await)
        };
        let started: wire::TurnStarted = started?;
        if let Err(error @ (RpcError::Late { .. } | RpcError::Closed)) = history {
            return Err(error.into());
        }
        lock(&self.answer).called(&started.turn.id);
        Ok(Some(started.turn.id))
    }

    /// The conversation from the item `at` on.
    fn items(&self, thread: &str, at: usize) -> InjectItems {
        InjectItems {
            thread_id: thread.to_owned(),
            conversation: Arc::clone(&self.turn.conversation),
            at,
            names: Arc::clone(&self.names),
            namespace: self.namespace.get().cloned(),
            tools: Vec::new(),
            custom: self.custom_calls(),
            hint: None,
            at_head: false,
        }
    }

    /// Whether tools go as an item: Codex then knows nothing of them, so that its thread is of no use
    /// once one is called.
    fn offers_items(&self) -> bool {
        self.config.tool_transport == ToolTransport::Items && !self.turn.tools.is_empty()
    }

    /// The calls of custom tools that are handed over as such.
    fn custom_calls(&self) -> HashSet<String> {
        let custom = |item: &Item| match item {
            Item::ToolCall(call) if call.kind == CallKind::Custom => Some(call.id.clone()),
            _ => None,
        };
        match self.config.tool_transport {
            ToolTransport::Dynamic => HashSet::new(),
            ToolTransport::Items => self.turn.conversation.iter().filter_map(custom).collect(),
        }
    }

    fn bytes(&self) -> usize {
        usize::try_from(self.turn.bytes()).unwrap_or(usize::MAX)
    }

    /// The request that starts the turn.
    fn start_params<'a>(&'a self, thread: &'a str) -> Result<TurnStart<'a>, Stop> {
        let output_schema: Option<Cow<'a, RawValue>> = match &self.turn.output {
            Output::JsonSchema(schema) => Some(
                serde_json::from_str::<&RawValue>(schema.as_str())
                    .map(Cow::Borrowed)
                    .map_err(|_| Failure::bad(At::Schema, "The schema must be a JSON object."))?,
            ),
            Output::Text | Output::JsonObject | Output::Described(_) => forced::schema(&self.turn)
                .and_then(|schema| serde_json::from_str(schema.as_str()).ok())
                .map(Cow::Owned),
        };
        Ok(TurnStart {
            thread_id: thread,
            input: [],
            model: self.turn.model.as_deref(),
            environments: (self.config.profile() == Profile::Model).then_some([]),
            effort: self.turn.effort.map(|effort| effort.name()),
            summary: self.summary(),
            service_tier: self.turn.service_tier.and_then(|tier| tier.upstream()),
            output_schema,
        })
    }

    /// Waits until the turn `turn` is over, and stops it if it is to be. Gives the number of its
    /// thread if that was kept.
    async fn see_through(
        &self,
        worker: &Arc<Worker>,
        thread: &str,
        turn: Option<String>,
    ) -> Result<Option<u64>, Stop> {
        let Some(turn) = turn else { return Ok(None) };
        self.wait_while_running(worker, thread).await?;
        if self.stage() == Stage::Resting {
            let failure = lock(&self.answer).rested_failure();
            let Some(failure) = failure else { return Ok(Some(self.keep(worker, thread))) };
            let failure = worker.installation.why_refused(failure).await;
            self.login_changed.store(failure == Failure::LoginChanged, Ordering::Relaxed);
            self.over(failure);
            return Ok(None);
        }
        if lock(&self.answer).was_early() && !worker.overtakes.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                pid = worker.pid,
                "this codex mixes the order of requests; it now gets one at a time"
            );
        }
        if self.stage() == Stage::Unwanted {
            self.interrupt(worker, thread, &turn).await?;
        }
        Ok(None)
    }

    /// The operator's own choice of a summary is left alone.
    fn summary(&self) -> Option<&'static str> {
        let theirs = |entry: &String| entry.trim_start().starts_with("model_reasoning_summary");
        match self.config.reasoning {
            _ if self.config.codex_configs.iter().any(theirs) => None,
            ReasoningOutput::ReasoningContent => Some(self.turn.reasoning.name()),
            ReasoningOutput::Off => Some(Summary::None.name()),
        }
    }

    /// Stops what nobody wants, and waits until it has stopped.
    async fn interrupt(&self, worker: &Arc<Worker>, thread: &str, turn: &str) -> Result<(), Stop> {
        let params = TurnInterrupt { thread_id: thread, turn_id: turn };
        let stopped: Result<IgnoredAny, RpcError> = worker.call("turn/interrupt", &params).await;
        let refused = match stopped {
            Ok(_) => false,
            // It ended in the same moment, and its last notification is on the way.
            Err(RpcError::Refused { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        let limit = worker.timing.end;
        let Ok(ended) = timeout(limit, self.wait_while(worker, |stage| stage != Stage::Over)).await else {
            if !refused {
                worker.fail(Failure::codex_failed(format!(
                    "the app-server hangs: a turn did not end within {limit:?} of its interruption"
                )));
                return Err(RpcError::Closed.into());
            }
            self.over(Failure::codex_failed("the end of the turn got lost"));
            return Ok(());
        };
        ended
    }

    /// Waits for another stage of the answer, as long as the worker lives.
    async fn wait_while(&self, worker: &Worker, condition: impl Fn(Stage) -> bool) -> Result<(), Stop> {
        let mut exited = pin!(worker.wait_exited());
        while condition(self.stage()) {
            tokio::select! {
                biased;
                () = self.change.notified() => {}
                _ = &mut exited => return Err(RpcError::Closed.into()),
            }
        }
        Ok(())
    }

    /// Ends the answer with what stopped the turn, once nothing of it runs any more; unless another
    /// worker may still try.
    async fn stopped(&self, worker: &Worker, stop: Stop, begins: Option<u64>, thread: Option<&str>) -> Ended {
        match stop {
            Stop::Failed(failure) => self.over(failure),
            Stop::Rpc(error @ RpcError::Refused { .. }) => {
                self.over(failure(&error, &self.turn.tools, &self.names));
            }
            Stop::Rpc(RpcError::Late { .. } | RpcError::Closed) => {
                let exit = worker.wait_exited().await;
                if exit.never_read(begins) && self.stage() == Stage::Running {
                    return Ended::Unsent(exit.failure);
                }
                self.over(exit.failure);
            }
        }
        Ended::Over(thread.map(str::to_owned))
    }
}

/// What it means that a request of a turn was refused; the caller's `tools` may be the cause.
fn failure(error: &RpcError, tools: &[Tool], names: &Names) -> Failure {
    match error {
        RpcError::Refused { code: OVERLOADED, message } => Failure::UpstreamOverloaded {
            detail: format!("the app-server is overloaded: {} bytes", message.len()),
            said: Said::default(),
        },
        RpcError::Refused { message, .. } if !tools.is_empty() && message.contains("dynamic tool") => {
            tracing::info!(bytes = message.len(), "codex refused function tools");
            match refused_tool(message, tools, names) {
                Some(index) => Failure::bad(At::Tool(index), "Codex does not accept this function's schema."),
                None => Failure::bad(At::Tools, "Codex does not accept these function tools."),
            }
        }
        error => Failure::codex_failed(format!("the app-server refused the turn: {error}")),
    }
}

/// Which function Codex speaks of: `dynamic tool input schema is not supported for NAME: …`.
fn refused_tool(message: &str, tools: &[Tool], names: &Names) -> Option<usize> {
    let (_, named) = message.split_once(" for ")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let named = named.trim_start_matches(['`', '"', '\'']);
    let named = named.split(|c| !is_name(c)).next()?;
    tools.iter().position(|tool| names.out(&tool.full_name()) == named)
}

/// Why a turn did not get its way.
#[derive(Debug)]
enum Stop {
    Rpc(RpcError),
    Failed(Failure),
}

impl From<RpcError> for Stop {
    fn from(error: RpcError) -> Stop {
        Stop::Rpc(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}
