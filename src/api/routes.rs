//! The route table, and the way of a request from its head to its handler.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use futures_util::Stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use warp::Filter;
use warp::reply::Response;

use crate::config::Config;
use crate::observe::{RequestInfo, Trace};
use crate::turn::{Failure, Phase};

use super::answer::Answer;
use super::body::{self, Buffered, Limits};
use super::chat::reply::{Chunks, Heading};
use super::connection::{Connection, Target};
use super::gate::{Access, Head, Pass};
use super::respond::{Frames, Reply, WholeBody, note_failure, run_whole};

use super::turns::Turns;
use super::{App, chat, error, ids, models, status};

const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
const IGNORED: HeaderName = HeaderName::from_static("x-codex-proxy-ignored");

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Chat,
    Models,
    Model(String),
    Health,
    Ready,
    Metrics,
    Prometheus,
    Root,
}

impl Route {
    /// A trailing slash, doubled slashes and a missing `/v1` are tolerated.
    fn of(path: &str) -> Option<Route> {
        let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        let words = words.strip_prefix(&["v1"]).unwrap_or(&words);
        Some(match words {
            ["chat", "completions"] => Route::Chat,
            ["models"] => Route::Models,
            ["models", name @ ..] => Route::Model(decoded(&name.join("/")).into_owned()),
            ["health"] => Route::Health,
            ["ready"] => Route::Ready,
            ["metrics"] => Route::Metrics,
            ["metrics", "prometheus"] => Route::Prometheus,
            [] => Route::Root,
            _ => return None,
        })
    }

    /// What the route takes, as for `allow`. HEAD works wherever GET does.
    fn methods(&self) -> &'static str {
        match self {
            Route::Chat => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|known| known == method.as_str()) && *method != Method::OPTIONS
    }

    fn access(&self) -> Access {
        match self {
            Route::Chat | Route::Models | Route::Model(_) => Access::Key,
            Route::Health | Route::Ready | Route::Metrics | Route::Prometheus | Route::Root => Access::Open,
        }
    }
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

/// Everything this server answers, as one warp filter.
pub fn routes(app: Arc<App>) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone {
    let app = warp::any().map(move || Arc::clone(&app));
    warp::method()
        .and(warp::ext::get::<Target>())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Connection>())
        .and(warp::body::stream())
        .and(app)
        .then(|method, Target(uri), headers, connection, body, app| async move {
            let request = Request { method, uri, headers, connection };
            answer(app, request, body).await
        })
}

/// What is answered while the settings are broken: that the server lives, and that it serves nobody.
pub fn misconfigured() -> impl Filter<Extract = (Response,), Error = std::convert::Infallible> + Clone {
    warp::method().and(warp::path::full()).map(|method: Method, path: warp::path::FullPath| {
        match Route::of(path.as_str()) {
            Some(Route::Health) if Route::Health.takes(&method) => json(&serde_json::json!({"status": "ok"})),
            _ => error::response(&Failure::Misconfigured),
        }
    })
}

struct Request {
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
    connection: Connection,
}

impl Request {
    fn head(&self) -> Head<'_> {
        Head { method: &self.method, uri: &self.uri, headers: &self.headers }
    }
}

