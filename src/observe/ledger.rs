//! What was spent: requests, failures and tokens, summed up from what each latency line says, by
//! whoever counts them: the running service, or the verb that reads the journal.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::Status;
use crate::turn::Usage;

/// What names are summed up under when there are too many of them.
const OTHER: &str = "other";

/// Who was not let in. One name, or whoever knocks from many addresses would leave no room for callers.
const REFUSED: &str = "refused";

/// What a request is summed up under that did not say.
const UNKNOWN: &str = "unknown";

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The model as the client sent it, if the request got that far.
    pub model: Option<&'a str>,
    /// Who asked.
    pub caller: Option<&'a str>,
    /// How it ended.
    pub status: Status,
    /// The status sent, or the one the failure would have had.
    pub http_status: u16,
    /// What Codex told of the cost.
    pub usage: Option<Usage>,
    /// How many turns did not tell theirs.
    pub tokens_unknown: u32,
}

impl Entry<'_> {
    /// What it adds to sums.
    pub fn sums(&self) -> Sums {
        let usage = self.usage.unwrap_or_default();
        Sums {
            requests: 1,
            // A client that left is no failure.
            failures: (self.status == Status::Error).into(),
            tokens_unknown: self.tokens_unknown.into(),
            input_tokens: usage.input,
            cached_tokens: usage.cached_input,
            output_tokens: usage.output,
        }
    }

    /// The name its model is summed up under.
    pub fn model_name(&self) -> &str {
        self.model.filter(|name| !name.is_empty()).unwrap_or(UNKNOWN)
    }

    /// The name its caller is summed up under.
    pub fn caller_name(&self) -> &str {
        match self.http_status {
            401 | 403 if self.usage.is_none() && self.tokens_unknown == 0 => REFUSED,
            _ => self.caller.filter(|name| !name.is_empty()).unwrap_or(UNKNOWN),
        }
    }
}

/// Sums of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// All of them.
    pub requests: u64,
    /// Those that failed; not those whose client left.
    pub failures: u64,
    /// Turns whose cost Codex did not tell.
    pub tokens_unknown: u64,
    /// Tokens of prompts, cached ones included.
    pub input_tokens: u64,
    /// Of those, read from the upstream's cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        // Numbers of a journal may be anything.
        for (sum, more) in [
            (&mut self.requests, other.requests),
            (&mut self.failures, other.failures),
            (&mut self.tokens_unknown, other.tokens_unknown),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.cached_tokens, other.cached_tokens),
            (&mut self.output_tokens, other.output_tokens),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Sums by name, of a bounded number of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    most: usize,
    names: BTreeMap<String, Sums>,
    other: Sums,
}

impl Named {
    /// Nothing yet, and room for that many names; the rest is summed up as `other`.
    pub fn new(most: usize) -> Named {
        Named { most, names: BTreeMap::new(), other: Sums::default() }
    }

    /// Adds to the sums of a name.
    pub fn add(&mut self, name: &str, sums: Sums) {
        let full = self.names.len() >= self.most;
        match self.names.get_mut(name) {
            Some(known) => *known += sums,
            None if full || name == OTHER => self.other += sums,
            None => _ = self.names.insert(name.to_owned(), sums),
        }
    }

    fn merge(&mut self, more: &Named) {
        more.names.iter().for_each(|(name, sums)| self.add(name, *sums));
        self.other += more.other;
    }

    /// Each name with its sums, by name, and last the rest, if any.
    pub fn rows(&self) -> impl Iterator<Item = (&str, Sums)> {
        let other = Some((OTHER, self.other)).filter(|(_, sums)| sums.requests > 0);
        self.names.iter().map(|(name, sums)| (name.as_str(), *sums)).chain(other)
    }

    /// `[{"name": …, "requests": …, …}]`.
    pub fn json(&self) -> Value {
        let row = |(name, sums): (&str, Sums)| {
            let mut row = json!(sums);
            row["name"] = name.into();
            row
        };
        self.rows().map(row).collect()
    }
}

/// Sums of all requests, by model and by caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Of all.
    pub total: Sums,
    /// By the model's name as clients send it.
    pub by_model: Named,
    /// By the caller's name.
    pub by_caller: Named,
}

impl Ledger {
    /// Nothing yet, and room for that many names of each kind.
    pub fn new(most: usize) -> Ledger {
        Ledger { total: Sums::default(), by_model: Named::new(most), by_caller: Named::new(most) }
    }

