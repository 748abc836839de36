//! The latency line: one per generation request, on every way out.
//!
//! ```text
//! codex_api_proxy.latency {"event":"chat_completion_latency","request_id":…,"phases_ms":{…}}
//! ```
//!
//! A [`Trace`] folds durations and marks into that line and into the [`Observer`]'s metrics. It
//! reads no clock of its own (except when dropped unfinished): the caller says when.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::ledger::Entry;
use super::metrics::{Finished, Observer, Status};
use super::recent::Recent;
use crate::turn::{Event, Outcome, Phase, Saying, Usage};

/// The tracing target of the latency lines, and the first word of each.
pub const TARGET: &str = "codex_api_proxy.latency";

const PHASES: usize = Phase::ALL.len();

/// Longest model name that is logged; a refused request may carry anything there.
const MODEL_CHARS: usize = 128;

/// What is known of a request before it is answered.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The format it came in: `chat_completions`…
    pub api: &'static str,
    /// The engine in force: `exec` or `app-server`.
    pub engine: &'static str,
    /// The model as the client sent it; empty if the request did not get that far.
    pub model: String,
    /// How many answers were asked for.
    pub n: u32,
}

/// The bookkeeping of one generation request. Dropped unfinished, it counts as cancelled.
#[derive(Debug)]
pub struct Trace {
    info: RequestInfo,
    caller: Option<Arc<str>>,
    observer: Arc<Observer>,
    started: Instant,
    phases: [Option<Duration>; PHASES],
    first_content: Option<Duration>,
    /// What comes is commentary; of whichever turn spoke last.
    commentary: bool,
    first_sse: Option<Duration>,
    first_content_sse: Option<Duration>,
    usage: Option<Usage>,
    tokens_unknown: u32,
    finished: bool,
    unwritten: bool,
}

impl Trace {
    /// Starts the clock of a request that was read at `at`, and counts it as in flight.
    pub fn start(request: RequestInfo, observer: Arc<Observer>, at: Instant) -> Trace {
        observer.started();
        let mut trace = Trace {
            info: request,
            caller: None,
            observer,
            started: at,
            phases: [None; PHASES],
            first_content: None,
            commentary: false,
            first_sse: None,
            first_content_sse: None,
            usage: None,
            tokens_unknown: 0,
            finished: false,
            unwritten: false,
        };
        shorten(&mut trace.info.model);
        trace
    }

    /// Says who asked, by the name that people read.
    pub fn called_by(&mut self, name: Arc<str>) {
        self.caller = Some(name);
    }

    /// One turn of the request ended without Codex telling what it cost.
    pub fn cost_unknown(&mut self) {
        self.tokens_unknown += 1;
    }

    /// Fills in what only the decoded body tells, for a trace that was started before it.
    pub fn decoded(&mut self, stream: bool, model: &str, n: u32) {
        self.info.stream = stream;
        self.info.model = model.chars().take(MODEL_CHARS).collect();
        self.info.n = n;
    }

    /// Has the request counted, and its line left out: one like it was written just before.
    pub fn leave_unwritten(&mut self) {
        self.unwritten = true;
    }

    /// The id of the request.
    pub fn request_id(&self) -> &str {
        &self.info.request_id
    }

    /// Adds to a phase; several turns of one request (`n`) add up. `total` is measured by
    /// [`Trace::finish`] alone.
    pub fn phase(&mut self, phase: Phase, took: Duration) {
        *self.phases[phase as usize].get_or_insert_default() += took;
    }

    /// Takes note of one item of a turn.
    pub fn see(&mut self, item: &Outcome, at: Instant) {
        match item {
            Ok(Event::Phase(phase, took)) => self.phase(*phase, *took),
            Ok(Event::Message { phase, .. }) => self.commentary = Saying::is_progress(*phase),
            // Progress told on the way is no content.
            Ok(Event::Text(_)) if self.commentary => {}
            Ok(Event::Text(_) | Event::ToolCall(_)) => {
                self.first_content.get_or_insert_with(|| at.saturating_duration_since(self.started));
            }
            // Several turns of one request add up, also when a later one fails: it was spent.
            Ok(Event::Done { usage: Some(usage), .. }) => *self.usage.get_or_insert_default() += *usage,
            Ok(
                Event::ReasoningPart { .. }
                | Event::Reasoning(_)
                | Event::Thought(_)
                | Event::Done { usage: None, .. },
            )
            | Err(_) => {}
        }
    }

