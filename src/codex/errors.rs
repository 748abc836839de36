//! What Codex says went wrong, as one of our [`Failure`]s.
//!
//! The app-server gives a code (`codexErrorInfo`) and a text, `codex exec` the text alone, and the
//! code `other` says nothing, so every rule that matters has a form that works on the text. The
//! text may quote the upstream, and the upstream the prompt: it only ever goes into `detail`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::turn::Failure;

/// How much of Codex's text is kept for the log, in bytes.
const DETAIL: usize = 2048;

/// Whether the text says that the upstream stopped at its own output limit, which ends an answer
/// with `length` and is no failure.
pub fn is_output_limit(message: &str) -> bool {
    message.contains("reason: max_output_tokens")
}

/// The failure behind the end of a process that told none: `exit` is its status, `stderr` its tail.
pub fn exited(exit: &str, stderr: &str) -> Failure {
    // A prompt beyond Codex's own limit (1,048,576 characters) never becomes a turn.
    match stderr.contains("\"input_error_code\":\"input_too_large\"") {
        true => Failure::ContextLength,
        false => Failure::CodexExited { status: exit.to_owned(), detail: stderr.to_owned() },
    }
}

/// The failure behind a turn's error.
///
/// `info` is `codexErrorInfo`: a string, or an object with one key; absent for `codex exec`.
/// [`Failure::NoModel`] names the model only if the text did; whoever knows what was asked puts
/// that name in.
pub fn classify(info: Option<&Value>, message: &str) -> Failure {
    let (name, status) = match info {
        Some(Value::String(name)) => (name.as_str(), None),
        Some(Value::Object(map)) if map.len() == 1 => map
            .iter()
            .next()
            .map(|(name, fields)| (name.as_str(), fields.get("httpStatusCode").and_then(Value::as_u64)))
            .unwrap_or_default(),
        _ => ("", None),
    };
    let said = Said::read(message, status);
    match name {
        "contextWindowExceeded" => Failure::ContextLength,
        "usageLimitExceeded" | "sessionBudgetExceeded" => said.usage_limit(),
        "rateLimitExceeded" => said.rate_limited(),
        "serverOverloaded" | "flexUnavailable" | "policyCapacityUnavailable" => said.overloaded(),
        "modelNotFound" => said.no_model(),
        "unauthorized" => said.auth(),
        "cyberPolicy" | "misalignmentPolicyViolation" | "inferenceHookDenied" => {
            said.rejected(Some("content_policy"))
        }
        "badRequest" => said.by_text().unwrap_or_else(|| said.rejected(None)),
        "httpConnectionFailed" | "responseStreamConnectionFailed" if said.status.is_none() => {
            said.by_text().unwrap_or_else(|| said.unreachable())
        }
        _ => said.by_text().or_else(|| said.by_status()).unwrap_or_else(|| said.failed()),
    }
}

/// One error text, taken apart once.
struct Said<'a> {
    text: &'a str,
    /// The same in lower case, for matching.
    lower: String,
    /// The upstream's HTTP status, if known.
    status: Option<u64>,
    /// The upstream's JSON body, if the text contains one.
    body: Option<Value>,
}

