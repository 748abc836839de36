//! What people look at: `/usage` and `/events`, and the end of a turn from outside.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::login::session;
use crate::support::programs::client;
use crate::support::proxy::{Proxy, Scratch};
use crate::support::{Ended, Reply, Setup, Upstream, check_envelope, real, user, wait};

fn usage(proxy: &Proxy) -> Value {
    let answer = proxy.get("/usage").send();
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.text());
    answer.json()
}

/// With a login of ChatGPT whose plan the upstream may tell.
pub fn with_plan(setup: Setup, upstream: &Upstream) -> Setup {
    setup
        .flag("codex-config", "model_providers.mock.requires_openai_auth=true")
        .flag("codex-config", &format!("chatgpt_base_url=\"{}\"", upstream.chatgpt_url()))
}

fn plan() -> Value {
    let window = |used: u64, seconds: u64, at: u64| json!({ "used_percent": used, "limit_window_seconds": seconds, "reset_after_seconds": 600, "reset_at": at });
    json!({
        "plan_type": "plus",
        "rate_limit": {
            "allowed": true, "limit_reached": false,
            "primary_window": window(13, 18_000, 2_100_000_000), "secondary_window": window(40, 604_800, 1_000),
        },
        "credits": { "has_credits": true, "unlimited": false, "balance": "12.5" },
    })
}

#[test]
fn codex_is_asked_for_the_plan_behind_and_once_at_a_time() {
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        setup.scratch().write("home/.codex/auth.json", &session("one"));
        let proxy = with_plan(setup, &upstream).set("engine", engine).start();
        upstream.plan(plan());
        upstream.hold_plan(true);
        assert_eq!(usage(&proxy)["plan"], Value::Null, "{engine}: who looks does not wait");
        wait::until("codex is asked", || {
            usage(&proxy);
            upstream.plan_asked() == 1
        });
        for _ in 0..20 {
            assert_eq!(usage(&proxy)["plan"], Value::Null);
        }
        // A turn goes on meanwhile.
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong", "{engine}");
        upstream.hold_plan(false);
        let told = wait::until_some("the plan is told", || {
            Some(usage(&proxy)["plan"].clone()).filter(|plan| !plan.is_null())
        });
        assert_eq!(
            (&told["type"], &told["source"], &told["limited"]),
            (&json!("plus"), &json!("asked"), &json!(false))
        );
        assert_eq!(
            told["windows"],
            json!([
                { "name": "5 hours", "minutes": 300, "used_percent": 13.0, "resets_at": 2_100_000_000, "pace": null, "empty_at": null },
                { "name": "7 days", "minutes": 10_080, "used_percent": null, "resets_at": 1_000, "pace": null, "empty_at": null },
            ]),
            "{engine}"
        );
        assert_eq!(told["credits"], json!({ "has_credits": true, "unlimited": false, "balance": "12.5" }));
        for _ in 0..20 {
            usage(&proxy);
        }
        assert_eq!(upstream.plan_asked(), 1, "{engine}");
        if engine == "exec" {
            proxy.until_childless();
        }
    }
}

#[test]
fn a_plan_that_is_not_told_is_not_asked_for_again_at_once() {
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        setup.scratch().write("home/.codex/auth.json", &session("one"));
        let proxy = with_plan(setup, &upstream).set("engine", engine).start();
        wait::until("it is logged", || {
            assert_eq!(usage(&proxy)["plan"], Value::Null);
            proxy.log().contains("what the plan has left could not be asked: refused (-32603, ")
        });
        for _ in 0..20 {
            usage(&proxy);
        }
        assert_eq!(upstream.plan_asked(), 1, "{engine}");
        assert!(!proxy.log().contains("not here"), "no word of the upstream is in the log");
    }
}

#[test]
fn a_key_has_no_plan_and_nobody_is_asked() {
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        let key = json!({ "auth_mode": "apikey", "OPENAI_API_KEY": "sk-one" }).to_string();
        setup.scratch().write("home/.codex/auth.json", &key);
        let proxy = with_plan(setup, &upstream).set("engine", engine).start();
        upstream.plan(plan());
        for _ in 0..5 {
            assert_eq!(usage(&proxy)["plan"], Value::Null, "{engine}");
        }
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong", "{engine}");
        assert_eq!((usage(&proxy)["plan"].clone(), upstream.plan_asked()), (Value::Null, 0), "{engine}");
    }
}

