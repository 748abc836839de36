//! What the service manager hears of the server: ready, status, stopping, and that nothing hangs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::{App, status};
use crate::os::systemd;

/// The status line changes no more often than that.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// How much longer the stop may take is said anew this often…
const EXTEND_EVERY: Duration = Duration::from_secs(10);
/// …for so long each time.
const EXTENSION: Duration = Duration::from_secs(20);

/// Tells the service manager. Without one, it only keeps the notes.
pub struct Notifier {
    app: Arc<App>,
    notes: watch::Sender<Notes>,
    /// Whether READY was said, if anybody listens.
    started: watch::Sender<bool>,
}

/// What stands in the status line besides the numbers.
#[derive(Clone, Debug, Default)]
struct Notes {
    worries: Vec<String>,
    reload: Option<String>,
    /// Where it listens; `status` reads it here.
    listening: String,
}

impl Notifier {
    /// Says READY as soon as it is true, and keeps the status line and the watchdog going.
    pub fn start(app: Arc<App>, worries: Vec<String>, listeners: &[String]) -> Notifier {
        let listening = systemd::listening(listeners);
        let notes = watch::Sender::new(Notes { worries, reload: None, listening });
        let started = watch::Sender::new(!systemd::listens());
        if systemd::listens() {
            tokio::spawn(report(Arc::clone(&app), notes.subscribe(), started.clone()));
        }
        let queue = app.admission.clone();
        feed_watchdog(move || {
            queue.load();
        });
        Notifier { app, notes, started }
    }

    /// Tells whether READY was said; where nobody listens, there is nothing to wait for.
    pub fn started(&self) -> watch::Receiver<bool> {
        self.started.subscribe()
    }

    /// A reload begins. Before READY there is nothing it could be told apart from.
    pub fn reloading(&self) {
        if *self.started.borrow() {
            systemd::reloading();
        }
    }

    /// The reload is over; `outcome` stays in the status line if it asks for something. The worries
    /// are those of the new settings, if they are in force.
    pub fn reloaded(&self, worries: Option<Vec<String>>, outcome: Option<String>) {
        self.notes.send_modify(|notes| {
            notes.reload = outcome;
            notes.worries = worries.unwrap_or_else(|| std::mem::take(&mut notes.worries));
        });
        if *self.started.borrow() {
            systemd::ready(&line(&self.app, &self.notes.borrow()));
        }
    }

    /// The stop begins.
    pub fn stopping(&self) {
        systemd::stopping(&line(&self.app, &self.notes.borrow()));
    }

    /// Keeps the service manager patient until the stop has taken `at_most`.
    pub fn extend(&self, at_most: Duration) -> JoinHandle<()> {
        let deadline = Instant::now() + at_most;
        tokio::spawn(async move {
            while systemd::listens() && Instant::now() < deadline {
                systemd::extend(EXTENSION);
                tokio::time::sleep(EXTEND_EVERY).await;
            }
        })
    }
}

/// Feeds the watchdog, if there is one, for as long as the runtime runs other tasks and `prove`
/// returns.
pub fn feed_watchdog(prove: impl Fn() + Clone + Send + 'static) -> Option<JoinHandle<()>> {
    let mut beat = tokio::time::interval(systemd::watchdog()? / 2);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(tokio::spawn(async move {
        loop {
            beat.tick().await;
            let prove = prove.clone();
            if tokio::spawn(async move { prove() }).await.is_ok() {
                systemd::alive();
            }
        }
    }))
}

/// Follows the server for as long as it runs; wakes only when something has changed.
async fn report(app: Arc<App>, mut notes: watch::Receiver<Notes>, started: watch::Sender<bool>) {
    let mut surveys = app.codex.surveys();
    let mut workers = app.engine.changes();
    let mut said = String::new();
    loop {
        surveys.mark_unchanged();
        if let Some(workers) = &mut workers {
            workers.mark_unchanged();
        }
        let line = line(&app, &notes.borrow_and_update());
        if !*started.borrow() && status::settled(&app) {
            tracing::info!("started; {line}");
            systemd::ready(&line);
            started.send_replace(true);
            said = line;
        } else if line != said {
            systemd::status(&line);
            said = line;
        }
        // READY itself must not wait for that.
        if *started.borrow() {
            tokio::time::sleep(STATUS_PAUSE).await;
        }
        tokio::select! {
            () = app.admission.changed() => {}
            _ = surveys.changed() => {}
            () = changed(&mut workers) => {}
            _ = notes.changed() => {}
        }
    }
}

async fn changed(receiver: &mut Option<watch::Receiver<u64>>) {
    let told = match receiver {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending().await
    }
}

/// The status line: `ready; 2 turns running, 1 queued; 1 of 2 workers; …; listening on …`.
fn line(app: &App, notes: &Notes) -> String {
    let load = app.admission.load();
    let workers = app.engine.workers();
    let mut parts = vec![match status::reason(app) {
        _ if load.draining => "stopping".to_owned(),
        Ok(()) => "ready".to_owned(),
        Err(reason) => format!("not ready: {}", reason.trim_end_matches('.')),
    }];
    let turns = if load.running == 1 { "turn" } else { "turns" };
    parts.push(format!("{} {turns} running, {} queued", load.running, load.waiting));
    if workers.total > 0 {
        parts.push(format!("{} of {} workers", workers.ready, workers.total));
    }
    parts.extend(notes.worries.iter().chain(&notes.reload).cloned());
    parts.push(notes.listening.clone());
    // The notification ends at a line break.
    parts.join("; ").replace(['\n', '\r'], " ")
}
