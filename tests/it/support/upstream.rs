//! A scripted stand-in for the Responses API that the Codex CLI talks to.
//!
//! It answers `POST …/responses` with what the test queued, records every request whole, and
//! knows how each connection ended: that is the best oracle there is for what Codex was really
//! asked, and for whether a cancelled turn really stopped spending. Standard library threads
//! only, so that it also serves as the stand-alone program behind `make demo`.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "persona.rs"]
mod persona;

/// What the upstream does with one request: steps in order, then the end.
#[derive(Clone, Debug)]
pub struct Reply {
    headers: String,
    steps: Vec<Step>,
    pace: Duration,
    usage: [u64; 4],
    end: End,
}

#[derive(Clone, Debug)]
enum Step {
    Message {
        deltas: Vec<String>,
        phase: Option<&'static str>,
    },
    /// A message that is announced and streamed but never finished.
    Partial {
        deltas: Vec<String>,
    },
    Reasoning {
        summary: Vec<String>,
    },
    Call {
        call_id: String,
        name: String,
        arguments: String,
    },
    CustomCall {
        call_id: String,
        name: String,
        input: String,
    },
    Raw(Value),
    Wait(Duration),
    Hang,
}

#[derive(Clone, Debug)]
enum End {
    Completed,
    Incomplete(String),
    Failed(Value),
    /// An HTTP status in place of a stream.
    Status {
        code: u16,
        body: String,
    },
    /// The socket is shut in the middle of a chunk.
    Cut,
    /// The stream is properly closed, but without `response.completed`.
    Silence,
}

impl Reply {
    fn of(steps: Vec<Step>, end: End) -> Reply {
        Reply { headers: String::new(), steps, pace: Duration::ZERO, usage: [11, 3, 7, 2], end }
    }

    /// A whole answer in one delta.
    pub fn text(text: impl Into<String>) -> Reply {
        Reply::of(vec![], End::Completed).then_text(&[text.into()])
    }

    /// An answer in several deltas.
    pub fn deltas<S: Into<String> + Clone>(deltas: &[S]) -> Reply {
        Reply::of(vec![], End::Completed).then_text(deltas)
    }

    /// Completes with nothing in it.
    pub fn nothing() -> Reply {
        Reply::of(vec![], End::Completed)
    }

    /// A function call of the model.
    pub fn call(name: &str, arguments: &str) -> Reply {
        Reply::nothing().then_call(name, arguments)
    }

    /// An error status with this `error` object.
    pub fn status(code: u16, error: Value) -> Reply {
        Reply::status_body(code, json!({ "error": error }).to_string())
    }

    /// An error status with any body.
    pub fn status_body(code: u16, body: impl Into<String>) -> Reply {
        Reply::of(vec![], End::Status { code, body: body.into() })
    }

    /// `response.failed` with this error.
    pub fn failed(code: &str, message: &str) -> Reply {
        Reply::of(vec![], End::Failed(json!({ "code": code, "message": message })))
    }

