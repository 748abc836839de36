//! Stop strings, exact across deltas: nothing of a stop string, nor after it, ever goes out.

/// Watches one answer for its stop strings.
///
/// The first stop string to be *completed* ends the answer, as for a model that stops generating
/// at that point; of two that end together, the longer.
#[derive(Clone, Debug)]
pub struct StopFilter {
    stops: Vec<String>,
    /// Text that may yet turn out to be the beginning of a stop string.
    held: String,
}

/// What a piece of text became.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// This much may go out.
    Text(String),
    /// This much may go out, and the answer ends here.
    Stopped(String),
}

impl StopFilter {
    /// Watches for `stops`; none of them empty.
    pub fn new(stops: &[String]) -> StopFilter {
        StopFilter { stops: stops.to_vec(), held: String::new() }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: String) -> Passed {
        if self.stops.is_empty() {
            return Passed::Text(piece);
        }
        self.held.push_str(&piece);
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((_, start)) = found.min() {
            self.held.truncate(start);
            return Passed::Stopped(std::mem::take(&mut self.held));
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Passed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The answer is over: what was held back was no stop string after all.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest end of `text` that begins `stop`, in bytes.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).skip(1);
    starts.filter(|&at| text.ends_with(&stop[..at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What goes out of the pieces, and whether a stop was reached.
    fn pass(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut out = String::new();
        for piece in pieces {
            match filter.push((*piece).to_owned()) {
                Passed::Text(text) => out.push_str(&text),
                Passed::Stopped(text) => return (out + &text, true),
            }
        }
        (out + &filter.finish(), false)
    }

    #[test]
    fn stops_cut_exactly() {
        for (stops, pieces, expect, stopped) in [
            (&["END"][..], &["hello END tail"][..], "hello ", true),
            (&["END"], &["hello E", "N", "D tail"], "hello ", true),
            (&["END"], &["hello E", "N", "d"], "hello ENd", false),
            (&["END"], &["EN"], "EN", false),
            (&["END"], &["EEN", "END"], "EEN", true),
            (&["abcd", "bc"], &["abcd"], "a", true),
            (&["abc", "bc"], &["xabc"], "x", true),
            (&["\n\n"], &["a\n", "b\n", "\n"], "a\nb", true),
            (&["é"], &["caf", "é!"], "caf", true),
            (&["👍🏽"], &["ok 👍", "🏽"], "ok ", true),
            (&[], &["any", "thing"], "anything", false),
        ] {
            assert_eq!(pass(stops, pieces), (expect.to_owned(), stopped), "{stops:?} {pieces:?}");
        }
    }

    #[test]
    fn nothing_is_held_back_without_need() {
        let mut filter = StopFilter::new(&["END".to_owned()]);
        assert_eq!(filter.push("abcE".into()), Passed::Text("abc".into()));
        assert_eq!(filter.push("x".into()), Passed::Text("Ex".into()));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same(
            text in "[abé]{0,20}",
            stops in prop::collection::vec("[abé]{1,3}", 1..4),
            cuts in prop::collection::vec(0usize..20, 0..5),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(chars.len())).collect();
            cuts.extend([0, chars.len()]);
            cuts.sort_unstable();
            let pieces: Vec<String> = cuts.windows(2).map(|w| chars[w[0]..w[1]].iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let chunked = pass(&stops, &pieces);
            prop_assert_eq!(&chunked, &pass(&stops, &[&text]));
            // One character at a time is how a model would have stopped.
            let single: Vec<String> = chars.iter().map(char::to_string).collect();
            let single: Vec<&str> = single.iter().map(String::as_str).collect();
            prop_assert_eq!(&chunked, &pass(&stops, &single));
            prop_assert!(stops.iter().all(|stop| !chunked.0.contains(stop)));
        }
    }
}
