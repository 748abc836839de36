//! A turn that says nothing any more because it waits for the result of a function.
//!
//! Codex asks for a result as soon as the model has written the call, and hears the rest of the
//! response meanwhile; but that the response was cut at the upstream's output limit it says only
//! once it has the result. Calls are answered when the response is complete, which this one never
//! is. Silence alone does not tell: the model may be writing another call. Refused then, the worst
//! is that Codex begins a request that is interrupted at once.

use std::time::Instant;

use tokio::time::sleep_until;

use super::{Run, Stop};
use crate::engine::app_server::answer::Stage;
use crate::engine::app_server::worker::{Worker, lock};

impl Run {
    /// Waits until the answer is known or given up, refusing open calls after each long silence.
    pub(super) async fn wait_while_running(&self, worker: &Worker, thread: &str) -> Result<(), Stop> {
        let mut since = Instant::now();
        loop {
            since = since.max(lock(&self.answer).last_heard());
            tokio::select! {
                biased;
                ended = self.wait_while(worker, |stage| stage == Stage::Running) => return ended,
                () = sleep_until((since + worker.timing.silence).into()) => {}
            }
            if lock(&self.answer).last_heard() > since {
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
