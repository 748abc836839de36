//! `POST /v1/chat/completions`: OpenAI's Chat Completions, as a conversation of ours and back.
//!
//! The only place that knows this wire format: `request` and `messages` read it, `reply` writes it.

mod fields;
mod messages;
pub mod reply;
mod request;
mod tools;

pub use request::{Ask, decode, needs_directory};