impl Said<'_> {
    fn read(text: &str, status: Option<u64>) -> Said<'_> {
        let lower = text.to_lowercase();
        let status = status.or_else(|| {
            ["unexpected status ", "last status: "].iter().find_map(|lead| {
                let rest = lower.split_once(lead)?.1;
                rest.get(..3)?.parse().ok()
            })
        });
        let body = text
            .find('{')
            .and_then(|at| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next()?.ok());
        Said { text, lower, status, body }
    }

    fn has(&self, any: &[&str]) -> bool {
        any.iter().any(|part| self.lower.contains(part))
    }

    /// A field of the upstream's error object.
    fn field(&self, name: &str) -> Option<&Value> {
        let body = self.body.as_ref()?;
        let error = body.get("error").or_else(|| body.pointer("/response/error")).unwrap_or(body);
        error.get(name).filter(|value| !value.is_null())
    }

    /// The upstream's own code: `code`, or failing that `type`.
    fn code(&self) -> Option<&str> {
        self.field("code").and_then(Value::as_str).or_else(|| self.field("type").and_then(Value::as_str))
    }

    fn by_text(&self) -> Option<Failure> {
        let failure = match self.code().unwrap_or_default() {
            "context_length_exceeded" => Failure::ContextLength,
            "model_not_found" => self.no_model(),
            "insufficient_quota"
            | "usage_limit_reached"
            | "usage_not_included"
            | "billing_hard_limit_reached" => self.usage_limit(),
            "rate_limit_exceeded" => self.rate_limited(),
            "server_is_overloaded" | "slow_down" => self.overloaded(),
            "invalid_api_key" | "token_expired" | "token_invalidated" => self.auth(),
            _ if self.has(&[
                "ran out of room in the model's context window",
                "context window exceeded",
                "input exceeds the maximum length",
                "maximum context length",
            ]) =>
            {
                Failure::ContextLength
            }
            _ if self.has(&[
                "usage limit",
                "quota exceeded",
                "exceeded your current quota",
                "out of credits",
                "upgrade to plus",
            ]) =>
            {
                self.usage_limit()
            }
            _ if self.has(&["rate limit reached", "rate limit exceeded"]) => self.rate_limited(),
            _ if self.has(&[
                "model is at capacity",
                "server overloaded",
                "servers are currently overloaded",
            ]) =>
            {
                self.overloaded()
            }
            _ if self.has(&["model is not supported", "model does not exist", "model not found"])
                || (self.has(&["the model "])
                    && self.has(&["does not exist", "not supported", "not found"])) =>
            {
                self.no_model()
            }
            _ if self.has(&[
                "token could not be refreshed",
                "log out and sign in again",
                "not logged in",
            ]) =>
            {
                self.auth()
            }
            _ if self.has(&["reason: content_filter"]) => self.rejected(Some("content_filter")),
            _ => return self.transport(),
        };
        Some(failure)
    }

    /// A connection that did not come about or did not last, where no status says more.
    fn transport(&self) -> Option<Failure> {
        let lost = self.status.is_none()
            && self.has(&[
                "connection failed",
                "error sending request",
                "failed to lookup address",
                "connection refused",
                "dns error",
            ]);
        lost.then(|| self.unreachable())
    }

    fn by_status(&self) -> Option<Failure> {
        let status = self.status.or_else(|| {
            // A refusal of the upstream comes as its bare JSON body, without a status.
            let refused = self.code() == Some("invalid_request_error")
                || self.field("type").and_then(Value::as_str) == Some("invalid_request_error")
                || self.field("detail").is_some();
            refused.then_some(400)
        })?;
        Some(match status {
            401 | 403 => self.auth(),
            429 => self.rate_limited(),
            503 | 529 => self.overloaded(),
            400..500 => self.rejected(None),
            _ => self.failed(),
        })
    }

    fn detail(&self) -> String {
        let mut end = self.text.len().min(DETAIL);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        match (end == self.text.len(), self.status) {
            (true, Some(status)) if !self.lower.contains(&status.to_string()) => {
                format!("{} (HTTP {status})", self.text)
            }
            (true, _) => self.text.to_owned(),
            (false, _) => format!("{}…", &self.text[..end]),
        }
    }

    fn usage_limit(&self) -> Failure {
        let number = |name: &str| self.field(name).and_then(Value::as_u64);
        let after = number("resets_in_seconds").map(Duration::from_secs).or_else(|| delay(&self.lower));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Failure::UsageLimit {
            resets_at: number("resets_at").or_else(|| Some(now.checked_add(after?)?.as_secs())),
        }
    }

    fn rate_limited(&self) -> Failure {
        Failure::RateLimited { retry_after: delay(&self.lower) }
    }

    /// The name between quotes or backticks after "model", if it looks like one.
    fn no_model(&self) -> Failure {
        let named = |char: char| char.is_ascii_alphanumeric() || "._:/-".contains(char);
        let model = ['`', '\'', '"'].iter().find_map(|quote| {
            let text = self
                .field("message")
                .or_else(|| self.field("detail"))
                .and_then(Value::as_str)
                .unwrap_or(self.text);
            let name = text.split(*quote).nth(1)?;
            (!name.is_empty() && name.len() <= 128 && name.chars().all(named)).then(|| name.to_owned())
        });
        Failure::NoModel { model: model.unwrap_or_default() }
    }

    fn rejected(&self, code: Option<&str>) -> Failure {
        let code = code
            .or_else(|| self.code())
            .filter(|code| code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        Failure::UpstreamRejected { code: code.map(str::to_owned), detail: self.detail() }
    }

    fn auth(&self) -> Failure {
        Failure::UpstreamAuth { detail: self.detail() }
    }

    fn overloaded(&self) -> Failure {
        Failure::UpstreamOverloaded { detail: self.detail() }
    }

    fn unreachable(&self) -> Failure {
        Failure::UpstreamUnreachable { detail: self.detail() }
    }

    fn failed(&self) -> Failure {
        Failure::CodexFailed { detail: self.detail() }
    }
}

