//! The thread of a turn: where it comes from, and what cannot be asked of it.
//!
//! ```text
//!   without functions, nor reasoning to give back   thread/fork under the conversation's identity, each time
//!   with them, a session of the conversation known  thread/fork under that
//!   with them, or where that is not possible        thread/start, or one started beforehand
//!   with functions that go as items                 thread/start; not kept
//! ```
//! Only a thread that was started tells what the model wrote word for word, and what calls cost before
//! they are answered; but it has a session of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::{OVERLOADED, Run, Stop};
use crate::codex::Continuation;
use crate::codex::rollout::{self, Rollout};
use crate::config::{Config, Profile};
use crate::engine::app_server::features::Features;
use crate::engine::app_server::past::is_models;
use crate::engine::app_server::pool::Session;
use crate::engine::app_server::rpc::RpcError;
use crate::engine::app_server::tool_names::Names;
use crate::engine::app_server::wire::{self, DynamicTool, ThreadConfig, ThreadFork, ThreadStart};
use crate::engine::app_server::worker::{Worker, lock};
use crate::turn::{At, Failure, Identity, Item, Part, Tool};

/// A function's result above this many bytes is cut in silence by Codex where it works as an agent.
const LONGEST_RESULT: usize = 40_000;

/// A thread without functions or settings of its own.
pub fn plain_thread<'a>(config: &Config, cwd: &'a Path) -> ThreadStart<'a> {
    let lean = config.profile() == Profile::Model;
    ThreadStart {
        ephemeral: config.ephemeral,
        environments: lean.then_some([]),
        base_instructions: lean.then_some(""),
        cwd: (!lean).then_some(cwd),
        model: None,
        dynamic_tools: Vec::new(),
        experimental_raw_events: false,
        config: None,
    }
}

impl Run {
    /// A thread for the turn.
    pub(super) async fn thread(&self, worker: &Arc<Worker>) -> Result<String, Stop> {
        self.check(worker)?;
        let began = Instant::now();
        let cwd = self.turn.workdir.path();
        let mut params = plain_thread(&self.config, cwd);
        // Codex resolves the path again: looked at before and after, for it may be swapped meanwhile.
        let agent = params.cwd.is_some();
        if agent {
            self.turn.workdir.is_still_there().await?;
        }
        // Raw events echo the whole history; only threads that live on keep what they tell of.
        let raw = self.wants_raw_events();
        if !self.offers_items()
            && let Some(thread) = self.forked(worker).await?
        {
            lock(&self.answer).thread_started(began);
            return Ok(thread);
        }
        match worker.installation.continuation() {
            Continuation::Off { .. } => {}
            _ if self.offers_items() => {}
            Continuation::Full(_) if !raw => {}
            Continuation::Full(_) | Continuation::Threads { .. } => lock(&self.answer).may_rest(raw),
        }
        let plain = !raw && self.turn.verbosity.is_none();
        if plain
            && (params.cwd.is_none() || cwd == self.config.default_cwd)
            && let Some(thread) = worker.take_warm()
        {
            lock(&self.answer).thread_started(began);
            return Ok(thread);
        }
        if !self.offers_items() {
            params.dynamic_tools = DynamicTool::all(&self.turn.tools, &self.names)?;
        }
        params.experimental_raw_events = raw;
        params.config = self.turn.verbosity.map(ThreadConfig::new);
        params.model = self.turn.model.as_deref();
        let started: wire::ThreadStarted = worker.call("thread/start", &params).await?;
        lock(&self.answer).thread_started(began);
        if raw && let Some(conversation) = self.conversation.get() {
            self.parked.begun(*conversation, &started.thread.id);
        }
        if agent && let Err(failure) = self.turn.workdir.is_still_there().await {
            Run::release(worker, &started.thread.id).await;
            return Err(failure.into());
        }
        Ok(started.thread.id)
    }

    fn wants_raw_events(&self) -> bool {
        !self.turn.tools.is_empty() || self.turn.want_encrypted
    }

