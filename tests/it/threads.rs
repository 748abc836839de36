//! Conversations with `engine = "app-server"`: one session id each, so that each is paid for once.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::upstream::Request;
use crate::support::{Proxy, Reply, Setup, Upstream, real, said, user, wait};

pub fn workers() -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    Some((setup.set("engine", "app-server").set("turns_per_worker", 8), upstream))
}

pub fn session(request: &Request) -> String {
    let session = request.header("session-id").expect("codex sends a session id").to_owned();
    assert_eq!(request.body["prompt_cache_key"], session);
    session
}

/// The items as the upstream counts them: ids do not matter to the model.
fn items(request: &Request) -> Vec<Value> {
    let mut items = request.items().to_vec();
    for item in &mut items {
        item.as_object_mut().unwrap().remove("id");
    }
    items
}

/// Of the bytes that an upstream which counts prefixes by session id could have had from its cache,
/// the share that it had: what began like an earlier request of the same session, divided by what
/// began like any earlier request.
fn share(requests: &[Request]) -> f64 {
    let mut seen: Vec<(String, Vec<Value>)> = vec![];
    let (mut cached, mut best) = (0, 0);
    for request in requests {
        let (session, items) = (session(request), items(request));
        let common = |before: &[Value]| -> usize {
            let same = before.iter().zip(&items).take_while(|(before, now)| before == now);
            same.map(|(item, _)| item.to_string().len()).sum()
        };
        let longest = |only: bool| {
            let of = seen.iter().filter(|(name, _)| !only || *name == session);
            of.map(|(_, before)| common(before)).max().unwrap_or(0)
        };
        cached += longest(true);
        best += longest(false);
        seen.push((session, items));
    }
    assert!(best > 0, "nothing was repeated");
    cached as f64 / best as f64
}

/// No recording is left in the home of the workers.
pub fn no_recordings(proxy: &Proxy) -> bool {
    let folder = proxy.scratch().path().join("home/.codex-api-proxy/codex-home/sessions/codex-api-proxy");
    std::fs::read_dir(folder).map_or(0, Iterator::count) == 0
}

#[test]
fn chats_are_paid_for_once() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    assert_eq!(proxy.get("/ready").send().json()["continuation"], "full");
    let mut chats: HashMap<usize, Vec<Value>> = HashMap::new();
    for round in 0..12 {
        for chat in 0..3 {
            let name = format!("chat {chat}");
            let messages = chats.entry(chat).or_insert_with(|| vec![said("system", &name)]);
            let answer = format!("chat {chat} round {round}");
            messages.push(user(format!("Reply with exactly: {answer}")));
            let body = json!({
                "messages": messages, "stream": chat == 1, "reasoning_effort": "low",
                "verbosity": if chat == 2 { json!("low") } else { Value::Null },
            });
            let got = if chat == 1 {
                let (chunks, _) = proxy.chat(body).open().chunks();
                crate::support::joined(&chunks, 0).0
            } else {
                proxy.chat(body).send().answer()
            };
            assert_eq!(got, answer);
            messages.push(said("assistant", &answer));
        }
    }
    let requests = upstream.requests();
    let mut sessions: Vec<String> = requests.iter().map(session).collect();
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 3);
    let share = share(&requests);
    assert!(share >= 0.98, "{share}");
    assert_eq!(requests[2].body["text"]["verbosity"], "low");
    assert!(requests.iter().all(|request| request.body["reasoning"]["effort"] == "low"));
    wait::until("no recording is left", || no_recordings(&proxy));
}

/// An edit keeps what stands before it; callers and instructions keep apart.
#[test]
fn an_edit_stays_in_its_session_and_nobody_else_does() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    let ask = |messages: Value| proxy.chat(json!({ "messages": messages })).send().answer();
    ask(json!([user("first"), said("assistant", "a"), user("Reply with exactly: b")]));
    ask(json!([user("first"), said("assistant", "edited"), user("Reply with exactly: c")]));
    ask(json!([user("other"), said("assistant", "a"), user("Reply with exactly: b")]));
    let requests = upstream.requests();
    assert_eq!(session(&requests[0]), session(&requests[1]));
    assert_ne!(session(&requests[0]), session(&requests[2]));
    let texts: Vec<Value> =
        items(&requests[1]).iter().map(|item| item["content"][0]["text"].clone()).collect();
    assert_eq!(texts, ["first", "edited", "Reply with exactly: c"]);
}

