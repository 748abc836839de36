//! `make bench ARGS=cache`: how much of a conversation is paid for once.
//!
//! The real Codex CLI against an upstream that remembers what it was sent under which `session-id`
//! and `prompt_cache_key`. Of each request the bytes count as cached that an earlier request under the
//! same two began with, to the byte, inside an item too: the ids that Codex gives to items are
//! left out, as no model reads them. Beside it stands a client without Codex that sends the same
//! conversations under one key each. What matters is the quotient of the two shares.

mod other;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::upstream::{Reply, Request, Upstream};
use crate::{Bench, percentile};

/// Measures and prints.
pub async fn run(bench: &Bench) {
    let Some(codex) = real_codex() else {
        println!("\ncache: skipped: the pinned Codex CLI is not there (`make test-tools` gets it)");
        return;
    };
    for engine in ["app-server", "exec"] {
        println!(
            "\n{:<48} {:>10} {:>10} {:>8} {:>10}   target",
            format!("cached share, {engine}, the real Codex CLI"),
            "ours",
            "direct",
            "",
            "ms/turn"
        );
        for continuation in ["auto", "off"] {
            for scene in SCENES {
                if scene.tools && engine == "exec" {
                    continue;
                }
                let upstream = Upstream::start();
                let provider = format!(
                    "--codex-config=model_providers.mock={{name=\"mock\",base_url=\"{}\",wire_api=\"responses\",\
                     request_max_retries=0,stream_max_retries=0}}",
                    upstream.url()
                );
                let settings = [
                    &format!("--engine={engine}"),
                    "--codex-config=model_provider=\"mock\"",
                    &provider,
                    &format!("--continuation={continuation}"),
                    "--turns-per-worker=8",
                    "--reasoning=off",
                ];
                let (mut proxy, address) = bench.serve(&codex, &settings).await;
                let run = *scene;
                let (talk, upstream) = tokio::task::spawn_blocking(move || {
                    let mut talk = Talk { address, upstream: &upstream, sent: vec![], times: vec![] };
                    (run.play)(&mut talk, run);
                    let Talk { sent, times, .. } = talk;
                    ((sent, times), upstream)
                })
                .await
                .unwrap();
                proxy.kill().await.unwrap();
                let (sent, mut times) = talk;
                times.sort_by(f64::total_cmp);
                let (ours, direct) = (share(upstream.requests().iter().map(seen)), share(sent.into_iter()));
                let target = if continuation == "off" { "" } else { scene.target };
                println!(
                    "{:<48} {ours:>10.2} {direct:>10.2} {:>8.2} {:>10.0}   {target}",
                    format!("{} (continuation = {continuation})", scene.name),
                    ours / direct,
                    percentile(&times, 0.5),
                );
            }
        }
    }
}

fn real_codex() -> Option<PathBuf> {
    let found = Command::new("tests/tools/get-codex.sh").arg("pinned").output().ok()?;
    let path = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim());
    (found.status.success() && path.is_file()).then_some(path)
}

/// The format a client speaks.
#[derive(Clone, Copy, PartialEq)]
enum Api {
    Chat,
    Responses,
    Messages,
}

/// One way of using the API.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    /// Whether functions are offered.
    tools: bool,
    stream: bool,
    api: Api,
    target: &'static str,
    play: fn(&mut Talk, Scene),
}

const CHAT: Scene = Scene {
    name: "chat of 6 turns",
    tools: false,
    stream: false,
    api: Api::Chat,
    target: ">= 0.98",
    play: |talk, scene| talk.chats(scene, 1, 6),
};

const SCENES: &[Scene] = &[
    CHAT,
    Scene { name: "chat of 30 turns", play: |talk, scene| talk.chats(scene, 1, 30), ..CHAT },
    Scene { name: "chat of 6 turns, streamed", stream: true, ..CHAT },
    Scene { name: "three chats in turn", play: |talk, scene| talk.chats(scene, 3, 6), ..CHAT },
    Scene {
        name: "an edit in the middle",
        target: ">= 0.95",
        play: |talk, scene| talk.edited(scene),
        ..CHAT
    },
    Scene { name: "chat of 6 turns, tools idle", tools: true, ..CHAT },
    Scene { name: "two tool loops of 10", tools: true, play: |talk, scene| talk.loops(scene, 10), ..CHAT },
    Scene {
        name: "two tool loops of 6, streamed",
        tools: true,
        stream: true,
        play: |talk, scene| talk.loops(scene, 6),
        ..CHAT
    },
    Scene {
        name: "five parallel sub-agents",
        tools: true,
        target: ">= 0.95",
        play: |talk, scene| talk.agents(scene),
        ..CHAT
    },
    RESPONSES,
    Scene {
        name: "two tool loops of 6, /v1/responses",
        tools: true,
        play: |talk, scene| talk.loops(scene, 6),
        ..RESPONSES
    },
    MESSAGES,
    Scene {
        name: "two tool loops of 6, /v1/messages",
        tools: true,
        play: |talk, scene| talk.loops(scene, 6),
        ..MESSAGES
    },
];

