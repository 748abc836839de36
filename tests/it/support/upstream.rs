//! A scripted stand-in for the Responses API that the Codex CLI talks to.
//!
//! It answers `POST …/responses` with what the test queued, records every request whole, and
//! knows how each connection ended: that is the best oracle there is for what Codex was really
//! asked, and for whether a cancelled turn really stopped spending. Standard library threads
//! only, so that it also serves as the stand-alone program behind `make demo`.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use serde_json::Value;

#[path = "persona.rs"]
mod persona;
#[path = "reply.rs"]
mod reply;
#[path = "wire.rs"]
mod wire;

pub use reply::Reply;
use wire::Wire;

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
    /// The same as it was sent.
    pub raw: String,
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
    /// What is told of the account's plan, and how often that was asked.
    plan: Option<Value>,
    plan_asked: usize,
}

#[derive(Default)]
struct Shared {
    /// Until when nothing is told of the plan.
    plan_held: AtomicBool,
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

    /// The base URL for `chatgpt_base_url`.
    pub fn chatgpt_url(&self) -> String {
        format!("http://{}/backend-api", self.address)
    }

    /// Tells that of the account's plan whenever it is asked; a 404 without it.
    pub fn plan(&self, plan: Value) {
        self.shared.state().plan = Some(plan);
    }

    /// Answers nothing about the plan until it is let go.
    pub fn hold_plan(&self, hold: bool) {
        self.shared.plan_held.store(hold, Ordering::SeqCst);
    }

    /// How often the plan was asked for.
    pub fn plan_asked(&self) -> usize {
        self.shared.state().plan_asked
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
    if line.starts_with("GET /backend-api/wham/usage ") {
        shared.state().plan_asked += 1;
        while shared.plan_held.load(Ordering::SeqCst) && !shared.stopped.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let plan = shared.state().plan.clone();
        return match plan {
            Some(plan) => wire.status(200, &plan.to_string()),
            None => wire.status(404, r#"{"detail":"not here"}"#),
        };
    }
    if !(line.starts_with("POST ") && line.contains("/responses")) {
        // Model lists and websocket upgrades: Codex takes the hint and goes on without.
        return wire.status(404, r#"{"error":{"message":"not here"}}"#);
    }
    let raw = String::from_utf8_lossy(&body).into_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let reply = {
        let mut state = shared.state();
        let reply = choose(&mut state, &body);
        let request =
            Request { line, headers, body: body.clone(), raw, at: Instant::now(), deltas: 0, ended: None };
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
