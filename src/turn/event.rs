//! What a running turn reports, and the bounded channel it reports through.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Failure, Finish, Saying, Thought, ToolCall, Usage};

/// One thing that happened in a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A measured phase of the engine's work, for the latency line.
    Phase(Phase, Duration),
    /// A part of a reasoning summary begins; [`Event::Reasoning`] that follows belongs to it.
    ReasoningPart {
        /// The upstream's id of the reasoning item.
        item: String,
    },
    /// More of the model's reasoning summary.
    Reasoning(String),
    /// A whole reasoning item, once it is complete.
    Thought(Thought),
    /// A message begins; [`Event::Text`] that follows belongs to it. An engine that never says so
    /// answers in one message.
    Message {
        /// The upstream's id of it.
        id: String,
        /// What it is said for, where the upstream tells.
        phase: Option<Saying>,
    },
    /// More of the answer; one upstream delta each, never merged or cut.
    Text(String),
    /// A whole function call, in the model's order.
    ToolCall(ToolCall),
    /// The answer is complete. Nothing follows.
    Done {
        /// Why it ended.
        finish: Finish,
        /// What it cost; `None` where Codex did not say (`length` on the exec engine).
        usage: Option<Usage>,
    },
}

macro_rules! phases {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A phase of a request; [`Phase::name`] is its key under `phases_ms` of the latency line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Phase { $($(#[$doc])* $variant,)* }
        impl Phase {
            /// All of them, in the order of the latency line.
            pub const ALL: &'static [Phase] = &[$(Phase::$variant,)*];
            /// The key in the latency line.
            pub fn name(self) -> &'static str {
                match self { $(Phase::$variant => $name,)* }
            }
        }
    };
}

phases! {
    /// Validating the working directory.
    CwdResolve = "cwd_resolve",
    /// Messages to prompt text (exec) or items (app-server).
    PromptBuild = "prompt_build",
    /// Joining the queue to slot granted.
    QueueWait = "queue_wait",
    /// Slot granted to answer known, exec.
    CodexExec = "codex_exec",
    /// Slot granted to answer known, app-server.
    AppServerExec = "app_server_exec",
    /// Building argv and environment.
    CodexCommandBuild = "codex_command_build",
    /// Spawn call to child running.
    CodexProcessSpawn = "codex_process_spawn",
    /// Child running to prompt written and stdin closed.
    CodexStdinWrite = "codex_stdin_write",
    /// Child running to first line of output.
    CodexFirstStdoutEvent = "codex_first_stdout_event",
    /// Child running to first assistant message.
    CodexFirstAssistantEvent = "codex_first_assistant_event",
    /// Child running to end of output.
    CodexStdoutRead = "codex_stdout_read",
    /// End of output to reaped.
    CodexProcessWait = "codex_process_wait",
    /// Child running to reaped with stderr drained.
    CodexCommunicate = "codex_communicate",
    /// All JSONL parsing together.
    CodexOutputParse = "codex_output_parse",
    /// The `thread/start` call.
    AppServerThreadStart = "app_server_thread_start",
    /// The `turn/start` call.
    AppServerTurnStart = "app_server_turn_start",
    /// Turn accepted to first delta.
    AppServerFirstDelta = "app_server_first_delta",
    /// Turn accepted to its end.
    AppServerTurnComplete = "app_server_turn_complete",
    /// Encoding the body, or opening the stream.
    ResponseBuild = "response_build",
    /// Request read to whole reply written.
    Total = "total",
}

/// An event, or why there will be none.
pub type Outcome = Result<Event, Failure>;

/// The client is gone: whoever learns of it interrupts the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Why [`Sink::push`] did not take an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Nobody listens any more.
    Gone,
    /// The listener is too far behind: it took nothing for 30 s while more than 4 MiB waited, or
    /// 64 MiB wait.
    TooSlow,
}

/// How many events may wait for a slow client before [`Sink::send`] waits too.
const CAPACITY: usize = 16;

/// How many bytes of events may wait for a client that takes none of them.
const BACKLOG: usize = 4 << 20;

/// How many bytes of events may wait at all: some four times an answer of 128,000 tokens, an event
/// each, that comes at once.
const LIMIT: usize = 64 << 20;

/// How long a client may take nothing while more than [`BACKLOG`] waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a waiting event costs beside its text, in bytes.
const OVERHEAD: usize = 128;

/// A fresh channel for one turn whose engine waits for a slow client.
pub fn events() -> (Sink, Events) {
    channel(CAPACITY)
}

/// A fresh channel for one turn whose engine cannot wait, because others wait for it.
///
/// A client that reads is never too slow, however fast the events come, as long as they fit in
/// memory: [`Sink::push`] refuses when more than 4 MiB wait and none of them was taken for 30 s, and
/// in any case beyond 64 MiB. One event that alone is larger is taken while less than 4 MiB wait.
pub fn backlogged_events() -> (Sink, Events) {
    // A few places beyond, so that the terminal item always finds one.
    channel(LIMIT / OVERHEAD + 4)
}

