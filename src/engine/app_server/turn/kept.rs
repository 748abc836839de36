//! A turn on a thread that was kept after an earlier turn of its conversation, and the keeping.
//!
//! ```text
//!   left after a whole answer: inject_items (what is new), turn/start
//!   left with calls open:      inject_items (what is new besides), each call answered
//! ```
//! Codex asks the upstream as soon as the last open call is answered: what else is new must be in
//! its history by then, so its reply is waited for. Until that point nothing of the turn is
//! upstream, and whatever goes wrong costs the cache and no answer.

use std::sync::Arc;
use std::time::Instant;

use serde::de::IgnoredAny;

use super::{Ended, Run, Stop};
use crate::engine::app_server::answer::Stage;
use crate::engine::app_server::past::Past;
use crate::engine::app_server::pool::Kept;
use crate::engine::app_server::rpc::{OnReply, RpcError};
use crate::engine::app_server::threads::LateCall;
use crate::engine::app_server::wire;
use crate::engine::app_server::worker::{Worker, lock};
use crate::turn::{Failure, Item};

impl Run {
    /// Keeps the thread of a complete answer, and only then tells of its end: whoever goes on at
    /// once finds it.
    pub(super) fn keep(&self, worker: &Arc<Worker>, thread: &str) -> u64 {
        let (said, progress) = lock(&self.answer).rested();
        worker.park(thread);
        let conversation = self.conversation.get().copied();
        let kept = Kept { worker: Arc::clone(worker), thread: thread.to_owned(), progress, conversation };
        let number = self.parked.park(Past::new(self.turn.clone(), said), kept, &self.config);
        lock(&self.answer).over(Err(Failure::Internal { detail: "a complete answer was lost".into() }));
        number
    }

    pub(super) async fn continued(&self, kept: Kept, at: usize) -> Ended {
        let (worker, began) = (Arc::clone(&kept.worker), Instant::now());
        let rest = self.turn.conversation.get(at..).unwrap_or_default();
        let messages = rest.iter().filter(|item| matches!(item, Item::Message { .. })).count();
        lock(&self.answer).goes_on(&kept.progress, messages);
        if !worker.resume(&kept.thread, Arc::clone(&self.answer)) {
            self.parked.give_up([kept]);
            return Ended::Unsent(Failure::codex_failed("a kept thread ended"));
        }
        lock(&self.answer).thread_started(began);
        if let Some(conversation) = kept.conversation {
            let _ = self.conversation.set(conversation);
        }
        let mut begins = None;
        let asked = match self.ask_on(&kept, at, &mut begins).await {
            Ok(turn) => self.see_through(&worker, &kept.thread, turn).await,
            Err(stop) => Err(stop),
        };
        let stop = match asked {
            Ok(Some(number)) => return Ended::Kept(number),
            Ok(None) if begins.is_none() => {
                // Given up before it began.
                self.parked.give_up([kept]);
                return Ended::Over(None);
            }
            Ok(None) => {
                worker.detach(&kept.thread);
                return Ended::Over(Some(kept.thread));
            }
            Err(stop) => stop,
        };
        if let (Stop::Rpc(error @ RpcError::Refused { .. }), None) = (&stop, begins) {
            let detail = format!("the app-server did not go on with a thread: {error}");
            self.parked.give_up([kept]);
            return Ended::Unsent(Failure::codex_failed(detail));
        }
        let ended = self.stopped(&worker, stop, begins, Some(&kept.thread)).await;
        worker.detach(&kept.thread);
        ended
    }

    /// Hands over what is new and has Codex go on. Gives the turn, if it does.
    async fn ask_on(&self, kept: &Kept, at: usize, begins: &mut Option<u64>) -> Result<Option<String>, Stop> {
        let worker = &kept.worker;
        let rest = self.turn.conversation.get(at..).unwrap_or_default();
        let results = rest.iter().take_while(|item| matches!(item, Item::ToolResult { .. })).count();
        let (results, others) = rest.split_at(results);
        if !others.is_empty() {
            let items = self.items(&kept.thread, at + results.len());
            let answer = Arc::clone(&self.answer);
            let taken = move |reply: Result<(), &RpcError>| {
                if reply.is_ok() {
                    lock(&answer).conversation_taken();
                }
            };
            let sent = worker.inject(items, self.bytes(), Box::new(taken)).await?;
            let _: IgnoredAny = worker.reply(sent).await?;
        }
        if self.stage() != Stage::Running {
            self.over(Failure::codex_failed("given up before it began"));
            return Ok(None);
        }
        let began = Instant::now();
        let Some(turn) = &kept.progress.held else {
            let params = self.start_params(&kept.thread)?;
            let answer = Arc::clone(&self.answer);
            let accepted: OnReply = Box::new(move |reply| {
                if reply.is_ok() {
                    lock(&answer).accepted(began);
                }
            });
            let sent = worker.send("turn/start", &params, Some(accepted)).await?;
            let at = sent.begins();
            let started: Result<wire::TurnStarted, RpcError> = worker.reply(sent).await;
            // What was refused never began.
            if !matches!(started, Err(RpcError::Refused { .. })) {
                *begins = Some(at);
            }
            let started = started?;
            lock(&self.answer).called(&started.turn.id);
            return Ok(Some(started.turn.id));
        };
        for result in results {
            if let Item::ToolResult { call_id, content } = result {
                let sent = worker.supply(&kept.thread, call_id, wire::tool_result(content)).await;
                // Of those not asked for yet it is not known when they go out.
                let at = sent.as_ref().ok().copied().flatten().unwrap_or(0);
                *begins = Some(begins.unwrap_or(at).min(at));
                sent?;
            }
        }
        lock(&self.answer).accepted(began);
        // What the model called when its answer was given out already is the answer now.
        for LateCall { call_id, tool, arguments } in worker.late_calls(&kept.thread) {
            lock(&self.answer).asked_for(&call_id, &tool, &arguments);
        }
        Ok(Some(turn.clone()))
    }
}
