//! `system` and `messages` as conversation items.

use std::borrow::Cow;

use crate::api::calls::Calls;
use crate::api::dialect::Wanted;
use crate::api::fields::{Fields, wrong};
use crate::api::image;
use crate::api::raw::{Items, Raw};
use crate::turn::{At, Failure, Item, Part, Role, ToolCall};

use super::thinking;

/// A line that Claude Code puts before its instructions. It changes with each request, so that the
/// upstream's cache would never match.
const BILLING: &str = "x-anthropic-billing-header:";

/// What a failed tool's result begins with.
const FAILED: &str = "[the tool failed]";

/// The most paths of one kind in the header that names what has no effect.
const MOST_NAMED: usize = 16;

/// What an item was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    System,
    Message(usize),
    /// A content block of a message.
    Block(usize, usize),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::System => f.write_str("system"),
            Origin::Message(message) => write!(f, "messages[{message}]"),
            Origin::Block(message, block) => write!(f, "messages[{message}].content[{block}]"),
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The conversation.
    pub(super) items: Vec<Item>,
    /// What each item was made of.
    pub(super) origins: Vec<Origin>,
    /// Fields that Codex has no path for.
    pub(super) ignored: Vec<String>,
    /// Thinking blocks left out.
    unsigned: usize,
    /// Whether reasoning items can be given back.
    reasoning: bool,
    /// Whether it only is counted: then a part of a conversation will do.
    counted: bool,
    calls: Calls,
}

/// Reads both fields. `reasoning` says whether the engine takes reasoning items, `counted` whether the
/// conversation only is counted, which a part of one may be.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::Unsupported`] naming the field; what `wanted` says.
pub(super) fn decode(
    fields: &Fields,
    messages: Items,
    reasoning: bool,
    counted: bool,
    wanted: &Wanted,
) -> Result<Conversation, Failure> {
    let mut all = Conversation { reasoning, counted, ..Conversation::default() };
    let system = texts(fields, "system", true)?;
    if !system.is_empty() {
        all.push(Item::message(Role::Developer, system), Origin::System);
    }
    let mut answering = false;
    for (index, message) in messages.enumerate() {
        wanted.check()?;
        let message = Fields::of(message, format!("messages[{index}]."))?;
        match &*message.string("role")?.ok_or_else(|| message.missing("role"))? {
            "user" => {
                answering = true;
                all.user(&message, index)?;
            }
            "assistant" => {
                if std::mem::take(&mut answering) {
                    all.all_answered(&message)?;
                }
                all.assistant(&message, index)?;
            }
            "system" => {
                let texts = texts(&message, "content", false)?;
                all.push(Item::message(Role::Developer, texts), Origin::Message(index));
            }
            _ => return Err(message.invalid("role", "must be one of user, assistant, system")),
        }
    }
    if !all.ends_with_its_open_calls() {
        all.all_answered(fields)?;
    }
    if all.items.is_empty() && !counted {
        return Err(fields.invalid("messages", "must say something"));
    }
    Ok(all)
}

impl Conversation {
    fn push(&mut self, item: Item, origin: Origin) {
        self.items.push(item);
        self.origins.push(origin);
    }

    fn all_answered(&self, at: &Fields) -> Result<(), Failure> {
        match self.calls.open() {
            _ if self.counted => Ok(()),
            None => Ok(()),
            Some(id) => Err(Failure::bad_field(
                match at.path("") {
                    place if place.is_empty() => "messages".to_owned(),
                    place => place.trim_end_matches('.').to_owned(),
                },
                format!(
                    "The tool call {:?} has no result: a tool_result with its tool_use_id must follow.",
                    outer_id(id)
                ),
            )),
        }
    }

    /// Whether all calls without a result stand at the very end: nobody may wait for them.
    fn ends_with_its_open_calls(&self) -> bool {
        let last = |item: &&Item| matches!(item, Item::ToolCall(_));
        let first_open = self.calls.open();
        self.items
            .iter()
            .rev()
            .take_while(last)
            .any(|item| matches!((item, first_open), (Item::ToolCall(call), Some(open)) if call.id == open))
    }

    fn ignore_thinking(&mut self, path: String) {
        self.unsigned += 1;
        if self.unsigned <= MOST_NAMED {
            self.ignored.push(path);
        } else if self.unsigned == MOST_NAMED + 1 {
            self.ignored.push("messages[].content[].signature".into());
        }
    }

