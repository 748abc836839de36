//! What is said to the app-server, on its way to the pipe: in pieces where it is long, so that it is
//! never there as a whole beside what it was made of.

use std::io;

use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::turn::pace::apart;

/// Messages that may wait for the pipe: every request in flight and as many answers.
pub(super) const LONGEST_QUEUE: usize = 2 * super::IN_FLIGHT;

/// Small messages are written together up to this many bytes, and long ones in pieces of that length.
pub(super) const BATCH: usize = 64 << 10;

/// Messages on their way to the pipe; goes to [`write()`].
#[derive(Debug)]
pub struct Outbox(pub(super) mpsc::Receiver<Message>);

/// One line, in pieces.
pub(super) struct Message {
    /// How long it is altogether.
    bytes: usize,
    /// The first piece, all of most messages.
    first: Vec<u8>,
    /// What follows; made as it is written.
    more: Option<Box<dyn Iterator<Item = Vec<u8>> + Send>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} bytes)", self.bytes)
    }
}

impl From<String> for Message {
    fn from(line: String) -> Message {
        Message { bytes: line.len(), first: line.into(), more: None }
    }
}

impl Message {
    /// A line of these pieces, which are the same at each going through.
    pub(super) fn of(pieces: impl Iterator<Item = Vec<u8>> + Clone + Send + 'static) -> Message {
        let mut rest = pieces;
        let mut first = Vec::new();
        for piece in rest.by_ref() {
            if first.is_empty() {
                first = piece;
            } else {
                first.extend_from_slice(&piece);
            }
            if first.len() >= BATCH {
                break;
            }
        }
        let more: usize = rest.clone().map(|piece| piece.len()).sum();
        let bytes = first.len() + more;
        Message { bytes, first, more: (more > 0).then(|| Box::new(rest) as _) }
    }

    /// The line of a value in JSON.
    ///
    /// # Errors
    /// What serde said of the value.
    pub(super) fn json(value: &impl Serialize) -> serde_json::Result<Message> {
        let mut pieces = json(value)?;
        match pieces.last_mut() {
            Some(last) => last.push(b'\n'),
            None => pieces.push(vec![b'\n']),
        }
        let bytes = pieces.iter().map(Vec::len).sum();
        let mut pieces = pieces.into_iter();
        let first = pieces.next().unwrap_or_default();
        Ok(Message { bytes, first, more: (pieces.len() > 0).then(|| Box::new(pieces) as _) })
    }

    /// How long it is, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }
}

/// A value in JSON, in pieces of [`BATCH`] bytes: a buffer that grows would be there twice while it does.
///
/// # Errors
/// What serde said of the value.
pub fn json(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Vec<Vec<u8>>> {
    let mut pieces = Pieces::default();
    serde_json::to_writer(&mut pieces, value)?;
    Ok(pieces.0)
}

#[derive(Default)]
struct Pieces(Vec<Vec<u8>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.last().is_none_or(|last| last.len() >= BATCH) {
            // Most messages are short, and the first piece of them need not grow.
            self.0.push(Vec::with_capacity(if self.0.is_empty() { 512 } else { BATCH }));
        }
        let Some(last) = self.0.last_mut() else { return Ok(0) };
        let taken = bytes.len().min(BATCH - last.len());
        last.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes messages to the pipe, small ones together, until the connection or the pipe is gone. Gives
/// how many bytes the pipe took.
pub async fn write(Outbox(mut queue): Outbox, mut pipe: impl AsyncWrite + Unpin) -> u64 {
    let (mut batch, mut taken, mut next) = (Vec::new(), 0, None);
    loop {
        let message = match next.take() {
            Some(message) => message,
            None => {
                let Some(message) = queue.recv().await else { return taken };
                // Whoever else has something to say now says it first: one write, and one reading of
                // it by the app-server, then serve many turns.
                tokio::task::yield_now().await;
                message
            }
        };
        let Message { bytes, first, mut more } = message;
        batch.clear();
        if first.len() > BATCH {
            batch = first;
        } else {
            batch.extend_from_slice(&first);
        }
        while more.is_none()
            && batch.len() < BATCH
            && let Ok(message) = queue.try_recv()
        {
            if message.bytes > BATCH {
                next = Some(message);
                break;
            }
            batch.extend_from_slice(&message.first);
            more = message.more;
        }
        // A pipe that is gone: the reader sees the end of the process and says why.
        if !put(&mut pipe, &batch, &mut taken).await {
            return taken;
        }
        while let Some(piece) = more.as_mut().and_then(|more| apart(bytes, || more.next())) {
            if !put(&mut pipe, &piece, &mut taken).await {
                return taken;
            }
        }
        if pipe.flush().await.is_err() {
            return taken;
        }
        if batch.capacity() > 4 * BATCH {
            batch = Vec::new();
        }
    }
}

/// Whether the pipe took all of it.
async fn put(pipe: &mut (impl AsyncWrite + Unpin), mut rest: &[u8], taken: &mut u64) -> bool {
    while !rest.is_empty() {
        let Ok(bytes @ 1..) = pipe.write(rest).await else { return false };
        *taken += bytes as u64;
        rest = &rest[bytes..];
    }
    true
}
