//! `engine = "app-server"` with the real Codex: a plain, streaming, function-calling model.

use std::time::Duration;

use serde_json::{Value, json};

use crate::chat::PNG;
use crate::support::proxy::Proxy;
use crate::support::{Ended, Reply, Setup, Upstream, joined, real, said, user, wait};

fn app_server() -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    Some((setup.set("engine", "app-server").set("turns_per_worker", 8), upstream))
}

fn function(name: &str) -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    json!({ "type": "function", "function": { "name": name, "description": "d", "parameters": parameters } })
}

/// The texts and types of the conversation that reached the upstream, without what carries tools.
fn conversation(upstream: &Upstream) -> Vec<Value> {
    let requests = upstream.requests();
    let items = requests.last().unwrap().items().to_vec();
    items.into_iter().filter(|item| item["type"] != "additional_tools").collect()
}

#[test]
fn a_one_line_prompt_is_all_that_goes_out() {
    let Some((setup, upstream)) = app_server() else { return };
    for file in ["home/.codex/AGENTS.md", "home/.codex-api-proxy/workspace/AGENTS.md"] {
        setup.scratch().write(file, "LEAK");
    }
    setup.scratch().write("home/.codex/config.toml", "developer_instructions = \"LEAK\"\n");
    let proxy = setup.start();
    upstream.reply(Reply::text("pong").usage(100, 20, 30, 4));
    let answer = proxy.ask("hello").send();
    assert_eq!(answer.answer(), "pong");
    let usage = &answer.json()["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(100), &json!(30)));
    let request = upstream.only_request();
    let text = request.text();
    assert!(text.len() <= 2000, "{} bytes: {text}", text.len());
    assert!(!text.contains("LEAK") && request.tools().is_empty(), "{text}");
    let items = conversation(&upstream);
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(items[0]["content"], json!([{ "type": "input_text", "text": "hello" }]));
}

#[test]
fn a_history_arrives_item_by_item() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "exec_command", "arguments": "{\"a\":  1}" } });
    let long = "3C ".repeat(70_000);
    let messages = json!([
        said("system", "Be brief."),
        user(json!([{ "type": "text", "text": "look" }, { "type": "image_url", "image_url": { "url": PNG } }])),
        { "role": "assistant", "content": null, "tool_calls": [call("c1"), call("c2")] },
        { "role": "tool", "tool_call_id": "c1", "content": "cold" },
        { "role": "tool", "tool_call_id": "c2", "content": long },
        said("assistant", "It is cold."),
        said("developer", "Go on."),
        user("and now?"),
    ]);
    proxy.chat(json!({ "messages": messages })).send().answer();
    let items = conversation(&upstream);
    let shown: Vec<Value> = items
        .iter()
        .map(|item| match item["type"].as_str().unwrap() {
            "message" => json!([item["role"], item["content"][0]["type"], item["content"][0]["text"]]),
            "function_call" => json!([item["call_id"], item["name"], item["arguments"]]),
            _ => json!([item["call_id"], item["output"]]),
        })
        .collect();
    assert_eq!(
        json!(shown),
        json!([
            ["developer", "input_text", "Be brief."],
            ["user", "input_text", "look"],
            ["c1", "client_exec_command", "{\"a\":  1}"],
            ["c2", "client_exec_command", "{\"a\":  1}"],
            ["c1", "cold"],
            ["c2", long],
            ["assistant", "output_text", "It is cold."],
            ["developer", "input_text", "Go on."],
            ["user", "input_text", "and now?"],
        ])
    );
    assert_eq!(items[1]["content"][1]["image_url"], PNG);
}

#[test]
fn a_megabyte_is_neither_refused_nor_summed_up() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let text = "word ".repeat(200_000);
    assert_eq!(proxy.ask(&format!("{text} Reply with exactly: pong")).send().answer(), "pong");
    assert!(upstream.only_request().last_text("user").starts_with(&text));
}

#[test]
fn deltas_arrive_one_by_one_as_they_come() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let deltas = ["po", "ng", "\n\n", "é", "𝄞", "."];
    upstream.reply(
        Reply::nothing().then_reasoning(&["hm"]).then_phase("commentary", "looking").then_text(&deltas),
    );
    let (chunks, done) = proxy.ask_streamed("hi").open().chunks();
    assert!(done);
    let part = |name: &str| -> Vec<String> {
        let delta = |chunk: &Value| chunk["choices"][0]["delta"][name].as_str().map(str::to_owned);
        chunks.iter().filter_map(delta).filter(|text| !text.is_empty()).collect()
    };
    assert_eq!(part("content"), deltas);
    assert_eq!(part("reasoning_content").concat(), "hm\n\nlooking");

    upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
    let mut stream = proxy.ask_streamed("hi").open();
    let mut seen = String::new();
    while !seen.contains("half") {
        seen = stream.data().unwrap();
    }
    upstream.release();
}

