//! Which calls of a conversation still lack their result.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The calls of the model's last turn that have no result yet: Codex would drop an orphan
/// result and answer an orphan call by itself, without a word.
///
/// A message may have tens of thousands: each is found without looking at the others.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Ids by number, in the order of the message.
    open: BTreeMap<usize, String>,
    next: usize,
    /// The numbers of the open ones.
    by_id: HashMap<String, usize>,
    /// The numbers by name, in order; those answered by id are still among them.
    by_name: HashMap<String, VecDeque<usize>>,
}

impl Calls {
    /// Notes a call; not if one with its id is open.
    pub(super) fn add(&mut self, id: &str, name: &str) -> bool {
        if self.open.is_empty() {
            self.by_name.clear();
        }
        match self.by_id.entry(id.to_owned()) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(entry) => entry.insert(self.next),
        };
        self.by_name.entry(name.to_owned()).or_default().push_back(self.next);
        self.open.insert(self.next, id.to_owned());
        self.next += 1;
        true
    }

    /// The id of the call with that id, which is open no more.
    pub(super) fn answer(&mut self, id: &str) -> Option<String> {
        let number = self.by_id.remove(id)?;
        self.open.remove(&number)
    }

    /// The id of the first open call of that name, which is open no more.
    pub(super) fn answer_function(&mut self, name: &str) -> Option<String> {
        let numbers = self.by_name.get_mut(name)?;
        let number =
            std::iter::from_fn(|| numbers.pop_front()).find(|number| self.open.contains_key(number))?;
        let id = self.open.remove(&number)?;
        self.by_id.remove(&id);
        Some(id)
    }

    /// Whether a call of that id is open.
    pub(super) fn is_open(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// The id of the first open one.
    pub(super) fn open(&self) -> Option<&str> {
        self.open.first_key_value().map(|(_, id)| id.as_str())
    }
}
