//! Writing the reply of a request's turns, whole or as a stream, whatever its format.
//!
//! A stream ends as complete if and only if every answer is complete. Any other end of an open stream
//! is a failure in the words of its format, after which the connection ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use tokio::time::Sleep;
use warp::reply::Response;

use crate::observe::{Status, Trace};
use crate::turn::pace::{Pace, apart};
use crate::turn::{Event, Failure, Outcome, Phase, Usage};

use super::answer::Answer;
use super::connection::Connection;
use super::dialect::{Dialect, Encoder, Frames, Piece, WholeAnswer, join};
use super::error::{self, ErrorReply};
use super::turns::Turns;

/// What may go out of the answer with that index.
type Pieces = (usize, Vec<Piece>);

/// The answers of one request in the making.
pub struct Reply {
    /// Who says it.
    pub turns: Turns,
    /// What may go out of it.
    pub answers: Vec<Answer>,
    /// What was made of them since others last could run.
    pub pace: Pace,
    /// The format it came in…
    pub dialect: &'static dyn Dialect,
    /// …and who writes it.
    pub encoder: Box<dyn Encoder>,
    /// Whether a turn that was cut by a stop string ends by itself at once, and tells its cost.
    pub answers_whole: bool,
}

impl Reply {
    /// What may go out next, with the answer's index. `None`: all answers are complete.
    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pieces, Failure>>> {
        if self.pace.rest() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let said = ready!(self.turns.poll_next(cx));
        Poll::Ready(said.map(|(index, outcome)| Ok((index, self.take(index, outcome)?))))
    }

    fn take(&mut self, index: usize, outcome: Outcome) -> Result<Vec<Piece>, Failure> {
        let answer = &mut self.answers[index];
        let event = outcome?;
        let bytes = match &event {
            Event::Text(text) | Event::Reasoning(text) => text.len(),
            Event::ToolCall(call) => call.arguments.len(),
            Event::Thought(thought) => thought.bytes(),
            Event::Phase(..) | Event::ReasoningPart { .. } | Event::Message { .. } | Event::Done { .. } => 0,
        };
        self.pace.note(bytes);
        let pieces = apart(bytes, || answer.take(event))?;
        if answer.stopped() && !self.answers_whole {
            self.turns.end(index);
        }
        Ok(pieces)
    }

    /// What all answers cost together; `None` if that is not known of each.
    fn usage(&self) -> Option<Usage> {
        self.answers.iter().try_fold(Usage::default(), |mut sum, answer| {
            sum += answer.usage?;
            Some(sum)
        })
    }

    /// Runs the turns to their end and encodes the body.
    ///
    /// # Errors
    /// The first failure of any turn.
    pub async fn whole(&mut self) -> Result<Bytes, Failure> {
        let mut answers: Vec<WholeAnswer> = vec![Vec::new(); self.answers.len()];
        std::future::poll_fn(|cx| {
            loop {
                match ready!(self.poll_pieces(cx)) {
                    None => return Poll::Ready(Ok(())),
                    Some(Err(failure)) => return Poll::Ready(Err(failure)),
                    Some(Ok((index, pieces))) => {
                        pieces.into_iter().for_each(|piece| join(&mut answers[index], piece));
                    }
                }
            }
        })
        .await?;
        let start = Instant::now();
        let usage = self.usage();
        let bytes = answers.iter().flatten().map(Piece::bytes).sum();
        let body = apart(bytes, || self.encoder.whole(answers, usage));
        self.turns.trace.phase(Phase::ResponseBuild, start.elapsed());
        body
    }

    /// Ends the request with a failure before anything was sent.
    pub fn refuse(mut self, failure: &Failure) -> Response {
        let reply = error::answer_to(&*self.encoder, failure);
        note_failure(&mut self.turns.trace, failure, &reply, self.dialect.status(&reply));
        error::response(&reply, self.dialect, self.turns.trace.request_id())
    }
}

/// A whole body on its way to the socket. The request ends when it is taken.
pub struct WholeBody {
    body: Option<Bytes>,
    reply: Reply,
}

impl WholeBody {
    /// A body to be written.
    pub fn new(body: Bytes, reply: Reply) -> WholeBody {
        WholeBody { body: Some(body), reply }
    }
}

impl Stream for WholeBody {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = self.body.take();
        if body.is_some() {
            self.reply.turns.trace.finish(Status::Ok, None, 200, Instant::now());
        }
        Poll::Ready(body.map(Ok))
    }
}

