//! Which threads are kept for the next request of their conversation, and for how long. No clock,
//! no I/O: a bounded list, of which the longest unused goes first.

use std::hash::RandomState;
use std::time::{Duration, Instant};

use super::past::{Past, goes_on};
use crate::turn::Turn;

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many threads.
    pub most: usize,
    /// For so long.
    pub lasts: Duration,
    /// With so much text together, in bytes.
    pub bytes: usize,
}

/// Threads by what they hold. What leaves it is handed out, for somebody has to release it.
#[derive(Debug)]
pub struct Parking<T> {
    spots: Vec<Spot<T>>,
    next: u64,
    hasher: RandomState,
}

#[derive(Debug)]
struct Spot<T> {
    number: u64,
    digest: u64,
    past: Past,
    bytes: usize,
    until: Instant,
    thread: T,
}

impl<T> Default for Parking<T> {
    fn default() -> Parking<T> {
        Parking { spots: Vec::new(), next: 0, hasher: RandomState::new() }
    }
}

impl<T> Parking<T> {
    /// Keeps a thread. Gives its number, and what had to leave for it: perhaps itself.
    pub fn park(&mut self, past: Past, thread: T, limits: Limits, now: Instant) -> (u64, Vec<T>) {
        self.next += 1;
        let (digest, bytes) = (past.digest(&self.hasher), past.bytes());
        let until = now + limits.lasts;
        self.spots.push(Spot { number: self.next, digest, past, bytes, until, thread });
        let total = |spots: &[Spot<T>]| spots.iter().map(|spot| spot.bytes).sum::<usize>();
        // One that alone is too much does not drive out the others.
        let over = if bytes > limits.bytes { self.spots.pop() } else { None };
        let mut gone: Vec<T> = over.into_iter().map(|spot| spot.thread).collect();
        while self.spots.len() > limits.most || total(&self.spots) > limits.bytes {
            gone.push(self.spots.remove(0).thread);
        }
        (self.next, gone)
    }

    /// The thread that this request goes on from, and the item at which it does.
    pub fn take(&mut self, turn: &Turn, now: Instant) -> Option<(T, usize)> {
        if self.spots.is_empty() {
            return None;
        }
        let (at, digest) = goes_on(turn, &self.hasher)?;
        let fits =
            |spot: &Spot<T>| spot.digest == digest && spot.until > now && spot.past.continues(turn, at);
        let index = self.spots.iter().rposition(fits)?;
        Some((self.spots.remove(index).thread, at))
    }

    /// What is over by now.
    pub fn expired(&mut self, now: Instant) -> Vec<T> {
        self.leave(|spot| spot.until <= now)
    }

    /// What was kept first leaves.
    pub fn remove_first(&mut self) -> Option<T> {
        (!self.spots.is_empty()).then(|| self.spots.remove(0).thread)
    }

    /// What matches, and so leaves.
    pub fn remove(&mut self, which: impl Fn(u64, &T) -> bool) -> Vec<T> {
        self.leave(|spot| which(spot.number, &spot.thread))
    }

    fn leave(&mut self, which: impl Fn(&Spot<T>) -> bool) -> Vec<T> {
        let leaving = self.spots.extract_if(.., |spot| which(spot));
        leaving.map(|spot| spot.thread).collect()
    }

    /// When the next one is over.
    pub fn next_end(&self) -> Option<Instant> {
        self.spots.iter().map(|spot| spot.until).min()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spots.len()
    }
}

#[cfg(test)]
mod tests;