#[test]
fn concurrent_requests_of_one_conversation_share_its_session() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    let answer = proxy.chat(json!({ "n": 6, "messages": [user("Reply with exactly: pong")] })).send().json();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 6);
    let sessions: Vec<String> = upstream.requests().iter().map(session).collect();
    assert!(sessions.len() == 6 && sessions.iter().all(|id| *id == sessions[0]), "{sessions:?}");
    wait::until("no recording is left", || no_recordings(&proxy));
}

/// The model has nothing to run commands with, and Codex runs none.
#[test]
fn a_forked_thread_has_nowhere_to_run_anything() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    upstream.reply(Reply::call("exec_command", "{\"cmd\":\"touch made\"}"));
    upstream.reply(Reply::text("done"));
    assert_eq!(proxy.ask("hi").send().answer(), "done");
    assert!(upstream.requests()[0].tools().is_empty());
    let made = proxy.scratch().path().join("home/.codex-api-proxy/workspace/made");
    assert!(!made.exists());
}

#[test]
fn where_no_session_can_be_chosen_it_is_said_and_answered() {
    for (key, value, word) in [
        ("continuation", "off", "off"),
        ("profile", "agent", "off"),
        ("ephemeral", "false", "threads"),
        ("isolation", "shared", "threads"),
    ] {
        let Some((setup, _upstream)) = workers() else { return };
        let proxy = setup.set(key, value).start();
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong", "{key}");
        let page = proxy.get("/ready").send().json();
        assert_eq!(page["continuation"], word, "{key}");
        assert!(page["continuation_limited_by"].as_str().unwrap().contains(key), "{page}");
        assert!(no_recordings(&proxy));
    }
}

#[test]
fn a_codex_that_refuses_the_fork_is_asked_the_usual_way() {
    for behaviour in ["", "app-server forks\napp-server error thread/fork no"] {
        let (setup, fake) = Setup::fake(behaviour);
        let proxy = setup.set("engine", "app-server").start();
        for _ in 0..2 {
            assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong", "{behaviour}");
        }
        let page = proxy.get("/ready").send().json();
        assert_eq!(page["continuation"], "threads", "{behaviour}: {page}");
        wait::until("no recording is left", || no_recordings(&proxy));
        drop(fake);
    }
}

fn tools() -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let function = |name: &str| json!({ "type": "function", "function": { "name": name, "description": "d", "parameters": parameters } });
    json!([function("get_weather"), function("exec_command")])
}

/// One request of an agent: its answer is put behind the messages, as clients do it.
fn step(proxy: &Proxy, messages: &mut Vec<Value>) -> Value {
    let body = json!({ "messages": messages, "tools": tools() });
    let answer = proxy.chat(body).send().json();
    let message = answer["choices"][0]["message"].clone();
    assert!(message.is_object(), "{answer}");
    messages.push(message.clone());
    message
}

/// The results of all calls of a message, in the reverse order.
fn results(messages: &mut Vec<Value>, message: &Value, text: &str) {
    for call in message["tool_calls"].as_array().unwrap().iter().rev() {
        messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": format!("{text} {}", call["id"].as_str().unwrap()) }));
    }
}

fn kinds(request: &Request) -> Vec<String> {
    let items = request.items().iter().filter(|item| item["type"] != "additional_tools");
    let kind = |item: &Value| item["role"].as_str().unwrap_or(item["type"].as_str().unwrap()).to_owned();
    items.map(kind).collect()
}

