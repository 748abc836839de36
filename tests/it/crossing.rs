//! Nothing crosses: many callers and conversations at once, in an order that a seed decides, with
//! edits, repeats, clients that leave and workers that die. Whatever reaches the upstream is exactly
//! the conversation of one request that was sent, and the answer goes to who sent it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::support::proxy::signal;
use crate::support::upstream::Request;
use crate::support::{Proxy, said, user, wait};
use crate::threads::{no_recordings, session, workers};

/// A small generator of numbers (xorshift64*): the same seed gives the same steps.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

/// What was sent, in the form that [`held`] gives it, and the key it was sent with.
type Sent = Mutex<HashMap<Vec<String>, HashSet<usize>>>;

/// What a request to the upstream holds of a conversation. Codex asks for calls in its own order,
/// and what the model thought is not the caller's.
fn held(request: &Request) -> Vec<String> {
    let mut all: Vec<(bool, String)> = vec![];
    for item in request.items() {
        let text = |parts: &Value| -> String {
            parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect()
        };
        match item["type"].as_str().unwrap_or("message") {
            "additional_tools" | "reasoning" => {}
            "message" => {
                all.push((false, format!("{}: {}", item["role"].as_str().unwrap(), text(&item["content"]))))
            }
            "function_call" => all.push((true, format!("call {}", item["call_id"].as_str().unwrap()))),
            "function_call_output" => {
                let (id, output) = (item["call_id"].as_str().unwrap(), item["output"].as_str().unwrap());
                all.push((true, format!("result {id}: {output}")));
            }
            kind => all.push((false, kind.to_owned())),
        }
    }
    in_order(all)
}

/// The same of what a client sends.
fn sent(messages: &[Value]) -> Vec<String> {
    let mut all = vec![];
    for message in messages {
        let content = message["content"].as_str().unwrap_or_default();
        match message["role"].as_str().unwrap() {
            "system" => all.push((false, format!("developer: {content}"))),
            "tool" => {
                all.push((true, format!("result {}: {content}", message["tool_call_id"].as_str().unwrap())));
            }
            role => {
                if !content.is_empty() {
                    all.push((false, format!("{role}: {content}")));
                }
                let calls = message["tool_calls"].as_array().into_iter().flatten();
                all.extend(calls.map(|call| (true, format!("call {}", call["id"].as_str().unwrap()))));
            }
        }
    }
    in_order(all)
}

/// Calls and results in a row are sorted: calls that came late were given out with a later answer.
fn in_order(all: Vec<(bool, String)>) -> Vec<String> {
    let mut rows: Vec<Vec<(bool, String)>> = vec![];
    for entry in all {
        match rows.last_mut() {
            Some(row) if entry.0 && row[0].0 => row.push(entry),
            _ => rows.push(vec![entry]),
        }
    }
    rows.iter_mut().for_each(|row| row.sort());
    rows.into_iter().flatten().map(|(_, text)| text).collect()
}

/// One conversation of one caller.
struct Talk<'a> {
    proxy: &'a Proxy,
    sent: &'a Sent,
    key: usize,
    name: String,
    functions: bool,
    messages: Vec<Value>,
    count: usize,
}

