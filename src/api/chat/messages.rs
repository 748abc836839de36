//! `messages` as conversation items.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::turn::{At, Failure, Image, Item, Part, Role, ToolCall};

use crate::api::fields::{Fields, wrong};

/// What images Codex's upstream takes.
const IMAGE_TYPES: &[&str] = &["image/png", "image/jpeg", "image/gif", "image/webp"];

const ROLES: &str = "system, developer, user, assistant, tool, function";

/// Reads the list. With the items comes of which message each was made, by its index.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::Unsupported`] naming `messages[i].…`.
pub(super) fn decode(messages: &[Value]) -> Result<(Vec<Item>, Vec<usize>), Failure> {
    let mut items = Vec::with_capacity(messages.len());
    let mut origins = Vec::with_capacity(messages.len());
    let mut calls = Calls::default();
    for (index, message) in messages.iter().enumerate() {
        let place = format!("messages[{index}].");
        let fields = Fields::of(message, &place)?;
        let role = fields.string("role")?.ok_or_else(|| fields.missing("role"))?;
        if !matches!(role, "tool" | "function") {
            calls.all_answered(&fields)?;
        }
        match role {
            "system" => items.push(said(Role::System, &fields)?),
            "developer" => items.push(said(Role::Developer, &fields)?),
            "user" => items.push(said(Role::User, &fields)?),
            "assistant" => assistant(&fields, index, &mut items, &mut calls)?,
            "tool" => {
                let id = fields.string("tool_call_id")?.ok_or_else(|| fields.missing("tool_call_id"))?;
                calls.answer(id).ok_or_else(|| {
                    fields.invalid("tool_call_id", "names no tool call of the preceding assistant message")
                })?;
                items.push(Item::ToolResult {
                    call_id: id.to_owned(),
                    content: content(&fields, Allowed::Text)?,
                });
            }
            "function" => {
                let name = fields.string("name")?.ok_or_else(|| fields.missing("name"))?;
                let call_id = calls.answer_function(name).ok_or_else(|| {
                    fields.invalid("name", "names no function call of the preceding assistant message")
                })?;
                items.push(Item::ToolResult { call_id, content: content(&fields, Allowed::Text)? });
            }
            _ => return Err(fields.invalid("role", &format!("must be one of {ROLES}"))),
        }
        origins.resize(items.len(), index);
    }
    calls.all_answered_at_end(messages.len())?;
    Ok((items, origins))
}

/// The calls of the last assistant message that have no result yet: Codex would drop an orphan
/// result and answer an orphan call by itself, without a word.
///
/// A message may have tens of thousands: each is found without looking at the others.
#[derive(Default)]
struct Calls {
    /// Ids by number, in the order of the message.
    open: BTreeMap<usize, String>,
    next: usize,
    /// The numbers of the open ones.
    by_id: HashMap<String, usize>,
    /// The numbers by name, in order; those answered by id are still among them.
    by_name: HashMap<String, VecDeque<usize>>,
}

impl Calls {
    /// Notes a call; not if one with its id is open.
    fn add(&mut self, id: &str, name: &str) -> bool {
        if self.open.is_empty() {
            self.by_name.clear();
        }
        match self.by_id.entry(id.to_owned()) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(entry) => entry.insert(self.next),
        };
        self.by_name.entry(name.to_owned()).or_default().push_back(self.next);
        self.open.insert(self.next, id.to_owned());
        self.next += 1;
        true
    }

    /// The id of the call with that id, which is open no more.
    fn answer(&mut self, id: &str) -> Option<String> {
        let number = self.by_id.remove(id)?;
        self.open.remove(&number)
    }

    /// The id of the first open call of that name, which is open no more.
    fn answer_function(&mut self, name: &str) -> Option<String> {
        let numbers = self.by_name.get_mut(name)?;
        let number =
            std::iter::from_fn(|| numbers.pop_front()).find(|number| self.open.contains_key(number))?;
        let id = self.open.remove(&number)?;
        self.by_id.remove(&id);
        Some(id)
    }

    fn open(&self) -> Option<&str> {
        self.open.first_key_value().map(|(_, id)| id.as_str())
    }

    fn all_answered(&self, at: &Fields) -> Result<(), Failure> {
        match self.open() {
            None => Ok(()),
            Some(id) => {
                Err(at.invalid("role", &format!("must be tool: the tool call {id:?} has no result yet")))
            }
        }
    }

    fn all_answered_at_end(&self, count: usize) -> Result<(), Failure> {
        match self.open() {
            None => Ok(()),
            Some(id) => Err(Failure::bad_field(
                format!("messages[{}]", count.saturating_sub(1)),
                format!(
                    "The tool call {id:?} has no result: a tool message with its tool_call_id must follow."
                ),
            )),
        }
    }
}

fn said(role: Role, fields: &Fields) -> Result<Item, Failure> {
    let allowed = if role == Role::User { Allowed::TextAndImages } else { Allowed::Text };
    Ok(Item::message(role, content(fields, allowed)?))
}