    /// No byte of an answer until [`Upstream::release`].
    pub fn hang() -> Reply {
        Reply::of(vec![Step::Hang], End::Completed)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Then one more message, in these deltas.
    pub fn then_text<S: Into<String> + Clone>(mut self, deltas: &[S]) -> Reply {
        let deltas = deltas.iter().cloned().map(Into::into).collect();
        self.steps.push(Step::Message { deltas, phase: None });
        self
    }

    /// Then a message of that phase (`commentary`, `final_answer`).
    pub fn then_phase(mut self, phase: &'static str, text: &str) -> Reply {
        self.steps.push(Step::Message { deltas: vec![text.into()], phase: Some(phase) });
        self
    }

    /// Then the beginning of a message that never ends.
    pub fn then_partial<S: Into<String> + Clone>(mut self, deltas: &[S]) -> Reply {
        let deltas = deltas.iter().cloned().map(Into::into).collect();
        self.steps.push(Step::Partial { deltas });
        self
    }

    /// Then a reasoning summary of these parts.
    pub fn then_reasoning(mut self, summary: &[&str]) -> Reply {
        self.steps.push(Step::Reasoning { summary: summary.iter().map(|&part| part.into()).collect() });
        self
    }

    /// Then a function call.
    pub fn then_call(mut self, name: &str, arguments: &str) -> Reply {
        let call_id = format!("call_{}", next_number());
        self.steps.push(Step::Call { call_id, name: name.into(), arguments: arguments.into() });
        self
    }

    /// Then a call of a free-form tool, such as the JavaScript `exec` of newer models.
    pub fn then_custom_call(mut self, name: &str, input: &str) -> Reply {
        let call_id = format!("call_{}", next_number());
        self.steps.push(Step::CustomCall { call_id, name: name.into(), input: input.into() });
        self
    }

    /// Then any event, as it is.
    pub fn then_event(mut self, event: Value) -> Reply {
        self.steps.push(Step::Raw(event));
        self
    }

    /// Then a pause.
    pub fn then_wait(mut self, pause: Duration) -> Reply {
        self.steps.push(Step::Wait(pause));
        self
    }

    /// Then nothing until [`Upstream::release`] or the client leaves.
    pub fn then_hang(mut self) -> Reply {
        self.steps.push(Step::Hang);
        self
    }

    /// Then the socket is cut.
    pub fn then_cut(mut self) -> Reply {
        self.end = End::Cut;
        self
    }

    /// Then the stream closes without its closing event.
    pub fn then_silence(mut self) -> Reply {
        self.end = End::Silence;
        self
    }

    /// Then `response.failed`.
    pub fn then_failed(mut self, code: &str, message: &str) -> Reply {
        self.end = End::Failed(json!({ "code": code, "message": message }));
        self
    }

    /// Then `response.incomplete` for this reason (`max_output_tokens`, `content_filter`).
    pub fn then_incomplete(mut self, reason: &str) -> Reply {
        self.end = End::Incomplete(reason.into());
        self
    }

    /// Pauses this long before each delta.
    pub fn pace(mut self, pause: Duration) -> Reply {
        self.pace = pause;
        self
    }

    /// The token counts: input, of that cached, output, of that reasoning.
    pub fn usage(mut self, input: u64, cached: u64, output: u64, reasoning: u64) -> Reply {
        self.usage = [input, cached, output, reasoning];
        self
    }

    fn usage_json(&self) -> Value {
        let [input, cached, output, reasoning] = self.usage;
        json!({
            "input_tokens": input, "input_tokens_details": { "cached_tokens": cached },
            "output_tokens": output, "output_tokens_details": { "reasoning_tokens": reasoning },
            "total_tokens": input + output,
        })
    }
}

/// How a request's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything scripted was sent.
    Sent,
    /// The client went away before the end.
    ClientClosed,
}

