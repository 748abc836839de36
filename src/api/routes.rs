//! The table of routes, and the way of a request from its head to its handler.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use warp::Filter;
use warp::reply::Response;

use crate::config::Config;
use crate::observe::{RequestInfo, Trace, repeats};
use crate::turn::{Caller, Failure};

use super::chat::CHAT;
use super::completions::COMPLETIONS;
use super::connection::{Connection, Target};
use super::count::{Count, count};
use super::dialect::Dialect;
use super::error::ErrorReply;
use super::gate::{Access, Head, Pass, refusals};
use super::generate::{Call, generate};
use super::messages::{self, MESSAGES};
use super::respond::note_failure;
use super::responses::{self, RESPONSES};
use super::usage::Looker;
use super::{App, error, events, ids, interrupt, models, openapi, page, setup, status, usage};

const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// Everything that is answered: path without `/v1`, what it takes, whom it answers, who answers.
/// A path that ends with `/*` takes the rest of the path as a name; what is absent, all below it as well.
static ROUTES: &[Route] = &[
    generation("chat/completions", &CHAT),
    generation("completions", &COMPLETIONS),
    generation("messages", &MESSAGES),
    counting("messages/count_tokens", &MESSAGES, messages::count),
    generation("responses", &RESPONSES),
    counting("responses/input_tokens", &RESPONSES, responses::count),
    // Where agents look that take this for the service behind Codex.
    generation("backend-api/codex/responses", &RESPONSES),
    generation("codex/responses", &RESPONSES),
    Route {
        methods: "GET, HEAD, POST, DELETE, OPTIONS",
        ..page("responses/*", Access::Key, |visit| nothing_stored(visit).boxed())
    },
    page("models", Access::Key, |visit| models(visit).boxed()),
    page("models/*", Access::Key, |visit| model(visit).boxed()),
    page(HEALTH, Access::Open, |visit| health(visit).boxed()),
    page("ready", Access::Open, |visit| ready(visit).boxed()),
    page("usage", Access::Key, |visit| usage(visit).boxed()),
    page("events", Access::Key, |visit| events(visit).boxed()),
    Route { path: "turns/*", methods: "POST, OPTIONS", access: Access::Key, handler: Handler::Interrupt },
    page("metrics", Access::Open, |visit| metrics(visit).boxed()),
    page("metrics/prometheus", Access::Open, |visit| prometheus(visit).boxed()),
    page("openapi.json", Access::Open, |_| async { Ok(json_text(openapi::document())) }.boxed()),
    page("clients", Access::Key, |visit| clients(visit).boxed()),
    page("", Access::Open, |visit| root(visit).boxed()),
    page("page.css", Access::Open, |_| async { Ok(page::css()) }.boxed()),
    page("page.js", Access::Open, |_| async { Ok(page::js()) }.boxed()),
    page("page.svg", Access::Open, |_| async { Ok(page::svg()) }.boxed()),
    // What clients of such services ask for as well.
    absent("chat/completions", None, "Nothing is stored: there is no chat completion with this id."),
    absent(
        "messages",
        Some(&MESSAGES),
        "There are no batches here, and nothing is stored: send each request to /v1/messages.",
    ),
    absent(
        "complete",
        Some(&MESSAGES),
        "Text Completions of Anthropic's older kind are not spoken here: send messages to /v1/messages.",
    ),
    absent("files", None, "No files are kept here: send text and images in the request itself."),
    absent("skills", None, "No skills are kept here: send instructions in the request itself."),
    absent("conversations", None, "Nothing is stored here: send the whole conversation in the request."),
    absent("embeddings", None, "A Codex plan has no embeddings: ask another service for them."),
    absent("rerank", None, "A Codex plan has no reranking: ask another service for it."),
    absent("moderations", None, "A Codex plan has no moderations: ask another service for them."),
    absent("images", None, "A Codex plan makes no images over this service: it answers in text."),
    absent("videos", None, "A Codex plan makes no videos: it answers in text."),
    absent("audio", None, "A Codex plan has no speech and no transcriptions: it answers text in text."),
    absent("realtime", None, "A Codex plan has no realtime sessions: send whole requests."),
    absent("batches", None, "A Codex plan has no batches: send each request by itself."),
    absent("fine_tuning", None, "A Codex plan has no fine-tuning: its models are used as they are."),
    absent("fine-tunes", None, "A Codex plan has no fine-tuning: its models are used as they are."),
    absent(
        "assistants",
        None,
        "A Codex plan has no assistants: send the whole conversation in each request.",
    ),
    absent("threads", None, "A Codex plan has no threads: send the whole conversation in each request."),
    absent("vector_stores", None, "A Codex plan has no vector stores: send what matters in the request."),
    absent("uploads", None, "A Codex plan takes no uploads: send text and images in the request itself."),
    absent("containers", None, "A Codex plan has no containers: offer the model a function that runs code."),
    absent("evals", None, "A Codex plan has no evals: send each request by itself."),
];