    /// Adds one request.
    pub fn add(&mut self, entry: &Entry) {
        let sums = entry.sums();
        self.total += sums;
        self.by_model.add(entry.model_name(), sums);
        self.by_caller.add(entry.caller_name(), sums);
    }

    /// Adds what another has.
    pub fn merge(&mut self, more: &Ledger) {
        self.total += more.total;
        self.by_model.merge(&more.by_model);
        self.by_caller.merge(&more.by_caller);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::observe) fn entry<'a>(caller: &'a str, input: u64) -> Entry<'a> {
        let usage = Usage { input, cached_input: input / 2, output: 1, ..Usage::default() };
        Entry {
            model: Some("m"),
            caller: Some(caller),
            status: Status::Ok,
            http_status: 200,
            usage: Some(usage),
            tokens_unknown: 0,
        }
    }

    fn rows(named: &Named) -> Vec<(&str, u64, u64)> {
        named.rows().map(|(name, sums)| (name, sums.requests, sums.input_tokens)).collect()
    }

    #[test]
    fn every_end_adds_what_it_was() {
        let ok = entry("alice", 10);
        let nothing = Entry { usage: None, ..ok };
        let sums = |requests, failures, tokens_unknown, input_tokens, cached_tokens, output_tokens| Sums {
            requests,
            failures,
            tokens_unknown,
            input_tokens,
            cached_tokens,
            output_tokens,
        };
        for (entry, expect) in [
            (ok, sums(1, 0, 0, 10, 5, 1)),
            (Entry { tokens_unknown: 2, ..ok }, sums(1, 0, 2, 10, 5, 1)),
            (Entry { status: Status::Error, http_status: 502, ..ok }, sums(1, 1, 0, 10, 5, 1)),
            (Entry { status: Status::Error, http_status: 400, ..nothing }, sums(1, 1, 0, 0, 0, 0)),
            (
                Entry { status: Status::Cancelled, http_status: 499, tokens_unknown: 1, ..nothing },
                sums(1, 0, 1, 0, 0, 0),
            ),
        ] {
            assert_eq!(entry.sums(), expect, "{entry:?}");
        }
    }

    #[test]
    fn what_has_no_name_has_one_all_the_same() {
        let ok = entry("alice", 1);
        let refused =
            |http_status| Entry { status: Status::Error, http_status, usage: None, model: None, ..ok };
        for (entry, expect) in [
            (ok, ("m", "alice")),
            (Entry { model: Some(""), caller: Some(""), ..ok }, ("unknown", "unknown")),
            (Entry { model: None, caller: None, ..ok }, ("unknown", "unknown")),
            (refused(401), ("unknown", "refused")),
            (refused(403), ("unknown", "refused")),
            (refused(429), ("unknown", "alice")),
            (Entry { tokens_unknown: 1, ..refused(401) }, ("unknown", "alice")),
        ] {
            assert_eq!((entry.model_name(), entry.caller_name()), expect, "{entry:?}");
        }
    }

    #[test]
    fn names_beyond_the_most_are_other() {
        let mut named = Named::new(2);
        for (name, input) in [("b", 1), ("a", 2), ("c", 4), ("b", 8), ("other", 16), ("d", 32)] {
            named.add(name, entry(name, input).sums());
        }
        assert_eq!(rows(&named), [("a", 1, 2), ("b", 2, 9), ("other", 3, 52)]);
        assert_eq!(rows(&Named::new(0)), []);
        assert_eq!(
            named.json()[2],
            json!({"name": "other", "requests": 3, "failures": 0, "tokens_unknown": 0,
            "input_tokens": 52, "cached_tokens": 26, "output_tokens": 3})
        );
    }

    #[test]
    fn two_ledgers_are_one() {
        let (mut one, mut other) = (Ledger::new(2), Ledger::new(2));
        one.add(&entry("alice", 1));
        one.add(&entry("bob", 2));
        for (caller, input) in [("carol", 4), ("alice", 8), ("dave", 16)] {
            other.add(&entry(caller, input));
        }
        one.merge(&other);
        assert_eq!(rows(&one.by_caller), [("alice", 2, 9), ("bob", 1, 2), ("other", 2, 20)]);
        assert_eq!(rows(&one.by_model), [("m", 5, 31)]);
        assert_eq!((one.total.requests, one.total.input_tokens), (5, 31));
    }

    #[test]
    fn sums_have_no_overflow() {
        let mut sums = entry("a", u64::MAX).sums();
        sums += sums;
        assert_eq!((sums.input_tokens, sums.requests), (u64::MAX, 2));
    }
}
