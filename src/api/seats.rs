//! How many connections are open.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How many connections are open; idle exit and the accept limit follow it. Clones share it.
#[derive(Clone, Debug)]
pub struct Connections(Arc<watch::Sender<usize>>);

impl Default for Connections {
    fn default() -> Connections {
        Connections(Arc::new(watch::Sender::new(0)))
    }
}

impl Connections {
    /// How many are open now.
    pub fn open(&self) -> usize {
        *self.0.borrow()
    }

    /// Resolves once no connection has been open for that long.
    pub async fn idle_for(&self, time: Duration) {
        let mut open = self.0.subscribe();
        loop {
            // The sender lives in `self`, so waiting can only end with the condition.
            let _ = open.wait_for(|open| *open == 0).await;
            tokio::select! {
                () = tokio::time::sleep(time) => return,
                _ = open.changed() => {}
            }
        }
    }

    pub(super) async fn fewer_than(&self, limit: impl Fn() -> usize) {
        let _ = self.0.subscribe().wait_for(|open| *open < limit()).await;
    }

    pub(super) fn enter(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.clone())
    }
}

/// An open connection, until dropped.
pub(super) struct Open(Connections);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}
