//! A log writer that never makes the caller wait.
//!
//! A pipe whose reader stalls, or a journal that does, would otherwise stop the worker thread that
//! happens to log, and with it every stream it serves. Lines go to one thread through a bounded queue; when that is
//! full they are counted and dropped, and the count is written once there is room again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait for a slow reader.
const CAPACITY: usize = 1024;
/// How long the end of the program waits for them.
const FLUSH: Duration = Duration::from_secs(1);
/// Lines that come sooner than this after a write are written together, in bytes at most [`BATCH`].
const PAUSE: Duration = Duration::from_millis(5);
const BATCH: usize = 64 << 10;

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The sending side; each write is one whole line, or one whole entry of the journal.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread that writes to `to`, each entry by itself.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Writer> {
        Writer::writing(to, 0)
    }

    /// The same for a stream of lines: those that come close together are written together.
    pub(super) fn start_lines(to: impl Write + Send + 'static) -> io::Result<Writer> {
        Writer::writing(to, BATCH)
    }

    fn writing(to: impl Write + Send + 'static, together: usize) -> io::Result<Writer> {
        let (queue, items) = sync_channel(CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        let work = move || write_all(&items, &count, to, together);
        std::thread::Builder::new().name("log".into()).spawn(work)?;
        Ok(Writer { queue, dropped })
    }

    /// Waits until everything logged so far is written, a second at most.
    pub(super) fn flush_queue(&self) {
        let end = Instant::now() + FLUSH;
        let (done, written) = sync_channel(1);
        let mut item = Item::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(item) {
            if Instant::now() >= end {
                return;
            }
            item = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// Writes what comes, up to `together` bytes of lines in one piece; 0: each item by itself.
fn write_all(items: &Receiver<Item>, dropped: &AtomicU64, mut to: impl Write, together: usize) {
    let (mut batch, mut last) = (Vec::new(), None::<Instant>);
    while let Ok(first) = items.recv() {
        // Under load a wake-up and a write for each line would cost as much as the requests.
        let rest = last.and_then(|last: Instant| PAUSE.checked_sub(last.elapsed()));
        if let Some(rest) = rest.filter(|_| together > 0) {
            std::thread::sleep(rest);
        }
        let mut flushed = None;
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Line(line) => batch.extend_from_slice(&line),
                Item::Flush(done) => flushed = Some(done),
            }
            let more = batch.len() < together && flushed.is_none();
            next = if more { items.try_recv().ok() } else { None };
        }
        if !batch.is_empty() {
            // Nobody is left to tell when stderr is closed or the journal gone; the server goes on.
            let _ = to.write_all(&batch);
            batch.clear();
            last = Some(Instant::now());
        }
        if let Some(done) = flushed {
            let _ = to.flush();
            let _ = done.try_send(());
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // Through the queue like any line, to come out in the format that was asked for.
            tracing::warn!("{lost} log lines dropped: whoever takes them does not keep up");
        }
    }
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Item::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    /// Says that a write began, and ends it when told to.
    struct Slow {
        begun: SyncSender<()>,
        go: Receiver<()>,
        writes: Arc<Mutex<Vec<usize>>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.begun.try_send(());
            let _ = self.go.recv();
            self.writes.lock().unwrap().push(line.split(|byte| *byte == b'\n').count() - 1);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// How many lines each write had.
    fn writes(start: impl Fn(Slow) -> io::Result<Writer>) -> Vec<usize> {
        let ((begun, first), (release, go)) = (sync_channel(1), channel());
        let writes = Arc::new(Mutex::new(vec![]));
        let mut writer = start(Slow { begun, go, writes: Arc::clone(&writes) }).unwrap();
        writer.write_all(b"in hand\n").unwrap();
        first.recv().unwrap();
        for _ in 0..CAPACITY {
            writer.write_all(b"waiting\n").unwrap();
        }
        assert_eq!(writer.dropped.load(Ordering::Relaxed), 0);
        for lost in 1..=3 {
            writer.write_all(b"lost\n").unwrap();
            assert_eq!(writer.dropped.load(Ordering::Relaxed), lost);
        }
        drop(release);
        writer.flush_queue();
        assert_eq!(writer.dropped.load(Ordering::Relaxed), 0);
        let writes = writes.lock().unwrap();
        writes.clone()
    }

    #[test]
    fn what_does_not_fit_is_counted_and_dropped() {
        assert_eq!(writes(Writer::start), [1; CAPACITY + 1], "an entry of the journal is one write");
        assert_eq!(writes(Writer::start_lines), [1, CAPACITY], "lines go together");
    }
}
