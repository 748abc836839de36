//! Lines of text on their way to stderr.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use super::queue::{Queue, Sink};

/// So many bytes are written at once at most, but for a longer line.
const BATCH: usize = 64 << 10;

/// The sending side; each write is one whole line.
#[derive(Clone, Debug)]
pub(super) struct Writer(Queue<Vec<u8>>);

impl Writer {
    /// Starts the thread that writes to `to`.
    ///
    /// # Errors
    /// There can be no further thread.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Writer> {
        Queue::start(Lines { to, batch: Vec::new() }).map(Writer)
    }

    /// Its queue.
    pub(super) fn queue(&self) -> Queue<Vec<u8>> {
        self.0.clone()
    }
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        self.clone()
    }
}

/// Writes lines that come together at once.
struct Lines<W> {
    to: W,
    batch: Vec<u8>,
}

impl<W: Write + Send + 'static> Sink for Lines<W> {
    type Line = Vec<u8>;

    fn take(&mut self, line: Vec<u8>) {
        if self.batch.len() + line.len() > BATCH {
            self.rest();
        }
        self.batch.extend_from_slice(&line);
    }

    fn rest(&mut self) {
        // Nobody is left to tell when stderr is closed; the server goes on without a log.
        let _ = self.to.write_all(&self.batch).and_then(|()| self.to.flush());
        self.batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_whole_and_in_batches() {
        let mut lines = Lines { to: Vec::new(), batch: Vec::new() };
        lines.take(vec![b'a'; BATCH - 1]);
        lines.take(vec![b'b']);
        assert!(lines.to.is_empty());
        lines.take(vec![b'c']);
        assert_eq!(lines.to.len(), BATCH);
        lines.take(vec![b'd'; BATCH + 1]);
        lines.rest();
        assert_eq!((lines.to.len(), lines.batch.len()), (2 * BATCH + 2, 0));
        lines.rest();
        assert_eq!(lines.to.len(), 2 * BATCH + 2);
    }
}
