//! What Codex would do in silence to a conversation or an answer of an app-server turn: prevented, or
//! turned into an error.

use serde_json::{Value, json};

use crate::support::{Reply, Setup, Upstream, joined, real, said, user, wait};

/// Every combination that decides what Codex does with long conversations. The model is one that
/// takes functions in all of them.
const VARIANTS: [(&str, &str); 3] = [("model", "auto"), ("model", "off"), ("agent", "auto")];

fn variant(profile: &str, catalog: &str) -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    let setup = setup.set("engine", "app-server").set("turns_per_worker", 8);
    Some((setup.set("profile", profile).set("model_catalog", catalog).set("model", "gpt-5.5"), upstream))
}

#[test]
fn a_long_history_is_not_summed_up() {
    let long = |number: usize| format!("{number} {}", "word ".repeat(8_000));
    let history = |count: usize| {
        let role = |number: usize| if number.is_multiple_of(2) { "user" } else { "assistant" };
        let mut messages: Vec<Value> = (0..count).map(|number| said(role(number), &long(number))).collect();
        messages.push(user("Reply with exactly: pong"));
        json!({ "messages": messages })
    };
    for (profile, catalog) in VARIANTS {
        let Some((setup, upstream)) = variant(profile, catalog) else { return };
        let proxy = setup.start();
        for count in [12, 40] {
            let before = upstream.requests().len();
            let answer = proxy.chat(history(count)).send();
            if answer.status == 400 {
                // Beyond the model's own window.
                assert!(count == 40 && (profile, catalog) != VARIANTS[0], "{count} {profile} {catalog}");
                answer.error(400, "invalid_request_error", "context_length_exceeded");
                continue;
            }
            assert_eq!(answer.answer(), "pong", "profile = {profile}, model_catalog = {catalog}");
            let requests = upstream.requests();
            assert_eq!(requests.len(), before + 1);
            let items = requests[before].items().iter();
            let texts: Vec<&str> = items.filter_map(|item| item["content"][0]["text"].as_str()).collect();
            let whole = (0..count).all(|number| texts.contains(&long(number).as_str()));
            assert!(whole, "profile = {profile}, model_catalog = {catalog}");
        }
    }
}

#[test]
fn a_long_function_result_is_not_cut() {
    let result = |content: Value| {
        let call =
            json!({ "id": "c1", "type": "function", "function": { "name": "look", "arguments": "{}" } });
        json!({ "messages": [
            user("look"),
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": content },
        ] })
    };
    let text = |length: usize| "3C ".repeat(length / 3);
    let parts: Vec<Value> =
        (0..8).map(|number| json!({ "type": "text", "text": format!("{number}{}", text(30_000)) })).collect();
    for (profile, catalog) in VARIANTS {
        let Some((setup, upstream)) = variant(profile, catalog) else { return };
        let proxy = setup.start();
        for (content, whole) in
            [(json!(text(240_000)), 240_000), (json!(parts), 240_008), (json!(text(39_999)), 39_999)]
        {
            let before = upstream.requests().len();
            let answer = proxy.chat(result(content)).send();
            if profile == "agent" && whole > 40_000 {
                let message = answer.error(400, "invalid_request_error", "invalid_value");
                assert!(message.contains("profile"), "{message}");
                assert_eq!(upstream.requests().len(), before, "nothing was spent");
                continue;
            }
            answer.answer();
            let request = upstream.requests().pop().unwrap();
            let output = request.items().iter().find(|item| item["type"] == "function_call_output").unwrap();
            let arrived = match &output["output"] {
                Value::String(text) => text.len(),
                parts => {
                    parts.as_array().unwrap().iter().map(|part| part["text"].as_str().unwrap().len()).sum()
                }
            };
            assert_eq!(arrived, whole, "profile = {profile}, model_catalog = {catalog}");
        }
    }
}

/// Items and tools are counted as the client counts them.
#[test]
fn what_is_refused_is_named_by_the_clients_own_field() {
    let call =
        |id: &str| json!({ "id": id, "type": "function", "function": { "name": "look", "arguments": "{}" } });
    let result = |id: &str, length: usize| json!({ "role": "tool", "tool_call_id": id, "content": "x".repeat(length) });
    let Some((setup, upstream)) = variant("agent", "auto") else { return };
    let proxy = setup.start();
    let answer = proxy
        .chat(json!({ "messages": [
            user("look"),
            { "role": "assistant", "content": null, "tool_calls": [call("c1"), call("c2")] },
            result("c1", 7),
            result("c2", 41_000),
        ] }))
        .send();
    answer.error(400, "invalid_request_error", "invalid_value");
    assert_eq!(answer.json()["error"]["param"], "messages[3]");
    drop(proxy);

    let tool = |name: &str, schema: Value| json!({ "type": "function", "function": { "name": name, "parameters": schema } });
    let good = json!({ "type": "object", "properties": {} });
    let bad = json!({ "type": "object", "properties": { "a": { "type": "array",
        "items": [{ "type": "number" }, { "type": "number" }] } } });
    let Some((setup, _)) = variant("model", "auto") else { return };
    let proxy = setup.start();
    for (tools, param) in [
        (json!([tool("f", good.clone()), tool("g", bad.clone())]), "tools[1].function.parameters"),
        (json!([tool("exec_command", bad.clone()), tool("g", good.clone())]), "tools[0].function.parameters"),
    ] {
        let answer = proxy.chat(json!({ "messages": [user("x")], "tools": tools })).send();
        answer.error(400, "invalid_request_error", "invalid_value");
        assert_eq!(answer.json()["error"]["param"], param);
    }
    assert!(upstream.requests().is_empty(), "nothing was spent");
}