#[test]
fn what_a_turn_reports_is_told_as_such() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").start();
    let reply = Reply::text("hi")
        .header("x-codex-primary-used-percent", "100")
        .header("x-codex-primary-window-minutes", "300")
        .header("x-codex-primary-reset-at", "4000000000");
    upstream.reply(reply);
    proxy.ask("hi").send().answer();
    let plan =
        wait::until_some("it is told", || Some(usage(&proxy)["plan"].clone()).filter(|plan| !plan.is_null()));
    assert_eq!((&plan["source"], &plan["limited"]), (&json!("turn"), &json!(true)), "{plan}");
    let (now, at) = (usage(&proxy)["now"].as_f64().unwrap(), plan["reported_at"].as_f64().unwrap());
    assert!((0.0..60.0).contains(&(now - at)), "{plan}");
}

#[test]
fn the_document_tells_what_was_and_what_is() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup.start();
    assert_eq!(proxy.ask("hi").header("x-request-id", "first").send().answer(), "pong");
    proxy.chat(json!({ "model": "gpt-5", "messages": "no" })).send().error(
        400,
        "invalid_request_error",
        "invalid_value",
    );
    let page = wait::until_some("both are over", || {
        Some(usage(&proxy)).filter(|page| page["today"]["total"]["requests"] == 2)
    });
    assert_eq!(page["object"], "usage");
    let service = &page["service"];
    assert_eq!(service["base_url"], json!(format!("{}/v1", proxy.url())));
    assert_eq!(
        (&service["engine"], &service["key_required"], &service["unit"]),
        (&json!("exec"), &json!(false), &Value::Null)
    );
    assert_eq!(page["ready"], json!({ "status": "ready", "reason": null, "message": null, "fix": null }));
    assert_eq!(page["turns"], json!({ "running": [], "queued": [] }));
    let today = &page["today"];
    assert_eq!((&today["from"], &today["total"]["failures"]), (&json!("start"), &json!(1)), "{today}");
    let recent = page["recent"].as_array().unwrap();
    assert_eq!(
        (recent.len(), &recent[1]["request_id"], &recent[1]["status"]),
        (2, &json!("first"), &json!("ok"))
    );
    assert_eq!((&recent[0]["error_type"], &recent[0]["http_status"]), (&json!("invalid_value"), &json!(400)));
    assert_eq!(recent[1]["journal"], Value::Null, "the log is not in the journal");
    assert!(
        recent[1]["total_ms"].as_f64().unwrap() > 0.0 && recent[1]["caller"].is_string(),
        "{}",
        recent[1]
    );
}

#[test]
fn what_is_missing_is_said_with_the_command_to_type() {
    let (setup, _fake) = Setup::fake("logged-out");
    let proxy = setup.start_unready();
    let ready = wait::until_some("it has looked", || {
        Some(usage(&proxy)["ready"].clone()).filter(|ready| ready["reason"] != "starting")
    });
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("not_ready"), &json!("not_logged_in")));
    assert!(ready["message"].as_str().unwrap().contains("is not logged in"), "{ready}");
    assert!(ready["fix"].as_str().unwrap().ends_with("/codex login"), "{ready}");
}

#[test]
fn the_page_needs_the_key_where_there_is_one() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup.env("CODEX_PROXY_API_KEY", "secret").start();
    for path in ["/usage", "/events"] {
        proxy.get(path).send().error(401, "invalid_request_error", "invalid_api_key");
    }
    let refused = proxy.call("POST", "/turns/turn_1/interrupt").json(&json!({})).send();
    refused.error(401, "invalid_request_error", "invalid_api_key");
    assert_eq!(proxy.get("/usage").key("secret").send().json()["service"]["key_required"], true);
    let mut events = proxy.get("/events").key("secret").open();
    assert_eq!(events.named().unwrap().0, "usage");
}

fn interrupt(proxy: &Proxy, id: &str) -> crate::support::Response {
    proxy.call("POST", &format!("/turns/{id}/interrupt")).json(&json!({})).send()
}

