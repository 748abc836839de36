//! `POST /v1/messages` with the real Codex, on both engines.

use std::time::Duration;

use serde_json::{Value, json};

use crate::chat::PNG;
use crate::support::client::{Call, Response, Stream};
use crate::support::proxy::Proxy;
use crate::support::{Ended, Reply, Setup, Upstream, real, said, user, wait};

fn app_server() -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    Some((setup.set("engine", "app-server").set("turns_per_worker", 8), upstream))
}

fn messages(proxy: &Proxy, mut body: Value) -> Call {
    for (key, value) in [("model", json!("codex-local")), ("max_tokens", json!(1000))] {
        if body.get(key).is_none() {
            body[key] = value;
        }
    }
    proxy.call("POST", "/v1/messages?beta=true").header("anthropic-version", "2023-06-01").json(&body)
}

fn ask(proxy: &Proxy, text: &str) -> Call {
    messages(proxy, json!({ "messages": [user(text)] }))
}

fn ok(answer: &Response) -> Value {
    assert!(answer.status == 200 && answer.complete, "{} {}", answer.status, answer.text());
    answer.json()
}

/// The events of a stream, each with its name.
fn events(stream: Stream) -> Vec<Value> {
    let answer = stream.whole();
    let text = answer.text();
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"), "{text}");
    let frames = text.split_terminator("\n\n");
    frames
        .map(|frame| {
            let (name, data) =
                frame.strip_prefix("event: ").and_then(|rest| rest.split_once("\ndata: ")).unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"], name);
            data
        })
        .collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn weather() -> Value {
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    json!([{ "name": "weather", "description": "Of a city.", "input_schema": schema }])
}

/// The envelope of an error: its type, code and message.
fn error(answer: &Response) -> (String, String, String) {
    let body = answer.json();
    let id = answer.header("request-id").expect("a request-id");
    assert_eq!((body["type"].as_str(), body["request_id"].as_str()), (Some("error"), Some(id)), "{body}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let error = &body["error"];
    (text(&error["type"]), text(&error["details"]["error_code"]), text(&error["message"]))
}

#[test]
fn a_question_is_answered_by_either_engine() {
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", engine).start();
        upstream.reply(Reply::text("pong").usage(100, 20, 30, 4));
        let answer = messages(
            &proxy,
            json!({
                "model": "claude-opus-4-8", "messages": [user("ping"), said("system", "Softly."), user("now")],
                "system": "x-anthropic-billing-header: cc=1;\nBe brief.", "temperature": 1,
            }),
        )
        .send();
        let body = ok(&answer);
        assert!(body["id"].as_str().unwrap().starts_with("msg_"));
        assert_eq!(
            (&body["type"], &body["role"], &body["model"], &body["stop_reason"], &body["content"]),
            (
                &json!("message"),
                &json!("assistant"),
                &json!("claude-opus-4-8"),
                &json!("end_turn"),
                &json!([{ "type": "text", "text": "pong", "citations": [] }])
            )
        );
        let usage = &body["usage"];
        assert_eq!(
            (&usage["input_tokens"], &usage["cache_read_input_tokens"], &usage["output_tokens"]),
            (&json!(80), &json!(20), &json!(30)),
            "{usage}"
        );
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
        assert_eq!(answer.header("x-codex-proxy-ignored"), Some("max_tokens, temperature"));
        let asked = upstream.only_request().text();
        assert!(
            asked.contains("Be brief.") && asked.contains("Softly.") && !asked.contains("billing"),
            "{asked}"
        );
    }
}

#[test]
fn a_stream_has_anthropics_events_in_their_order() {
    for (engine, deltas) in [("exec", 1), ("app-server", 3)] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", engine).start();
        upstream.reply(Reply::deltas(&["po", "ng", "!"]).usage(100, 20, 30, 4));
        let events = events(messages(&proxy, json!({ "messages": [user("ping")], "stream": true })).open());
        let mut expect = vec!["message_start", "ping", "content_block_start"];
        expect.extend(vec!["content_block_delta"; deltas]);
        expect.extend(["content_block_stop", "message_delta", "message_stop"]);
        assert_eq!(names(&events), expect);
        let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
        assert_eq!(text, "pong!");
        let end = &events[events.len() - 2];
        assert_eq!(
            (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
            (&json!("end_turn"), &json!(30))
        );
    }
}

#[test]
fn a_tool_is_called_answered_and_thought_about() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let reasoning = json!({ "type": "response.output_item.done", "output_index": 0, "item": {
        "type": "reasoning", "id": "rs_1", "summary": [{ "type": "summary_text", "text": "Let me look." }],
        "encrypted_content": "gAAAA-secret" } });
    upstream.when(
        "weather in Oslo",
        [
            Reply::nothing()
                .then_event(reasoning)
                .then_text(&["I look."])
                .then_call("weather", "{\"city\": \"Oslo\"}"),
            Reply::text("It rains."),
        ],
    );
    let ask = |conversation: Value, stream: bool| {
        messages(
            &proxy,
            json!({
                "messages": conversation, "tools": weather(), "stream": stream, "thinking": { "type": "adaptive" },
                "metadata": { "user_id": "session" },
            }),
        )
    };
    let first = ok(&ask(json!([user("weather in Oslo")]), false).send());
    let content = first["content"].as_array().unwrap();
    let kinds: Vec<&str> = content.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(
        (kinds, &first["stop_reason"]),
        (vec!["thinking", "text", "tool_use"], &json!("tool_use")),
        "{first}"
    );
    assert_eq!(
        (&content[0]["thinking"], &content[2]["input"]),
        (&json!("Let me look."), &json!({ "city": "Oslo" }))
    );
    assert!(content[0]["signature"].as_str().unwrap().starts_with("codex1."));
    let id = content[2]["id"].as_str().unwrap();
    assert!(id.starts_with("toolu_"), "{id}");
    let result = json!({ "type": "tool_result", "tool_use_id": id, "content": [
        { "type": "text", "text": "rain" },
        { "type": "image", "source": { "type": "base64", "media_type": "image/png",
            "data": PNG.split_once(',').unwrap().1 } },
    ] });
    let conversation = json!([
        user("weather in Oslo"), { "role": "assistant", "content": content }, { "role": "user", "content": [result] },
    ]);
    let second = events(ask(conversation, true).open());
    let text: String = second.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "It rains.");
    let requests = upstream.requests();
    let items = requests[1].items();
    let of = |kind: &str| items.iter().filter(|item| item["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("reasoning")[0]["encrypted_content"], "gAAAA-secret", "{items:?}");
    assert_eq!((of("function_call").len(), of("function_call_output").len()), (1, 1), "{items:?}");
    assert_eq!(of("function_call")[0]["call_id"], id.replace("toolu_", "call_"));
    assert_eq!(of("function_call_output")[0]["output"][1]["image_url"], PNG);
    assert_eq!(requests[0].header("session_id"), requests[1].header("session_id"));
}

#[test]
fn a_stop_sequence_is_named_and_a_probe_is_cut() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    upstream.reply(Reply::deltas(&["one EN", "D two"]));
    let stopped =
        ok(&messages(&proxy, json!({ "messages": [user("count")], "stop_sequences": ["x", "END"] })).send());
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"], &stopped["content"][0]["text"]),
        (&json!("stop_sequence"), &json!("END"), &json!("one "))
    );
    upstream.reply(Reply::nothing().then_partial(&["Hello"]).then_hang());
    let probe = ok(&messages(&proxy, json!({ "messages": [user("quota")], "max_tokens": 1 })).send());
    assert_eq!(
        (&probe["stop_reason"], &probe["content"][0]["text"]),
        (&json!("max_tokens"), &json!("Hello"))
    );
    assert_eq!((&probe["usage"]["input_tokens"], &probe["usage"]["output_tokens"]), (&json!(0), &json!(0)));
    wait::until("the probe's turn is given up", || {
        upstream.requests().last().unwrap().ended.is_some_and(|(ended, _)| ended == Ended::ClientClosed)
    });
}

