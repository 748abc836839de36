//! What Codex says of one turn becomes events: messages in, actions out. No clock, no I/O, no waiting.
//!
//! ```text
//!   conversation   Sent --taken--> Taken         Sent --the turn begins--> Overtaken (a failure)
//!   text           Untold --say--> Told --response ended--> Before --say--> Told
//!   reasoning      Untold --think--> Told --begun again--> Repeating --response ended--> Untold
//!   calls, thoughts  held until something follows them or their response ends; where nothing tells
//!                    of the end of a response, until no more calls are expected
//! ```

mod calls;
mod rest;

use std::sync::Arc;

pub use rest::Progress;
use rest::{Rest, less};

use super::guard::{Conversation, Reasoning, Text};
use crate::codex::errors::{classify, is_output_limit};
use crate::engine::app_server::tool_names::Names;
use crate::engine::app_server::wire::{
    DeltaNotification, ErrorNotification, ItemNotification, RawResponseCompletedNotification, ThreadItem,
    TokenUsageNotification, TurnError, TurnNotification,
};
use crate::turn::{Event, Failure, Finish, Outcome, Saying, Tool, Usage};

/// How many requests to the upstream one answer may take where all tools are the caller's. One is due, and
/// one more for each call of a tool that was not offered, which Codex refuses by itself: a model that goes
/// on calling it would be paid for until the time is over.
const MOST_RESPONSES: usize = 4;

/// What the answer is measured against.
#[derive(Debug)]
pub struct TurnContext {
    /// The stand-ins of function names.
    pub names: Arc<Names>,
    /// The tools offered.
    pub tools: Arc<[Tool]>,
    /// Whether whole reasoning items are told.
    pub want_encrypted: bool,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether the request was the lean one of `profile = model`.
    pub lean: bool,
}

/// What is to be done about something that Codex said.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Tell the client.
    Tell(Event),
    /// The outcome is known while Codex still works on the turn, which it shall stop.
    Stop(Outcome),
    /// The answer is complete, and its thread may be kept. Codex waits for results if it is `held`,
    /// else nothing of the turn runs any more.
    Rest {
        /// The outcome.
        outcome: Outcome,
        /// Whether Codex waits.
        held: bool,
    },
    /// Nothing of the turn runs any more. The outcome counts unless there was one before.
    End(Outcome),
}

/// What came of one turn so far.
#[derive(Debug)]
pub struct Assembler {
    pub(super) context: Arc<TurnContext>,
    pub(super) conversation: Conversation,
    turn_id: Option<String>,
    messages: Vec<Message>,
    /// Whole calls and thoughts of the response under way. Told at once, they would make its
    /// beginning again a failure.
    held: Vec<Event>,
    /// Some of the response under way was held and is told.
    handed_over: bool,
    /// A tool that was offered is called.
    called: bool,
    namespace: Option<String>,
    text: Text,
    /// A request to the upstream was answered.
    answered: bool,
    reasoning: Reasoning,
    /// What text that comes belongs to, as told.
    open: Open,
    /// The part of the reasoning under way, counted over the turn, and the item it is of.
    part: (usize, String),
    error: Option<TurnError>,
    responses: Option<Usage>,
    thread: Option<Usage>,
    finish: Option<Finish>,
    actions: Vec<Action>,
    rest: Rest,
}

/// The piece that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    /// A message, by its place in the list.
    Message(usize),
    /// A part of the reasoning, by its number.
    Part(usize),
}

/// One agent message.
#[derive(Debug)]
struct Message {
    id: String,
    /// What it is said for.
    phase: Option<Saying>,
    /// How many bytes of it came as deltas.
    streamed: usize,
    state: State,
}

impl Message {
    /// Progress, not answer.
    fn is_progress(&self) -> bool {
        Saying::is_progress(self.phase)
    }
}

/// How far an agent message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was begun.
    Begun,
    /// It was told whole, with or without text.
    Whole,
    /// It went with a response that was begun again.
    Void,
}

