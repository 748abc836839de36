//! A worker from its first line to its end: what it says goes to the turns it is of, and what ended it
//! to whoever waits.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Exit, TOOL_CALL, Worker, lock, wait};
use crate::codex::errors::before_prompt;
use crate::engine::app_server::answer::Answer;
use crate::engine::app_server::rpc::{Ended, ServerMessage};
use crate::engine::app_server::threads::OpenCall;
use crate::engine::app_server::wire::{
    self, About, DeltaNotification, RateLimitsNotification, ToolCallRequest,
};
use crate::engine::plan::Source;
use crate::os::process::unread;
use crate::process::{Child, lines};
use crate::turn::Failure;

/// How long the output of an ended process may still come.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long a process that closed its output may take to end.
const GRACE: Duration = Duration::from_millis(500);

impl Worker {
    /// Reads to the end of the process, then ends everything that depended on it.
    pub(super) async fn live(
        self: Arc<Self>,
        reader: impl AsyncRead + Unpin,
        child: Option<Child>,
        writing: JoinHandle<u64>,
        input: Option<OwnedFd>,
    ) {
        // A request of the largest size is echoed in one line, a little longer.
        let body = usize::try_from(self.installation.config.max_body_bytes).unwrap_or(usize::MAX);
        let longest = lines::LONGEST.max(body).saturating_mul(2);
        let exited = async {
            match &child {
                Some(child) => child.ended().await,
                None => std::future::pending().await,
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        let mut stop_reason = None;
        let ended = tokio::select! {
            ended = self.rpc.read(reader, longest, |heard| self.hear(heard)) => ended,
            () = exited => Ended::Eof,
            why = wait(&self.stop_reason) => {
                stop_reason = why;
                Ended::Eof
            }
        };
        self.rpc.close();
        let told = match (child, stop_reason.is_some() || ended != Ended::Eof) {
            (None, _) => ("closed".into(), String::new()),
            (Some(child), true) => ("ended by us".into(), child.stop().await),
            (Some(child), false) => match child.finish(GRACE).await {
                Ok((status, stderr)) => (status.to_string(), stderr),
                Err(error) => (error.to_string(), String::new()),
            },
        };
        let failure = stop_reason.unwrap_or_else(|| {
            let (status, stderr) = told;
            let detail = match ended {
                Ended::Eof => before_prompt(&stderr),
                Ended::Broken(why) => format!("{why}; {}", before_prompt(&stderr)),
            };
            Failure::CodexExited { status, detail }
        });
        let read = match input {
            Some(input) => read_at_most(writing, input).await,
            None => None,
        };
        lock(&self.threads).clear();
        // Whoever has something under way here hears of it now.
        self.exit.send_replace(Some(Exit { failure, read }));
    }

    fn hear(&self, heard: ServerMessage<'_>) {
        let ServerMessage { method, params, id } = heard;
        if let Some(id) = id {
            return self.requested(method, params, id);
        }
        if method == "item/agentMessage/delta" {
            if let Ok(DeltaNotification { thread_id, item_id, delta }) = serde_json::from_str(params)
                && let Some(answer) = self.listener(&thread_id.0, method)
            {
                lock(&answer).message_delta(&item_id.0, delta);
            }
        } else if method == "account/rateLimits/updated" {
            if let Ok(RateLimitsNotification { rate_limits }) = serde_json::from_str(params) {
                self.plan.report(rate_limits, Source::Turn);
            }
        } else if let Ok(About { thread_id: Some(thread_id) }) = serde_json::from_str(params)
            && let Some(answer) = self.listener(&thread_id.0, method)
        {
            lock(&answer).hear(method, params);
        }
    }

    fn listener(&self, thread: &str, method: &str) -> Option<Arc<Mutex<Answer>>> {
        // Words that come when nobody listens would be the thread's, and not the client's.
        let spoils = matches!(
            method,
            "error" | "turn/completed" | "thread/closed" | "thread/compacted" | "item/agentMessage/delta"
        );
        lock(&self.threads).listener(thread, spoils)
    }

    /// The app-server asks something. Only calls of the caller's functions wait: an answer to one
    /// of several parallel calls would set the others aside.
    fn requested(&self, method: &str, params: &str, id: &str) {
        if method == TOOL_CALL
            && let Ok(ToolCallRequest { thread_id, call_id, tool, arguments }) = serde_json::from_str(params)
        {
            let call = OpenCall { call_id: call_id.0.into_owned(), request: id.to_owned() };
            match lock(&self.threads).called(&thread_id.0, call, &tool.0, arguments.get()) {
                Ok(None) => return,
                Ok(Some((call, result))) => return self.rpc.answer(&call.request, &result),
                Err(_) => {}
            }
        }
        tracing::debug!(method, "declined what the app-server asked");
        self.rpc.answer(id, wire::refusal(method));
    }
}

/// How much of its input an ended process can have read at most: what the pipe took, less what is
/// still in it.
async fn read_at_most(writing: JoinHandle<u64>, input: OwnedFd) -> Option<u64> {
    // The connection is closed and its reader gone: the writer ends at once, unless somebody else
    // holds the pipe.
    let taken = timeout(LAST_WORDS, writing).await.ok()?.ok()?;
    taken.checked_sub(unread(input.as_fd())?)
}
