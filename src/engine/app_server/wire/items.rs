//! A conversation as items of the upstream's Responses API.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};

use super::custom::wrapped;
use crate::engine::app_server::tool_names::Names;
use crate::turn::{CallKind, Item, Part, Role, Saying, ToolChoice, Turn};

/// `thread/inject_items`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InjectItems<'a> {
    /// Into which thread.
    pub thread_id: &'a str,
    /// The conversation.
    pub items: Vec<ResponseItem<'a>>,
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
        arguments: Cow<'a, str>,
    },
    FunctionCallOutput {
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
    InputImage { image_url: String },
}

/// Said to the model where a function has to be called; Codex can only keep its text to that form.
const CALL_SOME: &str = "Answer by calling one or more of the provided functions. Do not answer in text.";

/// Items of a conversation, and what the model must be told because no field of the protocol
/// carries it ([`hint`]): at their end; or at their head, where the conversation is continued and
/// only its end may grow.
pub fn items<'a>(
    conversation: &'a [Item],
    names: &'a Names,
    hint: Option<&'a str>,
    at_head: bool,
) -> Vec<ResponseItem<'a>> {
    let mut items: Vec<ResponseItem<'a>> =
        conversation.iter().map(|item| response_item(item, names)).collect();
    if let Some(text) = hint {
        let hint = ResponseItem::Message {
            role: Role::Developer.name(),
            content: vec![Content::InputText { text }],
            phase: None,
        };
        items.insert(if at_head { 0 } else { items.len() }, hint);
    }
    items
}

/// A function's result as the `"result":…` of our answer to `item/tool/call`. The upstream sees the
/// same as if it were an item of the conversation.
pub fn tool_result(content: &[Part]) -> String {
    let one = |part: &Part| match part {
        Part::Text(text) => json!({ "type": "inputText", "text": text }),
        Part::Image(image) => {
            let url = format!("data:{};base64,{}", image.media_type, image.base64);
            json!({ "type": "inputImage", "imageUrl": url })
        }
    };
    let parts: Vec<Value> = match content {
        [] => vec![one(&Part::Text(String::new()))],
        parts => parts.iter().map(one).collect(),
    };
    format!("\"result\":{}", json!({ "contentItems": parts, "success": true }))
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
    call.or_else(|| turn.output.instruction().map(Cow::into_owned))
}

fn response_item<'a>(item: &'a Item, names: &'a Names) -> ResponseItem<'a> {
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
        Item::ToolCall(call) => ResponseItem::FunctionCall {
            call_id: &call.id,
            name: names.out(&call.full_name()).to_owned(),
            arguments: match call.kind {
                CallKind::Function => Cow::Borrowed(&call.arguments),
                CallKind::Custom => Cow::Owned(wrapped(&call.arguments)),
            },
        },
        Item::ToolResult { call_id, content } => ResponseItem::FunctionCallOutput {
            call_id,
            output: match content.as_slice() {
                [] => FunctionOutput::Text(""),
                [Part::Text(text)] => FunctionOutput::Text(text),
                parts => FunctionOutput::Parts(parts.iter().map(|part| self::content(part, false)).collect()),
            },
        },
    }
}

fn content(part: &Part, said_by_model: bool) -> Content<'_> {
    match part {
        Part::Text(text) if said_by_model => Content::OutputText { text },
        Part::Text(text) => Content::InputText { text },
        Part::Image(image) => {
            Content::InputImage { image_url: format!("data:{};base64,{}", image.media_type, image.base64) }
        }
    }
}
