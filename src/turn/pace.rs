//! How much is done at a time on a thread that others wait for.
//!
//! A runtime thread serves many clients. Work that grows with somebody's text is done there in
//! portions of a few milliseconds at most; what cannot be cut is done [`apart`].

use tokio::runtime::{Handle, RuntimeFlavor};

/// What may be read, searched or encoded in one go, in bytes: a few milliseconds, slow machines included.
pub const PORTION: usize = 256 << 10;

/// Does `work` on `bytes` bytes. If that is more than a portion, the runtime's other tasks are moved
/// to another thread first, so that nobody but the caller's own task waits for it.
pub fn apart<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let shared = Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > PORTION && shared { tokio::task::block_in_place(work) } else { work() }
}

/// What a task has done since it last let others run.
#[derive(Debug, Default)]
pub struct Pace {
    done: usize,
}

impl Pace {
    /// Notes work on so many bytes.
    pub fn note(&mut self, bytes: usize) {
        self.done = self.done.saturating_add(bytes);
    }

    /// Whether it is the others' turn; if so, counting begins anew and the task must be woken.
    pub fn rest(&mut self) -> bool {
        let due = self.done >= PORTION;
        if due {
            self.done = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_is_followed_by_a_rest() {
        let mut pace = Pace::default();
        assert!(!pace.rest());
        pace.note(PORTION - 1);
        assert!(!pace.rest());
        pace.note(1);
        assert!(pace.rest());
        assert!(!pace.rest());
    }

    /// The only thread of the runtime goes on serving while large work is done on it.
    #[test]
    fn others_run_beside_large_work() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        let heard = runtime.block_on(async {
            let large = tokio::spawn(async move {
                tokio::spawn(async move { told.send(()) });
                apart(PORTION + 1, || heard.recv())
            });
            large.await.unwrap()
        });
        assert_eq!(heard, Ok(()));
    }

    #[tokio::test]
    async fn it_is_done_wherever_it_is_asked_for() {
        assert_eq!(apart(usize::MAX, || 1), 1);
        let blocking = tokio::task::spawn_blocking(|| apart(usize::MAX, || 2));
        assert_eq!(blocking.await.unwrap(), 2);
    }
}
