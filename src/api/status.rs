//! The pages about the server itself: `/health`, `/ready`, `/metrics`, `/`.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use warp::reply::Response;

use crate::codex::{Continuation, Survey};
use crate::config::Config;
use crate::engine::Workers;
use crate::observe::{Gauges, prometheus as text_format};

use crate::turn::Failure;

use super::error::ErrorReply;
use super::remembered::KEPT;
use super::{App, error, models};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// `system_fingerprint`: what produced the answer.
pub fn fingerprint(app: &App) -> String {
    let version = app.codex.survey().and_then(|survey| survey.version);
    match version {
        Some(version) => format!("fp_codex-api-proxy-{VERSION}_codex-{version}"),
        None => format!("fp_codex-api-proxy-{VERSION}"),
    }
}

/// `/`: what this is, for people who open it in a browser.
pub fn root() -> Value {
    json!({
        "name": "codex-api-proxy",
        "version": VERSION,
        "endpoints": [
            "POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses", "POST /v1/messages", "GET /v1/models",
            "GET /health", "GET /ready", "GET /usage", "GET /events", "GET /metrics", "GET /clients",
            "GET /openapi.json",
        ],
    })
}

/// `/health`: the process lives. Details only for the trusted.
pub async fn health(app: &App, config: &Config, trusted: bool) -> Value {
    let mut page = json!({"status": "ok"});
    if trusted {
        page["version"] = VERSION.into();
        page["uptime_seconds"] = uptime(app).into();
        page["codex_available"] = app.codex.available().await.into();
        page["codex_bin"] = config.codex_bin.clone().into();
    }
    page
}

