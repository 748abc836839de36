//! The items of an answer in the making, and the events that tell of them.
//!
//! ```text
//!   Nothing --text--> Message --more text--> Message
//!   Nothing --reasoning--> Reasoning --part, text…--> Reasoning --whole thought--> Nothing
//!   anything open --another item, or the end--> Nothing
//! ```

use crate::api::dialect::Piece;
use crate::api::ids;
use crate::turn::{CallKind, Finish, Saying, Thought, ToolCall};

use super::events::{
    Call, CallEvent, ContentEvent, Events, ItemEvent, Summary, SummaryEvent, TextDelta, TextDone,
};
use super::items::{ItemStatus, OutputItem, SummaryPart, TextPart};

/// What is given of what the model says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Reasoning with what only the upstream can read.
    pub(super) encrypted: bool,
    /// Reasoning summaries.
    pub(super) summaries: bool,
}

/// What was said so far.
#[derive(Debug)]
pub(super) struct Said {
    wanted: Wanted,
    /// Items that ended.
    items: Vec<OutputItem>,
    open: Open,
    finish: Option<Finish>,
}

/// The item that has begun.
#[derive(Debug)]
enum Open {
    Nothing,
    Message {
        id: String,
        phase: Option<&'static str>,
        text: String,
    },
    /// `of` is the upstream's id of it.
    Reasoning {
        id: String,
        of: String,
        summary: Vec<SummaryPart>,
        in_part: bool,
    },
}

impl Said {
    /// Nothing.
    pub(super) fn new(wanted: Wanted) -> Said {
        Said { wanted, items: Vec::new(), open: Open::Nothing, finish: None }
    }

    /// What ended of it.
    pub(super) fn items(&self) -> &[OutputItem] {
        &self.items
    }

