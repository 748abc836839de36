//! The latency line: once for each request, on every way out, with the original's names.

use serde_json::{Value, json};

use crate::support::{Reply, Setup, real, user};

/// The phases of a line that an exec turn reaches.
const EXEC: &[&str] = &[
    "cwd_resolve",
    "prompt_build",
    "queue_wait",
    "codex_exec",
    "codex_command_build",
    "codex_process_spawn",
    "codex_stdin_write",
    "codex_first_stdout_event",
    "codex_first_assistant_event",
    "codex_stdout_read",
    "codex_process_wait",
    "codex_communicate",
    "codex_output_parse",
    "response_build",
    "total",
];

fn check_times(line: &Value) {
    for (name, value) in line["phases_ms"].as_object().unwrap() {
        let text = value.to_string();
        let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        assert!(value.as_f64().unwrap() >= 0.0 && decimals <= 2, "{name}: {text}");
    }
}

#[test]
fn an_answered_request_has_every_phase_once() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.start();
    for stream in [false, true] {
        let id = format!("line-{stream}");
        let body = json!({ "stream": stream, "messages": [user("Reply with exactly: a secret answer")] });
        proxy.chat(body).header("x-request-id", &id).open().whole();
        let line = proxy.latency_line("chat_completion_latency", &id);
        let expected = json!({ "status": "ok", "http_status": 200, "stream": stream, "model": "codex-local", "engine": "exec", "n": 1 });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key} in {line}");
        }
        assert_eq!(line["error_type"], Value::Null, "{line}");
        let tokens = ["prompt_tokens", "cached_tokens", "completion_tokens"].map(|name| line[name].as_u64());
        assert_eq!(tokens, [Some(11), Some(3), Some(7)], "{line}");
        for phase in EXEC {
            assert!(line["phases_ms"][phase].is_number(), "{phase} in {line}");
        }
        assert_eq!(line.get("tokens_unknown"), None, "{line}");
        check_times(&line);
        if stream {
            assert!(proxy.latency_line("chat_completion_first_sse", &id)["time_to_first_sse_ms"].is_number());
            assert!(
                proxy.latency_line("chat_completion_first_content_sse", &id)["time_to_first_content_sse_ms"]
                    .is_number()
            );
        }
        let lines = proxy.latency_lines();
        let count = lines
            .iter()
            .filter(|line| line["request_id"] == id && line["event"] == "chat_completion_latency")
            .count();
        assert_eq!(count, 1);
    }
    assert!(!proxy.log().contains("a secret answer"), "neither prompt nor answer is ever logged");
}

#[test]
fn a_refused_or_failed_request_has_its_line_too() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", "the-key").start();
    upstream.reply(Reply::failed("rate_limit_exceeded", "Rate limit reached"));
    proxy.ask("hi").header("x-request-id", "refused").send();
    proxy.chat(json!({ "messages": [] })).key("the-key").header("x-request-id", "wrong").send();
    proxy.ask("hi").key("the-key").header("x-request-id", "failed").send();
    for (id, status, kind, phases) in [
        ("refused", 401, "invalid_api_key", &["total"][..]),
        ("wrong", 400, "invalid_value", &["total"]),
        ("failed", 429, "rate_limit_exceeded", &["total", "queue_wait", "codex_exec"]),
    ] {
        let line = proxy.latency_line("chat_completion_latency", id);
        assert_eq!((&line["status"], &line["http_status"]), (&json!("error"), &json!(status)), "{line}");
        assert!(line["error_type"].is_string(), "{kind}: {line}");
        for phase in phases {
            assert!(line["phases_ms"][phase].is_number(), "{phase} in {line}");
        }
        assert_eq!(line.get("tokens_unknown"), None, "nothing was spent: {line}");
        if !phases.contains(&"codex_exec") {
            for phase in ["queue_wait", "codex_exec", "codex_process_spawn"] {
                assert_eq!(line["phases_ms"].get(phase), None, "not reached, not there: {line}");
            }
        }
        check_times(&line);
    }
    assert!(!proxy.log().contains("the-key"));
}

#[test]
fn request_ids_are_the_clients_if_they_are_harmless() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup.start();
    assert_eq!(
        proxy.ask("hi").header("x-request-id", "A-z.0_9").send().header("x-request-id"),
        Some("A-z.0_9")
    );
    assert_eq!(
        proxy.ask("hi").header("x-request-id", "x".repeat(128)).send().header("x-request-id").map(str::len),
        Some(128)
    );
    for bad in ["a b", "{\"x\":1}", "é", &"x".repeat(129)] {
        let id =
            proxy.ask("hi").header("x-request-id", bad).send().header("x-request-id").unwrap().to_owned();
        assert!(id != bad && !id.is_empty(), "{id}");
    }
}

#[test]
fn codex_stderr_is_logged_on_failure_only_and_harmless() {
    let (setup, fake) = Setup::fake("stderr quiet-note\nstart\nanswer pong\ndone");
    let proxy = setup.start();
    proxy.ask("hi").send().answer();
    assert!(!proxy.log().contains("quiet-note"), "nothing of it on success");
    // Once Codex has the prompt, its stderr may quote it.
    fake.script("stderr loud-note\nexit 1");
    proxy.ask("hi").send().error(502, "api_error", "codex_exited");
    crate::support::wait::until("its length is logged", || proxy.log().contains(" bytes on its stderr"));
    assert!(!proxy.log().contains("loud-note"), "{}", proxy.log());
    // A command line that Codex refuses it refuses before that.
    fake.script("no-stdin\nstderr error: unexpected \u{1b}[31margument\nexit 2");
    proxy.ask("hi").send().error(502, "api_error", "codex_exited");
    crate::support::wait::until("the refusal is logged", || proxy.log().contains("error: unexpected"));
    assert!(!proxy.log().contains('\u{1b}'), "control characters are escaped");
}
