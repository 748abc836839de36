//! The two ways to have Codex answer a turn, behind one closed enum.
//!
//! Knows Codex and processes; never HTTP. A turn goes in with the slot it runs in, events come
//! out; dropping the events cancels the turn.

use crate::turn::{Events, Phase, Slot, Turn};

pub mod app_server;
pub mod exec;

/// The engine in force.
pub enum Engine {
    /// One `codex exec --json` per turn.
    Exec(exec::Exec),
    /// Long-lived `codex app-server` workers.
    AppServer(app_server::Pool),
}

impl Engine {
    /// Runs a turn. Dropping the returned events cancels it; the slot comes back when nothing of
    /// the turn runs any more.
    pub fn run(&self, turn: Turn, slot: Slot) -> Events {
        match self {
            Engine::Exec(exec) => exec.run(turn, slot),
            Engine::AppServer(pool) => pool.run(turn, slot),
        }
    }

    /// The setting's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Engine::Exec(_) => "exec",
            Engine::AppServer(_) => "app-server",
        }
    }

    /// The phase that spans a turn of it, slot granted to answer known.
    pub fn phase(&self) -> Phase {
        match self {
            Engine::Exec(_) => Phase::CodexExec,
            Engine::AppServer(_) => Phase::AppServerExec,
        }
    }

    /// How the workers are; the exec engine has none.
    pub fn workers(&self) -> Workers {
        match self {
            Engine::Exec(_) => Workers::default(),
            Engine::AppServer(_) => Workers::default(),
        }
    }

    /// Whether an answer's text comes in one piece, just before its end.
    pub fn answers_whole(&self) -> bool {
        matches!(self, Engine::Exec(_))
    }
}

/// How the long-lived workers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Those that can take turns.
    pub ready: usize,
    /// Those there should be.
    pub total: usize,
    /// Why no turn can be served, if so.
    pub reason: Option<String>,
}