fn channel(capacity: usize) -> (Sink, Events) {
    let (sender, receiver) = mpsc::channel(capacity);
    let backlog = Arc::new(Backlog::default());
    let sink = Sink { sender, backlog: Arc::clone(&backlog), standstill: Mutex::new(None) };
    (sink, Events { receiver, backlog, ended: false })
}

/// What is on its way from the engine to the listener.
#[derive(Debug, Default)]
struct Backlog {
    /// Bytes that wait, by [`weight`].
    waiting: AtomicUsize,
    /// Items that were taken.
    taken: AtomicUsize,
}

/// The backlog is full since then, and so many items were taken before.
#[derive(Clone, Copy, Debug)]
struct Standstill {
    since: Instant,
    taken: usize,
}

/// What an item counts against the backlog.
fn weight(item: &Outcome) -> usize {
    OVERHEAD
        + match item {
            Ok(Event::Text(text) | Event::Reasoning(text)) => text.len(),
            Ok(Event::ToolCall(call)) => call.id.len() + call.name.len() + call.arguments.len(),
            Ok(Event::Thought(thought)) => thought.id.len() + thought.bytes(),
            _ => 0,
        }
}

/// The engine's end. Send exactly one [`Event::Done`] or `Err`, last.
#[derive(Debug)]
pub struct Sink {
    sender: mpsc::Sender<Outcome>,
    backlog: Arc<Backlog>,
    /// Of the last time that the backlog was full; outdated once anything was taken.
    standstill: Mutex<Option<Standstill>>,
}

impl Sink {
    /// Hands one item over, waiting while the client is slow.
    ///
    /// # Errors
    /// [`Gone`] once nobody listens.
    pub async fn send(&self, item: Outcome) -> Result<(), Gone> {
        let place = self.sender.reserve().await.map_err(|_| Gone)?;
        self.backlog.waiting.fetch_add(weight(&item), Ordering::Relaxed);
        place.send(item);
        Ok(())
    }

    /// Hands one item over without waiting; the terminal item always. See [`backlogged_events`].
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn push(&self, item: Outcome) -> Result<(), NotTaken> {
        if self.sender.is_closed() {
            return Err(NotTaken::Gone);
        }
        let weight = weight(&item);
        let terminal = matches!(item, Err(_) | Ok(Event::Done { .. }));
        if !terminal && !self.has_room(weight) {
            return Err(NotTaken::TooSlow);
        }
        let place = self.sender.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => NotTaken::TooSlow,
            mpsc::error::TrySendError::Closed(()) => NotTaken::Gone,
        })?;
        self.backlog.waiting.fetch_add(weight, Ordering::Relaxed);
        place.send(item);
        Ok(())
    }

    /// Whether all that was handed over was also heard.
    pub fn is_read(&self) -> bool {
        self.backlog.waiting.load(Ordering::Relaxed) == 0
    }

    fn has_room(&self, weight: usize) -> bool {
        let waiting = self.backlog.waiting.load(Ordering::Relaxed);
        // No client is too slow for what came in one piece.
        let needed = if weight > BACKLOG { OVERHEAD } else { weight };
        if waiting + needed <= BACKLOG {
            return true;
        }
        waiting + weight <= LIMIT && !self.stands_still()
    }

    /// Whether the backlog, full now, was full for long and nothing of it taken.
    fn stands_still(&self) -> bool {
        let (now, taken) = (Instant::now(), self.backlog.taken.load(Ordering::Relaxed));
        let mut standstill = self.standstill.lock().unwrap_or_else(PoisonError::into_inner);
        match *standstill {
            Some(last) if last.taken == taken => now - last.since >= PATIENCE,
            _ => {
                *standstill = Some(Standstill { since: now, taken });
                false
            }
        }
    }

    /// Resolves when nobody listens any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// The listener's end. Dropping it cancels the turn.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Outcome>,
    backlog: Arc<Backlog>,
    ended: bool,
}

