//! What the tests stand on.

pub mod boot;
pub mod client;
pub mod fake_codex;
pub mod fake_systemd;
pub mod programs;
pub mod proxy;
// The stand-alone program and later tests use what these do not.
#[allow(dead_code)]
pub mod upstream;
pub mod wait;

use serde_json::{Value, json};

pub use client::{Response, Sse, check_envelope};
pub use fake_codex::example;
pub use proxy::{Proxy, Scratch, Setup, require_codex, skipped};
pub use upstream::{Ended, Reply, Upstream};

/// The real Codex CLI behind the program under test, with a scripted upstream behind both;
/// `None` after saying why the test is skipped.
pub fn real() -> Option<(Setup, Upstream)> {
    let codex = require_codex()?;
    let upstream = Upstream::start();
    Some((Setup::real(&codex, &upstream), upstream))
}

/// One user message.
pub fn user(text: impl Into<Value>) -> Value {
    json!({ "role": "user", "content": text.into() })
}

/// One message of any role.
pub fn said(role: &str, text: &str) -> Value {
    json!({ "role": role, "content": text })
}

/// The text of a stream's chunks for one choice, and its finish reason.
pub fn joined(chunks: &[Value], index: u64) -> (String, Option<String>) {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten();
    let (mut text, mut finish) = (String::new(), None);
    for choice in choices.filter(|choice| choice["index"] == index) {
        text += choice["delta"]["content"].as_str().unwrap_or_default();
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert_eq!(finish, None, "one finish chunk only");
            finish = Some(reason.to_owned());
        }
    }
    (text, finish)
}
