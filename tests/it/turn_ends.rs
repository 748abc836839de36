//! App-server turns that end before the model is done: the upstream is let go of, and the slot is free.

use serde_json::{Value, json};

use crate::support::{Ended, Reply, Setup, Upstream, joined, real, user, wait};

fn one_slot() -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    Some((setup.set("engine", "app-server"), upstream))
}

/// The last request's connection was closed by Codex, not played to its end.
fn let_go(upstream: &Upstream) {
    let last = || upstream.requests().last().and_then(|request| request.ended);
    let ended = wait::until_some("the upstream is let go of", last);
    assert_eq!(ended.0, Ended::ClientClosed);
}

#[test]
fn a_stop_string_ends_the_turn_upstream() {
    let Some((setup, upstream)) = one_slot() else { return };
    let proxy = setup.start();
    let deltas = ["one tw", "o EN", "D three"];
    let body = |stream: bool| json!({ "stream": stream, "messages": [user("hi")], "stop": ["END"] });
    upstream.reply(Reply::nothing().then_partial(&deltas).then_hang());
    let answer = proxy.chat(body(false)).send().json();
    assert_eq!(answer["choices"][0]["message"]["content"], "one two ", "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let_go(&upstream);
    upstream.reply(Reply::nothing().then_partial(&deltas).then_hang());
    let (chunks, done) = proxy.chat(body(true)).header("x-request-id", "cut").open().chunks();
    assert!(done);
    let line = proxy.latency_line("chat_completion_latency", "cut");
    assert_eq!(
        (&line["status"], &line["tokens_unknown"], line.get("prompt_tokens")),
        (&json!("ok"), &json!(1), None)
    );
    assert_eq!(joined(&chunks, 0), ("one two ".into(), Some("stop".into())));
    let_go(&upstream);
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong", "the only slot is free");
}

/// Takes a minute: so long Codex may be silent about an open call.
#[test]
fn the_output_limit_after_a_function_call_ends_the_turn() {
    let Some((setup, upstream)) = one_slot() else { return };
    let proxy = setup.set("turns_per_worker", 8).start();
    let cut = Reply::text("half").then_call("f", "{}").then_incomplete("max_output_tokens");
    let slow = Reply::call("f", "{}").then_wait(std::time::Duration::from_secs(75)).then_call("f", "{}");
    upstream.when("be cut", [cut]);
    upstream.when("be slow", [slow]);
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    let ask = |text: &str| {
        proxy.chat(json!({ "stream": true, "messages": [user(text)], "tools": [tool.clone()] })).open()
    };
    let (mut cut, mut slow) = (ask("be cut"), ask("be slow"));
    let calls = |chunks: &[Value]| {
        let deltas = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array());
        deltas.flatten().filter(|call| call["function"]["name"] == "f").count()
    };
    let (chunks, done) = cut.chunks();
    assert!(done, "{chunks:?}");
    assert_eq!((joined(&chunks, 0), calls(&chunks)), (("half".into(), Some("length".into())), 1));
    // A model that was only slow loses nothing.
    let (chunks, done) = slow.chunks();
    assert!(done, "{chunks:?}");
    assert_eq!((joined(&chunks, 0), calls(&chunks)), ((String::new(), Some("tool_calls".into())), 2));
    wait::until("the slots are free", || proxy.get("/ready").send().json()["queue"]["running"] == 0);
    let requests =
        |text: &str| upstream.requests().iter().filter(|request| request.text().contains(text)).count();
    assert_eq!(requests("be cut"), 1, "nothing is asked again");
    assert!(requests("be slow") <= 2, "{}", requests("be slow"));
}

#[test]
fn time_running_out_ends_the_turn_upstream() {
    let Some((setup, upstream)) = one_slot() else { return };
    // Time enough to be under way on a busy machine.
    let proxy = setup.set("timeout_seconds", 4).start();
    upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
    proxy.ask("hi").send().error(504, "timeout_error", "turn_timeout");
    let_go(&upstream);
    upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
    let (chunks, done) = proxy.ask_streamed("hi").open().chunks();
    assert!(!done && chunks.last().unwrap()["error"]["code"] == "turn_timeout", "{chunks:?}");
    let_go(&upstream);
    wait::until("the only slot is free", || proxy.get("/ready").send().json()["queue"]["running"] == 0);
}

