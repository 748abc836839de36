//! `codex app-server`: JSON-RPC over stdio, one JSON object a line.
//!
//! Every method has its line in [`Server::call`]; a turn is the list of messages in
//! [`Server::turn`]. Script lines `app-server WORD REST` change its behaviour:
//!
//! | line | effect |
//! |---|---|
//! | `app-server pause METHOD MS` | this method is answered so much later, others meanwhile |
//! | `app-server error METHOD MESSAGE` | this method is answered with an error |
//! | `app-server mute METHOD` | this method is never answered |
//! | `app-server exit METHOD` | the process ends when this method is called |
//! | `app-server part METHOD` | it ends in the middle of the reply to it |
//! | `app-server wrong-id METHOD` | the reply to it has an id that nobody used |
//! | `app-server garbage METHOD` | in place of the reply comes what only begins like one |
//! | `app-server lacks NAME` | this method, or this parameter of `thread/start`, is not known |
//! | `app-server forks` | `thread/fork` is known; without this line it is not |
//! | `app-server limit-bytes N` | the process ends once it has written so much |
//! | `app-server flood N` | before each reply, so many bytes of news that nobody asked for |
//! | `app-server ignore-term` | neither SIGTERM nor the end of its input ends it |
//! | `app-server heavy N` | its first turn takes so many MiB of memory and never gives them back |
//! | `app-server log N` | its first turn writes a log of so many MiB |
//! | `app-server delta TEXT` | one delta of the answer (default: the text asked for, or `pong`) |
//! | `app-server hang` | the turn stops after its deltas until it is interrupted |
//! | `app-server failed TEXT` | the turn fails with this message after its deltas |
//!
//! Without a script the prompt decides: `Reply with exactly: TEXT`; or `Stream N`, then N deltas of
//! which each is its number and a space; `Stream N every MS`, paced, and with the time of its
//! writing (Unix time in microseconds) behind its number; `Stream N and hang`.
//!
//! What is written while more requests wait to be read goes out in one piece.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::script::Script;

/// Serves until stdin ends.
pub fn run(script: &Script, arguments: &[String]) -> i32 {
    let said = |name: &str| script.app_server().find(|(word, _)| *word == name).map(|(_, rest)| rest);
    if said("ignore-term").is_some() && !ignores_term() {
        return super::exec::ignoring_term(arguments);
    }
    if let Some(limit) = said("limit-bytes").and_then(|bytes| bytes.parse().ok()) {
        *lock(&LIMIT) = Some(limit);
    }
    let code = serve(script);
    while ignores_term() {
        std::thread::park();
    }
    code
}

fn ignores_term() -> bool {
    std::env::var_os("FAKE_CODEX_IGNORES_TERM").is_some()
}

