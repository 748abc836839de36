//! The answer of one turn as it comes together: notifications in, events out, no waiting.
//!
//! ```text
//!   Running --- nobody wants more: calls collected, client gone or slow,  ---> Unwanted
//!      |        deadline, answer begun twice, history cut                         |
//!      +--------------------- turn/completed, worker gone -----> Over <-----------+
//! ```
//! The terminal event is sent when the outcome is known, at the latest on `Over`. The slot is
//! given back on `Over`, before the terminal event if that is still to come: whoever sees the end
//! of a turn finds its place free.

mod failed;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::tool_names::Names;
use super::wire::{
    DeltaNotification, ErrorNotification, ItemNotification, RateLimits, RawResponseCompletedNotification,
    RawResponseItemNotification, ThreadItem, TokenUsageNotification, TurnError, TurnNotification,
};
use crate::codex::errors::{classify, is_output_limit};
use crate::turn::{Event, Failure, Finish, NotTaken, Outcome, Phase, Sink, Slot, ToolCall, Usage};

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Codex works on it.
    Running,
    /// Codex works on it and must be told to stop.
    Unwanted,
    /// Nothing of it runs any more.
    Over,
}

/// The account's rate-limit windows as last reported, shared by all workers.
pub type LatestLimits = Arc<Mutex<Option<RateLimits>>>;

/// What the answer is measured against.
#[derive(Debug)]
pub struct TurnContext {
    /// The stand-ins of function names.
    pub names: Arc<Names>,
    /// The functions offered, by the names they went out with.
    pub offered: HashSet<String>,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether the request was the lean one of `profile = model`.
    pub lean: bool,
    /// When the slot was granted.
    pub granted: Instant,
}

/// The answer of one turn.
#[derive(Debug)]
pub struct Answer {
    sink: Arc<Sink>,
    slot: Option<Slot>,
    context: TurnContext,
    limits: LatestLimits,
    change: Arc<Notify>,
    stage: Stage,
    /// The terminal event is out.
    settled: bool,
    /// Codex has the conversation.
    taken: bool,
    /// The turn began before that.
    early: bool,
    accepted: Option<Instant>,
    /// Measured, and told with what is told next: alone it would wake the listener for nothing.
    measured: Vec<(Phase, Duration)>,
    turn_id: Option<String>,
    messages: Vec<Message>,
    calls: Vec<ToolCall>,
    /// Anything of the answer or its reasoning is out.
    begun: bool,
    /// Answer text is out.
    said: bool,
    /// Answer text of the response under way is out: a retry would say it again.
    said_now: bool,
    /// Reasoning of the response under way is out.
    thought_now: bool,
    /// Reasoning is being repeated and not passed on.
    repeating_reasoning: bool,
    /// The next reasoning begins a new paragraph.
    gap: bool,
    error: Option<TurnError>,
    responses: Option<Usage>,
    thread: Option<Usage>,
}

/// One agent message.
#[derive(Debug)]
struct Message {
    id: String,
    /// Progress, not answer.
    commentary: bool,
    /// How many bytes of it came as deltas.
    streamed: usize,
}

impl Answer {
    /// An answer of which nothing is there yet. `change` is told of each new [`Stage`].
    pub fn new(
        sink: Arc<Sink>,
        slot: Slot,
        context: TurnContext,
        limits: LatestLimits,
        change: Arc<Notify>,
    ) -> Answer {
        Answer {
            sink,
            slot: Some(slot),
            context,
            limits,
            change,
            stage: Stage::Running,
            settled: false,
            taken: false,
            early: false,
            accepted: None,
            measured: Vec::new(),
            turn_id: None,
            messages: Vec::new(),
            calls: Vec::new(),
            begun: false,
            said: false,
            said_now: false,
            thought_now: false,
            repeating_reasoning: false,
            gap: false,
            error: None,
            responses: None,
            thread: None,
        }
    }

    /// Forgets what another worker did for the turn, none of which is out.
    pub fn start_over(&mut self) {
        self.taken = false;
        self.early = false;
        self.accepted = None;
        self.measured.clear();
        self.turn_id = None;
        self.calls.clear();
    }

    /// How far the turn is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether anything of the answer, or of the reasoning before it, came.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// The thread is there; starting it was begun at `from`.
    pub fn thread_started(&mut self, from: Instant) {
        self.measured.push((Phase::AppServerThreadStart, from.elapsed()));
    }

    /// The turn, sent at `sent`, was accepted.
    pub fn accepted(&mut self, sent: Instant) {
        self.accepted = Some(Instant::now());
        self.measured.push((Phase::AppServerTurnStart, sent.elapsed()));
    }

    /// The turn goes by this id.
    pub fn called(&mut self, turn_id: &str) {
        self.turn_id.get_or_insert_with(|| turn_id.to_owned());
    }

    /// Codex has the conversation: what it says from now on can be an answer to it.
    pub fn conversation_taken(&mut self) {
        self.taken = true;
    }