fn uptime(app: &App) -> f64 {
    (app.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

/// Why turns cannot be served.
pub struct Lack {
    /// The code that a client would get, or `starting`.
    pub code: Cow<'static, str>,
    /// The sentence that a client would get.
    pub message: String,
    /// What to type on the machine of the server, where that helps.
    pub fix: Option<String>,
}

impl Lack {
    fn starting(message: &str) -> Lack {
        Lack { code: "starting".into(), message: message.into(), fix: None }
    }

    fn of(failure: &Failure) -> Lack {
        let ErrorReply { code, message, .. } = error::answer(failure);
        let fix = match failure {
            Failure::NotLoggedIn { bin, .. } | Failure::UpstreamAuth { bin, .. } => format!("{bin} login"),
            Failure::CodexMissing { bin } if bin == "codex" => "npm install -g @openai/codex".into(),
            Failure::CodexTooOld { .. } | Failure::CodexLacks { .. } => {
                "npm install -g @openai/codex@latest".into()
            }
            _ => "codex-api-proxy doctor".into(),
        };
        Lack { code, message, fix: Some(fix) }
    }
}

/// Why turns cannot be served, if they cannot.
pub fn lack(app: &App) -> Option<Lack> {
    if app.admission.load().draining {
        let message = "The server is stopping.".into();
        return Some(Lack { code: "draining".into(), message, fix: None });
    }
    let Some(survey) = app.codex.survey() else {
        return Some(Lack::starting("The Codex CLI is being looked for."));
    };
    if let Err(failure) = &survey.usable {
        return Some(Lack::of(failure));
    }
    match app.engine.workers() {
        Workers { ready: 0, total: 1.., reason: Some(failure) } => Some(Lack::of(&failure)),
        Workers { ready: 0, total: 1.., reason: None } => {
            Some(Lack::starting("The Codex workers are starting."))
        }
        _ => None,
    }
}

/// Whether turns can be served, and if not, why: the sentence a client would get.
pub fn reason(app: &App) -> Result<(), String> {
    lack(app).map_or(Ok(()), |lack| Err(lack.message))
}

/// The same; where it is no, the next answer will be fresh, for somebody wants to know.
pub fn fresh_reason(app: &App) -> Result<(), String> {
    let reason = reason(app);
    if reason.is_err() {
        app.codex.look_again_if_stale();
    }
    reason
}

/// Whether starting is over: turns can be served, or it is known why not.
pub fn settled(app: &App) -> bool {
    let Some(survey) = app.codex.survey() else { return false };
    let Workers { ready, total, reason } = app.engine.workers();
    survey.usable.is_err() || total == 0 || ready > 0 || reason.is_some()
}

/// `/ready`, and whether it is.
pub fn ready(app: &App, config: &Config, trusted: bool) -> (bool, Value) {
    let reason = fresh_reason(app);
    let mut page = json!({
        "status": if reason.is_ok() { "ready" } else { "not_ready" },
        "reason": reason.as_ref().err(),
    });
    if trusted {
        describe(&mut page, app, config);
    }
    (reason.is_ok(), page)
}

fn describe(page: &mut Value, app: &App, config: &Config) {
    let survey = app.codex.survey();
    let survey = survey.as_deref();
    let load = app.admission.load();
    let Workers { ready, total, .. } = app.engine.workers();
    page["engine"] = app.engine.name().into();
    page["profile"] = config.profile().name().into();
    page["isolation"] = config.isolation.name().into();
    page["agent_reads"] =
        survey.and_then(|survey| survey.confinement.as_ref()).map(|reads| reads.name()).into();
    let continuation = survey.and_then(Survey::continuation);
    page["continuation"] = continuation.as_ref().map(Continuation::name).into();
    page["continuation_limited_by"] = continuation.as_ref().and_then(Continuation::reason).into();
    page["weakened_by"] = crate::codex::args::weakened(&config.codex_configs).into();
    page["codex_available"] = survey.is_some_and(|survey| survey.program.is_some()).into();
    page["codex_bin"] = config.codex_bin.clone().into();
    page["codex_version"] =
        survey.and_then(|survey| survey.version).map(|version| version.to_string()).into();
    page["login"] = survey.and_then(|survey| survey.login).map(|login| login.name()).into();
    page["app_server_pool_started"] = (ready > 0).into();
    page["workers"] = json!({"ready": ready, "total": total});
    page["function_tools_limited_by"] = app.engine.functions_limited().into();
    // Answers stay in memory for so long; `response_items_bytes = 0` turns it off.
    page["remembered_items"] = json!({
        "bytes": app.remembered.bytes(), "response_items_bytes": config.response_items_bytes,
        "seconds": KEPT.as_secs(),
    });
    page["rate_limits"] = rate_limits(app);
    page["queue"] = json!({
        "running": load.running, "waiting": load.waiting, "slots": load.slots, "max_queue_size": config.max_queue_size,
    });
}

/// The account's rate-limit windows, as Codex reported them last.
fn rate_limits(app: &App) -> Value {
    let shown = app.engine.limits().into_iter().map(|limit| {
        json!({
            "name": limit.name, "used_percent": limit.used_percent, "window_minutes": limit.window_minutes,
            "resets_at": limit.resets_at,
        })
    });
    shown.collect()
}

/// The same as headers, by the names the upstream gives them: `x-codex-primary-used-percent`,
/// `-window-minutes`, `-reset-at` (Unix seconds), and `secondary` alike. None where Codex has not said.
pub fn rate_limit_headers(app: &App, headers: &mut HeaderMap) {
    for limit in app.engine.limits() {
        let mut set = |what: &str, value: Option<String>| {
            let name = HeaderName::try_from(format!("x-codex-{}-{what}", limit.name));
            if let (Ok(name), Some(Ok(value))) = (name, value.map(HeaderValue::try_from)) {
                headers.insert(name, value);
            }
        };
        set("used-percent", Some(limit.used_percent.to_string()));
        set("window-minutes", limit.window_minutes.map(|minutes| minutes.to_string()));
        set("reset-at", limit.resets_at.map(|at| at.to_string()));
    }
}

fn gauges(app: &App) -> Gauges {
    let load = app.admission.load();
    let workers = app.engine.workers();
    Gauges {
        engine: app.engine.name(),
        uptime_seconds: uptime(app),
        queued: load.waiting,
        running: load.running,
        slots: load.slots,
        app_server_pool_started: workers.ready > 0,
        workers_ready: workers.ready,
        workers_total: workers.total,
        parked_conversations: app.engine.parked(),
        connections: app.connections.open(),
        buffered_bytes: app.buffers.taken(),
        rate_limits: app
            .engine
            .limits()
            .into_iter()
            .map(|limit| (limit.name, limit.used_percent / 100.0, limit.resets_at))
            .collect(),
    }
}

/// `/metrics` as JSON. Without the key only whether there is anything to see.
pub fn metrics(app: &App, trusted: bool) -> Value {
    if trusted { app.observer.json(&gauges(app)) } else { json!({"status": "ok", "reason": NEEDS_KEY}) }
}

const NEEDS_KEY: &str = "The metrics need the API key.";

/// Whether the client asks for Prometheus' format, as its scraper does.
pub fn wants_prometheus(headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wants = |kind: &str| {
        accepts.split(',').any(|entry| entry.split(';').next().is_some_and(|name| name.trim() == kind))
    };
    (wants("text/plain") || wants("application/openmetrics-text")) && !wants("application/json")
}

/// `/metrics/prometheus`.
pub fn prometheus(app: &App, trusted: bool) -> Response {
    let text = if trusted { app.observer.prometheus(&gauges(app)) } else { format!("# {NEEDS_KEY}\n") };
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(text_format::CONTENT_TYPE));
    response
}

impl App {
    /// Every model that may be named, from the settings and the CLI.
    pub fn models(&self, config: &Config) -> Vec<models::Model> {
        let survey = self.codex.survey();
        let listed = survey.as_deref().map(Survey::models).unwrap_or_default();
        models::all(config, listed)
    }
}
