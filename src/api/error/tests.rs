use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::api::chat::CHAT;
use crate::api::dialect::Dialect;
use crate::api::dialect::{Frames, Heading, RequestParts, Wanted};
use crate::api::remembered::Remembered;
use crate::turn::failure::Folder;
use crate::turn::{Caller, Said};

const NOW: u64 = 1_700_000_000;

/// Every variant; `detail`s are what no client may see.
fn all() -> Vec<Failure> {
    let text = |text: &str| text.to_owned();
    let detail = || "SECRET".to_owned();
    let said = || Said::new("SECRET");
    let two = Duration::from_secs(2);
    vec![
        Failure::bad_field("messages[0].role", "Unknown role."),
        Failure::BadRequest { at: None, message: text("Not JSON.") },
        Failure::BadImage { at: At::Field("messages[0]".into()), message: text("Cut.") },
        Failure::Unsupported { at: At::Tools, message: text("Set `engine`.") },
        Failure::ContextLength,
        Failure::Unauthorized { presented: false },
        Failure::Unauthorized { presented: true },
        Failure::Forbidden { rule: Rule::Host, message: text("Host.") },
        Failure::Forbidden { rule: Rule::Origin, message: text("Origin.") },
        Failure::Forbidden { rule: Rule::Peer, message: text("Peer.") },
        Failure::Forbidden { rule: Rule::Forwarded, message: text("Forwarded.") },
        Failure::Forbidden { rule: Rule::Turn, message: text("Another's.") },
        Failure::NoRoute { method: text("GET"), path: text("/v2\n") },
        Failure::NotFound { at: None, message: text("Nothing is stored.") },
        Failure::MethodNotAllowed { allow: "GET, HEAD" },
        Failure::NoModel { model: text("gpt-9") },
        Failure::BodyTimeout { after: Duration::from_millis(2500) },
        Failure::BodyTooLarge { limit: 33_554_432 },
        Failure::UnsupportedMediaType { message: text("Send JSON.") },
        Failure::Overloaded,
        Failure::QueueFull { waiting: 64 },
        Failure::QueueTimeout { after: two },
        Failure::EventsFull { open: 16 },
        Failure::Interrupted,
        Failure::Draining,
        Failure::Misconfigured,
        Failure::RateLimited { retry_after: Some(Duration::from_millis(1500)), said: said() },
        Failure::RateLimited { retry_after: None, said: said() },
        Failure::UsageLimit { resets_at: Some(NOW + 90), said: said() },
        Failure::UsageLimit { resets_at: Some(NOW - 90), said: said() },
        Failure::UsageLimit { resets_at: None, said: said() },
        Failure::CodexMissing { bin: text("codex") },
        Failure::CodexRefused { detail: detail() },
        Failure::CodexTooOld { found: text("0.1.0"), needs: "0.140.0" },
        Failure::CodexLacks { found: text("0.199.0"), feature: "turn/start" },
        Failure::NotLoggedIn { bin: text("codex"), program: "/detail/codex".into() },
        Failure::LoginChanged,
        Failure::NoModel { model: String::new() },
        Failure::LoginNotPortable,
        Failure::ReadsNotConfined { detail: detail() },
        Failure::HomeRefused { detail: detail() },
        Failure::StateRefused { folder: Folder::Workspace, detail: detail() },
        Failure::StateNotWritable { folder: Folder::State, detail: detail() },
        Failure::StateNotWritable { folder: Folder::Home, detail: detail() },
        Failure::UpstreamAuth { bin: text("codex"), detail: detail(), said: said() },
        Failure::UpstreamRejected { code: Some(text("invalid_image")), detail: detail(), said: said() },
        Failure::UpstreamRejected { code: Some(text("the prompt SECRET")), detail: detail(), said: said() },
        Failure::UpstreamRejected { code: None, detail: detail(), said: said() },
        Failure::LeanRequestRefused { detail: detail(), said: said() },
        Failure::UpstreamOverloaded { detail: detail(), said: said() },
        Failure::UpstreamUnreachable { detail: detail() },
        Failure::CodexFailed { detail: detail(), said: said() },
        Failure::CodexExited { status: text("signal: 9"), detail: detail() },
        Failure::NoAnswer,
        Failure::InvalidJsonOutput,
        Failure::InvalidToolArguments,
        Failure::ToolChoiceNotHonoured,
        Failure::TurnTimedOut { after: Duration::from_secs(300) },
        Failure::FirstEventTimedOut { after: two },
        Failure::ClientTooSlow,
        Failure::Internal { detail: detail() },
    ]
}

