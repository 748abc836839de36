//! codex-api-proxy (architecture page to come)

pub mod codex;
pub mod config;
pub mod engine;
pub mod os;
pub mod process;
pub mod turn;