/// Answered even while the settings are broken.
const HEALTH: &str = "health";

/// A line of the table.
struct Route {
    path: &'static str,
    /// What it takes, as for `allow`. HEAD works wherever GET does.
    methods: &'static str,
    access: Access,
    handler: Handler,
}

/// Who answers.
enum Handler {
    /// A turn, asked for in this format.
    Generation(&'static dyn Dialect),
    /// A body that is read and answered in this format, without a turn.
    Counting(&'static dyn Dialect, Count),
    /// The end of a request whose name is in the path.
    Interrupt,
    /// Nobody: why not, in this format, or in that of the client.
    Absent(Option<&'static dyn Dialect>, &'static str),
    /// Something that needs no body.
    Page(for<'a> fn(Visit<'a>) -> BoxFuture<'a, Result<Response, Failure>>),
}

const fn generation(path: &'static str, dialect: &'static dyn Dialect) -> Route {
    Route { path, methods: "POST, OPTIONS", access: Access::Key, handler: Handler::Generation(dialect) }
}

const fn counting(path: &'static str, dialect: &'static dyn Dialect, count: Count) -> Route {
    Route { path, methods: "POST, OPTIONS", access: Access::Key, handler: Handler::Counting(dialect, count) }
}

const fn absent(path: &'static str, dialect: Option<&'static dyn Dialect>, why: &'static str) -> Route {
    Route { path, methods: "", access: Access::Open, handler: Handler::Absent(dialect, why) }
}

const fn page(
    path: &'static str,
    access: Access,
    handler: for<'a> fn(Visit<'a>) -> BoxFuture<'a, Result<Response, Failure>>,
) -> Route {
    Route { path, methods: "GET, HEAD, OPTIONS", access, handler: Handler::Page(handler) }
}

/// Where a path leads, and the name at its end. A trailing slash, doubled slashes, a missing and a doubled
/// `/v1` are tolerated: some clients add it themselves, and some users as well.
fn find(path: &str) -> Option<(&'static Route, String)> {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let prefixes = words.iter().take(2).take_while(|word| **word == "v1").count();
    let words = words[prefixes..].join("/");
    let below =
        |path: &str| words.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    ROUTES.iter().find_map(|route| match route.path.strip_suffix('*') {
        None if matches!(route.handler, Handler::Absent(..)) => {
            below(route.path).then(|| (route, String::new()))
        }
        None => (words == route.path).then(|| (route, String::new())),
        Some(folder) => {
            let name = words.strip_prefix(folder).filter(|name| !name.is_empty())?;
            Some((route, decoded(name).into_owned()))
        }
    })
}

impl Route {
    fn takes(&self, method: &Method) -> bool {
        self.methods.split(", ").any(|known| known == method.as_str()) && *method != Method::OPTIONS
    }
}

/// The format in which a request is refused: its route's, or the one whose client this seems to be.
fn dialect(route: Option<&Route>, headers: &HeaderMap) -> &'static dyn Dialect {
    let formats = || {
        ROUTES.iter().filter_map(|route| match route.handler {
            Handler::Generation(dialect) => Some(dialect),
            Handler::Counting(..) | Handler::Interrupt | Handler::Absent(..) | Handler::Page(_) => None,
        })
    };
    match route {
        Some(Route {
            handler:
                Handler::Generation(dialect) | Handler::Counting(dialect, _) | Handler::Absent(Some(dialect), _),
            ..
        }) => *dialect,
        _ => formats().find(|dialect| dialect.recognizes(headers)).unwrap_or(&CHAT),
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
        match find(path.as_str()) {
            Some((route, _)) if route.path == HEALTH && route.takes(&method) => {
                json(&serde_json::json!({"status": "ok"}))
            }
            _ => error::response(&error::answer(&Failure::Misconfigured), &CHAT, ""),
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
    let found = find(path);
    let route = found.as_ref().map(|(route, _)| *route);
    let dialect = dialect(route, &request.headers);

    let answered = match found {
        None => Err(refusal(&Failure::NoRoute { method: request.method.to_string(), path: path.to_owned() })),
        Some((Route { handler: Handler::Absent(_, why), .. }, _)) => {
            Err(refusal(&Failure::NotFound { at: None, message: (*why).to_owned() }))
        }
        Some((Route { handler: Handler::Generation(dialect), access, .. }, _))
            if request.method == Method::POST =>
        {
            // Every generation request has its line, refused ones too.
            let info = RequestInfo {
                request_id: id.clone(),
                stream: false,
                api: dialect.name(),
                engine: app.engine.name(),
                model: String::new(),
                n: 1,
            };
            let mut trace = Trace::start(info, Arc::clone(&app.observer), arrived);
            let peer = request.connection.peer();
            let checked = rules.check(request.head(), peer, *access);
            let caller = checked.as_ref().map_or_else(|_| peer.caller(), |pass| pass.caller.clone());
            trace.called_by(app.callers.name(&caller).await);
            match checked {
                Ok(_) => {
                    let call = Call {
                        app: &app,
                        dialect: *dialect,
                        uri: &request.uri,
                        headers: &request.headers,
                        connection: &request.connection,
                        caller,
                        config: app.live.get(),
                        trace,
                    };
                    let mut response = match generate(call, body).await {
                        Ok(response) => response,
                        Err(reply) => error::response(&reply, *dialect, &id),
                    };
                    status::rate_limit_headers(&app, response.headers_mut());
                    Ok(response)
                }
                Err(failure) => {
                    // Whoever is refused may come as often as he likes.
                    if !repeats::is_first(refusals(&failure)) {
                        trace.leave_unwritten();
                    }
                    let reply = refusal(&failure);
                    note_failure(&mut trace, &failure, &reply, dialect.status(&reply));
                    Err(reply)
                }
            }
        }
        Some((Route { handler: Handler::Counting(_, answer), access, .. }, _))
            if request.method == Method::POST =>
        {
            match rules.check(request.head(), request.connection.peer(), *access) {
                Ok(pass) => count(&app, &pass.caller, &request.headers, *answer, body).await,
                Err(failure) => Err(failure),
            }
            .map_err(|failure| refusal(&failure))
        }
        Some((Route { handler: Handler::Interrupt, access, .. }, rest)) if request.method == Method::POST => {
            let peer = request.connection.peer();
            let ended = match (rules.check(request.head(), peer, *access), interrupt::id(&rest)) {
                (Err(failure), _) => Err(failure),
                (Ok(_), None) => {
                    Err(Failure::NoRoute { method: request.method.to_string(), path: path.to_owned() })
                }
                (Ok(pass), Some(turn)) => {
                    let looker = Looker::new(pass.caller, peer, &request.headers);
                    interrupt::interrupt(&app, &looker, &request.headers, body, turn).await
                }
            };
            ended.map_err(|failure| refusal(&failure))
        }
        Some((route, name)) => visit(&app, &request, route, name).await.map_err(|failure| refusal(&failure)),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(reply) => error::response(&reply, dialect, &id),
    };

    let headers = response.headers_mut();
    cors.apply(headers);
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(ids::REQUEST_ID, id);
    }
    dialect.headers(&id, headers);
    if route.is_some_and(|route| route.access == Access::Key) {
        let spent = u64::try_from(arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
        headers.insert(PROCESSING_MS, spent.into());
    }
    response
}

fn refusal(failure: &Failure) -> Box<ErrorReply> {
    Box::new(error::answer(failure))
}

/// Everything but a turn.
async fn visit(app: &Arc<App>, request: &Request, route: &Route, name: String) -> Result<Response, Failure> {
    let rules = app.rules();
    let peer = request.connection.peer();
    if let Some(preflight) = rules.preflight(request.head(), peer, route.methods) {
        return preflight;
    }
    if request.method == Method::OPTIONS {
        // Not a browser's question, but an answer all the same: what the route takes.
        rules.check(request.head(), peer, Access::Open)?;
        let mut response = Response::default();
        *response.status_mut() = http::StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods));
        return Ok(response);
    }
    match route.handler {
        Handler::Page(page) if route.takes(&request.method) => {
            let Pass { trusted, caller } = rules.check(request.head(), peer, route.access)?;
            let (config, headers, connection) = (app.live.get(), &request.headers, &request.connection);
            page(Visit { app, config, headers, connection, caller, trusted, name }).await
        }
        // What has a body is answered elsewhere.
        Handler::Page(_)
        | Handler::Counting(..)
        | Handler::Interrupt
        | Handler::Generation(_)
        | Handler::Absent(..) => Err(Failure::MethodNotAllowed { allow: route.methods }),
    }
}