#[test]
fn failures_are_told_in_anthropics_words() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let context =
        || Reply::failed("context_length_exceeded", "Your input exceeds the context window of this model.");
    upstream.when("too long", [context()]);
    let answer = ask(&proxy, "too long").send();
    let (kind, code, message) = error(&answer);
    assert_eq!((answer.status, &*kind, &*code), (400, "invalid_request_error", "context_length_exceeded"));
    assert!(message.starts_with("prompt is too long"), "{message}");

    let overloaded = Reply::failed("server_is_overloaded", "Overloaded.");
    upstream.when("overloaded", [overloaded]);
    let answer = ask(&proxy, "overloaded").send();
    assert_eq!(answer.status, 529, "{}", answer.text());
    assert_eq!(error(&answer).0, "overloaded_error");

    let thread = json!({ "messages": [user("x")], "thread": { "type": "create" } });
    let answer = messages(&proxy, thread).send();
    let (kind, code, _) = error(&answer);
    assert_eq!((answer.status, &*kind, &*code), (400, "invalid_request_error", "thread_unsupported_request"));
    assert_eq!(answer.json()["error"]["details"], json!({ "error_code": "thread_unsupported_request" }));

    let broken =
        proxy.call("POST", "/v1/messages").header("content-type", "application/json").body("{").send();
    assert_eq!((broken.status, &*error(&broken).1), (400, "invalid_value"));
    let get = proxy.get("/v1/messages").send();
    assert_eq!((get.status, &*error(&get).0), (405, "invalid_request_error"));

    upstream.when("calls badly", [Reply::call("weather", "[]")]);
    let answer = messages(&proxy, json!({ "messages": [user("calls badly")], "tools": weather() })).send();
    assert_eq!((answer.status, &*error(&answer).1), (502, "invalid_tool_arguments"), "{}", answer.text());

    upstream
        .when("breaks off", [Reply::nothing().then_partial(&["half"]).then_failed("server_error", "Broke.")]);
    let events = events(messages(&proxy, json!({ "messages": [user("breaks off")], "stream": true })).open());
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("api_error")), "{events:?}");
    assert!(!names(&events).contains(&"message_stop"));
}

