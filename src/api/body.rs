//! Reading a request's JSON body: type, encoding, size, time and UTF-8, all bounded.
//!
//! The depth of the JSON is bounded by `serde_json`'s own recursion limit (128): deeper text fails
//! to parse and is a 400 of whoever parses.

use std::fmt;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_compression::tokio::write::{ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::Buf;
use flate2::write::MultiGzDecoder;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::os::memory;
use crate::turn::Failure;

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `max_body_bytes`: the longest body, before and after decompression.
    pub bytes: u64,
    /// The longest silence between two pieces.
    pub idle: Duration,
    /// The longest time for the whole.
    pub total: Duration,
}

impl Limits {
    /// The time-outs in force, for bodies of at most this many bytes.
    pub fn of(bytes: u64) -> Limits {
        Limits { bytes, idle: Duration::from_secs(30), total: Duration::from_secs(300) }
    }
}

/// The memory all bodies, and what is made of them, may take together: `max_buffered_bytes`. Clones
/// share it.
#[derive(Clone, Debug)]
pub struct Buffers {
    taken: Arc<AtomicU64>,
    /// A permit for each [`UNIT`] that may be read at a time.
    readers: Arc<Semaphore>,
    /// Told when something large was given up.
    freed: Arc<Notify>,
    keeps: Keeps,
}

/// Gives up some of what is kept for later and counts too. Whether there was anything.
#[derive(Clone)]
struct Keeps(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Keeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeps")
    }
}

/// What is large enough to give its memory back to the system, in bytes.
const LARGE: u64 = 1 << 20;

/// How long nothing large must have been given up until its memory goes back to the system: the next
/// one would only ask for it again.
const QUIET: Duration = Duration::from_secs(1);

/// How long a thread for blocking work may be idle. What it holds of freed memory goes with it.
pub const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Bodies of so many bytes together are made into conversations at a time: meanwhile they are there
/// twice.
const READ_AT_ONCE: usize = 8 << 20;

/// What the turns of reading are counted in, in bytes.
const UNIT: usize = 64 << 10;

/// The right to read a body now; others wait until it is dropped.
#[derive(Debug)]
pub struct ReadTurn(#[allow(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit);

impl Buffers {
    /// An empty budget.
    pub fn new() -> Buffers {
        Buffers::before(|| false)
    }

    /// An empty budget in which a body goes before what is kept for later: `give_way` gives up some of
    /// that, and says whether there was anything.
    pub fn before(give_way: impl Fn() -> bool + Send + Sync + 'static) -> Buffers {
        Buffers {
            keeps: Keeps(Arc::new(give_way)),
            taken: Arc::default(),
            readers: Arc::new(Semaphore::new(READ_AT_ONCE / UNIT)),
            freed: Arc::default(),
        }
    }

    /// How much is taken, in bytes.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until a body of so many bytes may be read, first come, first served; a body larger than
    /// all that may be read at a time is read alone.
    pub async fn turn(&self, bytes: usize) -> Option<ReadTurn> {
        let units = bytes.min(READ_AT_ONCE).div_ceil(UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // It is never closed.
        Arc::clone(&self.readers).acquire_many_owned(units).await.ok().map(ReadTurn)
    }

    /// Gives memory back to the system after large requests, for ever.
    pub async fn keep_tidy(&self) {
        loop {
            self.freed.notified().await;
            while tokio::time::timeout(QUIET, self.freed.notified()).await.is_ok() {}
            memory::give_back();
            // By then the threads that read those bodies are gone.
            let next = tokio::time::timeout(BLOCKING_KEEP_ALIVE + QUIET, self.freed.notified()).await;
            match next {
                Ok(()) => self.freed.notify_one(),
                Err(_) => memory::give_back(),
            }
        }
    }

    fn claim(&self, max: u64) -> Claim {
        Claim { buffers: self.clone(), max, bytes: 0 }
    }
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers::new()
    }
}

/// A part of the budget; given back when dropped.
#[derive(Debug)]
struct Claim {
    buffers: Buffers,
    max: u64,
    bytes: u64,
}

impl Claim {
    fn grow(&mut self, by: u64) -> Result<(), Failure> {
        let fits = |taken: u64| taken.checked_add(by).filter(|sum| *sum <= self.max);
        let taken = &self.buffers.taken;
        while taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            if !(self.buffers.keeps.0)() {
                return Err(Failure::Overloaded);
            }
        }
        self.bytes += by;
        Ok(())
    }

    /// Counts so many bytes from now on, which are held already.
    fn set(&mut self, bytes: u64) {
        self.buffers.taken.fetch_add(bytes, Ordering::Relaxed);
        self.buffers.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.bytes >= bytes.saturating_add(LARGE) {
            self.buffers.freed.notify_one();
        }
        self.bytes = bytes;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.buffers.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.bytes >= LARGE {
            self.buffers.freed.notify_one();
        }
    }
}

