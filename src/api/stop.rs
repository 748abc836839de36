//! Stop strings, exact across deltas: nothing of a stop string, nor after it, ever goes out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;

use crate::turn::Failure;

use super::fields::wrong;
use super::raw::Items;

/// The stop strings of a request, ready to be looked for. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Stops(Option<Arc<Matcher>>);

#[derive(Debug)]
struct Matcher {
    automaton: NFA,
    start: StateID,
    /// How many bytes of a stop string stand at the end of the text, in each state that is one's
    /// beginning; in every other state there are none.
    begun: HashMap<StateID, usize>,
}

impl Stops {
    /// The most of them, as in the OpenAI reference.
    pub const MOST: usize = 4;
    /// The longest, in bytes.
    pub const LONGEST: usize = 1024;

    /// The strings of a list, which is the field of that name.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] naming the field.
    pub(super) fn read(list: Items, path: &str) -> Result<Stops, Failure> {
        let mut stops = Vec::new();
        // One more than may be there.
        for (index, value) in list.take(Stops::MOST + 1).enumerate() {
            let key = format!("{path}[{index}]");
            let stop = value.string().ok_or_else(|| wrong(&key, "a string", value))?;
            stops.push((key, stop));
        }
        Stops::of(stops, path)
    }

    /// Strings, each with the name of its field, all of the field of that name.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] naming the field.
    pub(super) fn of<'a>(
        stops: impl IntoIterator<Item = (String, Cow<'a, str>)>,
        path: &str,
    ) -> Result<Stops, Failure> {
        let invalid = |path: &str, why: String| Failure::bad_field(path, format!("{path} {why}."));
        let mut list = Vec::new();
        for (key, stop) in stops {
            if list.len() == Stops::MOST {
                return Err(invalid(path, format!("must have at most {} strings", Stops::MOST)));
            }
            if stop.is_empty() {
                return Err(invalid(path, "must not have an empty string".into()));
            }
            if stop.len() > Stops::LONGEST {
                return Err(invalid(&key, format!("must have at most {} bytes", Stops::LONGEST)));
            }
            list.push(stop);
        }
        Stops::new(&list)
    }

    /// Looks for `stops`, none of them empty. Takes time and memory in proportion to their length.
    ///
    /// # Errors
    /// [`Failure::Internal`] for far more text than [`Stops::MOST`] of [`Stops::LONGEST`].
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<Stops, Failure> {
        if stops.is_empty() {
            return Ok(Stops::default());
        }
        let failed = |error: &dyn std::error::Error| Failure::Internal {
            detail: format!("preparing the stop strings: {error}"),
        };
        let automaton = NFA::new(stops.iter().map(AsRef::as_ref)).map_err(|error| failed(&error))?;
        let start = automaton.start_state(Anchored::No).map_err(|error| failed(&error))?;
        let mut begun = HashMap::new();
        for stop in stops {
            let mut state = start;
            for (at, byte) in stop.as_ref().bytes().enumerate() {
                state = automaton.next_state(Anchored::No, state, byte);
                begun.insert(state, at + 1);
            }
        }
        Ok(Stops(Some(Arc::new(Matcher { automaton, start, begun }))))
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |matcher| matcher.automaton.patterns_len())
    }
}

impl Matcher {
    /// The length of the longest stop string that ends in `state`, if one does.
    fn ended(&self, state: StateID) -> Option<usize> {
        if !self.automaton.is_match(state) {
            return None;
        }
        let ended = (0..self.automaton.match_len(state))
            .map(|index| self.automaton.pattern_len(self.automaton.match_pattern(state, index)));
        ended.max()
    }
}

/// Watches one answer for its stop strings, in time linear in its text.
///
/// The first stop string to be *completed* ends the answer, as for a model that stops generating
/// at that point; of two that end together, the longer.
#[derive(Clone, Debug)]
pub struct StopFilter {
    matching: Option<(Arc<Matcher>, StateID)>,
    /// Text that may yet turn out to be the beginning of a stop string.
    held: String,
}

/// What a piece of text became.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// This much may go out.
    Text(String),
    /// This much may go out, and the answer ends here.
    Stopped {
        /// What comes before the stop string.
        text: String,
        /// The stop string.
        by: String,
    },
}

