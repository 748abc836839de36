//! Memory that was freed, given back to the system.
//!
//! The allocator keeps what a thread has freed for that thread, and looks through it when that thread
//! asks for more: one that sleeps keeps it. So each thread of the runtime looks through its own when it
//! next has nothing to do.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often it was asked to give back.
static ASKED: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Up to which of them this thread has.
    static DONE: Cell<u32> = const { Cell::new(0) };
}

/// Asks every thread to give back what it has freed, and does so for this one.
pub fn give_back() {
    ASKED.fetch_add(1, Ordering::Relaxed);
    on_idle();
}

/// To be called by a thread that has nothing to do: gives back what it has freed if that was asked
/// for since it last did. Costs next to nothing otherwise.
pub fn on_idle() {
    let asked = ASKED.load(Ordering::Relaxed);
    if DONE.replace(asked) != asked {
        purge();
    }
}

/// Gives back what this thread has freed, and all that is free in large pieces: else the allocator waits
/// for a second, for somebody may ask for it again.
pub fn purge() {
    // SAFETY: mi_collect(3) may be called at any time; it looks through this thread's own pages, and does
    // nothing in a program with another allocator.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_back_once_for_each_time_it_is_asked() {
        let before = ASKED.load(Ordering::Relaxed);
        give_back();
        assert!(ASKED.load(Ordering::Relaxed) > before && DONE.get() > before);
        let done = std::thread::spawn(|| {
            on_idle();
            DONE.get()
        });
        assert!(done.join().unwrap() > before);
    }
}
