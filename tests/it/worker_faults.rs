//! An app-server that misbehaves: each fault costs its own turns, and then everything is in its place.

use std::sync::Mutex;

use serde_json::json;

use crate::support::fake_codex::FakeCodex;
use crate::support::proxy::Proxy;
use crate::support::{Setup, user, wait};
use crate::workers::{descriptors, workers};

fn faulty(script: &str) -> (Setup, FakeCodex) {
    let (setup, fake) = Setup::fake(script);
    (setup.set("engine", "app-server").set("turns_per_worker", 4).set("timeout_seconds", 20), fake)
}

/// Runs `check` for each of `rows`, a few at a time.
fn each<T: Sync>(rows: &[T], check: impl Fn(&T) + Sync) {
    let next = Mutex::new(rows.iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let row = next.lock().unwrap().next();
                    let Some(row) = row else { return };
                    check(row);
                }
            });
        }
    });
}

/// One turn, whole or streamed: its status, and whether it is complete.
fn turn(proxy: &Proxy, stream: bool) -> (u16, bool) {
    let mut answer =
        proxy.chat(json!({ "stream": stream, "messages": [user("Reply with exactly: pong")] })).open();
    if answer.status != 200 {
        let answer = answer.whole();
        let error = &answer.json()["error"];
        assert!(error["message"].is_string() && error["code"].is_string(), "{}", answer.text());
        assert!([502, 503].contains(&answer.status), "{}", answer.text());
        return (answer.status, false);
    }
    if !stream {
        assert_eq!(answer.whole().answer(), "pong");
        return (200, true);
    }
    let (chunks, done) = answer.chunks();
    assert_eq!(done, chunks.last().unwrap()["error"].is_null(), "{chunks:?}");
    (200, done)
}

/// With a good app-server again, nothing is left of the fault.
fn recovers(proxy: &Proxy, fake: &FakeCodex, fault: &str) {
    fake.script("");
    wait::until("it answers again", || turn(proxy, false).1);
    wait::until("one worker is ready and no turn runs", || {
        let page = proxy.get("/ready").send().json();
        page["workers"] == json!({ "ready": 1, "total": 1 })
            && page["queue"]["running"] == 0
            && page["queue"]["waiting"] == 0
    });
    wait::until("one process is there", || workers(proxy).len() == 1);
    let calm = descriptors(proxy);
    // As many as before the next turn, and the next.
    for _ in 0..3 {
        assert!(turn(proxy, true).1, "{fault}");
    }
    wait::until("no descriptor is lost", || descriptors(proxy) <= calm);
}

#[test]
fn dying_at_any_step_costs_the_turn_and_no_more() {
    let steps = ["initialize", "getAuthStatus", "thread/start", "thread/inject_items", "turn/start"];
    let faults: Vec<String> = ["exit", "part", "garbage"]
        .iter()
        .flat_map(|fault| steps.iter().map(move |step| format!("app-server {fault} {step}")))
        .collect();
    each(&faults, |fault| {
        let (setup, fake) = faulty(fault);
        let proxy = setup.start_unready();
        for stream in [false, true] {
            assert!(!turn(&proxy, stream).1, "{fault}");
        }
        recovers(&proxy, &fake, fault);
    });
}

#[test]
fn dying_after_any_byte_costs_the_turn_and_no_more() {
    let cuts: Vec<usize> = (0..20).map(|cut| cut * 211).collect();
    let complete = Mutex::new(0);
    each(&cuts, |cut| {
        let fault = format!("app-server limit-bytes {cut}");
        let (setup, fake) = faulty(&fault);
        let proxy = setup.start_unready();
        for stream in [true, false] {
            *complete.lock().unwrap() += usize::from(turn(&proxy, stream).1);
        }
        recovers(&proxy, &fake, &fault);
    });
    let complete = complete.into_inner().unwrap();
    assert!(complete > 0 && complete < 2 * cuts.len(), "{complete} turns were complete");
}

