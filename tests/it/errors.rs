//! What the upstream refuses or cannot serve: the exact answer to the client, and no word of it in the log.

use serde_json::{Value, json};

use crate::support::proxy::real_codex;
use crate::support::{Reply, Response, check_envelope, joined, real, user, wait};

/// What the upstream says that no log may have.
const PRIVATE: &str = "quoted-prompt-0451";

fn refuse(code: u16, kind: &str, error_code: Value, message: &str) -> Reply {
    Reply::status(
        code,
        json!({ "message": format!("{message} {PRIVATE}"), "type": kind, "code": error_code }),
    )
}

#[test]
fn each_failure_of_the_upstream_has_its_status() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("max_concurrency", 2).start();
    let text = |message: &str| format!("{message} {PRIVATE}");
    type Row = (&'static str, Reply, u16, &'static str, &'static str);
    let rows: Vec<Row> = vec![
        (
            "429",
            refuse(429, "rate_limit_error", json!("slow"), "slow down").header("retry-after", "7"),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (
            "failed rate limit",
            Reply::failed("rate_limit_exceeded", &text("Rate limit reached. Please try again in 1.5s.")),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (
            "usage limit",
            Reply::status(
                429,
                json!({ "type": "usage_limit_reached", "message": text("The usage limit has been reached"), "plan_type": "plus", "resets_in_seconds": 3600 }),
            ),
            429,
            "insufficient_quota",
            "insufficient_quota",
        ),
        (
            "quota",
            refuse(429, "insufficient_quota", json!("insufficient_quota"), "You exceeded your current quota"),
            429,
            "insufficient_quota",
            "insufficient_quota",
        ),
        (
            "failed quota",
            Reply::failed("insufficient_quota", &text("You exceeded your current quota")),
            429,
            "insufficient_quota",
            "insufficient_quota",
        ),
        (
            "401",
            refuse(401, "authentication_error", json!("invalid_api_key"), "Incorrect API key"),
            502,
            "api_error",
            "upstream_auth",
        ),
        ("403", refuse(403, "permission_error", Value::Null, "no access"), 502, "api_error", "upstream_auth"),
        (
            "no such model",
            refuse(
                404,
                "invalid_request_error",
                json!("model_not_found"),
                "The model `gpt-none` does not exist or you do not have access to it.",
            ),
            404,
            "invalid_request_error",
            "model_not_found",
        ),
        (
            "400",
            refuse(400, "invalid_request_error", json!("invalid_image"), "bad picture"),
            400,
            "invalid_request_error",
            "invalid_image",
        ),
        (
            "context",
            refuse(
                400,
                "invalid_request_error",
                json!("context_length_exceeded"),
                "Your input exceeds the context window",
            ),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (
            "failed context",
            Reply::failed("context_length_exceeded", &text("Your input exceeds the context window")),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        ("500", refuse(500, "server_error", Value::Null, "oops"), 502, "api_error", "codex_failed"),
        ("503", refuse(503, "server_error", Value::Null, "oops"), 503, "server_error", "upstream_overloaded"),
        (
            "503 overloaded",
            refuse(503, "server_error", json!("server_is_overloaded"), "busy"),
            503,
            "server_error",
            "upstream_overloaded",
        ),
        (
            "failed",
            Reply::failed("server_error", &text("An error occurred")),
            502,
            "api_error",
            "codex_failed",
        ),
        (
            "HTML",
            Reply::status_body(502, format!("<html>{PRIVATE}</html>")),
            502,
            "api_error",
            "codex_failed",
        ),
        ("cut", Reply::nothing().then_partial(&[PRIVATE]).then_cut(), 502, "api_error", "codex_failed"),
        (
            "silence",
            Reply::nothing().then_partial(&[PRIVATE]).then_silence(),
            502,
            "api_error",
            "codex_failed",
        ),
        (
            "content filter",
            Reply::nothing().then_incomplete("content_filter"),
            400,
            "invalid_request_error",
            "content_filter",
        ),
    ];
    for (name, reply, status, kind, code) in rows {
        for stream in [false, true] {
            println!("{name}, stream {stream}");
            upstream.reply(reply.clone());
            let body = json!({ "stream": stream, "messages": [user("hi")] });
            let answer = proxy.chat(body).send();
            answer.error(status, kind, code);
            // Whatever Codex was told, the same request again would only buy the same again.
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{name}");
        }
    }
    assert_eq!(
        proxy.ask("Reply with exactly: pong").send().answer(),
        "pong",
        "and nothing is broken by any of it"
    );
    assert!(!proxy.log().contains(PRIVATE), "{}", proxy.log());
    assert!(upstream.requests().len() == 39, "nothing was tried twice");
}

/// Why a request was refused or not served is for who sent it to read: masked, and not in the log.
fn read_by_who_asked(engine: &str) {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", engine).start();
    let codex = real_codex().unwrap().display().to_string();
    let said = format!("no luck for org-AbC123dEf456 in /etc/x, /srv/mine: {PRIVATE}");
    let read = format!("no luck for *** in ***, /srv/mine: {PRIVATE}");
    let status = |code: u16| Reply::status(code, json!({ "message": said, "type": "t", "code": null }));
    let rate = format!("Rate limit reached: {said}");
    for (reply, status, kind, code, expect) in [
        (
            Reply::failed("rate_limit_exceeded", &rate),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            format!("The model service asks to slow down. Try again later. It said: Rate limit reached: {read}"),
        ),
        (
            // Of a plain 429 Codex tells the status alone.
            status(429),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            "The model service asks to slow down. Try again later.".to_owned(),
        ),
        (
            status(401),
            502,
            "api_error",
            "upstream_auth",
            format!("The model service refused the account's credentials. Run `{codex} login` again on the machine of this server. It said: {read}"),
        ),
        (
            status(503),
            503,
            "server_error",
            "upstream_overloaded",
            format!("The model service is overloaded. Try again later. It said: {read}"),
        ),
        (status(502), 502, "api_error", "codex_failed", format!("Codex failed to answer: {read}")),
        (
            // Of a plain 500 Codex tells a sentence of its own.
            status(500),
            502,
            "api_error",
            "codex_failed",
            "Codex failed to answer: We’re currently experiencing high demand, which may cause temporary errors.".to_owned(),
        ),
        (
            Reply::failed("server_error", &said),
            502,
            "api_error",
            "codex_failed",
            format!("Codex failed to answer: stream disconnected before completion: {read}"),
        ),
    ] {
        upstream.reply(reply);
        let answer = proxy.ask("look at /srv/mine").send();
        assert_eq!(answer.error(status, kind, code), expect, "{engine}");
    }
    assert!(!proxy.log().contains(PRIVATE), "{}", proxy.log());
}

#[test]
fn what_the_upstream_said_is_read_by_who_asked_on_exec() {
    read_by_who_asked("exec");
}

#[test]
fn what_the_upstream_said_is_read_by_who_asked_on_the_app_server() {
    read_by_who_asked("app-server");
}

#[test]
fn waiting_times_are_passed_on() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.start();
    upstream.reply(Reply::failed("rate_limit_exceeded", "Rate limit reached. Please try again in 1.5s."));
    let answer = proxy.ask("hi").send();
    assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (Some("2"), Some("1500")));
}

#[test]
fn a_model_that_does_not_exist_is_named_with_the_way_out() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.start();
    upstream.reply(refuse(
        404,
        "invalid_request_error",
        json!("model_not_found"),
        "The model `gpt-none` does not exist.",
    ));
    let answer: Response = proxy.chat(json!({ "model": "gpt-none", "messages": [user("hi")] })).send();
    let message = answer.error(404, "invalid_request_error", "model_not_found");
    assert!(message.contains("gpt-none") && message.contains("model_aliases"), "{message}");
    assert_eq!(answer.json()["error"]["param"], "model");
}

#[test]
fn the_detail_is_in_the_log_under_the_request_id() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.start();
    upstream.reply(refuse(401, "authentication_error", json!("invalid_api_key"), "Incorrect API key"));
    proxy.ask("hi").header("x-request-id", "find-me").send().error(502, "api_error", "upstream_auth");
    wait::until("the log has it", || {
        proxy.log().lines().any(|line| line.contains("find-me") && line.contains("HTTP 401"))
    });
}

