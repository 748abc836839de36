//! What Codex says went wrong, as one of our [`Failure`]s.
//!
//! The app-server gives a code (`codexErrorInfo`) and a text, `codex exec` the text alone, and the
//! code `other` says nothing, so every rule that matters has a form that works on the text. The
//! text may quote the upstream, and the upstream the prompt: it goes into a [`Said`], which does not
//! print; `detail` has status, code, type and length only.

mod reset;

use std::time::Duration;

use jiff::ZonedDateTime;
use serde_json::Value;

use crate::turn::{Failure, Said};

/// How the sentences begin, in lower case, that Codex has in the place of the upstream's.
const CODEXS_OWN: &[&str] = &[
    "exceeded retry limit",
    "you've hit your usage limit",
    "quota exceeded.",
    "selected model is at capacity",
    "your access token could not be refreshed",
];

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
        false => Failure::CodexExited { status: exit.to_owned(), detail: before_prompt(stderr) },
    }
}

/// The stderr of a process that cannot have read the prompt: its own command line or configuration
/// stopped it. Any other may quote the prompt, and only its length is told.
pub fn before_prompt(stderr: &str) -> String {
    const REFUSALS: &[&str] = &["error: ", "Error loading config", "Error parsing -c overrides"];
    let refused = REFUSALS.iter().any(|refusal| stderr.trim_start().starts_with(refusal));
    if refused { stderr.to_owned() } else { format!("{} bytes on its stderr", stderr.len()) }
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
    let said = Told::read(message, status);
    match name {
        "contextWindowExceeded" => Failure::ContextLength,
        "usageLimitExceeded" | "sessionBudgetExceeded" => said.usage_limit(),
        "rateLimitExceeded" => said.rate_limited(),
        "serverOverloaded" | "flexUnavailable" | "policyCapacityUnavailable" => said.overloaded(),
        "modelNotFound" => said.no_model(),
        "unauthorized" if said.login_changed() => Failure::LoginChanged,
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

/// A name of a program's, not a text of somebody's.
fn is_identifier(word: &str) -> bool {
    word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// One error text, taken apart once.
struct Told<'a> {
    text: &'a str,
    /// The same in lower case, for matching.
    lower: String,
    /// The upstream's HTTP status, if known.
    status: Option<u64>,
    /// The upstream's JSON body, if the text contains one.
    body: Option<Value>,
}

impl Told<'_> {
    fn read(text: &str, status: Option<u64>) -> Told<'_> {
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
        Told { text, lower, status, body }
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

    /// Codex's own words for a login that is not the one it began with.
    fn login_changed(&self) -> bool {
        self.has(&["you have since logged out or signed in to another account"])
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
            _ if self.login_changed() => Failure::LoginChanged,
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

    /// What the log may have: no word of the text, which may quote the prompt.
    fn detail(&self) -> String {
        let status = self.status.map(|status| format!("HTTP {status}, "));
        let named = |name: &str| {
            let word = self.field(name)?.as_str().filter(|word| is_identifier(word))?;
            Some(format!("{name} {word}, "))
        };
        let parts = [status, named("code"), named("type"), Some(format!("{} bytes", self.text.len()))];
        format!("codex or the model service said: {}", parts.into_iter().flatten().collect::<String>())
    }

    /// The upstream's message, or the text where there is no body with one, without what Codex puts
    /// around it: `unexpected status 401 Unauthorized: MESSAGE, url: …, request id: …`.
    fn said(&self) -> Said {
        let message = self.field("message").or_else(|| self.field("detail")).and_then(Value::as_str);
        Said::new(message.unwrap_or_else(|| {
            let text = self.text.strip_prefix("rate limit exceeded: ").unwrap_or(self.text);
            let told = text
                .strip_prefix("unexpected status ")
                .and_then(|rest| rest.split_once(": "))
                .map(|(_, told)| told.rsplit_once(", url: ").map_or(told, |(told, _)| told).trim());
            told.filter(|told| !told.is_empty()).unwrap_or(text)
        }))
    }

    /// The same, unless Codex made the sentence up itself, which adds nothing to ours.
    fn said_by_upstream(&self) -> Said {
        let own = CODEXS_OWN.iter().any(|lead| self.lower.replace('’', "'").starts_with(lead));
        if own && self.body.is_none() { Said::default() } else { self.said() }
    }

    fn usage_limit(&self) -> Failure {
        let number = |name: &str| self.field(name).and_then(Value::as_u64);
        let now = ZonedDateTime::now();
        let after =
            || number("resets_in_seconds").map(Duration::from_secs).or_else(|| reset::delay(&self.lower));
        let later = |after: Duration| now.checked_add(after).ok()?.timestamp().as_second().try_into().ok();
        let resets_at = number("resets_at").or_else(|| reset::time(&self.lower, &now));
        Failure::UsageLimit {
            resets_at: resets_at.or_else(|| after().and_then(later)),
            said: self.said_by_upstream(),
        }
    }

    fn rate_limited(&self) -> Failure {
        Failure::RateLimited { retry_after: reset::delay(&self.lower), said: self.said_by_upstream() }
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
        let code = code.or_else(|| self.code()).filter(|code| is_identifier(code));
        Failure::UpstreamRejected { code: code.map(str::to_owned), detail: self.detail(), said: self.said() }
    }

    fn auth(&self) -> Failure {
        Failure::UpstreamAuth { bin: "codex".into(), detail: self.detail(), said: self.said_by_upstream() }
    }

    fn overloaded(&self) -> Failure {
        Failure::UpstreamOverloaded { detail: self.detail(), said: self.said_by_upstream() }
    }

    fn unreachable(&self) -> Failure {
        Failure::UpstreamUnreachable { detail: self.detail() }
    }

    fn failed(&self) -> Failure {
        Failure::CodexFailed { detail: self.detail(), said: self.said() }
    }
}

#[cfg(test)]
mod tests;
