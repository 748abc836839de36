//! A client that leaves stops the spend; a server that leaves takes everything with it.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::proxy::Proxy;
use crate::support::{Ended, Reply, Scratch, Setup, Upstream, real, user, wait};

/// The upstream has one request, and its client has left it.
fn until_given_up(proxy: &Proxy, upstream: &Upstream) {
    let ended = wait::until_some("the upstream's connection ends", || upstream.requests()[0].ended);
    assert_eq!(ended.0, Ended::ClientClosed);
    wait::until("no connection is left", || upstream.open() == 0);
    proxy.until_childless();
}

#[test]
fn leaving_stops_the_turn_whole_or_streamed() {
    for stream in [false, true] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.start();
        upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang());
        let call = proxy
            .chat(json!({ "stream": stream, "messages": [user("hi")] }))
            .header("x-request-id", "left")
            .send_only();
        wait::until("the turn runs", || {
            upstream.requests().first().is_some_and(|request| request.deltas == 1)
        });
        drop(call);
        until_given_up(&proxy, &upstream);
        // The only slot is free again, and the leaving was counted and logged.
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
        let line = proxy.latency_line("chat_completion_latency", "left");
        assert_eq!((&line["status"], &line["http_status"]), (&json!("cancelled"), &json!(499)), "{line}");
        assert_eq!(line["tokens_unknown"], 1, "what was spent, nobody told: {line}");
    }
}

#[test]
fn leaving_an_open_stream_stops_the_turn() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("keepalive_seconds", "0.05").start();
    upstream.reply(Reply::hang());
    let mut stream = proxy.ask_streamed("hi").open();
    stream.data().unwrap();
    wait::until("the turn runs", || upstream.requests().len() == 1);
    drop(stream);
    until_given_up(&proxy, &upstream);
}

#[test]
fn leaving_the_queue_leaves_no_trace() {
    let (setup, fake) = Setup::fake("start\nwait go\nanswer pong\ndone");
    let proxy = setup.start();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask("first").send());
        wait::until("the first runs", || fake.turns().len() == 1);
        let second = proxy.ask("second").header("x-request-id", "second").send_only();
        wait::until("the second waits", || proxy.metrics()["turns_queued"] == 1);
        drop(second);
        wait::until("the second has left", || proxy.metrics()["turns_queued"] == 0);
        proxy.scratch().write("bin/go", "");
        first.join().unwrap().answer();
    });
    assert_eq!(proxy.ask("third").send().answer(), "pong");
    assert_eq!(fake.turns().len(), 2, "the second never ran");
    let line = proxy.latency_line("chat_completion_latency", "second");
    assert_eq!((&line["status"], line.get("tokens_unknown")), (&json!("cancelled"), None), "{line}");
}

#[test]
fn leaving_takes_all_of_n() {
    let (setup, fake) = Setup::fake("start\nhang");
    let proxy = setup.set("max_concurrency", 2).start();
    let call = proxy.chat(json!({ "n": 4, "messages": [user("hi")] })).send_only();
    wait::until("two run and two wait", || fake.turns().len() == 2 && proxy.metrics()["turns_queued"] == 2);
    drop(call);
    proxy.until_childless();
    wait::until("none waits", || {
        proxy.metrics()["turns_queued"] == 0 && proxy.metrics()["requests_in_flight"] == 0
    });
    assert_eq!(fake.turns().len(), 2);
}

#[test]
fn a_codex_that_ignores_everything_is_killed() {
    let (setup, fake) = Setup::fake("ignore-term\nstart\nhang");
    let proxy = setup.start();
    let call = proxy.ask("hi").send_only();
    wait::until("the turn runs", || fake.turns().len() == 1);
    drop(call);
    proxy.until_childless();
    fake.script("start\nanswer pong\ndone");
    assert_eq!(proxy.ask("hi").send().answer(), "pong");
}

