//! An app-server in memory, for tests: answers as the real one was seen to, or misbehaves where
//! it is told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, WriteHalf, duplex, split};
use tokio::sync::{mpsc, watch};

mod model;

use super::Link;

/// What goes wrong, once, when a message of some method arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It closes its output.
    Dies,
    /// It dies in the middle of a line.
    DiesMidLine,
    /// It never says anything again.
    Hangs,
    /// It answers under an id nobody used, and nothing else.
    WrongId,
    /// It answers with an error.
    Refuses,
    /// It writes something that begins like a message.
    Garbage,
    /// It answers only after what it was asked next.
    Overtaken,
}

/// How turns go.
#[derive(Clone, Debug)]
pub enum Play {
    /// These deltas, then the end.
    Answer(Vec<String>),
    /// This delta, then nothing until interrupted.
    Linger(&'static str),
    /// Deltas of this size without end until interrupted.
    Flood(usize),
    /// Calls of these functions, asked for in reverse order.
    Calls(Vec<&'static str>),
    /// What the conversation asks for: see [`model`].
    Model,
}

/// The fake's rules and its memory, over all its processes.
#[derive(Clone)]
pub struct Fake {
    mishap: Arc<Mutex<Option<(&'static str, Mishap)>>>,
    play: Arc<Mutex<Play>>,
    /// Everything it was told, in order.
    pub heard: Arc<Mutex<Vec<Value>>>,
    /// The conversation of each request to the upstream, where it plays a [`Play::Model`].
    pub asked: Arc<Mutex<Vec<Vec<String>>>>,
    /// How many processes were started.
    pub started: Arc<AtomicUsize>,
    /// How many of them run.
    pub running: watch::Sender<usize>,
    /// How many are between their start and their handshake, at most.
    pub starting: Arc<AtomicUsize>,
    pub most_starting: Arc<AtomicUsize>,
}

impl Fake {
    pub fn new(play: Play) -> Fake {
        Fake {
            mishap: Arc::default(),
            play: Arc::new(Mutex::new(play)),
            heard: Arc::default(),
            asked: Arc::default(),
            started: Arc::default(),
            running: watch::Sender::new(0),
            starting: Arc::default(),
            most_starting: Arc::default(),
        }
    }

    pub fn play(&self, play: Play) {
        *self.play.lock().unwrap() = play;
    }

    /// The next message of this method meets with a mishap. `delta` stands for the first delta.
    pub fn misbehave(&self, method: &'static str, mishap: Mishap) {
        *self.mishap.lock().unwrap() = Some((method, mishap));
    }

    /// How often it was told this.
    pub fn count(&self, method: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|message| message["method"] == method).count()
    }

    pub fn last(&self, method: &str) -> Value {
        let heard = self.heard.lock().unwrap();
        heard.iter().rev().find(|message| message["method"] == method).cloned().unwrap_or_default()
    }

    /// Starts a process.
    pub fn launch(&self) -> Link {
        let (ours, theirs) = duplex(1 << 16);
        let (reader, writer) = split(ours);
        let fake = self.clone();
        fake.started.fetch_add(1, Ordering::SeqCst);
        let starting = fake.starting.fetch_add(1, Ordering::SeqCst) + 1;
        fake.most_starting.fetch_max(starting, Ordering::SeqCst);
        fake.running.send_modify(|running| *running += 1);
        tokio::spawn(async move {
            let (read, write) = split(theirs);
            let (say, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
            let mut out: WriteHalf<DuplexStream> = write;
            let writing = tokio::spawn(async move {
                while let Some(line) = queue.recv().await {
                    if line.is_empty() || out.write_all(&line).await.is_err() {
                        let _ = out.shutdown().await;
                        return;
                    }
                }
            });
            let interrupts = watch::Sender::new(Vec::new());
            let process = Process {
                fake: fake.clone(),
                say,
                interrupts,
                threads: Arc::default(),
                dead: Arc::default(),
            };
            let mut lines = BufReader::new(read).lines();
            let mut greeted = false;
            while let Ok(Some(line)) = lines.next_line().await {
                let message: Value = serde_json::from_str(&line).unwrap();
                if message["method"] == "initialized" && !std::mem::replace(&mut greeted, true) {
                    fake.starting.fetch_sub(1, Ordering::SeqCst);
                }
                if !process.hear(message) {
                    break;
                }
            }
            // End of its input: it ends, as the real one does.
            process.interrupts.send_modify(|all| all.push(String::new()));
            drop(process);
            writing.abort();
            if !greeted {
                fake.starting.fetch_sub(1, Ordering::SeqCst);
            }
            fake.running.send_modify(|running| *running -= 1);
        });
        Link { reader: Box::new(reader), writer: Box::new(writer), child: None, input: None, databases: None }
    }
}

const METHODS: [&str; 7] = [
    "initialize",
    "getAuthStatus",
    "thread/start",
    "thread/inject_items",
    "thread/unsubscribe",
    "turn/start",
    "turn/interrupt",
];

/// What is not understood, and is no event in the fake's life.
fn refusal(method: &str, params: &Value) -> Option<String> {
    if method == "thread/start" && params.as_object()?.values().any(Value::is_number) {
        return Some("Invalid request: invalid type: integer `5`".into());
    }
    let known = || METHODS.map(|method| format!("`{method}`")).join(", ");
    (method.starts_with("codex-api-proxy/"))
        .then(|| format!("Invalid request: unknown variant `{method}`, expected one of {}", known()))
}

#[derive(Clone)]
struct Process {
    fake: Fake,
    /// Lines to write; an empty one closes the output.
    say: mpsc::UnboundedSender<Vec<u8>>,
    /// Threads interrupted; an empty name is all of them.
    interrupts: watch::Sender<Vec<String>>,
    threads: Arc<Mutex<model::Threads>>,
    /// What still comes in finds nobody.
    dead: Arc<AtomicBool>,
}

impl Process {
    fn say(&self, message: Value) {
        let _ = self.say.send(format!("{message}\n").into_bytes());
    }

    fn notify(&self, method: &str, params: Value) {
        self.say(json!({"method": method, "params": params}));
    }

    /// Takes the planned mishap if it is due. True: nothing else is to happen.
    fn mishap(&self, method: &str, id: &Value) -> Option<Mishap> {
        let mut planned = self.fake.mishap.lock().unwrap();
        let (_, mishap) = planned.take_if(|(at, _)| *at == method)?;
        match mishap {
            Mishap::Dies => {
                self.dead.store(true, Ordering::SeqCst);
                self.say.send(vec![]).unwrap_or_default();
            }
            Mishap::DiesMidLine => {
                self.dead.store(true, Ordering::SeqCst);
                let _ = self.say.send(format!("{{\"id\":{id},\"resu").into_bytes());
                let _ = self.say.send(vec![]);
            }
            Mishap::Hangs => {}
            Mishap::WrongId => self.say(json!({"id": 987_654, "result": {}})),
            Mishap::Refuses => self.say(json!({"id": id, "error": {"code": -32600, "message": "no"}})),
            Mishap::Garbage => self.say.send(b"{\"oops\n".to_vec()).unwrap_or_default(),
            Mishap::Overtaken => {
                let (process, id) = (self.clone(), id.clone());
                tokio::spawn(async move {
                    let follows = |process: &Process| process.fake.count("turn/start") > 0;
                    while !follows(&process) {
                        tokio::task::yield_now().await;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    process.say(json!({"id": id, "result": {}}));
                });
            }
        }
        Some(mishap)
    }

    /// False: the process is to end.
    fn hear(&self, message: Value) -> bool {
        let (method, id) = (message["method"].as_str().unwrap_or_default(), &message["id"]);
        if self.dead.load(Ordering::SeqCst) {
            return true;
        }
        if method.is_empty() {
            self.answered(&message);
            self.fake.heard.lock().unwrap().push(message);
            return true;
        }
        if let Some(refusal) = refusal(method, &message["params"]) {
            self.say(json!({"id": id, "error": {"code": -32600, "message": refusal}}));
            return true;
        }
        self.fake.heard.lock().unwrap().push(message.clone());
        match self.mishap(method, id) {
            None => {}
            Some(Mishap::Dies | Mishap::DiesMidLine) => return true,
            Some(_) => return true,
        }
        let thread = message["params"]["threadId"].as_str().unwrap_or_default().to_owned();
        let result = match method {
            "initialize" => json!({"userAgent": "x/0.169.0 (fake)"}),
            "getAuthStatus" => json!({"authMethod": "chatgpt", "requiresOpenaiAuth": true}),
            "thread/start" => json!({"thread": {"id": format!("thread{id}")}}),
            "turn/start" => json!({"turn": {"id": format!("turn-{thread}")}}),
            "turn/interrupt" | "thread/inject_items" | "thread/unsubscribe" => json!({}),
            _ => return true,
        };
        if method == "thread/inject_items" {
            self.injected(&thread, &message["params"]["items"]);
        }
        self.say(json!({"id": id, "result": result}));
        match method {
            "turn/start" => {
                let process = self.clone();
                tokio::spawn(async move { process.turn(thread).await });
            }
            "turn/interrupt" => self.interrupts.send_modify(|all| all.push(thread)),
            _ => {}
        }
        true
    }

    async fn turn(&self, thread: String) {
        let turn = format!("turn-{thread}");
        let mut interrupts = self.interrupts.subscribe();
        let delta = |text: &str| {
            self.notify(
                "item/agentMessage/delta",
                json!({"threadId": thread, "turnId": turn, "itemId": "m", "delta": text}),
            );
        };
        let end = |status: &str| {
            self.notify(
                "turn/completed",
                json!({"threadId": thread, "turn": {"id": turn, "status": status, "items": []}}),
            );
        };
        let used = || {
            self.notify(
                "rawResponse/completed",
                json!({"threadId": thread, "turnId": turn, "usage": {"inputTokens": 7, "outputTokens": 3}}),
            );
        };
        let stopped = |all: &Vec<String>| all.iter().any(|one| one.is_empty() || *one == thread);
        let play = self.fake.play.lock().unwrap().clone();
        if self.mishap("delta", &Value::Null).is_some() {
            return;
        }
        match play {
            Play::Model => return self.model(&thread).await,
            Play::Answer(deltas) => {
                for text in &deltas {
                    delta(text);
                    tokio::task::yield_now().await;
                }
                if self.mishap("end", &Value::Null).is_some() {
                    return;
                }
                used();
                end("completed");
                return;
            }
            Play::Linger(text) => delta(text),
            Play::Flood(size) => {
                while !stopped(&interrupts.borrow()) {
                    delta(&"x".repeat(size));
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
            Play::Calls(names) => {
                for (index, name) in names.iter().enumerate() {
                    self.notify(
                        "rawResponseItem/completed",
                        json!({"threadId": thread, "turnId": turn, "item": {
                            "type": "function_call", "call_id": format!("c{index}"), "name": name, "arguments": "{\"n\": 1}"}}),
                    );
                }
                for (index, name) in names.iter().enumerate().rev() {
                    self.say(json!({"id": 1000 + index, "method": "item/tool/call", "params": {
                        "threadId": thread, "turnId": turn, "callId": format!("c{index}"), "tool": name, "arguments": {"n": 1}}}));
                }
                used();
            }
        }
        let _ = interrupts.wait_for(stopped).await;
        end("interrupted");
    }
}