#[test]
fn the_end_of_the_server_ends_the_turn_upstream() {
    let Some((setup, upstream)) = one_slot() else { return };
    let mut proxy = setup.start();
    upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
    let call = proxy.ask("hi").send_only();
    wait::until("the turn runs", || upstream.requests().first().is_some_and(|request| request.deltas == 1));
    proxy.signal("TERM");
    assert!(proxy.wait_exit().success());
    let_go(&upstream);
    let rest = String::from_utf8_lossy(&call.rest()).into_owned();
    assert!(rest.starts_with("HTTP/1.1 503"), "{rest}");
    proxy.until_childless();
}

#[test]
fn the_choice_of_functions_is_kept_or_it_is_an_error() {
    let Some((setup, upstream)) = one_slot() else { return };
    let proxy = setup.start();
    let function = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": { "type": "object" } } });
    let ask = |choice: Value| {
        let tools = [function("look"), function("exec_command")];
        proxy.chat(json!({ "messages": [user("hi")], "tools": tools, "tool_choice": choice })).send()
    };
    let named = json!({ "type": "function", "function": { "name": "exec_command" } });
    // The model does as it is told, under the name that went out.
    for (choice, calls, expect) in [
        (json!("auto"), "look", "look"),
        (json!("required"), "look", "look"),
        (named.clone(), "client_exec_command", "exec_command"),
    ] {
        upstream.reply(Reply::nothing().then_text(&["let me see"]).then_call(calls, "{}"));
        let body = ask(choice.clone()).json();
        let message = &body["choices"][0]["message"];
        assert_eq!(message["tool_calls"][0]["function"]["name"], expect, "{choice}: {body}");
    }
    let told = upstream.requests().pop().unwrap();
    assert!(told.last_text("developer").contains("client_exec_command"), "{}", told.text());
    // It does not.
    for choice in [json!("required"), named] {
        upstream.reply(Reply::text("no"));
        ask(choice).error(502, "api_error", "tool_choice_not_honoured");
    }
    upstream.reply(Reply::text("fine"));
    assert_eq!(ask(json!("none")).answer(), "fine");
    assert!(upstream.requests().last().unwrap().tools().is_empty());
}

/// Codex refuses the call by itself and asks the model again, at the caller's expense.
#[test]
fn a_model_that_calls_what_was_not_offered_is_not_paid_for_forever() {
    let Some((setup, upstream)) = one_slot() else { return };
    let proxy = setup.start();
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    for (tools, be) in
        [(json!([]), ["be wrong", "be stubborn"]), (json!([tool]), ["be false", "be obstinate"])]
    {
        let before = upstream.requests().len();
        let stubborn = || Reply::call("made_up", "{}");
        let ask = |question: &str| proxy.chat(json!({ "messages": [user(question)], "tools": tools })).send();
        upstream.when(be[0], (0..3).map(|_| stubborn()).chain([Reply::text("Sorry.")]));
        assert_eq!(ask(be[0]).answer(), "Sorry.", "the model may correct itself");
        assert_eq!(upstream.requests().len() - before, 4);
        upstream.when(be[1], (0..100).map(|_| stubborn()));
        let refused = ask(be[1]);
        assert_eq!((refused.status, refused.header("x-should-retry")), (502, Some("false")));
        let error = &refused.json()["error"];
        assert_eq!(error["code"], "codex_failed", "{error}");
        wait::until("nothing runs", || proxy.metrics()["turns_running"] == 0);
        // The fifth may be under way when the fourth is counted.
        let bought = upstream.requests().len() - before - 4;
        assert!((4..=6).contains(&bought), "{bought}");
    }
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong", "the only slot is free");
}

#[test]
fn lines_of_many_megabytes_pass_in_both_directions() {
    let Some((setup, upstream)) = one_slot() else { return };
    let proxy = setup.start();
    let long = "0123456789abcde ".repeat(1 << 20);
    let function =
        json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    // With functions Codex repeats the whole conversation to us, in lines of this length.
    let body =
        json!({ "messages": [user(long.as_str()), user("Reply with exactly: pong")], "tools": [function] });
    assert_eq!(proxy.chat(body).send().answer(), "pong");
    assert!(upstream.only_request().text().contains(&long));
    upstream.reply(Reply::deltas(&[long.as_str()]));
    let (chunks, done) = proxy.ask_streamed("hi").open().chunks();
    assert!(done);
    assert_eq!(joined(&chunks, 0).0.len(), long.len());
}
