//! Nothing crosses, played in memory: conversations at once, in orders that proptest makes up and
//! makes smaller, with edits, repeats, clients that leave and workers that die at any step. Each request
//! to the upstream must be the conversation of a turn that was run.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::codex::Continuation;
use crate::turn::{Caller, Json, ToolCall};

/// What happens next in a conversation.
#[derive(Clone, Copy, Debug)]
enum Op {
    Words,
    Calls {
        count: usize,
        first: usize,
        more: bool,
    },
    Edit {
        place: usize,
    },
    Leave,
    Twice,
    Again,
    /// The worker dies at this step of the next turn.
    Dies(&'static str),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Words),
        4 => (1_usize..4, 0_usize..3, any::<bool>()).prop_map(|(count, first, more)| Op::Calls { count, first, more }),
        1 => (0_usize..8).prop_map(|place| Op::Edit { place }),
        1 => Just(Op::Leave),
        1 => Just(Op::Twice),
        1 => Just(Op::Again),
        1 => prop::sample::select(vec!["thread/start", "thread/inject_items", "turn/start", "delta"]).prop_map(Op::Dies),
    ]
}

fn said(role: Role, text: impl Into<String>) -> Item {
    Item::message(role, vec![Part::Text(text.into().into())])
}

/// As the fake has it; calls and results in a row are sorted, for a client gives results in any order.
fn entries(items: &[String]) -> Vec<String> {
    let of_calls = |entry: &String| entry.starts_with("call ") || entry.starts_with("result ");
    let mut all = items.to_vec();
    all.chunk_by_mut(|a, b| of_calls(a) && of_calls(b)).for_each(<[String]>::sort);
    all
}

fn entry(item: &Item) -> String {
    let text = |parts: &[Part]| match parts {
        [Part::Text(text)] => text.to_string(),
        _ => String::new(),
    };
    match item {
        Item::Message { role, content, .. } => format!("{}: {}", role.name(), text(content)),
        Item::ToolCall(call) => format!("call {}", call.id),
        Item::ToolResult { call_id, content } => format!("result {call_id}: {}", text(content)),
        Item::Reasoning { .. } => "reasoning".into(),
    }
}

struct Talk<'a> {
    house: &'a House,
    sent: &'a Mutex<HashSet<Vec<String>>>,
    caller: Caller,
    name: String,
    items: Vec<Item>,
    count: usize,
}

