//! `messages` as conversation items.

use std::collections::BTreeSet;

use crate::turn::{At, Failure, Item, Part, Role, ToolCall};

use crate::api::calls::Calls;
use crate::api::dialect::Wanted;
use crate::api::fields::{Fields, wrong};
use crate::api::image;
use crate::api::raw::{Items, Raw};

const ROLES: &str = "system, developer, user, assistant, tool, function";

/// What was read.
#[derive(Debug)]
pub(super) struct Messages {
    /// The conversation.
    pub(super) items: Vec<Item>,
    /// Of which message each item was made, by its index.
    pub(super) origins: Vec<usize>,
    /// Fields that Codex has no path for.
    pub(super) ignored: BTreeSet<&'static str>,
}

/// Reads the list.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::Unsupported`] naming `messages[i].…`; what `wanted` says.
pub(super) fn decode(messages: Items, wanted: &Wanted) -> Result<Messages, Failure> {
    let mut items = Vec::new();
    let mut origins = Vec::new();
    let mut ignored = BTreeSet::new();
    let mut calls = Calls::default();
    let mut count = 0;
    for (index, message) in messages.enumerate() {
        wanted.check()?;
        count += 1;
        let fields = Fields::of(message, format!("messages[{index}]."))?;
        let role = fields.string("role")?.ok_or_else(|| fields.missing("role"))?;
        if role != "function" && fields.string("name")?.is_some() {
            ignored.insert("messages[].name");
        }
        if !matches!(&*role, "tool" | "function") {
            all_answered(&calls, &fields)?;
        }
        match &*role {
            "system" => items.push(said(Role::System, &fields, &mut ignored)?),
            "developer" => items.push(said(Role::Developer, &fields, &mut ignored)?),
            "user" => items.push(said(Role::User, &fields, &mut ignored)?),
            "assistant" => assistant(&fields, index, &mut items, &mut calls, &mut ignored)?,
            "tool" => {
                let id = fields.string("tool_call_id")?.ok_or_else(|| fields.missing("tool_call_id"))?;
                calls.answer(&id).ok_or_else(|| {
                    fields.invalid("tool_call_id", "names no tool call of the preceding assistant message")
                })?;
                items.push(Item::ToolResult {
                    call_id: id.into(),
                    content: content(&fields, Allowed::Text, &mut ignored)?,
                });
            }
            "function" => {
                let name = fields.string("name")?.ok_or_else(|| fields.missing("name"))?;
                let call_id = calls.answer_function(&name).ok_or_else(|| {
                    fields.invalid("name", "names no function call of the preceding assistant message")
                })?;
                let content = content(&fields, Allowed::Text, &mut ignored)?;
                items.push(Item::ToolResult { call_id: call_id.into(), content });
            }
            _ => return Err(fields.invalid("role", &format!("must be one of {ROLES}"))),
        }
        origins.resize(items.len(), index);
    }
    all_answered_at_end(&calls, count)?;
    Ok(Messages { items, origins, ignored })
}

fn all_answered(calls: &Calls, at: &Fields) -> Result<(), Failure> {
    match calls.open() {
        None => Ok(()),
        Some(id) => Err(at.invalid("role", &format!("must be tool: the tool call {id:?} has no result yet"))),
    }
}

fn all_answered_at_end(calls: &Calls, count: usize) -> Result<(), Failure> {
    match calls.open() {
        None => Ok(()),
        Some(id) => Err(Failure::bad_field(
            format!("messages[{}]", count.saturating_sub(1)),
            format!("The tool call {id:?} has no result: a tool message with its tool_call_id must follow."),
        )),
    }
}

fn said(role: Role, fields: &Fields, ignored: &mut BTreeSet<&'static str>) -> Result<Item, Failure> {
    let allowed = if role == Role::User { Allowed::TextAndImages } else { Allowed::Text };
    Ok(Item::message(role, content(fields, allowed, ignored)?))
}