fn serve(script: &Script) -> i32 {
    let mut server = Server { script, threads: 0, turns: 0, prompts: HashMap::new() };
    let mut input = std::io::BufReader::with_capacity(BATCH, std::io::stdin().lock());
    let mut line = String::new();
    loop {
        if !input.buffer().contains(&b'\n') {
            flush(&mut lock(&OUT));
        }
        line.clear();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            return 0;
        }
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        script.record_stdin(line.as_bytes());
        let Some(method) = message["method"].as_str() else { continue };
        if let Some(bytes) = server.number("flood") {
            let noise = json!({ "method": "new/thing", "params": { "text": "x".repeat(1000) } }).to_string();
            (0..=bytes / noise.len()).for_each(|_| send_line(&noise));
        }
        let id = &message["id"];
        if let Some(refusal) = server.not_known(method, &message["params"]) {
            send(&json!({ "id": id, "error": { "code": -32600, "message": refusal } }));
            continue;
        }
        match server.behaviour(method) {
            Some(("exit", _)) => {
                flush(&mut lock(&OUT));
                return 1;
            }
            Some(("part", _)) => {
                lock(&OUT).extend_from_slice(format!(r#"{{"id":{id},"resu"#).as_bytes());
                flush(&mut lock(&OUT));
                return 1;
            }
            Some(("wrong-id", _)) => send(&json!({ "id": 987_654, "result": {} })),
            Some(("garbage", _)) => send_line(r#"{"id":"#),
            Some(("error", error)) => {
                send(&json!({ "id": id, "error": { "code": -32600, "message": error } }))
            }
            Some(_) => {}
            None => server.call(method, &message),
        }
    }
}

struct Server<'a> {
    script: &'a Script,
    threads: u64,
    turns: u64,
    /// What the items injected into a thread say.
    prompts: HashMap<String, String>,
}

/// The methods it knows.
const METHODS: &[&str] = &[
    "initialize",
    "initialized",
    "getAuthStatus",
    "account/read",
    "thread/start",
    "thread/fork",
    "thread/inject_items",
    "turn/start",
    "turn/interrupt",
    "thread/unsubscribe",
];

/// How many bytes may still be written.
static LIMIT: Mutex<Option<usize>> = Mutex::new(None);

/// Turns that have not ended: their threads.
static RUNNING: Mutex<Option<HashMap<String, Value>>> = Mutex::new(None);

/// Output that is not written yet.
static OUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// So much output is written at the latest.
const BATCH: usize = 64 << 10;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flush(out: &mut Vec<u8>) {
    let mut stdout = std::io::stdout().lock();
    if let Some(left) = &mut *lock(&LIMIT) {
        if *left <= out.len() {
            let _ = stdout.write_all(&out[..*left]).and_then(|()| stdout.flush());
            std::process::exit(1);
        }
        *left -= out.len();
    }
    if stdout.write_all(out).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
    out.clear();
}

fn send(message: &Value) {
    send_line(&message.to_string());
}

fn send_line(line: &str) {
    let mut out = lock(&OUT);
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
    if out.len() >= BATCH {
        flush(&mut out);
    }
}

fn notify(method: &str, params: Value) {
    send(&json!({ "method": method, "params": params }));
}

/// Whether the turn was running until now.
fn ends(turn: &str) -> bool {
    lock(&RUNNING).as_mut().is_some_and(|running| running.remove(turn).is_some())
}

fn is_running(turn: &str) -> bool {
    lock(&RUNNING).as_ref().is_some_and(|running| running.contains_key(turn))
}

impl Server<'_> {
    /// What the script says about a method: a word, and the message of an error.
    fn behaviour(&self, method: &str) -> Option<(&str, &str)> {
        self.script.app_server().find_map(|(word, rest)| match word {
            "error" => rest.split_once(' ').filter(|(name, _)| *name == method).map(|(_, text)| (word, text)),
            "mute" | "exit" | "part" | "wrong-id" | "garbage" => (rest == method).then_some((word, "")),
            _ => None,
        })
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.script.app_server().find(|(word, _)| *word == name)?.1.parse().ok()
    }

    fn grow(&self) {
        if let Some(size) = self.number("heavy") {
            // Written to: only then it is there.
            std::mem::forget(vec![1_u8; size << 20]);
        }
        if let (Some(size), Some(folder)) = (self.number("log"), std::env::var_os("CODEX_SQLITE_HOME")) {
            let log = std::fs::File::create(std::path::Path::new(&folder).join("logs_2.sqlite"));
            log.and_then(|log| log.set_len((size as u64) << 20)).expect("the log can be written");
        }
    }

    /// As the real one: an unknown method is answered with the known ones, a known parameter of the
    /// wrong type with an error, an unknown one not at all.
    fn not_known(&self, method: &str, params: &Value) -> Option<String> {
        let forks = self.script.app_server().any(|(word, _)| word == "forks");
        let lacks = |name: &str| {
            self.script.app_server().any(|said| said == ("lacks", name)) || (name == "thread/fork" && !forks)
        };
        if !METHODS.contains(&method) || lacks(method) {
            let known = METHODS.iter().filter(|name| !lacks(name)).map(|name| format!("`{name}`"));
            let known = known.collect::<Vec<_>>().join(", ");
            return Some(format!("Invalid request: unknown variant `{method}`, expected one of {known}"));
        }
        let wrong = |(name, value): (&String, &Value)| value.is_number() && !lacks(name);
        let wrong = method == "thread/start" && params.as_object().is_some_and(|all| all.iter().any(wrong));
        wrong.then(|| "Invalid request: invalid type: integer `5`".into())
    }

    fn call(&mut self, method: &str, message: &Value) {
        let params = &message["params"];
        let reply = |result: Value| send(&json!({ "id": message["id"], "result": result }));
        match method {
            "initialize" => reply(json!({ "userAgent": "fake-codex/0.169.0" })),
            "initialized" => {}
            "getAuthStatus" => reply(if self.script.has("logged-out") {
                json!({ "authMethod": null, "authToken": null, "requiresOpenaiAuth": true })
            } else {
                json!({ "authMethod": "apikey", "authToken": null, "requiresOpenaiAuth": true })
            }),
            "account/read" => reply(json!({ "account": { "type": "apiKey" }, "requiresOpenaiAuth": true })),
            "thread/start" | "thread/fork" => {
                self.threads += 1;
                let id = format!("thread-{}", self.threads);
                let reply =
                    json!({ "id": message["id"], "result": { "thread": { "id": id }, "model": "gpt-fake" } });
                let started = json!({ "method": "thread/started", "params": { "thread": { "id": id } } });
                match self.pause(method) {
                    None => {
                        send(&reply);
                        send(&started);
                    }
                    Some(pause) => drop(std::thread::spawn(move || {
                        std::thread::sleep(pause);
                        send(&reply);
                        send(&started);
                        flush(&mut lock(&OUT));
                    })),
                }
            }
            "thread/inject_items" => {
                let thread = params["threadId"].as_str().unwrap_or_default();
                self.prompts.insert(thread.to_owned(), params["items"].to_string());
                reply(json!({}));
            }
            "turn/start" => {
                self.turns += 1;
                let turn = format!("turn-{}", self.turns);
                if self.turns == 1 {
                    self.grow();
                }
                reply(json!({ "turn": { "id": turn, "status": "inProgress", "items": [], "error": null } }));
                self.turn(&params["threadId"], turn);
            }
            "turn/interrupt" => {
                let turn = params["turnId"].as_str().unwrap_or_default();
                let thread = &params["threadId"];
                if ends(turn) {
                    reply(json!({}));
                    completed(thread, turn, "interrupted", Value::Null);
                } else {
                    send(
                        &json!({ "id": message["id"], "error": { "code": -32600, "message": "no active turn to interrupt" } }),
                    );
                }
            }
            "thread/unsubscribe" => reply(json!({ "status": "unsubscribed" })),
            _ => {}
        }
    }

    /// How long the script has a method take.
    fn pause(&self, method: &str) -> Option<Duration> {
        let ours = |rest: &str| Some(rest.strip_prefix(method)?.trim().to_owned());
        let pauses = self.script.app_server().filter(|(word, _)| *word == "pause");
        pauses.filter_map(|(_, rest)| ours(rest)?.parse().ok()).next().map(Duration::from_millis)
    }

    /// A whole turn: started, deltas, the message, usage, the end.
    fn turn(&mut self, thread: &Value, turn: String) {
        let prompt = self.prompts.remove(thread.as_str().unwrap_or_default()).unwrap_or_default();
        lock(&RUNNING).get_or_insert_default().insert(turn.clone(), thread.clone());
        notify("turn/started", json!({ "threadId": thread, "turn": { "id": turn, "status": "inProgress" } }));
        notify(
            "item/started",
            json!({ "threadId": thread, "turnId": turn, "item": { "type": "agentMessage", "id": format!("msg-{turn}"), "text": "" } }),
        );
        let turn = Running { thread: thread.clone(), turn };
        let after = |mark: &str| {
            let rest = prompt.split_once(mark)?.1;
            Some(rest.split(['"', '\\']).next().unwrap_or_default().to_owned())
        };
        if let Some(order) = after("Stream ") {
            return turn.stream(&order);
        }
        let said =
            |name: &str| self.script.app_server().find(|(word, _)| *word == name).map(|(_, rest)| rest);
        let mut text = String::new();
        for (_, delta) in self.script.app_server().filter(|(word, _)| *word == "delta") {
            turn.delta(delta);
            text.push_str(delta);
        }
        if text.is_empty() {
            text = after("Reply with exactly: ").unwrap_or_else(|| "pong".into());
            turn.delta(&text);
        }
        if said("hang").is_some() {
            return;
        }
        match said("failed") {
            Some(message) => turn.fail(message),
            None => turn.complete(&text),
        }
    }
}

