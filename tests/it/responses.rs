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
            "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "auto",
            "store": false, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto",
            "tools": [], "top_logprobs": 0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "truncation": "disabled",
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
        let message = error["message"].as_str().unwrap();
        let need = "engine = \"app-server\" (agents best with profile = \"model\").";
        assert!(message.ends_with(need), "{error}");
    }
}

#[test]
fn there_is_nothing_to_be_had_of_an_earlier_response() {
    let Some((setup, _upstream)) = on("exec") else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", "k").start();
    let stored = "Nothing is stored: there is no response with this id.";
    for (method, path, message) in [
        ("GET", "/v1/responses/resp_1", stored),
        ("DELETE", "/v1/responses/resp_1", stored),
        ("POST", "/v1/responses/resp_1/cancel", stored),
        ("GET", "/responses/resp_1/input_items", stored),
        (
            "POST",
            "/v1/responses/compact",
            "Conversations are not compacted here: send the items that matter in `input`.",
        ),
    ] {
        let answer = proxy.call(method, path).key("k").send();
        assert_eq!(answer.status, 404, "{method} {path}");
        let expect =
            json!({"message": message, "type": "invalid_request_error", "param": null, "code": "not_found"});
        assert_eq!(answer.json()["error"], expect, "{method} {path}");
        assert_eq!(proxy.call(method, path).send().status, 401, "{method} {path}");
    }
    assert_eq!(proxy.call("PUT", "/v1/responses/resp_1").key("k").send().status, 405);
}

#[test]
fn it_is_found_where_codex_itself_would_ask() {
    let Some((setup, upstream)) = on("exec") else { return };
    let proxy = setup.start();
    for path in ["/backend-api/codex/responses", "/codex/responses", "/responses"] {
        upstream.reply(Reply::text("pong"));
        let answer = proxy.call("POST", path).json(&json!({"model": "codex-local", "input": "ping"})).send();
        assert_eq!(answer.json()["output"][0]["content"][0]["text"], "pong", "{path}");
    }
}

/// What was done there, as the next request carries it.
fn input_of(upstream: &Upstream, kind: &str) -> Vec<Value> {
    let request = upstream.requests().pop().unwrap();
    request.items().iter().filter(|item| item["type"] == kind).cloned().collect()
}

#[test]
fn custom_and_namespace_tools_are_called_in_their_own_kind() {
    let Some((setup, upstream)) = on("app-server") else { return };
    let proxy = setup.start();
    let patch = json!({"type": "custom", "name": "apply_patch", "description": "Edits.",
        "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}});
    let space = json!({"type": "namespace", "name": "multi", "description": "Several.", "tools": [
        {"type": "function", "name": "spawn", "parameters": {"type": "object", "properties": {}}},
        {"type": "custom", "name": "exec"},
    ]});
    let more = json!({"type": "additional_tools", "role": "developer", "tools": [space]});
    let asked = json!([more, user("do it")]);
    upstream.reply(
        Reply::call("apply_patch", "{\"input\":\"*** Begin\"}")
            .then_call("multi__spawn", "{}")
            .then_call("multi__exec", "{\"input\":\"ls\"}"),
    );
    let answer = post(&proxy, json!({"input": asked, "tools": [patch]})).send().json();
    let output = answer["output"].as_array().unwrap().clone();
    let known = |item: &Value| {
        let word = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
        [word("type"), word("name"), word("namespace"), word("input"), word("arguments")].join(" ")
    };
    assert_eq!(
        output.iter().map(known).collect::<Vec<_>>(),
        [
            "custom_tool_call apply_patch - *** Begin -",
            "function_call spawn multi - {}",
            "custom_tool_call exec multi ls -",
        ]
    );
    let results = output.iter().map(|call| {
        json!({"type": call["type"].as_str().unwrap().to_owned() + "_output", "call_id": call["call_id"],
            "output": "done"})
    });
    let input: Vec<Value> =
        asked.as_array().unwrap().iter().cloned().chain(output.clone()).chain(results).collect();
    upstream.reply(Reply::text("All done."));
    let answer = post(&proxy, json!({"input": input, "tools": [patch]})).send().json();
    assert_eq!(answer["output"][0]["content"][0]["text"], "All done.");
    assert_eq!(upstream.requests().last().unwrap().tool_outputs(), ["done", "done", "done"]);
    let calls = input_of(&upstream, "function_call");
    let names: Vec<&str> = calls.iter().map(|call| call["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["apply_patch", "multi__spawn", "multi__exec"]);

    // Of several calls only the first, where the client wants one at a time.
    upstream.reply(Reply::call("apply_patch", "{\"input\":\"a\"}").then_call("multi__spawn", "{}"));
    let body = json!({"input": asked, "tools": [patch], "parallel_tool_calls": false});
    let answer = post(&proxy, body).send();
    assert_eq!(answer.header("x-codex-proxy-ignored"), Some("parallel_tool_calls"));
    assert_eq!(answer.json()["output"].as_array().unwrap().len(), 1);
}

#[test]
fn reasoning_goes_both_ways_and_progress_is_told_as_such() {
    let Some((setup, upstream)) = on("app-server") else { return };
    let proxy = setup.start();
    let item = json!({"type": "reasoning", "id": "rs_up", "encrypted_content": "SECRET",
        "summary": [{"type": "summary_text", "text": "hm"}]});
    upstream.reply(
        Reply::nothing()
            .then_event(json!({"type": "response.output_item.done", "output_index": 0, "item": item}))
            .then_phase("commentary", "on my way")
            .then_phase("final_answer", "there"),
    );
    let wishes = json!({"input": [user("go")], "include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}});
    let answer = post(&proxy, wishes).send().json();
    let output = answer["output"].as_array().unwrap().clone();
    let kinds: Vec<&Value> = output.iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["reasoning", "message", "message"], "{answer}");
    assert_eq!(output[0]["encrypted_content"], "SECRET");
    assert_eq!(output[0]["summary"], json!([{"type": "summary_text", "text": "hm"}]));
    assert_eq!(
        (&output[1]["phase"], &output[2]["phase"], &output[2]["content"][0]["text"]),
        (&json!("commentary"), &json!("final_answer"), &json!("there"))
    );

    let input: Vec<Value> = [user("go")].into_iter().chain(output).chain([user("and?")]).collect();
    upstream.reply(Reply::text("Yes."));
    let body =
        json!({"input": input, "include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}});
    assert_eq!(post(&proxy, body).send().status, 200);
    let given: Vec<Value> = input_of(&upstream, "reasoning");
    assert_eq!(given.len(), 1, "{given:?}");
    assert_eq!(given[0]["encrypted_content"], "SECRET");
}

#[test]
fn neighbouring_thoughts_stay_apart() {
    let Some((setup, upstream)) = on("app-server") else { return };
    let proxy = setup.start();
    upstream.reply(
        Reply::nothing().then_reasoning(&["a", "b"]).then_reasoning(&["c"]).then_phase("final_answer", "x"),
    );
    let answer = post(&proxy, json!({"input": "go", "reasoning": {"summary": "auto"}})).send().json();
    let summary = |item: &Value| {
        let parts = item["summary"].as_array().unwrap();
        parts.iter().map(|part| part["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (summary(&answer["output"][0]), summary(&answer["output"][1])),
        (vec!["a".into(), "b".into()], vec!["c".into()]),
        "{answer}"
    );
}
