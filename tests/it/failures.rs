//! A Codex that misbehaves: every answer well-formed, every slot given back, no child left.

use serde_json::json;

use crate::support::{Response, Setup, user};

/// Runs one turn of that script, whole and streamed, and then a good one.
fn check(script: &str, judge: impl Fn(&Response)) {
    let (setup, fake) = Setup::fake(script);
    let proxy = setup.set("timeout_seconds", 20).start();
    for stream in [false, true] {
        fake.script(script);
        let answer = proxy.chat(json!({ "stream": stream, "messages": [user("hi")] })).send();
        judge(&answer);
        proxy.until_childless();
        fake.script("start\nanswer pong\ndone");
        assert_eq!(proxy.ask("hi").send().answer(), "pong", "after {script:?}");
    }
}

#[test]
fn a_turn_without_an_answer_is_an_error() {
    for (script, code) in [
        ("exit 0", "codex_exited"),
        ("start\nexit 0", "codex_exited"),
        // Nothing of an answer, and no sign that the model service was asked.
        (
            r#"start
line {"type":"turn.completed","usage":null}"#,
            "no_answer",
        ),
        ("exit 3", "codex_exited"),
        ("kill", "codex_exited"),
        ("no-stdin\nexit 1", "codex_exited"),
        ("start\nkill", "codex_exited"),
        ("start\nanswer half\nkill", "codex_exited"),
        ("start\nanswer half\nexit 0", "codex_exited"),
        ("start\npart {\"type\":\"item.comp\nkill", "codex_exited"),
        ("start\nfailed something broke\nexit 1", "codex_failed"),
        ("start\nanswer half\nfailed something broke\nexit 1", "codex_failed"),
    ] {
        println!("{script:?}");
        check(script, |answer| {
            let message = answer.error(502, "api_error", code);
            // What a failed turn said of itself is told; what there was of an answer is none.
            assert_eq!(message.contains("something broke"), code == "codex_failed", "{message}");
            assert!(!message.contains("half"), "{message}");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        });
    }
}

#[test]
fn odd_output_around_an_answer_does_no_harm() {
    for script in [
        "start\nline not json at all\nline {}\nline []\nline null\nline \"x\"\nanswer fine\ndone",
        "start\nhex fffe00c3280a\nanswer fine\ndone",
        "start\nline {\"type\":\"item.completed\",\"item\":{\"type\":\"of_tomorrow\",\"new\":[1]}}\nanswer fine\ndone",
        "start\nline {\"type\":\"item.completed\"}\nline {\"type\":7}\nanswer fine\ndone",
        "stderr WARNING: something is deprecated\nstderr Error: not really\nstart\nanswer fine\ndone",
        "flood 1000000\nstart\nanswer fine\nflood 1000000\ndone",
        "start\nline {\"type\":\"error\",\"message\":\"Reconnecting... 1/5\"}\nanswer fine\ndone",
        "no-stdin\nstart\nanswer fine\ndone",
        "start\nanswer an earlier one\nanswer fine\ndone",
    ] {
        println!("{script:?}");
        check(script, |answer| {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.text().contains("fine"), "{}", answer.text());
        });
    }
}

#[test]
fn long_lines_have_a_limit_far_away() {
    check("start\nbig 2000000\ndone", |answer| {
        assert!(answer.status == 200 && answer.body.len() > 2_000_000)
    });
    check("start\nbig 10000000\ndone", |answer| {
        assert!(
            answer.status == 200 && answer.body.len() > 10_000_000 || answer.status == 502,
            "{}",
            answer.status
        );
    });
}

#[test]
fn a_prompt_nobody_reads_does_not_block() {
    let (setup, fake) = Setup::fake("no-stdin\nstart\nanswer fine\ndone");
    let proxy = setup.start();
    // Larger than any pipe.
    assert_eq!(proxy.ask(&"x".repeat(1 << 20)).send().answer(), "fine");
    fake.script("no-stdin\nexit 1");
    proxy.ask(&"x".repeat(1 << 20)).send().error(502, "api_error", "codex_exited");
}

#[test]
fn dying_after_any_line_or_byte_is_well_formed() {
    let (setup, fake) = Setup::fake("");
    let proxy = setup.start();
    let steps = "start\nreasoning thinking\nanswer pong\ndone";
    let cuts = (0..=5)
        .map(|lines| format!("limit-lines {lines}"))
        .chain((0..500).step_by(23).map(|bytes| format!("limit-bytes {bytes}")));
    let mut complete = 0;
    for cut in cuts {
        for stream in [false, true] {
            fake.script(&format!("{cut}\n{steps}"));
            let mut answer = proxy.chat(json!({ "stream": stream, "messages": [user("hi")] })).open();
            if answer.status != 200 {
                answer.whole().error(502, "api_error", "codex_exited");
            } else if stream {
                let (chunks, done) = answer.chunks();
                assert_eq!(done, chunks.last().unwrap()["error"].is_null(), "{cut}: {chunks:?}");
                complete += usize::from(done);
            } else {
                assert_eq!(answer.whole().answer(), "pong", "{cut}");
                complete += 1;
            }
        }
    }
    assert!(complete >= 2, "the last line cut still leaves the whole answer");
    proxy.until_childless();
}

#[test]
fn a_codex_that_cannot_serve_is_said_in_ready() {
    for (script, code) in [("version codex-cli 0.98.0", "codex_too_old"), ("logged-out", "not_logged_in")] {
        let (setup, fake) = Setup::fake(script);
        let proxy = setup.start_unready();
        let answer = crate::support::wait::until_some("a reason", || {
            let answer = proxy.get("/ready").send();
            (answer.status == 503 && answer.json()["reason"].is_string()).then_some(answer)
        });
        assert_eq!(answer.json()["status"], "not_ready");
        let message = proxy.ask("hi").send().error(503, "server_error", code);
        // But for the setting itself, no path of this machine.
        let message = message.replace(fake.path().to_str().unwrap(), "codex");
        assert!(!message.contains(proxy.scratch().path().to_str().unwrap()), "{message}");
        assert_eq!(fake.turns().len(), 0);
        assert_eq!(proxy.get("/health").send().status, 200);
    }
}

#[test]
fn a_codex_that_is_not_there_is_said() {
    let missing = Setup::new(std::path::Path::new("/nonexistent/codex"));
    let proxy = missing.start_unready();
    let message = proxy.ask("hi").send().error(503, "server_error", "codex_missing");
    assert!(message.contains("/nonexistent/codex") && message.contains("codex_bin"), "{message}");
    assert_eq!(proxy.get("/health").send().json()["codex_available"], false);
    assert_eq!(proxy.get("/ready").send().status, 503);
}