/// One recorded request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST /v1/responses` and the like.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The JSON body; null if there was none.
    pub body: Value,
    /// When it was read.
    pub at: Instant,
    /// Text deltas sent so far.
    pub deltas: usize,
    /// How and when it ended; `None` while it runs.
    pub ended: Option<(Ended, Instant)>,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The items of `input`.
    pub fn items(&self) -> &[Value] {
        self.body["input"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The whole text of the last message of that role.
    pub fn last_text(&self, role: &str) -> String {
        self.items().iter().rev().find(|item| item["role"] == role).map(text_of).unwrap_or_default()
    }

    /// Every `input_image` URL, in order.
    pub fn images(&self) -> Vec<&str> {
        let contents = self.items().iter().filter_map(|item| item["content"].as_array()).flatten();
        contents.filter_map(|part| part["image_url"].as_str()).collect()
    }

    /// What Codex answered to the model's tool calls, in order.
    pub fn tool_outputs(&self) -> Vec<String> {
        let outputs = self.items().iter().filter(|item| is_output(item));
        outputs
            .map(|item| item["output"].as_str().map_or_else(|| item["output"].to_string(), Into::into))
            .collect()
    }

    /// The names of the tools offered, `namespace.name` for those in a namespace.
    pub fn tools(&self) -> Vec<String> {
        tools_of(&self.body)
            .into_iter()
            .map(|(space, name)| space.map_or(name.clone(), |space| format!("{space}.{name}")))
            .collect()
    }

    /// The whole body as text, to search for what must not be in it.
    pub fn text(&self) -> String {
        self.body.to_string()
    }
}

fn is_output(item: &Value) -> bool {
    matches!(item["type"].as_str(), Some("function_call_output" | "custom_tool_call_output"))
}

fn text_of(item: &Value) -> String {
    let parts = item["content"].as_array().into_iter().flatten();
    parts.filter_map(|part| part["text"].as_str()).collect()
}

/// (namespace, name) of every tool, wherever this model's requests carry them.
fn tools_of(body: &Value) -> Vec<(Option<String>, String)> {
    fn add(tools: &Value, space: Option<&str>, found: &mut Vec<(Option<String>, String)>) {
        for tool in tools.as_array().into_iter().flatten() {
            let name = tool["name"].as_str().or(tool["type"].as_str()).unwrap_or_default();
            if tool["tools"].is_array() {
                add(&tool["tools"], Some(name), found);
            } else {
                found.push((space.map(Into::into), name.into()));
            }
        }
    }
    let mut found = vec![];
    add(&body["tools"], None, &mut found);
    for item in body["input"].as_array().into_iter().flatten() {
        if item["type"] == "additional_tools" {
            add(&item["tools"], None, &mut found);
        }
    }
    found
}

struct Rule {
    marker: String,
    replies: VecDeque<Reply>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    queue: VecDeque<Reply>,
    requests: Vec<Request>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    open: AtomicUsize,
    released: AtomicBool,
    stopped: AtomicBool,
    verbose: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The running upstream. Dropping it lets every hanging reply go and stops it.
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Upstream {
    /// Listens on a free loopback port.
    pub fn start() -> Upstream {
        Upstream::listen("127.0.0.1:0", false).expect("bind a loopback port")
    }

    /// Listens on that address; `verbose` says each request on stderr.
    pub fn listen(address: &str, verbose: bool) -> io::Result<Upstream> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { verbose, ..Shared::default() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    shared.open.fetch_add(1, Ordering::SeqCst);
                    // A client that leaves is an ordinary end, recorded with its request.
                    let _ = serve(&shared, stream);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Upstream { shared, address })
    }

    /// The base URL for `model_providers.NAME.base_url`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Queues the reply to the next request that no rule takes.
    pub fn reply(&self, reply: Reply) {
        self.shared.state().queue.push_back(reply);
    }

    /// Answers requests whose body contains `marker` with these replies in order; the last one stays.
    pub fn when(&self, marker: &str, replies: impl IntoIterator<Item = Reply>) {
        let rule = Rule { marker: marker.into(), replies: replies.into_iter().collect() };
        self.shared.state().rules.push(rule);
    }

    /// Lets every hanging reply go on, now and later.
    pub fn release(&self) {
        self.shared.released.store(true, Ordering::SeqCst);
    }

    /// Every `POST …/responses` so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// The only request so far.
    pub fn only_request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "one upstream request expected");
        requests.remove(0)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.release();
        // Wakes the accepting thread, so that the port is free again.
        let _ = TcpStream::connect(self.address);
    }
}

fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// One request per connection: every answer says `connection: close`.
fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some((line, headers)) = read_head(&mut reader)? else { return Ok(()) };
    let length =
        headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    if shared.verbose {
        eprintln!("scripted upstream: {line}, {} bytes", body.len());
    }
    let mut wire = Wire { stream, shared, index: 0, streaming: false, headers: String::new() };
    if !(line.starts_with("POST ") && line.contains("/responses")) {
        // Model lists and websocket upgrades: Codex takes the hint and goes on without.
        return wire.status(404, r#"{"error":{"message":"not here"}}"#);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let reply = {
        let mut state = shared.state();
        let reply = choose(&mut state, &body);
        let request =
            Request { line, headers, body: body.clone(), at: Instant::now(), deltas: 0, ended: None };
        wire.index = state.requests.len();
        state.requests.push(request);
        reply
    };
    wire.headers.clone_from(&reply.headers);
    let outcome = wire.play(&reply, &body);
    let ended = if outcome.is_ok() { Ended::Sent } else { Ended::ClientClosed };
    shared.state().requests[wire.index].ended = Some((ended, Instant::now()));
    outcome
}

