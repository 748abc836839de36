//! The HTTP face: what the OpenAI-compatible routes take and answer.

pub mod body;
pub mod error;
pub mod gate;
pub mod server;
pub mod sse;
pub mod wire;
