//! A model that does what its conversation asks for, and what Codex keeps of a thread for it.
//!
//! `call N …` from a user is answered by N calls, anything else by `to` and the last entry. Codex asks
//! the upstream again when all open calls are answered; what is put in meanwhile stands behind them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Mishap, Process};

/// The threads of a process, and who waits for the results of calls.
#[derive(Debug, Default)]
pub struct Threads {
    threads: HashMap<String, Thread>,
    calls: HashMap<u64, (String, mpsc::UnboundedSender<(String, String)>)>,
}

#[derive(Debug, Default)]
struct Thread {
    history: Vec<String>,
    /// Put in while calls are open.
    later: Vec<String>,
    holds: bool,
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// An item as it is compared.
fn entry(item: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match item["type"].as_str() {
        Some("function_call") => format!("call {}", text(&item["call_id"])),
        Some("function_call_output") => {
            format!("result {}: {}", text(&item["call_id"]), text(&item["output"]))
        }
        _ => format!("{}: {}", text(&item["role"]), text(&item["content"][0]["text"])),
    }
}

impl Process {
    /// Items are put into a thread.
    pub(super) fn injected(&self, thread: &str, items: &Value) {
        let mut threads = self.threads.lock().unwrap();
        let thread = threads.threads.entry(thread.to_owned()).or_default();
        let entries = items.as_array().into_iter().flatten().map(entry);
        if thread.holds { thread.later.extend(entries) } else { thread.history.extend(entries) }
    }

    /// A request of ours is answered.
    pub(super) fn answered(&self, message: &Value) {
        let text = message["result"]["contentItems"][0]["text"].as_str();
        let call = message["id"].as_u64().and_then(|id| self.threads.lock().unwrap().calls.remove(&id));
        if let (Some((call_id, results)), Some(text)) = (call, text) {
            let _ = results.send((call_id, text.to_owned()));
        }
    }

    fn thread<T>(&self, thread: &str, act: impl FnOnce(&mut Thread) -> T) -> T {
        act(self.threads.lock().unwrap().threads.entry(thread.to_owned()).or_default())
    }

    /// Plays one turn.
    pub(super) async fn model(&self, thread: &str) {
        let turn = format!("turn-{thread}");
        let about = |more: Value| {
            let mut params = json!({ "threadId": thread, "turnId": turn });
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            params
        };
        let end = |status: &str| {
            let turn = json!({ "id": turn, "status": status, "items": [] });
            self.notify("turn/completed", json!({ "threadId": thread, "turn": turn }));
        };
        let mut interrupts = self.interrupts.subscribe();
        let stopped = |all: &Vec<String>| all.iter().any(|one| one.is_empty() || one == thread);
        let used = || {
            let usage = json!({ "inputTokens": 7, "outputTokens": 3 });
            self.notify("rawResponse/completed", about(json!({ "usage": usage })));
        };
        loop {
            let history = self.thread(thread, |thread| thread.history.clone());
            if self.dead.load(Ordering::SeqCst) {
                return;
            }
            self.fake.asked.lock().unwrap().push(history.clone());
            let last = history.last().cloned().unwrap_or_default();
            let calls = last
                .strip_prefix("user: call ")
                .and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
            let Some(calls) = calls else {
                let item = format!("m{}", NUMBER.fetch_add(1, Ordering::Relaxed));
                for text in ["to ", &last] {
                    if stopped(&interrupts.borrow()) {
                        return end("interrupted");
                    }
                    self.notify("item/agentMessage/delta", about(json!({ "itemId": item, "delta": text })));
                    if let Some(Mishap::Hangs) = self.mishap("answer", &Value::Null) {
                        let _ = interrupts.wait_for(stopped).await;
                        return end("interrupted");
                    }
                    tokio::task::yield_now().await;
                }
                self.thread(thread, |thread| thread.history.push(format!("assistant: to {last}")));
                used();
                return end("completed");
            };
            let (results, mut heard) = mpsc::unbounded_channel();
            let ids: Vec<(String, u64)> = (0..calls)
                .map(|_| {
                    (
                        format!("c{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
                        NUMBER.fetch_add(1, Ordering::Relaxed),
                    )
                })
                .collect();
            for (call_id, _) in &ids {
                let item =
                    json!({ "type": "function_call", "call_id": call_id, "name": "look", "arguments": "{}" });
                self.notify("rawResponseItem/completed", about(json!({ "item": item })));
            }
            self.thread(thread, |thread| {
                thread.history.extend(ids.iter().map(|(call_id, _)| format!("call {call_id}")));
                thread.holds = true;
            });
            for (call_id, id) in &ids {
                self.threads.lock().unwrap().calls.insert(*id, (call_id.clone(), results.clone()));
            }
            for (call_id, id) in ids.iter().rev() {
                let params = about(json!({ "callId": call_id, "tool": "look", "arguments": {} }));
                self.say(json!({ "id": id, "method": "item/tool/call", "params": params }));
            }
            used();
            let mut given = HashMap::new();
            while given.len() < ids.len() {
                tokio::select! {
                    biased;
                    _ = interrupts.wait_for(stopped) => return end("interrupted"),
                    Some((call_id, text)) = heard.recv() => drop(given.insert(call_id, text)),
                }
            }
            self.thread(thread, |thread| {
                thread
                    .history
                    .extend(ids.iter().map(|(call_id, _)| format!("result {call_id}: {}", given[call_id])));
                thread.history.append(&mut thread.later);
                thread.holds = false;
            });
        }
    }
}
