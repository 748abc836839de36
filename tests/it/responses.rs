//! `POST /v1/responses` on both engines: the object, the events, and what Codex was asked.

use serde_json::{Value, json};

use crate::support::client::Call;
use crate::support::{Proxy, Reply, Setup, Upstream, real, user};

const ENGINES: [&str; 2] = ["exec", "app-server"];

fn on(engine: &str) -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    Some((setup.set("engine", engine), upstream))
}

fn post(proxy: &Proxy, mut body: Value) -> Call {
    body.as_object_mut().unwrap().entry("model").or_insert_with(|| json!("codex-local"));
    proxy.call("POST", "/v1/responses").json(&body)
}

/// The events of a stream, each under its own name and number, and nothing else.
fn events(proxy: &Proxy, mut body: Value) -> Vec<Value> {
    body["stream"] = json!(true);
    let mut stream = post(proxy, body).open();
    assert_eq!(stream.status, 200);
    let mut all = vec![];
    while let Some((name, data)) = stream.named() {
        let event: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(event["type"], name, "{event}");
        assert_eq!(event["sequence_number"], all.len(), "{event}");
        all.push(event);
    }
    assert!(stream.complete());
    all
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
}

#[test]
fn a_whole_response_has_every_key_and_the_real_usage() {
    for engine in ENGINES {
        let Some((setup, upstream)) = on(engine) else { return };
        let proxy = setup.start();
        upstream.reply(Reply::text("pong").usage(100, 20, 30, 4));
        let answer = post(&proxy, json!({"input": "ping", "temperature": 0.5, "store": true, "user": "u"}));
        let answer = answer.header("x-request-id", "mine-1").send();
        assert_eq!(answer.status, 200, "{engine}: {answer:?}");
        assert_eq!(answer.header("x-request-id"), Some("mine-1"));
        assert_eq!(answer.header("x-codex-proxy-ignored"), Some("temperature, user"));
        let mut body = answer.json();
        let id = body["id"].take();
        assert!(id.as_str().unwrap().strip_prefix("resp_").is_some_and(|id| id.len() == 32), "{id}");
        let (created, completed) = (body["created_at"].take(), body["completed_at"].take());
        assert!(created.as_u64().unwrap() <= completed.as_u64().unwrap());
        let message = body["output"][0]["id"].take();
        assert!(message.as_str().unwrap().starts_with("msg_"), "{message}");
        let expect = json!({
            "id": null, "object": "response", "created_at": null, "completed_at": null,
            "status": "completed", "background": false, "error": null, "incomplete_details": null,
            "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "model": "codex-local",
            "output": [{
                "id": null, "type": "message", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "pong", "annotations": [], "logprobs": []}],
            }],
            "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null,
            "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": null,
            "store": false, "temperature": null, "text": {"format": {"type": "text"}}, "tool_choice": "auto",
            "tools": [], "top_logprobs": 0, "top_p": null, "truncation": "disabled",
            "usage": {
                "input_tokens": 100, "input_tokens_details": {"cached_tokens": 20}, "output_tokens": 30,
                "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 130,
            },
            "user": "u", "metadata": null,
        });
        assert_eq!(body, expect, "{engine}");
        assert_eq!(upstream.only_request().last_text("user"), "ping");
    }
}

#[test]
fn a_stream_opens_and_closes_each_item() {
    for engine in ENGINES {
        let Some((setup, upstream)) = on(engine) else { return };
        let proxy = setup.start();
        upstream.reply(Reply::deltas(&["po", "ng"]).usage(100, 20, 30, 4));
        let events = events(&proxy, json!({"input": [user("ping")], "instructions": "Be brief."}));
        let mut expect = vec![
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ];
        if engine == "exec" {
            // Its text comes whole.
            expect.remove(4);
        }
        assert_eq!(names(&events), expect, "{engine}");
        assert_eq!(events[0]["response"]["status"], "in_progress");
        assert_eq!(events[0]["response"]["output"], json!([]));
        let last = &events.last().unwrap()["response"];
        assert_eq!(last["output"][0], events[events.len() - 2]["item"]);
        assert_eq!(last["output"][0]["content"][0]["text"], "pong");
        assert_eq!(last["usage"]["total_tokens"], 130);
        assert_eq!(last["id"], events[0]["response"]["id"]);
        let request = upstream.only_request();
        assert!(request.text().contains("Be brief."));
    }
}