    fn user(&mut self, message: &Fields, index: usize) -> Result<(), Failure> {
        let content = message.get("content").ok_or_else(|| message.missing("content"))?;
        if let Some(text) = content.string() {
            let text = vec![Part::Text(text.into())];
            self.push(Item::message(Role::User, text), Origin::Message(index));
            return Ok(());
        }
        let blocks = blocks(message, "content", content)?;
        if blocks.is_empty() {
            return Err(message.invalid("content", "must not be an empty array"));
        }
        // Text and images up to the next result are one message.
        let mut said: Vec<Part> = Vec::new();
        for (number, block) in blocks.enumerate() {
            let block = Fields::of(block, message.path(&format!("content[{number}].")))?;
            let kind = block.string("type")?.ok_or_else(|| block.missing("type"))?;
            if kind != "tool_result" {
                said.extend(part(&block, &kind, "text, image, document, tool_result")?);
                continue;
            }
            if !said.is_empty() {
                let said = std::mem::take(&mut said);
                self.push(Item::message(Role::User, said), Origin::Message(index));
            }
            let id = block.string("tool_use_id")?.ok_or_else(|| block.missing("tool_use_id"))?;
            let call_id = inner_id(&id);
            let call_id =
                self.calls.answer(&call_id).or(self.counted.then_some(call_id)).ok_or_else(|| {
                    block.invalid(
                        "tool_use_id",
                        "names no tool_use of an earlier message that has no result yet",
                    )
                })?;
            let content = result(&block)?;
            self.push(Item::ToolResult { call_id: call_id.into(), content }, Origin::Block(index, number));
        }
        if !said.is_empty() {
            self.push(Item::message(Role::User, said), Origin::Message(index));
        }
        Ok(())
    }

    fn assistant(&mut self, message: &Fields, index: usize) -> Result<(), Failure> {
        let said = |text: Cow<str>| Item::message(Role::Assistant, vec![Part::Text(text.into())]);
        let Some(content) = message.get("content") else { return Ok(()) };
        if let Some(text) = content.string() {
            if !text.is_empty() {
                self.push(said(text), Origin::Message(index));
            }
            return Ok(());
        }
        for (number, block) in blocks(message, "content", content)?.enumerate() {
            let block = Fields::of(block, message.path(&format!("content[{number}].")))?;
            let origin = Origin::Block(index, number);
            match &*block.string("type")?.ok_or_else(|| block.missing("type"))? {
                "text" => {
                    let text = block.string("text")?.ok_or_else(|| block.missing("text"))?;
                    if !text.is_empty() {
                        self.push(said(text), origin);
                    }
                }
                "tool_use" => {
                    let id = inner_id(&block.call_id("id")?);
                    let name = block.string("name")?.ok_or_else(|| block.missing("name"))?;
                    if name.is_empty() {
                        return Err(block.invalid("name", "must not be empty"));
                    }
                    let input = block.object("input")?.ok_or_else(|| block.missing("input"))?;
                    if !self.calls.add(&id, &name) {
                        return Err(block.invalid("id", "is used by two tool calls"));
                    }
                    let call = ToolCall::function(id, name, input.json().as_str());
                    self.push(call.into(), origin);
                }
                "thinking" => {
                    let thought = block.string("thinking")?.unwrap_or_default();
                    let signature = block.string("signature")?.unwrap_or_default();
                    match thinking::encrypted(&signature).filter(|_| self.reasoning) {
                        Some(encrypted) => {
                            let summary = Some(thought).filter(|thought| !thought.is_empty());
                            let summary = summary.into_iter().map(Cow::into_owned).collect();
                            self.push(Item::Reasoning { encrypted: encrypted.into(), summary }, origin);
                        }
                        None => self.ignore_thinking(block.path("signature")),
                    }
                }
                "redacted_thinking" => self.ignore_thinking(block.path("data")),
                kind => {
                    return Err(unsupported(&block, kind, "text, tool_use, thinking, redacted_thinking"));
                }
            }
        }
        Ok(())
    }
}

/// The id that the upstream knows a call by.
fn inner_id(id: &str) -> String {
    match id.strip_prefix("toolu_") {
        Some(rest) => format!("call_{rest}"),
        None => id.to_owned(),
    }
}

/// The id that clients of this format expect for a call.
pub(super) fn outer_id(id: &str) -> Cow<'_, str> {
    match id.strip_prefix("call_") {
        Some(rest) => Cow::Owned(format!("toolu_{rest}")),
        None => Cow::Borrowed(id),
    }
}

fn unsupported(block: &Fields, kind: &str, known: &str) -> Failure {
    let path = block.path("type");
    let kind: String = kind.chars().filter(|c| !c.is_control()).take(64).collect();
    let message = format!("{path}: content blocks of type {kind} are not supported here; use {known}.");
    Failure::Unsupported { at: At::Field(path), message }
}

