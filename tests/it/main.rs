//! The integration tests: the real program, the real Codex CLI against a scripted upstream, a fake
//! Codex for what the real one will not do on demand, and the real client libraries.
//!
//! One file for each promise. The world they run in is in `support`.
#![allow(clippy::unwrap_used)]

mod strangers;
mod support;
mod workers;

mod agents;
mod app_server;
mod auth;
mod bad_http;
mod bad_input;
mod callers;
mod cancel;
mod chat;
mod completions;
mod config;
mod confined;
mod connect;
mod continuation;
mod crossing;
mod doubles;
mod errors;
mod failures;
mod from_state;
mod generate;
mod inputs;
mod isolation;
mod item_references;
mod latency_log;
mod launchd;
mod libraries;
mod limits;
mod login;
mod maker_suites;
mod memory;
mod messages;
mod packages;
mod page;
mod pages;
mod peers;
mod quadlet;
mod queue;
mod refused_codex;
mod reload;
mod responses;
mod scores;
mod sdk;
mod secrets;
mod state;
mod suites;
mod systemd;
mod threads;
mod tool_transport;
mod toolkits;
mod turn_ends;
mod untouched;
mod usage;
mod verbs;
mod worker_faults;
mod worker_loss;
mod wrappers;