/// A turn that has begun.
struct Running {
    thread: Value,
    turn: String,
}

impl Running {
    fn delta(&self, delta: &str) {
        // By hand: a flood of deltas is to cost the reader more than us.
        let Running { thread, turn } = self;
        let delta = Value::from(delta);
        send_line(&format!(
            r#"{{"method":"item/agentMessage/delta","params":{{"threadId":{thread},"turnId":"{turn}","itemId":"msg-{turn}","delta":{delta}}}}}"#
        ));
    }

    /// `N`, `N every MS` or `N and hang`.
    fn stream(self, order: &str) {
        let words: Vec<&str> = order.split_whitespace().collect();
        let count: usize = words.first().and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut text = String::new();
        if let ["every", pace] = words[1..] {
            let pace = Duration::from_millis(pace.parse().unwrap_or(1));
            std::thread::spawn(move || {
                // Streams that start together must not beat together.
                let jitter = self.turn.bytes().fold(7_u32, |sum, byte| sum * 31 % 1009 + u32::from(byte));
                std::thread::sleep(pace.mul_f64(f64::from(jitter % 100) / 100.0));
                for number in 0..count {
                    std::thread::sleep(pace);
                    if !is_running(&self.turn) {
                        return;
                    }
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
                    let from = text.len();
                    let _ = write!(text, "{number} {now} ");
                    self.delta(&text[from..]);
                    flush(&mut lock(&OUT));
                }
                self.complete(&text);
                flush(&mut lock(&OUT));
            });
            return;
        }
        for number in 0..count {
            let from = text.len();
            let _ = write!(text, "{number} ");
            self.delta(&text[from..]);
        }
        if words.len() == 1 {
            self.complete(&text);
        }
    }

