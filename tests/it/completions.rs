//! `POST /v1/completions` with the real Codex, on both engines.

use serde_json::{Value, json};

use crate::support::client::Call;
use crate::support::proxy::Proxy;
use crate::support::{Reply, real};

fn ask(proxy: &Proxy, extra: Value) -> Call {
    let mut body = json!({ "model": "codex-local", "prompt": "ping" });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    proxy.call("POST", "/v1/completions").json(&body)
}

#[test]
fn a_prompt_is_answered_whole_and_streamed_by_either_engine() {
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", engine).start();
        upstream.reply(Reply::deltas(&["po", "ng"]).usage(100, 20, 30, 4));
        let answer = ask(&proxy, json!({ "prompt": ["ping"], "max_tokens": 16, "best_of": 1 })).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-codex-proxy-ignored"), Some("max_tokens"));
        let body = answer.json();
        assert!(body["id"].as_str().unwrap().starts_with("cmpl-"), "{body}");
        let choice = json!({ "text": "pong", "index": 0, "logprobs": null, "finish_reason": "stop" });
        assert_eq!(
            (&body["object"], &body["model"], &body["choices"]),
            (&json!("text_completion"), &json!("codex-local"), &json!([choice]))
        );
        let usage = &body["usage"];
        assert_eq!(
            (
                &usage["prompt_tokens"],
                &usage["prompt_tokens_details"]["cached_tokens"],
                &usage["completion_tokens"]
            ),
            (&json!(100), &json!(20), &json!(30))
        );
        assert!(upstream.only_request().last_text("user").contains("ping"));

        upstream.reply(Reply::deltas(&["one S", "TO", "P two"]).usage(100, 20, 30, 4));
        let (chunks, done) = ask(&proxy, json!({ "stream": true, "stop": ["STOP"] })).open().chunks();
        assert!(done);
        let choices: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
        let text: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(text, "one ", "{chunks:?}");
        assert_eq!(choices.last().unwrap()["finish_reason"], "stop");
        assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"), "{chunks:?}");
    }
}

#[test]
fn a_failure_is_in_openais_envelope_and_an_open_stream_ends_by_it() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").start();
    let message = ask(&proxy, json!({ "suffix": "." })).send().error(
        400,
        "invalid_request_error",
        "unsupported_parameter",
    );
    assert_eq!(message, "suffix is not supported: Codex answers a prompt and inserts nothing.");
    proxy.get("/v1/completions").send().error(405, "invalid_request_error", "method_not_allowed");
    upstream.reply(Reply::text("half").then_failed("server_is_overloaded", "Overloaded."));
    let (chunks, done) = ask(&proxy, json!({ "stream": true })).open().chunks();
    assert!(!done && chunks.last().unwrap()["error"]["code"] == "upstream_overloaded", "{chunks:?}");
}