fn assistant(
    fields: &Fields,
    index: usize,
    items: &mut Vec<Item>,
    calls: &mut Calls,
    ignored: &mut BTreeSet<&'static str>,
) -> Result<(), Failure> {
    let tool_calls = fields.array("tool_calls")?;
    let none_called = tool_calls.as_ref().is_none_or(Items::is_empty);
    let function_call = fields.object("function_call")?;
    let says = fields.get("content").is_some();
    let refusal = fields.string("refusal")?;
    if !says && refusal.is_none() && none_called && function_call.is_none() {
        return Err(fields.missing("content"));
    }
    let mut parts = if says { content(fields, Allowed::Text, ignored)? } else { Vec::new() };
    parts.extend(refusal.map(|text| Part::Text(text.into())));
    if parts.iter().any(|part| *part != Part::Text("".into())) || (none_called && function_call.is_none()) {
        items.push(Item::message(Role::Assistant, parts));
    }
    for (number, call) in tool_calls.into_iter().flatten().enumerate() {
        let call = Fields::of(call, fields.path(&format!("tool_calls[{number}].")))?;
        match call.string("type")?.as_deref() {
            None | Some("function") => {}
            Some(_) => return Err(call.invalid("type", "must be function")),
        }
        let id = call.call_id("id")?;
        if calls.is_open(&id) {
            return Err(call.invalid("id", "is used by two tool calls"));
        }
        let function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
        push_call(&id, function, call.path("function."), items, calls)?;
    }
    if let Some(function) = function_call {
        let id = format!("call_function_{index}");
        push_call(&id, function, fields.path("function_call."), items, calls)?;
    }
    Ok(())
}

fn push_call(
    id: &str,
    function: Raw,
    place: String,
    items: &mut Vec<Item>,
    calls: &mut Calls,
) -> Result<(), Failure> {
    let function = Fields::of(function, place)?;
    let name = function.string("name")?.ok_or_else(|| function.missing("name"))?;
    if name.is_empty() {
        return Err(function.invalid("name", "must not be empty"));
    }
    let arguments = function.string("arguments")?.ok_or_else(|| function.missing("arguments"))?;
    if !calls.add(id, &name) {
        return Err(function.invalid("name", "gives the call an id that a tool call beside it has"));
    }
    items.push(Item::from(ToolCall::function(id, name, arguments)));
    Ok(())
}

/// What a message may contain.
#[derive(Clone, Copy, PartialEq)]
enum Allowed {
    Text,
    TextAndImages,
}

fn content(
    fields: &Fields,
    allowed: Allowed,
    ignored: &mut BTreeSet<&'static str>,
) -> Result<Vec<Part>, Failure> {
    let value = fields.get("content").ok_or_else(|| fields.missing("content"))?;
    if let Some(text) = value.string() {
        return Ok(vec![Part::Text(text.into())]);
    }
    let Some(parts) = value.items() else {
        return Err(wrong(&fields.path("content"), "a string or an array of parts", value));
    };
    if parts.is_empty() {
        return Err(fields.invalid("content", "must not be an empty array"));
    }
    let part = |(index, value)| {
        let place = fields.path(&format!("content[{index}]."));
        part(&Fields::of(value, place)?, allowed, ignored)
    };
    parts.enumerate().map(part).collect()
}

fn part(fields: &Fields, allowed: Allowed, ignored: &mut BTreeSet<&'static str>) -> Result<Part, Failure> {
    let kind = fields.string("type")?.ok_or_else(|| fields.missing("type"))?;
    match &*kind {
        "text" | "input_text" | "output_text" => {
            let text = fields.string("text")?.ok_or_else(|| fields.missing("text"))?;
            Ok(Part::Text(text.into()))
        }
        "refusal" => {
            let text = fields.string("refusal")?.ok_or_else(|| fields.missing("refusal"))?;
            Ok(Part::Text(text.into()))
        }
        "image_url" | "input_image" if allowed == Allowed::Text => {
            Err(fields.invalid("type", "may be an image in user messages only"))
        }
        "image_url" => {
            let image = fields.get("image_url").ok_or_else(|| fields.missing("image_url"))?;
            // Some clients send the URL itself.
            if let Some(url) = image.string() {
                return image::part_of_url(url, &fields.path("image_url"));
            }
            if image.kind() != "an object" {
                return Err(wrong(&fields.path("image_url"), "an object", image));
            }
            let image = Fields::of(image, fields.path("image_url."))?;
            // Codex asks for its own.
            if image.string("detail")?.is_some_and(|detail| detail != "auto") {
                ignored.insert("messages[].content[].image_url.detail");
            }
            let url = image.string("url")?.ok_or_else(|| image.missing("url"))?;
            image::part_of_url(url, &image.path("url"))
        }
        "input_image" => {
            if fields.string("detail")?.is_some_and(|detail| detail != "auto") {
                ignored.insert("messages[].content[].detail");
            }
            let url = fields.string("image_url")?.ok_or_else(|| fields.missing("image_url"))?;
            image::part_of_url(url, &fields.path("image_url"))
        }
        "input_audio" | "file" | "input_file" => Err(Failure::Unsupported {
            at: At::Field(fields.path("type")),
            message: format!("Content parts of type {kind} are not supported: Codex takes text and images."),
        }),
        _ => Err(fields.invalid("type", "must be text or image_url")),
    }
}

#[cfg(test)]
mod tests;