    /// Whether the turn began before Codex had the conversation, which is a failure.
    pub fn was_early(&self) -> bool {
        self.early
    }

    fn check_order(&mut self) {
        if !self.taken && !std::mem::replace(&mut self.early, true) {
            let detail = "codex began the turn before it had taken the conversation".into();
            self.fail(Failure::CodexFailed { detail });
        }
    }

    /// Tells what was measured. Without effect on the answer; whether anybody listens shows elsewhere.
    fn tell_measured(&mut self) {
        for (phase, took) in self.measured.drain(..) {
            let _ = self.sink.push(Ok(Event::Phase(phase, took)));
        }
    }

    /// A delta of an agent message: by far the most frequent of all.
    pub fn message_delta(&mut self, item_id: &str, delta: String) {
        self.check_order();
        let known = self.messages.iter().rposition(|message| message.id == item_id);
        let index = known.unwrap_or_else(|| self.begin_message(item_id, false));
        let Some(message) = self.messages.get_mut(index) else { return };
        message.streamed += delta.len();
        if message.commentary { self.think(delta) } else { self.say(delta) }
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
                    self.think(delta.delta);
                }
            }
            "item/reasoning/summaryPartAdded" => self.gap = self.thought_now,
            "item/started" => self.item(params, Self::item_started),
            "item/completed" => self.item(params, Self::item_completed),
            "rawResponseItem/completed" => self.raw_item(params),
            "rawResponse/completed" => self.response_completed(params),
            "thread/tokenUsage/updated" => {
                if let Ok(news) = serde_json::from_str::<TokenUsageNotification>(params) {
                    self.thread = Some(news.token_usage.total.into());
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
            "thread/closed" => {
                self.over(Err(Failure::CodexFailed { detail: "codex closed the thread".into() }))
            }
            "thread/compacted" => self.history_cut(),
            _ => {}
        }
    }

    /// The turn has failed while Codex still works on it.
    pub fn fail(&mut self, failure: Failure) {
        self.settle(Err(failure));
        self.unwanted();
    }

    /// Nobody listens any more.
    pub fn abandon(&mut self) {
        self.settled = true;
        self.unwanted();
    }

    /// Nothing of the turn runs any more; `outcome` is reported unless one was already.
    pub fn over(&mut self, outcome: Outcome) {
        if self.stage == Stage::Over {
            return;
        }
        self.slot.take();
        self.settle(outcome);
        self.stage = Stage::Over;
        self.change.notify_one();
    }

    fn unwanted(&mut self) {
        if self.stage == Stage::Running {
            self.stage = Stage::Unwanted;
            self.change.notify_one();
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        if let Some(accepted) = self.accepted {
            self.measured.push((Phase::AppServerTurnComplete, accepted.elapsed()));
        }
        self.tell_measured();
        // Nobody there to hear the end: then it was over for them before.
        let _ = self.sink.push(outcome);
    }

    fn emit(&mut self, event: Event) {
        if self.settled {
            return;
        }
        if !self.begun {
            self.begun = true;
            let from = self.accepted.unwrap_or(self.context.granted);
            self.measured.push((Phase::AppServerFirstDelta, from.elapsed()));
        }
        self.tell_measured();
        match self.sink.push(Ok(event)) {
            Ok(()) => {}
            Err(NotTaken::Full) => self.fail(Failure::ClientTooSlow),
            Err(NotTaken::Gone) => self.abandon(),
        }
    }

    fn say(&mut self, text: String) {
        if text.is_empty() {
            return;
        }
        self.said = true;
        self.said_now = true;
        self.emit(Event::Text(text));
    }

    fn think(&mut self, text: String) {
        if self.repeating_reasoning || text.is_empty() {
            return;
        }
        self.thought_now = true;
        if std::mem::take(&mut self.gap) {
            self.emit(Event::Reasoning("\n\n".into()));
        }
        self.emit(Event::Reasoning(text));
    }

    /// Several answers are joined by a blank line, and so are pieces of reasoning.
    fn begin_message(&mut self, id: &str, commentary: bool) -> usize {
        if commentary {
            self.gap = self.thought_now;
        } else if self.said {
            self.say("\n\n".into());
        }
        self.messages.push(Message { id: id.to_owned(), commentary, streamed: 0 });
        self.messages.len() - 1
    }

    fn item(&mut self, params: &str, take: impl FnOnce(&mut Self, ThreadItem<'_>)) {
        if let Ok(ItemNotification { item }) = serde_json::from_str(params) {
            match &*item.kind.0 {
                "agentMessage" => take(self, item),
                "contextCompaction" => self.history_cut(),
                _ => {}
            }
        }
    }

    fn item_started(&mut self, item: ThreadItem<'_>) {
        if !self.messages.iter().any(|message| message.id == item.id.0) {
            self.begin_message(&item.id.0, is_commentary(&item));
        }
    }

    /// What deltas did not bring is said now: then nothing is lost with an upstream that does not
    /// stream.
    fn item_completed(&mut self, item: ThreadItem<'_>) {
        let Some(text) = item.text.as_ref().map(|text| &*text.0) else { return };
        let known = self.messages.iter().position(|message| message.id == item.id.0);
        let index = known.unwrap_or_else(|| self.begin_message(&item.id.0, is_commentary(&item)));
        let Some(message) = self.messages.get_mut(index) else { return };
        let rest = text.get(message.streamed..).unwrap_or_default().to_owned();
        message.streamed += rest.len();
        if message.commentary { self.think(rest) } else { self.say(rest) }
    }

    /// Codex replaced the history by a summary: the answer would be to another conversation.
    fn history_cut(&mut self) {
        self.fail(Failure::ContextLength);
    }

    fn raw_item(&mut self, params: &str) {
        let Ok(RawResponseItemNotification { turn_id, item }) = serde_json::from_str(params) else { return };
        // The history is echoed in the same form, as of another turn.
        let ours = match &self.turn_id {
            Some(id) => *id == turn_id.0,
            None => !turn_id.0.starts_with("auto-compact"),
        };
        if !ours || item.kind.0 != "function_call" {
            return;
        }
        let (Some(id), Some(name)) = (item.call_id, item.name) else { return };
        // A name nobody offered: Codex tells the model so and lets it try again.
        if !self.context.offered.contains(&*name.0) {
            return;
        }
        let written = item.arguments.map(|arguments| arguments.get()).unwrap_or("\"\"");
        let arguments = serde_json::from_str::<String>(written).unwrap_or_else(|_| written.to_owned());
        self.calls.push(ToolCall { id, name: self.context.names.back(&name.0).to_owned(), arguments });
    }

    /// One request to the upstream is answered. With calls of the client's functions in it, that
    /// is the end: whatever Codex did next would be without their results.
    fn response_completed(&mut self, params: &str) {
        if let Ok(RawResponseCompletedNotification { usage: Some(usage) }) = serde_json::from_str(params) {
            *self.responses.get_or_insert_default() += usage.into();
        }
        self.response_ended();
        if !self.calls.is_empty() {
            self.hand_over_calls();
            self.unwanted();
        }
    }

    fn hand_over_calls(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            self.emit(Event::ToolCall(call));
        }
        self.settle(Ok(Event::Done { finish: Finish::ToolCalls, usage: self.usage() }));
    }

    fn response_ended(&mut self) {
        self.said_now = false;
        self.gap = self.gap || self.thought_now;
        self.thought_now = false;
        self.repeating_reasoning = false;
    }

    fn heard_error(&mut self, params: &str) {
        let Ok(ErrorNotification { error, will_retry }) = serde_json::from_str(params) else { return };
        if !will_retry {
            self.error = Some(error);
            return;
        }
        // The response under way begins again from its start.
        self.calls.clear();
        self.repeating_reasoning = self.thought_now;
        if self.said_now {
            let cause = error.additional_details.unwrap_or(error.message);
            let failure = match classify(error.codex_error_info.as_ref(), &cause) {
                Failure::UpstreamUnreachable { detail } => Failure::UpstreamUnreachable { detail },
                failure => Failure::CodexFailed {
                    detail: format!(
                        "the answer broke off and was begun again: {}",
                        failure.detail().unwrap_or_default()
                    ),
                },
            };
            self.fail(failure);
        }
    }

    fn turn_completed(&mut self, params: &str) {
        let Ok(TurnNotification { turn }) = serde_json::from_str(params) else {
            return self
                .over(Err(Failure::CodexFailed { detail: "codex ended the turn in an unknown way".into() }));
        };
        let outcome = match &*turn.status.0 {
            "completed" if !self.calls.is_empty() => {
                self.hand_over_calls();
                Ok(Event::Done { finish: Finish::ToolCalls, usage: self.usage() })
            }
            "completed" if !self.said => Err(Failure::NoAnswer),
            "completed" => Ok(Event::Done { finish: Finish::Stop, usage: self.usage() }),
            "interrupted" => Err(Failure::CodexFailed { detail: "codex interrupted the turn".into() }),
            status => match turn.error.or_else(|| self.error.take()) {
                Some(error) if is_output_limit(&error.message) => {
                    Ok(Event::Done { finish: Finish::Length, usage: self.usage() })
                }
                Some(error) => Err(self.failure(&error)),
                None => Err(Failure::CodexFailed { detail: format!("codex ended the turn as {status}") }),
            },
        };
        self.over(outcome);
    }

    /// The thread's total if Codex gave it (it alone counts a response that was cut short), or
    /// the sum of its responses if that is ahead.
    fn usage(&self) -> Option<Usage> {
        let spent = |usage: &Usage| usage.input + usage.output;
        self.thread.into_iter().chain(self.responses).max_by_key(spent)
    }
}

fn is_commentary(item: &ThreadItem<'_>) -> bool {
    item.phase.as_ref().is_some_and(|phase| phase.0 == "commentary")
}

#[cfg(test)]
mod tests;
