//! codex-api-proxy (architecture page to come)

pub mod cli;
pub mod config;
pub mod engine;
pub mod turn;