/// The only turn in that list.
fn turn_in(proxy: &Proxy, list: &str) -> Value {
    wait::until_some("the turn is seen", || usage(proxy)["turns"][list].get(0).cloned())
}

#[test]
fn a_queued_turn_is_interrupted_and_never_runs() {
    let (setup, fake) = Setup::fake("start\nmark begun\nwait go\nanswer pong\ndone");
    let proxy = setup.start();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask("first").send());
        let running = turn_in(&proxy, "running");
        assert_eq!((&running["model"], &running["may_interrupt"]), (&json!("codex-local"), &json!(true)));
        for stream in [false, true] {
            let body = json!({ "stream": stream, "messages": [user("second")] });
            let call = proxy.chat(body).header("x-request-id", format!("second-{stream}"));
            let second = scope.spawn(|| call.send());
            let queued = turn_in(&proxy, "queued");
            assert_eq!(
                (&queued["request_id"], &queued["characters"]),
                (&json!(format!("second-{stream}")), &json!(0))
            );
            let id = queued["id"].as_str().unwrap();
            let answer = interrupt(&proxy, id);
            assert_eq!((answer.status, answer.json()), (200, json!({ "id": id, "interrupted": true })));
            let answer = second.join().unwrap();
            answer.error(499, "api_error", "interrupted");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            interrupt(&proxy, id).error(404, "invalid_request_error", "not_found");
            let line = proxy.latency_line("chat_completion_latency", &format!("second-{stream}"));
            assert_eq!(
                (&line["status"], &line["http_status"], &line["error_type"], line.get("tokens_unknown")),
                (&json!("cancelled"), &json!(499), &json!("interrupted"), None)
            );
        }
        proxy.scratch().write("bin/go", "");
        assert_eq!(first.join().unwrap().answer(), "pong");
    });
    // An app-server was asked for the plan.
    let turns = fake.turns().into_iter().filter(|call| call["verb"] == "exec").count();
    assert_eq!(turns, 1, "the others never ran");
    assert_eq!(usage(&proxy)["turns"], json!({ "running": [], "queued": [] }));
}

#[test]
fn a_whole_answer_that_is_interrupted_is_an_error_and_stops_the_spend() {
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", engine).start();
        upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| proxy.ask("hi").send());
            wait::until("the turn runs", || upstream.requests().first().is_some_and(|one| one.deltas == 1));
            let id = turn_in(&proxy, "running")["id"].clone();
            assert_eq!(interrupt(&proxy, id.as_str().unwrap()).status, 200);
            asking.join().unwrap()
        });
        answer.error(499, "api_error", "interrupted");
        let ended = wait::until_some("the upstream's connection ends", || upstream.requests()[0].ended);
        assert_eq!(ended.0, Ended::ClientClosed, "{engine}");
    }
}

#[test]
fn a_stream_that_is_interrupted_ends_with_an_error_in_every_format() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").start();
    for (path, body) in [
        ("/v1/chat/completions", json!({ "messages": [user("hi")] })),
        ("/v1/completions", json!({ "prompt": "hi" })),
        ("/v1/responses", json!({ "input": "hi" })),
        ("/v1/messages", json!({ "max_tokens": 100, "messages": [user("hi")] })),
    ] {
        upstream.reply(Reply::nothing().then_partial(&["half", " an answer"]).then_hang());
        let mut body = body;
        body["model"] = "codex-local".into();
        body["stream"] = true.into();
        let before = upstream.requests().len();
        let stream = proxy.call("POST", path).json(&body).header("x-request-id", "streamed").open();
        assert_eq!(stream.status, 200, "{path}");
        let turn = wait::until_some("all that was said is counted", || {
            let turn = turn_in(&proxy, "running");
            (turn["characters"] == 14).then_some(turn)
        });
        assert_eq!(interrupt(&proxy, turn["id"].as_str().unwrap()).status, 200);
        let text = stream.whole().text();
        let events: Vec<Value> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap_or_else(|_| panic!("{path}: {data}")))
            .collect();
        let last = events.last().unwrap();
        match path {
            "/v1/messages" => {
                assert_eq!(
                    (&last["type"], &last["error"]["type"]),
                    (&json!("error"), &json!("api_error")),
                    "{last}"
                );
                assert_eq!(last["error"]["details"]["error_code"], "interrupted", "{last}");
                assert!(!text.contains("message_stop"), "{text}");
            }
            "/v1/responses" => {
                let error = &events[events.len() - 2];
                assert_eq!(
                    (&error["type"], &error["code"]),
                    (&json!("error"), &json!("interrupted")),
                    "{error}"
                );
                assert_eq!(
                    (&last["type"], &last["response"]["status"]),
                    (&json!("response.failed"), &json!("failed"))
                );
                // Agents send a request anew after other codes.
                assert_eq!(last["response"]["error"]["code"], "invalid_prompt", "{last}");
            }
            _ => {
                check_envelope(last, "api_error", "interrupted");
                assert!(!text.contains("[DONE]") && !text.contains("\"finish_reason\":\"stop\""), "{text}");
            }
        }
        wait::until("the spend has stopped", || {
            upstream.requests()[before].ended.is_some_and(|(ended, _)| ended == Ended::ClientClosed)
        });
        let line = wait::until_some("its line", || {
            proxy
                .latency_lines()
                .into_iter()
                .filter(|line| line["event"] == "chat_completion_latency")
                .nth(before)
        });
        assert_eq!(
            (&line["status"], &line["error_type"]),
            (&json!("cancelled"), &json!("interrupted")),
            "{path}"
        );
        assert_eq!(line["tokens_unknown"], 1, "{path}");
    }
}

