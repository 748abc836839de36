//! The way of a generation request, whatever its format: decode, admit, run, reply.
//!
//! Each step owns what the one before it made, so that leaving anywhere (the client is gone, a step
//! fails) gives back the place in the queue, the turns and the memory, and ends the latency line.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use futures_util::Stream;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Uri};
use warp::reply::Response;

use crate::admission::Place;
use crate::config::{Config, Profile};
use crate::engine::Engine;
use crate::observe::Trace;
use crate::turn::pace::{Pace, apart};
use crate::turn::{Caller, Events, Failure, Memory, Phase, Slot, Turn, Workdir};

use super::answer::Answer;
use super::body::{self, Buffered, Limits, ReadTurn};
use super::connection::Connection;
use super::dialect::{Decoded, Dialect, Encoder, GenerationRequest, Heading, RequestParts, Wanted};
use super::error::{self, ErrorReply};
use super::remembered::CallersItems;
use super::respond::{Reply, StreamBody, WholeBody, note_failure};
use super::running::Asker;
use super::turns::{Ends, Run, Turns};
use super::{App, ids, status};

const IGNORED: HeaderName = HeaderName::from_static("x-codex-proxy-ignored");

/// A request whose caller was let in.
pub(super) struct Call<'a> {
    pub(super) app: &'a App,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) connection: &'a Connection,
    /// Whose turn it is in the queue, and whose conversation.
    pub(super) caller: Caller,
    /// The settings it is answered under, whatever a reload changes meanwhile.
    pub(super) config: Arc<Config>,
    /// Its latency line.
    pub(super) trace: Trace,
}

/// Answers a request.
///
/// # Errors
/// What the client reads instead; the latency line has it already.
pub(super) async fn generate<B: Buf, E>(
    call: Call<'_>,
    body: impl Stream<Item = Result<B, E>>,
) -> Result<Response, Box<ErrorReply>> {
    let asked = decode(call, body).await?;
    let admitted = admit(asked)?;
    let running = run(admitted);
    Ok(reply(running).await)
}

/// A request that was read and checked.
struct Asked<'a> {
    call: Call<'a>,
    request: GenerationRequest,
    encoder: Box<dyn Encoder>,
}

/// A request with its places, in the queue or already beyond it.
struct Admitted<'a> {
    asked: Asked<'a>,
    places: Vec<Place>,
    joined: Instant,
}

/// A request whose turns run, or will as their slots come.
struct Running<'a> {
    reply: Reply,
    stream: bool,
    ignored: Vec<String>,
    keepalive: Duration,
    connection: &'a Connection,
}

impl Call<'_> {
    fn refuse(&mut self, failure: &Failure, encoder: Option<&dyn Encoder>) -> Box<ErrorReply> {
        let reply = match encoder {
            Some(encoder) => error::answer_to(encoder, failure),
            None => error::answer(failure),
        };
        note_failure(&mut self.trace, failure, &reply, self.dialect.status(&reply));
        Box::new(reply)
    }
}

/// The longest body that is read on the runtime, in bytes: well below a millisecond's work.
pub(super) const INLINE: usize = 64 << 10;

/// Reads and checks all there is to a request before it takes a place in the queue.
async fn decode<'a, B: Buf, E>(
    mut call: Call<'a>,
    body: impl Stream<Item = Result<B, E>>,
) -> Result<Asked<'a>, Box<ErrorReply>> {
    let limits = Limits::of(call.config.max_body_bytes);
    let read =
        body::read(call.headers, body, limits, &call.app.buffers, call.config.max_buffered_bytes).await;
    let body = match read {
        Ok(body) => body,
        Err(failure) => return Err(call.refuse(&failure, None)),
    };
    let large = body.text().len() > INLINE;
    let wanted = Wanted::default();
    // Leaves with the client.
    let _waits = wanted.guard();
    let reading = Reading {
        dialect: call.dialect,
        config: Arc::clone(&call.config),
        headers: call.headers.clone(),
        query: call.uri.query().map(str::to_owned),
        heading: Heading {
            unique: ids::fresh(""),
            request_id: call.trace.request_id().to_owned(),
            created: status::unix_now(),
            fingerprint: status::fingerprint(call.app),
        },
        body,
        wanted,
        remembered: call.app.remembered.of(&call.caller),
    };
    // Off the runtime where it takes its time: a large body, or a directory on a disk.
    let decoded = if large || needs_directory(&call.config) {
        let turn = if large { call.app.buffers.turn(reading.body.text().len()).await } else { None };
        match tokio::task::spawn_blocking(|| reading.read(turn)).await {
            Ok(read) => read,
            Err(error) => {
                let failure = Failure::Internal { detail: format!("reading the request: {error}") };
                return Err(call.refuse(&failure, None));
            }
        }
    } else {
        reading.read(None)
    };
    let (Decoded { mut request, encoder }, workdir, took) = match decoded {
        Ok(decoded) => decoded,
        Err(failure) => return Err(call.refuse(&failure, None)),
    };
    call.trace.decoded(request.stream, &request.model, u32::try_from(request.n).unwrap_or(u32::MAX));
    call.trace.phase(Phase::PromptBuild, took[0]);
    call.trace.phase(Phase::CwdResolve, took[1]);
    request.turn.caller = call.caller.clone();
    if let Err(failure) = call.app.engine.check(&request.turn) {
        return Err(call.refuse(&failure, Some(&*encoder)));
    }
    match workdir {
        Ok(None) => {}
        Ok(Some(workdir)) => request.turn.workdir = workdir,
        Err(failure) => return Err(call.refuse(&failure, Some(&*encoder))),
    }
    Ok(Asked { call, request, encoder })
}