fn choose(state: &mut State, body: &Value) -> Reply {
    let text = body.to_string();
    if let Some(rule) = state.rules.iter_mut().find(|rule| text.contains(&rule.marker)) {
        match rule.replies.len() {
            0 => {}
            1 => return rule.replies[0].clone(),
            _ => return rule.replies.pop_front().unwrap_or_else(Reply::nothing),
        }
    }
    state.queue.pop_front().unwrap_or_else(|| persona::reply(body))
}

type Head = (String, Vec<(String, String)>);

fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = vec![];
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            return Ok(Some((line.trim().into(), headers)));
        }
        if let Some((name, value)) = header.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().into()));
        }
    }
}

/// The answering side of a connection.
struct Wire<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    /// Which of the recorded requests this is.
    index: usize,
    streaming: bool,
    /// Header lines of the reply's own.
    headers: String,
}

impl Wire<'_> {
    fn status(&mut self, code: u16, body: &str) -> io::Result<()> {
        let more = &self.headers;
        write!(
            self.stream,
            "HTTP/1.1 {code} Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n{body}",
            body.len()
        )
    }

    fn event(&mut self, event: &Value) -> io::Result<()> {
        let kind = event["type"].as_str().unwrap_or_default();
        let frame = format!("event: {kind}\ndata: {event}\n\n");
        let head = if self.streaming {
            String::new()
        } else {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n{}\r\n",
                self.headers
            )
        };
        self.streaming = true;
        // One write per event: what Codex reads at once is what was scripted as one delta.
        self.stream.write_all(format!("{head}{:x}\r\n{frame}\r\n", frame.len()).as_bytes())
    }

    /// Passes the time, but notices at once when the client has gone.
    fn idle_until(&mut self, done: impl Fn() -> bool) -> io::Result<()> {
        self.stream.set_read_timeout(Some(Duration::from_millis(2)))?;
        while !done() {
            match self.stream.peek(&mut [0]) {
                Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Ok(_) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&mut self, pause: Duration) -> io::Result<()> {
        if pause.is_zero() {
            return Ok(());
        }
        let (start, shared) = (Instant::now(), self.shared);
        self.idle_until(|| start.elapsed() >= pause || shared.stopped.load(Ordering::SeqCst))
    }

    fn play(&mut self, reply: &Reply, body: &Value) -> io::Result<()> {
        let id = format!("resp_{}", next_number());
        let mut output = vec![];
        let created = json!({ "type": "response.created", "response": { "id": id, "status": "in_progress", "output": [] } });
        for step in &reply.steps {
            // A reply that begins by hanging sends not even its head.
            if !self.streaming && !matches!(step, Step::Hang | Step::Wait(_)) {
                self.event(&created)?;
            }
            self.step(step, reply, body, &mut output)?;
        }
        if let End::Status { code, body } = &reply.end {
            return self.status(*code, body);
        }
        if !self.streaming {
            self.event(&created)?;
        }
        let response = |status: &str, extra: Value| {
            let mut response =
                json!({ "id": id, "status": status, "output": output, "usage": reply.usage_json() });
            if let (Some(response), Some(extra)) = (response.as_object_mut(), extra.as_object()) {
                response.extend(extra.clone());
            }
            json!({ "type": format!("response.{status}"), "response": response })
        };
        match &reply.end {
            End::Completed => self.event(&response("completed", json!({})))?,
            End::Incomplete(reason) => {
                self.event(&response("incomplete", json!({ "incomplete_details": { "reason": reason } })))?;
            }
            End::Failed(error) => self.event(&response("failed", json!({ "error": error })))?,
            End::Cut => {
                // The head of a chunk without its body: a broken transfer in any reading of HTTP.
                self.stream.write_all(b"ff\r\nevent: resp")?;
                return self.stream.shutdown(std::net::Shutdown::Both);
            }
            End::Silence | End::Status { .. } => {}
        }
        self.stream.write_all(b"0\r\n\r\n")
    }

    fn step(&mut self, step: &Step, reply: &Reply, body: &Value, output: &mut Vec<Value>) -> io::Result<()> {
        let (shared, index) = (self.shared, output.len());
        let item = match step {
            Step::Wait(pause) => return self.wait(*pause),
            Step::Hang => return self.idle_until(|| shared.released.load(Ordering::SeqCst)),
            Step::Raw(event) => return self.event(event),
            Step::Message { deltas, phase } => {
                let text = deltas.concat();
                let item = self.message(index, deltas, *phase, reply.pace)?;
                with(
                    item,
                    json!({ "status": "completed", "content": [{ "type": "output_text", "text": text, "annotations": [] }] }),
                )
            }
            Step::Partial { deltas } => {
                self.message(index, deltas, None, reply.pace)?;
                return Ok(());
            }
            Step::Reasoning { summary } => {
                let id = format!("rs_{}", next_number());
                let item = json!({ "type": "reasoning", "id": id, "summary": [] });
                self.event(
                    &json!({ "type": "response.output_item.added", "output_index": index, "item": item }),
                )?;
                for (part, text) in summary.iter().enumerate() {
                    self.event(&json!({ "type": "response.reasoning_summary_part.added", "item_id": id, "output_index": index, "summary_index": part, "part": { "type": "summary_text", "text": "" } }))?;
                    self.wait(reply.pace)?;
                    self.event(&json!({ "type": "response.reasoning_summary_text.delta", "item_id": id, "output_index": index, "summary_index": part, "delta": text }))?;
                }
                let parts: Vec<Value> =
                    summary.iter().map(|text| json!({ "type": "summary_text", "text": text })).collect();
                with(item, json!({ "summary": parts }))
            }
            Step::Call { call_id, name, arguments } => {
                let mut item = json!({ "type": "function_call", "id": format!("fc_{}", next_number()), "call_id": call_id, "name": name, "arguments": "" });
                if let Some((Some(space), _)) =
                    tools_of(body).into_iter().find(|(_, offered)| offered == name)
                {
                    item = with(item, json!({ "namespace": space }));
                }
                self.event(
                    &json!({ "type": "response.output_item.added", "output_index": index, "item": item }),
                )?;
                with(item, json!({ "status": "completed", "arguments": arguments }))
            }
            Step::CustomCall { call_id, name, input } => {
                let item = json!({ "type": "custom_tool_call", "id": format!("ctc_{}", next_number()), "call_id": call_id, "name": name, "input": "" });
                self.event(
                    &json!({ "type": "response.output_item.added", "output_index": index, "item": item }),
                )?;
                with(item, json!({ "status": "completed", "input": input }))
            }
        };
        self.event(&json!({ "type": "response.output_item.done", "output_index": index, "item": item }))?;
        output.push(item);
        Ok(())
    }

    fn message(
        &mut self,
        index: usize,
        deltas: &[String],
        phase: Option<&str>,
        pace: Duration,
    ) -> io::Result<Value> {
        let id = format!("msg_{}", next_number());
        let mut item = json!({ "type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": [] });
        if let Some(phase) = phase {
            item = with(item, json!({ "phase": phase }));
        }
        self.event(&json!({ "type": "response.output_item.added", "output_index": index, "item": item }))?;
        for delta in deltas {
            self.wait(pace)?;
            self.event(&json!({ "type": "response.output_text.delta", "item_id": id, "output_index": index, "content_index": 0, "delta": delta }))?;
            self.shared.state().requests[self.index].deltas += 1;
        }
        Ok(item)
    }
}

fn with(mut item: Value, more: Value) -> Value {
    if let (Some(item), Some(more)) = (item.as_object_mut(), more.as_object()) {
        item.extend(more.clone());
    }
    item
}
