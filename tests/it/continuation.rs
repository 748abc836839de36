//! A conversation keeps one session id at the upstream, and no two conversations share one.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::upstream::Request;
use crate::support::{Proxy, Reply, Setup, Upstream, real, said, user, wait};

/// The session that a request went out under: header and cache key are one.
fn session(request: &Request) -> String {
    let session = request.header("session-id").expect("codex sends a session id").to_owned();
    assert_eq!(request.body["prompt_cache_key"], session);
    session
}

fn sessions(upstream: &Upstream) -> Vec<String> {
    upstream.requests().iter().map(session).collect()
}

/// Everything below a folder that holds these bytes, or has them in its name.
fn holding(folder: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_path_buf()], vec![]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let named = entry.file_name().to_string_lossy().contains(text);
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if named
                || std::fs::read(&path)
                    .unwrap_or_default()
                    .windows(text.len())
                    .any(|at| at == text.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}

fn recordings(proxy: &Proxy) -> Vec<std::path::PathBuf> {
    let sessions = proxy.scratch().path().join("home/.codex-api-proxy/codex-home/sessions");
    if sessions.is_dir() { holding(&sessions, "") } else { vec![] }
}

/// The answers of a chat, whose every request holds all that was said before.
fn chat(proxy: &Proxy, extra: &Value, questions: &[&str]) -> Vec<String> {
    let mut messages = vec![said("system", "be brief")];
    let mut answers = vec![];
    for question in questions {
        messages.push(user(*question));
        let mut body = json!({ "messages": messages });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = proxy.chat(body).send().answer();
        messages.push(said("assistant", &answer));
        answers.push(answer);
    }
    answers
}

#[test]
fn an_exec_conversation_keeps_its_session() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.start();
    assert_eq!(proxy.get("/ready").send().json()["continuation"], "full");
    let questions =
        ["Reply with exactly: CONVERSATION-ONE", "Reply with exactly: two", "Reply with exactly: three"];
    assert_eq!(chat(&proxy, &json!({}), &questions)[0], "CONVERSATION-ONE");
    let first = sessions(&upstream);
    assert!(first.len() == 3 && first.iter().all(|id| *id == first[0]), "{first:?}");
    // What was sent before is the beginning of what is sent next.
    let prompts: Vec<String> = upstream.requests().iter().map(|request| request.last_text("user")).collect();
    for (before, after) in prompts.iter().zip(&prompts[1..]) {
        assert!(
            after.starts_with(before.as_str()) || !before.starts_with("This is"),
            "{before}\n---\n{after}"
        );
    }

    // Each of these is another conversation.
    chat(&proxy, &json!({}), &["Reply with exactly: another"]);
    chat(&proxy, &json!({ "prompt_cache_key": "a" }), &questions[..1]);
    chat(&proxy, &json!({ "prompt_cache_key": "b" }), &questions[..1]);
    chat(&proxy, &json!({ "prompt_cache_key": "b" }), &["Reply with exactly: another"]);
    chat(&proxy, &json!({ "model": "gpt-5.5" }), &questions[..1]);
    let mut all = sessions(&upstream);
    all.drain(1..3);
    let others = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), others, "a session was shared");

    // Nothing is left on the disk.
    wait::until("no recording is left", || recordings(&proxy).is_empty());
    let state = proxy.scratch().path().join("home/.codex-api-proxy");
    assert_eq!(holding(&state, "CONVERSATION-ONE"), [""; 0].map(Path::new));
    assert_eq!(holding(&state, &first[0]), [""; 0].map(Path::new));
}

#[test]
fn requests_of_one_conversation_may_run_at_once() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("max_concurrency", 4).start();
    let body = json!({ "n": 4, "messages": [user("Reply with exactly: pong")] });
    let answer = proxy.chat(body).send().json();
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["message"]["content"], "pong", "{answer}");
    }
    let sessions = sessions(&upstream);
    assert!(sessions.len() == 4 && sessions.iter().all(|id| *id == sessions[0]), "{sessions:?}");
    wait::until("no recording is left", || recordings(&proxy).is_empty());
}

#[test]
fn the_whole_of_a_turn_reaches_a_forked_session() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("fast", true).start();
    let picture = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let schema = json!({
        "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"], "additionalProperties": false,
    });
    let content = json!([
        { "type": "text", "text": "look" },
        { "type": "image_url", "image_url": { "url": picture } },
        { "type": "image_url", "image_url": { "url": picture } },
    ]);
    let body = json!({
        "model": "gpt-5.5", "reasoning_effort": "high", "verbosity": "high", "messages": [user(content)],
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": schema } },
    });
    assert_eq!(proxy.chat(body).send().answer(), r#"{"a":"text"}"#);
    let request = upstream.only_request();
    assert_eq!(request.body["model"], "gpt-5.5");
    assert_eq!(request.body["reasoning"]["effort"], "high");
    assert_eq!(request.body["text"]["verbosity"], "high");
    assert_eq!(request.body["text"]["format"]["schema"], schema);
    assert_eq!(request.images().len(), 2);
}

