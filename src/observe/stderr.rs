//! A log writer that never makes the caller wait.
//!
//! A pipe whose reader stalls would otherwise stop the worker thread that happens to log, and
//! with it every stream it serves. Lines go to one thread through a bounded queue; when that is
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

/// The sending side; each write is one whole line.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread that writes to `to`.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Writer> {
        let (queue, items) = sync_channel(CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".into()).spawn(move || write_all(&items, &count, to))?;
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

fn write_all(items: &Receiver<Item>, dropped: &AtomicU64, mut to: impl Write) {
    let (mut batch, mut last) = (Vec::new(), None::<Instant>);
    while let Ok(first) = items.recv() {
        // Under load a wake-up and a write for each line would cost as much as the requests.
        if let Some(rest) = last.and_then(|last| PAUSE.checked_sub(last.elapsed())) {
            std::thread::sleep(rest);
        }
        let mut flushed = None;
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Line(line) => batch.extend_from_slice(&line),
                Item::Flush(done) => flushed = Some(done),
            }
            let more = batch.len() < BATCH && flushed.is_none();
            next = if more { items.try_recv().ok() } else { None };
        }
        // Nobody is left to tell when stderr is closed; the server goes on without a log.
        let _ = to.write_all(&batch);
        batch.clear();
        last = Some(Instant::now());
        if let Some(done) = flushed {
            let _ = to.flush();
            let _ = done.try_send(());
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // Through the queue like any line, to come out in the format that was asked for.
            tracing::warn!("{lost} log lines dropped: the reader of stderr does not keep up");
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
        lines: Arc<Mutex<usize>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.begun.try_send(());
            let _ = self.go.recv();
            *self.lines.lock().unwrap() += line.split(|byte| *byte == b'\n').count() - 1;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_dropped() {
        let ((begun, first), (release, go)) = (sync_channel(1), channel());
        let lines = Arc::new(Mutex::new(0));
        let mut writer = Writer::start(Slow { begun, go, lines: Arc::clone(&lines) }).unwrap();
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
        assert_eq!(*lines.lock().unwrap(), CAPACITY + 1);
        assert_eq!(writer.dropped.load(Ordering::Relaxed), 0);
    }
}