/// What a page is made of.
struct Visit<'a> {
    app: &'a Arc<App>,
    config: Arc<Config>,
    headers: &'a HeaderMap,
    connection: &'a Connection,
    caller: Caller,
    trusted: bool,
    /// What stands for the `*` of the route's path.
    name: String,
}

async fn models(visit: Visit<'_>) -> Result<Response, Failure> {
    let (all, created) = (visit.app.models(&visit.config), visit.app.started_unix);
    Ok(json(&match MESSAGES.recognizes(visit.headers) {
        true => models::anthropic_list(&all, created),
        false => models::list(&all, created),
    }))
}

async fn model(visit: Visit<'_>) -> Result<Response, Failure> {
    let all = visit.app.models(&visit.config);
    let Some(model) = all.iter().find(|model| model.name == visit.name) else {
        return Err(Failure::NoModel { model: visit.name });
    };
    let created = visit.app.started_unix;
    Ok(json(&match MESSAGES.recognizes(visit.headers) {
        true => models::anthropic_object(model, created),
        false => models::object(model, created),
    }))
}

/// What would need responses to be kept. No body is read for that.
async fn nothing_stored(visit: Visit<'_>) -> Result<Response, Failure> {
    Err(Failure::NotFound { at: None, message: responses::absent(&visit.name).into() })
}

