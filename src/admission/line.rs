//! Who waits and who is next: pure order, without channels or clocks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// The turns that wait, fair between callers.
///
/// Within a caller first come, first served; between callers in turn. When all places are taken, a
/// caller with fewer waiting turns takes the places of the newest request of the caller with most.
#[derive(Debug)]
pub(super) struct Line<C, T> {
    /// The callers with waiting turns; the one whose turn it is comes first.
    ring: VecDeque<C>,
    /// Their turns, by number, oldest first. No caller is without one.
    waiting: HashMap<C, BTreeMap<u64, Waiting<T>>>,
    count: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    /// The number of the first turn of the request it belongs to.
    request: u64,
    ticket: T,
}

impl<C: Clone + Eq + Hash, T> Line<C, T> {
    pub(super) fn new() -> Line<C, T> {
        Line { ring: VecDeque::new(), waiting: HashMap::new(), count: 0, next_number: 0 }
    }

    /// How many turns wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many turns of that caller wait.
    fn of(&self, caller: &C) -> usize {
        self.waiting.get(caller).map_or(0, BTreeMap::len)
    }

    /// Makes room for `turns` more of `caller`, so that at most `longest` wait. Returns the tickets
    /// of those who had to leave; `None`, and nobody leaves, where the room cannot be had fairly.
    pub(super) fn make_room(&mut self, caller: &C, turns: usize, longest: usize) -> Option<Vec<T>> {
        let leaving = self.leaving(caller, turns, longest)?;
        Some(leaving.into_iter().filter_map(|(other, number)| self.leave(&other, number)).collect())
    }

    fn leaving(&self, caller: &C, turns: usize, longest: usize) -> Option<Vec<(C, u64)>> {
        if turns > longest {
            return None;
        }
        // Who waited when the limit was lowered stays, but may have to leave for another.
        let longest = longest.max(self.count);
        let mine = self.of(caller) + turns;
        let mut leaving: Vec<(C, u64)> = Vec::new();
        while self.count + turns > longest + leaving.len() {
            let others = self.waiting.iter().filter(|(other, _)| *other != caller);
            let (left, newest, other) = others
                .filter_map(|(other, queue)| {
                    let gone = leaving.iter().filter(|(gone, _)| gone == other).count();
                    let (newest, _) = queue.iter().nth_back(gone)?;
                    Some((queue.len() - gone, *newest, other))
                })
                .max_by_key(|&(left, newest, _)| (left, newest))?;
            if mine > left {
                return None;
            }
            let queue = self.waiting.get(other)?;
            let request = queue.get(&newest)?.request;
            leaving.extend(queue.range(request..=newest).map(|(number, _)| (other.clone(), *number)));
        }
        Some(leaving)
    }

    /// Puts the turns of one request in line; returns the number of each.
    pub(super) fn join(&mut self, caller: &C, tickets: impl IntoIterator<Item = T>) -> Vec<u64> {
        let request = self.next_number;
        let mut numbers = Vec::new();
        for ticket in tickets {
            let number = self.next_number;
            self.next_number += 1;
            self.count += 1;
            if !self.waiting.contains_key(caller) {
                self.ring.push_back(caller.clone());
            }
            self.waiting.entry(caller.clone()).or_default().insert(number, Waiting { request, ticket });
            numbers.push(number);
        }
        numbers
    }

    /// Takes the turn that is next out of the line.
    pub(super) fn next(&mut self) -> Option<T> {
        let caller = self.ring.pop_front()?;
        let queue = self.waiting.get_mut(&caller)?;
        let (_, first) = queue.pop_first()?;
        self.count -= 1;
        if queue.is_empty() {
            self.waiting.remove(&caller);
        } else {
            self.ring.push_back(caller);
        }
        Some(first.ticket)
    }

    /// Takes the turn with that number out of the line, if it still waits.
    pub(super) fn leave(&mut self, caller: &C, number: u64) -> Option<T> {
        let queue = self.waiting.get_mut(caller)?;
        let gone = queue.remove(&number)?;
        self.count -= 1;
        if queue.is_empty() {
            self.waiting.remove(caller);
            self.ring.retain(|other| other != caller);
        }
        Some(gone.ticket)
    }

    /// Everybody leaves.
    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.waiting.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tickets are the names of the turns.
    fn join(
        line: &mut Line<char, String>,
        caller: char,
        turns: usize,
        longest: usize,
    ) -> Option<Vec<String>> {
        let gone = line.make_room(&caller, turns, longest)?;
        let first = line.next_number;
        line.join(&caller, (0..turns).map(|turn| format!("{caller}{}", first + turn as u64)));
        Some(gone)
    }

