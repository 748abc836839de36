//! `input` as conversation items.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::turn::{At, CallKind, Failure, Item, Part, Role, Saying, ToolCall};

use crate::api::dialect::Wanted;
use crate::api::fields::{Fields, wrong};
use crate::api::image;
use crate::api::raw::Raw;
use crate::api::remembered::CallersItems;

use super::tools::Offered;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The conversation.
    pub(super) items: Vec<Item>,
    /// Which field each item was made of.
    pub(super) origins: Vec<Origin>,
    calls: Calls,
    /// The ids that stood for items.
    referred: HashSet<String>,
}

/// Where an item of the conversation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// `instructions`.
    Instructions,
    /// `input`, which is a text.
    Text,
    /// `input[i]`.
    Item(usize),
}

impl Origin {
    pub(super) fn path(self) -> String {
        match self {
            Origin::Instructions => "instructions".into(),
            Origin::Text => "input".into(),
            Origin::Item(index) => format!("input[{index}]"),
        }
    }
}

/// Reads `instructions` and `input`; tools that stand among the items go to `offered`, and what
/// `remembered` has goes where only its id stands.
///
/// # Errors
/// [`Failure::BadRequest`], [`Failure::Unsupported`] or [`Failure::NotFound`] naming the field; what
/// `wanted` says.
pub(super) fn decode(
    fields: &Fields,
    offered: &mut Offered,
    remembered: &CallersItems,
    wanted: &Wanted,
) -> Result<Input, Failure> {
    let mut input = Input::default();
    if let Some(text) = fields.string("instructions")?.filter(|text| !text.is_empty()) {
        let content = vec![Part::Text(text.into())];
        input.push(Item::message(Role::Developer, content), Origin::Instructions);
    }
    let value = fields.get("input").ok_or_else(|| fields.missing("input"))?;
    if let Some(text) = value.string() {
        input.push(Item::message(Role::User, vec![Part::Text(text.into())]), Origin::Text);
        return Ok(input);
    }
    let items = value.items().ok_or_else(|| wrong("input", "a string or an array of items", value))?;
    let before = input.items.len();
    for (index, item) in items.enumerate() {
        wanted.check()?;
        input.item(&Fields::of(item, format!("input[{index}]."))?, index, offered, remembered)?;
    }
    if input.items.len() == before {
        return Err(fields.invalid("input", "must have at least one message"));
    }
    input.all_answered()?;
    Ok(input)
}

impl Input {
    fn push(&mut self, item: Item, origin: Origin) {
        self.items.push(item);
        self.origins.push(origin);
    }

    fn item(
        &mut self,
        fields: &Fields,
        index: usize,
        offered: &mut Offered,
        remembered: &CallersItems,
    ) -> Result<(), Failure> {
        let kind = match fields.string("type")? {
            Some(kind) => kind,
            // Messages may go without.
            None if fields.get("role").is_some() => "message".into(),
            // And so may references.
            None if fields.get("id").is_some() => "item_reference".into(),
            None => return Err(fields.missing("type")),
        };
        let item = match &*kind {
            "message" => message(fields)?,
            "function_call" => Some(self.call(fields, index, CallKind::Function)?),
            "custom_tool_call" => Some(self.call(fields, index, CallKind::Custom)?),
            "function_call_output" => Some(self.output(fields, CallKind::Function)?),
            "custom_tool_call_output" => Some(self.output(fields, CallKind::Custom)?),
            "reasoning" => reasoning(fields)?,
            "item_reference" => self.referred(fields, index, remembered)?,
            "additional_tools" => {
                fields.get("tools").ok_or_else(|| fields.missing("tools"))?;
                offered.add(fields)?;
                None
            }
            _ => return Err(unknown(fields, &kind)),
        };
        if let Some(item) = item {
            self.push(item, Origin::Item(index));
        }
        Ok(())
    }