fn assistant(fields: &Fields, index: usize, items: &mut Vec<Item>, calls: &mut Calls) -> Result<(), Failure> {
    let tool_calls = fields.array("tool_calls")?.unwrap_or_default();
    let function_call = fields.object("function_call")?;
    let says = fields.get("content").is_some();
    let refusal = fields.string("refusal")?;
    if !says && refusal.is_none() && tool_calls.is_empty() && function_call.is_none() {
        return Err(fields.missing("content"));
    }
    let mut parts = if says { content(fields, Allowed::Text)? } else { Vec::new() };
    parts.extend(refusal.map(|text| Part::Text(text.to_owned())));
    if parts.iter().any(|part| *part != Part::Text(String::new()))
        || (tool_calls.is_empty() && function_call.is_none())
    {
        items.push(Item::message(Role::Assistant, parts));
    }
    for (number, call) in tool_calls.iter().enumerate() {
        let place = fields.path(&format!("tool_calls[{number}]."));
        let call = Fields::of(call, &place)?;
        match call.string("type")? {
            None | Some("function") => {}
            Some(_) => return Err(call.invalid("type", "must be function")),
        }
        let id = call.string("id")?.ok_or_else(|| call.missing("id"))?;
        if id.is_empty() || id.len() > 256 || id.chars().any(char::is_control) {
            return Err(call.invalid("id", "must be 1 to 256 characters without control characters"));
        }
        if calls.by_id.contains_key(id) {
            return Err(call.invalid("id", "is used by two tool calls"));
        }
        let function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
        push_call(id, function, &call.path("function."), items, calls)?;
    }
    if let Some(function) = function_call {
        let id = format!("call_function_{index}");
        push_call(&id, function, &fields.path("function_call."), items, calls)?;
    }
    Ok(())
}

fn push_call(
    id: &str,
    function: &Value,
    place: &str,
    items: &mut Vec<Item>,
    calls: &mut Calls,
) -> Result<(), Failure> {
    let function = Fields::of(function, place)?;
    let name = function.string("name")?.ok_or_else(|| function.missing("name"))?;
    if name.is_empty() {
        return Err(function.invalid("name", "must not be empty"));
    }
    let arguments = function.string("arguments")?.ok_or_else(|| function.missing("arguments"))?;
    if !calls.add(id, name) {
        return Err(function.invalid("name", "gives the call an id that a tool call beside it has"));
    }
    items.push(Item::ToolCall(ToolCall::function(id, name, arguments)));
    Ok(())
}

/// What a message may contain.
#[derive(Clone, Copy, PartialEq)]
enum Allowed {
    Text,
    TextAndImages,
}

fn content(fields: &Fields, allowed: Allowed) -> Result<Vec<Part>, Failure> {
    match fields.get("content") {
        None => Err(fields.missing("content")),
        Some(Value::String(text)) => Ok(vec![Part::Text(text.clone())]),
        Some(Value::Array(parts)) if parts.is_empty() => {
            Err(fields.invalid("content", "must not be an empty array"))
        }
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let place = fields.path(&format!("content[{index}]."));
                part(&Fields::of(value, &place)?, allowed)
            })
            .collect(),
        Some(other) => Err(wrong(&fields.path("content"), "a string or an array of parts", other)),
    }
}

fn part(fields: &Fields, allowed: Allowed) -> Result<Part, Failure> {
    let kind = fields.string("type")?.ok_or_else(|| fields.missing("type"))?;
    match kind {
        "text" | "input_text" | "output_text" => {
            let text = fields.string("text")?.ok_or_else(|| fields.missing("text"))?;
            Ok(Part::Text(text.to_owned()))
        }
        "refusal" => {
            let text = fields.string("refusal")?.ok_or_else(|| fields.missing("refusal"))?;
            Ok(Part::Text(text.to_owned()))
        }
        "image_url" | "input_image" if allowed == Allowed::Text => {
            Err(fields.invalid("type", "may be an image in user messages only"))
        }
        "image_url" => {
            let image = fields.get("image_url").ok_or_else(|| fields.missing("image_url"))?;
            match image {
                // Some clients send the URL itself.
                Value::String(url) => read_image(url, &fields.path("image_url")),
                Value::Object(_) => {
                    let place = fields.path("image_url.");
                    let image = Fields::of(image, &place)?;
                    image.string("detail")?;
                    let url = image.string("url")?.ok_or_else(|| image.missing("url"))?;
                    read_image(url, &image.path("url"))
                }
                other => Err(wrong(&fields.path("image_url"), "an object", other)),
            }
        }
        "input_image" => {
            let url = fields.string("image_url")?.ok_or_else(|| fields.missing("image_url"))?;
            read_image(url, &fields.path("image_url"))
        }
        "input_audio" | "file" | "input_file" => Err(Failure::Unsupported {
            at: At::Field(fields.path("type")),
            message: format!("Content parts of type {kind} are not supported: Codex takes text and images."),
        }),
        _ => Err(fields.invalid("type", "must be text or image_url")),
    }
}

/// A `data:` URL of an image. Nothing is ever fetched.
fn read_image(url: &str, path: &str) -> Result<Part, Failure> {
    let bad = |why: &str| Failure::bad_field(path, format!("{path} {why}."));
    let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    if !is_data {
        return Err(bad("must be a data: URL with the image itself: this server fetches nothing"));
    }
    let (head, body) = url[5..].split_once(',').ok_or_else(|| bad("is not a data: URL: it has no comma"))?;
    let mut words = head.split(';');
    let media_type = words.next().unwrap_or_default().to_ascii_lowercase();
    if !words.any(|word| word.eq_ignore_ascii_case("base64")) {
        return Err(bad("must be encoded in base64"));
    }
    let media_type = if media_type == "image/jpg" { "image/jpeg".to_owned() } else { media_type };
    if !IMAGE_TYPES.contains(&media_type.as_str()) {
        return Err(bad(&format!("must be of type {}", IMAGE_TYPES.join(", "))));
    }
    match STANDARD.decode(body) {
        Ok(bytes) if bytes.is_empty() => Err(bad("has no image data")),
        Ok(_) => Ok(Part::Image(Image { media_type, base64: body.to_owned() })),
        Err(_) => Err(bad("is not valid base64")),
    }
}

#[cfg(test)]
mod tests;