/// The same conversations in the other formats.
const RESPONSES: Scene = Scene { name: "chat of 6 turns, /v1/responses", api: Api::Responses, ..CHAT };
const MESSAGES: Scene = Scene { name: "chat of 6 turns, /v1/messages", api: Api::Messages, ..CHAT };

/// What was asked under one key, as text that only grows.
type Asked = (String, String);

/// A client at work.
struct Talk<'a> {
    address: SocketAddr,
    upstream: &'a Upstream,
    /// What a direct client would have sent: the key of the conversation, and all of the request.
    sent: Vec<Asked>,
    /// Milliseconds of each request.
    times: Vec<f64>,
}

impl Talk<'_> {
    /// Asks once; gives the answer's message.
    fn ask(&mut self, scene: Scene, key: &str, messages: &[Value]) -> Value {
        let (said, asked, took) = ask(self.address, scene, key, messages);
        self.sent.push(asked);
        self.times.push(took);
        said
    }

    /// Chats that take turns.
    fn chats(&mut self, scene: Scene, count: usize, turns: usize) {
        let mut chats: Vec<Vec<Value>> = (0..count).map(|chat| opening(&format!("chat {chat}"))).collect();
        for turn in 0..turns {
            for (index, messages) in chats.iter_mut().enumerate() {
                messages.push(question(index, turn));
                let said = self.ask(scene, &index.to_string(), messages);
                messages.push(said);
            }
        }
    }

    /// A chat whose sixth question is asked anew, after which it goes on.
    fn edited(&mut self, scene: Scene) {
        let mut messages = opening("edited");
        for turn in 0..12 {
            if turn == 6 {
                messages.truncate(messages.len() - 2);
            }
            messages.push(question(0, turn));
            let said = self.ask(scene, "edited", &messages);
            messages.push(said);
        }
    }

    /// Two tasks, one after the other in one conversation, that take so many calls of a function each.
    fn loops(&mut self, scene: Scene, steps: usize) {
        let mut messages = opening("loop");
        self.script("This is loop.", steps, 2);
        for task in 0..2 {
            messages.push(json!({ "role": "user", "content": format!("Do task {task}.") }));
            loop {
                let said = self.ask(scene, "loop", &messages);
                if !answer_calls(&mut messages, said) {
                    break;
                }
            }
        }
    }

    /// Five agents under one set of instructions, each with a task of its own, at once.
    fn agents(&mut self, scene: Scene) {
        for agent in 0..5 {
            self.script(&format!("Agent task {agent}."), 4, 1);
        }
        let address = self.address;
        let agents: Vec<_> = (0..5)
            .map(|agent| {
                std::thread::spawn(move || {
                    let mut messages = opening("agents");
                    messages.push(json!({ "role": "user", "content": format!("Agent task {agent}.") }));
                    let mut asked = vec![];
                    loop {
                        let (said, sent, took) = ask(address, scene, &agent.to_string(), &messages);
                        asked.push((sent, took));
                        if !answer_calls(&mut messages, said) {
                            return asked;
                        }
                    }
                })
            })
            .collect();
        for agent in agents {
            for (sent, took) in agent.join().unwrap() {
                self.sent.push(sent);
                self.times.push(took);
            }
        }
    }

    /// Has the model call a function so often, `tasks` times, before it answers who said `marker`.
    fn script(&self, marker: &str, calls: usize, tasks: usize) {
        let call = |step| Reply::nothing().then_call("look", &format!("{{\"step\":{step}}}"));
        let task = || (0..calls).map(call).chain([Reply::text("It is done.")]);
        self.upstream.when(marker, (0..tasks).flat_map(|_| task()));
    }
}