/// A whole body, decompressed and valid UTF-8, and its part of the budget.
#[derive(Debug)]
pub struct Buffered {
    text: String,
    claim: Claim,
}

/// What was made of a body and is kept: its part of the budget.
#[derive(Debug)]
pub struct Held(#[allow(dead_code, reason = "given back when dropped")] Claim);

impl Buffered {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// From now on it is there twice: as it came, and as what is made of it.
    pub fn is_read(&mut self) {
        self.claim.set(2 * self.text.len() as u64);
    }

    /// Gives the text up for what was made of it, which takes so many bytes.
    pub fn becomes(self, bytes: u64) -> Held {
        let Buffered { text, mut claim } = self;
        let large = text.len() as u64 >= LARGE;
        drop(text);
        claim.set(bytes);
        if large {
            // What is made of the next one would be there beside what this one leaves.
            memory::purge();
        }
        Held(claim)
    }
}

/// Reads a body to its end.
///
/// `max_buffered` is `max_buffered_bytes`, the size of the shared budget.
///
/// # Errors
/// [`Failure::UnsupportedMediaType`], [`Failure::BodyTooLarge`], [`Failure::BodyTimeout`],
/// [`Failure::Overloaded`], or [`Failure::BadRequest`] for a body that is broken.
pub async fn read<B: Buf, E>(
    headers: &HeaderMap,
    body: impl Stream<Item = Result<B, E>>,
    limits: Limits,
    buffers: &Buffers,
    max_buffered: u64,
) -> Result<Buffered, Failure> {
    check_content_type(headers)?;
    let coding = Coding::of(headers)?;
    let too_large = Failure::BodyTooLarge { limit: limits.bytes };
    // Refused before it is read, so that a client that waits for `100 Continue` sends nothing.
    let announced = announced_length(headers);
    if announced.is_some_and(|length| length > limits.bytes) {
        return Err(too_large);
    }
    let announced = announced.filter(|_| coding == Coding::Identity);
    let mut text = Text {
        bytes: Vec::new(),
        announced,
        limit: limits.bytes,
        claim: buffers.claim(max_buffered),
        refusal: None,
    };
    let result = fill(coding.decoder(&mut text), body, limits).await;
    // The decoder reports only that its writer failed; the writer knows why.
    if let Some(failure) = text.refusal {
        return Err(failure);
    }
    result?;
    if text.bytes.capacity() > UNIT {
        text.bytes.shrink_to_fit();
    }
    let Ok(mut utf8) = String::from_utf8(text.bytes) else {
        return Err(broken("The request body is not valid UTF-8."));
    };
    // RFC 8259 lets a reader of JSON ignore it, and some clients on Windows write it.
    const BYTE_ORDER_MARK: char = '\u{feff}';
    if utf8.starts_with(BYTE_ORDER_MARK) {
        utf8.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(Buffered { text: utf8, claim: text.claim })
}

/// Feeds every piece through the decoder, in time.
async fn fill<B: Buf, E>(
    mut decoder: Decoder<'_>,
    body: impl Stream<Item = Result<B, E>>,
    limits: Limits,
) -> Result<(), Failure> {
    let undecodable = |_| broken("The request body does not decompress as its Content-Encoding says.");
    let mut body = std::pin::pin!(body);
    let end = tokio::time::Instant::now() + limits.total;
    let mut received: u64 = 0;
    loop {
        let silent = tokio::time::Instant::now() + limits.idle;
        let piece = tokio::time::timeout_at(silent.min(end), body.next()).await.map_err(|_| {
            Failure::BodyTimeout { after: if silent < end { limits.idle } else { limits.total } }
        })?;
        let mut piece = match piece {
            None => break,
            Some(Ok(piece)) => piece,
            Some(Err(_)) => {
                return Err(broken("The request body is incomplete or its chunks are malformed."));
            }
        };
        received = received.saturating_add(piece.remaining() as u64);
        if received > limits.bytes {
            return Err(Failure::BodyTooLarge { limit: limits.bytes });
        }
        while piece.has_remaining() {
            let chunk = piece.chunk();
            decoder.write_all(chunk).await.map_err(undecodable)?;
            piece.advance(chunk.len());
        }
    }
    // Also the check that the compressed data is complete.
    decoder.shutdown().await.map_err(undecodable)
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let refused = |what: String| {
        Err(Failure::UnsupportedMediaType {
            message: format!("{what} Send `Content-Type: application/json`."),
        })
    };
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(first), None) = (types.next(), types.next()) else {
        return refused("The request must say once what its body is.".into());
    };
    let first = String::from_utf8_lossy(first.as_bytes());
    let media_type = first.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    refused("The request body is not declared as JSON.".into())
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn broken(message: &str) -> Failure {
    Failure::BadRequest { at: None, message: message.into() }
}

/// How the body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

type Decoder<'a> = Box<dyn AsyncWrite + Send + Unpin + 'a>;

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Coding, Failure> {
        let values =
            headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let named = values.collect::<Vec<_>>().join(",").to_ascii_lowercase();
        match named.trim() {
            "" | "identity" => Ok(Coding::Identity),
            "gzip" | "x-gzip" => Ok(Coding::Gzip),
            "deflate" => Ok(Coding::Deflate),
            "zstd" => Ok(Coding::Zstd),
            _ => Err(Failure::UnsupportedMediaType {
                message: "This Content-Encoding is not supported. Send gzip, deflate, zstd, or none, once."
                    .into(),
            }),
        }
    }

    fn decoder(self, text: &mut Text) -> Decoder<'_> {
        // RFC 9659: nobody may need more than 8 MiB (2^23) of window for zstd over HTTP.
        const WINDOW_LOG: u32 = 23;
        match self {
            Coding::Identity => Box::new(text),
            Coding::Gzip => Box::new(Gzip(MultiGzDecoder::new(text))),
            Coding::Deflate => Box::new(ZlibDecoder::new(text)),
            Coding::Zstd => {
                Box::new(ZstdDecoder::with_params(text, &[DParameter::window_log_max(WINDOW_LOG)]))
            }
        }
    }
}

