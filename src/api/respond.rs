//! Running a request's turns and writing the reply, whole or as a stream.
//!
//! A finish chunk and `[DONE]` go out if and only if every answer is complete. Any other end of an
//! open stream is one error event, after which the connection ends.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Sleep;

use crate::observe::{Status, Trace};
use crate::turn::{Event, Failure, Outcome, Phase, Usage, pace};

use super::answer::{Answer, Piece};
use super::body::Buffered;
use super::chat::reply::{Chunks, Whole, whole};
use super::connection::Connection;
use super::turns::Turns;
use super::{error, sse};

/// What may go out of the answer with that index.
type Pieces = (usize, Vec<Piece>);

/// The answers of one request in the making.
pub struct Reply {
    turns: Turns,
    answers: Vec<Answer>,
    /// What was made of them since others last could run.
    pace: pace::Pace,
    /// Whether a turn that was cut by a stop string ends by itself at once, and tells its cost.
    answers_whole: bool,
    /// The request's body counts against `max_buffered_bytes` as long as its turns may need it.
    _body: Buffered,
}

impl Reply {
    /// `answer` is what each of the `n` answers starts from.
    pub fn new(turns: Turns, answer: Answer, n: usize, answers_whole: bool, body: Buffered) -> Reply {
        Reply { turns, answers: vec![answer; n], pace: pace::Pace::default(), answers_whole, _body: body }
    }

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
            Event::Phase(..) | Event::Done { .. } => 0,
        };
        self.pace.note(bytes);
        let pieces = pace::apart(bytes, || answer.take(event))?;
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
}

/// Runs the turns to their end and encodes the body.
///
/// # Errors
/// The first failure of any turn, and the latency record to be finished with it.
pub async fn run_whole(mut reply: Reply, chunks: &Chunks) -> (Result<Bytes, Failure>, Reply) {
    let mut answers = vec![Whole::default(); reply.answers.len()];
    let collected = std::future::poll_fn(|cx| {
        loop {
            match ready!(reply.poll_pieces(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(failure)) => return Poll::Ready(Err(failure)),
                Some(Ok((index, pieces))) => {
                    pieces.into_iter().for_each(|piece| collect(&mut answers[index], piece))
                }
            }
        }
    })
    .await;
    let start = Instant::now();
    let bytes = answers.iter().map(Whole::bytes).sum();
    let encode = || whole(&chunks.heading, &answers, reply.usage());
    let body = collected.and_then(|()| pace::apart(bytes, encode));
    reply.turns.trace.phase(Phase::ResponseBuild, start.elapsed());
    (body, reply)
}

fn collect(answer: &mut Whole, piece: Piece) {
    match piece {
        Piece::Text(text) => answer.text.push_str(&text),
        Piece::Reasoning(text) => answer.reasoning.push_str(&text),
        Piece::ToolCall(call) => answer.tool_calls.push(call),
        Piece::Finish(finish) => answer.finish = Some(finish),
    }
}

impl Reply {
    /// The latency record.
    pub fn trace(&mut self) -> &mut Trace {
        &mut self.turns.trace
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
            self.reply.trace().finish(Status::Ok, None, 200, Instant::now());
        }
        Poll::Ready(body.map(Ok))
    }
}

/// The body of a stream: frames as the turns produce them.
pub struct Frames {
    reply: Reply,
    chunks: Chunks,
    /// Of each answer: whether it was opened, and how many calls it has made.
    opened: Vec<bool>,
    calls: Vec<usize>,
    ready: VecDeque<Frame>,
    keepalive: Duration,
    silence: Pin<Box<Sleep>>,
    connection: Connection,
    over: bool,
}

struct Frame {
    bytes: Bytes,
    content: bool,
    end: Option<End>,
}

/// How the request ends once this frame is handed to the socket.
enum End {
    Complete,
    Failed(Failure),
}