#[test]
fn a_tool_loop_goes_on_where_it_was_left() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    let mut messages = vec![said("system", "be brief"), user("weather?")];
    let calls = || {
        Reply::nothing()
            .then_reasoning(&["hm"])
            .then_call("get_weather", "{\"city\": \"Oslo\"}")
            .then_call("client_exec_command", "{\"city\":\"Rome\"}")
            .usage(100, 0, 10, 0)
    };
    for round in 0..4 {
        upstream.reply(calls());
        let body = json!({ "messages": messages, "tools": tools() });
        let answer = proxy.chat(body).send().json();
        assert_eq!(answer["usage"]["total_tokens"], 110, "round {round}: {answer}");
        let message = answer["choices"][0]["message"].clone();
        messages.push(message.clone());
        results(&mut messages, &message, "cold");
        if round == 1 {
            messages.push(user("hurry"));
        }
    }
    upstream.reply(Reply::text("It is cold.").usage(100, 0, 10, 0));
    assert_eq!(step(&proxy, &mut messages)["content"], "It is cold.");
    messages.push(user("thanks"));
    upstream.reply(Reply::text("Welcome."));
    assert_eq!(step(&proxy, &mut messages)["content"], "Welcome.");

    let requests = upstream.requests();
    assert_eq!(requests.len(), 6, "one for each request of ours");
    assert!(share(&requests) >= 0.98, "{}", share(&requests));
    let first = session(&requests[0]);
    assert!(requests.iter().all(|request| session(request) == first));
    let part =
        ["reasoning", "function_call", "function_call", "function_call_output", "function_call_output"];
    let mut expect = vec!["developer", "user"];
    for round in 0..4 {
        expect.extend(part);
        expect.extend((round == 1).then_some("user"));
    }
    expect.extend(["assistant", "user"]);
    assert_eq!(kinds(&requests[5]), expect);
    // The call as the model wrote it, and its own result.
    let last = items(&requests[5]);
    let id = last.iter().find(|item| item["type"] == "function_call").unwrap()["call_id"].clone();
    let output = last.iter().find(|item| item["type"] == "function_call_output").unwrap();
    assert_eq!(
        (&output["call_id"], output["output"].as_str()),
        (&id, Some(format!("cold {}", id.as_str().unwrap())).as_deref())
    );
    assert_eq!(requests[5].tool_outputs().len(), 8);
    assert!(requests[5].text().contains("{\\\"city\\\": \\\"Oslo\\\"}"));
}

/// Whatever is not what the thread holds is asked anew, in full, and answered.
#[test]
fn a_request_that_does_not_go_on_begins_anew() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    let begin = |text: &str| {
        upstream.reply(Reply::call("get_weather", "{}"));
        let mut messages = vec![user(text)];
        let message = step(&proxy, &mut messages);
        results(&mut messages, &message, "cold");
        messages
    };
    for (what, change) in
        [("another question", 0_usize), ("another result id", 1), ("no result", 2), ("other tools", 3)]
    {
        let mut messages = begin(what);
        let mut body = json!({ "tools": tools() });
        match change {
            0 => messages[0] = user("edited"),
            1 => {
                messages[1]["tool_calls"][0]["id"] = "call_other".into();
                messages[2]["tool_call_id"] = "call_other".into();
            }
            2 => messages.push(said("system", "x")),
            _ => body["tools"] = json!([tools()[0]]),
        }
        if change == 2 {
            messages = vec![messages[0].clone(), user("never mind")];
        }
        body["messages"] = json!(messages);
        let before = upstream.requests().len();
        upstream.reply(Reply::text("done"));
        assert_eq!(proxy.chat(body).send().answer(), "done", "{what}");
        let requests = upstream.requests();
        assert_eq!(requests.len(), before + 1, "{what}");
        let last = requests.last().unwrap();
        assert_eq!(kinds(last).len(), messages.len(), "{what}: {:?}", kinds(last));
        let text = last.text();
        assert!(!text.contains("turn_aborted") && !text.contains("cancelled"), "{what}: {text}");
    }
}