#[test]
fn three_parallel_calls_cost_one_request_and_go_on_in_the_next() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let tools = json!([function("get_weather"), function("exec_command")]);
    let calls = || {
        Reply::nothing()
            .then_call("get_weather", "{\"city\": \"Oslo\"}")
            .then_call("client_exec_command", "{\"city\":\"Rome\"}")
            .then_call("get_weather", "{\"city\":\"Bonn\"}")
            .usage(10, 0, 5, 0)
    };
    let expect = [
        ("get_weather", "{\"city\": \"Oslo\"}"),
        ("exec_command", "{\"city\":\"Rome\"}"),
        ("get_weather", "{\"city\":\"Bonn\"}"),
    ];
    for round in 0..5 {
        upstream.reply(calls());
        let body = proxy.chat(json!({ "messages": [user("weather?")], "tools": tools })).send().json();
        let choice = &body["choices"][0];
        let got: Vec<(&str, &str)> = choice["message"]["tool_calls"]
            .as_array()
            .unwrap_or_else(|| panic!("{body}"))
            .iter()
            .map(|call| {
                (call["function"]["name"].as_str().unwrap(), call["function"]["arguments"].as_str().unwrap())
            })
            .collect();
        assert_eq!(got, expect);
        assert_eq!(
            (&choice["finish_reason"], &body["usage"]["total_tokens"]),
            (&json!("tool_calls"), &json!(15))
        );
        assert_eq!(upstream.requests().len(), round + 1, "no request is made without the results");
    }
    assert_eq!(upstream.requests()[0].tools(), ["functions.get_weather", "functions.client_exec_command"]);

    upstream.reply(calls());
    let (chunks, done) =
        proxy.chat(json!({ "stream": true, "messages": [user("weather?")], "tools": tools })).open().chunks();
    assert!(done);
    assert_eq!(joined(&chunks, 0).1.as_deref(), Some("tool_calls"));
    let arguments: String = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array().cloned().unwrap_or_default())
        .filter_map(|call| call["function"]["arguments"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(arguments, expect.map(|(_, arguments)| arguments).concat());
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
}

#[test]
fn what_the_client_chooses_reaches_the_upstream() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let schema = json!({ "type": "object", "additionalProperties": false, "properties": {}, "required": [] });
    upstream.reply(Reply::text("{}"));
    proxy
        .chat(json!({
            "model": "gpt-5.5", "messages": [user("hi")], "reasoning_effort": "high", "verbosity": "high",
            "service_tier": "flex",
            "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": schema } },
        }))
        .send()
        .answer();
    let body: Value = serde_json::from_str(&upstream.only_request().text()).unwrap();
    assert_eq!((&body["model"], &body["service_tier"]), (&json!("gpt-5.5"), &json!("flex")));
    assert_eq!((&body["reasoning"]["effort"], &body["text"]["verbosity"]), (&json!("high"), &json!("high")));
    assert_eq!(body["text"]["format"]["schema"], schema);
}

#[test]
fn leaving_interrupts_the_turn_upstream() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.set("turns_per_worker", 1).start();
    for (round, stream) in [false, true].into_iter().enumerate() {
        upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
        let call = proxy.chat(json!({ "stream": stream, "messages": [user("hi")] })).send_only();
        wait::until("the turn runs", || {
            upstream.requests().get(2 * round).is_some_and(|request| request.deltas == 1)
        });
        drop(call);
        let ended =
            wait::until_some("the upstream's connection ends", || upstream.requests()[2 * round].ended);
        assert_eq!(ended.0, Ended::ClientClosed);
        assert_eq!(
            proxy.ask("Reply with exactly: pong").send().answer(),
            "pong",
            "the only slot is free again"
        );
    }
}

