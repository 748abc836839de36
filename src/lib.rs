//! `codex-api-proxy`: a local, OpenAI-compatible HTTP service whose answers come from the Codex CLI
//! installed and logged in on the machine. This page is the map; each folder's page has the detail.
//!
//! # Bird's eye
//!
//! ```text
//!   client ── HTTP ──> api ──> admission ──> engine ──> codex ──> process ──> codex exec | app-server
//!                       ^                       │
//!                       └────── Events ─────────┘       turn, config: known to all, know nobody
//! ```
//!
//! A request goes **down** through these files, `chat` standing for any format's folder:
//!
//! 1. `api/server.rs` accepts the connection, `api/seats.rs` gives it a place, `api/connection.rs` has
//!    hyper read its heads over `api/connection_io.rs`.
//! 2. `api/routes.rs` finds the row of its path, `api/gate.rs` lets the caller in.
//! 3. `api/generate.rs` is its whole way from here: `api/body.rs` reads the body, `api/chat/request.rs`
//!    makes a [`turn::Turn`] of it, `admission/mod.rs` gives it a place in the queue and later a
//!    [`turn::Slot`], `engine/mod.rs` starts it.
//! 4. exec: `engine/exec/mod.rs` has the prompt made (`turn/prompt.rs`) and the command line
//!    (`codex/args.rs`), and starts a process (`process/child.rs`, `os/spawn.rs`).
//!    app-server: `engine/app_server/pool.rs` picks a worker, `turn.rs` beside it begins the turn on a
//!    thread (`turn/thread.rs`, or `turn/kept.rs` goes on with one), `rpc.rs` writes the requests of
//!    `wire/requests.rs`.
//!
//! A delta comes **up**:
//!
//! 1. `process/lines.rs` cuts Codex's output in lines. exec: `engine/exec/answer.rs` reads them.
//!    app-server: `engine/app_server/worker.rs` finds the turn by its thread, `answer.rs` beside it
//!    takes the notification (`wire/notifications.rs`), `answer/assembler.rs` says what it means.
//! 2. It is a [`turn::Event`] in the channel of `turn/event.rs`, whose other end is [`turn::Events`].
//! 3. `api/turns.rs` hears the turns of the request, `api/answer.rs` cuts what must not go out (stop
//!    strings, what is withheld until it is checked), `api/respond.rs` writes what
//!    `api/chat/encoder.rs` makes of it, `api/connection_io.rs` puts it on the socket.
//!
//! Dropping the events cancels the turn: that one idiom serves a client that left, a failure beside it,
//! and the end of a drain.
//!
//! # Layout
//!
//! A test (`map.rs`) reads the second column: no file may name another floor.
//!
//! | where | may name | what |
//! |---|---|---|
//! | [`cli`] | api, clients, admission, engine, codex, process, observe, os, turn, config | the command line, one file for each verb and for each thing verbs share; `serve` is the start-up page: settings, log, listeners, engine, ready, drain; `service` is systemd and launchd as the verbs see them; `doctor` looks at everything |
//! | [`api`] | clients, admission, engine, codex, observe, os, turn, config | the HTTP edge: accept loop, who may call, bodies, one folder for each format, the one error table |
//! | [`clients`] | nobody | the table of known clients, and the text that points one here |
//! | [`admission`] | turn | slots and the bounded queue |
//! | [`engine`] | codex, process, os, turn, config | `exec`: one process per turn; `app_server`: long-lived workers |
//! | [`codex`] | process, observe, os, turn, config | the installed CLI: found, surveyed, isolated, confined; its arguments and its errors |
//! | [`process`] | os | child processes in groups of their own, ended and reaped on every way out |
//! | [`observe`] | turn, config | the log, the latency line, the metrics: folds over events |
//! | [`os`] | nobody | what only the system can tell or do; the only `unsafe` |
//! | [`turn`] | nobody | the domain: a question, its events, its failures, its prompt, its working directory |
//! | [`config`] | nobody | every setting, declared once in `settings`; layers, errors, provenance, rendering |
//!
//! # What is deliberately absent
//!
//! - `warp` occurs only in `api` (and where `cli::serve` plugs it in), `clap` only in `config::flags` and
//!   `cli`, `serde_json::Value` never in `turn`: the same test.
//! - No login token is read, refreshed or replayed anywhere: Codex authenticates itself.
//! - No word of Codex or the upstream reaches the log, for it may quote the prompt; of what the upstream
//!   said, the client who sent the request reads one masked line ([`turn::Said`]).
//! - Nothing adds up times but [`observe::Trace`]: who does the work says how long a phase took.
//! - No daemon, pid file or log file: the service manager has those.
//! - No lock over data is held across an await (clippy's `await_holding_lock`); two async ones hold no data
//!   but have workers start, and threads be warmed up, one at a time. No queue is unbounded. What may
//!   block, or takes long, has a thread of its own.
//!
//! # Where things are decided
//!
//! - Which paths there are, and which format is spoken where: the table in `api::routes`.
//! - What clients are told of it: `api/openapi.json`, which tests hold against routes and decoders.
//! - What a client reads of a failure: `api::error`, one exhaustive match; its format names the field.
//! - What Codex is told: [`codex::args`]; what it may see: [`codex::environment`], [`codex::home`].
//! - Which of Codex's words mean which failure: [`codex::errors`].
//! - When a stream may end as complete: `api::respond`.
//!
//! # Tests
//!
//! Pure things are tables beside the code. `tests/it` runs the real program with the real Codex CLI
//! against a scripted upstream; a fake codex does what the real one will not do on demand. Units and
//! packages live in a systemd that is booted for them (`tests/tools/boot-systemd.sh`).
//!
//! # Packages
//!
//! `packaging/install.sh` is the one list of what belongs where: `make install`, the packages, the
//! recipes and the tests in a booted systemd all call it. The program itself makes what it can tell
//! best: units, manual pages, completions, the example of a settings file (`cli::generate`).
//!
//! # Dependencies
//!
//! | crate | why |
//! |---|---|
//! | tokio, tokio-util | the runtime; cancellation tokens and task trackers |
//! | warp | routes and replies |
//! | hyper, hyper-util, http | the accept loop warp does not offer: inherited sockets, time-outs, limits, drain |
//! | bytes, futures-util | buffers and streams of bodies |
//! | aho-corasick | stop strings, found in one pass |
//! | async-compression, flate2 | request bodies in deflate and zstd, and in gzip of any number of members |
//! | serde, serde_json | the wires |
//! | figment | settings in layers with the origin of each value |
//! | toml, toml_edit | Codex's overrides are TOML; editing the user's file keeps its comments |
//! | clap | the command line |
//! | clap_mangen, clap_complete | its manual page and its completions: `generate` |
//! | strsim | "did you mean" |
//! | subtle | keys compared in constant time |
//! | base64, imagesize, crc32fast | images: their encoding, what they are, whether they are whole |
//! | jsonschema | answers checked against schemas that the upstream does not enforce; fetches nothing |
//! | icu_properties, icu_normalizer | what Unicode says of a character: which print nothing, which look alike |
//! | hmac, sha2, getrandom | the identity of a conversation, and the key it is made with |
//! | jiff | Codex tells the end of a limit in local time, a model that works in a folder is told the day, and sums are of local days |
//! | percent-encoding | model names in paths |
//! | rustix | directories opened and entered by descriptor, links not followed; files locked while their owner lives |
//! | sd-notify | readiness, and sockets of systemd |
//! | socket2 | socket options, and the kernel's word on who is connected |
//! | mimalloc | the allocator: a third of the CPU of a request less under load; without huge pages, which cost memory |
//! | libmimalloc-sys | the same: what it holds of freed memory is given back ([`os::memory`]) |
//! | libc | signals, umask, pidfd: in [`os`] only |
//! | tracing, tracing-subscriber, tracing-journald, tracing-oslog | logs, to stderr, as native journal fields, or to the unified log of macOS |

// These pages are for readers of the source; `main` and the tests get the two names below.
#![allow(rustdoc::private_intra_doc_links)]

mod admission;
mod api;
mod cli;
mod clients;
mod codex;
mod config;
mod engine;
#[cfg(test)]
mod map;
mod names;
mod observe;
mod os;
mod process;
mod turn;

pub use cli::run;
pub use config::SETTINGS;
