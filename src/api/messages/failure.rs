//! What went wrong, in Anthropic's envelope.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use crate::api::error::ErrorReply;

/// The code of the one refusal that Anthropic's tool runners take as "go on without `thread`".
const THREAD_UNSUPPORTED: &str = "thread_unsupported_request";

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'static str,
    error: WireError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct WireError<'a> {
    r#type: &'static str,
    message: Cow<'a, str>,
    /// Our own: what scripts tell failures of one type apart by.
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    error_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
}

fn is_overloaded(reply: &ErrorReply) -> bool {
    matches!(&*reply.code, "overloaded" | "upstream_overloaded")
}

/// The status: as in the table, but for what Anthropic has a status of its own.
pub(super) fn status(reply: &ErrorReply) -> StatusCode {
    match StatusCode::from_u16(529) {
        Ok(overloaded) if is_overloaded(reply) => overloaded,
        _ => reply.status,
    }
}

fn kind(reply: &ErrorReply) -> &'static str {
    match reply.status {
        _ if is_overloaded(reply) => "overloaded_error",
        _ if reply.code == "interrupted" => "api_error",
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}

/// `{"type":"error","error":{"type","message","details"},"request_id"}`.
pub(super) fn envelope(reply: &ErrorReply, request_id: &str) -> Bytes {
    let param = reply.param.as_deref();
    let (message, code, param) = match &*reply.code {
        // Claude Code offers to compact a conversation at these words, and at no others.
        code @ "context_length_exceeded" => {
            (Cow::Owned(format!("prompt is too long: {}", reply.message)), code, param)
        }
        "unsupported_parameter" if param == Some("thread") => {
            // Nothing beside it: it is told by what it is, not by what it has.
            (Cow::Borrowed(&*reply.message), THREAD_UNSUPPORTED, None)
        }
        code => (Cow::Borrowed(&*reply.message), code, param),
    };
    let details = Details { error_code: code, param };
    let error = WireError { r#type: kind(reply), message, details };
    let envelope = Envelope { r#type: "error", error, request_id };
    // Strings only: writing them cannot fail.
    serde_json::to_vec(&envelope).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dialect::Dialect;
    use crate::api::error::answer;
    use crate::api::messages::MESSAGES;
    use crate::turn::failure::Rule;
    use crate::turn::{At, Failure, Said};
    use serde_json::{Value, json};
    use std::time::Duration;

    #[test]
    fn every_status_has_anthropics_type() {
        let text = |text: &str| text.to_owned();
        let after = Duration::from_secs(1);
        for (failure, status, kind, code) in [
            (Failure::bad_field("model", "x"), 400, "invalid_request_error", "invalid_value"),
            (Failure::ContextLength, 400, "invalid_request_error", "context_length_exceeded"),
            (Failure::Unauthorized { presented: true }, 401, "authentication_error", "invalid_api_key"),
            (
                Failure::Forbidden { rule: Rule::Host, message: text("x") },
                403,
                "permission_error",
                "host_not_allowed",
            ),
            (Failure::NoRoute { method: text("GET"), path: text("/x") }, 404, "not_found_error", "not_found"),
            (Failure::NoModel { model: text("m") }, 404, "not_found_error", "model_not_found"),
            (Failure::MethodNotAllowed { allow: "POST" }, 405, "invalid_request_error", "method_not_allowed"),
            (Failure::BodyTimeout { after }, 408, "invalid_request_error", "request_timeout"),
            (Failure::BodyTooLarge { limit: 1 }, 413, "request_too_large", "request_too_large"),
            (
                Failure::UnsupportedMediaType { message: text("x") },
                415,
                "invalid_request_error",
                "unsupported_media_type",
            ),
            (Failure::QueueFull { waiting: 1 }, 429, "rate_limit_error", "queue_full"),
            (
                Failure::UsageLimit { resets_at: None, said: Said::default() },
                429,
                "rate_limit_error",
                "insufficient_quota",
            ),
            (Failure::Overloaded, 529, "overloaded_error", "overloaded"),
            (
                Failure::UpstreamOverloaded { detail: text("x"), said: Said::default() },
                529,
                "overloaded_error",
                "upstream_overloaded",
            ),
            (Failure::Interrupted, 499, "api_error", "interrupted"),
            (Failure::Draining, 503, "api_error", "draining"),
            (
                Failure::NotLoggedIn { bin: "codex".into(), program: "/usr/bin/codex".into() },
                503,
                "api_error",
                "not_logged_in",
            ),
            (Failure::NoAnswer, 502, "api_error", "no_answer"),
            (Failure::Internal { detail: text("SECRET") }, 500, "api_error", "internal_error"),
            (Failure::TurnTimedOut { after }, 504, "timeout_error", "turn_timeout"),
        ] {
            let reply = answer(&failure);
            assert_eq!(MESSAGES.status(&reply).as_u16(), status, "{failure:?}");
            let body: Value = serde_json::from_slice(&MESSAGES.error(&reply, "req_1")).unwrap();
            assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &json!("req_1")));
            assert_eq!(
                (&body["error"]["type"], &body["error"]["details"]["error_code"]),
                (&json!(kind), &json!(code)),
                "{failure:?}"
            );
            assert!(!body.to_string().contains("SECRET"));
        }
    }

    #[test]
    fn words_that_clients_go_by_are_exact() {
        let long: Value = serde_json::from_slice(&envelope(&answer(&Failure::ContextLength), "r")).unwrap();
        assert!(long["error"]["message"].as_str().unwrap().starts_with("prompt is too long"), "{long}");
        let thread = Failure::Unsupported { at: At::Field("thread".into()), message: "No.".into() };
        let body: Value = serde_json::from_slice(&envelope(&answer(&thread), "r")).unwrap();
        assert_eq!(
            body,
            json!({"type": "error", "request_id": "r", "error": {
                "type": "invalid_request_error", "message": "No.",
                "details": {"error_code": "thread_unsupported_request"},
            }})
        );
    }
}
