//! Items that Codex tells of whole: calls of the caller's functions, and thoughts. They are held until
//! something follows them or their response ends.

use serde::de::IgnoredAny;

use super::{Action, Assembler};
use crate::engine::app_server::wire::{RawItem, RawResponseItemNotification, SummaryText, unwrapped};
use crate::turn::{CallKind, Event, Finish, Thought, ToolCall};

impl Assembler {
    pub(super) fn raw_item(&mut self, params: &str) {
        let Ok(RawResponseItemNotification { turn_id, item }) = serde_json::from_str(params) else { return };
        // The history is echoed in the same form, as of another turn.
        let ours = match &self.turn_id {
            Some(id) => *id == turn_id.0,
            None => !turn_id.0.starts_with("auto-compact"),
        };
        if !ours {
            return;
        }
        match &*item.kind.0 {
            "function_call" => {
                if let (Some(id), Some(name)) = (item.call_id, item.name) {
                    let written = item.arguments.map(|arguments| arguments.get()).unwrap_or("\"\"");
                    let arguments =
                        serde_json::from_str::<String>(written).unwrap_or_else(|_| written.to_owned());
                    self.namespace = item.namespace;
                    self.call(id, &name.0, arguments);
                }
            }
            "custom_tool_call" => {
                if let (Some(id), Some(name), Some(input)) = (item.call_id, item.name, item.input) {
                    self.call_of(id, &name.0, |_| input);
                }
            }
            "reasoning" if self.context.want_encrypted => self.thought(item),
            // Repeated from what we sent.
            "reasoning" | "function_call_output" | "custom_tool_call_output" | "additional_tools" => {}
            "message" if item.role.as_ref().is_none_or(|role| role.0 == "assistant") => {}
            "message" if self.rest.echoes > 0 => self.rest.echoes -= 1,
            // Neither the caller nor the model said it.
            _ => self.rest.spoilt = true,
        }
    }

    pub(super) fn thought(&mut self, item: RawItem<'_>) {
        let summary = item.summary.map(|parts| serde_json::from_str::<Vec<SummaryText>>(parts.get()));
        let summary = summary.and_then(Result::ok).unwrap_or_default();
        let thought = Thought {
            id: item.id.map(|id| id.0.into_owned()).unwrap_or_default(),
            summary: summary.into_iter().map(|part| part.text).collect(),
            encrypted: item.encrypted_content.filter(|content| !content.is_empty()),
        };
        if thought.bytes() > 0 {
            self.held.push(Event::Thought(thought));
        }
    }

    pub(super) fn call(&mut self, id: String, name: &str, arguments: String) {
        // The same with arguments that are no JSON.
        let broken = serde_json::from_str::<IgnoredAny>(&arguments).is_err();
        self.rest.spoilt |= broken && self.context.names.offered(name).is_some();
        self.call_of(
            id,
            name,
            |kind| if kind == CallKind::Custom { unwrapped(arguments) } else { arguments },
        );
    }

    /// A call with what it says, which may depend on the kind of tool.
    pub(super) fn call_of(&mut self, id: String, name: &str, arguments: impl FnOnce(CallKind) -> String) {
        // A name nobody offered: Codex tells the model so and lets it try again.
        let offered = self.context.names.offered(name).and_then(|index| self.context.tools.get(index));
        let Some(tool) = offered else {
            self.rest.spoilt = true;
            return;
        };
        let (name, namespace, kind) = (tool.name.clone(), tool.namespace.clone(), tool.call_kind());
        let arguments = arguments(kind);
        self.called = true;
        self.held.push(Event::ToolCall(ToolCall { id, name, namespace, kind, arguments }));
    }

    /// Codex asks for the result of a call. With raw events it was told of before.
    pub fn asked_for(&mut self, call_id: &str, tool: &str, arguments: &str) {
        if self.rest.wanted && !self.rest.raw {
            self.check_order();
            self.call(call_id.to_owned(), tool, arguments.to_owned());
        }
    }

    /// Whether there are calls, and nothing will tell when they are all.
    pub fn waits_for_more_calls(&self) -> bool {
        self.rest.wanted && !self.rest.raw && self.called && self.finish.is_none()
    }

    /// No more calls are to come, as far as anybody can tell.
    pub fn calls_are_all(&mut self) {
        self.hand_over();
        self.end_with_calls();
    }

    pub(super) fn end_with_calls(&mut self) {
        if self.called
            && let Some(outcome) = self.complete(Finish::ToolCalls)
        {
            self.actions.push(Action::Stop(outcome));
        }
    }
}