/// The body of a stream: events as the turns produce them.
pub struct StreamBody {
    /// What is streamed.
    pub reply: Reply,
    opened: bool,
    frames: Frames,
    /// How many frames from now the first with content of the answer goes out.
    content_in: Option<usize>,
    /// How the request ends once the last frame is handed to the socket.
    end: Option<End>,
    keepalive: Duration,
    silence: Pin<Box<Sleep>>,
    connection: Connection,
    over: bool,
}

enum End {
    Complete,
    Failed(Failure, Box<ErrorReply>),
}

impl StreamBody {
    /// A stream that has not said anything yet.
    pub fn new(reply: Reply, keepalive: Duration, connection: Connection) -> StreamBody {
        StreamBody {
            reply,
            opened: false,
            frames: Frames::default(),
            content_in: None,
            end: None,
            keepalive,
            silence: Box::pin(tokio::time::sleep(keepalive)),
            connection,
            over: false,
        }
    }

    /// Waits until there is something to stream, or until the client has waited for
    /// `keepalive_seconds` and should see that it is being served.
    ///
    /// # Errors
    /// What failed before anything was streamed: it is answered with its true status.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        std::future::poll_fn(|cx| {
            while self.frames.is_empty() {
                ready!(self.poll_more(cx))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn open(&mut self) {
        if !std::mem::replace(&mut self.opened, true) {
            self.reply.encoder.open(&mut self.frames);
        }
    }

    fn add(&mut self, index: usize, pieces: Vec<Piece>) {
        for piece in pieces {
            self.open();
            let content = matches!(piece, Piece::Text(_) | Piece::ToolCall(_));
            let before = self.frames.len();
            let Reply { encoder, .. } = &mut self.reply;
            apart(piece.bytes(), || encoder.piece(index, piece, &mut self.frames));
            if content && self.frames.len() > before {
                self.content_in.get_or_insert(self.frames.len());
            }
        }
    }

    fn complete(&mut self) {
        self.open();
        let usage = self.reply.usage();
        self.reply.encoder.close(usage, &mut self.frames);
        self.end = Some(End::Complete);
        self.over = true;
    }

    /// The stream is open: the failure is its last event.
    fn fail(&mut self, failure: Failure) {
        // The first failure cancels the rest, however slowly the client reads of it.
        self.reply.turns.end_all();
        self.connection.end_with_this_answer();
        let reply = error::answer_to(&*self.reply.encoder, &failure);
        self.reply.encoder.fail(&reply, &mut self.frames);
        self.end = Some(End::Failed(failure, Box::new(reply)));
        self.over = true;
    }

    /// Fetches more; `Pending` if there is nothing to say yet.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self.reply.poll_pieces(cx) {
            Poll::Ready(Some(Ok((index, pieces)))) => self.add(index, pieces),
            Poll::Ready(Some(Err(failure))) => return Poll::Ready(Err(failure)),
            Poll::Ready(None) => self.complete(),
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                if self.opened { self.reply.encoder.keep_alive(&mut self.frames) } else { self.open() }
            }
        }
        Poll::Ready(self.frames.check())
    }

    /// Notes what is handed to the socket.
    fn hand_over(&mut self, frame: Bytes) -> Bytes {
        let now = Instant::now();
        self.silence.as_mut().reset((now + self.keepalive).into());
        let trace = &mut self.reply.turns.trace;
        trace.first_sse(now);
        self.content_in = self.content_in.map(|left| left - 1);
        if self.content_in == Some(0) {
            self.content_in = None;
            trace.first_content_sse(now);
        }
        if self.frames.is_empty() {
            match self.end.take() {
                None => {}
                Some(End::Complete) => trace.finish(Status::Ok, None, 200, now),
                Some(End::Failed(failure, reply)) => {
                    note_failure(trace, &failure, &reply, self.reply.dialect.status(&reply));
                }
            }
        }
        frame
    }
}

impl Stream for StreamBody {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(frame) = self.frames.pop() {
                return Poll::Ready(Some(Ok(self.hand_over(frame))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            if let Err(failure) = ready!(self.poll_more(cx)) {
                self.fail(failure);
            }
        }
    }
}

/// Ends a request's record with its failure and logs what the client does not see.
pub fn note_failure(trace: &mut Trace, failure: &Failure, reply: &ErrorReply, status: StatusCode) {
    if let Some(detail) = failure.detail() {
        tracing::warn!(
            request_id = trace.request_id(),
            error_type = %reply.code,
            // Not the answer's message: it may have the upstream's words, and they the prompt.
            "the request failed as {}: {}",
            reply.code,
            crate::observe::escape(detail)
        );
    }
    let ended = if matches!(failure, Failure::Interrupted) { Status::Cancelled } else { Status::Error };
    trace.finish(ended, Some(&reply.code), status.as_u16(), Instant::now());
}