/// What is kept for later counts, and goes before a request is refused for want of memory.
#[test]
fn kept_conversations_make_room_for_bodies() {
    let Some((setup, upstream)) = real() else { return };
    let setup = setup.set("max_body_bytes", 60_000).set("max_buffered_bytes", 120_000);
    let proxy = setup.set("engine", "app-server").start();
    let mut held: Vec<Vec<Value>> = (0..2)
        .map(|number| {
            upstream.reply(Reply::call("get_weather", "{}"));
            let mut messages = vec![user(format!("conversation {number} {}", "x".repeat(40_000)))];
            let message = step(&proxy, &mut messages);
            results(&mut messages, &message, "cold");
            messages
        })
        .collect();
    assert_eq!(proxy.metrics()["parked_conversations"], 2);
    wait::until("both count, once", || {
        (80_000..90_000).contains(&proxy.metrics()["buffered_bytes"].as_u64().unwrap())
    });
    upstream.reply(Reply::text("pong"));
    assert_eq!(proxy.ask(&"x".repeat(50_000)).send().answer(), "pong");
    assert_eq!(proxy.metrics()["parked_conversations"], 1, "the longest unused made room");
    for (number, messages) in held.iter_mut().enumerate() {
        upstream.reply(Reply::text(format!("answer {number}")));
        assert_eq!(step(&proxy, messages)["content"], format!("answer {number}"));
    }
}

/// The slot is free while the caller thinks, and whatever ends a held call costs no answer.
#[test]
fn held_calls_take_no_slot_and_may_be_lost() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").set("parked_conversations", 2).start();
    let mut held: Vec<Vec<Value>> = (0..4)
        .map(|number| {
            upstream.reply(Reply::call("get_weather", "{}"));
            let mut messages = vec![user(format!("conversation {number}"))];
            let message = step(&proxy, &mut messages);
            results(&mut messages, &message, "cold");
            messages
        })
        .collect();
    assert_eq!(proxy.metrics()["parked_conversations"], 2, "the two latest are kept");
    let text = proxy.get("/metrics/prometheus").send().text();
    assert!(text.contains("\ncodex_api_proxy_parked_conversations 2\n"), "{text}");
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
    let sessions: Vec<String> = upstream.requests().iter().map(session).collect();
    for (number, messages) in held.iter_mut().enumerate().rev() {
        upstream.reply(Reply::text(format!("answer {number}")));
        assert_eq!(step(&proxy, messages)["content"], format!("answer {number}"));
        let requests = upstream.requests();
        let last = requests.last().unwrap();
        assert_eq!(kinds(last), ["user", "function_call", "function_call_output"]);
        assert!(last.text().contains(&format!("conversation {number}")));
        // The two latest were kept; the others stay in their sessions all the same.
        assert_eq!(session(last), sessions[number], "{number}");
        messages.push(user("more"));
    }
    // The worker dies, and all that it kept with it.
    let worker = crate::workers::workers(&proxy);
    worker.iter().for_each(|pid| crate::support::proxy::signal("KILL", *pid));
    for messages in &mut held {
        upstream.reply(Reply::text("again"));
        assert_eq!(step(&proxy, messages)["content"], "again");
    }
    let last: Vec<String> = upstream.requests()[9..].iter().map(session).collect();
    assert_eq!(last, sessions[..4]);
    assert!(upstream.requests().iter().all(|request| !request.text().contains("turn_aborted")));
}

/// A retry of what the client left, an answer that was cut, a call that nobody offered.
#[test]
fn what_ended_otherwise_is_never_gone_on_with() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    let body = |messages: &[Value]| json!({ "messages": messages, "tools": tools() });
    let mut messages = vec![user("weather?")];
    upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
    let mut stream = proxy.chat(json!({ "stream": true, "messages": messages, "tools": tools() })).open();
    while !stream.data().unwrap().contains("half") {}
    drop(stream);
    wait::until("it is interrupted", || upstream.requests()[0].ended.is_some());
    upstream.reply(Reply::text("whole"));
    assert_eq!(step(&proxy, &mut messages)["content"], "whole");

    // Cut by a stop string: what the client has is not what the thread holds.
    messages.push(user("and?"));
    upstream.reply(Reply::text("one END two"));
    let mut cut = body(&messages);
    cut["stop"] = json!(["END"]);
    let answer = proxy.chat(cut).send().answer();
    messages.extend([said("assistant", &answer), user("go on")]);
    upstream.reply(Reply::text("three"));
    assert_eq!(step(&proxy, &mut messages)["content"], "three");

    // Codex answers the first call itself, and asks the model again.
    messages.push(user("call"));
    upstream.reply(Reply::call("nobody_offered", "{}"));
    upstream.reply(Reply::text("well"));
    assert_eq!(step(&proxy, &mut messages)["content"], "well");
    messages.push(user("last"));
    upstream.reply(Reply::text("bye"));
    assert_eq!(step(&proxy, &mut messages)["content"], "bye");
    let requests = upstream.requests();
    for (index, request) in requests.iter().enumerate() {
        let text = request.text();
        assert!(
            !text.contains("turn_aborted") && !text.contains("half") && !text.contains("two"),
            "{index}: {text}"
        );
    }
    let expect = ["user", "assistant", "user", "assistant", "user", "assistant", "user", "assistant", "user"];
    assert_eq!(kinds(requests.last().unwrap()), expect);
}

