//! What a program would do that talks to an app-server itself: a compiled JSON-RPC client with one
//! reader, which hands each notification to the turn it belongs to.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// One app-server and its client.
pub struct Direct {
    shared: Arc<Shared>,
    outbox: mpsc::UnboundedSender<String>,
    next: AtomicU64,
    _child: Child,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<HashMap<u64, oneshot::Sender<String>>>,
    turns: Mutex<HashMap<String, mpsc::UnboundedSender<Heard>>>,
}

enum Heard {
    Delta(String),
    End,
}

#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<Params<'a>>,
    result: Option<Made>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params<'a> {
    thread_id: Option<&'a str>,
    delta: Option<String>,
}

#[derive(Deserialize)]
struct Made {
    thread: Option<Id>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Direct {
    /// Starts an app-server and greets it.
    pub async fn start(fake: &Path) -> Direct {
        let mut child = Command::new(fake)
            .args(["app-server", "--stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (outbox, mut queue) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(mut lines) = queue.recv().await {
                while let Ok(more) = queue.try_recv() {
                    lines.push_str(&more);
                }
                stdin.write_all(lines.as_bytes()).await.unwrap();
            }
        });
        let shared = Arc::<Shared>::default();
        let read = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut reader = BufReader::with_capacity(64 << 10, stdout);
            let mut line = String::new();
            while reader.read_line(&mut line).await.unwrap_or(0) > 0 {
                read.hear(&line);
                line.clear();
            }
        });
        let direct = Direct { shared, outbox, next: AtomicU64::new(0), _child: child };
        direct.call("initialize", json!({ "clientInfo": { "name": "bench", "version": "0" } })).await;
        direct
    }

    async fn call(&self, method: &str, params: Value) -> String {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, reply) = oneshot::channel();
        self.shared.replies.lock().unwrap().insert(id, tell);
        self.outbox.send(format!("{}\n", json!({ "id": id, "method": method, "params": params }))).unwrap();
        reply.await.unwrap()
    }

    /// Runs a turn, gives every delta of it to `on`, and the time to the first one.
    pub async fn ask(&self, prompt: &str, mut on: impl FnMut(&str)) -> Duration {
        let start = Instant::now();
        let thread = self.call("thread/start", json!({ "ephemeral": true })).await;
        let (tell, mut heard) = mpsc::unbounded_channel();
        self.shared.turns.lock().unwrap().insert(thread.clone(), tell);
        let item = json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": prompt }] });
        self.call("thread/inject_items", json!({ "threadId": thread, "items": [item] })).await;
        self.call("turn/start", json!({ "threadId": thread, "input": [] })).await;
        let mut first = None;
        while let Some(Heard::Delta(delta)) = heard.recv().await {
            first.get_or_insert_with(|| start.elapsed());
            on(&delta);
        }
        self.shared.turns.lock().unwrap().remove(&thread);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let release = json!({ "id": id, "method": "thread/unsubscribe", "params": { "threadId": thread } });
        self.outbox.send(format!("{release}\n")).unwrap();
        first.expect("an answer")
    }
}

impl Shared {
    fn hear(&self, line: &str) {
        let Ok(message) = serde_json::from_str::<Message<'_>>(line) else { return };
        if let Some(id) = message.id {
            if let Some(waiting) = self.replies.lock().unwrap().remove(&id) {
                let thread = message.result.and_then(|made| made.thread).map(|thread| thread.id);
                let _ = waiting.send(thread.unwrap_or_default());
            }
            return;
        }
        let Some(params) = message.params else { return };
        let heard = match message.method {
            Some("item/agentMessage/delta") => Heard::Delta(params.delta.unwrap_or_default()),
            Some("turn/completed") => Heard::End,
            _ => return,
        };
        if let Some(turn) = self.turns.lock().unwrap().get(params.thread_id.unwrap_or_default()) {
            let _ = turn.send(heard);
        }
    }
}
