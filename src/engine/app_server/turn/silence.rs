//! A turn that says nothing any more because it waits for the result of a function.
//!
//! Codex asks for a result as soon as the model has written the call, and hears the rest of the
//! response meanwhile; but that the response was cut at the upstream's output limit it says only
//! once it has the result. Calls are answered when the response is complete, which this one never
//! is. A fork does not say either when a response is complete, so its calls are given out after a
//! short silence. Silence alone does not tell: the model may be writing another call. Refused then, the worst
//! is that Codex begins a request that is interrupted at once.

use std::pin::pin;
use std::time::Instant;

use tokio::time::sleep_until;

use super::{Run, Stop};
use crate::engine::app_server::answer::Stage;
use crate::engine::app_server::rpc::RpcError;
use crate::engine::app_server::worker::{Worker, lock};

impl Run {
    /// Waits until the answer is known or given up, refusing open calls after each long silence.
    pub(super) async fn wait_while_running(&self, worker: &Worker, thread: &str) -> Result<(), Stop> {
        let mut since = Instant::now();
        let mut exited = pin!(worker.wait_exited());
        loop {
            let calls = {
                let answer = lock(&self.answer);
                if answer.stage() != Stage::Running {
                    return Ok(());
                }
                since = since.max(answer.last_heard());
                answer.waits_for_more_calls()
            };
            let silence = if calls { worker.timing.calls } else { worker.timing.silence };
            tokio::select! {
                biased;
                () = self.change.notified() => continue,
                _ = &mut exited => return Err(RpcError::Closed.into()),
                () = sleep_until((since + silence).into()) => {}
            }
            if lock(&self.answer).last_heard() > since {
                continue;
            }
            if calls {
                lock(&self.answer).calls_are_all();
                continue;
            }
            let refused = worker.refuse_calls(thread);
            if refused > 0 {
                // What it says next is not the caller's conversation any more.
                lock(&self.answer).spoil();
                tracing::info!(
                    calls = refused,
                    "codex is silent after function calls; they are refused to hear why"
                );
            }
            since = Instant::now();
        }
    }
}