    /// The first chunk of a stream was handed to the socket. Later calls change nothing.
    pub fn first_sse(&mut self, at: Instant) {
        if self.first_sse.is_none() {
            let after = at.saturating_duration_since(self.started);
            self.first_sse = Some(after);
            if !heard() {
                return;
            }
            let json = self.mark("chat_completion_first_sse", "time_to_first_sse_ms", after);
            tracing::info!(
                target: TARGET,
                event = "chat_completion_first_sse",
                request_id = self.info.request_id,
                api = self.info.api,
                engine = self.info.engine,
                model = self.info.model,
                time_to_first_sse_ms = ms(after),
                "{TARGET} {json}"
            );
        }
    }

    /// The first chunk with content was handed to the socket. Later calls change nothing.
    pub fn first_content_sse(&mut self, at: Instant) {
        if self.first_content_sse.is_none() {
            let after = at.saturating_duration_since(self.started);
            self.first_content_sse = Some(after);
            if !heard() {
                return;
            }
            let json = self.mark("chat_completion_first_content_sse", "time_to_first_content_sse_ms", after);
            tracing::info!(
                target: TARGET,
                event = "chat_completion_first_content_sse",
                request_id = self.info.request_id,
                api = self.info.api,
                engine = self.info.engine,
                model = self.info.model,
                time_to_first_content_sse_ms = ms(after),
                "{TARGET} {json}"
            );
        }
    }