#[test]
fn a_key_is_taken_either_way_and_refused_in_this_formats_words() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", "secret-key").start();
    assert_eq!(ask(&proxy, "Reply with exactly: pong").header("x-api-key", "secret-key").send().status, 200);
    assert_eq!(ask(&proxy, "Reply with exactly: pong").key("secret-key").send().status, 200);
    let refused = ask(&proxy, "x").send();
    assert_eq!((refused.status, &*error(&refused).0), (401, "authentication_error"));
}

#[test]
fn tokens_are_estimated_without_a_turn() {
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", engine).start();
        let count = |body: Value| {
            let call = proxy.call("POST", "/v1/messages/count_tokens?beta=true").json(&body).send();
            assert_eq!(
                call.header("x-codex-proxy-estimated"),
                (call.status == 200).then_some("input_tokens")
            );
            call
        };
        let search = json!({ "type": "web_search_20250305", "name": "web_search" });
        let result = json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "x", "content": "12345" }] });
        for (body, tokens) in [
            (json!({ "messages": [user("12345678")] }), 2),
            (json!({ "messages": [user("123456789")] }), 3),
            (json!({ "messages": [user("é")], "system": "123" }), 2),
            (json!({ "messages": [result] }), 2),
            (json!({ "messages": [user("1234")], "tools": [search] }), 1),
            (
                json!({ "messages": [user("1234")], "tools": [{ "name": "fgh", "description": "d", "input_schema": {} }] }),
                3,
            ),
            (json!({ "messages": [user("x".repeat(1_000_000))] }), 250_000),
        ] {
            let mut body = body;
            body["model"] = json!("claude-opus-4-8");
            let answer = count(body);
            assert_eq!((answer.status, answer.json()), (200, json!({ "input_tokens": tokens })));
        }
        let bad = count(json!({ "model": "m", "messages": [{ "role": "x", "content": "" }] }));
        assert_eq!((bad.status, &*error(&bad).0), (400, "invalid_request_error"));
        assert_eq!(proxy.get("/v1/messages/count_tokens").send().status, 405);
        assert!(upstream.requests().is_empty() && proxy.latency_lines().is_empty());
    }
}

#[test]
fn lists_and_unknown_paths_are_in_the_callers_format() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.start();
    let get = |path: &str| proxy.get(path).header("anthropic-version", "2026-10-21").send();
    let list = get("/v1/models").json();
    assert_eq!((&list["first_id"], &list["has_more"]), (&json!("codex-local"), &json!(false)), "{list}");
    let model = get("/v1/models/codex-local").json();
    assert_eq!((&model["type"], &model["id"]), (&json!("model"), &json!("codex-local")), "{model}");
    assert_eq!(proxy.get("/v1/models").send().json()["object"], "list");
    for path in ["/v1/models/no-such", "/v1/messages/batches", "/v1/files", "/v1/skills", "/v1/complete"] {
        let answer = get(path);
        assert_eq!((answer.status, &*error(&answer).0), (404, "not_found_error"), "{path}");
    }
    // By the path, whatever else is sent with it; where a path is in both APIs, by what is.
    for path in ["/v1/messages/batches", "/v1/messages/batches/b/results", "/v1/messages/x", "/v1/complete"] {
        for method in ["GET", "POST"] {
            let answer = proxy.call(method, path).send();
            assert_eq!((answer.status, &*error(&answer).0), (404, "not_found_error"), "{path}");
        }
    }
    for path in ["/v1/files", "/v1/files/file_1/content", "/v1/skills"] {
        proxy.get(path).send().error(404, "invalid_request_error", "not_found");
    }
    assert_eq!(proxy.call("HEAD", "/").send().status, 200);
    assert_eq!(proxy.call("POST", "/v1/v1/messages").send().status, 415);
}

#[test]
fn a_client_that_waits_is_pinged() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.set("keepalive_seconds", 1).start();
    upstream.reply(Reply::nothing().then_wait(Duration::from_millis(2500)).then_text(&["late"]));
    let events = events(messages(&proxy, json!({ "messages": [user("x")], "stream": true })).open());
    assert!(names(&events).iter().filter(|name| **name == "ping").count() >= 2, "{events:?}");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
}

#[test]
fn exec_refuses_what_it_cannot_carry_by_name() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.start();
    let answer = messages(&proxy, json!({ "messages": [user("x")], "tools": weather() })).send();
    let (_, code, message) = error(&answer);
    assert_eq!((answer.status, &*code), (400, "unsupported_parameter"));
    assert!(message.contains("engine = \"app-server\"") && message.contains("profile"), "{message}");
    let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "f", "input": {} });
    let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png",
        "data": PNG.split_once(',').unwrap().1 } });
    let result = json!({ "type": "tool_result", "tool_use_id": "toolu_1", "content": [image] });
    let conversation = json!([
        user("x"), { "role": "assistant", "content": [call] }, { "role": "user", "content": [result] },
    ]);
    let answer = messages(&proxy, json!({ "messages": conversation })).send();
    assert_eq!(answer.json()["error"]["details"]["param"], "messages[2].content[0]", "{}", answer.text());
    assert!(upstream.requests().is_empty());
}
