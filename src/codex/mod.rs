//! The installed Codex CLI: what it says and how it is called. Knows nothing of turns in flight.

pub mod errors;
