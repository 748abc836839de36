//! The seam for formats: a format is a folder that decodes a request and encodes pieces.
//!
//! ```text
//!   body ── Dialect::decode ──> GenerationRequest ── admit, run ──> Events ── Answer ──> Piece
//!                 \──> Encoder  <── open, piece…, close | fail | whole ─────────────────/
//! ```
//! No I/O, no clock but the one given, nothing async inside: admission, running, stop strings, what is withheld until it
//! is checked, keep-alive, clients that leave and the latency line live once, in `generate`, `respond`
//! and `answer`, and know no format. A new format is a folder and its line in the table of `routes`.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Config;
use crate::turn::{At, Failure, Finish, Saying, Thought, ToolCall, Turn, Usage};

use super::error::ErrorReply;
use super::remembered::CallersItems;
use super::sse;
use super::stop::Stops;

/// A wire format of generation requests and of everything that answers them.
pub trait Dialect: Sync {
    /// What the latency line and the metrics call it: `chat_completions`…
    fn name(&self) -> &'static str;

    /// Reads a request. Blocking only as long as reading its text takes.
    ///
    /// # Errors
    /// Mostly [`Failure::BadRequest`] and [`Failure::Unsupported`], naming the field.
    fn decode(&self, request: &RequestParts, config: &Config) -> Result<Decoded, Failure>;

    /// The body of an answer that is not a success. OpenAI's envelope unless a format has its own.
    fn error(&self, reply: &ErrorReply, request_id: &str) -> Bytes {
        let _ = request_id;
        reply.envelope()
    }

    /// The status of such an answer, where a format's differs from the table's.
    fn status(&self, reply: &ErrorReply) -> StatusCode {
        reply.status
    }

    /// Headers that every answer in this format has, beside those that all have.
    fn headers(&self, request_id: &str, headers: &mut HeaderMap) {
        let _ = (request_id, headers);
    }

    /// Whether an answer has one text, in which its messages are joined, commentary apart.
    fn one_text(&self) -> bool {
        false
    }

    /// Whether a function's arguments are written as a JSON object, so that others are a failure.
    fn object_arguments(&self) -> bool {
        false
    }

    /// Whether a request to a path that belongs to no format (a list, an unknown one) comes from a
    /// client of this one.
    fn recognizes(&self, headers: &HeaderMap) -> bool {
        let _ = headers;
        false
    }
}

/// What a request consists of.
pub struct RequestParts<'a> {
    /// The body's text.
    pub body: &'a str,
    /// The header section.
    #[allow(dead_code, reason = "for formats whose requests say something there; chat's do not")]
    pub headers: &'a HeaderMap,
    /// What follows the `?` of the target.
    #[allow(dead_code, reason = "for formats whose requests say something there; chat's do not")]
    pub query: Option<&'a str>,
    /// What the answer is to be named by.
    pub heading: Heading,
    /// To be asked between the parts of a long request.
    pub wanted: &'a Wanted,
    /// What the client was answered lately.
    pub remembered: &'a CallersItems,
}

/// Whether the client still waits for its request to be read. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Wanted(CancellationToken);

impl Wanted {
    /// Whether reading is to go on.
    ///
    /// # Errors
    /// [`Failure::Internal`], which nobody is left to read.
    pub fn check(&self) -> Result<(), Failure> {
        match self.0.is_cancelled() {
            false => Ok(()),
            true => Err(Failure::Internal { detail: "the client left while its request was read".into() }),
        }
    }

    /// Dropped when the client leaves.
    pub fn guard(&self) -> DropGuard {
        self.0.clone().drop_guard()
    }
}

/// What all parts of one reply share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heading {
    /// 32 hexadecimal digits, unique; a format puts its prefix before them. Further names:
    /// [`ids::fresh`](super::ids::fresh).
    pub unique: String,
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// Unix seconds.
    pub created: u64,
    /// Versions of the proxy and of Codex.
    pub fingerprint: String,
}

/// A request that was read, and who writes what comes of it.
pub struct Decoded {
    /// What is to be done.
    pub request: GenerationRequest,
    /// Who writes the answer.
    pub encoder: Box<dyn Encoder>,
}

/// What a client asked, whatever its format; checked as far as it can be without the disk.
#[derive(Clone, Debug)]
pub struct GenerationRequest {
    /// The model as sent.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// How many answers.
    pub n: usize,
    /// Where each answer ends early.
    pub stop: Stops,
    /// What else shortens it.
    pub wishes: Wishes,
    /// Fields that were accepted and have no effect, by their paths in the order of the header that
    /// names them.
    pub ignored: Vec<String>,
    /// The working directory asked for; resolved where one is needed.
    pub cwd: Option<String>,
    /// The turn to run, its directory [unseen](crate::turn::Workdir::unseen).
    pub turn: Turn,
}