/// A thread that is not where the request goes on: another one of the same session answers, calls
/// and words, and is gone on with in its turn.
#[test]
fn an_edited_tool_loop_stays_in_its_session() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    let mut messages = vec![said("system", "be brief"), user("weather?")];
    let work = |messages: &mut Vec<Value>, rounds: usize| {
        for _ in 0..rounds {
            let calls = Reply::nothing()
                .then_reasoning(&["hm"])
                .then_text(&["I look."])
                .then_call("get_weather", "{\"city\":\"Oslo\"}")
                .then_call("client_exec_command", "{\"city\":\"Rome\"}")
                .usage(100, 40, 10, 0);
            upstream.reply(calls);
            let message = step(&proxy, messages);
            assert_eq!(message["content"], "I look.");
            // A fork has Codex ask for them in any order.
            let calls = message["tool_calls"].as_array().unwrap();
            let arguments = |name: &str| {
                let call = calls.iter().find(|call| call["function"]["name"] == name);
                call.unwrap_or_else(|| panic!("{message}"))["function"]["arguments"].as_str().unwrap()
            };
            assert_eq!(calls.len(), 2, "{message}");
            assert_eq!(
                (arguments("get_weather"), arguments("exec_command")),
                ("{\"city\":\"Oslo\"}", "{\"city\":\"Rome\"}")
            );
            results(messages, &message, "cold");
        }
        upstream.reply(Reply::text("It is cold.").usage(100, 90, 5, 0));
        let body = json!({ "messages": messages, "tools": tools() });
        let answer = proxy.chat(body).send().json();
        messages.push(answer["choices"][0]["message"].clone());
        answer["usage"].clone()
    };
    assert_eq!(work(&mut messages, 2)["total_tokens"], 105);
    // The first result is another one, and all that followed goes.
    messages.truncate(5);
    messages[3]["content"] = "edited".into();
    let usage = work(&mut messages, 2);
    // What the calls cost is told with the next answer that Codex accounts for.
    assert_eq!(
        (&usage["total_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]),
        (&json!(215), &json!(130))
    );
    messages.push(user("thanks"));
    upstream.reply(Reply::text("Welcome.").usage(10, 9, 1, 0));
    let answer = proxy.chat(json!({ "messages": messages, "tools": tools() })).send().json();
    assert_eq!(answer["usage"]["total_tokens"], 11);

    let requests = upstream.requests();
    assert_eq!(requests.len(), 7, "one for each request of ours");
    let sessions: Vec<String> = requests.iter().map(session).collect();
    assert!(sessions.iter().all(|id| *id == sessions[0]), "{sessions:?}");
    assert!(share(&requests) >= 0.95, "{}", share(&requests));
    let loop_step = [
        "reasoning",
        "assistant",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ];
    let mut expect = vec!["developer", "user"];
    // What a caller gives back has no reasoning.
    expect.extend(&loop_step[1..]);
    expect.extend(loop_step.iter().cycle().take(12));
    expect.extend(["assistant", "user"]);
    assert_eq!(kinds(&requests[6]), expect);
    assert!(requests[6].text().contains("edited"));
    wait::until("no recording is left", || no_recordings(&proxy));
}

/// Calls that the model writes long after the first are an answer of their own, and cost no request.
#[test]
fn calls_that_come_late_are_given_with_the_next_request() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    let mut messages = vec![user("weather?")];
    upstream.reply(Reply::text("where?"));
    step(&proxy, &mut messages);
    messages[1] = said("assistant", "edited");
    messages.push(user("there"));
    // Far more than is waited for, and the third one only once the second was given out.
    let pause = std::time::Duration::from_millis(600);
    let slow = Reply::nothing()
        .then_call("get_weather", "{\"city\":\"Oslo\"}")
        .then_wait(pause)
        .then_call("get_weather", "{\"city\":\"Rome\"}")
        .then_call("get_weather", "{\"city\":\"Bern\"}")
        .usage(50, 0, 7, 0);
    upstream.reply(slow);
    let mut given = vec![];
    while given.len() < 3 {
        let before = given.len();
        let message = step(&proxy, &mut messages);
        for call in message["tool_calls"].as_array().unwrap() {
            given.push(call["function"]["arguments"].as_str().unwrap().to_owned());
        }
        assert!(given.len() > before);
        if before == 0 {
            assert_eq!(given.len(), 1, "the others are not there yet");
        }
        results(&mut messages, &message, "cold");
        assert_eq!(upstream.requests().len(), 2);
    }
    given[1..].sort();
    assert_eq!(given, ["{\"city\":\"Oslo\"}", "{\"city\":\"Bern\"}", "{\"city\":\"Rome\"}"]);
    upstream.reply(Reply::text("cold everywhere").usage(60, 50, 3, 0));
    assert_eq!(step(&proxy, &mut messages)["content"], "cold everywhere");
    messages.push(user("thanks"));
    upstream.reply(Reply::text("Welcome."));
    assert_eq!(step(&proxy, &mut messages)["content"], "Welcome.");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 4);
    let (call, output) = ("function_call", "function_call_output");
    let expect = ["user", "assistant", "user", call, call, call, output, output, output, "assistant", "user"];
    assert_eq!(kinds(&requests[3]), expect);
    assert!(requests.iter().all(|request| session(request) == session(&requests[0])));
}

