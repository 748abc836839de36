//! Libraries that call models, unmodified and started by `connect` with the settings that users are shown, against the real program and the real
//! Codex CLI.
//!
//! The scripts in `tests/sdk` do the asserting; here stands what the model says to each, and what of it
//! was bought.

use std::path::Path;

use crate::support::programs::{asked, modules, python, run, script, served, untroubled};
use crate::support::proxy::Scratch;
use crate::support::{Reply, Upstream};

#[test]
fn openai_agents_run_a_tool_loop() {
    let Some(python) = python("sdk-python", "agents") else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let report = Reply::text(r#"{"city": "Oslo", "wet": true}"#);
    let (oslo, rome) = (r#"{"city": "Oslo"}"#, r#"{"city": "Rome"}"#);
    let both = || Reply::call("weather", oslo).then_call("populace", r#"{"city": "Oslo", "year": 2020}"#);
    let again = || [both(), Reply::call("weather", rome), Reply::text("Wet, both.")];
    upstream.when("mark-whole", again());
    upstream.when("mark-streamed", again());
    upstream.when("mark-again", [Reply::text("Quite.")]);
    upstream.when("mark-structured", [Reply::call("weather", oslo), report]);
    let mut script = script(&["openai-agents"], &python, "openai_agents.py", &proxy, &scratch);
    // Otherwise it reports its runs to OpenAI.
    script.env("OPENAI_AGENTS_DISABLE_TRACING", "1");
    run(script, &scratch);
    untroubled(&proxy);
    for (marker, times) in
        [("mark-whole", 3), ("mark-streamed", 3), ("mark-structured", 3), ("mark-again", 1)]
    {
        assert_eq!(asked(&upstream, marker).len(), times, "{marker}");
    }
    let last = asked(&upstream, "mark-whole").pop().unwrap();
    assert_eq!(last.tool_outputs(), ["rain in Oslo", "700000", "rain in Rome"]);
    let formed = asked(&upstream, "mark-structured");
    assert!(formed[1].body["text"]["format"]["schema"]["properties"]["wet"].is_object(), "{}", formed[1].raw);
}

/// What a model says in a loop of two calls at once, and to one question more.
fn loops(upstream: &Upstream, markers: &[&str]) {
    for marker in markers {
        let calls = Reply::nothing().then_reasoning(&["Two cities."]);
        let calls = calls.then_call("weather", r#"{"city": "Oslo"}"#);
        let calls = calls.then_call("weather", r#"{"city": "Rome"}"#);
        upstream.when(marker, [calls, Reply::text("Rain in both."), Reply::text("Quite.")]);
    }
}

/// That each loop cost its three turns, the model told what the functions said and what it said itself.
fn looped(upstream: &Upstream, markers: &[&str]) {
    for marker in markers {
        let requests = asked(upstream, marker);
        assert_eq!(requests.len(), 3, "{marker}");
        assert_eq!(requests[2].tool_outputs(), ["rain in Oslo", "rain in Rome"], "{marker}");
        assert_eq!(requests[2].last_text("assistant"), "Rain in both.", "{marker}");
    }
}

/// A library for Python or Node that speaks both formats, its own retries on.
fn both_formats(clients: &[&str], program: &Path, name: &str, modules: &Path, structured: Reply) {
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let loops_of =
        ["mark-openai-whole", "mark-openai-streamed", "mark-anthropic-whole", "mark-anthropic-streamed"];
    loops(&upstream, &loops_of);
    upstream.when("mark-structured", [structured]);
    upstream.when("mark-fails", [Reply::failed("server_error", "broken")]);
    let mut script = script(clients, program, name, &proxy, &scratch);
    script.env("OPENAI_MODULES", modules);
    run(script, &scratch);
    looped(&upstream, &loops_of);
    for failed in ["mark-fails-openai", "mark-fails-anthropic"] {
        assert_eq!(asked(&upstream, failed).len(), 1, "{failed}");
    }
}

const REPORT: &str = r#"{"city": "Oslo", "wet": true}"#;

#[test]
fn langchain_runs_tool_loops_in_both_formats() {
    let Some(python) = python("sdk-python", "langchain_openai, langchain_anthropic") else { return };
    both_formats(
        &["langchain", "anthropic-python"],
        &python,
        "langchain.py",
        Path::new(""),
        Reply::text(REPORT),
    );
}

#[test]
fn pydantic_ai_runs_tool_loops_in_both_formats() {
    let Some(python) = python("sdk-python", "pydantic_ai") else { return };
    both_formats(
        &["openai-python", "anthropic-python"],
        &python,
        "pydantic_ai.py",
        Path::new(""),
        Reply::call("final_result", REPORT),
    );
}

#[test]
fn the_ai_sdk_runs_tool_loops_in_both_formats() {
    let Some(modules) = modules("ai") else { return };
    both_formats(
        &["ai-sdk", "anthropic-node"],
        Path::new("node"),
        "ai_sdk.mjs",
        &modules,
        Reply::text(REPORT),
    );
}

#[test]
fn anthropic_node_runs_tool_loops() {
    let Some(modules) = modules("@anthropic-ai/sdk") else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    loops(&upstream, &["mark-anthropic-whole", "mark-anthropic-streamed", "mark-runner"]);
    upstream.when("mark-fails", [Reply::failed("server_error", "broken")]);
    let mut script = script(&["anthropic-node"], Path::new("node"), "anthropic_node.mjs", &proxy, &scratch);
    script.env("OPENAI_MODULES", modules);
    run(script, &scratch);
    looped(&upstream, &["mark-anthropic-whole", "mark-anthropic-streamed"]);
    for (marker, times) in [("mark-runner", 2), ("mark-fails-whole", 1), ("mark-fails-streamed", 1)] {
        assert_eq!(asked(&upstream, marker).len(), times, "{marker}");
    }
}