    fn fail(self, message: &str) {
        let Running { thread, turn } = self;
        let error = json!({ "message": message, "codexErrorInfo": "other", "additionalDetails": null });
        notify("error", json!({ "threadId": thread, "turnId": turn, "error": error, "willRetry": false }));
        if ends(&turn) {
            completed(&thread, &turn, "failed", error);
        }
    }

    fn complete(self, text: &str) {
        let Running { thread, turn } = self;
        let item = format!("msg-{turn}");
        notify(
            "item/completed",
            json!({ "threadId": thread, "turnId": turn, "item": { "type": "agentMessage", "id": item, "text": text } }),
        );
        notify(
            "rawResponseItem/completed",
            json!({ "threadId": thread, "turnId": turn, "item": { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": text }] } }),
        );
        let usage = json!({ "totalTokens": 18, "inputTokens": 11, "cachedInputTokens": 3, "cacheWriteInputTokens": 0, "outputTokens": 7, "reasoningOutputTokens": 2 });
        notify(
            "rawResponse/completed",
            json!({ "threadId": thread, "turnId": turn, "responseId": "resp-1", "usage": usage }),
        );
        notify(
            "thread/tokenUsage/updated",
            json!({ "threadId": thread, "turnId": turn, "tokenUsage": { "total": usage, "last": usage, "modelContextWindow": 272000 } }),
        );
        if ends(&turn) {
            completed(&thread, &turn, "completed", Value::Null);
        }
    }
}

fn completed(thread: &Value, turn: &str, status: &str, error: Value) {
    send(
        &json!({ "method": "turn/completed", "params": { "threadId": thread, "turn": { "id": turn, "status": status, "items": [], "error": error } } }),
    );
}