/// The time after "try again in": `1.5s`, `35ms`, `1m2s`, `3 days 2 hours`. Lower case expected.
fn delay(text: &str) -> Option<Duration> {
    let mut rest = text.split_once("try again in ")?.1;
    let mut total = 0.0;
    loop {
        rest = rest.trim_start();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let seconds = match &after[..letters] {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            _ => break,
        };
        let Ok(number) = number.parse::<f64>() else { break };
        total += number * seconds;
        rest = &after[letters..];
    }
    // Far beyond any real limit, and below what `Duration` can hold.
    (total > 0.0 && total < 1e9).then(|| Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(failure: &Failure) -> String {
        match failure {
            Failure::NoModel { model } => format!("NoModel {model}"),
            Failure::RateLimited { retry_after } => format!("RateLimited {retry_after:?}"),
            Failure::UpstreamRejected { code, .. } => format!("UpstreamRejected {code:?}"),
            Failure::UsageLimit { resets_at: Some(at) } if *at > 2_000_000_000 => "UsageLimit later".into(),
            Failure::UsageLimit { resets_at } => format!("UsageLimit {resets_at:?}"),
            other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn a_code_decides_where_it_says_something() {
        let status = |name: &str, status: Option<u16>| json!({ name: { "httpStatusCode": status } });
        let rows = [
            (json!("contextWindowExceeded"), "x", "ContextLength"),
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
            (
                status("httpConnectionFailed", Some(401)),
                "unexpected status 401 Unauthorized: x",
                "UpstreamAuth",
            ),
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
    fn a_prompt_codex_does_not_take_is_too_long() {
        let long = r#"Error: turn/start failed: Input exceeds the maximum length of 1048576 characters. (code -32602), data: {"input_error_code":"input_too_large","max_chars":1048576}"#;
        assert_eq!(exited("exit status: 1", long), Failure::ContextLength);
        assert_eq!(kind(&classify(None, long)), "ContextLength");
        let other = Failure::CodexExited { status: "exit status: 1".into(), detail: "boom".into() };
        assert_eq!(exited("exit status: 1", "boom"), other);
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
                assert!(matches!(failure, Failure::UsageLimit { resets_at: Some(at) } if at > 1_700_000_000));
                continue;
            }
            assert_eq!(kind(&failure), expect, "{message}");
        }
    }

    #[test]
    fn the_kept_text_is_bounded_and_whole_characters() {
        let message = "é".repeat(DETAIL);
        let failure = classify(None, &message);
        let detail = failure.detail().unwrap();
        assert!(detail.len() <= DETAIL + '…'.len_utf8(), "{}", detail.len());
        assert_eq!(detail.chars().filter(|c| *c == 'é').count(), DETAIL / 2);
        let exact = "x".repeat(DETAIL);
        assert_eq!(classify(None, &exact).detail(), Some(exact.as_str()));
    }

    #[test]
    fn the_output_limit_is_told_apart() {
        assert!(is_output_limit(
            "stream disconnected: Incomplete response returned, reason: max_output_tokens"
        ));
        assert!(!is_output_limit("Incomplete response returned, reason: content_filter"));
    }
}
