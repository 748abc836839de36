//! What a thread that lives on holds, and whether a request goes on from there: compared item by
//! item, never guessed. No clock, no I/O.
//!
//! A request carries the whole conversation. It goes on from a thread if everything up to the
//! model's latest words is what the thread holds, asked in the same way by the same caller, and
//! what follows is all that the thread waits for.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};

use serde_json::Value;

use crate::turn::{CallKind, Event, Item, Part, Role, Saying, ToolCall, Turn};

/// What the model said in one answer.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Its thoughts, as only the upstream can read them, where they were told.
    thoughts: Vec<String>,
    messages: Vec<Spoken>,
    /// Its calls of the caller's functions, in its order.
    pub calls: Vec<ToolCall>,
}

#[derive(Clone, Debug)]
struct Spoken {
    text: String,
    commentary: bool,
}

impl Told {
    /// Notes what the client is told.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Message { phase, .. } => {
                let commentary = Saying::is_progress(*phase);
                self.messages.push(Spoken { text: String::new(), commentary });
            }
            Event::Text(text) => match self.messages.last_mut() {
                Some(message) => message.text.push_str(text),
                None => self.messages.push(Spoken { text: text.clone(), commentary: false }),
            },
            Event::ToolCall(call) => self.calls.push(call.clone()),
            Event::Thought(thought) => self.thoughts.extend(thought.encrypted.clone()),
            Event::Phase(..) | Event::ReasoningPart { .. } | Event::Reasoning(_) | Event::Done { .. } => {}
        }
    }

    fn bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len());
        let thoughts = self.thoughts.iter().map(String::len).sum::<usize>();
        thoughts
            + self.messages.iter().map(|message| message.text.len()).sum::<usize>()
            + calls.sum::<usize>()
    }

    /// Whether this is what the client has of it: with the progress told on the way, or without, as
    /// some formats have no place for it.
    fn is(&self, words: &Words<'_>) -> bool {
        let text = |progress: bool| {
            let told = self.messages.iter().filter(|message| progress || !message.commentary);
            let told: Vec<&str> = told.map(|message| &*message.text).collect();
            joined(&told)
        };
        let mine: Vec<&ToolCall> = self.calls.iter().collect();
        let said = words.text();
        // The thread has them, whether the client gives them back or not.
        let thoughts = words.thoughts.iter().all(|thought| self.thoughts.iter().any(|mine| mine == thought));
        thoughts
            && words.images == 0
            && same_calls(&mine, &words.calls)
            && (said == text(false) || said == text(true))
    }
}

/// All that a thread holds: what was asked last, and the answer.
#[derive(Clone, Debug)]
pub struct Past {
    asked: Turn,
    said: Told,
}

impl Past {
    /// Of a thread whose latest turn was this one. Its memory counts for as long as this is kept.
    pub fn new(asked: Turn, said: Told) -> Past {
        Past { asked, said }
    }

    /// The memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.asked.bytes()).unwrap_or(usize::MAX).saturating_add(self.said.bytes())
    }

    /// What [`goes_on`] must give for a request that goes on from here.
    pub fn digest(&self, hasher: &impl BuildHasher) -> u64 {
        digest(&self.asked.conversation, self.said.calls.iter().map(|call| &*call.id), hasher)
    }

    /// Whether `next` goes on from here, at the item [`goes_on`] gave.
    pub fn continues(&self, next: &Turn, at: usize) -> bool {
        let (held, rest) = next.conversation.split_at(at);
        if !same_question(&self.asked, next) || !self.waits_for(rest) {
            return false;
        }
        let (mut before, mut now) = (entries(&self.asked.conversation), entries(held));
        let Some(Entry::Words(latest)) = now.pop() else { return false };
        // An answer to a conversation that ended in the model's own words carries them on.
        if matches!(before.last(), Some(Entry::Words(_))) {
            return false;
        }
        before.retain(Entry::is_something);
        now.retain(Entry::is_something);
        before.len() == now.len() && before.iter().zip(&now).all(|(a, b)| a.same(b)) && self.said.is(&latest)
    }

    /// Whether these are exactly the results that are open, then what else was said; or, with none
    /// open, anything that was said.
    fn waits_for(&self, rest: &[Item]) -> bool {
        let results = rest.iter().take_while(|item| matches!(item, Item::ToolResult { .. })).count();
        let (results, others) = rest.split_at(results);
        let given: HashSet<&str> = results
            .iter()
            .filter_map(|item| match item {
                Item::ToolResult { call_id, .. } => Some(&**call_id),
                Item::Message { .. } | Item::Reasoning { .. } | Item::ToolCall(_) => None,
            })
            .collect();
        let open: HashSet<&str> = self.said.calls.iter().map(|call| &*call.id).collect();
        let exact = given == open && results.len() == open.len() && open.len() == self.said.calls.len();
        exact && !rest.is_empty() && others.iter().all(|item| matches!(item, Item::Message { .. }))
    }
}

/// Where what is new in a request begins, and the digest of what stands before; `None` if nothing of
/// the model stands there, or nothing new.
pub fn goes_on(turn: &Turn, hasher: &impl BuildHasher) -> Option<(usize, u64)> {
    let items = &turn.conversation;
    let at = items.iter().rposition(is_models)? + 1;
    let latest = items[..at].iter().rposition(|item| !is_models(item)).map_or(0, |before| before + 1);
    let calls = items[latest..at].iter().filter_map(|item| match item {
        Item::ToolCall(call) => Some(&*call.id),
        Item::Message { .. } | Item::Reasoning { .. } | Item::ToolResult { .. } => None,
    });
    (at < items.len()).then(|| (at, digest(&items[..latest], calls, hasher)))
}