impl Talk<'_> {
    fn body(&self, stream: bool) -> Value {
        let mut body = json!({ "messages": self.messages, "stream": stream });
        if self.functions {
            let parameters = json!({ "type": "object", "properties": { "of": { "type": "string" } } });
            body["tools"] = json!([{ "type": "function", "function": { "name": "look", "description": "d", "parameters": parameters } }]);
        }
        body
    }

    fn note(&self) {
        let mut all = self.sent.lock().unwrap();
        all.entry(sent(&self.messages)).or_default().insert(self.key);
    }

    /// Sends the conversation. Gives the model's message, or `None` for a failure that a dying worker
    /// explains.
    fn ask(&self, stream: bool) -> Option<Value> {
        self.note();
        let call = self.proxy.chat(self.body(stream)).key(&format!("key-{}", self.key));
        if !stream {
            let answer = call.send().json();
            return self.message(&answer, answer["choices"][0]["message"].clone());
        }
        let mut stream = call.open();
        if stream.header("content-type") == Some("application/json") {
            let answer = stream.whole().json();
            return self.message(&answer, Value::Null);
        }
        let (chunks, done) = stream.chunks();
        if !done {
            return self.message(chunks.last().unwrap(), Value::Null);
        }
        let (mut text, mut calls) = (String::new(), vec![]);
        for chunk in &chunks {
            let delta = &chunk["choices"][0]["delta"];
            text.push_str(delta["content"].as_str().unwrap_or_default());
            calls.extend(
                delta["tool_calls"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|call| call["id"].is_string())
                    .cloned(),
            );
        }
        let mut message = said("assistant", &text);
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        Some(message)
    }

    fn message(&self, answer: &Value, message: Value) -> Option<Value> {
        if message.is_object() {
            return Some(message);
        }
        let code = answer["error"]["code"].as_str().unwrap_or_default();
        assert!(["codex_exited", "codex_failed"].contains(&code), "{}: {answer}", self.name);
        None
    }

    fn nonce(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.name, self.count)
    }

    fn words(&mut self, stream: bool) {
        let nonce = self.nonce();
        self.messages.push(user(format!("Reply with exactly: {nonce}")));
        match self.ask(stream) {
            Some(message) => {
                assert_eq!(message["content"], nonce);
                self.messages.push(said("assistant", &nonce));
            }
            None => drop(self.messages.pop()),
        }
    }

    fn calls(&mut self, dice: &mut Dice) {
        let (nonce, before) = (self.nonce(), self.messages.len());
        let number = dice.roll(3) + 1;
        let asked: Vec<String> =
            (0..number).map(|index| format!("[[tool=look {{\"of\":\"{nonce}-{index}\"}}]]")).collect();
        self.messages.push(user(asked.concat()));
        let mut given: Vec<String> = vec![];
        while given.len() < number {
            let Some(message) = self.ask(dice.roll(2) == 0) else { return self.messages.truncate(before) };
            let calls = message["tool_calls"].as_array().unwrap_or_else(|| panic!("{message}")).clone();
            let arguments =
                calls.iter().map(|call| call["function"]["arguments"].as_str().unwrap().to_owned());
            given.extend(arguments);
            self.messages.push(message);
            let result = |call: &Value| json!({ "role": "tool", "tool_call_id": call["id"], "content": format!("{nonce} {}", call["id"].as_str().unwrap()) });
            let mut open: Vec<Value> = calls.iter().map(result).collect();
            let first = dice.roll(open.len());
            open.rotate_left(first);
            if dice.roll(4) == 0 {
                // One is missing.
                let kept = self.messages.len();
                self.messages.extend(open.iter().skip(1).cloned());
                let answer = self.proxy.chat(self.body(false)).key(&format!("key-{}", self.key)).send();
                answer.error(400, "invalid_request_error", "invalid_value");
                self.messages.truncate(kept);
            }
            self.messages.append(&mut open);
        }
        given.sort_unstable();
        let expect: Vec<String> =
            (0..number).map(|index| format!("{{\"of\":\"{nonce}-{index}\"}}")).collect();
        assert_eq!(given, expect);
        let all_at_once = self.messages.len() == before + 2 + number;
        let more = (all_at_once && dice.roll(2) == 0).then(|| self.nonce());
        self.messages.extend(more.iter().map(|more| user(format!("Reply with exactly: {more}"))));
        let Some(message) = self.ask(dice.roll(2) == 0) else { return self.messages.truncate(before) };
        let text = message["content"].as_str().unwrap_or_default().to_owned();
        match more {
            Some(more) => assert_eq!(text, more),
            None => assert!(text.starts_with(&format!("The tool said: {nonce} ")), "{text}"),
        }
        self.messages.push(said("assistant", &text));
    }

    fn edit(&mut self, dice: &mut Dice) {
        let nonce = self.nonce();
        let is = |role: &'static str| {
            move |message: &Value| message["role"] == role && message["tool_calls"].is_null()
        };
        let places = |role| -> Vec<usize> {
            (1..self.messages.len()).filter(|index| is(role)(&self.messages[*index])).collect()
        };
        let role = if dice.roll(2) == 0 { "user" } else { "assistant" };
        let places = places(role);
        if places.is_empty() {
            return;
        }
        let place = places[dice.roll(places.len())];
        if role == "assistant" {
            self.messages[place] = said("assistant", &format!("edited {nonce}"));
        } else {
            self.messages.truncate(place.max(2));
        }
        self.words(false);
    }

    fn leave(&mut self) {
        let nonce = self.nonce();
        self.messages.push(user(format!("Reply with exactly: {nonce}{} [[delay=20]]", " more".repeat(40))));
        self.note();
        let mut stream = self.proxy.chat(self.body(true)).key(&format!("key-{}", self.key)).open();
        stream.data();
        drop(stream);
        if self.count.is_multiple_of(2) {
            self.messages.pop();
        } else {
            // The same again, while the first may still be at work.
            match self.ask(false) {
                Some(message) => self.messages.push(said("assistant", message["content"].as_str().unwrap())),
                None => drop(self.messages.pop()),
            }
        }
    }

    fn twice(&mut self) {
        let nonce = self.nonce();
        self.messages.push(user(format!("Reply with exactly: {nonce}")));
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| self.ask(true));
            (self.ask(false), other.join().unwrap())
        });
        for message in [&one, &other].into_iter().flatten() {
            assert_eq!(message["content"], nonce);
        }
        match one.or(other) {
            Some(_) => self.messages.push(said("assistant", &nonce)),
            None => drop(self.messages.pop()),
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.roll(10) {
            0..=2 => self.words(dice.roll(2) == 0),
            3..=5 if self.functions => self.calls(dice),
            3..=5 => self.words(true),
            6 => self.edit(dice),
            7 => self.leave(),
            8 => self.twice(),
            _ => {
                // Again: the latest answer is asked for once more.
                if self.messages.last().is_some_and(|last| last["role"] == "assistant")
                    && self.messages.len() > 2
                {
                    let last = self.messages.pop();
                    match self.ask(false) {
                        Some(message) if message["tool_calls"].is_null() => {
                            self.messages.push(said("assistant", message["content"].as_str().unwrap()));
                        }
                        _ => self.messages.extend(last),
                    }
                }
            }
        }
    }
}

