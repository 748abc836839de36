//! A log that never makes the caller wait.
//!
//! A pipe whose reader stalls, or a journal that does, would otherwise stop the worker thread that
//! happens to log, and with it every stream it serves. Lines go to one thread through a bounded
//! queue; when that is full they are counted and dropped, and the count is told once there is room
//! again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// How many lines may wait for a slow reader.
const CAPACITY: usize = 1024;
/// How long the end of the program waits for them.
const FLUSH: Duration = Duration::from_secs(1);
/// Lines that come sooner than this after others are taken together.
const PAUSE: Duration = Duration::from_millis(5);

/// Where lines end up; it may take its time.
pub(super) trait Sink: Send + 'static {
    /// What it calls a line.
    type Line: Send + 'static;

    /// Takes the next line.
    fn take(&mut self, line: Self::Line);

    /// No further line is there for the moment.
    fn rest(&mut self) {}
}

enum Item<L> {
    Line(L),
    Flush(SyncSender<()>),
}

/// The sending side.
#[derive(Debug)]
pub(super) struct Queue<L> {
    items: SyncSender<Item<L>>,
    dropped: Arc<AtomicU64>,
}

impl<L> Clone for Queue<L> {
    fn clone(&self) -> Queue<L> {
        Queue { items: self.items.clone(), dropped: Arc::clone(&self.dropped) }
    }
}

impl<L: Send + 'static> Queue<L> {
    /// Starts the thread that feeds `sink`.
    ///
    /// # Errors
    /// There can be no further thread.
    pub(super) fn start(sink: impl Sink<Line = L>) -> io::Result<Queue<L>> {
        let (queue, items) = sync_channel(CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".into()).spawn(move || feed(&items, &count, sink))?;
        Ok(Queue { items: queue, dropped })
    }

    /// Hands a line over, or counts it as dropped.
    pub(super) fn put(&self, line: L) {
        if self.items.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every line so far was taken, a second at most.
    pub(super) fn flush(&self) {
        let end = Instant::now() + FLUSH;
        let (done, taken) = sync_channel(1);
        let mut item = Item::Flush(done);
        while let Err(TrySendError::Full(back)) = self.items.try_send(item) {
            if Instant::now() >= end {
                return;
            }
            item = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = taken.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn feed<L>(items: &Receiver<Item<L>>, dropped: &AtomicU64, mut sink: impl Sink<Line = L>) {
    let mut last = None::<Instant>;
    while let Ok(first) = items.recv() {
        // Under load a wake-up for each line would cost as much as the requests.
        if let Some(rest) = last.and_then(|last| PAUSE.checked_sub(last.elapsed())) {
            std::thread::sleep(rest);
        }
        let mut flushed = None;
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Line(line) => sink.take(line),
                Item::Flush(done) => flushed = Some(done),
            }
            next = if flushed.is_none() { items.try_recv().ok() } else { None };
        }
        sink.rest();
        last = Some(Instant::now());
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // Through the queue like any line, to come out in the format that was asked for.
            tracing::warn!("{lost} log lines dropped: whoever takes them does not keep up");
        }
        if let Some(done) = flushed {
            if lost > 0 {
                last_words(items, &mut sink);
            }
            let _ = done.try_send(());
        }
    }
}

/// Takes what came after a flush was asked for: how much was lost belongs to it.
fn last_words<L>(items: &Receiver<Item<L>>, sink: &mut impl Sink<Line = L>) {
    for item in items.try_iter().take(CAPACITY) {
        match item {
            Item::Line(line) => sink.take(line),
            Item::Flush(done) => {
                sink.rest();
                let _ = done.try_send(());
            }
        }
    }
    sink.rest();
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    /// Says that it has a line, and takes it when told to.
    struct Slow {
        begun: SyncSender<()>,
        go: Receiver<()>,
        lines: Arc<Mutex<Vec<usize>>>,
    }

    impl Sink for Slow {
        type Line = usize;

        fn take(&mut self, line: usize) {
            let _ = self.begun.try_send(());
            let _ = self.go.recv();
            self.lines.lock().unwrap().push(line);
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_dropped() {
        let ((begun, first), (release, go)) = (sync_channel(1), channel());
        let lines = Arc::new(Mutex::new(vec![]));
        let queue = Queue::start(Slow { begun, go, lines: Arc::clone(&lines) }).unwrap();
        queue.put(0);
        first.recv().unwrap();
        for waiting in 1..=CAPACITY {
            queue.put(waiting);
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 0);
        for lost in 1..=3 {
            queue.put(usize::MAX);
            assert_eq!(queue.dropped.load(Ordering::Relaxed), lost);
        }
        drop(release);
        queue.flush();
        assert_eq!(*lines.lock().unwrap(), (0..=CAPACITY).collect::<Vec<_>>());
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 0);
    }
}