/// Whether two turns ask in the same way: all but the conversation. Where Codex works does not
/// matter to a model that sees no files.
fn same_question(a: &Turn, b: &Turn) -> bool {
    let Turn {
        caller,
        client_name,
        model,
        conversation: _,
        workdir: _,
        output,
        effort,
        verbosity,
        service_tier,
        tools,
        tool_choice,
        reasoning,
        want_encrypted,
        memory: _,
    } = a;
    *caller == b.caller
        && *client_name == b.client_name
        && *model == b.model
        && *output == b.output
        && *effort == b.effort
        && *verbosity == b.verbosity
        && *service_tier == b.service_tier
        && *tools == b.tools
        && *tool_choice == b.tool_choice
        && *reasoning == b.reasoning
        && *want_encrypted == b.want_encrypted
}

/// Whether it is of the model.
pub fn is_models(item: &Item) -> bool {
    let said = matches!(item, Item::Message { role: Role::Assistant, .. });
    said || matches!(item, Item::Reasoning { .. } | Item::ToolCall(_))
}

/// Cheap to compare; who finds two alike compares the whole. The model's words are left out: they
/// may come back joined or split otherwise.
fn digest<'a>(items: &[Item], calls: impl Iterator<Item = &'a str>, hasher: &impl BuildHasher) -> u64 {
    let mut hash = hasher.build_hasher();
    for item in items {
        let parts = match item {
            Item::Message { role: Role::Assistant, .. } | Item::Reasoning { .. } | Item::ToolCall(_) => {
                continue;
            }
            Item::Message { role, content, .. } => {
                hash.write(role.name().as_bytes());
                content
            }
            Item::ToolResult { call_id, content } => {
                hash.write(call_id.as_bytes());
                content
            }
        };
        hash.write_usize(parts.len());
        for part in parts {
            match part {
                Part::Text(text) => hash.write(text.as_bytes()),
                Part::Image(image) => hash.write(image.base64.as_bytes()),
            }
            hash.write_u8(0xff);
        }
    }
    calls.for_each(|id| hash.write(id.as_bytes()));
    hash.finish()
}

/// An item, or all that the model said in a row.
enum Entry<'a> {
    Item(&'a Item),
    Words(Words<'a>),
}

#[derive(Default)]
struct Words<'a> {
    texts: Vec<&'a str>,
    calls: Vec<&'a ToolCall>,
    thoughts: Vec<&'a str>,
    images: usize,
}

impl Words<'_> {
    fn text(&self) -> String {
        joined(&self.texts)
    }
}

impl Entry<'_> {
    /// A client may keep an answer in which nothing was said, or not.
    fn is_something(&self) -> bool {
        match self {
            Entry::Item(_) => true,
            Entry::Words(words) => {
                !words.calls.is_empty() || words.images > 0 || words.texts.iter().any(|text| !text.is_empty())
            }
        }
    }

    fn same(&self, other: &Entry<'_>) -> bool {
        match (self, other) {
            (Entry::Item(a), Entry::Item(b)) => a == b,
            (Entry::Words(a), Entry::Words(b)) => {
                (a.images, b.images) == (0, 0)
                    && a.thoughts == b.thoughts
                    && same_calls(&a.calls, &b.calls)
                    && a.text() == b.text()
            }
            _ => false,
        }
    }
}

/// What is said in several messages, as formats show it that have one message for it.
fn joined(texts: &[&str]) -> String {
    let texts: Vec<&str> = texts.iter().copied().filter(|text| !text.is_empty()).collect();
    texts.join("\n\n")
}

fn same_calls(a: &[&ToolCall], b: &[&ToolCall]) -> bool {
    let same = |(a, b): (&&ToolCall, &&ToolCall)| {
        let named = a.id == b.id && a.name == b.name && a.namespace == b.namespace && a.kind == b.kind;
        let exact = a.kind == CallKind::Custom;
        named && (a.arguments == b.arguments || (!exact && same_json(&a.arguments, &b.arguments)))
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Clients parse arguments and write them anew, some with what they take where nothing is said: Claude
/// Code gives each edit back with `"replace_all": false`.
fn same_json(a: &str, b: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text);
    matches!((read(a), read(b)), (Ok(a), Ok(b)) if same_value(&a, &b))
}

/// Whether `b` says what `a` does, and no more than that something is off.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            b.iter().all(|(key, b)| match a.get(key) {
                Some(a) => same_value(a, b),
                None => matches!(b, Value::Null | Value::Bool(false)),
            }) && a.keys().all(|key| b.contains_key(key))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (a, b) => a == b,
    }
}

fn entries(items: &[Item]) -> Vec<Entry<'_>> {
    let mut all: Vec<Entry<'_>> = Vec::new();
    for item in items {
        if !is_models(item) {
            all.push(Entry::Item(item));
            continue;
        }
        if !matches!(all.last(), Some(Entry::Words(_))) {
            all.push(Entry::Words(Words::default()));
        }
        let Some(Entry::Words(words)) = all.last_mut() else { continue };
        match item {
            Item::ToolCall(call) => words.calls.push(call),
            Item::Reasoning { encrypted, .. } => words.thoughts.push(encrypted),
            Item::Message { content, .. } => {
                for part in content {
                    match part {
                        Part::Text(text) => words.texts.push(text),
                        Part::Image(_) => words.images += 1,
                    }
                }
            }
            Item::ToolResult { .. } => {}
        }
    }
    all
}

#[cfg(test)]
mod tests;