impl StopFilter {
    /// Watches for `stops`.
    pub fn new(stops: &Stops) -> StopFilter {
        let matching = stops.0.as_ref().map(|matcher| (Arc::clone(matcher), matcher.start));
        StopFilter { matching, held: String::new() }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: String) -> Passed {
        let Some((matcher, state)) = &mut self.matching else { return Passed::Text(piece) };
        // What is held was looked at: the state stands for it.
        let seen = self.held.len();
        if seen == 0 {
            self.held = piece;
        } else {
            self.held.push_str(&piece);
        }
        for (at, byte) in self.held.bytes().enumerate().skip(seen) {
            *state = matcher.automaton.next_state(Anchored::No, *state, byte);
            if let Some(length) = matcher.ended(*state) {
                self.held.truncate(at + 1);
                let by = self.held.split_off(at + 1 - length);
                return Passed::Stopped { text: std::mem::take(&mut self.held), by };
            }
        }
        let keep = matcher.begun.get(state).copied().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Passed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The text is over: what was held back was no stop string after all.
    pub fn finish(&mut self) -> String {
        if let Some((matcher, state)) = &mut self.matching {
            *state = matcher.start;
        }
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What goes out of the pieces, and whether a stop was reached.
    fn pass(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut filter = StopFilter::new(&Stops::new(stops).unwrap());
        let mut out = String::new();
        for piece in pieces {
            match filter.push((*piece).to_owned()) {
                Passed::Text(text) => out.push_str(&text),
                Passed::Stopped { text, by } => {
                    assert!(stops.contains(&by.as_str()), "{by:?}");
                    return (out + &text, true);
                }
            }
        }
        (out + &filter.finish(), false)
    }

    /// The same, as one reads it: at each character, whether a stop string ends there.
    fn naive(stops: &[&str], text: &str) -> (String, bool) {
        for end in text.char_indices().map(|(at, c)| at + c.len_utf8()) {
            let ended = stops.iter().filter(|&&stop| text[..end].ends_with(stop)).map(|stop| stop.len());
            if let Some(length) = ended.max() {
                return (text[..end - length].to_owned(), true);
            }
        }
        (text.to_owned(), false)
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
            (&["é", "ê"], &["èë", "ê"], "èë", true),
            (&["aab"], &["a", "a", "a", "b"], "a", true),
            (&["same", "same"], &["the sa", "me"], "the ", true),
            (&["abcd", "bcx"], &["abc", "x"], "a", true),
            (&[], &["any", "thing"], "anything", false),
        ] {
            assert_eq!(pass(stops, pieces), (expect.to_owned(), stopped), "{stops:?} {pieces:?}");
        }
    }

    #[test]
    fn nothing_is_held_back_without_need() {
        let mut filter = StopFilter::new(&Stops::new(&["END", "NO"]).unwrap());
        for (piece, out) in [("abcE", "abc"), ("x", "Ex"), ("EN", ""), ("E", "EN"), ("", ""), ("y", "Ey")] {
            assert_eq!(filter.push(piece.into()), Passed::Text(out.into()), "{piece:?}");
        }
    }

    #[test]
    fn a_new_text_begins_anew() {
        let mut filter = StopFilter::new(&Stops::new(&["END"]).unwrap());
        assert_eq!(filter.push("xEN".into()), Passed::Text("x".into()));
        assert_eq!(filter.finish(), "EN");
        assert_eq!(filter.push("D".into()), Passed::Text("D".into()));
        let stopped = Passed::Stopped { text: String::new(), by: "END".into() };
        assert_eq!(filter.push("END".into()), stopped);
    }

    /// Nothing is looked at twice: what made time quadratic was text that is held back again and
    /// again, and stop strings that nearly match everywhere.
    #[test]
    fn the_longest_stop_strings_cost_each_byte_once() {
        let near: Vec<String> = (0..Stops::MOST).map(|n| "a".repeat(Stops::LONGEST - 1 - n) + "b").collect();
        let stops = Stops::new(&near).unwrap();
        let matcher = stops.0.clone().unwrap();
        assert_eq!(matcher.begun.len(), Stops::LONGEST - 1 + Stops::MOST, "one state for each beginning");
        assert!(matcher.automaton.memory_usage() < 1 << 20);
        let mut filter = StopFilter::new(&stops);
        let mut passed = 0;
        for _ in 0..1 << 20 {
            let Passed::Text(text) = filter.push("a".into()) else { panic!("no stop string is there") };
            passed += text.len();
        }
        assert_eq!((passed, filter.finish().len()), ((1 << 20) - Stops::LONGEST + 1, Stops::LONGEST - 1));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same(
            text in "[abéê]{0,30}",
            stops in prop::collection::vec("[abéê]{1,5}", 1..=4),
            cuts in prop::collection::vec(0usize..30, 0..8),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(chars.len())).collect();
            cuts.extend([0, chars.len()]);
            cuts.sort_unstable();
            let pieces: Vec<String> = cuts.windows(2).map(|w| chars[w[0]..w[1]].iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let chunked = pass(&stops, &pieces);
            prop_assert_eq!(&chunked, &naive(&stops, &text));
            prop_assert_eq!(&chunked, &pass(&stops, &[&text]));
            // One character at a time is how a model would have stopped.
            let single: Vec<String> = chars.iter().map(char::to_string).collect();
            let single: Vec<&str> = single.iter().map(String::as_str).collect();
            prop_assert_eq!(&chunked, &pass(&stops, &single));
            prop_assert!(stops.iter().all(|stop| !chunked.0.contains(stop)));
        }
    }
}