/// `status type code param retry retry-after-ms allow | message`, one line each, in that order.
const TABLE: &str = "\
400 invalid_request_error invalid_value messages[0].role false - - | Unknown role.
400 invalid_request_error invalid_value - false - - | Not JSON.
400 invalid_request_error invalid_image_format messages[0] false - - | Cut.
400 invalid_request_error unsupported_parameter tools false - - | Set `engine`.
400 invalid_request_error context_length_exceeded messages false - - | The conversation is longer than the model's context window. Shorten the messages.
401 invalid_request_error invalid_api_key - false - - | This server needs an API key. Send a key of `api_key` or `api_key_file` as `Authorization: Bearer KEY`.
401 invalid_request_error invalid_api_key - false - - | The API key is not one this server accepts. Send a key of `api_key` or `api_key_file` as `Authorization: Bearer KEY`.
403 permission_error host_not_allowed - false - - | Host.
403 permission_error origin_not_allowed - false - - | Origin.
403 permission_error peer_not_allowed - false - - | Peer.
403 permission_error forwarded_not_allowed - false - - | Forwarded.
403 permission_error turn_not_allowed - false - - | Another's.
404 invalid_request_error not_found - false - - | There is no route GET /v2\u{fffd}.
404 invalid_request_error not_found - false - - | Nothing is stored.
405 invalid_request_error method_not_allowed - false - GET, HEAD | This route takes GET, HEAD only.
404 invalid_request_error model_not_found model false - - | The model `gpt-9` does not exist or this account may not use it. Use `codex-local` for the default model, or map the name with `model_aliases`.
408 invalid_request_error request_timeout - false - - | The request body did not arrive within 2.5 s.
413 invalid_request_error request_too_large - false - - | The request body is larger than `max_body_bytes` (33554432 bytes, counted after decompression too).
415 invalid_request_error unsupported_media_type - false - - | Send JSON.
503 server_error overloaded - true 1000 - | The request bodies being held together exceed `max_buffered_bytes`. Try again shortly.
429 rate_limit_error queue_full - true 1000 - | The queue is full: 64 turns are waiting (`max_queue_size`). Try again later.
429 rate_limit_error queue_timeout - true 1000 - | No turn became free within 2 s (`queue_timeout_seconds`). Try again later.
429 rate_limit_error events_full - true 1000 - | 16 streams of events are open, which is all there may be. Try again later.
499 api_error interrupted - false - - | The request was interrupted on the server before its answer was complete.
503 server_error draining - true 1000 - | The server is stopping and takes no new requests. Try again shortly.
503 server_error misconfigured - false - - | The server's settings are broken. Run `codex-api-proxy config check` on its machine.
429 rate_limit_error rate_limit_exceeded - false 1500 - | The model service asks to slow down. Try again later.
429 rate_limit_error rate_limit_exceeded - false - - | The model service asks to slow down. Try again later.
429 insufficient_quota insufficient_quota - false 90000 - | The usage limit of the account is reached. It resets at Unix time 1700000090, in 90 s.
429 insufficient_quota insufficient_quota - false 0 - | The usage limit of the account is reached. It resets at Unix time 1699999910, in 0 s.
429 insufficient_quota insufficient_quota - false - - | The usage limit of the account is reached. Try again later.
503 server_error codex_missing - false - - | The Codex CLI `codex` cannot be found or run. Install it or set `codex_bin`.
503 server_error codex_refused - false - - | Other users could change the program that `codex_bin` names on the machine of this server: it is not run. `codex-api-proxy doctor` there names what to mend.
503 server_error codex_too_old - false - - | The Codex CLI is version 0.1.0; 0.140.0 or newer is needed. Update it or set `codex_bin`.
503 server_error codex_too_old - false - - | The app-server of the Codex CLI, version 0.199.0, has no turn/start. Update it, set `codex_bin`, or set `engine` to `exec`.
503 server_error not_logged_in - false - - | The Codex CLI is not logged in. Run `codex login` on the machine of this server.
503 server_error not_logged_in - true 1000 - | The Codex login of this server was removed or replaced while the turn ran. Send the request again.
404 invalid_request_error model_not_found model false - - | The default model of this server's Codex does not exist or this account may not use it. Name another in the request, or set `model`.
503 server_error login_not_portable - false - - | The Codex login is kept in a keyring and cannot be used from the isolated home. Either set `cli_auth_credentials_store = \"file\"` in Codex's configuration and log in again, or log in once with CODEX_HOME set to `app_server_codex_home`.
503 server_error reads_not_confined - false - - | `agent_reads` is `workspace`, and on this machine nothing keeps Codex's tools from reading other files. `codex-api-proxy doctor` on it says why. Set `agent_reads` to `auto` to go without, or `profile` to `model`.
503 server_error misconfigured - false - - | The isolated Codex home (`app_server_codex_home`) cannot be used. The server's log says why.
503 server_error state_refused - false - - | Other users could change the workspace (default_cwd) of this server, or it is a link: it is not used. `codex-api-proxy doctor` on its machine names what to mend.
503 server_error state_not_writable - false - - | This server cannot write to the state folder (STATE_DIRECTORY, else ~/.codex-api-proxy): it is full, read-only or not permitted. `codex-api-proxy doctor` on its machine says more.
503 server_error state_not_writable - false - - | This server cannot write to the isolated CODEX_HOME (app_server_codex_home): it is full, read-only or not permitted. `codex-api-proxy doctor` on its machine says more.
502 api_error upstream_auth - false - - | The model service refused the account's credentials. Run `codex login` again on the machine of this server.
400 invalid_request_error invalid_image - false - - | The model service refused the request for its content.
400 invalid_request_error upstream_rejected - false - - | The model service refused the request for its content.
400 invalid_request_error upstream_rejected - false - - | The model service refused the request for its content.
502 api_error lean_request_refused - false - - | The model service refused the request without Codex's own instructions. Set `profile` to `agent`.
503 server_error upstream_overloaded - false - - | The model service is overloaded. Try again later.
502 api_error upstream_unreachable - false - - | The model service cannot be reached. Check the network and `proxy`.
502 api_error codex_failed - false - - | Codex failed to answer. The server's log has the status and code that it told, under this request's id.
502 api_error codex_exited - false - - | The Codex process ended before it answered (signal: 9). The server's log has what can be told of it, under this request's id.
502 api_error no_answer - false - - | The turn completed without an answer.
502 api_error invalid_json_output - false - - | The model was asked for JSON, an object or of a schema, and answered something else.
502 api_error invalid_tool_arguments - false - - | The model called a function with arguments that are no JSON object.
502 api_error tool_choice_not_honoured - false - - | The model was told to call a function (`tool_choice`) and did not.
504 timeout_error turn_timeout - false - - | The turn took longer than 300 s (`timeout_seconds`).
504 timeout_error first_event_timeout - false - - | Codex was silent for longer than 2 s (`first_event_timeout_seconds`).
504 timeout_error client_too_slow - false - - | The client read the answer too slowly and the turn was given up.
500 server_error internal_error - false - - | The server has a defect. Its log has the reason.
";

