//! Lines that somebody else can cause as often as he likes: one for each kind and second, with the
//! number of those that were left out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a line stands for those that follow it.
const WINDOW: Duration = Duration::from_secs(1);

/// What happened, as the subject of "… 17 more times". Kinds are few: each is a text of the program.
pub type Kind = &'static str;

static OURS: Mutex<Option<Repeats>> = Mutex::new(None);

#[derive(Default)]
struct Repeats(HashMap<Kind, Window>);

struct Window {
    until: Instant,
    left_out: u64,
}

/// What to do about one more.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Say,
    /// Left out, the first one since the last line: the number is to be said at that time.
    Begin(Instant),
    LeaveOut,
}

impl Repeats {
    fn note(&mut self, kind: Kind, now: Instant) -> Verdict {
        let window = self.0.entry(kind).or_insert(Window { until: now, left_out: 0 });
        if window.left_out == 0 && now >= window.until {
            window.until = now + WINDOW;
            return Verdict::Say;
        }
        window.left_out += 1;
        if window.left_out == 1 { Verdict::Begin(window.until) } else { Verdict::LeaveOut }
    }

    /// How many were left out; the line that tells it stands for another while.
    fn sum(&mut self, kind: Kind, now: Instant) -> u64 {
        let Some(window) = self.0.get_mut(kind) else { return 0 };
        window.until = now + WINDOW;
        std::mem::take(&mut window.left_out)
    }
}

fn with<T>(act: impl FnOnce(&mut Repeats) -> T) -> T {
    act(OURS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Whether to write the line of one more of that kind. Where not, its number is written by itself,
/// at the end of the second; that needs the runtime.
pub fn is_first(kind: Kind) -> bool {
    match with(|repeats| repeats.note(kind, Instant::now())) {
        Verdict::Say => return true,
        Verdict::LeaveOut => {}
        Verdict::Begin(at) => {
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    tokio::time::sleep_until(at.into()).await;
                    let number = with(|repeats| repeats.sum(kind, Instant::now()));
                    tracing::warn!(number, "{kind}: {number} more within a second");
                });
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_kind_and_second() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(repeats.note("a", at(0)), Verdict::Say);
        assert_eq!(repeats.note("b", at(1)), Verdict::Say, "another kind");
        assert_eq!(repeats.note("a", at(2)), Verdict::Begin(at(1000)));
        assert_eq!(repeats.note("a", at(999)), Verdict::LeaveOut);
        // Late, but the number comes first: no line overtakes it.
        assert_eq!(repeats.note("a", at(1001)), Verdict::LeaveOut);
        assert_eq!(repeats.sum("a", at(1002)), 3);
        assert_eq!(repeats.note("a", at(1003)), Verdict::Begin(at(2002)));
        assert_eq!(repeats.sum("a", at(2002)), 1);
        assert_eq!(repeats.note("a", at(3001)), Verdict::Begin(at(3002)));
        assert_eq!(repeats.sum("a", at(3002)), 1);
        assert_eq!(repeats.note("a", at(4002)), Verdict::Say, "a second of silence");
        assert_eq!(repeats.note("b", at(1001)), Verdict::Say);
    }
}
