//! Whether an app-server that is late with something lives.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Rpc, RpcError};

/// A method that no app-server has: refused by the same loop that takes every request, at no cost.
const NO_METHOD: &str = "codex-api-proxy/alive";

/// What came of asking for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vital {
    /// It answers, and owes nothing that was asked before.
    Well,
    /// It says something, but still owes replies to what was asked before.
    Overdue,
    /// It said nothing at all.
    Mute,
}

impl Rpc {
    /// Asks for a sign of life, and whether what was asked earlier is answered within `limit`.
    pub async fn vital(&self, limit: Duration) -> Vital {
        let end = Instant::now() + limit;
        let heard = self.heard.load(Ordering::Relaxed);
        let before = self.next.load(Ordering::Relaxed);
        // Past the limit of requests in flight: a worker that answers none would have no place left.
        let sent = self.send_in(None, NO_METHOD, &serde_json::json!({}), limit, end, None).await;
        let reply = match sent {
            Ok(sent) => self.reply(sent).await,
            Err(error) => Err(error),
        };
        match reply {
            // Its end tells more than its silence.
            Err(RpcError::Closed) => Vital::Well,
            Err(RpcError::Late { .. }) if self.heard.load(Ordering::Relaxed) == heard => Vital::Mute,
            _ if timeout_at(end, self.answered_before(before)).await.is_ok() => Vital::Well,
            _ => Vital::Overdue,
        }
    }

    /// Waits until no request with a smaller id waits for its reply.
    async fn answered_before(&self, id: u64) {
        loop {
            let mut replied = pin!(self.replied.notified());
            replied.as_mut().enable();
            let waits = self.pending().as_ref().is_some_and(|all| all.keys().any(|waiting| *waiting < id));
            if !waits {
                return;
            }
            replied.await;
        }
    }
}