#[test]
fn where_sessions_are_not_continued_each_request_has_its_own_and_the_reason_is_said() {
    for (key, value, why) in [
        ("continuation", "off", "continuation = \"off\""),
        ("ephemeral", "false", "ephemeral = false"),
        ("isolation", "shared", "isolation = \"shared\""),
    ] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set(key, value).start();
        chat(&proxy, &json!({}), &["Reply with exactly: one", "Reply with exactly: two"]);
        let sessions = sessions(&upstream);
        assert!(sessions.len() == 2 && sessions[0] != sessions[1], "{key}: {sessions:?}");
        let page = proxy.get("/ready").send().json();
        assert_eq!(page["continuation"], "off");
        assert!(page["continuation_limited_by"].as_str().unwrap().contains(why), "{page}");
    }
    // The name of a conversation has no effect then, and that is said.
    let Some((setup, _upstream)) = real() else { return };
    for (value, ignored) in [("off", Some("prompt_cache_key")), ("auto", None)] {
        let proxy = Setup::real(&crate::support::require_codex().unwrap(), &_upstream)
            .set("continuation", value)
            .start();
        let answer = proxy.chat(json!({ "prompt_cache_key": "a", "messages": [user("hi")] })).send();
        assert_eq!(answer.header("x-codex-proxy-ignored"), ignored);
    }
    drop(setup);
}

/// A CLI that has another idea of sessions costs the cache and no answer.
#[test]
fn a_codex_that_takes_no_session_is_asked_the_usual_way() {
    let (setup, fake) = Setup::fake("no-fork");
    let proxy = setup.start();
    for turns in [2, 3] {
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
        assert_eq!(fake.turns().len(), turns, "it is tried once");
    }
    let page = proxy.get("/ready").send().json();
    assert_eq!(page["continuation"], "off", "{page}");
    wait::until("no recording is left", || recordings(&proxy).is_empty());
}

/// What fails either way is not taken for that, and what was answered is never asked again.
#[test]
fn other_failures_are_not_asked_again_once_begun() {
    let (setup, fake) = Setup::fake("start\nexit 3");
    let proxy = setup.start();
    proxy.ask("hi").send().error(502, "api_error", "codex_exited");
    assert_eq!(fake.turns().len(), 1);
    fake.script("kill");
    proxy.ask("hi").send().error(502, "api_error", "codex_exited");
    assert_eq!(fake.turns().len(), 2);
    fake.script("exit 3");
    proxy.ask("hi").send().error(502, "api_error", "codex_exited");
    assert_eq!(fake.turns().len(), 4);
    assert_eq!(proxy.get("/ready").send().json()["continuation"], "full");
}

#[test]
fn a_recording_left_by_a_crash_is_swept_at_the_next_start() {
    let Some((setup, upstream)) = real() else { return };
    let mut proxy = setup.start();
    upstream.reply(Reply::hang());
    let call = proxy.ask("hi").send_only();
    wait::until("the turn runs", || upstream.requests().len() == 1);
    assert_eq!(recordings(&proxy).len(), 1);
    proxy.signal("KILL");
    proxy.wait_exit();
    drop(call);
    assert_eq!(recordings(&proxy).len(), 1);
    let home = proxy.scratch().path().join("home/.codex-api-proxy/codex-home");
    let again = Setup::real(&crate::support::require_codex().unwrap(), &upstream)
        .set("app_server_codex_home", home.display())
        .start();
    again.get("/ready").send();
    wait::until("it is swept", || recordings(&proxy).is_empty());
}

/// Also where the directory it works in lies above the state folder.
#[test]
fn a_model_that_tries_learns_no_key() {
    let Some((setup, upstream)) = real() else { return };
    setup.scratch().write("home/note.txt", "may be read");
    let home = setup.scratch().path().join("home");
    let proxy = setup.env("CODEX_PROXY_ALLOWED_ROOTS", home.to_str().unwrap()).start();
    let command = json!({ "cmd": "cat note.txt; wc -c .codex-api-proxy/conversation.key" }).to_string();
    upstream.reply(Reply::call("exec_command", &command));
    upstream.reply(Reply::text("done"));
    let body = json!({ "model": "gpt-5.5", "messages": [user("look")], "metadata": { "cwd": &home } });
    assert_eq!(proxy.chat(body).send().answer(), "done");
    let output = upstream.requests().last().unwrap().tool_outputs().pop().unwrap();
    assert!(output.contains("may be read") && !output.contains("32 "), "{output}");
    assert_eq!(
        proxy.scratch().path().join("home/.codex-api-proxy/conversation.key").metadata().unwrap().len(),
        32
    );
}

/// All that the upstream's cache goes by, in its order; ids are no part of what the model reads.
fn cached_by(request: &Request) -> String {
    let mut text = request.body["tools"].to_string();
    for item in request.items() {
        let mut item = item.clone();
        item.as_object_mut().unwrap().remove("id");
        text += &item.to_string();
    }
    text
}

/// Whatever stands before the conversation is the same each time: byte for byte, all but the end of
/// one request begins the next.
#[test]
fn each_request_begins_as_the_one_before() {
    for (profile, reads) in [("agent", "workspace"), ("agent", "host"), ("model", "auto")] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("profile", profile).set("agent_reads", reads).start();
        let questions: Vec<String> = (0..4).map(|number| format!("Reply with exactly: {number}")).collect();
        let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
        chat(&proxy, &json!({}), &questions);
        let texts: Vec<String> = upstream.requests().iter().map(cached_by).collect();
        for pair in texts.windows(2) {
            let common = pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
            let end = pair[0].len() - common;
            assert!(end < 60, "{profile} {reads}: {:?}", pair[0].get(common..));
        }
        let told = texts[0].contains("<current_date>");
        assert_eq!(told, profile == "agent", "{}", texts[0]);
        if profile == "agent" {
            let workspace = setup_workspace(&proxy);
            assert!(texts[0].contains(&format!("<cwd>{workspace}</cwd>")), "{}", texts[0]);
        }
    }
}

fn setup_workspace(proxy: &Proxy) -> String {
    let path = proxy.scratch().path().join("home/.codex-api-proxy/workspace");
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}
