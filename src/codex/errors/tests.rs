use serde_json::json;

use super::*;

fn kind(failure: &Failure) -> String {
    match failure {
        Failure::NoModel { model } => format!("NoModel {model}"),
        Failure::RateLimited { retry_after, .. } => format!("RateLimited {retry_after:?}"),
        Failure::UpstreamRejected { code, .. } => format!("UpstreamRejected {code:?}"),
        Failure::UsageLimit { resets_at: Some(at), .. } if *at > 2_000_000_000 => "UsageLimit later".into(),
        Failure::UsageLimit { resets_at, .. } => format!("UsageLimit {resets_at:?}"),
        other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn a_code_decides_where_it_says_something() {
    let status = |name: &str, status: Option<u16>| json!({ name: { "httpStatusCode": status } });
    let rows = [
        (json!("contextWindowExceeded"), "x", "ContextLength"),
        (
            json!("unauthorized"),
            "Your access token could not be refreshed because you have since logged out or signed in to another account. Please sign in again.",
            "LoginChanged",
        ),
        (json!("usageLimitExceeded"), "You've hit your usage limit.", "UsageLimit None"),
        (
            json!("rateLimitExceeded"),
            "Rate limit reached. Please try again in 1.5s.",
            "RateLimited Some(1.5s)",
        ),
        (json!("internalServerError"), "experiencing high demand", "CodexFailed"),
        (json!("serverOverloaded"), "Selected model is at capacity.", "UpstreamOverloaded"),
        (json!("modelNotFound"), "no", "NoModel "),
        (json!("badRequest"), r#"{"error":{"message":"bad","code":"model_not_found"}}"#, "NoModel "),
        (json!("badRequest"), "bad", "UpstreamRejected None"),
        (json!("cyberPolicy"), "no", r#"UpstreamRejected Some("content_policy")"#),
        (json!("somethingNew"), "boom", "CodexFailed"),
        (json!(7), "boom", "CodexFailed"),
        (status("httpConnectionFailed", Some(401)), "unexpected status 401 Unauthorized: x", "UpstreamAuth"),
        (status("httpConnectionFailed", None), "no route", "UpstreamUnreachable"),
        (
            status("httpConnectionFailed", Some(404)),
            "unexpected status 404 Not Found: {}",
            "UpstreamRejected None",
        ),
        (status("responseTooManyFailedAttempts", Some(429)), "exceeded retry limit", "RateLimited None"),
        (status("responseStreamDisconnected", None), "stream disconnected", "CodexFailed"),
        (status("responseStreamConnectionFailed", Some(503)), "x", "UpstreamOverloaded"),
    ];
    for (info, message, expect) in rows {
        assert_eq!(kind(&classify(Some(&info), message)), expect, "{info} {message}");
    }
}

#[test]
fn the_text_alone_decides_as_well() {
    let rows = [
        ("Codex ran out of room in the model's context window. Start a new thread.", "ContextLength"),
        (
            r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            "ContextLength",
        ),
        ("You've hit your usage limit. Try again in 3 days 2 hours.", "UsageLimit later_or_now"),
        ("You've hit your usage limit. Try again at 3:05 PM.", "UsageLimit later_or_now"),
        (
            "You've hit your usage limit for gpt-x. Switch to another model now, or try again at Jan 2nd, 2099 3:05 PM.",
            "UsageLimit later",
        ),
        ("You've hit your usage limit. Try again later.", "UsageLimit None"),
        (
            r#"unexpected status 429 Too Many Requests: {"error":{"type":"usage_limit_reached","resets_at":123}}"#,
            "UsageLimit Some(123)",
        ),
        ("Quota exceeded. Check your plan and billing details.", "UsageLimit None"),
        ("exceeded retry limit, last status: 429 Too Many Requests, request id: r", "RateLimited None"),
        (
            "Rate limit reached for gpt-5 in org. Please try again in 1m2.5s. Visit …",
            "RateLimited Some(62.5s)",
        ),
        ("Rate limit reached. Please try again in 35ms.", "RateLimited Some(35ms)"),
        ("Rate limit reached. Please try again in a while.", "RateLimited None"),
        ("unexpected status 401 Unauthorized: , url: http://x", "UpstreamAuth"),
        ("Your access token could not be refreshed because it was revoked.", "UpstreamAuth"),
        (
            "Your access token could not be refreshed because you have since logged out or signed in to another account. Please sign in again.",
            "LoginChanged",
        ),
        (
            "Your access token could not be refreshed because your refresh token has expired. Please log out and sign in again.",
            "UpstreamAuth",
        ),
        ("Your access token could not be refreshed. Please log out and sign in again.", "UpstreamAuth"),
        ("We're currently experiencing high demand, which may cause temporary errors.", "CodexFailed"),
        ("unexpected status 500 Internal Server Error: oops", "CodexFailed"),
        ("Selected model is at capacity. Please try a different model.", "UpstreamOverloaded"),
        (
            "stream disconnected before completion: error sending request for url (http://x)",
            "UpstreamUnreachable",
        ),
        ("stream disconnected before completion: stream closed before response.completed", "CodexFailed"),
        ("Connection failed: error sending request", "UpstreamUnreachable"),
        (
            r#"{"error":{"message":"The model `gpt-9` does not exist","code":"model_not_found"}}"#,
            "NoModel gpt-9",
        ),
        (
            r#"{"detail":"The 'gpt-9' model is not supported when using Codex with a ChatGPT account."}"#,
            "NoModel gpt-9",
        ),
        (r#"{"detail":"Instructions are not valid"}"#, "UpstreamRejected None"),
        (
            r#"{"error":{"message":"bad schema","type":"invalid_request_error","code":"invalid_json_schema"}}"#,
            r#"UpstreamRejected Some("invalid_json_schema")"#,
        ),
        (
            "Incomplete response returned, reason: content_filter",
            r#"UpstreamRejected Some("content_filter")"#,
        ),
        ("{ not json", "CodexFailed"),
        ("", "CodexFailed"),
    ];
    for (message, expect) in rows {
        let failure = classify(None, message);
        if expect == "UsageLimit later_or_now" {
            assert!(matches!(failure, Failure::UsageLimit { resets_at: Some(at), .. } if at > 1_700_000_000));
            continue;
        }
        assert_eq!(kind(&failure), expect, "{message}");
    }
}

/// What the client may come to read: the upstream's words, without what Codex puts around them.
#[test]
fn what_the_upstream_said_is_kept() {
    let status = |name: &str, status: u16| json!({ name: { "httpStatusCode": status } });
    for (info, text, expect) in [
        (None, "unexpected status 401 Unauthorized: Bad key, url: http://h/v1, request id: r", "Bad key"),
        (None, "unexpected status 503 Service Unavailable: a: b, url: c, url: http://h", "a: b, url: c"),
        (None, "unexpected status 502 Bad Gateway: <html>x</html>", "<html>x</html>"),
        (
            None,
            "unexpected status 500 Internal Server Error: , url: http://h",
            "unexpected status 500 Internal Server Error: , url: http://h",
        ),
        (
            None,
            r#"unexpected status 500 X: {"error":{"message":"oops: {at}","type":"server_error"}}, url: http://h"#,
            "oops: {at}",
        ),
        (
            None,
            r#"unexpected status 429 X: {"error":{"message":"Slow","type":"rate_limit_exceeded","code":"rate_limit_exceeded"}}"#,
            "Slow",
        ),
        (None, "rate limit exceeded: Rate limit reached for x.", "Rate limit reached for x."),
        (None, r#"{"error":{"message":"No quota","code":"insufficient_quota"}}"#, "No quota"),
        (None, "stream disconnected before completion: boom", "stream disconnected before completion: boom"),
        (Some(json!("serverOverloaded")), "Our servers are busy.", "Our servers are busy."),
        (Some(json!("unauthorized")), "No such key.", "No such key."),
        (
            Some(json!("internalServerError")),
            "We’re experiencing high demand.",
            "We’re experiencing high demand.",
        ),
        // Codex's own, which say what our sentence says.
        (None, "exceeded retry limit, last status: 429 Too Many Requests, request id: r", ""),
        (None, "You’ve hit your usage limit. Upgrade to Pro (https://x).", ""),
        (None, "You've hit your usage limit. Try again later.", ""),
        (None, "Quota exceeded. Check your plan and billing details.", ""),
        (Some(json!("serverOverloaded")), "Selected model is at capacity. Please try another.", ""),
        (Some(status("responseTooManyFailedAttempts", 429)), "exceeded retry limit, last status: 429", ""),
    ] {
        let failure = classify(info.as_ref(), text);
        assert_eq!(failure.said().map(Said::expose), Some(expect), "{text}: {failure:?}");
        assert_eq!(failure.shown(), None, "not before it is masked");
    }
}

#[test]
fn the_log_gets_no_word_of_what_was_said() {
    let prompt = "s3cret prompt";
    for (info, text, expect) in [
        (
            None,
            format!(
                r#"{{"error":{{"message":"bad: {prompt}","type":"invalid_request_error","code":"x_y"}}}}"#
            ),
            "code x_y, type invalid_request_error, ",
        ),
        (None, format!(r#"{{"error":{{"message":"bad","type":"{prompt}","code":"{prompt}"}}}}"#), ""),
        (None, format!("unexpected status 500 Internal Server Error: {prompt}, url: http://x"), "HTTP 500, "),
        (None, format!("something else: {prompt}"), ""),
        (
            Some(json!({"responseStreamDisconnected": {"httpStatusCode": 502}})),
            prompt.to_owned(),
            "HTTP 502, ",
        ),
        (Some(json!("badRequest")), prompt.to_owned(), ""),
        (Some(json!("unauthorized")), prompt.to_owned(), ""),
        (Some(json!("serverOverloaded")), prompt.to_owned(), ""),
        (Some(json!("httpConnectionFailed")), prompt.to_owned(), ""),
    ] {
        let failure = classify(info.as_ref(), &text);
        let expect = format!("codex or the model service said: {expect}{} bytes", text.len());
        assert_eq!(failure.detail(), Some(expect.as_str()), "{text}");
        let printed = format!("{failure} {failure:?}");
        assert!(!printed.contains("s3cret"), "{printed}");
    }
    for (stderr, detail) in [
        ("thread panicked at s3cret", "25 bytes on its stderr"),
        ("error: unexpected argument '--x' found", "error: unexpected argument '--x' found"),
        ("Error loading config.toml: no", "Error loading config.toml: no"),
    ] {
        assert_eq!(exited("exit status: 1", stderr).detail(), Some(detail));
    }
}

#[test]
fn the_output_limit_is_told_apart() {
    assert!(is_output_limit("stream disconnected: Incomplete response returned, reason: max_output_tokens"));
    assert!(!is_output_limit("Incomplete response returned, reason: content_filter"));
}

#[test]
fn a_prompt_codex_does_not_take_is_too_long() {
    let long = r#"Error: turn/start failed: Input exceeds the maximum length of 1048576 characters. (code -32602), data: {"input_error_code":"input_too_large","max_chars":1048576}"#;
    assert_eq!(exited("exit status: 1", long), Failure::ContextLength);
    assert_eq!(kind(&classify(None, long)), "ContextLength");
    let other =
        Failure::CodexExited { status: "exit status: 1".into(), detail: "4 bytes on its stderr".into() };
    assert_eq!(exited("exit status: 1", "boom"), other);
}