/// gzip of any number of members, one after the other, as RFC 1952 has it.
struct Gzip<'a>(MultiGzDecoder<&'a mut Text>);

impl AsyncWrite for Gzip<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(piece))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.try_finish())
    }
}

/// Where the decoded bytes go: no further than the limits, so that a bomb stops there.
struct Text {
    bytes: Vec<u8>,
    /// How long it will be, if that is known.
    announced: Option<u64>,
    limit: u64,
    claim: Claim,
    refusal: Option<Failure>,
}

impl Text {
    fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if (self.bytes.len() + piece.len()) as u64 > self.limit {
            return Err(Failure::BodyTooLarge { limit: self.limit });
        }
        self.claim.grow(piece.len() as u64)?;
        self.make_room(piece.len());
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

impl Text {
    /// A buffer that grows is there twice while it does: once a client has begun to send what it
    /// announced, there is room for all of it.
    fn make_room(&mut self, more: usize) {
        let grows = self.bytes.len() + more > self.bytes.capacity().max(UNIT);
        if grows && let Some(all) = self.announced.take() {
            let rest = usize::try_from(all).unwrap_or(0).saturating_sub(self.bytes.len());
            // Without it, it grows as it must.
            let _ = self.bytes.try_reserve_exact(rest);
        }
    }
}

impl Write for Text {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.push(piece).map(|()| piece.len()).map_err(|failure| {
            self.refusal = Some(failure);
            io::Error::other("refused")
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncWrite for Text {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Write::write(&mut *self, piece))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
