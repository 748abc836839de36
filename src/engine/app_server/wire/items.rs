//! A conversation as items of the upstream's Responses API.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::custom::wrapped;
use crate::engine::app_server::rpc::json;
use crate::engine::app_server::tool_names::Names;
use crate::turn::{CallKind, Image, Item, Part, Role, Saying, ToolChoice, Turn};

/// The parameters of `thread/inject_items`: a conversation, or what of it is new.
#[derive(Clone, Debug)]
pub struct InjectItems {
    /// Into which thread.
    pub thread_id: String,
    /// The conversation.
    pub conversation: Arc<[Item]>,
    /// Its items up to here are in the thread already.
    pub at: usize,
    /// What functions are called.
    pub names: Arc<Names>,
    /// The namespace that the model's calls had, where they had one: without it they would be other
    /// items to the upstream's cache.
    pub namespace: Option<String>,
    /// What offers tools, in JSON, to stand before all else; empty unless tools go as an item.
    pub tools: Vec<Vec<u8>>,
    /// The ids of calls of custom tools, whose items then keep their own kind.
    pub custom: HashSet<String>,
    /// What the model must be told because no field of the protocol carries it: [`hint`].
    pub hint: Option<String>,
    /// Whether that stands at the head, where the conversation is continued and only its end may grow;
    /// else at the end.
    pub at_head: bool,
}

impl InjectItems {
    /// The parameters in JSON, item by item.
    pub fn pieces(self) -> impl Iterator<Item = Vec<u8>> + Clone + Send + 'static {
        let head = format!("{{\"threadId\":{},\"items\":[", Value::from(self.thread_id.as_str()));
        let given = self.conversation.len().saturating_sub(self.at);
        let count = given + usize::from(self.hint.is_some()) + usize::from(!self.tools.is_empty());
        let this = Arc::new(self);
        let items = (0..count).flat_map(move |number| {
            let mut pieces = this.item(number);
            if number > 0
                && let Some(first) = pieces.first_mut()
            {
                first.insert(0, b',');
            }
            pieces
        });
        std::iter::once(head.into_bytes()).chain(items).chain(std::iter::once(b"]}".to_vec()))
    }

    /// One of the items to be handed over.
    fn item(&self, number: usize) -> Vec<Vec<u8>> {
        let number = match number.checked_sub(usize::from(!self.tools.is_empty())) {
            Some(number) => number,
            None => return self.tools.clone(),
        };
        let given = self.conversation.get(self.at..).unwrap_or_default();
        let (before, hinted) = match &self.hint {
            Some(_) if self.at_head => (1, number == 0),
            Some(_) => (0, number == given.len()),
            None => (0, false),
        };
        let item = match (&self.hint, given.get(number.saturating_sub(before))) {
            (Some(text), _) if hinted => ResponseItem::Message {
                role: Role::Developer.name(),
                content: vec![Content::InputText { text }],
                phase: None,
            },
            (_, Some(item)) => response_item(item, &self.names, &self.custom, self.namespace.as_deref()),
            (_, None) => return Vec::new(),
        };
        // Strings, and lists and structs of them, are always JSON.
        json(&item).unwrap_or_default()
    }
}

/// One item of a conversation as the upstream's Responses API has it.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ResponseItem<'a> {
    Message {
        role: &'a str,
        content: Vec<Content<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<&'a str>,
    },
    Reasoning {
        summary: Vec<SummaryPart<'a>>,
        encrypted_content: &'a str,
    },
    FunctionCall {
        call_id: &'a str,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        arguments: Cow<'a, str>,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: FunctionOutput<'a>,
    },
    CustomToolCall {
        call_id: &'a str,
        name: String,
        input: &'a str,
    },
    CustomToolCallOutput {
        call_id: &'a str,
        output: FunctionOutput<'a>,
    },
}