#[test]
fn a_refused_conversation_is_no_answer() {
    let (setup, fake) = faulty("app-server error thread/inject_items no such thing");
    let proxy = setup.start();
    for stream in [false, true] {
        // The fake goes on and answers all the same, to nothing.
        let answer = proxy.chat(json!({ "stream": stream, "messages": [user("hi")] })).send();
        answer.error(502, "api_error", "codex_failed");
    }
    recovers_with_another_worker(&proxy, &fake);
}

fn recovers_with_another_worker(proxy: &Proxy, fake: &FakeCodex) {
    fake.script("");
    workers(proxy).iter().for_each(|pid| crate::support::proxy::signal("KILL", *pid));
    recovers(proxy, fake, "after a refusal");
}

#[test]
fn a_flood_of_news_delays_nothing_and_stays_nowhere() {
    let (setup, _fake) = faulty("app-server flood 2000000");
    let proxy = setup.start();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let proxy = &proxy;
            scope.spawn(move || assert!(turn(proxy, number % 2 == 0).1));
        }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    // Some 100 MB of it went through.
    assert!(kilobytes < 60_000, "{kilobytes} kB");
}

#[test]
fn one_that_ignores_every_signal_but_kill_is_killed() {
    let (setup, _fake) = faulty("app-server ignore-term");
    setup.scratch().write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-1"}"#);
    let proxy = setup.start();
    assert!(turn(&proxy, false).1);
    let old = workers(&proxy);
    assert_eq!(old.len(), 1);
    proxy.scratch().write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-2"}"#);
    wait::until("another worker took over", || {
        assert!(turn(&proxy, false).1);
        let now = workers(&proxy);
        now.len() == 1 && now != old
    });
    // The end of the proxy ends the other one; that nothing is left is checked when it is dropped.
}

#[test]
fn an_app_server_without_what_is_needed_is_named_with_the_way_out() {
    let (setup, _fake) = faulty("app-server lacks thread/inject_items");
    let proxy = setup.start_unready();
    let message = proxy.ask("hi").send().error(503, "server_error", "codex_too_old");
    for part in ["0.169.0", "thread/inject_items", "codex_bin", "engine"] {
        assert!(message.contains(part), "{message}");
    }
    let page = proxy.get("/ready").send();
    assert_eq!((page.status, page.json()["status"].as_str()), (503, Some("not_ready")));
    assert!(page.text().contains("thread/inject_items"), "{}", page.text());
}

#[test]
fn an_app_server_that_lacks_one_feature_does_all_the_others() {
    let function =
        json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    let with_tools = json!({ "messages": [user("hi")], "tools": [function] });
    let (setup, fake) = faulty("app-server lacks dynamicTools\napp-server lacks thread/unsubscribe");
    let doctor = setup.command(&["doctor"]).args(setup.flags()).output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    for part in [
        "features    threads, history",
        "no functions (dynamicTools)",
        "no release of threads (thread/unsubscribe)",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let proxy = setup.start();
    assert!(turn(&proxy, false).1 && turn(&proxy, true).1);
    let message = proxy.chat(with_tools).send().error(400, "invalid_request_error", "unsupported_parameter");
    assert!(message.contains("dynamicTools"), "{message}");
    let page = proxy.get("/ready").send().json();
    assert!(page["function_tools_limited_by"].as_str().unwrap().contains("dynamicTools"), "{page}");
    let asked = fake
        .calls()
        .iter()
        .filter(|call| call["verb"] == "stdin")
        .map(|call| call["stdin"].to_string())
        .collect::<String>();
    // Once to let go of the thread that the question for the parameter started; a turn never.
    let releases = asked.matches("thread/unsubscribe").count();
    let workers = fake.calls().iter().filter(|call| call["verb"] == "app-server").count();
    assert_eq!(releases, workers, "{asked}");
}