    /// Why it is complete, once it is.
    pub(super) fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: Piece, events: &mut Events) {
        match piece {
            Piece::Message { phase, .. } => {
                self.close(ItemStatus::Completed, events);
                self.message(phase, events);
            }
            Piece::Text(text) => self.text(text, events),
            Piece::ReasoningPart { item } if self.wanted.summaries => self.part(item, events),
            Piece::Reasoning(text) if self.wanted.summaries => self.think(text, events),
            Piece::ReasoningPart { .. } | Piece::Reasoning(_) => {}
            Piece::Thought(thought) => self.thought(thought, events),
            Piece::ToolCall(call) => self.call(call, events),
            Piece::Stopped(_) => {}
            Piece::Finish(finish) => self.end(finish, events),
        }
    }

    fn message(&mut self, phase: Option<Saying>, events: &mut Events) {
        let id = ids::fresh("msg_");
        let phase = phase.map(Saying::name);
        let output_index = self.items.len();
        let item = OutputItem::message(id.clone(), phase, ItemStatus::InProgress, Vec::new());
        events.write("response.output_item.added", &ItemEvent { output_index, item: &item });
        let part = TextPart::default();
        let added = ContentEvent { item_id: &id, output_index, content_index: 0, part: &part };
        events.write("response.content_part.added", &added);
        self.open = Open::Message { id, phase, text: String::new() };
    }

    fn text(&mut self, more: String, events: &mut Events) {
        if !matches!(self.open, Open::Message { .. }) {
            // An engine that never says where a message begins answers in one.
            self.close(ItemStatus::Completed, events);
            self.message(None, events);
        }
        let output_index = self.items.len();
        if let Open::Message { id, text, .. } = &mut self.open {
            let delta = TextDelta { item_id: id, output_index, content_index: 0, delta: &more, logprobs: [] };
            events.write("response.output_text.delta", &delta);
            if text.is_empty() { *text = more } else { text.push_str(&more) }
        }
    }

    /// Opens the reasoning item of that id, unless it is.
    fn reasoning(&mut self, item: String, events: &mut Events) {
        if matches!(&self.open, Open::Reasoning { of, .. } if *of == item) {
            return;
        }
        self.close(ItemStatus::Completed, events);
        let id = ids::fresh("rs_");
        let begun = OutputItem::Reasoning { id: id.clone(), summary: Vec::new(), encrypted_content: None };
        let output_index = self.items.len();
        events.write("response.output_item.added", &ItemEvent { output_index, item: &begun });
        self.open = Open::Reasoning { id, of: item, summary: Vec::new(), in_part: false };
    }

    fn part(&mut self, item: String, events: &mut Events) {
        self.reasoning(item, events);
        self.end_part(events);
        let output_index = self.items.len();
        if let Open::Reasoning { id, summary, in_part, .. } = &mut self.open {
            let part = SummaryPart::default();
            let (summary_index, said) = (summary.len(), Summary::Part(&part));
            let added = SummaryEvent { item_id: id, output_index, summary_index, said };
            events.write("response.reasoning_summary_part.added", &added);
            summary.push(part);
            *in_part = true;
        }
    }

    fn think(&mut self, more: String, events: &mut Events) {
        if !matches!(self.open, Open::Reasoning { in_part: true, .. }) {
            // An engine that never says where a part begins.
            let item = match &self.open {
                Open::Reasoning { of, .. } => of.clone(),
                _ => String::new(),
            };
            self.part(item, events);
        }
        let output_index = self.items.len();
        if let Open::Reasoning { id, summary, .. } = &mut self.open
            && let summary_index = summary.len().saturating_sub(1)
            && let Some(part) = summary.last_mut()
        {
            let said = Summary::Delta(&more);
            let delta = SummaryEvent { item_id: id, output_index, summary_index, said };
            events.write("response.reasoning_summary_text.delta", &delta);
            part.text.push_str(&more);
        }
    }

    fn end_part(&mut self, events: &mut Events) {
        let output_index = self.items.len();
        if let Open::Reasoning { id, summary, in_part, .. } = &mut self.open
            && std::mem::take(in_part)
            && let Some(part) = summary.last()
        {
            let summary_index = summary.len() - 1;
            let mut write = |name: &str, said: Summary| {
                events.write(name, &SummaryEvent { item_id: id, output_index, summary_index, said });
            };
            write("response.reasoning_summary_text.done", Summary::Text(&part.text));
            write("response.reasoning_summary_part.done", Summary::Part(part));
        }
    }

    /// A whole reasoning item ends the one whose parts were told, or is told at once.
    fn thought(&mut self, thought: Thought, events: &mut Events) {
        let encrypted = thought.encrypted.filter(|_| self.wanted.encrypted);
        let told = matches!(self.open, Open::Reasoning { .. });
        if !told && self.wanted.summaries {
            for text in thought.summary {
                self.part(thought.id.clone(), events);
                self.think(text, events);
            }
        }
        if encrypted.is_some() && !matches!(self.open, Open::Reasoning { .. }) {
            self.reasoning(thought.id, events);
        }
        self.close_with(ItemStatus::Completed, encrypted, events);
    }

    /// A call, whole: Codex has no deltas of arguments.
    fn call(&mut self, call: ToolCall, events: &mut Events) {
        self.close(ItemStatus::Completed, events);
        let output_index = self.items.len();
        let id = ids::fresh(match call.kind {
            CallKind::Function => "fc_",
            CallKind::Custom => "ctc_",
        });
        let begun = ToolCall { arguments: String::new(), ..call.clone() };
        let item = OutputItem::call(id.clone(), begun, ItemStatus::InProgress);
        events.write("response.output_item.added", &ItemEvent { output_index, item: &item });
        let mut write = |name: &str, said: Call| {
            events.write(name, &CallEvent { item_id: &id, output_index, said });
        };
        let (arguments, name) = (&*call.arguments, &*call.name);
        match call.kind {
            CallKind::Function => {
                write("response.function_call_arguments.delta", Call::Delta { delta: arguments });
                write("response.function_call_arguments.done", Call::Arguments { name, arguments });
            }
            CallKind::Custom => {
                write("response.custom_tool_call_input.delta", Call::Delta { delta: arguments });
                write("response.custom_tool_call_input.done", Call::Input { input: arguments });
            }
        }
        self.done(OutputItem::call(id, call, ItemStatus::Completed), events);
    }

    fn done(&mut self, item: OutputItem, events: &mut Events) {
        events.write("response.output_item.done", &ItemEvent { output_index: self.items.len(), item: &item });
        self.items.push(item);
    }

    fn close(&mut self, status: ItemStatus, events: &mut Events) {
        self.close_with(status, None, events);
    }

    fn close_with(&mut self, status: ItemStatus, encrypted_content: Option<String>, events: &mut Events) {
        self.end_part(events);
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Message { id, phase, text } => {
                let output_index = self.items.len();
                let done =
                    TextDone { item_id: &id, output_index, content_index: 0, text: &text, logprobs: [] };
                events.write("response.output_text.done", &done);
                let part = TextPart::new(text);
                let done = ContentEvent { item_id: &id, output_index, content_index: 0, part: &part };
                events.write("response.content_part.done", &done);
                self.done(OutputItem::message(id, phase, status, vec![part]), events);
            }
            Open::Reasoning { id, summary, .. } => {
                self.done(OutputItem::Reasoning { id, summary, encrypted_content }, events);
            }
        }
    }

    fn end(&mut self, finish: Finish, events: &mut Events) {
        let answers = |item: &OutputItem| !matches!(item, OutputItem::Reasoning { .. });
        let empty = !matches!(self.open, Open::Message { .. }) && !self.items.iter().any(answers);
        if finish == Finish::Stop && empty {
            // An empty answer is one: clients look for its text.
            self.close(ItemStatus::Completed, events);
            self.message(None, events);
        }
        let status = match finish {
            Finish::Stop | Finish::ToolCalls => ItemStatus::Completed,
            Finish::Length => ItemStatus::Incomplete,
        };
        self.close(status, events);
        self.finish = Some(finish);
    }
}