/// What shortens an answer, beside stop strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The client only wants to see that there would be one: it ends as cut after the first thing said.
    pub probe: bool,
    /// Of several calls only the first is given.
    pub one_call: bool,
}

/// Something that may go out of one answer, in the model's order.
///
/// `Message` and `ReasoningPart` open what the text after them belongs to. Text without a
/// `Message` before it is the answer's only message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A message begins.
    Message {
        /// The upstream's id of it.
        id: String,
        /// What it is said for, where the upstream tells.
        phase: Option<Saying>,
    },
    /// Text.
    Text(String),
    /// A part of a reasoning summary begins.
    ReasoningPart {
        /// The upstream's id of the reasoning item.
        item: String,
    },
    /// Reasoning summary.
    Reasoning(String),
    /// A whole reasoning item, its summary told already if it came in pieces.
    Thought(Thought),
    /// A whole function call.
    ToolCall(ToolCall),
    /// This stop string ended the answer; [`Piece::Finish`] follows.
    Stopped(String),
    /// The answer is complete.
    Finish(Finish),
}

impl Piece {
    /// How much text it has, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Piece::Text(text) | Piece::Reasoning(text) => text.len(),
            Piece::ToolCall(call) => call.arguments.len(),
            Piece::Thought(thought) => thought.bytes(),
            Piece::Message { .. } | Piece::ReasoningPart { .. } | Piece::Stopped(_) | Piece::Finish(_) => 0,
        }
    }
}

/// A whole answer: its pieces, neighbouring texts joined; the last is [`Piece::Finish`].
pub type WholeAnswer = Vec<Piece>;

/// Adds a piece to a whole answer.
pub fn join(answer: &mut WholeAnswer, piece: Piece) {
    match (answer.last_mut(), piece) {
        (Some(Piece::Text(text)), Piece::Text(more))
        | (Some(Piece::Reasoning(text)), Piece::Reasoning(more)) => {
            text.push_str(&more);
        }
        (_, piece) => answer.push(piece),
    }
}

/// Writes the reply of one request: either `open`, `piece`s and `close` (or `fail`), or `whole`.
///
/// It keeps what it was told at decoding, and what it wrote so far: indices, numbers, open blocks.
pub trait Encoder: Send + Sync {
    /// The stream begins. Something must be written: this is also what a client is sent that has
    /// waited for `keepalive_seconds`.
    fn open(&mut self, out: &mut Frames);

    /// A piece of the answer with that index.
    fn piece(&mut self, choice: usize, piece: Piece, out: &mut Frames);

    /// All answers are complete; nothing follows. `usage` is what they cost together, if known of each.
    fn close(&mut self, usage: Option<Usage>, out: &mut Frames);

    /// The stream ends by this failure; nothing follows.
    fn fail(&mut self, reply: &ErrorReply, out: &mut Frames);

    /// Nothing to say, but the client should see that it is being served.
    fn keep_alive(&mut self, out: &mut Frames) {
        out.push(sse::KEEP_ALIVE);
    }

    /// The body of a reply that is not streamed.
    ///
    /// # Errors
    /// [`Failure::Internal`] if an answer has not ended; what makes an answer none in this format.
    fn whole(&mut self, answers: Vec<WholeAnswer>, usage: Option<Usage>) -> Result<Bytes, Failure>;

    /// The memory it takes beside the turn, in bytes.
    fn bytes(&self) -> u64 {
        0
    }

    /// The client's own field for a part of its request.
    fn path(&self, at: &At) -> String;
}

/// Server-sent events to go out, in order.
#[derive(Debug, Default)]
pub struct Frames {
    events: VecDeque<Bytes>,
    broken: Option<String>,
}

impl Frames {
    /// Adds what is framed already.
    pub fn push(&mut self, event: Bytes) {
        self.events.push_back(event);
    }

    /// Adds `data:` with this JSON.
    pub fn data(&mut self, data: &impl Serialize) {
        match sse::event(data) {
            Ok(event) => self.push(event),
            Err(error) => self.broken = Some(error.to_string()),
        }
    }

    /// Adds `event:` with this name and `data:` with this JSON.
    pub fn named(&mut self, name: &str, data: &impl Serialize) {
        match sse::named(name, data) {
            Ok(event) => self.push(event),
            Err(error) => self.broken = Some(error.to_string()),
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes the next.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.events.pop_front()
    }

    /// What could not be written as JSON, a defect of ours.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.broken.take() {
            None => Ok(()),
            Some(error) => Err(Failure::Internal { detail: format!("encoding the answer: {error}") }),
        }
    }
}
