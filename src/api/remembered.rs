//! What was answered lately, item by item: some clients send an id instead of what they were given.
//!
//! In memory only, each caller's own, for an hour at most and in so many bytes (`response_items_bytes`),
//! the oldest forgotten first. What a client sent is never kept here, and nothing is ever logged.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::turn::{Caller, Item};

/// How long an item is kept.
pub const KEPT: Duration = Duration::from_secs(3600);

/// What an item takes beside its text and its id: its places in the map and in the queue, rounded up
/// for what of them is empty.
const OVERHEAD: usize = 2 * (size_of::<(Arc<str>, Entry)>() + size_of::<Arc<str>>()) + 64;

/// The items of all callers. Clones are one.
#[derive(Clone, Debug)]
pub struct Remembered {
    items: Arc<Mutex<Items>>,
    /// Told when there is a first item.
    begun: Arc<Notify>,
}

#[derive(Debug)]
struct Items {
    most: u64,
    bytes: u64,
    by_id: HashMap<Arc<str>, Entry>,
    /// Oldest first.
    order: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    caller: Caller,
    since: Instant,
    item: Item,
    bytes: u64,
}

impl Remembered {
    /// Nothing yet, and never more than so many bytes; 0 = nothing ever.
    pub fn new(most: u64) -> Remembered {
        let items = Items { most, bytes: 0, by_id: HashMap::new(), order: VecDeque::new() };
        Remembered { items: Arc::new(Mutex::new(items)), begun: Arc::default() }
    }

    /// The same for that caller.
    pub fn of(&self, caller: &Caller) -> CallersItems {
        CallersItems { remembered: self.clone(), caller: caller.clone() }
    }

    /// Keeps no more than so many bytes from now on.
    pub fn resize(&self, most: u64) {
        self.change(|items| {
            items.most = most;
            items.forget_until(0);
        });
    }

    /// How much is kept, in bytes.
    pub fn bytes(&self) -> u64 {
        self.change(|items| items.bytes)
    }

