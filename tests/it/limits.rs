//! Every limit of time and number.

use serde_json::json;

use crate::support::client::Connection;
use crate::support::{Setup, check_envelope, user, wait};

#[test]
fn a_turn_has_an_end() {
    for script in ["start\nhang", "hang", "no-stdin\nhang", "ignore-term\nstart\nhang"] {
        let (setup, _fake) = Setup::fake(script);
        let proxy = setup.set("timeout_seconds", "0.3").start();
        for stream in [false, true] {
            let answer = proxy.chat(json!({ "stream": stream, "messages": [user("hi")] })).send();
            answer.error(504, "timeout_error", "turn_timeout");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        }
        proxy.until_childless();
    }
}

#[test]
fn silence_has_an_end_of_its_own() {
    let (setup, fake) = Setup::fake("hang");
    let proxy = setup.set("first_event_timeout_seconds", "0.2").start();
    proxy.ask("hi").send().error(504, "timeout_error", "first_event_timeout");
    proxy.until_childless();
    fake.script("start\nreasoning hm\nsleep 400\nanswer pong\ndone");
    assert_eq!(proxy.ask("hi").send().answer(), "pong", "what has begun may take its time");
}

#[test]
fn a_stream_is_kept_alive_and_ends_honestly() {
    let (setup, _fake) = Setup::fake("start\nhang");
    let proxy = setup.set("timeout_seconds", "0.5").set("keepalive_seconds", "0.05").start();
    let mut stream = proxy.ask_streamed("hi").open();
    assert_eq!(stream.status, 200);
    let (mut comments, mut last) = (0, String::new());
    while let Some(event) = stream.event() {
        match event {
            crate::support::Sse::Comment(_) => comments += 1,
            crate::support::Sse::Data(data) => last = data,
            crate::support::Sse::Other(line) => panic!("{line}"),
        }
    }
    assert!(comments >= 2, "{comments} keep-alives");
    check_envelope(&serde_json::from_str(&last).unwrap(), "timeout_error", "turn_timeout");
}

#[test]
fn connections_are_counted() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup.set("max_connections", 3).start();
    wait::until("the probes' connections are closed", || proxy.metrics()["connections"].as_u64() == Some(1));
    let held: Vec<Connection> = (0..3).map(|_| Connection::open(proxy.address())).collect();
    // The fourth is answered only once there is room, or told so: never both held and forgotten.
    let mut fourth = Connection::open(proxy.address());
    fourth.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    drop(held);
    let answer = String::from_utf8_lossy(&fourth.rest()).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(proxy.ask("hi").send().answer(), "pong");
}

#[test]
fn bodies_together_have_a_limit() {
    let (setup, fake) = Setup::fake("start\nwait go\nanswer pong\ndone");
    let proxy = setup.set("max_buffered_bytes", 3_000_000).set("max_body_bytes", 2_000_000).start();
    let big = "x".repeat(1_900_000);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask(&big).send());
        wait::until("the first is held", || fake.turns().len() == 1);
        let answer = proxy.ask(&big).send();
        answer.error(503, "server_error", "overloaded");
        assert_eq!(answer.header("x-should-retry"), Some("true"));
        proxy.scratch().write("bin/go", "");
        first.join().unwrap().answer();
    });
    assert_eq!(proxy.ask(&big).send().answer(), "pong", "and is given back");
}