/// What a function answered: plain text, or parts.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum FunctionOutput<'a> {
    Text(&'a str),
    Parts(Vec<Content<'a>>),
}

/// A part of a reasoning summary.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum SummaryPart<'a> {
    SummaryText { text: &'a str },
}

/// A part of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Content<'a> {
    InputText { text: &'a str },
    OutputText { text: &'a str },
    InputImage { image_url: DataUrl<'a> },
}

/// An image as a URL; written without being put together first.
#[derive(Debug)]
pub struct DataUrl<'a>(&'a Image);

impl Serialize for DataUrl<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("data:{};base64,{}", self.0.media_type, self.0.base64))
    }
}

/// Said to the model where a function has to be called; Codex can only keep its text to that form.
const CALL_SOME: &str = "Answer by calling one or more of the provided functions. Do not answer in text.";

/// A function's result as the `"result":…` of our answer to `item/tool/call`. The upstream sees the
/// same as if it were an item of the conversation.
pub fn tool_result(content: &[Part]) -> String {
    fn one(part: &Part) -> CallOutput<'_> {
        match part {
            Part::Text(text) => CallOutput::InputText { text },
            Part::Image(image) => CallOutput::InputImage { image_url: DataUrl(image) },
        }
    }
    let content_items = match content {
        [] => vec![CallOutput::InputText { text: "" }],
        parts => parts.iter().map(one).collect(),
    };
    let result = CallResult { content_items, success: true };
    // As above.
    format!("\"result\":{}", serde_json::to_string(&result).unwrap_or_default())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallResult<'a> {
    content_items: Vec<CallOutput<'a>>,
    success: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum CallOutput<'a> {
    InputText { text: &'a str },
    InputImage { image_url: DataUrl<'a> },
}

/// What the model must be told beside the conversation.
pub fn hint(turn: &Turn, names: &Names) -> Option<String> {
    let call = match &turn.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::Required => Some(CALL_SOME.to_owned()),
        ToolChoice::Named(name) => {
            Some(format!("Answer by calling the function `{}`. Do not answer in text.", names.out(name)))
        }
    };
    call.or_else(|| turn.output.instruction().map(|(text, schema)| format!("{text}{schema}")))
}

fn response_item<'a>(
    item: &'a Item,
    names: &'a Names,
    custom: &HashSet<String>,
    namespace: Option<&'a str>,
) -> ResponseItem<'a> {
    match item {
        Item::Message { role, content, phase } => ResponseItem::Message {
            // Codex silently drops items of role "system".
            role: if *role == Role::System { Role::Developer.name() } else { role.name() },
            content: content.iter().map(|part| self::content(part, *role == Role::Assistant)).collect(),
            phase: phase.map(Saying::name),
        },
        Item::Reasoning { encrypted, summary } => ResponseItem::Reasoning {
            summary: summary.iter().map(|text| SummaryPart::SummaryText { text }).collect(),
            encrypted_content: encrypted,
        },
        Item::ToolCall(call) if call.kind == CallKind::Custom && custom.contains(&call.id) => {
            ResponseItem::CustomToolCall {
                call_id: &call.id,
                name: names.out(&call.full_name()).to_owned(),
                input: &call.arguments,
            }
        }
        Item::ToolCall(call) => ResponseItem::FunctionCall {
            call_id: &call.id,
            name: names.out(&call.full_name()).to_owned(),
            namespace,
            arguments: match call.kind {
                CallKind::Function => Cow::Borrowed(&call.arguments),
                CallKind::Custom => Cow::Owned(wrapped(&call.arguments)),
            },
        },
        Item::ToolResult { call_id, content } => {
            let output = match content.as_slice() {
                [] => FunctionOutput::Text(""),
                [Part::Text(text)] => FunctionOutput::Text(text),
                parts => FunctionOutput::Parts(parts.iter().map(|part| self::content(part, false)).collect()),
            };
            match custom.contains(&**call_id) {
                true => ResponseItem::CustomToolCallOutput { call_id, output },
                false => ResponseItem::FunctionCallOutput { call_id, output },
            }
        }
    }
}

fn content(part: &Part, said_by_model: bool) -> Content<'_> {
    match part {
        Part::Text(text) if said_by_model => Content::OutputText { text },
        Part::Text(text) => Content::InputText { text },
        Part::Image(image) => Content::InputImage { image_url: DataUrl(image) },
    }
}