impl Assembler {
    /// Of a turn of which nothing is there yet.
    pub fn new(context: Arc<TurnContext>) -> Assembler {
        Assembler {
            context,
            conversation: Conversation::Sent,
            turn_id: None,
            messages: Vec::new(),
            held: Vec::new(),
            handed_over: false,
            called: false,
            namespace: None,
            text: Text::Untold,
            answered: false,
            reasoning: Reasoning::Untold,
            open: Open::Nothing,
            part: (0, String::new()),
            error: None,
            responses: None,
            thread: None,
            finish: None,
            actions: Vec::new(),
            rest: Rest::default(),
        }
    }

    /// What is to be done, in order; then nothing is, until more is heard.
    pub fn actions(&mut self) -> std::vec::Drain<'_, Action> {
        self.actions.drain(..)
    }

    /// The turn goes by this id.
    pub fn called(&mut self, turn_id: &str) {
        self.turn_id.get_or_insert_with(|| turn_id.to_owned());
    }

    fn check_order(&mut self) {
        if self.conversation.begins() {
            self.fail(Failure::codex_failed("codex began the turn before it had taken the conversation"));
        }
    }

    fn tell(&mut self, event: Event) {
        self.hand_over();
        self.actions.push(Action::Tell(event));
    }

    /// Tells what was held: it comes before whatever follows.
    fn hand_over(&mut self) {
        if self.held.is_empty() {
            return;
        }
        (self.handed_over, self.open) = (true, Open::Nothing);
        self.actions.extend(self.held.drain(..).map(Action::Tell));
    }

    /// Opens a piece unless it is the one that is open.
    fn open(&mut self, piece: Open, opening: impl FnOnce(&mut Self) -> Event) {
        self.hand_over();
        if self.open != piece {
            let opening = opening(self);
            self.tell(opening);
            self.open = piece;
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.actions.push(Action::Stop(Err(failure)));
    }

    fn over(&mut self, outcome: Outcome) {
        self.actions.push(Action::End(outcome));
    }

    /// A delta of an agent message: by far the most frequent of all.
    pub fn message_delta(&mut self, item_id: &str, delta: String) {
        self.check_order();
        if self.is_known(item_id) {
            return;
        }
        let known = self.messages.iter().rposition(|message| message.id == item_id);
        let index = known.unwrap_or_else(|| self.begin_message(item_id, None));
        self.say(index, delta);
    }

    /// Takes in any other notification about this thread. Unknown ones, and parts of known ones
    /// that cannot be read, change nothing.
    pub fn hear(&mut self, method: &str, params: &str) {
        if let "turn/started" | "item/started" | "rawResponse/completed" = method {
            self.check_order();
        }
        match method {
            "item/reasoning/summaryTextDelta" => {
                if let Ok(delta) = serde_json::from_str::<DeltaNotification<'_>>(params) {
                    self.think(&delta.item_id.0, delta.delta);
                }
            }
            "item/reasoning/summaryPartAdded" => {
                self.part.0 += 1;
            }
            "item/started" => self.item(params, Self::item_started),
            "item/completed" => self.item(params, Self::item_completed),
            "rawResponseItem/completed" => self.raw_item(params),
            "rawResponse/completed" => self.response_completed(params),
            "thread/tokenUsage/updated" => {
                match serde_json::from_str::<TokenUsageNotification>(params) {
                    Ok(news) => {
                        self.thread = Some(less(news.token_usage.total.into(), self.rest.from.accounted));
                        self.count_response(!self.rest.raw);
                    }
                    // What it tells of cannot be known.
                    Err(_) => self.rest.spoilt = true,
                }
                self.response_ended();
            }
            "error" => self.heard_error(params),
            "turn/started" => {
                if let Ok(news) = serde_json::from_str::<TurnNotification<'_>>(params) {
                    self.turn_id.get_or_insert_with(|| news.turn.id.0.into_owned());
                }
            }
            "turn/completed" => self.turn_completed(params),
            "thread/closed" => self.over(Err(Failure::codex_failed("codex closed the thread"))),
            "thread/compacted" => self.history_cut(),
            _ => {}
        }
    }

    /// Whether the message was told with an earlier answer of the same turn.
    fn is_known(&self, id: &str) -> bool {
        self.rest.from.known.iter().any(|known| known == id)
    }

    /// More text of a message. Commentary may be begun again like reasoning: it is no answer.
    fn say(&mut self, index: usize, text: String) {
        let Some(message) = self.messages.get_mut(index) else { return };
        message.streamed += text.len();
        let (phase, commentary) = (message.phase, message.is_progress());
        if text.is_empty() || (commentary && !self.reasoning.may_tell()) {
            return;
        }
        self.open(Open::Message(index), |this| Event::Message {
            id: this.messages.get(index).map(|message| message.id.clone()).unwrap_or_default(),
            phase,
        });
        if !commentary {
            self.text = Text::Told;
        }
        self.tell(Event::Text(text));
    }

    fn think(&mut self, item_id: &str, text: String) {
        if self.part.1 != item_id {
            self.part = (self.part.0 + 1, item_id.to_owned());
        }
        if text.is_empty() || !self.reasoning.may_tell() {
            return;
        }
        self.open(Open::Part(self.part.0), |_| Event::ReasoningPart { item: item_id.to_owned() });
        self.tell(Event::Reasoning(text));
    }

    fn begin_message(&mut self, id: &str, phase: Option<Saying>) -> usize {
        self.messages.push(Message { id: id.to_owned(), phase, streamed: 0, state: State::Begun });
        self.messages.len() - 1
    }

    fn item(&mut self, params: &str, take: impl FnOnce(&mut Self, ThreadItem<'_>)) {
        if let Ok(ItemNotification { item }) = serde_json::from_str(params) {
            match &*item.kind.0 {
                "agentMessage" if self.is_known(&item.id.0) => {}
                "agentMessage" => take(self, item),
                "contextCompaction" => self.history_cut(),
                _ => {}
            }
        }
    }

    fn item_started(&mut self, item: ThreadItem<'_>) {
        if !self.messages.iter().any(|message| message.id == item.id.0) {
            self.begin_message(&item.id.0, phase(&item));
        }
    }

    /// What deltas did not bring is said now: then nothing is lost with an upstream that does not
    /// stream.
    fn item_completed(&mut self, item: ThreadItem<'_>) {
        let Some(text) = item.text.as_ref().map(|text| &*text.0) else { return };
        let known = self.messages.iter().position(|message| message.id == item.id.0);
        let index = known.unwrap_or_else(|| self.begin_message(&item.id.0, phase(&item)));
        let Some(message) = self.messages.get_mut(index) else { return };
        message.state = State::Whole;
        let rest = text.get(message.streamed..).unwrap_or_default().to_owned();
        self.say(index, rest);
    }

    /// Codex replaced the history by a summary: the answer would be to another conversation.
    fn history_cut(&mut self) {
        self.fail(Failure::ContextLength);
    }

    /// One request to the upstream is answered. With calls of the client's functions in it, that
    /// is the end: whatever Codex did next would be without their results.
    fn response_completed(&mut self, params: &str) {
        if let Ok(RawResponseCompletedNotification { usage: Some(usage) }) = serde_json::from_str(params) {
            *self.responses.get_or_insert_default() += usage.into();
        }
        self.count_response(self.rest.raw);
        self.hand_over();
        self.response_ended();
        self.end_with_calls();
    }

    /// A request to the upstream was answered, if this is what `tells` of it on this thread.
    fn count_response(&mut self, tells: bool) {
        self.rest.responses += usize::from(tells);
        // Where Codex works with tools of its own, many are as it should be.
        if tells && self.context.lean && self.rest.responses > MOST_RESPONSES {
            self.fail(Failure::codex_failed(format!(
                "the model did not end its answer within {MOST_RESPONSES} requests; it keeps calling tools that it was \
                 not offered"
            )));
        }
    }

    fn response_ended(&mut self) {
        self.part.0 += 1;
        self.handed_over = false;
        self.answered = true;
        self.reasoning = Reasoning::Untold;
        self.text.response_ended();
    }

    fn heard_error(&mut self, params: &str) {
        let Ok(ErrorNotification { error, will_retry }) = serde_json::from_str(params) else { return };
        if !will_retry {
            self.error = Some(error);
            return;
        }
        // What of the response under way Codex keeps is not known.
        self.rest.spoilt = true;
        // The response under way begins again from its start.
        self.held.clear();
        self.called = false;
        for message in self.messages.iter_mut().filter(|message| message.state == State::Begun) {
            message.state = State::Void;
        }
        self.reasoning.begun_again();
        if self.text == Text::Told || self.handed_over {
            let cause = error.additional_details.unwrap_or(error.message);
            let failure = match classify(error.codex_error_info.as_ref(), &cause) {
                Failure::UpstreamUnreachable { detail } => Failure::UpstreamUnreachable { detail },
                failure => Failure::CodexFailed {
                    detail: format!(
                        "the answer broke off and was begun again: {}",
                        failure.detail().unwrap_or_default()
                    ),
                    said: failure.said().cloned().unwrap_or_default(),
                },
            };
            self.fail(failure);
        }
    }

    fn turn_completed(&mut self, params: &str) {
        let Ok(TurnNotification { turn }) = serde_json::from_str(params) else {
            return self.over(Err(Failure::codex_failed("codex ended the turn in an unknown way")));
        };
        let outcome = match &*turn.status.0 {
            "completed" if self.called => Ok(Event::Done { finish: Finish::ToolCalls, usage: self.usage() }),
            // Not to be gone on with: what of it Codex has in its history is not known.
            "completed" if self.text == Text::Untold && self.is_empty() => {
                Ok(Event::Done { finish: Finish::Stop, usage: self.usage() })
            }
            "completed" if self.text == Text::Untold => Err(Failure::NoAnswer),
            "completed" => match self.complete(Finish::Stop) {
                Some(outcome) => outcome,
                None => return,
            },
            "interrupted" => Err(Failure::codex_failed("codex interrupted the turn")),
            status => match turn.error.or_else(|| self.error.take()) {
                Some(error) if is_output_limit(&error.message) => {
                    Ok(Event::Done { finish: Finish::Length, usage: self.usage() })
                }
                Some(error) => Err(self.context.failure(&error)),
                None => Err(Failure::codex_failed(format!("codex ended the turn as {status}"))),
            },
        };
        if outcome.is_ok() {
            self.hand_over();
        }
        self.over(outcome);
    }

    /// Whether the model is known to have said nothing: a message without text, or a response without any.
    /// One that was begun and not told, as a refusal is not, had something in it; commentary promised more.
    fn is_empty(&self) -> bool {
        let some = |is: fn(&Message) -> bool| self.messages.iter().any(is);
        let said = some(|message| message.state == State::Whole && !message.is_progress());
        let lost = some(|message| message.state == State::Begun);
        let promised = some(|message| message.state == State::Whole && message.is_progress());
        !lost && (said || (self.answered && !promised))
    }

    /// The thread's total if Codex gave it (it alone counts a response that was cut short), or
    /// the sum of its responses if that is ahead.
    fn usage(&self) -> Option<Usage> {
        let spent = |usage: &Usage| usage.input + usage.output;
        self.thread.into_iter().chain(self.responses).max_by_key(spent)
    }
}

fn phase(item: &ThreadItem<'_>) -> Option<Saying> {
    Saying::from_name(&item.phase.as_ref()?.0)
}