impl Talk<'_> {
    fn turn(&self) -> Turn {
        let names: Vec<String> = self.items.iter().map(entry).collect();
        lock(self.sent).insert(entries(&names));
        let tool = Tool::function("look", "", Json::from("{}"));
        let workdir = plain().workdir;
        Turn { caller: self.caller.clone(), tools: [tool].into(), ..Turn::new(self.items.clone(), workdir) }
    }

    /// The answer's text and calls; `None` if a worker died of it.
    async fn ask(&self) -> Option<(String, Vec<ToolCall>)> {
        let mut events = self.house.run(self.turn());
        let (mut text, mut calls) = (String::new(), vec![]);
        loop {
            match events.next().await.expect("a terminal item") {
                Ok(Event::Text(more)) => text.push_str(&more),
                Ok(Event::ToolCall(call)) => calls.push(call),
                Ok(Event::Done { .. }) => return Some((text, calls)),
                Ok(_) => {}
                Err(Failure::CodexExited { .. } | Failure::CodexFailed { .. }) => return None,
                Err(failure) => panic!("{}: {failure:?}", self.name),
            }
        }
    }

    fn nonce(&mut self) -> String {
        self.count += 1;
        format!("{} {}", self.name, self.count)
    }

    /// Asks, and keeps what came, or nothing since `before`.
    async fn words_since(&mut self, before: usize) {
        let expect = self.items.last().map(|last| format!("to {}", entry(last))).unwrap();
        match self.ask().await {
            Some((text, calls)) => {
                assert!(calls.is_empty());
                // Results come in the model's order, whatever the client's was.
                let of_results = expect.starts_with("to result ") && text.starts_with("to result ");
                assert!(text == expect || of_results && text.contains(&self.name), "{text} for {expect}");
                self.items.push(said(Role::Assistant, text));
            }
            None => self.items.truncate(before),
        }
    }

    async fn step(&mut self, op: Op) {
        let before = self.items.len();
        let nonce = self.nonce();
        match op {
            Op::Words => {
                self.items.push(said(Role::User, nonce));
                self.words_since(before).await;
            }
            Op::Calls { count, first, more } => {
                self.items.push(said(Role::User, format!("call {count} {nonce}")));
                let Some((_, calls)) = self.ask().await else { return self.items.truncate(before) };
                assert_eq!(calls.len(), count);
                let mut results: Vec<Item> = calls
                    .iter()
                    .map(|call| Item::ToolResult {
                        call_id: call.id.as_str().into(),
                        content: vec![Part::Text(format!("{nonce} {}", call.id).into())],
                    })
                    .collect();
                results.rotate_left(first % count);
                self.items.extend(calls.into_iter().map(Item::from));
                self.items.extend(results);
                self.items.extend(more.then(|| said(Role::User, format!("{nonce} more"))));
                self.words_since(before).await;
            }
            Op::Edit { place } => {
                let all: Vec<usize> = (0..before)
                    .filter(|at| matches!(&self.items[*at], Item::Message { role: Role::Assistant, .. }))
                    .collect();
                if let Some(at) = all.get(place % all.len().max(1)) {
                    self.items[*at] = said(Role::Assistant, format!("edited {nonce}"));
                }
                self.items.push(said(Role::User, nonce));
                self.words_since(before).await;
            }
            Op::Leave => {
                self.items.push(said(Role::User, nonce));
                let mut events = self.house.run(self.turn());
                let _ = events.next().await;
                drop(events);
                // The same again, which the client got nothing of.
                self.words_since(before).await;
            }
            Op::Twice => {
                self.items.push(said(Role::User, nonce));
                let (one, other) = tokio::join!(self.ask(), self.ask());
                match one.or(other) {
                    Some((text, _)) => self.items.push(said(Role::Assistant, text)),
                    None => self.items.truncate(before),
                }
            }
            Op::Again => {
                if matches!(self.items.last(), Some(Item::Message { role: Role::Assistant, .. }))
                    && before > 1
                {
                    let last = self.items.pop();
                    let again = self.ask().await;
                    assert!(again.is_none_or(|(_, calls)| calls.is_empty()));
                    self.items.extend(last);
                }
            }
            Op::Dies(step) => self.house.fake.misbehave(step, Mishap::Dies),
        }
    }
}

fn play(ops: Vec<(usize, Op)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let config = config(|config| (config.workers, config.parked_conversations) = (2, 3));
        let mut installation = Arc::unwrap_or_clone(installation(&config));
        installation.continuation = Continuation::Threads { reason: String::new() };
        let house = &house_of(Play::Model, config, installation.into());
        house.ready(2).await;
        let sent = &Mutex::new(HashSet::new());
        let talks = (0..4).map(|number| {
            let mine: Vec<Op> = ops.iter().filter(|(talk, _)| *talk == number).map(|(_, op)| *op).collect();
            async move {
                let mut talk = Talk {
                    house,
                    sent,
                    caller: Caller::User(number as u32 % 2),
                    name: format!("talk{number}"),
                    // All begin alike.
                    items: vec![said(Role::User, "begin"), said(Role::Assistant, "yes?")],
                    count: 0,
                };
                for op in mine {
                    talk.step(op).await;
                }
            }
        });
        futures_util::future::join_all(talks).await;
        for asked in lock(&house.fake.asked).iter() {
            assert!(lock(sent).contains(&entries(asked)), "nobody sent this: {asked:#?}");
        }
        house.at_rest().await;
        house.pool.shared.parked.leave_all();
        until("nothing is kept", || house.pool.shared.parked.len() == 0).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_crosses_whatever_happens(ops in prop::collection::vec((0_usize..4, op()), 8..60)) {
        play(ops);
    }
}