#[test]
fn what_codex_left_running_goes_with_it() {
    let (setup, _fake) = Setup::fake("start\ngrandchild\nanswer pong\ndone");
    let proxy = setup.start();
    // The grandchild holds Codex's stdout and stderr open; the answer must not wait for it.
    assert_eq!(proxy.ask("hi").send().answer(), "pong");
    proxy.until_childless();
}

#[test]
fn a_killed_server_leaves_no_turn_behind() {
    let Some((setup, upstream)) = real() else { return };
    let mut proxy = setup.start();
    upstream.reply(Reply::hang());
    let _call = proxy.ask("hi").send_only();
    wait::until("the turn runs", || upstream.requests().len() == 1);
    proxy.signal("KILL");
    proxy.wait_exit();
    until_given_up(&proxy, &upstream);
}

#[test]
fn draining_lets_a_turn_finish() {
    let (setup, fake) = Setup::fake("start\nwait go\nanswer pong\ndone");
    let mut proxy = setup.set("drain_seconds", 20).start();
    let address = proxy.address();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            crate::support::client::Call::new(address, "POST", "/v1/chat/completions")
                .json(&json!({ "model": "codex-local", "messages": [user("hi")] }))
                .send()
        });
        wait::until("the turn runs", || fake.turns().len() == 1);
        proxy.signal("TERM");
        wait::until("it takes nothing new", || std::net::TcpStream::connect(address).is_err());
        // Too late to reload; and no reason to end at once.
        proxy.signal("HUP");
        proxy.scratch().write("bin/go", "");
        assert_eq!(first.join().unwrap().answer(), "pong");
    });
    assert!(proxy.wait_exit().success());
}

#[test]
fn draining_has_an_end() {
    let (setup, fake) = Setup::fake("ignore-term\nstart\nhang");
    let mut proxy = setup.set("drain_seconds", "0.1").start();
    let call = proxy.ask("hi").send_only();
    wait::until("the turn runs", || fake.turns().len() == 1);
    proxy.signal("TERM");
    assert!(proxy.wait_exit().success());
    proxy.until_childless();
    // The client learns that its answer will not come.
    let rest = String::from_utf8_lossy(&call.rest()).into_owned();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 503"), "{rest}");
}

#[test]
fn who_asks_twice_does_not_want_to_wait() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let (setup, fake) = Setup::fake("ignore-term\nstart\nhang");
        let mut proxy = setup.set("drain_seconds", 100_000).start();
        let address = proxy.address();
        let call = proxy.ask("hi").send_only();
        wait::until("the turn runs", || fake.turns().len() == 1);
        proxy.signal(first);
        wait::until("it takes nothing new", || std::net::TcpStream::connect(address).is_err());
        assert!(proxy.exited().is_none(), "it lets the turn end");
        proxy.signal(second);
        assert!(proxy.wait_exit().success());
        proxy.until_childless();
        let rest = String::from_utf8_lossy(&call.rest()).into_owned();
        assert!(rest.starts_with("HTTP/1.1 503"), "{rest}");
        assert!(proxy.log().contains("told to stop again"), "{}", proxy.log());
    }
}

#[test]
fn a_stop_does_not_wait_for_the_first_look_at_codex() {
    let place = Scratch::new();
    let codex = place.write("codex", "#!/bin/sh\nexec sleep 1000000\n");
    std::fs::set_permissions(&codex, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut proxy = Setup::new(&codex).set("drain_seconds", 100_000).start_unready();
    wait::until("codex is asked", || !proxy.descendants().is_empty());
    // A turn that waits for the look is no reason to wait for it either.
    let call = proxy.ask("hi").send_only();
    wait::until("it is taken", || proxy.get("/ready").send().json()["queue"]["running"] == 1);
    proxy.signal("TERM");
    let address = proxy.address();
    wait::until("it takes nothing new", || std::net::TcpStream::connect(address).is_err());
    proxy.signal("TERM");
    assert!(proxy.wait_exit().success());
    proxy.until_childless();
    let rest = String::from_utf8_lossy(&call.rest()).into_owned();
    assert!(rest.starts_with("HTTP/1.1 503"), "{rest}");
}