async fn answer<B: Buf, E>(
    app: Arc<App>,
    request: Request,
    body: impl Stream<Item = Result<B, E>>,
) -> Response {
    let arrived = Instant::now();
    let id = ids::request_id(&request.headers);
    let rules = app.rules();
    let cors = rules.cors(&request.headers);
    // Not by warp's filters: they panic at `CONNECT host:port`, which has no path.
    let path = request.uri.path();
    let route = Route::of(path);
    let api = route.as_ref().is_some_and(|route| route.access() == Access::Key);

    let mut response = match route {
        None => {
            error::response(&Failure::NoRoute { method: request.method.to_string(), path: path.to_owned() })
        }
        Some(Route::Chat) if request.method == Method::POST => {
            // Every generation request has its line, refused ones too.
            let info = RequestInfo {
                request_id: id.clone(),
                stream: false,
                engine: app.engine.name(),
                model: String::new(),
                n: 1,
            };
            let mut trace = Trace::start(info, Arc::clone(&app.observer), arrived);
            match app.rules().check(request.head(), request.connection.peer(), Access::Key) {
                Ok(pass) => {
                    let mut response = completion(&app, &request, &pass, body, trace).await;
                    status::rate_limit_headers(&app, response.headers_mut());
                    response
                }
                Err(failure) => {
                    note_failure(&mut trace, &failure);
                    error::response(&failure)
                }
            }
        }
        Some(route) => match visit(&app, &request, route).await {
            Ok(response) => response,
            Err(failure) => error::response(&failure),
        },
    };

    let headers = response.headers_mut();
    cors.apply(headers);
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(ids::REQUEST_ID, id);
    }
    if api {
        let spent = u64::try_from(arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
        headers.insert(PROCESSING_MS, spent.into());
    }
    response
}