    fn all(line: &mut Line<char, String>) -> String {
        std::iter::from_fn(|| line.next()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn callers_take_turns_and_each_keeps_its_order() {
        let mut line = Line::new();
        for caller in "aaabbc".chars() {
            join(&mut line, caller, 1, 64).unwrap();
        }
        assert_eq!(all(&mut line), "a0 b3 c5 a1 b4 a2");
        assert_eq!((line.len(), line.ring.len(), line.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn a_full_line_gives_way_to_who_has_less_in_it() {
        for (there, longest, comes, turns, gone, left) in [
            ("aaaa", 4, 'a', 1, None, "a0 a1 a2 a3"),
            ("aaaa", 5, 'b', 1, Some(""), "a0 b4 a1 a2 a3"),
            ("aaaa", 4, 'b', 1, Some("a3"), "a0 b4 a1 a2"),
            ("aaab", 4, 'b', 1, Some("a2"), "a0 b3 a1 b4"),
            ("aabb", 4, 'b', 1, None, "a0 b2 a1 b3"),
            ("aabb", 4, 'c', 1, Some("b3"), "a0 b2 c4 a1"),
            ("bbaa", 4, 'c', 1, Some("a3"), "b0 a2 c4 b1"),
            ("a", 1, 'b', 1, Some("a0"), "b1"),
            ("", 0, 'a', 1, None, ""),
            ("aaaa", 4, 'b', 2, Some("a3 a2"), "a0 b4 a1 b5"),
            // Of two with as many, the one that came later goes.
            ("aabb", 4, 'c', 2, Some("b3 a1"), "a0 b2 c4 c5"),
            ("abc", 3, 'd', 2, None, "a0 b1 c2"),
            ("aaaa", 4, 'b', 3, None, "a0 a1 a2 a3"),
            ("aaaa", 4, 'b', 5, None, "a0 a1 a2 a3"),
            // Lowered meanwhile: as many go as come.
            ("aaaa", 2, 'b', 1, Some("a3"), "a0 b4 a1 a2"),
        ] {
            let mut line = Line::new();
            for caller in there.chars() {
                join(&mut line, caller, 1, 64).unwrap();
            }
            let went = join(&mut line, comes, turns, longest).map(|gone| gone.join(" "));
            assert_eq!(
                (went.as_deref(), all(&mut line).as_str()),
                (gone, left),
                "{there} {longest} {comes}{turns}"
            );
        }
    }

    #[test]
    fn turns_of_one_request_leave_together() {
        let mut line = Line::new();
        join(&mut line, 'a', 1, 4).unwrap();
        join(&mut line, 'a', 3, 4).unwrap();
        assert_eq!(join(&mut line, 'b', 1, 4).unwrap(), ["a1", "a2", "a3"]);
        assert_eq!(all(&mut line), "a0 b4");
    }

    proptest! {
        /// Against a list that is searched.
        #[test]
        fn nobody_is_lost_overtaken_or_starved(
            steps in prop::collection::vec((0..6u8, 0..4usize, 1..4usize), 1..120),
            longest in 0..9usize,
        ) {
            let mut line = Line::new();
            let mut model: Vec<(char, u64, String)> = Vec::new();
            // Of each caller that waits: how often others were served since it last was.
            let mut passed: HashMap<char, HashMap<char, usize>> = HashMap::new();
            for (step, who, turns) in steps {
                let caller = ['a', 'b', 'c', 'd'][who];
                let of = |model: &[(char, u64, String)], it: char| model.iter().filter(|turn| turn.0 == it).count();
                match step {
                    0..=2 => {
                        let (first, before) = (line.next_number, model.clone());
                        match join(&mut line, caller, turns, longest) {
                            None => prop_assert!(before.len() + turns > longest),
                            Some(gone) => {
                                model.retain(|turn| !gone.contains(&turn.2));
                                prop_assert_eq!(before.len() - model.len(), gone.len());
                                prop_assert!(gone.is_empty() || before.len() + turns > longest);
                                for (other, number, _) in before.iter().filter(|turn| gone.contains(&turn.2)) {
                                    prop_assert!(*other != caller && of(&before, *other) > of(&before, caller));
                                    // The newest ones went.
                                    prop_assert!(model.iter().all(|turn| turn.0 != *other || turn.1 < *number));
                                }
                                model.extend((0..turns as u64).map(|turn| (caller, first + turn, format!("{caller}{}", first + turn))));
                            }
                        }
                    }
                    3 if !model.is_empty() => {
                        let (caller, number, name) = model.remove(turns % model.len());
                        prop_assert_eq!(line.leave(&caller, number), Some(name));
                        prop_assert_eq!(line.leave(&caller, number), None);
                    }
                    _ => {
                        let next = line.next();
                        prop_assert_eq!(next.is_none(), model.is_empty());
                        let Some(next) = next else { continue };
                        let at = model.iter().position(|turn| turn.2 == next).unwrap();
                        let (served, number, _) = model.remove(at);
                        prop_assert!(model.iter().all(|turn| turn.0 != served || turn.1 > number), "overtaken");
                        passed.remove(&served);
                        for other in ['a', 'b', 'c', 'd'].into_iter().filter(|other| *other != served) {
                            let times = passed.entry(other).or_default().entry(served).or_default();
                            *times += 1;
                            prop_assert!(*times <= 2 || of(&model, other) == 0, "starved");
                        }
                    }
                }
                passed.retain(|caller, _| of(&model, *caller) > 0);
                prop_assert!(line.len() == model.len() && line.len() <= longest);
            }
        }
    }
}