    fn call(&mut self, fields: &Fields, index: usize, kind: CallKind) -> Result<Item, Failure> {
        let id = fields.call_id("call_id")?;
        let name = fields.string("name")?.ok_or_else(|| fields.missing("name"))?;
        if name.is_empty() {
            return Err(fields.invalid("name", "must not be empty"));
        }
        let key = match kind {
            CallKind::Function => "arguments",
            CallKind::Custom => "input",
        };
        let arguments = fields.string(key)?.ok_or_else(|| fields.missing(key))?;
        if !self.calls.add(&id, kind, index) {
            return Err(fields.invalid("call_id", "is used by two calls"));
        }
        let call = match kind {
            CallKind::Function => ToolCall::function(id, name, arguments),
            CallKind::Custom => ToolCall::custom(id, name, arguments),
        };
        Ok(Item::from(match fields.string("namespace")?.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => call.within(namespace),
            None => call,
        }))
    }

    /// What an id stands for; nothing for reasoning that is not known, which an answer is the same without.
    fn referred(
        &mut self,
        fields: &Fields,
        index: usize,
        remembered: &CallersItems,
    ) -> Result<Option<Item>, Failure> {
        let id = fields.string("id")?.ok_or_else(|| fields.missing("id"))?;
        let item = match remembered.find(&id) {
            Some(item) => item,
            None if id.starts_with("rs_") => return Ok(None),
            None => return Err(unknown_id(fields)),
        };
        // Nor could a small request become a large one by naming an item often.
        if !self.referred.insert(id.into_owned()) {
            return Err(fields.invalid("id", "is used by two items"));
        }
        if let Item::ToolCall(call) = &item
            && !self.calls.add(&call.id, call.kind, index)
        {
            return Err(fields.invalid("id", "names a call that is there already"));
        }
        Ok(Some(item))
    }

    fn output(&mut self, fields: &Fields, kind: CallKind) -> Result<Item, Failure> {
        let id = fields.call_id("call_id")?;
        self.calls.answer(&id, kind).map_err(|why| fields.invalid("call_id", why))?;
        let value = fields.get("output").ok_or_else(|| fields.missing("output"))?;
        let content = match value.string() {
            Some(text) => vec![Part::Text(text.into())],
            None => parts(value, fields, "output", true)?,
        };
        Ok(Item::ToolResult { call_id: id.into(), content })
    }

    /// Codex would answer a call that has no result by itself, without a word. One at the end may be
    /// waited for by nobody.
    fn all_answered(&self) -> Result<(), Failure> {
        let trailing = self.items.iter().rev().take_while(|item| matches!(item, Item::ToolCall(_))).count();
        let end = match self.origins.get(self.items.len() - trailing) {
            Some(Origin::Item(index)) => *index,
            _ => usize::MAX,
        };
        match self.calls.open.first_key_value() {
            Some((index, id)) if *index < end => Err(Failure::bad_field(
                format!("input[{index}]"),
                format!("The call {id:?} has no result: an output with its call_id must follow."),
            )),
            _ => Ok(()),
        }
    }
}

/// The calls of the conversation: Codex would drop a result without its call.
#[derive(Debug, Default)]
struct Calls {
    /// Those without a result, by the place they have in `input`.
    open: BTreeMap<usize, String>,
    /// All of them; the place is gone once there is a result.
    by_id: HashMap<String, (CallKind, Option<usize>)>,
}

impl Calls {
    /// Notes a call; not if there is one with its id.
    fn add(&mut self, id: &str, kind: CallKind, index: usize) -> bool {
        self.open.insert(index, id.to_owned());
        self.by_id.insert(id.to_owned(), (kind, Some(index))).is_none()
    }

    /// Notes a result, or says what is wrong with it.
    fn answer(&mut self, id: &str, kind: CallKind) -> Result<(), &'static str> {
        let (called, open) = self.by_id.get_mut(id).ok_or("names no call before it")?;
        if *called != kind {
            return Err("names a call of the other kind");
        }
        let index = open.take().ok_or("names a call that has a result already")?;
        self.open.remove(&index);
        Ok(())
    }
}

fn unknown_id(fields: &Fields) -> Failure {
    Failure::NotFound {
        at: Some(At::Field(fields.path("id"))),
        message:
            "There is no item with this id. Items are kept for a short while only; send the item itself \
                  (AI SDK: `providerOptions.openai.store = false`)."
                .into(),
    }
}

