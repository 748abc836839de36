//! Conversations with `engine = "app-server"`: one session id each, so that each is paid for once.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::upstream::Request;
use crate::support::{Proxy, Reply, Setup, Upstream, real, said, user, wait};

pub fn workers() -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    Some((setup.set("engine", "app-server").set("turns_per_worker", 8), upstream))
}

fn session(request: &Request) -> String {
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
fn no_recordings(proxy: &Proxy) -> bool {
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
