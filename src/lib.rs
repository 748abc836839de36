//! codex-api-proxy (architecture page to come)

pub mod admission;
pub mod api;
pub mod cli;
pub mod codex;
pub mod config;
pub mod engine;
pub mod observe;
pub mod os;
pub mod process;
pub mod turn;
