//! What the tests stand on.

pub mod client;
pub mod fake_codex;
pub mod proxy;
pub mod upstream;
pub mod wait;