impl Frames {
    /// A stream that has not said anything yet.
    pub fn new(reply: Reply, chunks: Chunks, keepalive: Duration, connection: Connection) -> Frames {
        let n = reply.answers.len();
        Frames {
            reply,
            chunks,
            opened: vec![false; n],
            calls: vec![0; n],
            ready: VecDeque::new(),
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
    pub async fn open(&mut self) -> Result<(), Failure> {
        std::future::poll_fn(|cx| {
            while self.ready.is_empty() {
                match self.reply.poll_pieces(cx) {
                    Poll::Ready(Some(Err(failure))) => return Poll::Ready(Err(failure)),
                    Poll::Ready(Some(Ok((index, pieces)))) => self.add(index, pieces)?,
                    Poll::Ready(None) => self.complete()?,
                    Poll::Pending => {
                        ready!(self.silence.as_mut().poll(cx));
                        for index in 0..self.opened.len() {
                            self.role(index)?;
                        }
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn role(&mut self, index: usize) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.opened[index], true) {
            let bytes = self.chunks.role(index)?;
            self.ready.push_back(Frame { bytes, content: false, end: None });
        }
        Ok(())
    }

    fn add(&mut self, index: usize, pieces: Vec<Piece>) -> Result<(), Failure> {
        for piece in pieces {
            self.role(index)?;
            let content = !matches!(piece, Piece::Finish(_) | Piece::Reasoning(_));
            let bytes = match piece {
                Piece::Text(text) => pace::apart(text.len(), || self.chunks.text(index, &text))?,
                Piece::Reasoning(text) => pace::apart(text.len(), || self.chunks.reasoning(index, &text))?,
                Piece::ToolCall(call) => {
                    self.calls[index] += 1;
                    let number = self.calls[index] - 1;
                    pace::apart(call.arguments.len(), || self.chunks.tool_call(index, number, &call))?
                }
                Piece::Finish(finish) => self.chunks.finish(index, finish)?,
            };
            self.ready.push_back(Frame { bytes, content, end: None });
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Failure> {
        if let Some(bytes) = self.chunks.usage(self.reply.usage())? {
            self.ready.push_back(Frame { bytes, content: false, end: None });
        }
        self.ready.push_back(Frame { bytes: sse::DONE, content: false, end: Some(End::Complete) });
        self.over = true;
        Ok(())
    }

    fn fail(&mut self, failure: Failure) {
        // The first failure cancels the rest, however slowly the client reads of it.
        self.reply.turns.end_all();
        self.connection.end_with_this_answer();
        let bytes = error::sse_error(&failure);
        self.ready.push_back(Frame { bytes, content: false, end: Some(End::Failed(failure)) });
        self.over = true;
    }

    /// Fetches more; `Pending` if there is nothing to say yet.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let result = match self.reply.poll_pieces(cx) {
            Poll::Ready(Some(Ok((index, pieces)))) => self.add(index, pieces),
            Poll::Ready(Some(Err(failure))) => Err(failure),
            Poll::Ready(None) => self.complete(),
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                self.ready.push_back(Frame { bytes: sse::KEEP_ALIVE, content: false, end: None });
                Ok(())
            }
        };
        if let Err(failure) = result {
            self.fail(failure);
        }
        Poll::Ready(())
    }

    /// Notes what is handed to the socket.
    fn hand_over(&mut self, frame: Frame) -> Bytes {
        let now = Instant::now();
        self.silence.as_mut().reset((now + self.keepalive).into());
        let trace = self.reply.trace();
        trace.first_sse(now);
        if frame.content {
            trace.first_content_sse(now);
        }
        match frame.end {
            None => {}
            Some(End::Complete) => trace.finish(Status::Ok, None, 200, now),
            Some(End::Failed(failure)) => note_failure(trace, &failure),
        }
        frame.bytes
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(self.hand_over(frame))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            ready!(self.poll_more(cx));
        }
    }
}

impl Frames {
    /// The latency record.
    pub fn trace(&mut self) -> &mut Trace {
        self.reply.trace()
    }
}

/// Ends a request's record with its failure and logs what the client does not see.
pub fn note_failure(trace: &mut Trace, failure: &Failure) {
    let answer = error::answer(failure);
    if let Some(detail) = failure.detail() {
        tracing::warn!(
            request_id = trace.request_id(),
            error_type = %answer.code,
            // Not the answer's message: it may have the upstream's words, and they the prompt.
            "the request failed as {}: {}",
            answer.code,
            crate::observe::escape(detail)
        );
    }
    trace.finish(Status::Error, Some(&answer.code), answer.status.as_u16(), Instant::now());
}