/// Puts the model's message and the results of its calls into the conversation; whether there were any.
fn answer_calls(messages: &mut Vec<Value>, said: Value) -> bool {
    let calls = said["tool_calls"].as_array().cloned().unwrap_or_default();
    messages.push(said);
    for call in &calls {
        let content = format!("Line of the result of {}. ", call["function"]["arguments"]).repeat(20);
        messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": content }));
    }
    !calls.is_empty()
}

fn opening(name: &str) -> Vec<Value> {
    let rules = "You are of few words, and you keep to what you were told before. ".repeat(60);
    vec![json!({ "role": "system", "content": format!("This is {name}. {rules}") })]
}

fn question(chat: usize, turn: usize) -> Value {
    let padding = "Mind all that was said above. ".repeat(10);
    json!({ "role": "user", "content": format!("{padding}Reply with exactly: answer {turn} of chat {chat}") })
}

fn tools() -> Value {
    let tool = |name: &str| {
        json!({ "type": "function", "function": { "name": name, "description": "Looks something up. ".repeat(8),
            "parameters": { "type": "object", "properties": { "step": { "type": "integer" } }, "required": ["step"] } } })
    };
    json!([tool("look"), tool("read"), tool("find")])
}

/// One request, whole or streamed: the message that came, what was asked, and how long it took.
fn ask(address: SocketAddr, scene: Scene, key: &str, messages: &[Value]) -> (Value, Asked, f64) {
    let mut text = if scene.tools { tools().to_string() } else { String::new() };
    messages.iter().for_each(|message| text += &message.to_string());
    let offered = if scene.tools { tools() } else { json!([]) };
    let (path, body) = match scene.api {
        Api::Chat => ("chat/completions", json!({ "messages": messages, "tools": offered })),
        Api::Responses => ("responses", other::response_request(messages, &offered)),
        Api::Messages => ("messages", other::message_request(messages, &offered)),
    };
    let mut body = body;
    (body["model"], body["stream"]) = (json!("codex-local"), json!(scene.stream));
    let start = Instant::now();
    let answer = post(address, path, &body.to_string());
    let took = crate::milliseconds(start);
    let said = match scene.api {
        Api::Chat if scene.stream => folded(&answer),
        Api::Chat => whole(&answer),
        Api::Responses => other::response(&answer),
        Api::Messages => other::message(&answer),
    };
    (said, (key.to_owned(), text), took)
}

fn post(address: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /v1/{path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.contains(" 200 "), "{answer}");
    body.to_owned()
}

fn whole(answer: &str) -> Value {
    let mut answer: Value = serde_json::from_str(answer).unwrap();
    let message = answer["choices"][0]["message"].take();
    let calls = &message["tool_calls"];
    if calls.is_array() {
        json!({ "role": "assistant", "content": null, "tool_calls": calls })
    } else {
        json!({ "role": "assistant", "content": message["content"] })
    }
}

fn folded(answer: &str) -> Value {
    let (mut text, mut calls) = (String::new(), vec![]);
    assert!(answer.contains("data: [DONE]"), "{answer}");
    for chunk in
        answer.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]")
    {
        let chunk: Value = serde_json::from_str(chunk).unwrap();
        let delta = &chunk["choices"][0]["delta"];
        text += delta["content"].as_str().unwrap_or_default();
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            calls.push(json!({ "id": call["id"], "type": "function", "function": call["function"] }));
        }
    }
    if calls.is_empty() {
        json!({ "role": "assistant", "content": text })
    } else {
        json!({ "role": "assistant", "content": null, "tool_calls": calls })
    }
}

/// What the upstream got, as a cache would know it.
fn seen(request: &Request) -> Asked {
    let key = format!("{:?} {}", request.header("session-id"), request.body["prompt_cache_key"]);
    let mut text = request.body["tools"].to_string();
    for item in request.items() {
        let mut item = item.clone();
        if let Some(item) = item.as_object_mut() {
            item.remove("id");
        }
        text += &item.to_string();
    }
    (key, text)
}

/// Of all bytes, those that an earlier request under the same key began with.
fn share(requests: impl Iterator<Item = Asked>) -> f64 {
    let mut before: Vec<Asked> = vec![];
    let (mut cached, mut all) = (0, 0);
    for (key, text) in requests {
        let common = |other: &str| other.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        cached +=
            before.iter().filter(|(other, _)| *other == key).map(|(_, text)| common(text)).max().unwrap_or(0);
        all += text.len();
        before.push((key, text));
    }
    cached as f64 / all as f64
}