/// Written on several lines, in an order that is not the alphabet's.
#[test]
fn a_schema_reaches_the_upstream_in_its_own_order() {
    let body = "{ \"model\": \"codex-local\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}],
        \"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"name\": \"a\", \"strict\": true, \"schema\": {
            \"type\": \"object\",
            \"properties\": {\"reasoning\": {\"type\": \"string\"}, \"answer\": {\"type\": \"string\"}},
            \"required\": [\"reasoning\", \"answer\"], \"additionalProperties\": false}}}}";
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", engine).start();
        upstream.reply(Reply::text("{\"reasoning\":\"r\",\"answer\":\"a\"}"));
        let answer = proxy.chat(json!({})).body(body).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = upstream.requests().pop().unwrap().raw;
        let at = |key: &str| {
            text.find(&format!("\"{key}\":{{\"type\"")).unwrap_or_else(|| panic!("{key}: {text}"))
        };
        assert!(at("reasoning") < at("answer"), "{engine}: {text}");
    }
}

#[test]
fn an_answer_that_is_begun_again_is_not_said_twice() {
    let Some((setup, upstream)) = variant("model", "auto") else { return };
    let proxy = setup.flag("codex-config", "model_providers.mock.stream_max_retries=2").start();
    let again = || {
        upstream.reply(Reply::nothing().then_reasoning(&["hm"]).then_partial(&["po"]).then_cut());
        upstream.reply(Reply::nothing().then_reasoning(&["hm"]).then_text(&["po", "ng"]));
    };
    again();
    proxy.ask("hi").send().error(502, "api_error", "codex_failed");
    // The second attempt may have begun when the turn was given up; the next turn is not to meet it.
    wait::until("the first attempt is over", || {
        upstream.requests().iter().all(|request| request.ended.is_some())
    });
    while upstream.requests().len() < 2 {
        proxy.ask("hi").send();
    }
    again();
    let (chunks, done) = proxy.ask_streamed("hi").open().chunks();
    assert!(!done && chunks.last().unwrap()["error"]["code"] == "codex_failed", "{chunks:?}");
    assert_eq!(joined(&chunks[..chunks.len() - 1], 0).0, "po");
    while upstream.requests().len() < 4 {
        proxy.ask("hi").send();
    }

    // Nothing of the answer was out yet: then it is whole, and its reasoning is there once.
    upstream.reply(Reply::nothing().then_reasoning(&["hm"]).then_cut());
    upstream.reply(Reply::nothing().then_reasoning(&["hm"]).then_text(&["po", "ng"]));
    let (chunks, done) = proxy.ask_streamed("hi").open().chunks();
    assert!(done, "{chunks:?}");
    assert_eq!(joined(&chunks, 0).0, "pong");
    let thoughts: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["reasoning_content"].as_str())
        .collect();
    assert_eq!(thoughts, "hm");
}

/// All at once on one worker: each gets its own outcome, and nothing of another's.
#[test]
fn mixed_failures_under_load_stay_apart() {
    let Some((setup, upstream)) = variant("model", "auto") else { return };
    let proxy = setup.set("turns_per_worker", 32).start();
    let look =
        json!([{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }]);
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for number in 0..32 {
                let (proxy, look) = (&proxy, look.clone());
                scope.spawn(move || {
                    let mine = format!("Reply with exactly: mine-{number}");
                    let ask = |mark: &str| proxy.ask(&format!("{mark} {mine}")).send();
                    match number % 8 {
                        0 => assert_eq!(ask("").answer(), format!("mine-{number}")),
                        1 => drop(ask("[[fail=500]]").error(502, "api_error", "codex_failed")),
                        2 => drop(ask("[[usage-limit]]").error(
                            429,
                            "insufficient_quota",
                            "insufficient_quota",
                        )),
                        3 => drop(ask("[[cut]]").error(502, "api_error", "codex_failed")),
                        4 => {
                            let (chunks, done) =
                                proxy.ask_streamed(&format!("[[delay=20]] {mine}")).open().chunks();
                            assert!(done);
                            assert_eq!(joined(&chunks, 0).0, format!("mine-{number}"));
                        }
                        5 => {
                            // Leaves in the middle.
                            let mut stream =
                                proxy.ask_streamed(&format!("[[delay=200]] {mine} a b c d e f g h")).open();
                            stream.data();
                        }
                        6 => {
                            let asked = format!("[[tool=look {{\"n\":{number}}}]]");
                            let body = json!({ "messages": [user(asked)], "tools": look });
                            let body = proxy.chat(body).send().json();
                            let call = &body["choices"][0]["message"]["tool_calls"][0]["function"];
                            assert_eq!(call["arguments"], format!("{{\"n\":{number}}}"), "{body}");
                        }
                        _ => drop(ask("[[failed=server_is_overloaded busy]]").error(
                            503,
                            "server_error",
                            "upstream_overloaded",
                        )),
                    }
                });
            }
        });
    }
    wait::until("nothing runs any more", || {
        let page = proxy.get("/ready").send().json();
        page["queue"]["running"] == 0 && page["workers"] == json!({ "ready": 1, "total": 1 })
    });
    wait::until("the upstream is asked nothing any more", || upstream.open() == 0);
    assert_eq!(crate::workers::workers(&proxy).len(), 1);
    assert_eq!(proxy.log().matches("a codex worker is ready").count(), 1, "no worker was lost");
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
}
