//! The one table from what went wrong to what the client reads.
//!
//! Every answer that is not a success is decided here, so that none can quote what only the log may
//! see: no text below uses a `detail`. The caller's format writes it, and names its own field. The
//! upstream's own words come masked, in a `Said`.

mod reply;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;

use crate::turn::failure::Rule;
use crate::turn::{At, Failure, Said};

use super::dialect::Encoder;

pub use reply::{ErrorReply, response};

/// How soon a client may try again where nothing says better.
const SOON: Duration = Duration::from_secs(1);

/// The table, for who does not know the caller's fields.
pub fn answer(failure: &Failure) -> ErrorReply {
    answer_at(failure, SystemTime::now()).placed(|at| match at {
        At::Field(path) => Some(path.clone()),
        _ => None,
    })
}

/// The table, in the words of the caller's format.
pub fn answer_to(encoder: &dyn Encoder, failure: &Failure) -> ErrorReply {
    answer_at(failure, SystemTime::now()).placed(|at| Some(encoder.path(at)))
}

fn answer_at(failure: &Failure, now: SystemTime) -> ErrorReply {
    match failure {
        Failure::BadRequest { at, message } => {
            ErrorReply { at: at.clone(), ..invalid("invalid_value", message) }
        }
        Failure::BadImage { at, message } => {
            ErrorReply { at: Some(at.clone()), ..invalid("invalid_image_format", message) }
        }
        Failure::Unsupported { at, message } => {
            ErrorReply { at: Some(at.clone()), ..invalid("unsupported_parameter", message) }
        }
        Failure::ContextLength => ErrorReply {
            at: Some(At::Conversation),
            ..invalid(
                "context_length_exceeded",
                "The conversation is longer than the model's context window. Shorten the messages.",
            )
        },
        Failure::Unauthorized { presented } => ErrorReply {
            status: StatusCode::UNAUTHORIZED,
            ..invalid(
                "invalid_api_key",
                if *presented {
                    "The API key is not one this server accepts. Send a key of `api_key` or `api_key_file` as `Authorization: Bearer KEY`."
                } else {
                    "This server needs an API key. Send a key of `api_key` or `api_key_file` as `Authorization: Bearer KEY`."
                },
            )
        },
        Failure::Forbidden { rule, message } => {
            let code = match rule {
                Rule::Host => "host_not_allowed",
                Rule::Origin => "origin_not_allowed",
                Rule::Peer => "peer_not_allowed",
                Rule::Forwarded => "forwarded_not_allowed",
                Rule::Turn => "turn_not_allowed",
            };
            refused(StatusCode::FORBIDDEN, "permission_error", code, message)
        }
        Failure::NoRoute { method, path } => ErrorReply {
            status: StatusCode::NOT_FOUND,
            ..invalid("not_found", format!("There is no route {} {}.", excerpt(method), excerpt(path)))
        },
        Failure::NotFound { at, message } => ErrorReply {
            status: StatusCode::NOT_FOUND,
            at: at.clone(),
            ..invalid("not_found", message)
        },
        Failure::MethodNotAllowed { allow } => ErrorReply {
            status: StatusCode::METHOD_NOT_ALLOWED,
            allow: Some(allow),
            ..invalid("method_not_allowed", format!("This route takes {allow} only."))
        },
        Failure::NoModel { model } if model.is_empty() => ErrorReply {
            status: StatusCode::NOT_FOUND,
            at: Some(At::Model),
            ..invalid(
                "model_not_found",
                "The default model of this server's Codex does not exist or this account may not use it. Name another in the request, or set `model`.",
            )
        },
        Failure::NoModel { model } => ErrorReply {
            status: StatusCode::NOT_FOUND,
            at: Some(At::Model),
            ..invalid(
                "model_not_found",
                format!(
                    "The model `{}` does not exist or this account may not use it. Use `codex-local` for the default model, or map the name with `model_aliases`.",
                    excerpt(model)
                ),
            )
        },
        Failure::BodyTimeout { after } => ErrorReply {
            status: StatusCode::REQUEST_TIMEOUT,
            ..invalid(
                "request_timeout",
                format!("The request body did not arrive within {}.", seconds(*after)),
            )
        },
        Failure::BodyTooLarge { limit } => ErrorReply {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..invalid(
                "request_too_large",
                format!(
                    "The request body is larger than `max_body_bytes` ({limit} bytes, counted after decompression too)."
                ),
            )
        },
        Failure::UnsupportedMediaType { message } => ErrorReply {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ..invalid("unsupported_media_type", message)
        },
        Failure::Overloaded => wait(
            unavailable(
                "overloaded",
                "The request bodies being held together exceed `max_buffered_bytes`. Try again shortly.",
            ),
            SOON,
        ),
        Failure::QueueFull { waiting } => wait(
            limited(
                "rate_limit_error",
                "queue_full",
                format!(
                    "The queue is full: {waiting} turns are waiting (`max_queue_size`). Try again later."
                ),
            ),
            SOON,
        ),
        Failure::QueueTimeout { after } => wait(
            limited(
                "rate_limit_error",
                "queue_timeout",
                format!(
                    "No turn became free within {} (`queue_timeout_seconds`). Try again later.",
                    seconds(*after)
                ),
            ),
            SOON,
        ),
        Failure::EventsFull { open } => wait(
            limited(
                "rate_limit_error",
                "events_full",
                format!("{open} streams of events are open, which is all there may be. Try again later."),
            ),
            SOON,
        ),
        // As gRPC's CANCELLED over HTTP: no client sends again by itself what somebody has ended.
        Failure::Interrupted => refused(
            StatusCode::from_u16(499).unwrap_or(StatusCode::CONFLICT),
            "api_error",
            "interrupted",
            "The request was interrupted on the server before its answer was complete.",
        ),
        Failure::Draining => wait(
            unavailable("draining", "The server is stopping and takes no new requests. Try again shortly."),
            SOON,
        ),
        // What is broken names files of the host; `config check` and the log tell it to the operator.
        Failure::Misconfigured => unavailable(
            "misconfigured",
            "The server's settings are broken. Run `codex-api-proxy config check` on its machine.",
        ),
        Failure::RateLimited { retry_after, said } => ErrorReply {
            retry_after: *retry_after,
            ..limited(
                "rate_limit_error",
                "rate_limit_exceeded",
                with("The model service asks to slow down. Try again later.", said),
            )
        }
        .no_retry(),
        Failure::UsageLimit { resets_at, said } => {
            let limit = usage_limit(*resets_at, now);
            ErrorReply { message: with(limit.message, said), ..limit }.no_retry()
        },
        Failure::CodexMissing { bin } => unavailable(
            "codex_missing",
            format!("The Codex CLI `{bin}` cannot be found or run. Install it or set `codex_bin`."),
        ),
        Failure::CodexRefused { .. } => unavailable(
            "codex_refused",
            "Other users could change the program that `codex_bin` names on the machine of this server: it is \
             not run. `codex-api-proxy doctor` there names what to mend.",
        ),
        Failure::CodexTooOld { found, needs } => unavailable(
            "codex_too_old",
            format!(
                "The Codex CLI is version {found}; {needs} or newer is needed. Update it or set `codex_bin`."
            ),
        ),
        Failure::CodexLacks { found, feature } => unavailable(
            "codex_too_old",
            format!(
                "The app-server of the Codex CLI, version {found}, has no {feature}. Update it, set \
                 `codex_bin`, or set `engine` to `exec`."
            ),
        ),
        Failure::NotLoggedIn { bin, .. } => unavailable(
            "not_logged_in",
            format!("The Codex CLI is not logged in. Run `{bin} login` on the machine of this server."),
        ),
        // The next turn finds the login that is there now, or that there is none.
        Failure::LoginChanged => wait(
            unavailable(
                "not_logged_in",
                "The Codex login of this server was removed or replaced while the turn ran. Send the request again.",
            ),
            SOON,
        ),
        Failure::LoginNotPortable => unavailable(
            "login_not_portable",
            "The Codex login is kept in a keyring and cannot be used from the isolated home. \
            Either set `cli_auth_credentials_store = \"file\"` in Codex's configuration and log in again, \
            or log in once with CODEX_HOME set to `app_server_codex_home`.",
        ),
        Failure::ReadsNotConfined { .. } => unavailable(
            "reads_not_confined",
            "`agent_reads` is `workspace`, and on this machine nothing keeps Codex's tools from reading \
             other files. `codex-api-proxy doctor` on it says why. Set `agent_reads` to `auto` to go without, \
             or `profile` to `model`.",
        ),
        Failure::HomeRefused { .. } => unavailable(
            "misconfigured",
            "The isolated Codex home (`app_server_codex_home`) cannot be used. The server's log says why.",
        ),
        Failure::StateRefused { folder, .. } => unavailable(
            "state_refused",
            format!(
                "Other users could change {folder} of this server, or it is a link: it is not used. \
                 `codex-api-proxy doctor` on its machine names what to mend."
            ),
        ),
        Failure::StateNotWritable { folder, .. } => unavailable(
            "state_not_writable",
            format!(
                "This server cannot write to {folder}: it is full, read-only or not permitted. \
                 `codex-api-proxy doctor` on its machine says more."
            ),
        ),
        Failure::UpstreamAuth { bin, said, .. } => bad_gateway(
            "upstream_auth",
            with(
                format!(
                    "The model service refused the account's credentials. Run `{bin} login` again on the machine of this server."
                ),
                said,
            ),
        ),
        Failure::UpstreamRejected { code, said, .. } => ErrorReply {
            code: code
                .as_deref()
                .filter(|code| is_identifier(code))
                .map_or("upstream_rejected".into(), |code| code.to_owned().into()),
            ..invalid(
                "upstream_rejected",
                match said.shown() {
                    Some(why) => format!("The model service refused the request: {why}"),
                    None => "The model service refused the request for its content.".to_owned(),
                },
            )
        },
        Failure::LeanRequestRefused { said, .. } => bad_gateway(
            "lean_request_refused",
            with(
                "The model service refused the request without Codex's own instructions. Set `profile` to `agent`.",
                said,
            ),
        ),
        Failure::UpstreamOverloaded { said, .. } => unavailable(
            "upstream_overloaded",
            with("The model service is overloaded. Try again later.", said),
        ),
        Failure::UpstreamUnreachable { .. } => bad_gateway(
            "upstream_unreachable",
            "The model service cannot be reached. Check the network and `proxy`.",
        ),
        Failure::CodexFailed { said, .. } => bad_gateway(
            "codex_failed",
            match said.shown() {
                Some(why) => format!("Codex failed to answer: {why}"),
                // Its own words may quote the prompt and are in no log.
                None => "Codex failed to answer. The server's log has the status and code that it told, under this request's id.".to_owned(),
            },
        ),
        Failure::CodexExited { status, .. } => bad_gateway(
            "codex_exited",
            format!(
                "The Codex process ended before it answered ({status}). The server's log has what can be told of it, under this request's id."
            ),
        ),
        Failure::NoAnswer => bad_gateway("no_answer", "The turn completed without an answer."),
        Failure::InvalidJsonOutput => bad_gateway(
            "invalid_json_output",
            "The model was asked for JSON, an object or of a schema, and answered something else.",
        ),
        Failure::InvalidToolArguments => bad_gateway(
            "invalid_tool_arguments",
            "The model called a function with arguments that are no JSON object.",
        ),
        Failure::ToolChoiceNotHonoured => bad_gateway(
            "tool_choice_not_honoured",
            "The model was told to call a function (`tool_choice`) and did not.",
        ),
        Failure::TurnTimedOut { after } => timeout(
            "turn_timeout",
            format!("The turn took longer than {} (`timeout_seconds`).", seconds(*after)),
        ),
        Failure::FirstEventTimedOut { after } => timeout(
            "first_event_timeout",
            format!("Codex was silent for longer than {} (`first_event_timeout_seconds`).", seconds(*after)),
        ),
        Failure::ClientTooSlow => {
            timeout("client_too_slow", "The client read the answer too slowly and the turn was given up.")
        }
        Failure::Internal { .. } => refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "internal_error",
            "The server has a defect. Its log has the reason.",
        ),
    }
}

