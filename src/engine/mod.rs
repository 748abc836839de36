//! The two ways to have Codex answer a turn, behind one closed enum.
//!
//! Knows Codex and processes; never HTTP. A turn goes in with the slot it runs in, events come
//! out; dropping the events cancels the turn.

use crate::turn::{Events, Slot, Turn};

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
}