fn unknown(fields: &Fields, kind: &str) -> Failure {
    let at = At::Field(fields.path("type"));
    let message = match kind {
        "compaction" | "compaction_trigger" | "compaction_summary" => format!(
            "{} is {kind}: conversations are not compacted here; send the items themselves.",
            fields.path("type")
        ),
        kind if kind.ends_with("_call") || kind.ends_with("_call_output") || kind.starts_with("mcp_") => {
            format!(
                "{} is {kind}: hosted tools are not available here, nor what they said; leave the item out.",
                fields.path("type")
            )
        }
        _ => {
            let why = "must be message, function_call, function_call_output, custom_tool_call, \
                       custom_tool_call_output, reasoning, item_reference or additional_tools";
            return fields.invalid("type", why);
        }
    };
    Failure::Unsupported { at, message }
}

/// What only the upstream can read goes back to it; a summary alone says nothing to a model.
fn reasoning(fields: &Fields) -> Result<Option<Item>, Failure> {
    let mut summary = Vec::new();
    for (index, part) in fields.array("summary")?.into_iter().flatten().enumerate() {
        let part = Fields::of(part, fields.path(&format!("summary[{index}].")))?;
        summary.push(part.string("text")?.ok_or_else(|| part.missing("text"))?.into_owned());
    }
    let encrypted = fields.string("encrypted_content")?.filter(|content| !content.is_empty());
    Ok(encrypted.map(|encrypted| Item::Reasoning { encrypted: encrypted.into(), summary: summary.into() }))
}

/// A message, unless the model said nothing in it.
fn message(fields: &Fields) -> Result<Option<Item>, Failure> {
    let role = match &*fields.string("role")?.ok_or_else(|| fields.missing("role"))? {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        "developer" => Role::Developer,
        _ => return Err(fields.invalid("role", "must be one of user, assistant, system, developer")),
    };
    let phase = fields.string("phase")?.and_then(|phase| Saying::from_name(&phase));
    let value = fields.get("content").ok_or_else(|| fields.missing("content"))?;
    let content = match value.string() {
        Some(text) => vec![Part::Text(text.into())],
        None if role == Role::Assistant && value.items().is_some_and(|parts| parts.is_empty()) => {
            return Ok(None);
        }
        None => parts(value, fields, "content", role == Role::User)?,
    };
    let phase = phase.filter(|_| role == Role::Assistant);
    Ok(Some(Item::Message { role, content, phase }))
}

fn parts(value: Raw, fields: &Fields, key: &str, images: bool) -> Result<Vec<Part>, Failure> {
    let Some(list) = value.items() else {
        return Err(wrong(&fields.path(key), "a string or an array of parts", value));
    };
    if list.is_empty() {
        return Err(fields.invalid(key, "must not be an empty array"));
    }
    let part = |(index, value)| part(&Fields::of(value, fields.path(&format!("{key}[{index}].")))?, images);
    list.enumerate().map(part).collect()
}

fn part(fields: &Fields, images: bool) -> Result<Part, Failure> {
    let text = |key: &str| {
        let text = fields.string(key)?.ok_or_else(|| fields.missing(key))?;
        Ok(Part::Text(text.into()))
    };
    let kind = fields.string("type")?.ok_or_else(|| fields.missing("type"))?;
    match &*kind {
        "input_text" | "output_text" | "text" => text("text"),
        "refusal" => text("refusal"),
        "input_image" if !images => {
            Err(fields.invalid("type", "may be an image in user messages and outputs only"))
        }
        "input_image" if fields.get("file_id").is_some() => Err(Failure::Unsupported {
            at: At::Field(fields.path("file_id")),
            message: format!(
                "{} is not supported: no files are kept here. Send the image itself as a data: URL in image_url.",
                fields.path("file_id")
            ),
        }),
        "input_image" => {
            fields.string("detail")?;
            let url = fields.string("image_url")?.ok_or_else(|| fields.missing("image_url"))?;
            image::part_of_url(url, &fields.path("image_url"))
        }
        "input_file" | "input_audio" => Err(Failure::Unsupported {
            at: At::Field(fields.path("type")),
            message: format!("Content parts of type {kind} are not supported: Codex takes text and images."),
        }),
        _ => Err(fields.invalid("type", "must be input_text, output_text or input_image")),
    }
}