/// The routes without a body.
async fn visit(app: &App, request: &Request, route: Route) -> Result<Response, Failure> {
    let rules = app.rules();
    let peer = request.connection.peer();
    if let Some(preflight) = rules.preflight(request.head(), peer, route.methods()) {
        return preflight;
    }
    if request.method == Method::OPTIONS {
        // Not a browser's question, but an answer all the same: what the route takes.
        rules.check(request.head(), peer, Access::Open)?;
        let mut response = Response::default();
        *response.status_mut() = http::StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods()));
        return Ok(response);
    }
    if !route.takes(&request.method) {
        return Err(Failure::MethodNotAllowed { allow: route.methods() });
    }
    let Pass { trusted, .. } = rules.check(request.head(), peer, route.access())?;
    let config = app.live.get();
    Ok(match route {
        Route::Models => json(&models::list(&app.model_names(&config), app.started_unix)),
        Route::Model(name) if app.model_names(&config).contains(&name) => {
            json(&models::object(&name, app.started_unix))
        }
        Route::Model(name) => return Err(Failure::NoModel { model: name }),
        Route::Health => json(&status::health(app, &config, trusted).await),
        Route::Ready => {
            let (ready, page) = status::ready(app, &config, trusted);
            let mut response = json(&page);
            if !ready {
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
        Route::Metrics if status::wants_prometheus(&request.headers) => status::prometheus(app, trusted),
        Route::Metrics => json(&status::metrics(app, trusted)),
        Route::Prometheus => status::prometheus(app, trusted),
        Route::Root => json(&status::root()),
        // Only its POST is answered, above.
        Route::Chat => return Err(Failure::MethodNotAllowed { allow: route.methods() }),
    })
}

/// A JSON page. Never cached: it is true now.
fn json(page: &serde_json::Value) -> Response {
    let mut response = Response::new(page.to_string().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `POST /v1/chat/completions`, once the caller is admitted.
async fn completion<B: Buf, E>(
    app: &App,
    request: &Request,
    pass: &Pass,
    body: impl Stream<Item = Result<B, E>>,
    mut trace: Trace,
) -> Response {
    let config = app.live.get();
    let prepared = prepare(app, &config, &request.headers, body, &mut trace).await;
    let (ask, turn, body) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return refuse(&mut trace, &failure),
    };
    let places = match app.admission.join(&pass.caller, ask.n) {
        Ok(places) => places,
        Err(failure) => return refuse(&mut trace, &failure),
    };
    let turns =
        Turns::new(places, Arc::clone(&app.engine), turn, config.queue_timeout(), app.cut.clone(), trace);
    let show_reasoning = config.reasoning == crate::config::ReasoningOutput::ReasoningContent;
    let answer = Answer::new(&ask.stop, ask.output(), ask.tool_choice(), show_reasoning);
    let reply = Reply::new(turns, answer, ask.n, app.engine.answers_whole(), body);
    let heading = Heading {
        id: ids::fresh("chatcmpl-"),
        created: status::unix_now(),
        model: ask.model.clone(),
        fingerprint: status::fingerprint(app),
    };
    let chunks = Chunks { heading, include_usage: ask.include_usage };
    let mut response = if ask.stream {
        streamed(reply, chunks, config.keepalive_seconds, &request.connection).await
    } else {
        replied(reply, &chunks).await
    };
    if let Ok(ignored) = HeaderValue::from_str(&ask.ignored.join(", "))
        && !ignored.is_empty()
    {
        response.headers_mut().insert(IGNORED, ignored);
    }
    response
}

fn refuse(trace: &mut Trace, failure: &Failure) -> Response {
    note_failure(trace, failure);
    error::response(failure)
}

/// The longest body that is read on the runtime, in bytes: well below a millisecond's work.
const INLINE: usize = 64 << 10;

/// Reads and checks all there is to a request before it takes a place in the queue.
async fn prepare<B: Buf, E>(
    app: &App,
    config: &Arc<Config>,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<B, E>>,
    trace: &mut Trace,
) -> Result<(chat::Ask, crate::turn::Turn, Buffered), Failure> {
    let limits = Limits::of(config.max_body_bytes);
    let body = body::read(headers, body, limits, &app.buffers, config.max_buffered_bytes).await?;

    let large = body.text().len() > INLINE;
    let settings = Arc::clone(config);
    let read = move || {
        let start = Instant::now();
        let decoded = chat::decode(body.text(), &settings).map(|ask| {
            let read = start.elapsed();
            let turn = ask.turn(&settings);
            (ask, turn, read, start.elapsed() - read)
        });
        (decoded, body)
    };
    // Off the runtime where it takes its time: a large body, or a directory on a disk.
    let (decoded, body) = if large || chat::needs_directory(config) {
        let failed = |error| Failure::Internal { detail: format!("reading the request: {error}") };
        tokio::task::spawn_blocking(read).await.map_err(failed)?
    } else {
        read()
    };
    let (ask, turn, read, resolved) = decoded?;
    trace.decoded(ask.stream, &ask.model, u32::try_from(ask.n).unwrap_or(u32::MAX));
    trace.phase(Phase::PromptBuild, read);
    trace.phase(Phase::CwdResolve, resolved);
    Ok((ask, turn?, body))
}

async fn replied(reply: Reply, chunks: &Chunks) -> Response {
    let (result, mut reply) = run_whole(reply, chunks).await;
    match result {
        Err(failure) => refuse(reply.trace(), &failure),
        Ok(body) => {
            let length = body.len();
            let mut response =
                warp::reply::Reply::into_response(warp::reply::stream(WholeBody::new(body, reply)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            response
        }
    }
}

async fn streamed(reply: Reply, chunks: Chunks, keepalive: Duration, connection: &Connection) -> Response {
    let mut frames = Frames::new(reply, chunks, keepalive, connection.clone());
    match frames.open().await {
        Err(failure) => refuse(frames.trace(), &failure),
        Ok(()) => {
            let start = Instant::now();
            frames.trace().phase(Phase::ResponseBuild, start.elapsed());
            let mut response = warp::reply::Reply::into_response(warp::reply::stream(frames));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            // nginx would hold deltas back otherwise.
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_tolerant() {
        for (path, route) in [
            ("/v1/chat/completions", Some(Route::Chat)),
            ("/chat/completions", Some(Route::Chat)),
            ("//v1//chat/completions/", Some(Route::Chat)),
            ("/v1/models", Some(Route::Models)),
            ("/v1/models/gpt-5.5", Some(Route::Model("gpt-5.5".into()))),
            ("/v1/models/a%2Fb/c", Some(Route::Model("a/b/c".into()))),
            ("/v1/models/%ff", Some(Route::Model("\u{fffd}".into()))),
            ("/health", Some(Route::Health)),
            ("/ready/", Some(Route::Ready)),
            ("/metrics", Some(Route::Metrics)),
            ("/metrics/prometheus", Some(Route::Prometheus)),
            ("/", Some(Route::Root)),
            ("", Some(Route::Root)),
            ("/v1", Some(Route::Root)),
            ("/v1/responses", None),
            ("/v1/v1/models", None),
            ("/v2/models", None),
            ("/CHAT/completions", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