    /// Forgets what is too old, for ever: nobody need ask.
    pub async fn keep_short(&self) {
        loop {
            match self.change(Items::end_of_oldest) {
                Some(end) => tokio::time::sleep_until(end).await,
                None => self.begun.notified().await,
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Items) -> T) -> T {
        change(&mut self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one caller was answered.
#[derive(Clone, Debug)]
pub struct CallersItems {
    remembered: Remembered,
    caller: Caller,
}

impl CallersItems {
    /// The item of that id, if this caller was given it lately.
    pub fn find(&self, id: &str) -> Option<Item> {
        self.remembered.change(|items| {
            items.forget_old();
            let entry = items.by_id.get(id).filter(|entry| entry.caller == self.caller)?;
            Some(entry.item.clone())
        })
    }

    /// Keeps items, in their order, by ids that are unlike all others.
    pub fn keep(&self, given: impl IntoIterator<Item = (String, Item)>) {
        let now = Instant::now();
        for (id, item) in given {
            let bytes = (id.len() + OVERHEAD) as u64 + item.bytes();
            let entry = Entry { caller: self.caller.clone(), since: now, item, bytes };
            if self.remembered.change(|items| items.add(id.into(), entry)) {
                self.remembered.begun.notify_one();
            }
        }
    }
}

impl Items {
    /// Whether it is the only one now.
    fn add(&mut self, id: Arc<str>, entry: Entry) -> bool {
        if entry.bytes > self.most {
            return false;
        }
        self.forget_old();
        self.forget_until(entry.bytes);
        self.bytes += entry.bytes;
        self.order.push_back(Arc::clone(&id));
        self.by_id.insert(id, entry);
        self.order.len() == 1
    }

    fn oldest(&self) -> Option<&Entry> {
        self.by_id.get(self.order.front()?)
    }

    /// When the oldest will be too old, of what is not yet.
    fn end_of_oldest(&mut self) -> Option<Instant> {
        self.forget_old();
        self.oldest().map(|entry| entry.since + KEPT)
    }

    fn forget_old(&mut self) {
        let now = Instant::now();
        while self.oldest().is_some_and(|entry| entry.since + KEPT <= now) {
            self.forget_oldest();
        }
    }

    /// Until there is room for so many bytes.
    fn forget_until(&mut self, room: u64) {
        while self.bytes + room > self.most && !self.order.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(entry) = self.order.pop_front().and_then(|id| self.by_id.remove(&id)) {
            self.bytes -= entry.bytes;
        }
        if self.order.is_empty() {
            // Many small ones leave large tables.
            self.order = VecDeque::new();
            self.by_id = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{Part, Role};

    fn said(text: &str) -> Item {
        Item::message(Role::Assistant, vec![Part::Text(text.into())])
    }

    fn keep(items: &CallersItems, id: &str, text: &str) {
        items.keep([(id.to_owned(), said(text))]);
    }

    fn cost(id: &str, text: &str) -> u64 {
        (id.len() + OVERHEAD) as u64 + said(text).bytes()
    }

    #[test]
    fn each_caller_has_its_own() {
        let store = Remembered::new(1 << 20);
        let (a, b) = (store.of(&Caller::User(1)), store.of(&Caller::Key("b".into())));
        keep(&a, "msg_1", "x");
        assert_eq!(a.find("msg_1"), Some(said("x")));
        assert_eq!(b.find("msg_1"), None);
        assert_eq!(store.of(&Caller::Key("1".into())).find("msg_1"), None);
        assert_eq!(a.find("msg_2"), None);
    }

    #[test]
    fn the_oldest_gives_way_to_what_would_not_fit() {
        let each = cost("msg_1", "xxxx");
        let store = Remembered::new(2 * each);
        let (a, b) = (store.of(&Caller::User(1)), store.of(&Caller::User(2)));
        keep(&a, "msg_1", "xxxx");
        keep(&b, "msg_2", "xxxx");
        assert_eq!(store.bytes(), 2 * each, "both fit exactly");
        keep(&b, "msg_3", "");
        assert_eq!(a.find("msg_1"), None);
        assert_eq!(store.bytes(), each + cost("msg_3", ""));
        keep(&b, "msg_4", "xxxxx");
        assert_eq!((b.find("msg_2"), b.find("msg_3")), (None, Some(said(""))));

        keep(&b, "msg_5", &"x".repeat(usize::try_from(2 * each - cost("msg_5", "")).unwrap()));
        assert_eq!((b.find("msg_4"), store.bytes()), (None, 2 * each), "one alone may be all");
        keep(&b, "msg_6", &"x".repeat(usize::try_from(2 * each - cost("msg_6", "") + 1).unwrap()));
        assert!(b.find("msg_5").is_some() && b.find("msg_6").is_none(), "one too large is not kept");
    }

    #[test]
    fn with_no_bytes_nothing_is_kept_and_less_of_them_forget() {
        let store = Remembered::new(0);
        let items = store.of(&Caller::Unknown);
        keep(&items, "msg_1", "");
        assert_eq!((items.find("msg_1"), store.bytes()), (None, 0));
        store.resize(2 * cost("msg_1", ""));
        keep(&items, "msg_1", "");
        keep(&items, "msg_2", "");
        store.resize(2 * cost("msg_1", "") - 1);
        assert_eq!((items.find("msg_1"), items.find("msg_2")), (None, Some(said(""))));
        store.resize(0);
        assert_eq!((items.find("msg_2"), store.bytes()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_later_it_is_forgotten_whether_or_not_anybody_asks() {
        let instant = Duration::from_millis(1);
        let store = Remembered::new(1 << 20);
        let items = store.of(&Caller::Unknown);
        keep(&items, "msg_1", "x");
        tokio::time::advance(KEPT - instant).await;
        keep(&items, "msg_2", "y");
        assert!(items.find("msg_1").is_some());
        tokio::time::advance(instant).await;
        assert!(items.find("msg_1").is_none() && items.find("msg_2").is_some());

        let sweeper = store.clone();
        let sweeper = tokio::spawn(async move { sweeper.keep_short().await });
        tokio::time::sleep(KEPT).await;
        assert_eq!(store.bytes(), 0);
        // And once more after there was nothing.
        keep(&items, "msg_3", "z");
        tokio::time::sleep(KEPT - instant).await;
        assert!(store.bytes() > 0);
        tokio::time::sleep(2 * instant).await;
        assert_eq!(store.bytes(), 0);
        sweeper.abort();
    }
}
