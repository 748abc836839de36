//! codex-api-proxy (architecture page to come)

pub mod api;
pub mod config;
pub mod engine;
pub mod os;
pub mod turn;
