//! The makers' own tests of their libraries, from their sources and unmodified, and schemathesis over the
//! document of the API, against the real program and the real Codex CLI.
//!
//! What the makers' tests send is made from their whole API, of which not all is served here: what is not
//! passed is counted by what was said to it, and stands in the table of the README.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::scores;
use crate::support::programs::{client, python, run, run_to_any_end};
use crate::support::proxy::Scratch;
use crate::support::real;

/// Runs those tests of a library; how many passed, and of the others how many for each thing that was said.
fn measured(library: &str, tests: &[&str], url: impl Fn(String) -> String) -> Option<Value> {
    let python = python("suites-python", library)?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/suites-python/sources").join(library);
    let (setup, _upstream) = real()?;
    // Their keys hold spaces, which is no key here: a server without one.
    let setup = setup.set("engine", "app-server").set("profile", "model").set("turns_per_worker", 2);
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let report = scratch.path().join("report.json");
    let mut suite = client(&python, &scratch);
    suite.args(["-m", "pytest", "-q", "--tb=no", "-n", "2", "-p", "no:cacheprovider", "-p", "counted"]);
    suite.args(tests).current_dir(&sources).env("REPORT", &report).env("PYTHONDONTWRITEBYTECODE", "1");
    suite.env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/pytest"));
    suite.env("TEST_API_BASE_URL", url(proxy.url()));
    let (_, printed) = run_to_any_end(suite, &scratch);
    let report = fs::read_to_string(report).unwrap_or_else(|error| panic!("{error}: {printed}"));
    Some(serde_json::from_str(&report).unwrap())
}

#[test]
fn openais_own_tests() {
    let tests = ["chat", "responses", "test_completions.py", "test_models.py", "test_responses.py"];
    let tests = tests.map(|test| format!("tests/api_resources/{test}"));
    let tests = tests.each_ref().map(String::as_str);
    let Some(counts) = measured("openai", &tests, |url| url + "/v1") else { return };
    scores::hold("openai-python's own tests", &counts);
}

#[test]
fn anthropics_own_tests() {
    let tests =
        ["test_messages.py", "test_models.py", "messages", "beta/test_messages.py", "beta/test_models.py"];
    let tests = tests.map(|test| format!("tests/api_resources/{test}"));
    let tests = tests.each_ref().map(String::as_str);
    let Some(counts) = measured("anthropic", &tests, |url| url) else { return };
    scores::hold("anthropic-python's own tests", &counts);
}

#[test]
fn schemathesis_finds_the_document_true() {
    let Some(python) = python("suites-python", "schemathesis") else { return };
    let Some((setup, _upstream)) = real() else { return };
    let setup = setup.set("engine", "app-server").set("profile", "model").set("turns_per_worker", 2);
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let report = scratch.path().join("report.json");
    let mut suite = client(&python, &scratch);
    suite.args(["-m", "schemathesis.cli", "run", &format!("{}/openapi.json", proxy.url())]);
    let routes = "^/v1/(chat/completions|completions|responses|responses/input_tokens|messages|messages/count_tokens|models.*)$";
    suite.args(["--include-path-regex", routes, "--mode", "positive", "--phases", "fuzzing"]);
    suite.args([
        "--max-examples",
        "10",
        "--workers",
        "1",
        "--generation-deterministic",
        "--continue-on-failure",
    ]);
    // One worker, and no coverage phase: side by side its generator fails by itself now and then.
    // A schema does not say which field needs which other: a 400 that says so is an answer as documented.
    suite.args(["--exclude-checks", "positive_data_acceptance", "--no-color"]);
    suite.args(["--report", "json", "--report-json-path"]).arg(&report);
    let printed = run(suite, &scratch);
    let selected = printed.lines().find_map(|line| line.trim().strip_prefix("Tested: ")).map(str::to_owned);
    scores::hold(
        "schemathesis, routes",
        &json!({ "passed": selected.and_then(|count| count.parse::<u64>().ok()), "not_passed": BTreeMap::<String, u64>::new() }),
    );
}
