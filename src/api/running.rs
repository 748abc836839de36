//! The generation requests whose turns run or wait: who asked, for how long, how much was said, and how
//! to end one from outside.
//!
//! A request is here from its place in the queue to its last turn's end, whichever way it ends: its
//! [`Entered`] is dropped with its turns. The way of a delta does one atomic addition here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::SystemTime;

use futures_util::task::AtomicWaker;

use super::ids;
use crate::turn::Caller;

/// Its turns wait for slots.
const QUEUED: u8 = 0;
/// At least one has had its slot.
const RUNNING: u8 = 1;
/// Somebody has ended it.
const INTERRUPTED: u8 = 2;
/// All its turns have ended.
const OVER: u8 = 3;

/// What is known of a request as it enters.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The `x-request-id` of its answer.
    pub request_id: String,
    /// Who asked.
    pub caller: Caller,
    /// What the caller is called.
    pub name: Option<Arc<str>>,
    /// The model, as the client sent it.
    pub model: String,
}

/// A request, shared by its turns and by who looks.
#[derive(Debug)]
struct Entry {
    id: String,
    asker: Asker,
    queued: SystemTime,
    began: Mutex<Option<SystemTime>>,
    characters: AtomicU64,
    state: AtomicU8,
    waker: AtomicWaker,
}

/// A request as somebody sees it who looks.
#[derive(Clone, Debug)]
pub struct Seen {
    /// By what it can be interrupted.
    pub id: String,
    /// Who asks what.
    pub asker: Asker,
    /// Whether it has begun.
    pub running: bool,
    /// Since when it runs; since when it waits, if it does.
    pub since: SystemTime,
    /// How much of its answers was said, in characters.
    pub characters: u64,
}

/// All of them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// In the order in which they came.
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
    next: AtomicU64,
}

/// Why a request was not interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInterrupted {
    /// There is none, or its turns have ended.
    Gone,
    /// It is another's.
    Anothers,
}

impl Running {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        // Nothing can panic while it is held.
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request comes in.
    pub fn enter(&self, asker: Asker) -> Entered {
        let entry = Arc::new(Entry {
            id: ids::fresh("turn_"),
            asker,
            queued: SystemTime::now(),
            began: Mutex::new(None),
            characters: AtomicU64::new(0),
            state: AtomicU8::new(QUEUED),
            waker: AtomicWaker::new(),
        });
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.entries().insert(number, Arc::clone(&entry));
        Entered { entry, number, all: self.clone(), told: AtomicBool::new(false) }
    }

    /// Those that are here now, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        let entries: Vec<Arc<Entry>> = self.entries().values().cloned().collect();
        entries.iter().map(|entry| entry.seen()).collect()
    }

    /// Ends one, if `may` allows it to be ended by who asks for that. Once this has succeeded, its client
    /// hears of it and of nothing else.
    ///
    /// # Errors
    /// Why it was not ended.
    pub fn interrupt(&self, id: &str, may: impl FnOnce(&Caller) -> bool) -> Result<(), NotInterrupted> {
        let entry = self.entries().values().find(|entry| entry.id == id).cloned();
        let entry = entry.ok_or(NotInterrupted::Gone)?;
        if !may(&entry.asker.caller) {
            return Err(NotInterrupted::Anothers);
        }
        let interrupt = |state| (state < INTERRUPTED).then_some(INTERRUPTED);
        let interrupted = entry.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, interrupt);
        if interrupted == Err(OVER) {
            return Err(NotInterrupted::Gone);
        }
        entry.waker.wake();
        Ok(())
    }
}

impl Entry {
    fn seen(&self) -> Seen {
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        Seen {
            id: self.id.clone(),
            asker: self.asker.clone(),
            running: began.is_some(),
            since: began.unwrap_or(self.queued),
            characters: self.characters.load(Ordering::Relaxed),
        }
    }
}

/// A request that is here, until dropped.
#[derive(Debug)]
pub struct Entered {
    entry: Arc<Entry>,
    number: u64,
    all: Running,
    told: AtomicBool,
}

impl Entered {
    /// A turn of it has its slot.
    pub fn begins(&self) {
        if self.entry.state.compare_exchange(QUEUED, RUNNING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            *self.entry.began.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
        }
    }

    /// So much more was said.
    pub fn said(&self, text: &str) {
        self.entry.characters.fetch_add(text.chars().count() as u64, Ordering::Relaxed);
    }

    /// Whether somebody has ended it, told once.
    pub fn is_interrupted(&self) -> bool {
        self.entry.state.load(Ordering::Acquire) == INTERRUPTED && !self.told.swap(true, Ordering::Relaxed)
    }

    /// Has the task woken when somebody ends it.
    pub fn wake(&self, cx: &Context<'_>) {
        self.entry.waker.register(cx.waker());
    }

    /// Its turns have all ended: nobody can end it any more, and nobody sees it. Whether somebody had ended it
    /// just before, and it was not told.
    pub fn over(&self) -> bool {
        let before = self.entry.state.swap(OVER, Ordering::AcqRel);
        self.all.entries().remove(&self.number);
        before == INTERRUPTED && !self.told.swap(true, Ordering::Relaxed)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(uid: u32) -> Asker {
        Asker { request_id: format!("req-{uid}"), caller: Caller::User(uid), name: None, model: "m".into() }
    }

    #[test]
    fn a_request_is_seen_from_its_place_to_its_end() {
        let running = Running::default();
        let (first, second) = (running.enter(asker(1)), running.enter(asker(2)));
        let seen =
            || running.seen().into_iter().map(|one| (one.asker.request_id, one.running, one.characters));
        assert!(seen().eq([("req-1".to_owned(), false, 0), ("req-2".to_owned(), false, 0)]));
        second.begins();
        second.said("häß");
        second.said("lich");
        assert!(seen().eq([("req-1".to_owned(), false, 0), ("req-2".to_owned(), true, 7)]));
        drop(first);
        assert!(seen().eq([("req-2".to_owned(), true, 7)]));
        assert!(!second.over(), "nobody ended it");
        assert!(running.seen().is_empty());
    }

    #[test]
    fn who_is_told_that_it_is_interrupted_is_told_the_truth() {
        let running = Running::default();
        let request = running.enter(asker(1));
        let id = running.seen()[0].id.clone();
        assert_eq!(running.interrupt("turn_x", |_| true), Err(NotInterrupted::Gone));
        assert_eq!(
            running.interrupt(&id, |caller| *caller == Caller::User(2)),
            Err(NotInterrupted::Anothers)
        );
        assert!(!request.is_interrupted());
        assert_eq!(running.interrupt(&id, |caller| *caller == Caller::User(1)), Ok(()));
        assert_eq!(running.interrupt(&id, |_| true), Ok(()), "twice is the same");
        assert_eq!((request.is_interrupted(), request.is_interrupted()), (true, false), "told once");
        assert!(!request.over(), "and not again");

        // The last turn ends between the interruption and its being heard of.
        let request = running.enter(asker(1));
        let id = running.seen()[0].id.clone();
        request.begins();
        assert_eq!(running.interrupt(&id, |_| true), Ok(()));
        assert!(request.over());

        // It ends first.
        let request = running.enter(asker(1));
        let id = running.seen()[0].id.clone();
        assert!(!request.over());
        assert_eq!(running.interrupt(&id, |_| true), Err(NotInterrupted::Gone));
        assert!(!request.is_interrupted());
    }
}