fn play(seed: u64, kills: bool) {
    let Some((setup, upstream)) = workers() else { return };
    let keys = setup.scratch().write("keys", "a key-0\nb key-1\nc key-2\n");
    let keys = keys.to_str().unwrap();
    let setup = setup.set("api_key_file", keys).set("workers", 2).set("parked_conversations", 6);
    let proxy = setup.start();
    let all = Sent::default();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let talkers: Vec<_> = (0..6)
            .map(|number| {
                let (proxy, sent) = (&proxy, &all);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed * 100 + number as u64);
                    // Two conversations of each begin with the same words.
                    let mut talks: Vec<Talk<'_>> = (0..3)
                        .map(|index| Talk {
                            proxy,
                            sent,
                            key: number % 3,
                            name: format!("seed{seed}talker{number}talk{index}"),
                            functions: index != 1,
                            messages: vec![
                                said("system", "be brief"),
                                user(if index < 2 { "Begin." } else { "Go on." }),
                                said("assistant", "Yes?"),
                            ],
                            count: 0,
                        })
                        .collect();
                    for _ in 0..24 {
                        let index = dice.roll(talks.len());
                        talks[index].step(&mut dice);
                    }
                })
            })
            .collect();
        if kills {
            let (proxy, done, upstream) = (&proxy, &done, &upstream);
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                for round in 1..=4 {
                    let due = round * 40;
                    while upstream.requests().len() < due && !done.load(std::sync::atomic::Ordering::Relaxed)
                    {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                    let running = crate::workers::workers(proxy);
                    if !running.is_empty() {
                        signal("KILL", running[dice.roll(running.len())]);
                    }
                }
            });
        }
        let ends: Vec<_> = talkers.into_iter().map(|talker| talker.join()).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
    });

    let all = all.into_inner().unwrap();
    let mut owners: HashMap<String, usize> = HashMap::new();
    let requests = upstream.requests();
    assert!(requests.len() > 100, "{}", requests.len());
    for request in &requests {
        let held = held(request);
        let keys = all.get(&held).unwrap_or_else(|| panic!("seed {seed}: nobody sent this: {held:#?}"));
        // Both callers may have begun alike; a session is of one of them all the same.
        if let [key] = keys.iter().collect::<Vec<_>>()[..] {
            assert_eq!(*owners.entry(session(request)).or_insert(*key), *key, "seed {seed}: {held:?}");
        }
    }
    wait::until("nothing runs", || {
        let page = proxy.get("/ready").key("key-0").send().json();
        page["queue"]["running"] == 0 && page["queue"]["waiting"] == 0 && page["workers"]["ready"] == 2
    });
    wait::until("no recording is left", || no_recordings(&proxy));
    assert_eq!(crate::workers::workers(&proxy).len(), 2);
}

#[test]
fn nothing_crosses_between_conversations_or_callers() {
    play(1, false);
}

#[test]
fn nothing_crosses_while_workers_die() {
    play(2, true);
}
