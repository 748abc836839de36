//! The items of an answer, and their JSON.

use serde::Serialize;

use crate::turn::{CallKind, Item, Part, Role, Saying, ToolCall};

/// An item of `output`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum OutputItem {
    Reasoning {
        id: String,
        summary: Vec<SummaryPart>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    Message {
        id: String,
        role: &'static str,
        status: ItemStatus,
        content: Vec<TextPart>,
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<&'static str>,
    },
    FunctionCall {
        id: String,
        call_id: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        arguments: String,
        status: ItemStatus,
    },
    CustomToolCall {
        id: String,
        call_id: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        input: String,
        status: ItemStatus,
    },
}

/// How an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ItemStatus {
    InProgress,
    Completed,
    Incomplete,
}

/// A part of a reasoning summary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "summary_text")]
pub(super) struct SummaryPart {
    pub(super) text: String,
}

/// A message's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "output_text")]
pub(super) struct TextPart {
    pub(super) text: String,
    annotations: [(); 0],
    logprobs: [(); 0],
}

impl TextPart {
    pub(super) fn new(text: String) -> TextPart {
        TextPart { text, ..TextPart::default() }
    }
}

impl OutputItem {
    pub(super) fn message(
        id: String,
        phase: Option<&'static str>,
        status: ItemStatus,
        content: Vec<TextPart>,
    ) -> OutputItem {
        OutputItem::Message { id, role: "assistant", status, content, phase }
    }

    /// Its id, and what it is in a conversation; `None` for what says nothing to a model.
    pub(super) fn known(&self) -> Option<(String, Item)> {
        let call = |call: ToolCall, namespace: &Option<String>| {
            Item::from(ToolCall { namespace: namespace.clone(), ..call })
        };
        Some(match self {
            OutputItem::Reasoning { id, summary, encrypted_content } => {
                let summary = summary.iter().map(|part| part.text.clone()).collect();
                (id.clone(), Item::Reasoning { encrypted: encrypted_content.as_deref()?.into(), summary })
            }
            OutputItem::Message { id, content, phase, .. } => {
                let content = content.iter().map(|part| Part::Text(part.text.as_str().into())).collect();
                let phase = phase.and_then(Saying::from_name);
                (id.clone(), Item::Message { role: Role::Assistant, content, phase })
            }
            OutputItem::FunctionCall { id, call_id, name, namespace, arguments, .. } => {
                (id.clone(), call(ToolCall::function(call_id, name, arguments), namespace))
            }
            OutputItem::CustomToolCall { id, call_id, name, namespace, input, .. } => {
                (id.clone(), call(ToolCall::custom(call_id, name, input), namespace))
            }
        })
    }

    pub(super) fn call(id: String, call: ToolCall, status: ItemStatus) -> OutputItem {
        let ToolCall { id: call_id, name, namespace, kind, arguments } = call;
        match kind {
            CallKind::Function => {
                OutputItem::FunctionCall { id, call_id, name, namespace, arguments, status }
            }
            CallKind::Custom => {
                OutputItem::CustomToolCall { id, call_id, name, namespace, input: arguments, status }
            }
        }
    }
}