#[test]
fn errors_of_the_upstream_have_their_status() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let error =
        |code: &str, text: &str| json!({ "message": text, "type": "invalid_request_error", "code": code });
    let rows: Vec<(Reply, u16, &str, &str)> = vec![
        (
            Reply::status(400, error("context_length_exceeded", "LEAK")),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (
            Reply::status(404, error("model_not_found", "LEAK: the model `gpt-x` does not exist")),
            404,
            "invalid_request_error",
            "model_not_found",
        ),
        (
            Reply::status_body(400, r#"{"detail":"Instructions are not valid"}"#),
            502,
            "api_error",
            "lean_request_refused",
        ),
        (
            Reply::failed("rate_limit_exceeded", "Rate limit reached. Please try again in 1.5s."),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (Reply::failed("server_is_overloaded", "LEAK"), 503, "server_error", "upstream_overloaded"),
    ];
    for (reply, status, kind, code) in rows {
        upstream.reply(reply);
        let answer = proxy.ask("hi").send();
        let message = answer.error(status, kind, code);
        assert!(!message.contains("LEAK"), "{message}");
    }
    upstream.reply(
        Reply::nothing().then_partial(&["par"]).then_incomplete("max_output_tokens").usage(3, 0, 2, 0),
    );
    let body = proxy.ask("hi").send().json();
    assert_eq!(body["choices"][0]["finish_reason"], "length", "{body}");
    upstream.reply(Reply::nothing().then_partial(&["par"]).then_cut());
    let mut stream = proxy.ask_streamed("hi").open();
    let (chunks, done) = stream.chunks();
    assert!(!done && chunks.last().unwrap()["error"].is_object(), "{chunks:?}");
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
}

#[test]
fn a_burst_reaches_a_client_that_reads() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    let deltas = vec!["z".repeat(10_000); 2_000];
    upstream.reply(Reply::deltas(&deltas));
    let answer = proxy.ask_streamed("hi").open().whole();
    let end = String::from_utf8_lossy(&answer.body[answer.body.len().saturating_sub(1_000)..]);
    assert!(answer.complete && end.ends_with("data: [DONE]\n\n"), "{end}");
    let zs = answer.body.iter().filter(|byte| **byte == b'z').count();
    assert!((20_000_000..20_001_000).contains(&zs), "{zs} of 20,000,000");
}

#[test]
fn the_accounts_limits_are_told() {
    let Some((setup, upstream)) = app_server() else { return };
    let proxy = setup.start();
    assert_eq!(proxy.ask("hi").send().header("x-codex-primary-used-percent"), None);
    let limited = Reply::text("pong")
        .header("x-codex-primary-used-percent", "42")
        .header("x-codex-primary-window-minutes", "300")
        .header("x-codex-primary-reset-at", "4000000000");
    upstream.reply(limited);
    proxy.ask("hi").send().answer();
    wait::until("the limits are known", || proxy.get("/ready").send().text().contains("4000000000"));
    for call in [proxy.ask("hi"), proxy.ask_streamed("hi")] {
        let answer = call.open().whole();
        for (name, value) in [("used-percent", "42"), ("window-minutes", "300"), ("reset-at", "4000000000")] {
            assert_eq!(answer.header(&format!("x-codex-primary-{name}")), Some(value), "{name}");
        }
    }
    let metrics = proxy.get("/metrics/prometheus").send().text();
    assert!(metrics.contains(r#"codex_api_proxy_rate_limit_used_ratio{window="primary"} 0.42"#), "{metrics}");
}

#[test]
fn a_model_that_tries_runs_nothing() {
    let Some((setup, upstream)) = app_server() else { return };
    setup.scratch().write("home/secret", "LEAK");
    let (home, written) = (setup.home(), setup.home().join("written"));
    let command = format!("cat {0}/secret; touch {0}/written", home.display());
    let proxy = setup.start();
    let arguments = json!({ "cmd": command, "command": ["sh", "-c", command] }).to_string();
    let tries = ["exec_command", "shell", "local_shell", "view_image", "apply_patch", "exec"];
    for name in tries {
        upstream.reply(Reply::call(name, &arguments));
        upstream.reply(Reply::text("pong"));
        assert_eq!(proxy.ask("hi").send().answer(), "pong");
        let outputs = upstream.requests().last().unwrap().tool_outputs();
        assert!(outputs.iter().all(|output| !output.contains("LEAK")), "{name}: {outputs:?}");
    }
    upstream.reply(Reply::nothing().then_custom_call("exec", &format!("tools.exec_command({arguments})")));
    upstream.reply(Reply::text("pong"));
    assert_eq!(proxy.ask("hi").send().answer(), "pong");
    assert!(upstream.requests().iter().all(|request| !request.text().contains("LEAK")));
    assert!(!written.exists());
}

fn resident_kb(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

#[test]
fn three_hundred_turns_leave_memory_flat() {
    let Some((setup, _upstream)) = app_server() else { return };
    let proxy = setup.set("prewarm", 2).start();
    let worker = only_child(&proxy);
    let turns = |count: usize| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..count / 4 {
                        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
                    }
                });
            }
        });
        // Threads are unloaded a second after their release.
        std::thread::sleep(Duration::from_millis(1500));
        resident_kb(&worker)
    };
    let after_some = turns(100);
    let after_all = turns(200);
    // Unreleased threads cost 1.6 MB each.
    assert!(after_all < after_some + 100_000, "{after_some} kB after 100 turns, {after_all} kB after 300");
    assert_eq!(only_child(&proxy), worker, "the same process served them all");
}

fn only_child(proxy: &Proxy) -> String {
    wait::until_some("one worker runs", || {
        let pid = proxy.pid();
        let children: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        (children.len() == 1).then(|| children.into_iter().next()).flatten()
    })
}

#[test]
fn doctor_tells_what_the_real_app_server_carries() {
    let Some((setup, _upstream)) = app_server() else { return };
    let output = setup.command(&["doctor"]).args(setup.flags()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.contains("features ")).unwrap_or_else(|| panic!("{said}"));
    for part in ["ok ", "history", "functions", "release of threads", "login status", "tried"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!said.contains("no functions") && !said.contains("app-server did not"), "{said}");
}
