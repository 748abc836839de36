//! What this service spent today before it was started: the journal knows.

use std::sync::Arc;

use tokio::sync::watch;

use crate::api::App;
use crate::cli::records;
use crate::observe::latency;
use crate::os::systemd::Unit;

/// Adds it to the sums of today, once READY is said. Where the journal does not tell, they remain those
/// since the start.
pub(super) async fn remember(app: Arc<App>, unit: Unit, mut started: watch::Receiver<bool>) {
    if started.wait_for(|started| *started).await.is_err() {
        return;
    }
    if !latency::heard() {
        tracing::debug!("the log has no latency lines at this level: today is counted since the start");
        return;
    }
    let today = app.observer.today();
    let (midnight, start) = (today.midnight(), today.since());
    let read = tokio::task::spawn_blocking(move || records::between(midnight, start, &unit)).await;
    match read {
        Ok(Ok(ledger)) => {
            app.observer.earlier(midnight, &ledger);
            let sums = ledger.total;
            tracing::debug!(
                "of today, before this start: {} requests, {} input tokens",
                sums.requests,
                sums.input_tokens
            );
        }
        Ok(Err(why)) => tracing::info!("today is counted since the start: {why}"),
        Err(error) => tracing::warn!(%error, "today is counted since the start"),
    }
}
