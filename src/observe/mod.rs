//! What the operator can see of the program: log lines, the latency line, metrics.
//!
//! Everything here is a fold over what others report (nextest's idea): the flow of a request
//! calls [`Trace::see`] once per event and knows nothing else about time. Sees only `turn` and
//! `config`. Prompts and answers never pass through: not one function here takes their text to
//! keep it.

pub mod latency;
pub mod ledger;
pub mod log;
pub mod message_ids;
pub mod metrics;
pub mod prometheus;
mod queue;
mod recent;
pub mod recorded;
pub mod repeats;
pub mod today;
mod writer;

pub use latency::{RequestInfo, Trace};
pub use log::escape;
pub use metrics::{Gauges, Observer, Status};
pub use recent::Recent;