    /// The whole reply was written (or given up) at `at`: writes the line and counts the request.
    ///
    /// `http_status` is the status sent, or after a 200 the one the failure would have had; 499
    /// for a client that left. Only the first call counts.
    pub fn finish(&mut self, status: Status, error_type: Option<&str>, http_status: u16, at: Instant) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let total = at.saturating_duration_since(self.started);
        self.phases[Phase::Total as usize] = Some(total);
        self.observer.finished(&Finished {
            api: self.info.api,
            engine: self.info.engine,
            status,
            http_status,
            usage: self.usage,
            total,
            queue_wait: self.took(Phase::QueueWait),
            first_content: self.first_content,
            overhead: self.overhead(),
        });
        // What has no line of its own is in no sum: the journal knows as much as the service.
        if !self.unwritten {
            self.observer.spent(&Entry {
                model: Some(&self.info.model),
                caller: self.caller.as_deref(),
                status,
                http_status,
                usage: self.usage,
                tokens_unknown: self.tokens_unknown,
            });
            self.observer.keep(Recent {
                at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
                caller: self.caller.clone(),
                model: self.info.model.clone(),
                status,
                http_status,
                error_type: error_type.map(str::to_owned),
                stream: self.info.stream,
                first_content_ms: self.first_content.map(ms),
                total_ms: ms(total),
                usage: self.usage,
                request_id: self.info.request_id.clone(),
            });
        }
        self.write(status, error_type, http_status);
    }

    /// The model as the client sent it, cut to what is logged.
    pub fn model(&self) -> &str {
        &self.info.model
    }

    /// What the caller is called, once that is known.
    pub fn caller(&self) -> Option<Arc<str>> {
        self.caller.clone()
    }

    /// How many turns did not tell their cost, if any.
    fn unknown(&self) -> Option<u32> {
        (self.tokens_unknown > 0).then_some(self.tokens_unknown)
    }

    fn took(&self, phase: Phase) -> Option<Duration> {
        self.phases[phase as usize]
    }

    /// All that is neither waiting for a slot nor Codex; unknown while Codex was not reached.
    ///
    /// Turns of one request may overlap (`n`), so that the parts exceed the whole: then 0.
    fn overhead(&self) -> Option<Duration> {
        let codex = self.took(Phase::CodexExec).or(self.took(Phase::AppServerExec))?;
        let outside = codex + self.took(Phase::QueueWait).unwrap_or_default();
        Some(self.took(Phase::Total)?.saturating_sub(outside))
    }

    fn write(&self, status: Status, error_type: Option<&str>, http_status: u16) {
        if self.unwritten || !heard() {
            return;
        }
        let json = self.line(status, error_type, http_status);
        let phase = |phase| self.took(phase).map(ms);
        // In the journal every value is a field of its own, CODEX_ in front: `exec_ms` is
        // CODEX_EXEC_MS. Field names are fixed at compile time, hence the list.
        tracing::info!(
            target: TARGET,
            event = "chat_completion_latency",
            request_id = self.info.request_id,
            status = status.name(),
            error_type,
            http_status,
            stream = self.info.stream,
            caller = self.caller.as_deref(),
            model = self.info.model,
            api = self.info.api,
            engine = self.info.engine,
            n = self.info.n,
            cwd_resolve_ms = phase(Phase::CwdResolve),
            prompt_build_ms = phase(Phase::PromptBuild),
            queue_wait_ms = phase(Phase::QueueWait),
            exec_ms = phase(Phase::CodexExec),
            app_server_exec_ms = phase(Phase::AppServerExec),
            command_build_ms = phase(Phase::CodexCommandBuild),
            process_spawn_ms = phase(Phase::CodexProcessSpawn),
            stdin_write_ms = phase(Phase::CodexStdinWrite),
            first_stdout_event_ms = phase(Phase::CodexFirstStdoutEvent),
            first_assistant_event_ms = phase(Phase::CodexFirstAssistantEvent),
            stdout_read_ms = phase(Phase::CodexStdoutRead),
            process_wait_ms = phase(Phase::CodexProcessWait),
            communicate_ms = phase(Phase::CodexCommunicate),
            output_parse_ms = phase(Phase::CodexOutputParse),
            app_server_thread_start_ms = phase(Phase::AppServerThreadStart),
            app_server_turn_start_ms = phase(Phase::AppServerTurnStart),
            app_server_first_delta_ms = phase(Phase::AppServerFirstDelta),
            app_server_turn_complete_ms = phase(Phase::AppServerTurnComplete),
            response_build_ms = phase(Phase::ResponseBuild),
            total_ms = phase(Phase::Total),
            time_to_first_sse_ms = self.first_sse.map(ms),
            time_to_first_content_sse_ms = self.first_content_sse.map(ms),
            proxy_overhead_ms = self.overhead().map(ms),
            prompt_tokens = self.usage.map(|usage| usage.input),
            cached_tokens = self.usage.map(|usage| usage.cached_input),
            completion_tokens = self.usage.map(|usage| usage.output),
            tokens_unknown = self.unknown(),
            "{TARGET} {json}"
        );
    }

    fn line(&self, status: Status, error_type: Option<&str>, http_status: u16) -> String {
        let mut line = Line::new("chat_completion_latency", &self.info.request_id);
        line.text("status", Some(status.name()));
        line.text("error_type", error_type);
        line.value("http_status", http_status);
        line.value("stream", self.info.stream);
        line.text("caller", self.caller.as_deref());
        line.text("model", Some(self.info.model.as_str()).filter(|model| !model.is_empty()));
        line.text("api", Some(self.info.api));
        line.text("engine", Some(self.info.engine));
        line.value("n", self.info.n);
        line.key("phases_ms");
        line.0.push('{');
        for phase in Phase::ALL {
            line.ms(phase.name(), self.took(*phase));
        }
        line.0.push('}');
        line.ms("time_to_first_sse_ms", self.first_sse);
        line.ms("time_to_first_content_sse_ms", self.first_content_sse);
        line.ms("proxy_overhead_ms", self.overhead());
        if let Some(usage) = self.usage {
            line.value("prompt_tokens", usage.input);
            line.value("cached_tokens", usage.cached_input);
            line.value("completion_tokens", usage.output);
        }
        if let Some(unknown) = self.unknown() {
            line.value("tokens_unknown", unknown);
        }
        line.end()
    }

    fn mark(&self, event: &str, key: &str, after: Duration) -> String {
        let mut line = Line::new(event, &self.info.request_id);
        line.value("stream", self.info.stream);
        line.text("model", Some(&self.info.model));
        line.text("api", Some(self.info.api));
        line.text("engine", Some(self.info.engine));
        line.ms(key, Some(after));
        line.end()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.finish(Status::Error, Some("internal_error"), 500, Instant::now());
        } else {
            self.finish(Status::Cancelled, Some("client_closed_request"), 499, Instant::now());
        }
    }
}

/// Whether the level in force lets these lines through; building one costs more than asking.
pub fn heard() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

fn shorten(model: &mut String) {
    if let Some((end, _)) = model.char_indices().nth(MODEL_CHARS) {
        model.truncate(end);
    }
}

/// Milliseconds, to the two decimals of the line.
fn ms(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e5).round() / 100.0
}

/// One flat JSON object (with one nested), written in the order of the contract: a `Value` would
/// sort its keys, and a struct could not leave unreached phases out without naming each again.
struct Line(String);

impl Line {
    fn new(event: &str, request_id: &str) -> Line {
        let mut line = Line(String::with_capacity(768));
        line.0.push('{');
        line.text("event", Some(event));
        line.text("request_id", Some(request_id));
        line
    }

    fn key(&mut self, key: &str) {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        let _ = write!(self.0, "\"{key}\":");
    }

    fn value(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        let _ = write!(self.0, "{value}");
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        self.value(key, serde_json::Value::from(text));
    }

    fn ms(&mut self, key: &str, took: Option<Duration>) {
        if let Some(took) = took {
            self.value(key, format_args!("{:.2}", ms(took)));
        }
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests;