/// The blocks of a content that is no string.
fn blocks<'a>(at: &Fields, key: &str, content: Raw<'a>) -> Result<Items<'a>, Failure> {
    content.items().ok_or_else(|| wrong(&at.path(key), "a string or an array of content blocks", content))
}

/// A string, or text blocks. `system` is what Claude Code puts its changing line in.
fn texts(fields: &Fields, key: &str, system: bool) -> Result<Vec<Part>, Failure> {
    let content = match fields.get(key) {
        Some(content) => content,
        None if system => return Ok(Vec::new()),
        None => return Err(fields.missing(key)),
    };
    let mut texts = Vec::new();
    if let Some(text) = content.string() {
        texts.push(text);
    } else {
        for (number, block) in blocks(fields, key, content)?.enumerate() {
            let block = Fields::of(block, fields.path(&format!("{key}[{number}].")))?;
            match &*block.string("type")?.ok_or_else(|| block.missing("type"))? {
                "text" => texts.push(block.string("text")?.ok_or_else(|| block.missing("text"))?),
                kind => return Err(unsupported(&block, kind, "text")),
            }
        }
    }
    if let (true, Some(first)) = (system, texts.first_mut())
        && first.starts_with(BILLING)
    {
        *first = first.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default().into();
    }
    let texts = texts.into_iter().filter(|text| !system || !text.is_empty());
    Ok(texts.map(|text| Part::Text(text.into())).collect())
}

/// What a block of text or an image is; a document may be of several blocks.
fn part(block: &Fields, kind: &str, known: &str) -> Result<Vec<Part>, Failure> {
    match kind {
        "text" => {
            let text = block.string("text")?.ok_or_else(|| block.missing("text"))?;
            Ok(vec![Part::Text(text.into())])
        }
        "image" => {
            let source = block.object("source")?.ok_or_else(|| block.missing("source"))?;
            let source = Fields::of(source, block.path("source."))?;
            match &*source.string("type")?.ok_or_else(|| source.missing("type"))? {
                "base64" => {}
                _ => {
                    let why = "must be base64: this server fetches nothing and keeps no files";
                    return Err(source.invalid("type", why));
                }
            }
            let media_type = source.string("media_type")?.ok_or_else(|| source.missing("media_type"))?;
            let data = source.string("data")?.ok_or_else(|| source.missing("data"))?;
            let image = image::of_base64(&media_type, data);
            Ok(vec![image.map_err(|why| why.at(&source.path("data")))?.into()])
        }
        "document" => {
            let source = block.object("source")?.ok_or_else(|| block.missing("source"))?;
            let source = Fields::of(source, block.path("source."))?;
            match &*source.string("type")?.ok_or_else(|| source.missing("type"))? {
                "text" => {
                    let text = source.string("data")?.ok_or_else(|| source.missing("data"))?;
                    Ok(vec![Part::Text(text.into())])
                }
                "content" => parts(&source, "text, image"),
                _ => {
                    let path = source.path("type");
                    let message = format!("{path} must be text or content: Codex reads no documents.");
                    Err(Failure::Unsupported { at: At::Field(path), message })
                }
            }
        }
        kind => Err(unsupported(block, kind, known)),
    }
}

/// The `content` of a result or a document.
fn parts(fields: &Fields, known: &str) -> Result<Vec<Part>, Failure> {
    let Some(content) = fields.get("content") else { return Ok(Vec::new()) };
    if let Some(text) = content.string() {
        return Ok(vec![Part::Text(text.into())]);
    }
    let mut all = Vec::new();
    for (number, block) in blocks(fields, "content", content)?.enumerate() {
        let block = Fields::of(block, fields.path(&format!("content[{number}].")))?;
        let kind = block.string("type")?.ok_or_else(|| block.missing("type"))?;
        // A document within a document is none that anybody sends; it would nest without end.
        if kind == "document" && known != RESULT {
            return Err(unsupported(&block, &kind, known));
        }
        all.extend(part(&block, &kind, known)?);
    }
    Ok(all)
}

/// What a tool's result may consist of.
const RESULT: &str = "text, image, document";

fn result(block: &Fields) -> Result<Vec<Part>, Failure> {
    let mut content = parts(block, RESULT)?;
    if block.boolean("is_error")? == Some(true) {
        match content.first_mut() {
            Some(Part::Text(text)) => *text = format!("{FAILED}\n{text}").into(),
            _ => content.insert(0, Part::Text(FAILED.into())),
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
