//! OpenAI's and Anthropic's own client libraries, unmodified, against the real program and the real Codex CLI.
//!
//! The scripts in `tests/sdk` do the asserting; what they expect of the upstream is asked for with
//! the directives of `support/persona.rs`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::proxy::skipped;
use crate::support::upstream::Request;
use crate::support::{Ended, Reply, real, wait};

/// Runs a script against a server that has a key.
fn drive(program: &Path, script: &str, library: &Path) {
    if !program.exists() && program.is_absolute() || !library.exists() {
        return skipped(&format!("{} is not there: run `make test-tools`", library.display()));
    }
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", "sdk-key").set("max_concurrency", 4).start();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut run = Command::new(program)
        .arg(root.join("tests/sdk").join(script))
        .env("OPENAI_BASE_URL", format!("{}/v1", proxy.url()))
        .env("OPENAI_API_KEY", "sdk-key")
        .env("OPENAI_MODULES", library)
        .env_remove("OPENAI_ORG_ID")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Last of all a script leaves a turn that hangs upstream: once it is there, it is told to. The
    // library's own time-outs bound how long that takes.
    let hangs = |request: &Request| request.last_text("user").contains("[[hang]]");
    while !upstream.requests().iter().any(hangs) {
        let ended = run.try_wait().unwrap();
        assert_eq!(ended, None, "{script} ended before its last step");
        std::thread::sleep(Duration::from_millis(5));
    }
    run.stdin.take().unwrap().write_all(b"leave\n").unwrap();
    let status = run.wait().unwrap();
    assert!(status.success(), "{script}: {status}");
    wait::until("the turn that was left is given up", || {
        let given_up =
            |request: &Request| request.ended.is_some_and(|(ended, _)| ended == Ended::ClientClosed);
        upstream.requests().iter().any(|request| hangs(request) && given_up(request))
    });
    proxy.until_childless();
}

#[test]
fn openai_python() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    drive(&tools.join("bin/python"), "openai_python.py", &tools);
}

#[test]
fn anthropic_python() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = root.join("target/tools");
    let has = Command::new(tools.join("bin/python")).args(["-c", "import anthropic"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        return skipped("anthropic-python is not there: run `make test-tools`");
    }
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").env("CODEX_PROXY_API_KEY", "sdk-key").start();
    let call = Reply::call("weather", r#"{"city": "Oslo"}"#);
    upstream.when("[[anthropic-tool]]", [call.clone(), Reply::text("It rains.")]);
    upstream.when("[[anthropic-runner]]", [call, Reply::text("It rains on.")]);
    let status = Command::new(tools.join("bin/python"))
        .arg(root.join("tests/sdk/anthropic_python.py"))
        .env("ANTHROPIC_BASE_URL", proxy.url())
        .env("ANTHROPIC_API_KEY", "sdk-key")
        .env_remove("ANTHROPIC_AUTH_TOKEN")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    // The runner's tool was run, and what it said is in a conversation that was sent whole.
    let asked = |request: &Request| request.text().contains("rain in Oslo");
    assert!(
        upstream
            .requests()
            .iter()
            .any(|request| asked(request) && request.text().contains("[[anthropic-runner]]"))
    );
}

#[test]
fn openai_node() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sdk-node/node_modules");
    drive(Path::new("node"), "openai_node.mjs", &modules);
}