impl Events {
    /// The next item; `None` after the terminal one.
    ///
    /// An engine that goes away without a terminal item is itself a failure, reported here, so
    /// that no reply can ever end as complete by accident.
    pub async fn next(&mut self) -> Option<Outcome> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Events::next`], for who listens to several turns at once.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = match ready!(self.receiver.poll_recv(cx)) {
            Some(item) => {
                self.backlog.waiting.fetch_sub(weight(&item), Ordering::Relaxed);
                self.backlog.taken.fetch_add(1, Ordering::Relaxed);
                item
            }
            None => Err(Failure::Internal { detail: "the engine ended the turn without an outcome".into() }),
        };
        self.ended = matches!(item, Err(_) | Ok(Event::Done { .. }));
        Poll::Ready(Some(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_channel_closed_without_an_outcome_is_a_failure() {
        let (sink, mut events) = events();
        sink.send(Ok(Event::Text("half".into()))).await.unwrap();
        drop(sink);
        assert_eq!(events.next().await, Some(Ok(Event::Text("half".into()))));
        assert!(matches!(events.next().await, Some(Err(Failure::Internal { .. }))));
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn nothing_follows_the_terminal_item() {
        let (sink, mut events) = events();
        let done = Event::Done { finish: Finish::Stop, usage: None };
        sink.send(Ok(done.clone())).await.unwrap();
        sink.send(Ok(Event::Text("late".into()))).await.unwrap();
        assert_eq!(events.next().await, Some(Ok(done)));
        assert_eq!(events.next().await, None);
    }

    fn text(bytes: usize) -> Outcome {
        Ok(Event::Text("x".repeat(bytes - OVERHEAD)))
    }

    /// A full backlog of which nothing was taken.
    fn full() -> (Sink, Events) {
        let (sink, events) = backlogged_events();
        for _ in 0..4 {
            assert_eq!(sink.push(text(BACKLOG / 4)), Ok(()));
        }
        (sink, events)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_too_slow_when_it_takes_nothing_for_30_s_of_a_full_backlog() {
        let instant = Duration::from_millis(1);
        let (sink, mut events) = full();
        // As long as the backlog only just fits, nothing counts.
        tokio::time::advance(PATIENCE * 10).await;
        assert_eq!(sink.push(text(OVERHEAD)), Ok(()), "the standstill begins");
        tokio::time::advance(PATIENCE - instant).await;
        assert_eq!(sink.push(text(OVERHEAD)), Ok(()));
        // One item is progress, though the backlog stays full.
        events.next().await.unwrap().unwrap();
        for _ in 0..2 {
            assert_eq!(sink.push(text(BACKLOG)), Ok(()));
        }
        tokio::time::advance(PATIENCE - instant).await;
        assert_eq!(sink.push(text(OVERHEAD)), Ok(()));
        tokio::time::advance(instant).await;
        assert_eq!(sink.push(text(OVERHEAD)), Err(NotTaken::TooSlow));
        assert_eq!(sink.push(text(2 * BACKLOG)), Err(NotTaken::TooSlow), "nor a large one");
        assert_eq!(sink.push(Err(Failure::ClientTooSlow)), Ok(()), "the reason always fits");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backlog_that_gave_way_meanwhile_is_full_anew() {
        let (sink, mut events) = full();
        assert_eq!(sink.push(text(BACKLOG / 4)), Ok(()), "the standstill begins");
        for _ in 0..5 {
            events.next().await.unwrap().unwrap();
        }
        tokio::time::advance(PATIENCE * 10).await;
        assert_eq!(sink.push(text(2 * BACKLOG)), Ok(()));
        assert_eq!(sink.push(text(OVERHEAD)), Ok(()), "a silence of the engine is not the client's");
        tokio::time::advance(PATIENCE).await;
        assert_eq!(sink.push(text(OVERHEAD)), Err(NotTaken::TooSlow));
    }

    #[tokio::test(start_paused = true)]
    async fn the_backlog_is_bounded_in_bytes_and_gives_way_when_read() {
        let (sink, mut events) = backlogged_events();
        assert_eq!(sink.push(text(2 * LIMIT)), Ok(()), "one may be larger than all");
        assert_eq!(sink.push(text(OVERHEAD)), Err(NotTaken::TooSlow));
        events.next().await.unwrap().unwrap();
        for _ in 0..16 {
            assert_eq!(sink.push(text(LIMIT / 16)), Ok(()));
        }
        assert_eq!(sink.push(text(OVERHEAD)), Err(NotTaken::TooSlow));
        events.next().await.unwrap().unwrap();
        assert_eq!(sink.push(text(LIMIT / 16 + 1)), Err(NotTaken::TooSlow));
        assert_eq!(sink.push(text(LIMIT / 16)), Ok(()));
        assert_eq!(sink.push(Err(Failure::ClientTooSlow)), Ok(()), "the reason always fits");
        drop(events);
        assert_eq!(sink.push(text(OVERHEAD)), Err(NotTaken::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn small_events_meet_the_bound_in_bytes_before_the_bound_in_number() {
        let (sink, _events) = backlogged_events();
        let taken = (0..).take_while(|_| sink.push(Ok(Event::Text(String::new()))).is_ok()).count();
        assert_eq!(taken, LIMIT / OVERHEAD);
        assert_eq!(sink.push(Err(Failure::ClientTooSlow)), Ok(()), "the reason always fits");
    }
}