/// The format whose words the table is in.
fn chat() -> Box<dyn Encoder> {
    let parts = RequestParts {
        body: r#"{"model": "m", "messages": [{"role": "user", "content": "x"}]}"#,
        headers: &HeaderMap::new(),
        query: None,
        heading: Heading::default(),
        wanted: &Wanted::default(),
        remembered: &Remembered::new(0).of(&Caller::Unknown),
    };
    CHAT.decode(&parts, &crate::config::Config::default()).unwrap().encoder
}

/// What goes out, body and head.
fn sent(failure: &Failure) -> (warp::reply::Response, Bytes) {
    let reply = answer_to(&*chat(), failure);
    (response(&reply, &CHAT, "r"), CHAT.error(&reply, "r"))
}

fn row(answer: &ErrorReply) -> String {
    let ErrorReply { status, kind, code, at, param: _, message, retry, retry_after, allow } = answer;
    let param = at.as_ref().map_or("-".into(), |at| chat().path(at));
    let after = retry_after.map_or("-".to_owned(), |after| after.as_millis().to_string());
    let allow = allow.unwrap_or("-");
    format!("{} {kind} {code} {param} {retry} {after} {allow} | {message}", status.as_u16())
}

/// The names of all variants, from the source: the compiler lists them for no one.
fn variants() -> Vec<&'static str> {
    let source = include_str!("../../turn/failure.rs");
    let body = source.split("pub enum Failure {").nth(1).unwrap().split("\n}").next().unwrap();
    let variants: Vec<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| line.trim_end_matches([' ', '{', ',']))
        .collect();
    assert!(variants.contains(&"BadRequest") && variants.contains(&"Internal"), "{variants:?}");
    variants
}

