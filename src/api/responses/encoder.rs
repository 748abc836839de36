//! What is written when: the events of a stream, or a whole response.

use bytes::Bytes;

use crate::api::dialect::{Encoder, Frames, Heading, Piece, WholeAnswer};
use crate::api::error::ErrorReply;
use crate::api::remembered::CallersItems;
use crate::turn::{At, Failure, Finish, Usage};

use super::events::{ErrorEvent, Events, NestedError, ResponseEvent};
use super::items::OutputItem;
use super::object::{Response, State, Status};
use super::request::Answered;
use super::said::Said;

/// The reply to one request.
pub(super) struct ResponsesEncoder {
    asked: Answered,
    id: String,
    created: u64,
    /// Unix seconds: when a response was complete is told too.
    now: fn() -> u64,
    /// The number of the next event.
    next: u64,
    said: Said,
    /// Where what was answered is kept.
    remembered: CallersItems,
}

impl ResponsesEncoder {
    pub(super) fn new(
        asked: Answered,
        heading: Heading,
        remembered: CallersItems,
        now: fn() -> u64,
    ) -> ResponsesEncoder {
        let said = Said::new(asked.wanted);
        let id = format!("resp_{}", heading.unique);
        ResponsesEncoder { asked, id, created: heading.created, now, next: 0, said, remembered }
    }

    fn object<'a>(
        &'a self,
        status: Status,
        usage: Option<Usage>,
        error: Option<(&'a str, &'a str)>,
    ) -> Response<'a> {
        let completed_at = matches!(status, Status::Completed | Status::Incomplete).then(self.now);
        let state = State { status, completed_at, output: self.said.items(), usage, error };
        self.asked.echo.response(&self.id, self.created, &self.asked.model, state)
    }

    fn tell(
        &mut self,
        name: &str,
        status: Status,
        usage: Option<Usage>,
        error: Option<(&str, &str)>,
        out: &mut Frames,
    ) {
        let mut next = self.next;
        let response = self.object(status, usage, error);
        Events { next: &mut next, out: Some(out) }.write(name, &ResponseEvent { response });
        self.next = next;
    }

    fn take(&mut self, piece: Piece, out: Option<&mut Frames>) {
        self.said.take(piece, &mut Events { next: &mut self.next, out });
    }

    /// Keeps the items of a complete response: the client may name them from now on.
    fn remember(&self) {
        self.remembered.keep(self.said.items().iter().filter_map(OutputItem::known));
    }

    /// How the response ended; `None` if it has not.
    fn ended(&self) -> Option<Status> {
        Some(match self.said.finish()? {
            Finish::Stop | Finish::ToolCalls => Status::Completed,
            Finish::Length => Status::Incomplete,
        })
    }
}

impl Encoder for ResponsesEncoder {
    fn open(&mut self, out: &mut Frames) {
        self.tell("response.created", Status::InProgress, None, None, out);
        self.tell("response.in_progress", Status::InProgress, None, None, out);
    }

    fn piece(&mut self, _: usize, piece: Piece, out: &mut Frames) {
        self.take(piece, Some(out));
    }

    fn close(&mut self, usage: Option<Usage>, out: &mut Frames) {
        self.remember();
        match self.ended() {
            Some(Status::Incomplete) => {
                self.tell("response.incomplete", Status::Incomplete, usage, None, out);
            }
            _ => self.tell("response.completed", Status::Completed, usage, None, out),
        }
    }

    fn fail(&mut self, reply: &ErrorReply, out: &mut Frames) {
        let (code, message, param) = (&*reply.code, &*reply.message, reply.param.as_deref());
        let error = NestedError { message, r#type: reply.kind, param, code };
        let mut events = Events { next: &mut self.next, out: Some(out) };
        events.write("error", &ErrorEvent { code, message, param, error });
        self.tell("response.failed", Status::Failed, None, Some((final_code(code), message)), out);
    }

    fn whole(&mut self, answers: Vec<WholeAnswer>, usage: Option<Usage>) -> Result<Bytes, Failure> {
        answers.into_iter().flatten().for_each(|piece| self.take(piece, None));
        let status =
            self.ended().ok_or_else(|| Failure::Internal { detail: "an answer has not ended".into() })?;
        self.remember();
        let encoding = |error| Failure::Internal { detail: format!("encoding the answer: {error}") };
        serde_json::to_vec(&self.object(status, usage, None)).map(Bytes::from).map_err(encoding)
    }

    /// What the response repeats of its request: once as it is, and in the two events that open a stream.
    fn bytes(&self) -> u64 {
        3 * self.asked.echo.bytes()
    }

    fn path(&self, at: &At) -> String {
        match at {
            At::Field(path) => path.clone(),
            At::Model => "model".into(),
            At::Conversation => "input".into(),
            At::Item(item) => self.asked.origins.get(*item).map_or("input".into(), |origin| origin.path()),
            At::Tools => "tools".into(),
            At::Tool(tool) => match self.asked.tools.get(*tool) {
                Some(place) => format!("{place}.parameters"),
                None => "tools".into(),
            },
            At::Schema => "text.format.schema".into(),
            At::Workdir => "metadata.cwd".into(),
        }
    }
}

/// What agents go by: after some of these asking again is of no use.
fn final_code(code: &str) -> &str {
    match code {
        "context_length_exceeded" | "insufficient_quota" | "rate_limit_exceeded" => code,
        "upstream_overloaded" => "server_is_overloaded",
        // Agents send anew what failed in any other way: what somebody has ended is to stay so.
        "interrupted" => "invalid_prompt",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests;