impl ErrorReply {
    /// Says which part is wrong by the name that the caller's format has for it.
    fn placed(mut self, name: impl FnOnce(&At) -> Option<String>) -> ErrorReply {
        let Some(at) = &self.at else { return self };
        self.param = name(at);
        if !matches!(at, At::Field(_)) {
            self.message =
                self.message.replace("{at}", self.param.as_deref().unwrap_or("A part of the request"));
        }
        self
    }

    fn no_retry(self) -> ErrorReply {
        ErrorReply { retry: false, ..self }
    }
}

/// Our sentence, and behind it what the model service said.
fn with(ours: impl Into<String>, said: &Said) -> String {
    let ours = ours.into();
    match said.shown() {
        Some(why) => format!("{ours} It said: {why}"),
        None => ours,
    }
}

fn refused(
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: impl Into<String>,
) -> ErrorReply {
    ErrorReply {
        status,
        kind,
        code: code.into(),
        at: None,
        param: None,
        message: message.into(),
        retry: false,
        retry_after: None,
        allow: None,
    }
}

fn invalid(code: &'static str, message: impl Into<String>) -> ErrorReply {
    refused(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
}

fn limited(kind: &'static str, code: &'static str, message: impl Into<String>) -> ErrorReply {
    refused(StatusCode::TOO_MANY_REQUESTS, kind, code, message)
}

fn bad_gateway(code: &'static str, message: impl Into<String>) -> ErrorReply {
    refused(StatusCode::BAD_GATEWAY, "api_error", code, message)
}

fn unavailable(code: &'static str, message: impl Into<String>) -> ErrorReply {
    refused(StatusCode::SERVICE_UNAVAILABLE, "server_error", code, message)
}

fn timeout(code: &'static str, message: impl Into<String>) -> ErrorReply {
    refused(StatusCode::GATEWAY_TIMEOUT, "timeout_error", code, message)
}

/// Nothing was spent: a client may send the request again by itself after a while.
fn wait(answer: ErrorReply, after: Duration) -> ErrorReply {
    ErrorReply { retry: true, retry_after: Some(after), ..answer }
}

fn usage_limit(resets_at: Option<u64>, now: SystemTime) -> ErrorReply {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = "The usage limit of the account is reached.";
    let (message, retry_after) = match resets_at {
        Some(at) => {
            let left = Duration::from_secs(at.saturating_sub(now));
            (format!("{text} It resets at Unix time {at}, in {}.", seconds(left)), Some(left))
        }
        None => (format!("{text} Try again later."), None),
    };
    ErrorReply { retry_after, ..limited("insufficient_quota", "insufficient_quota", message) }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// Whether an upstream's code is one, and not a sentence that may quote the prompt.
fn is_identifier(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// What a client sent, fit to be quoted back: not endless, no control characters.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 128;
    let mut excerpt: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        excerpt.push('…');
    }
    excerpt
}

/// What the HTTP layer itself refuses, by the status it chose.
pub fn malformed(status: StatusCode) -> ErrorReply {
    let (code, message) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ("headers_too_large", "The request's header section is too large.")
        }
        StatusCode::URI_TOO_LONG => ("uri_too_long", "The request's URI is too long."),
        StatusCode::REQUEST_TIMEOUT => {
            ("request_timeout", "The request's header section did not arrive in time.")
        }
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
            ("http_version_not_supported", "This server speaks HTTP/1.1.")
        }
        _ => ("malformed_request", "The request is not valid HTTP/1.1."),
    };
    refused(status, "invalid_request_error", code, message)
}

#[cfg(test)]
mod tests;