async fn health(visit: Visit<'_>) -> Result<Response, Failure> {
    Ok(json(&status::health(visit.app, &visit.config, visit.trusted).await))
}

async fn ready(visit: Visit<'_>) -> Result<Response, Failure> {
    let (ready, page) = status::ready(visit.app, &visit.config, visit.trusted);
    let mut response = json(&page);
    if !ready {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

async fn metrics(visit: Visit<'_>) -> Result<Response, Failure> {
    if status::wants_prometheus(visit.headers) {
        return prometheus(visit).await;
    }
    Ok(json(&status::metrics(visit.app, visit.trusted)))
}

async fn prometheus(visit: Visit<'_>) -> Result<Response, Failure> {
    Ok(status::prometheus(visit.app, visit.trusted))
}

async fn clients(visit: Visit<'_>) -> Result<Response, Failure> {
    Ok(json(&setup::list(&visit.config, visit.headers, visit.app.engine.name())))
}

async fn usage(visit: Visit<'_>) -> Result<Response, Failure> {
    let document = usage::document(visit.app, &visit.config, &visit.looker());
    Ok(json(&usage::timed(document)))
}

async fn events(visit: Visit<'_>) -> Result<Response, Failure> {
    events::answer(visit.app, visit.looker(), visit.connection)
}

impl Visit<'_> {
    fn looker(&self) -> Looker {
        Looker::new(self.caller.clone(), self.connection.peer(), self.headers)
    }
}

/// The page for a browser, else what this is.
async fn root(visit: Visit<'_>) -> Result<Response, Failure> {
    if page::wanted(visit.headers) {
        return Ok(page::html(&status::fresh_reason(visit.app)));
    }
    let mut response = json(&status::root());
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// A JSON page. Never cached: it is true now.
pub(super) fn json(page: &serde_json::Value) -> Response {
    json_text(&page.to_string())
}

fn json_text(text: &str) -> Response {
    let mut response = Response::new(text.to_owned().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_tolerant() {
        let models = |name: &str| Some(("models/*", name.to_owned()));
        let plain = |path: &'static str| Some((path, String::new()));
        for (path, route) in [
            ("/v1/chat/completions", plain("chat/completions")),
            ("/chat/completions", plain("chat/completions")),
            ("//v1//chat/completions/", plain("chat/completions")),
            ("/v1/models", plain("models")),
            ("/v1/models/", plain("models")),
            ("/v1/models/gpt-5.5", models("gpt-5.5")),
            ("/v1/models/a%2Fb/c", models("a/b/c")),
            ("/v1/models/%ff", models("\u{fffd}")),
            ("/health", plain("health")),
            ("/ready/", plain("ready")),
            ("/metrics", plain("metrics")),
            ("/metrics/prometheus", plain("metrics/prometheus")),
            ("/", plain("")),
            ("/page.js", plain("page.js")),
            ("/v1/page.css", plain("page.css")),
            ("", plain("")),
            ("/v1", plain("")),
            ("/v1/responses", plain("responses")),
            ("/responses/", plain("responses")),
            ("/v1/responses/resp_1/cancel", Some(("responses/*", "resp_1/cancel".to_owned()))),
            ("/backend-api/codex/responses", plain("backend-api/codex/responses")),
            ("/v1/codex/responses", plain("codex/responses")),
            ("/v1/modelsx", None),
            ("/v1/models*", None),
            ("/v1/v1/models", plain("models")),
            ("/v1/v1/messages", plain("messages")),
            ("/v1/messages/count_tokens", plain("messages/count_tokens")),
            ("/v1/messages/batches", plain("messages")),
            ("/v1/messages/batches/b1/results", plain("messages")),
            ("/v1/completions", plain("completions")),
            ("/v1/completions/x", None),
            ("/v1/chat/completions/chatcmpl-1/messages", plain("chat/completions")),
            ("/v1/embeddings", plain("embeddings")),
            ("/fine_tuning/jobs/", plain("fine_tuning")),
            ("/v1/filesystem", None),
            ("/v1/v1/v1/models", None),
            ("/v2/models", None),
            ("/CHAT/completions", None),
        ] {
            assert_eq!(find(path).map(|(route, name)| (route.path, name)), route, "{path}");
        }
    }

    #[test]
    fn every_route_is_found_by_its_own_path() {
        for route in ROUTES {
            assert_eq!(find(route.path).map(|(found, _)| found.path), Some(route.path));
            if matches!(route.handler, Handler::Absent(..)) {
                let (below, _) = find(&format!("/v1/{}/x/y", route.path)).unwrap();
                assert!(std::ptr::eq(below, route), "{}", route.path);
            }
        }
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = openapi::parsed();
        let mut told = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let (route, _) = find(&path.replace(['{', '}'], "")).unwrap_or_else(|| panic!("{path}"));
            assert!(!matches!(route.handler, Handler::Absent(..)), "{path}");
            let shared = item["$ref"].as_str().map(|to| document.pointer(&to[1..]).unwrap());
            let methods =
                shared.unwrap_or(item).as_object().unwrap().keys().filter(|key| *key != "parameters");
            let mut methods: Vec<String> = methods.map(|method| method.to_uppercase()).collect();
            let mut takes: Vec<&str> =
                route.methods.split(", ").filter(|name| !matches!(*name, "HEAD" | "OPTIONS")).collect();
            methods.sort();
            takes.sort();
            assert_eq!(methods, takes, "{path}");
            told.push(route.path);
        }
        let all: Vec<&str> = ROUTES
            .iter()
            .filter(|route| !matches!(route.handler, Handler::Absent(..)))
            .map(|route| route.path)
            .collect();
        assert!(all.iter().all(|path| told.contains(path)), "{all:?} {told:?}");
        assert_eq!(all.len(), told.len());
    }

    #[test]
    fn what_is_absent_is_so_in_the_words_of_its_path_or_of_its_client() {
        let mut anthropic = HeaderMap::new();
        anthropic.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        for (path, plain, with) in [
            ("/v1/messages/batches", "messages", "messages"),
            ("/v1/complete", "messages", "messages"),
            ("/v1/files/file_1", "chat_completions", "messages"),
            ("/v1/skills", "chat_completions", "messages"),
            ("/v1/embeddings", "chat_completions", "messages"),
            ("/v1/chat/completions", "chat_completions", "chat_completions"),
            ("/v1/nothing", "chat_completions", "messages"),
        ] {
            let route = find(path).map(|(route, _)| route);
            assert_eq!(dialect(route, &HeaderMap::new()).name(), plain, "{path}");
            assert_eq!(dialect(route, &anthropic).name(), with, "{path}");
        }
    }
}