#[test]
fn every_failure_has_its_row() {
    let failures = all();
    for variant in variants() {
        assert!(
            failures.iter().any(|failure| format!("{failure:?}").starts_with(variant)),
            "{variant} is missing"
        );
    }
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let rows: Vec<String> = failures.iter().map(|failure| row(&answer_at(failure, now))).collect();
    for (row, expect) in rows.iter().zip(TABLE.lines()) {
        assert_eq!(row, expect);
    }
    assert_eq!(rows.len(), TABLE.lines().count());
}

#[test]
fn what_the_model_service_said_stands_behind_our_own_sentence() {
    use crate::turn::{Item, Part, Role, Turn, Workdir};
    let question = Item::message(Role::User, vec![Part::Text("look at /srv/mine".into())]);
    let turn = Turn::new([question], Workdir::unseen(std::path::Path::new("/")));
    let said = || Said::new("no /srv/mine,\nno /srv/yours for org-AbC123dEf456");
    let masked = "no /srv/mine, no *** for ***";
    let detail = String::new;
    let text = str::to_owned;
    for (failure, expect) in [
        (
            Failure::RateLimited { retry_after: None, said: said() },
            text("The model service asks to slow down. Try again later. It said: "),
        ),
        (
            Failure::UsageLimit { resets_at: None, said: said() },
            text("The usage limit of the account is reached. Try again later. It said: "),
        ),
        (
            Failure::UsageLimit { resets_at: Some(NOW + 90), said: said() },
            text(
                "The usage limit of the account is reached. It resets at Unix time 1700000090, in 90 s. It said: ",
            ),
        ),
        (
            Failure::UpstreamAuth { bin: text("codex"), detail: detail(), said: said() },
            text(
                "The model service refused the account's credentials. Run `codex login` again on the machine of this server. It said: ",
            ),
        ),
        (
            Failure::UpstreamRejected { code: None, detail: detail(), said: said() },
            text("The model service refused the request: "),
        ),
        (
            Failure::LeanRequestRefused { detail: detail(), said: said() },
            text(
                "The model service refused the request without Codex's own instructions. Set `profile` to `agent`. It said: ",
            ),
        ),
        (
            Failure::UpstreamOverloaded { detail: detail(), said: said() },
            text("The model service is overloaded. Try again later. It said: "),
        ),
        (Failure::CodexFailed { detail: detail(), said: said() }, text("Codex failed to answer: ")),
    ] {
        let reply = answer_at(&failure.shown_to(&turn), UNIX_EPOCH + Duration::from_secs(NOW));
        assert_eq!(reply.message, expect + masked);
    }
}

