//! Long-lived `codex app-server` workers, many turns each: token streaming, real history, real
//! function calls.
//!
//! ```text
//!   Pool::run -> a worker with room -> turn (thread, items, start) -> answer -> Events
//!   process -> rpc (lines) -> worker (which thread) -> answer (what it means) -> Events
//!   a thread whose answer is complete -> parking -> the next turn of its conversation
//! ```
//! - `pool` keeps the workers: started one at a time, replaced when they die, hang or leak, and
//!   when settings or login change.
//! - `worker` is one process, `rpc` its pipes, `wire` its messages.
//! - `parking` keeps threads between the turns of a conversation, `past` tells which request goes on
//!   from which.
//! - `features` is what the installed app-server was found to carry.
//! - `turn` is the script of one turn, `answer` what came of it so far, `tool_names` what functions
//!   are called on the way.
//!
//! A reader never waits for a client: a turn whose client falls too far behind is given up, the
//! others of its worker do not notice.

mod answer;
#[cfg(test)]
mod fake;
pub mod features;
mod parking;
mod past;
mod pool;
mod rpc;
mod threads;
mod tool_names;
mod turn;
pub(super) mod wire;
mod worker;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::codex::Databases;
use crate::process::Child;
use crate::turn::Failure;

pub use features::Features;
pub(super) use pool::ask_plan;
pub use pool::{Pool, examine};

/// A fresh app-server process: its output, its input, and itself (not there in tests).
pub struct Link {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    child: Option<Child>,
    /// A second hold on its input, to tell what of it was never read; `None` where nobody can.
    input: Option<OwnedFd>,
    /// What it has to itself in the state folder.
    databases: Option<Arc<Databases>>,
}

/// Deadlines and pauses.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For each reply before a worker is ready.
    handshake: Duration,
    /// For each reply afterwards.
    rpc: Duration,
    /// For a reply before the worker is asked for a sign of life.
    patience: Duration,
    /// For the sign of life.
    vital: Duration,
    /// Without a word about a turn that waits for a function's result, until that is refused.
    silence: Duration,
    /// Without a word after a function call, where nothing tells that a response is complete. A call
    /// that comes later is given with the next request.
    calls: Duration,
    /// From an accepted interruption to the end of the turn.
    end: Duration,
    /// Before a worker is started again; doubled at each failure.
    first_pause: Duration,
    /// The longest such pause.
    longest_pause: Duration,
    /// A worker that lived this long is not counted as failing.
    settled: Duration,
    /// How often the size of workers is looked at.
    look: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            handshake: Duration::from_secs(30),
            rpc: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            vital: Duration::from_secs(2),
            silence: Duration::from_secs(60),
            calls: Duration::from_millis(30),
            end: Duration::from_secs(10),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
            settled: Duration::from_secs(10),
            look: Duration::from_secs(30),
        }
    }
}

/// The pool as status pages show it.
#[derive(Clone, Debug)]
pub struct Status {
    /// Workers that take turns.
    pub ready: usize,
    /// Workers there should be.
    pub total: usize,
    /// Why the last worker that failed to start, or that died, did so; `None` when all are ready.
    pub reason: Option<Failure>,
    /// Why function tools are not possible with every model, where they are not.
    pub functions: Option<String>,
}
