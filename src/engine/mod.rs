//! The two ways to have Codex answer a turn, behind one closed enum.
//!
//! Knows Codex and processes; never HTTP. A turn goes in with the slot it runs in, events come
//! out; dropping the events cancels the turn.

use tokio::sync::watch;

use crate::codex::{Codex, Installation};
use crate::config::{EngineKind, Live};
use crate::turn::{Events, Failure, Phase, Slot, Turn};

use plan::{Plan, RateLimit, Report};

pub mod app_server;
pub mod exec;
pub mod plan;

/// The engine in force, and what the account has left.
pub struct Engine {
    way: Way,
    plan: Plan,
}

/// How turns are answered.
enum Way {
    /// One `codex exec --json` per turn.
    Exec(exec::Exec),
    /// Long-lived `codex app-server` workers.
    AppServer(app_server::Pool),
}

impl Engine {
    /// Starts the engine of these settings; another one takes a restart. Inside the runtime.
    pub fn start(live: Live, codex: Codex) -> Engine {
        let plan = Plan::default();
        let way = match live.get().engine {
            EngineKind::Exec => Way::Exec(exec::Exec::start(live, codex, plan.clone())),
            EngineKind::AppServer => Way::AppServer(app_server::Pool::start(live, codex, plan.clone())),
        };
        Engine { way, plan }
    }

    /// Runs a turn. Dropping the returned events cancels it; the slot comes back when nothing of
    /// the turn runs any more.
    pub fn run(&self, turn: Turn, slot: Slot) -> Events {
        match &self.way {
            Way::Exec(exec) => exec.run(turn, slot),
            Way::AppServer(pool) => pool.run(turn, slot),
        }
    }

    /// Whether it can run such a turn at all, told before the turn waits for anything.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] with the part it cannot carry.
    pub fn check(&self, turn: &Turn) -> Result<(), Failure> {
        match &self.way {
            Way::Exec(_) => exec::check(turn),
            Way::AppServer(_) => Ok(()),
        }
    }

    /// The setting it stands for.
    fn kind(&self) -> EngineKind {
        match &self.way {
            Way::Exec(_) => EngineKind::Exec,
            Way::AppServer(_) => EngineKind::AppServer,
        }
    }

    /// The setting's word for it.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// The phase that spans a turn of it, slot granted to answer known.
    pub fn phase(&self) -> Phase {
        match &self.way {
            Way::Exec(_) => Phase::CodexExec,
            Way::AppServer(_) => Phase::AppServerExec,
        }
    }

    /// How the workers are; the exec engine has none.
    pub fn workers(&self) -> Workers {
        match &self.way {
            Way::Exec(_) => Workers::default(),
            Way::AppServer(pool) => {
                let status = pool.status();
                Workers { ready: status.ready, total: status.total, reason: status.reason }
            }
        }
    }

    /// Marked changed whenever [`Engine::workers`] may have; `None` without workers.
    pub fn changes(&self) -> Option<watch::Receiver<u64>> {
        match &self.way {
            Way::Exec(_) => None,
            Way::AppServer(pool) => Some(pool.changes()),
        }
    }

    /// Conversations whose threads are kept for their next request.
    pub fn parked(&self) -> usize {
        match &self.way {
            Way::Exec(_) => 0,
            Way::AppServer(pool) => pool.parked(),
        }
    }

    /// The account's rate-limit windows, as last reported.
    pub fn limits(&self) -> Vec<RateLimit> {
        self.plan.last().map_or_else(Vec::new, |report| report.windows)
    }

    /// What was last told of the account's plan. That somebody looks has Codex asked behind, if it was told
    /// long ago. Inside the runtime.
    pub fn plan(&self) -> Option<Report> {
        match &self.way {
            Way::Exec(exec) => exec.look_at_plan(),
            Way::AppServer(pool) => pool.look_at_plan(),
        }
        self.plan.last()
    }

    /// Why function tools are not possible with every model, where they are not.
    pub fn functions_limited(&self) -> Option<String> {
        match &self.way {
            Way::Exec(_) => None,
            Way::AppServer(pool) => pool.status().functions,
        }
    }

    /// Gives up the least of what it keeps for later, whose memory is wanted now. Whether there was
    /// anything. Inside the runtime.
    pub fn give_way(&self) -> bool {
        match &self.way {
            Way::Exec(_) => false,
            Way::AppServer(pool) => pool.give_way(),
        }
    }

    /// Brings what runs in line with changed settings, as it falls idle.
    pub fn reload(&self) {
        match &self.way {
            Way::Exec(_) => {}
            Way::AppServer(pool) => pool.reload(),
        }
    }

    /// Ends every turn and process; returns when none is left.
    pub async fn shutdown(&self) {
        match &self.way {
            // Its turns' processes end with their events.
            Way::Exec(exec) => exec.shutdown().await,
            Way::AppServer(pool) => pool.shutdown().await,
        }
    }

    /// Whether an answer's text comes in one piece, just before its end.
    pub fn answers_whole(&self) -> bool {
        !self.kind().capabilities().streams
    }
}

/// How the long-lived workers are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workers {
    /// Those that can take turns.
    pub ready: usize,
    /// Those there should be.
    pub total: usize,
    /// Why the last one that could not start could not.
    pub reason: Option<Failure>,
}

/// What it means that a process of the CLI could not be started.
fn not_started(installation: &Installation, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
            Failure::CodexMissing { bin: installation.config.codex_bin.clone() }
        }
        _ => Failure::CodexExited {
            status: "not started".into(),
            detail: format!("cannot start {}: {error}", installation.program.display()),
        },
    }
}
