//! OpenAI's and Anthropic's own client libraries, unmodified and started by `connect`, against the real program and the real Codex CLI.
//!
//! The scripts in `tests/sdk` do the asserting; what they expect of the upstream is asked for with
//! the directives of `support/persona.rs`.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::programs::{KEY, modules, python, script};
use crate::support::proxy::Scratch;
use crate::support::upstream::Request;
use crate::support::{Ended, Reply, real, wait};

/// Runs a script against a server that has a key.
fn drive(client: &str, program: &Path, name: &str, library: &Path) {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", KEY).set("max_concurrency", 4).start();
    let scratch = Scratch::new();
    let mut run = script(&[client], program, name, &proxy, &scratch)
        .env("OPENAI_MODULES", library)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Last of all a script leaves a turn that hangs upstream: once it is there, it is told to. The
    // library's own time-outs bound how long that takes.
    let hangs = |request: &Request| request.last_text("user").contains("[[hang]]");
    while !upstream.requests().iter().any(hangs) {
        let ended = run.try_wait().unwrap();
        assert_eq!(ended, None, "{name} ended before its last step");
        std::thread::sleep(Duration::from_millis(5));
    }
    run.stdin.take().unwrap().write_all(b"leave\n").unwrap();
    let status = run.wait().unwrap();
    assert!(status.success(), "{name}: {status}");
    wait::until("the turn that was left is given up", || {
        let given_up =
            |request: &Request| request.ended.is_some_and(|(ended, _)| ended == Ended::ClientClosed);
        upstream.requests().iter().any(|request| hangs(request) && given_up(request))
    });
    proxy.until_childless();
}

/// openai-python of that folder below `target`.
fn openai_python_of(folder: &str) {
    let Some(python) = python(folder, "openai") else { return };
    drive("openai-python", &python, "openai_python.py", Path::new(""));
}

#[test]
fn openai_python() {
    openai_python_of("tools");
}

#[test]
fn openai_python_1() {
    openai_python_of("older-python");
}

/// anthropic-python of that folder.
fn anthropic_python_of(folder: &str) {
    let Some(python) = python(folder, "anthropic") else { return };
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").env("CODEX_PROXY_API_KEY", KEY).start();
    let scratch = Scratch::new();
    let call = Reply::call("weather", r#"{"city": "Oslo"}"#);
    upstream.when("[[anthropic-tool]]", [call.clone(), Reply::text("It rains.")]);
    upstream.when("[[anthropic-runner]]", [call, Reply::text("It rains on.")]);
    let script = script(&["anthropic-python"], &python, "anthropic_python.py", &proxy, &scratch).status();
    let status = script.unwrap();
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
fn anthropic_python() {
    anthropic_python_of("tools");
}

#[test]
fn anthropic_python_1() {
    anthropic_python_of("libraries-python");
}

#[test]
fn anthropic_python_0() {
    anthropic_python_of("older-python");
}

#[test]
fn openai_node() {
    let Some(modules) = modules("openai") else { return };
    drive("openai-node", Path::new("node"), "openai_node.mjs", &modules);
}