/// Functions reach the upstream once, in the way that the model takes them.
#[test]
fn functions_are_offered_once_whatever_the_model() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.start();
    for model in ["gpt-5.5", "codex-local", "gpt-6.1-sol"] {
        proxy.chat(json!({ "model": model, "messages": [user("hi")], "tools": tools() })).send().answer();
        let request = upstream.requests().pop().unwrap();
        let mut offered: Vec<String> =
            request.tools().iter().map(|name| name.trim_start_matches("functions.").to_owned()).collect();
        offered.sort();
        assert_eq!(offered, ["client_exec_command", "get_weather"], "{model}: {:?}", request.tools());
    }
}

/// A conversation put together anew looks to the upstream's cache as it did before.
#[test]
fn calls_look_the_same_when_their_thread_is_gone() {
    let Some((setup, upstream)) = workers() else { return };
    let proxy = setup.set("parked_conversations", 0).start();
    for model in ["gpt-5.5", "codex-local"] {
        let mut messages = vec![user(format!("weather, {model}?"))];
        let ask = |messages: &mut Vec<Value>| {
            let answer =
                proxy.chat(json!({ "model": model, "messages": messages, "tools": tools() })).send().json();
            let message = answer["choices"][0]["message"].clone();
            messages.push(message.clone());
            message
        };
        for _ in 0..3 {
            upstream.reply(Reply::call("get_weather", "{\"city\":\"Oslo\"}"));
            let message = ask(&mut messages);
            results(&mut messages, &message, "cold");
        }
        upstream.reply(Reply::text("cold"));
        ask(&mut messages);
        let requests: Vec<Request> = upstream.requests();
        let last = &requests[requests.len() - 4..];
        let share = share(last);
        assert!(share >= 0.98, "{model}: {share}");
        let spaces: Vec<Value> = last[3]
            .items()
            .iter()
            .filter(|item| item["type"] == "function_call")
            .map(|item| item["namespace"].clone())
            .collect();
        let expect = if model == "gpt-5.5" { Value::Null } else { json!("functions") };
        assert_eq!(spaces, [expect.clone(), expect.clone(), expect], "{model}");
    }
}
