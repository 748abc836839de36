//! What real clients send, from public bug reports: it arrives whole, and the answer keeps to what was asked.

use serde_json::{Value, json};

use crate::chat::PNG;
use crate::support::{Reply, Setup, Upstream, joined, real, user};

/// Both engines.
fn each() -> Vec<(&'static str, Setup, Upstream)> {
    let engine = |name| real().map(|(setup, upstream)| (name, setup.set("engine", name), upstream));
    ["exec", "app-server"].into_iter().filter_map(engine).collect()
}

fn schema(strict: Option<bool>) -> Value {
    let schema = json!({
        "type": "object", "required": ["a"],
        "properties": { "a": { "type": "string" }, "b": { "type": "integer", "default": 1 } },
    });
    json!({ "type": "json_schema", "json_schema": { "name": "x", "strict": strict, "schema": schema } })
}

#[test]
fn a_schema_that_is_not_strict_is_told_in_words_and_checked() {
    for (engine, setup, upstream) in each() {
        let proxy = setup.start();
        let ask = |strict| {
            proxy.chat(json!({ "messages": [user("hi")], "response_format": schema(strict) })).send()
        };
        for (said, expect) in
            [(r#"{"a": "x"}"#, r#"{"a": "x"}"#), ("```json\n{\"a\": \"y\"}\n```", r#"{"a": "y"}"#)]
        {
            for strict in [None, Some(false)] {
                upstream.reply(Reply::text(said));
                assert_eq!(ask(strict).answer(), expect, "{engine}");
            }
        }
        let request = upstream.requests().pop().unwrap();
        assert_eq!(request.body["text"].get("format"), None, "{engine}");
        assert!(
            request.text().contains(r#"\"b\":{\"default\":1,\"type\":\"integer\"}"#),
            "{}",
            request.text()
        );
        for wrong in [r#"{"b": 1}"#, r#"{"a": "x", "b": "1"}"#, "Sure."] {
            upstream.reply(Reply::text(wrong));
            ask(None).error(502, "api_error", "invalid_json_output");
        }
        upstream.reply(Reply::text(r#"{"b": 1}"#));
        assert_eq!(
            ask(Some(true)).answer(),
            r#"{"b": 1}"#,
            "{engine}: the upstream sees to what it was asked for"
        );
        assert_eq!(upstream.requests().pop().unwrap().body["text"]["format"]["strict"], json!(true));
    }
}

#[test]
fn pictures_are_carried_or_refused() {
    for (engine, setup, upstream) in each() {
        let proxy = setup.start();
        let ask = |url: &str| {
            let parts = json!([
                { "type": "text", "text": "before-it" },
                { "type": "image_url", "image_url": { "url": url, "detail": "high" } },
                { "type": "text", "text": "after-it" },
            ]);
            proxy.chat(json!({ "messages": [{ "role": "user", "name": "sam", "content": parts }] })).send()
        };
        let (head, data) = PNG.split_once(',').unwrap();
        let lines: Vec<&str> =
            data.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let answer = ask(&format!("{head},{}", lines.join("\r\n")));
        assert_eq!(
            answer.header("x-codex-proxy-ignored"),
            Some("messages[].content[].image_url.detail, messages[].name"),
            "{engine}"
        );
        answer.answer();
        let request = upstream.only_request();
        assert_eq!(request.images(), [PNG], "{engine}");
        let text = request.text();
        let places = ["before-it", if engine == "exec" { "\\n[Image #1]\\n" } else { PNG }, "after-it"];
        let found: Vec<_> = places.iter().map(|part| text.find(part).unwrap()).collect();
        assert!(found.is_sorted(), "{engine}: {found:?} in {text}");
        for (base64, why) in [("aGVsbG8=", "is no PNG"), (&data[..52], "is cut short")] {
            let message =
                ask(&format!("{head},{base64}")).error(400, "invalid_request_error", "invalid_image_format");
            assert!(message.starts_with("messages[0].content[1].image_url.url is"), "{message}");
            assert!(message.contains(why.trim_start_matches("is ")), "{message}");
        }
        assert_eq!(upstream.requests().len(), 1, "{engine}: nothing was asked");
    }
}

#[test]
fn a_usage_that_is_not_known_is_left_out() {
    for (engine, setup, upstream) in each() {
        let proxy = setup.start();
        let body = |stream: bool| {
            let options = if stream { json!({ "include_usage": true }) } else { Value::Null };
            json!({ "stream": stream, "stream_options": options, "stop": ["STOP"], "messages": [user("hi")] })
        };
        upstream.reply(Reply::deltas(&["abc ", "STOP", " def"]));
        let (chunks, done) = proxy.chat(body(true)).open().chunks();
        assert!(done, "{engine}");
        for chunk in &chunks {
            let empty = chunk["choices"] == json!([]);
            assert!(!empty || chunk["usage"].is_object(), "{engine}: {chunk}");
        }
        upstream.reply(Reply::deltas(&["abc ", "STOP", " def"]));
        let answer = proxy.chat(body(false)).send();
        assert_eq!(answer.answer(), "abc ");
        assert!(answer.json().get("usage").is_none_or(Value::is_object), "{engine}: {}", answer.text());
        assert_eq!(answer.json().get("service_tier"), None, "{engine}");
    }
}

#[test]
fn a_lone_prompt_keeps_its_byte_order_mark() {
    for (engine, setup, upstream) in each() {
        let proxy = setup.start();
        proxy.ask("\u{feff}hi").send().answer();
        assert_eq!(upstream.only_request().last_text("user"), "\u{feff}hi", "{engine}");
    }
}

#[test]
fn results_of_calls_that_look_alike_are_told_apart() {
    for (engine, setup, upstream) in each() {
        let proxy = setup.start();
        let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } });
        let result = |id: &str, text: &str| json!({ "role": "tool", "tool_call_id": id, "content": text });
        let messages = json!([
            user("hi"),
            { "role": "assistant", "content": null, "tool_calls": [call("c|1"), call("c_1")] },
            result("c_1", "of the second"),
            result("c|1", "of the first"),
        ]);
        proxy.chat(json!({ "messages": messages })).send().answer();
        let text = upstream.only_request().text();
        if engine == "exec" {
            for block in ["[tool result c_1]\\nof the second", "[tool result c%7C1]\\nof the first"] {
                assert!(text.contains(block), "{text}");
            }
        } else {
            assert!(text.contains("\"c|1\"") && text.contains("\"c_1\""), "{text}");
        }
    }
}

#[test]
fn a_working_directory_is_checked_in_either_profile() {
    for (engine, setup, _upstream) in each() {
        let proxy = setup.set("profile", "model").start();
        let ask =
            |cwd: &str| proxy.chat(json!({ "messages": [user("hi")], "metadata": { "cwd": cwd } })).send();
        for wrong in ["/", "/nowhere/at/all", "a\u{0}b"] {
            let message = ask(wrong).error(400, "invalid_request_error", "invalid_value");
            assert!(message.contains("metadata.cwd"), "{engine}: {message}");
        }
        let answer = ask(&proxy.scratch().dir("home/.codex-api-proxy/workspace").display().to_string());
        assert_eq!(answer.header("x-codex-proxy-ignored"), Some("metadata.cwd"), "{engine}");
        answer.answer();
    }
}

#[test]
fn a_call_that_is_required_is_made_even_in_words() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").start();
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": { "type": "object", "properties": {} } } });
    let ask = |choice: Value| {
        proxy
            .chat(json!({ "messages": [user("hi")], "tools": [tool("f"), tool("g")], "tool_choice": choice }))
            .send()
    };
    let named = json!({ "type": "function", "function": { "name": "g" } });
    let g = json!({ "type": "function", "function": { "name": "g" } });
    let allowed =
        |mode: &str| json!({ "type": "allowed_tools", "allowed_tools": { "mode": mode, "tools": [g] } });
    for (choice, names) in [
        (json!("required"), json!(["f", "g"])),
        (named.clone(), json!(["g"])),
        (allowed("required"), json!(["g"])),
    ] {
        upstream.reply(Reply::text(r#"{"calls":[{"name":"g","arguments":"{\"a\": 1.0}"}]}"#));
        let answer = ask(choice).json();
        let choice = &answer["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["content"]),
            (&json!("tool_calls"), &Value::Null),
            "{answer}"
        );
        let call = &choice["message"]["tool_calls"][0]["function"];
        assert_eq!(call, &json!({ "name": "g", "arguments": "{\"a\": 1.0}" }));
        let format = &upstream.requests().pop().unwrap().body["text"]["format"];
        assert_eq!(format["schema"]["properties"]["calls"]["items"]["properties"]["name"]["enum"], names);
    }
    upstream.reply(Reply::text("No."));
    ask(named).error(502, "api_error", "tool_choice_not_honoured");
    upstream.reply(Reply::text("hello"));
    assert_eq!(ask(allowed("auto")).answer(), "hello");
    let offered = upstream.requests().pop().unwrap().tools();
    assert!(
        offered.iter().any(|name| name == "g" || name.ends_with(".g"))
            && !offered.iter().any(|name| name.ends_with(".f") || name == "f"),
        "{offered:?}"
    );
}

/// Nothing said is an answer too: whole, streamed and beside others.
#[test]
fn an_answer_without_a_word_is_an_empty_text() {
    for (engine, setup, upstream) in each() {
        let proxy = setup.set("profile", "model").start();
        let empties = [
            Reply::text(""),
            Reply::deltas::<&str>(&[]),
            Reply::nothing(),
            Reply::nothing().then_reasoning(&[]),
            Reply::nothing().then_reasoning(&["hm"]),
            Reply::nothing().then_reasoning(&["hm"]).then_text(&[""]),
        ];
        for (number, empty) in empties.into_iter().enumerate() {
            upstream.reply(empty.clone());
            let answer = proxy.ask("hi").send();
            let body = answer.json();
            assert_eq!(answer.status, 200, "{engine} {number}: {body}");
            let choice = &body["choices"][0];
            assert_eq!(
                (&choice["message"]["content"], &choice["finish_reason"]),
                (&json!(""), &json!("stop")),
                "{engine} {number}: {body}"
            );
            assert_eq!(body["usage"]["completion_tokens"], 7, "{engine} {number}");
            upstream.reply(empty);
            let (chunks, done) = proxy.ask_streamed("hi").open().chunks();
            assert!(done, "{engine} {number}: {chunks:?}");
            assert_eq!(joined(&chunks, 0), (String::new(), Some("stop".into())), "{engine} {number}");
            assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
        }
        // One of three, in whatever order they are asked.
        for reply in [Reply::text("one"), Reply::nothing(), Reply::text("two")] {
            upstream.reply(reply);
        }
        let body = proxy.chat(json!({ "messages": [user("hi")], "n": 3 })).send().json();
        let choices = body["choices"].as_array().unwrap_or_else(|| panic!("{engine}: {body}"));
        let mut said: Vec<_> =
            choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap()).collect();
        said.sort_unstable();
        assert_eq!(said, ["", "one", "two"], "{engine}");
    }
}

/// Where something was asked for, nothing is not it.
#[test]
fn an_answer_without_a_word_is_no_json_and_no_call() {
    for (engine, setup, upstream) in each() {
        let proxy = setup.set("profile", "model").start();
        for format in [json!({ "type": "json_object" }), schema(None), schema(Some(true))] {
            for empty in [Reply::text(""), Reply::nothing()] {
                for stream in [false, true] {
                    upstream.reply(empty.clone());
                    let body =
                        json!({ "stream": stream, "messages": [user("hi")], "response_format": format });
                    proxy.chat(body).send().error(502, "api_error", "invalid_json_output");
                }
            }
        }
        if engine == "exec" {
            continue;
        }
        let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object", "properties": {} } } });
        let ask = |choice: &str| {
            proxy
                .chat(json!({ "messages": [user("hi")], "tools": [tool.clone()], "tool_choice": choice }))
                .send()
        };
        for empty in [Reply::text(""), Reply::nothing()] {
            upstream.reply(empty.clone());
            ask("required").error(502, "api_error", "tool_choice_not_honoured");
            upstream.reply(empty);
            assert_eq!(ask("auto").answer(), "");
        }
        // A message that was begun and never told, and one that promised more.
        for lost in [
            Reply::nothing().then_partial::<&str>(&[]),
            Reply::nothing().then_phase("commentary", "let me see"),
        ] {
            upstream.reply(lost);
            ask("auto").error(502, "api_error", "no_answer");
        }
    }
}