/// All that reading a request needs, so that it can be done elsewhere.
struct Reading {
    dialect: &'static dyn Dialect,
    config: Arc<Config>,
    headers: HeaderMap,
    query: Option<String>,
    heading: Heading,
    body: Buffered,
    wanted: Wanted,
    remembered: CallersItems,
}

/// A decoded request, its directory if it needs one, and how long either took.
type Read = Result<(Decoded, Result<Option<Workdir>, Failure>, [Duration; 2]), Failure>;

impl Reading {
    /// `turn` is what allows a large body to be read now.
    fn read(mut self, turn: Option<ReadTurn>) -> Read {
        let start = Instant::now();
        self.body.is_read();
        let parts = RequestParts {
            body: self.body.text(),
            headers: &self.headers,
            query: self.query.as_deref(),
            heading: self.heading,
            wanted: &self.wanted,
            remembered: &self.remembered,
        };
        let decoded = self.dialect.decode(&parts, &self.config);
        // The body is as large as what was made of it: nobody needs both. That counts as long as anybody
        // has the turn.
        let bytes = |decoded: &Decoded| decoded.request.turn.bytes() + decoded.encoder.bytes();
        let bytes = decoded.as_ref().map_or(0, bytes);
        let held = self.body.becomes(bytes);
        let mut decoded = decoded?;
        decoded.request.turn.memory = Memory::new(held);
        // The directory may take its time.
        drop(turn);
        let read = start.elapsed();
        let workdir = workdir(&decoded.request, &self.config);
        Ok((decoded, workdir, [read, start.elapsed() - read]))
    }
}

/// Whether a turn looks at its directory: an agent works in it, and `codex exec` starts in it.
fn needs_directory(config: &Config) -> bool {
    config.profile() == Profile::Agent || config.engine.capabilities().needs_directory
}

fn workdir(request: &GenerationRequest, config: &Config) -> Result<Option<Workdir>, Failure> {
    let (own, roots) = (Path::new(&config.default_cwd), &config.allowed_roots);
    let resolve = |asked| Workdir::resolve(asked, own, roots);
    let asked = request.cwd.as_deref();
    if config.profile() == Profile::Agent {
        return resolve(asked).map(Some);
    }
    // In the lean profile the model sees no files and every directory is as good; but a wrong one is
    // wrong in either.
    if asked.is_some() {
        apart(usize::MAX, || resolve(asked))?;
    }
    if needs_directory(config) { resolve(None).map(Some) } else { Ok(None) }
}