#[test]
fn no_answer_shows_what_only_the_log_may_see() {
    for failure in all() {
        let (response, body) = sent(&failure);
        let seen = format!("{:?} {body:?}", response.headers());
        assert!(!seen.contains("SECRET"), "{failure:?}: {seen}");
    }
}

#[test]
fn the_envelope_is_openais() {
    let check = |failure: Failure, expect: serde_json::Value| {
        let body: serde_json::Value = serde_json::from_slice(&sent(&failure).1).unwrap();
        assert_eq!(body, expect);
        let mut out = Frames::default();
        chat().fail(&answer_to(&*chat(), &failure), &mut out);
        let event = out.pop().unwrap();
        let event = std::str::from_utf8(&event).unwrap();
        let data = event.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(data).unwrap(), expect);
    };
    check(
        Failure::bad_field("n", "Two\nlines \"quoted\"."),
        json!({"error": {
            "message": "Two\nlines \"quoted\".", "type": "invalid_request_error", "param": "n", "code": "invalid_value"
        }}),
    );
    check(
        Failure::NoAnswer,
        json!({"error": {
            "message": "The turn completed without an answer.", "type": "api_error", "param": null, "code": "no_answer"
        }}),
    );
}

#[test]
fn headers_tell_when_and_whether_to_retry() {
    let check = |failure: Failure, expect: &[(&str, &str)]| {
        let (response, _) = sent(&failure);
        let mut headers: Vec<(&str, &str)> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        headers.sort();
        assert_eq!(headers, expect, "{failure:?}");
    };
    let json = ("content-type", "application/json");
    check(Failure::NoAnswer, &[json, ("x-should-retry", "false")]);
    check(
        Failure::MethodNotAllowed { allow: "POST" },
        &[("allow", "POST"), json, ("x-should-retry", "false")],
    );
    check(
        Failure::Unauthorized { presented: true },
        &[json, ("www-authenticate", "Bearer"), ("x-should-retry", "false")],
    );
    check(
        Failure::Draining,
        &[json, ("retry-after", "1"), ("retry-after-ms", "1000"), ("x-should-retry", "true")],
    );
    check(
        Failure::RateLimited { retry_after: Some(Duration::from_millis(1001)), said: Said::default() },
        &[json, ("retry-after", "2"), ("retry-after-ms", "1001"), ("x-should-retry", "false")],
    );
}

#[test]
fn what_a_client_sent_is_quoted_briefly_and_harmlessly() {
    let check = |text: &str, expect: &str| assert_eq!(excerpt(text), expect);
    check("/v1/é", "/v1/é");
    check("a\r\nb\0\u{1b}[31m", "a\u{fffd}\u{fffd}b\u{fffd}\u{fffd}[31m");
    check(&"x".repeat(128), &"x".repeat(128));
    check(&"x".repeat(129), &format!("{}…", "x".repeat(128)));
}

#[test]
fn a_refusal_on_the_wire_is_a_whole_http_answer() {
    let wire = malformed(StatusCode::URI_TOO_LONG).wire();
    let (head, body) = std::str::from_utf8(&wire).unwrap().split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next().unwrap(), "HTTP/1.1 414 URI Too Long");
    assert!(lines.any(|line| line == format!("content-length: {}", body.len())), "{head}");
    assert!(head.ends_with("connection: close"), "{head}");
    assert!(body.contains("\"code\":\"uri_too_long\""), "{body}");
}
