//! Waiting for a condition; never for a guessed time.

use std::time::{Duration, Instant};

/// Long enough for a loaded machine; only a failing test ever waits it out.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `probe` gives something.
///
/// # Panics
/// Saying `what` did not happen.
pub fn until_some<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// Likewise, for what is more than one step: a whole program's run.
///
/// # Panics
/// Saying `what` did not happen.
pub fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Polls until `probe` is true.
pub fn until(what: &str, mut probe: impl FnMut() -> bool) {
    until_some(what, || probe().then_some(()));
}