    /// What this worker cannot do for this turn.
    fn check(&self, worker: &Worker) -> Result<(), Failure> {
        let model = self.turn.model.as_deref().or(self.config.model.as_deref());
        let without_functions = || {
            let lack = worker.features().and_then(Features::no_functions);
            lack.or_else(|| worker.installation.functions.refused(model).map(str::to_owned))
        };
        if !self.turn.tools.is_empty()
            && let Some(reason) = without_functions()
        {
            let message =
                format!("Function tools are not possible with this model here, because of {reason}.");
            return Err(Failure::Unsupported { at: At::Tools, message });
        }
        let length = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Image(_) => 0,
        };
        let long = |item: &Item| match item {
            Item::ToolResult { content, .. } => content.iter().map(length).sum::<usize>() > LONGEST_RESULT,
            _ => false,
        };
        if self.config.profile() == Profile::Agent
            && let Some(index) = self.turn.conversation.iter().position(long)
        {
            let message = format!(
                "A function result may have at most {LONGEST_RESULT} bytes with profile = agent, where Codex would \
                 cut it; profile = model takes any."
            );
            return Err(Failure::bad(At::Item(index), message));
        }
        Ok(())
    }

    /// A thread under the session id of the conversation; `None` where that is not possible.
    async fn forked(&self, worker: &Worker) -> Result<Option<String>, Stop> {
        let Continuation::Full(key) = worker.installation.continuation() else { return Ok(None) };
        if self.config.profile() != Profile::Model {
            return Ok(None);
        }
        let raw = self.wants_raw_events();
        let (turn, names) = (self.turn.clone(), Arc::clone(&self.names));
        let (home, cwd) = (worker.installation.home.path.clone(), self.config.default_cwd.clone());
        let parked = Arc::clone(&self.parked);
        // Reads much and writes a file: off the runtime.
        let recorded = tokio::task::spawn_blocking(move || {
            let conversation = Identity::of(&turn, &key);
            // What the model never spoke in is another conversation that begins alike.
            let known = || turn.conversation.iter().any(is_models).then(|| parked.session(conversation));
            let session = if raw { known().flatten() } else { Some(Session::of(conversation)) };
            let rollout =
                session.as_ref().map(|session| record(&home, &session.id, &cwd, &turn.tools, &names));
            (conversation, session.and_then(|session| session.namespace), rollout)
        });
        let (conversation, namespace, recorded) =
            recorded.await.map_err(|error| Failure::Internal { detail: format!("a session: {error}") })?;
        let _ = self.conversation.set(conversation);
        let rollout = match recorded {
            None => return Ok(None),
            Some(Ok(rollout)) => rollout,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot record a session; the turn starts a new one");
                return Ok(None);
            }
        };
        let params = ThreadFork {
            path: rollout.path(),
            thread_id: "",
            ephemeral: true,
            exclude_turns: true,
            base_instructions: "",
            approval_policy: "never",
            sandbox: "read-only",
            cwd: &self.config.default_cwd,
            model: self.turn.model.as_deref(),
            config: self.turn.verbosity.map(ThreadConfig::new),
        };
        let forked: Result<wire::ThreadStarted, RpcError> = worker.call("thread/fork", &params).await;
        tokio::task::spawn_blocking(move || drop(rollout));
        match forked {
            Ok(forked) => {
                if raw {
                    lock(&self.answer).may_rest(false);
                }
                if let Some(namespace) = namespace {
                    let _ = self.namespace.set(namespace);
                }
                Ok(Some(forked.thread.id))
            }
            // One of the functions may be the cause: that shows when they are offered otherwise.
            Err(RpcError::Refused { code, .. }) if code != OVERLOADED && raw => Ok(None),
            Err(RpcError::Refused { code, message }) if code != OVERLOADED => {
                if worker.installation.refused.set(()).is_ok() {
                    tracing::warn!(
                        version = %worker.installation.version, message,
                        "this Codex CLI does not take a session id of ours"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Records a session that offers these tools. Blocking.
fn record(home: &Path, id: &str, cwd: &Path, tools: &[Tool], names: &Names) -> std::io::Result<Rollout> {
    // Parameters that are not JSON were refused when they were read.
    let tools = DynamicTool::all(tools, names).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let tools: Vec<rollout::DynamicTool<'_>> = tools.iter().map(DynamicTool::recorded).collect();
    Rollout::write(home, &rollout::Session { id, cwd, tools: &tools })
}