#[test]
fn an_upstream_that_is_not_there_is_said_soon() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.start();
    drop(upstream);
    proxy.ask("hi").send().error(502, "api_error", "upstream_unreachable");
}

#[test]
fn a_failure_after_the_answer_began_never_ends_as_complete() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("keepalive_seconds", "0.05").start();
    // The stream opens for the keep-alive, then the turn fails: an error event, no [DONE].
    upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang().then_cut());
    let mut stream = proxy.ask_streamed("hi").open();
    assert_eq!(stream.status, 200);
    let first = stream.data().unwrap();
    assert!(first.contains(r#""role":"assistant""#), "{first}");
    upstream.release();
    let mut last = Value::Null;
    while let Some(data) = stream.data() {
        assert_ne!(data, "[DONE]");
        last = serde_json::from_str(&data).unwrap();
        assert_eq!(joined(std::slice::from_ref(&last), 0).1, None, "no finish chunk");
    }
    check_envelope(&last, "api_error", "codex_failed");
    // A failure after the 200 counts under the status it would have had.
    wait::until("it is counted", || proxy.metrics()["errors_by_status"]["502"] == 1);
}

#[test]
fn a_connection_ends_with_a_stream_that_failed() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("keepalive_seconds", "0.05").start();
    upstream.reply(Reply::nothing().then_partial(&["half"]).then_hang().then_cut());
    let mut connection = proxy.ask_streamed("hi").send_only();
    wait::until("the turn runs", || upstream.requests().len() == 1);
    upstream.release();
    wait::until("the error is sent", || proxy.metrics()["errors_by_status"]["502"] == 1);
    // After a complete answer, or one that can be taken for it, this would be answered.
    connection.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let all = String::from_utf8(connection.rest()).unwrap();
    assert!(all.contains(r#"data: {"error":"#), "{all}");
    assert!(!all.contains("[DONE]"), "{all}");
    // One that came in the very moment of the end is the last.
    let (_, next) = all.split_at("HTTP/1.1 200".len());
    assert!(!next.contains("HTTP/1.1 200") || next.contains("connection: close"), "{all}");
}

/// Codex tells the end of a limit in local time, cut to the minute, and of other days with the date.
#[test]
fn the_end_of_a_usage_limit_is_read_from_codexs_own_words() {
    for engine in ["exec", "app-server"] {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", engine).env("TZ", "NPT-5:45").start();
        for hours in [1, 50, 24 * 100] {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let ends = now + hours * 3600;
            let error = json!({ "type": "usage_limit_reached", "message": "x", "plan_type": "pro", "resets_at": ends });
            upstream.reply(Reply::status(429, error));
            let answer = proxy.ask("hi").send();
            let message = answer.error(429, "insufficient_quota", "insufficient_quota");
            let told: u64 = message
                .split_once("at Unix time ")
                .and_then(|(_, rest)| rest.split(',').next()?.parse().ok())
                .unwrap_or_else(|| panic!("{engine}: {message}"));
            assert!((ends..=ends + 60).contains(&told), "{engine}: ends at {ends}, told {told}");
            let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            let milliseconds: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
            assert!(after <= told - now && milliseconds.div_ceil(1000) == after, "{after} {milliseconds}");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        }
    }
}
