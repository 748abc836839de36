//! The bytes of one connection, between the socket and hyper: what hyper has no setting for.
//!
//! - A head that hyper cannot parse it refuses by itself, with an empty answer; here that answer
//!   gets its body, so that every error has the envelope.
//! - A refused request's body is read and thrown away for a while after the answer, since closing
//!   on unread data resets the connection and the client would lose the answer.
//! - A client that does not read is cut.
//! - A client that leaves is noticed while its answer is in the making, also if it has sent more than
//!   its request: hyper stops looking once it holds bytes of what may be a next request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::error;
use super::seats::Busy;

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Without taking any byte of the answer.
    pub write: Duration,
    /// Without sending any more of a refused body, before we close.
    pub linger_idle: Duration,
    /// For the whole of a refused body.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts { write: seconds(60), linger_idle: seconds(2), linger: seconds(30) }
    }
}

/// The most of a refused body that is read to be thrown away.
const LINGER_BYTES: usize = 256 << 20;

/// How much is read ahead of hyper to see whether the client is still there. One that sends more
/// than this behind its request is not looked after any further.
const AHEAD: usize = 64 << 10;

/// What the service knows and the wire needs; one per connection.
#[derive(Debug, Default)]
pub struct Progress {
    answering: AtomicUsize,
    /// An answer has been handed to hyper whole and may not have reached the socket.
    unflushed: AtomicBool,
    unread: AtomicBool,
}

impl Progress {
    /// A request has come; the guard is held until its answer has been handed to hyper whole.
    pub fn answering(self: &Arc<Progress>) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// Whether the last request's body may not have been read.
    pub fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// Whether an answer is in the making.
    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed) > 0
    }

    /// Whether what hyper writes now can only be its own.
    fn is_ours_done(&self) -> bool {
        !self.is_answering() && !self.unflushed.load(Ordering::Relaxed)
    }
}

