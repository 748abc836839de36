//! The HTTP face: what the OpenAI-compatible routes take and answer. The only place that knows warp.
//!
//! A request passes, in this order: path (`routes`), method, host and origin, peer, key (`gate`); then
//! `generate` has its body read (`body`), decoded by its format (`dialect`; `chat`,
//! `completions`, `messages`, `responses`), admitted, run (`turns`), and written (`respond`, by the format's encoder). Everything that can go wrong becomes an
//! answer in one table (`error`).

pub mod answer;
pub mod body;
mod callers;
mod calls;
pub mod chat;
mod completions;
pub mod connection;
pub mod connection_io;
mod count;
pub mod dialect;
pub mod error;
pub mod events;
mod fields;
mod form;
pub mod gate;
mod generate;
pub mod ids;
mod image;
mod interrupt;
mod messages;
pub mod models;
mod openai;
pub mod openapi;
mod page;
pub mod peer;
mod raw;
pub mod remembered;
pub mod request_body;
pub mod respond;
pub mod responses;
pub mod routes;
pub mod running;
pub mod seats;
pub mod server;
mod setup;
pub mod sse;
pub mod status;
pub mod stop;
pub mod turns;
mod usage;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::codex::Codex;
use crate::config::{Config, Live};
use crate::engine::Engine;
use crate::observe::Observer;
use crate::os::systemd::Unit;

use body::Buffers;
use callers::Callers;
use events::Events;
use gate::Rules;
use remembered::Remembered;
use running::Running;
use seats::Connections;

/// What the routes need of the program.
pub struct App {
    /// The settings in force.
    pub live: Live,
    /// Who may call, made from the settings in force.
    rules: RwLock<Arc<Rules>>,
    /// The slots and the queue.
    pub admission: Admission,
    /// Who answers turns.
    pub engine: Arc<Engine>,
    /// The CLI, for status pages and model lists.
    pub codex: Codex,
    /// The counters.
    pub observer: Arc<Observer>,
    /// The memory of all bodies.
    pub buffers: Buffers,
    /// What was answered lately.
    pub remembered: Remembered,
    /// The open connections.
    pub connections: Connections,
    /// Those whose turns run or wait.
    pub running: Running,
    /// Those who watch.
    pub events: Events,
    /// The unit that this is, where the log goes to the journal.
    unit: Option<Unit>,
    /// What callers are called.
    callers: Callers,
    /// The end of the drain: whatever still runs gets its error and ends.
    pub cut: CancellationToken,
    started: Instant,
    started_unix: u64,
}

impl App {
    /// Puts the parts together.
    pub fn new(live: Live, rules: Rules, engine: Engine, codex: Codex, unit: Option<Unit>) -> App {
        let config = live.get();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let engine = Arc::new(engine);
        let keeps = Arc::clone(&engine);
        App {
            admission: Admission::new(config.slots(), config.max_queue_size),
            rules: RwLock::new(Arc::new(rules)),
            engine,
            codex,
            observer: Arc::new(Observer::new()),
            buffers: Buffers::before(move || keeps.give_way()),
            remembered: Remembered::new(config.response_items_bytes),
            connections: Connections::default(),
            running: Running::default(),
            events: Events::default(),
            unit,
            callers: Callers::default(),
            cut: CancellationToken::new(),
            started: Instant::now(),
            started_unix: now.as_secs(),
            live,
        }
    }

    /// The rules of this moment.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts new settings in force. Requests in flight keep the ones they began with.
    pub fn reload(&self, config: Config, rules: Rules) {
        self.admission.resize(config.slots(), config.max_queue_size);
        self.remembered.resize(config.response_items_bytes);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.live.set(config);
        self.callers.look_again();
        self.codex.look_again();
        self.engine.reload();
    }
}