#[test]
fn only_who_may_interrupts_and_asks_as_for_any_other_work() {
    use std::os::unix::process::CommandExt;
    let (setup, _fake) = Setup::fake("start\nwait go\nanswer pong\ndone");
    let proxy = setup.set("allowed_users", "nobody").start();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| proxy.ask("hi").send());
        let id = turn_in(&proxy, "running")["id"].as_str().unwrap().to_owned();
        let path = format!("/turns/{id}/interrupt");
        let post = || proxy.call("POST", &path);
        post().body("{}").send().error(415, "invalid_request_error", "unsupported_media_type");
        post().json(&json!([])).send().error(400, "invalid_request_error", "invalid_value");
        let long = json!({ "x": "x".repeat(4096) });
        post().json(&long).send().error(413, "invalid_request_error", "request_too_large");
        let page = post().json(&json!({})).header("origin", "http://evil.example").send();
        page.error(403, "permission_error", "origin_not_allowed");
        proxy.get(&path).send().error(405, "invalid_request_error", "method_not_allowed");
        interrupt(&proxy, "turn_0").error(404, "invalid_request_error", "not_found");
        let none = proxy.call("POST", &format!("/turns/{id}")).json(&json!({})).send();
        none.error(404, "invalid_request_error", "not_found");
        let mut id_of = std::process::Command::new("id");
        if id_of.arg("-u").output().is_ok_and(|output| output.stdout == b"0\n") {
            let curl = |path: &str, body: Option<&str>| {
                let mut curl = std::process::Command::new("curl");
                curl.args(["-sS", "-w", "%{http_code}", "-H", "content-type: application/json"]);
                curl.args(body.map(|body| ["-d", body]).into_iter().flatten());
                let output =
                    curl.arg(format!("{}{path}", proxy.url())).uid(65534).gid(65534).current_dir("/");
                String::from_utf8(output.output().expect("run curl").stdout).unwrap()
            };
            let refused = curl(&path, Some("{}"));
            assert!(refused.ends_with("403") && refused.contains("\"turn_not_allowed\""), "{refused}");
            let page = curl("/usage", None);
            assert!(page.contains("\"may_interrupt\":false"), "{page}");
        }
        assert_eq!(interrupt(&proxy, &id).status, 200);
        asking.join().unwrap().error(499, "api_error", "interrupted");
    });
}

/// The next event's document.
fn event(events: &mut crate::support::client::Stream) -> Value {
    let (name, data) = events.named().expect("an event");
    assert_eq!(name, "usage");
    serde_json::from_str(&data).unwrap()
}