/// A request being answered.
#[derive(Debug)]
pub struct Answering(Arc<Progress>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.unflushed.store(true, Ordering::Relaxed);
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, which ends the answering when it is dropped.
#[derive(Debug)]
pub struct AnswerBody<B> {
    body: B,
    _answering: (Answering, Busy),
}

impl<B> AnswerBody<B> {
    /// Ties the body to the guards.
    pub fn new(body: B, answering: (Answering, Busy)) -> AnswerBody<B> {
        AnswerBody { body, _answering: answering }
    }
}

impl<B: Body + Unpin> Body for AnswerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket as hyper sees it. Not vectored, so that hyper hands over all it has in one piece.
#[derive(Debug)]
pub struct ConnectionIo<T> {
    socket: T,
    progress: Arc<Progress>,
    timeouts: Timeouts,
    /// What the client sent behind its request, not yet asked for by hyper.
    ahead: BytesMut,
    /// Our text of hyper's refusal, not sent yet.
    refusal: Bytes,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
}

#[derive(Debug)]
struct Linger {
    idle: Pin<Box<Sleep>>,
    end: Instant,
    bytes: usize,
}

impl<T: AsyncRead + AsyncWrite + Unpin> ConnectionIo<T> {
    /// Over this socket.
    pub fn new(socket: T, progress: Arc<Progress>, timeouts: Timeouts) -> ConnectionIo<T> {
        let (ahead, refusal) = (BytesMut::new(), Bytes::new());
        ConnectionIo { socket, progress, timeouts, ahead, refusal, stalled: None, linger: None }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.or_stalled(cx, sent)
    }

    fn poll_send_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.refusal.has_remaining() {
            let sent = Pin::new(&mut self.socket).poll_write(cx, &self.refusal);
            let sent = ready!(self.or_stalled(cx, sent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.refusal.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Turns waiting that has lasted too long into an error.
    fn or_stalled<V>(&mut self, cx: &mut Context<'_>, sent: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        if sent.is_ready() {
            self.stalled = None;
            return sent;
        }
        let write = self.timeouts.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(write)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }

    /// Sees to it that the client's leaving wakes and ends the conversation.
    fn check_presence(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut piece = [0; 4096];
        while self.ahead.len() < AHEAD {
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(()) if buffer.filled().is_empty() => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client left"));
                }
                Poll::Ready(()) => self.ahead.extend_from_slice(buffer.filled()),
            }
        }
        Ok(())
    }

    /// Reads until the client closes, sends no more, or has sent too much.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Timeouts { linger_idle, linger, .. } = self.timeouts;
        let state = self.linger.get_or_insert_with(|| Linger {
            idle: Box::pin(tokio::time::sleep(linger_idle)),
            end: Instant::now() + linger,
            bytes: 0,
        });
        let mut scrap = [0; 8192];
        // A client that sends as fast as we read must not keep the thread: 1 MiB, then others.
        for _ in 0..128 {
            let mut buffer = ReadBuf::new(&mut scrap);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => state.bytes += buffer.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return state.idle.as_mut().poll(cx),
            }
            let now = Instant::now();
            if state.bytes > LINGER_BYTES || now >= state.end {
                return Poll::Ready(());
            }
            state.idle.as_mut().reset(now + linger_idle);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for ConnectionIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let piece = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(piece));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ConnectionIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        ready!(wire.poll_send_refusal(cx))?;
        // hyper refuses only where it awaits a head, so never while an answer of ours is under way.
        if wire.progress.is_ours_done()
            && let Some(status) = hypers_refusal(bytes)
        {
            wire.refusal = error::malformed(status).wire();
            wire.progress.set_unread(true);
            return Poll::Ready(Ok(bytes.len()));
        }
        wire.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        ready!(wire.poll_send_refusal(cx))?;
        // hyper flushes the socket only after it has written all it has.
        wire.progress.unflushed.store(false, Ordering::Relaxed);
        // hyper flushes whenever it has gone on with a request.
        if wire.progress.is_answering() {
            wire.check_presence(cx)?;
        }
        Pin::new(&mut wire.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.linger.is_none() {
            ready!(wire.poll_send_refusal(cx))?;
            ready!(Pin::new(&mut wire.socket).poll_shutdown(cx))?;
        }
        if wire.progress.unread.load(Ordering::Relaxed) {
            ready!(wire.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// The status, if these bytes are a whole answer that hyper gives by itself: the only 4xx without a
/// content type, since every error of ours has a body.
fn hypers_refusal(bytes: &[u8]) -> Option<StatusCode> {
    const LONGEST: usize = 256;
    if bytes.len() > LONGEST || !bytes.starts_with(b"HTTP/1.") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = StatusCode::from_bytes(lines.next()?.as_bytes().get(9..12)?).ok()?;
    let bare = lines.all(|line| {
        line == "content-length: 0" || line.starts_with("connection: ") || line.starts_with("date: ")
    });
    (status.is_client_error() && bare).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_refusal_is_found() {
        let check = |bytes: &str, expect: Option<u16>| {
            let found = hypers_refusal(bytes.as_bytes()).map(|status| status.as_u16());
            assert_eq!(found, expect, "{bytes:?}");
        };
        let refusal =
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 14:39:12 GMT\r\n\r\n";
        check(refusal, Some(400));
        check("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", Some(400));
        check("HTTP/1.0 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n", Some(431));
        check("HTTP/1.1 414 URI Too Long\r\n\r\n", Some(414));
        check("", None);
        check("HTTP/1.", None);
        check("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n", None);
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None);
        check("HTTP/1.1 204 No Content\r\nvary: origin\r\n\r\n", None);
        check(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: 70\r\n\r\n",
            None,
        );
        check(&format!("data: x\n\n{refusal}"), None);
        check(&format!("{refusal}{refusal}"), None);
        check("HTTP/1.1 100 Continue\r\n\r\n", None);
    }
}
