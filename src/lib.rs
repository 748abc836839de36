//! codex-api-proxy (architecture page to come)

pub mod config;
pub mod engine;
pub mod observe;
pub mod turn;
