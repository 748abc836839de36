//! `codex app-server`: JSON-RPC over stdio, one JSON object a line.
//!
//! Every method has its line in [`Server::call`]; a turn is the list of messages in
//! [`Server::turn`]. Script lines `app-server WORD REST` change its behaviour:
//!
//! | line | effect |
//! |---|---|
//! | `app-server error METHOD MESSAGE` | this method is answered with an error |
//! | `app-server mute METHOD` | this method is never answered |
//! | `app-server exit METHOD` | the process ends when this method is called |
//! | `app-server delta TEXT` | one delta of the answer (default: the text asked for, or `pong`) |
//! | `app-server hang` | the turn stops after its deltas until it is interrupted |
//! | `app-server failed TEXT` | the turn fails with this message after its deltas |

use std::io::{BufRead, Write};

use serde_json::{Value, json};

use crate::script::Script;

/// Serves until stdin ends.
pub fn run(script: &Script, _arguments: &[String]) -> i32 {
    let mut server = Server { script, threads: 0, turns: 0, prompt: String::new(), running: None };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        script.record_stdin(line.as_bytes());
        let Some(method) = message["method"].as_str() else { continue };
        match server.behaviour(method) {
            Some("exit") => return 1,
            Some("mute") => {}
            Some(error) => {
                send(&json!({ "id": message["id"], "error": { "code": -32600, "message": error } }))
            }
            None => server.call(method, &message),
        }
    }
    0
}

struct Server<'a> {
    script: &'a Script,
    threads: u64,
    turns: u64,
    /// What the items injected last said.
    prompt: String,
    /// Thread and turn that hang.
    running: Option<(Value, String)>,
}

impl Server<'_> {
    /// What the script says about a method: an error message, `mute` or `exit`.
    fn behaviour(&self, method: &str) -> Option<&str> {
        self.script.app_server().find_map(|(word, rest)| match word {
            "error" => rest.split_once(' ').filter(|(name, _)| *name == method).map(|(_, message)| message),
            "mute" | "exit" => (rest == method).then_some(if word == "mute" { "mute" } else { "exit" }),
            _ => None,
        })
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
            "model/list" => reply(
                json!({ "data": [{ "id": "gpt-fake", "model": "gpt-fake", "displayName": "Fake", "description": "", "hidden": false, "isDefault": true }], "nextCursor": null }),
            ),
            "thread/start" => {
                self.threads += 1;
                let id = format!("thread-{}", self.threads);
                reply(json!({ "thread": { "id": id }, "model": "gpt-fake" }));
                send(&json!({ "method": "thread/started", "params": { "thread": { "id": id } } }));
            }
            "thread/inject_items" => {
                self.prompt = params["items"].to_string();
                reply(json!({}));
            }
            "turn/start" => {
                self.turns += 1;
                let turn = format!("turn-{}", self.turns);
                reply(json!({ "turn": { "id": turn, "status": "inProgress", "items": [], "error": null } }));
                self.turn(&params["threadId"], turn);
            }
            "turn/interrupt" => match self.running.take() {
                Some((thread, turn)) => {
                    reply(json!({}));
                    completed(&thread, &turn, "interrupted", Value::Null);
                }
                None => send(
                    &json!({ "id": message["id"], "error": { "code": -32600, "message": "no active turn to interrupt" } }),
                ),
            },
            "thread/unsubscribe" => reply(json!({ "status": "unsubscribed" })),
            other => send(
                &json!({ "id": message["id"], "error": { "code": -32600, "message": format!("Invalid request: unknown variant `{other}`") } }),
            ),
        }
    }

    /// A whole turn: started, deltas, the message, usage, the end.
    fn turn(&mut self, thread: &Value, turn: String) {
        let notify = |method: &str, params: Value| send(&json!({ "method": method, "params": params }));
        let mut deltas: Vec<String> = self
            .script
            .app_server()
            .filter(|(word, _)| *word == "delta")
            .map(|(_, text)| text.into())
            .collect();
        if deltas.is_empty() {
            let asked = self
                .prompt
                .split_once("Reply with exactly: ")
                .and_then(|(_, rest)| rest.split(['"', '\\']).next());
            deltas.push(asked.unwrap_or("pong").into());
        }
        let said =
            |name: &str| self.script.app_server().find(|(word, _)| *word == name).map(|(_, rest)| rest);
        let item = format!("msg-{turn}");
        notify("turn/started", json!({ "threadId": thread, "turn": { "id": turn, "status": "inProgress" } }));
        notify(
            "item/started",
            json!({ "threadId": thread, "turnId": turn, "item": { "type": "agentMessage", "id": item, "text": "" } }),
        );
        for delta in &deltas {
            notify(
                "item/agentMessage/delta",
                json!({ "threadId": thread, "turnId": turn, "itemId": item, "delta": delta }),
            );
        }
        if said("hang").is_some() {
            self.running = Some((thread.clone(), turn));
            return;
        }
        if let Some(message) = said("failed") {
            let error = json!({ "message": message, "codexErrorInfo": "other", "additionalDetails": null });
            notify(
                "error",
                json!({ "threadId": thread, "turnId": turn, "error": error, "willRetry": false }),
            );
            completed(thread, &turn, "failed", error);
            return;
        }
        let text = deltas.concat();
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
        completed(thread, &turn, "completed", Value::Null);
    }
}

fn completed(thread: &Value, turn: &str, status: &str, error: Value) {
    send(
        &json!({ "method": "turn/completed", "params": { "threadId": thread, "turn": { "id": turn, "status": status, "items": [], "error": error } } }),
    );
}

fn send(message: &Value) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(format!("{message}\n").as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}