#[test]
fn what_fails_before_the_stream_has_its_status_and_after_it_both_forms_of_an_error() {
    let Some((setup, upstream)) = on("app-server") else { return };
    let proxy = setup.start();
    let refused = post(
        &proxy,
        json!({"stream": true, "input": [{"role": "user", "content": [
            {"type": "input_text", "text": 1},
        ]}]}),
    );
    let refused = refused.send();
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.json()["error"],
        json!({
            "message": "input[0].content[0].text must be a string, not a number.",
            "type": "invalid_request_error", "param": "input[0].content[0].text", "code": "invalid_value",
        })
    );
    let early = post(&proxy, json!({"stream": true, "input": "[[fail=429]]"})).send();
    assert_eq!(early.status, 429);
    assert_eq!(early.json()["error"]["code"], "rate_limit_exceeded");

    upstream.reply(Reply::nothing().then_partial(&["half"]).then_failed("server_error", "broken"));
    let events = events(&proxy, json!({"input": "go on"}));
    let [.., error, failed] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&error["type"], &failed["type"]), (&json!("error"), &json!("response.failed")));
    assert_eq!(error["code"], "codex_failed");
    assert_eq!(error["message"], error["error"]["message"]);
    assert_eq!(error["error"]["type"], "api_error");
    assert_eq!(failed["response"]["status"], "failed");
    assert_eq!(failed["response"]["error"], json!({"code": "server_error", "message": error["message"]}));
}

#[test]
fn an_answer_cut_by_the_output_limit_is_incomplete() {
    for engine in ENGINES {
        let Some((setup, upstream)) = on(engine) else { return };
        let proxy = setup.start();
        upstream.reply(Reply::text("so far").then_incomplete("max_output_tokens"));
        let events = events(&proxy, json!({"input": "go on"}));
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.incomplete", "{engine}");
        let response = &last["response"];
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(response["output"][0]["status"], "incomplete");
    }
}

#[test]
fn a_call_is_given_and_its_output_taken_back() {
    let Some((setup, upstream)) = on("app-server") else { return };
    let proxy = setup.start();
    let tools = json!([{
        "type": "function", "name": "look", "description": "Looks.", "strict": false,
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    }, {"type": "web_search"}]);
    upstream.reply(Reply::call("look", "{\"at\":\"x\"}"));
    let first = events(&proxy, json!({"input": "look", "tools": tools}));
    assert_eq!(
        names(&first),
        [
            "created",
            "in_progress",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed"
        ]
    );
    assert_eq!(first[2]["item"]["arguments"], "");
    assert_eq!(first[3]["delta"], "{\"at\":\"x\"}");
    assert_eq!((&first[4]["name"], &first[4]["arguments"]), (&json!("look"), &json!("{\"at\":\"x\"}")));
    let response = &first[6]["response"];
    assert_eq!(response["tools"], tools);
    let call = &response["output"][0];
    assert_eq!((&call["type"], &call["status"]), (&json!("function_call"), &json!("completed")));

    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "a thing"});
    let body = json!({"input": [user("look"), call, output], "tools": tools});
    upstream.reply(Reply::text("A thing."));
    let answer = post(&proxy, body).send();
    assert_eq!(answer.header("x-codex-proxy-ignored"), Some("tools[1].web_search"));
    assert_eq!(answer.json()["output"][0]["content"][0]["text"], "A thing.");
    assert_eq!(upstream.requests().last().unwrap().tool_outputs(), ["a thing"]);
}

#[test]
fn exec_names_the_engine_for_what_it_cannot_carry() {
    let Some((setup, _upstream)) = on("exec") else { return };
    let proxy = setup.start();
    let tool = json!({"type": "function", "name": "f"});
    let custom = json!({"type": "custom", "name": "c"});
    let reasoning = json!({"type": "reasoning", "summary": [], "encrypted_content": "x"});
    for (body, param) in [
        (json!({"input": "x", "tools": [tool]}), "tools"),
        (json!({"input": "x", "tools": [custom]}), "tools"),
        (json!({"input": [user("x"), reasoning, user("y")]}), "input[1]"),
    ] {
        let refused = post(&proxy, body).send();
        assert_eq!(refused.status, 400);
        let error = &refused.json()["error"];
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("unsupported_parameter")));
        assert!(error["message"].as_str().unwrap().contains("engine = \"app-server\""), "{error}");
    }
}