/// Takes a place for each turn: all of them or none.
fn admit(mut asked: Asked<'_>) -> Result<Admitted<'_>, Box<ErrorReply>> {
    match asked.call.app.admission.join(&asked.call.caller, asked.request.n) {
        Ok(places) => Ok(Admitted { asked, places, joined: Instant::now() }),
        Err(failure) => Err(asked.call.refuse(&failure, Some(&*asked.encoder))),
    }
}

/// Starts the turns that have their slot; the others begin as theirs come.
fn run(admitted: Admitted<'_>) -> Running<'_> {
    let Admitted { asked: Asked { call, request, encoder }, places, joined } = admitted;
    let GenerationRequest { turn, stop, wishes, n, stream, ignored, .. } = request;
    let engine = &call.app.engine;
    let answer = Answer::new(&stop, &turn).with(wishes);
    let answer = if call.dialect.one_text() { answer.joined() } else { answer };
    let answer = if call.dialect.object_arguments() { answer.with_objects() } else { answer };
    let start = |mut place: Place| match place.granted_at_once() {
        Some(Ok(permit)) => {
            let granted = Instant::now();
            Run::Running { events: engine.run(turn.clone(), Slot::new(permit)), granted }
        }
        Some(Err(failure)) => Run::Waiting(Box::pin(std::future::ready(Err(failure)))),
        None => Run::Waiting(Box::pin(begin(place, Arc::clone(engine), turn.clone()))),
    };
    let entered = call.app.running.enter(Asker {
        request_id: call.trace.request_id().to_owned(),
        caller: call.caller.clone(),
        name: call.trace.caller(),
        model: call.trace.model().to_owned(),
    });
    let runs = places.into_iter().map(start).collect();
    let ends = Ends { queue_timeout: call.config.queue_timeout(), cut: call.app.cut.clone(), entered };
    let reply = Reply {
        turns: Turns::new(turn.clone(), runs, joined, ends, engine.phase(), call.trace),
        answers: vec![answer; n],
        dialect: call.dialect,
        encoder,
        pace: Pace::default(),
        answers_whole: engine.answers_whole(),
    };
    let keepalive = call.config.keepalive_seconds;
    Running { reply, stream, ignored, keepalive, connection: call.connection }
}

/// Starts a turn when its slot comes.
async fn begin(mut place: Place, engine: Arc<Engine>, turn: Turn) -> Result<Events, Failure> {
    let permit = place.granted().await?;
    Ok(engine.run(turn, Slot::new(permit)))
}

/// The most that the header names, in bytes: many clients take no more than 16 KiB of headers in all.
const MOST_NAMED: usize = 4 << 10;

/// These names as a header. What no header could say, for a client chose it, and what does not fit is
/// counted only; `None` if there is nothing to say.
fn named(names: &[String]) -> Option<HeaderValue> {
    let mut text = String::new();
    let mut others = 0;
    for name in names {
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if !plain || text.len() + name.len() > MOST_NAMED {
            others += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(name);
    }
    if others > 0 {
        let gap = if text.is_empty() { "" } else { ", " };
        text.push_str(&format!("{gap}and {others} more"));
    }
    HeaderValue::from_str(&text).ok().filter(|value| !value.is_empty())
}

/// Waits for what decides the status, and answers.
async fn reply(running: Running<'_>) -> Response {
    let ignored = named(&running.ignored);
    let mut response = if running.stream {
        streamed(running.reply, running.keepalive, running.connection).await
    } else {
        replied(running.reply).await
    };
    if let Some(ignored) = ignored {
        response.headers_mut().insert(IGNORED, ignored);
    }
    response
}

async fn replied(mut reply: Reply) -> Response {
    let body = match reply.whole().await {
        Ok(body) => body,
        Err(failure) => return reply.refuse(&failure),
    };
    let length = body.len();
    let mut response = warp::reply::Reply::into_response(warp::reply::stream(WholeBody::new(body, reply)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

async fn streamed(reply: Reply, keepalive: Duration, connection: &Connection) -> Response {
    let mut body = StreamBody::new(reply, keepalive, connection.clone());
    if let Err(failure) = body.begin().await {
        return body.reply.refuse(&failure);
    }
    let start = Instant::now();
    body.reply.turns.trace.phase(Phase::ResponseBuild, start.elapsed());
    let mut response = warp::reply::Reply::into_response(warp::reply::stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold deltas back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_what_it_can_and_counts_the_rest() {
        let said = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            named(&names).map(|value| value.to_str().unwrap().to_owned())
        };
        let just = "x".repeat(MOST_NAMED);
        for (names, expect) in [
            (&[][..], None),
            (&["a"], Some("a".to_owned())),
            (&["a", "b[0].c"], Some("a, b[0].c".into())),
            (&["a", "b\r\nx: y", "é", "c"], Some("a, c, and 2 more".into())),
            (&["a b"], Some("and 1 more".into())),
            (&[&just], Some(just.clone())),
            (&[&just, "a"], Some(format!("{just}, and 1 more"))),
            (&[&format!("{just}x")], Some("and 1 more".into())),
        ] {
            assert_eq!(said(names), expect, "{names:.40?}");
        }
    }
}
