//! Public suites that judge servers of these formats, unmodified, against the real program and the real
//! Codex CLI.
//!
//! What the model says where a suite wants more than words stands here.

use std::path::Path;

use serde_json::{Value, json};

use crate::scores;
use crate::support::programs::{KEY, client, modules, python, run, served, untroubled};
use crate::support::proxy::Scratch;
use crate::support::{Proxy, Reply, Upstream};

/// The proxy, and a model that calls the suites' functions and reasons where they ask it to.
fn model() -> Option<(Proxy, Upstream)> {
    let (setup, upstream) = served()?;
    let weather = Reply::call("get_weather", r#"{"location": "San Francisco"}"#);
    upstream.when("What is the weather in San Francisco?", [weather]);
    let reasoned = Reply::nothing().then_reasoning(&["37 times 15."]).then_text(&["555"]);
    upstream.when("What is 15 * 37?", [reasoned]);
    upstream.when("compatcanary_echo", [Reply::call("compatcanary_echo", r#"{"value": "CANARY_OK"}"#)]);
    Some((setup.start(), upstream))
}

/// Runs llm-comply for a format: each of its tests has to pass, none skipped; what it warns of is given, by
/// test. It skips what the model's name says the model cannot do.
fn warnings(format: &str, name: &str, tests: u64, more: &[&str]) -> Option<Value> {
    let python = python("sdk-python", "llm_comply")?;
    let ((proxy, _upstream), scratch) = (model()?, Scratch::new());
    let mut suite = client(&python, &scratch);
    suite.args(["-m", "llm_comply.cli", "--json", "--format", format]).args(more);
    suite.args(["--base-url", &format!("{}/v1", proxy.url()), "--api-key", KEY]);
    let report: Value = serde_json::from_str(&run(suite, &scratch)).unwrap();
    let summary = json!({ "total": tests, "passed": tests, "failed": 0, "skipped": 0 });
    assert_eq!(report["summary"], summary, "{report:#}");
    scores::hold(&format!("llm-comply, {name}"), &json!({ "passed": tests, "not_passed": {} }));
    let results = report["results"].as_array().unwrap().iter();
    let warned = results.filter(|result| !result["warnings"].is_null());
    Some(
        warned
            .map(|result| (result["id"].as_str().unwrap().to_owned(), result["warnings"].clone()))
            .collect(),
    )
}

#[test]
fn llm_comply_passes_chat() {
    let Some(warnings) = warnings("openai-chat", "chat", 9, &["--model", "gpt-5.5"]) else { return };
    assert_eq!(warnings, json!({}));
}

#[test]
fn llm_comply_passes_responses() {
    let Some(warnings) = warnings("open-responses", "Responses", 13, &["--model", "gpt-5.5"]) else { return };
    // Nothing is compacted here: a 404, which the suite takes.
    let compaction = json!([
        "response.output is missing or empty",
        "expected object containing 'compact', got ''",
        "no output item with type='compaction' (found: [])",
    ]);
    assert_eq!(warnings, json!({ "compact-response": compaction }));
}

#[test]
fn llm_comply_passes_anthropic() {
    let mut arguments = vec!["--model", "claude-haiku-4-5", "--auth-header", "x-api-key", "--no-bearer"];
    arguments.extend(["--header", "anthropic-version:2023-06-01"]);
    let Some(warnings) = warnings("anthropic", "Messages", 9, &arguments) else { return };
    assert_eq!(warnings, json!({}));
}

#[test]
fn compatcanary_gives_100() {
    let Some(modules) = modules("compatcanary") else { return };
    let (Some((proxy, _upstream)), scratch) = (model(), Scratch::new()) else { return };
    let mut suite = client(Path::new("node"), &scratch);
    suite.arg(modules.join("compatcanary/src/cli.js")).args([
        "scan",
        "--format",
        "json",
        "--fail-on",
        "never",
    ]);
    suite.args(["--base-url", &format!("{}/v1", proxy.url()), "--model", "codex-local"]);
    suite.env("OPENAI_API_KEY", KEY);
    let report: Value = serde_json::from_str(&run(suite, &scratch)).unwrap();
    let summary = json!({ "passes": 7, "warnings": 0, "failures": 0, "requiredFailures": 0, "total": 7 });
    assert_eq!((&report["summary"], &report["score"]), (&summary, &json!(100)), "{report:#}");
    scores::hold("CompatCanary", &json!({ "passed": 7, "not_passed": {} }));
    untroubled(&proxy);
}