#[test]
fn events_come_when_something_has_changed_and_end_with_the_server() {
    let (setup, fake) = Setup::fake("start\nwait go\nanswer pong\ndone");
    // Nobody would wait so long for what watches.
    let mut proxy = setup.set("keepalive_seconds", "0.2").set("drain_seconds", "60").start();
    let mut events = proxy.get("/events").open();
    assert_eq!(
        (events.status, events.header("content-type")),
        (200, Some("text/event-stream; charset=utf-8"))
    );
    let first = event(&mut events);
    assert_eq!(first["turns"]["running"], json!([]));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| proxy.ask("hi").send());
        let second = event(&mut events);
        assert_eq!(second["turns"]["running"].as_array().unwrap().len(), 1, "{second}");
        let (before, after) = (first["now"].as_f64().unwrap(), second["now"].as_f64().unwrap());
        assert!(after - before >= 0.99, "at most once a second: {before} {after}");
        wait::until("it runs", || fake.turns().iter().any(|call| call["verb"] == "exec"));
        // Nothing changes: comments only.
        assert_eq!(events.event(), Some(crate::support::Sse::Comment("keep-alive".into())));
        proxy.scratch().write("bin/go", "");
        asking.join().unwrap().answer();
    });
    wait::until("its end is told", || event(&mut events)["recent"].get(0).is_some());
    proxy.signal("TERM");
    let mut last = Value::Null;
    while let Some((_, data)) = events.named() {
        last = serde_json::from_str(&data).unwrap();
    }
    assert_eq!(last["ready"]["reason"], "draining", "{last}");
    assert!(events.complete(), "the stream ends in order");
    assert!(proxy.wait_exit().success());
}

#[test]
fn sixteen_may_watch_and_nobody_more() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup.start();
    let mut open: Vec<_> = (0..16).map(|_| proxy.get("/events").open()).collect();
    assert!(open.iter().all(|stream| stream.status == 200));
    let refused = proxy.get("/events").send();
    refused.error(429, "rate_limit_error", "events_full");
    assert_eq!((refused.header("x-should-retry"), refused.header("retry-after")), (Some("true"), Some("1")));
    drop(open.pop());
    wait::until("there is room again", || proxy.get("/events").open().status == 200);
}

/// A verb, as a person at this machine types it whose settings are the server's.
fn verb(proxy: &Proxy, scratch: &Scratch, words: &[&str]) -> Command {
    let mut verb = client(Path::new(env!("CARGO_BIN_EXE_codex-api-proxy")), scratch);
    verb.args(words).env("CODEX_PROXY_PORT", proxy.address().port().to_string()).env("TZ", "UTC");
    verb
}

#[test]
fn a_terminal_shows_the_plan_today_and_what_runs() {
    let Some((setup, upstream)) = real() else { return };
    setup.scratch().write("home/.codex/auth.json", &session("one"));
    let mut proxy = with_plan(setup, &upstream).set("engine", "app-server").start();
    let scratch = Scratch::new();
    upstream.plan(plan());
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
    wait::until("the plan is told", || usage(&proxy)["plan"]["windows"].get(0).is_some());
    let text = |words: &[&str]| {
        let output = verb(&proxy, &scratch, words).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let status = text(&["status"]);
    for row in [
        "  ready      yes\n",
        "  plan       5 hours: 13 % used, starts anew Fri 18 Jul 13:20",
        "  plan       7 days: started anew since the report",
        "  today      1 request, 11 tokens in (27 % cached), 7 out, since the service started\n",
    ] {
        assert!(status.contains(row), "{row}: {status}");
    }
    let refused = text(&["status", "--watch"]);
    assert!(refused.contains("--watch draws on a terminal"), "{refused}");

    let mut watch =
        verb(&proxy, &scratch, &["status", "--watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next =
        || -> Option<Value> { lines.next().map(|line| serde_json::from_str(&line.unwrap()).unwrap()) };
    assert_eq!(next().unwrap()["turns"]["running"], json!([]));
    let held = proxy.ask_streamed("[[hang]]").open();
    let seen = wait::until_some("the turn is seen", || next()?["turns"]["running"].get(0).cloned());
    assert_eq!(seen["model"], "codex-local");
    drop(held);
    proxy.signal("TERM");
    let last = std::iter::from_fn(&mut next).last().unwrap();
    assert_eq!(last["ready"]["reason"], "draining");
    assert_eq!(watch.wait().unwrap().code(), Some(3));
    assert!(proxy.wait_exit().success());
}
