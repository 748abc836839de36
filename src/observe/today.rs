//! What was spent today, which begins at local midnight.

use jiff::{Timestamp, ZonedDateTime};
use serde_json::{Value, json};

use super::ledger::{Entry, Ledger};

/// The most names of models, and of callers, that are told apart.
pub const NAMES: usize = 100;

/// From when on everything is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// All of the day.
    Midnight,
    /// Only since the server started: what was before is not known, or not yet.
    Start,
}

/// The sums of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Today {
    since: Timestamp,
    from: From,
    midnight: Timestamp,
    /// The next midnight.
    until: Timestamp,
    ledger: Ledger,
}

impl Today {
    /// Nothing yet, as of now.
    pub fn start(now: &ZonedDateTime) -> Today {
        let (midnight, until) = day(now);
        Today { since: now.timestamp(), from: From::Start, midnight, until, ledger: Ledger::new(NAMES) }
    }

    /// A new day if the old one is over.
    pub fn turn(&mut self, now: Timestamp) {
        // Whoever sets the clock back to yesterday has a longer day.
        if now < self.until {
            return;
        }
        let (midnight, until) = day(&now.to_zoned_datetime(jiff::tz::TimeZone::system()));
        let from = From::Midnight;
        *self = Today { since: midnight, from, midnight, until, ledger: Ledger::new(NAMES) };
    }

    /// Adds a request that ended now.
    pub fn add(&mut self, entry: &Entry) {
        self.ledger.add(entry);
    }

    /// When the day began.
    pub fn midnight(&self) -> Timestamp {
        self.midnight
    }

    /// When counting began.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Adds what was between `midnight` and the start; too late, on another day, it changes nothing.
    pub fn earlier(&mut self, midnight: Timestamp, ledger: &Ledger) {
        if self.from == From::Start && self.midnight == midnight {
            self.ledger.merge(ledger);
            (self.since, self.from) = (midnight, From::Midnight);
        }
    }

    /// `today` of `GET /usage`.
    pub fn json(&self) -> Value {
        json!({
            "since": self.since.as_second(),
            "from": match self.from {
                From::Midnight => "midnight",
                From::Start => "start",
            },
            "total": self.ledger.total,
            "by_model": self.ledger.by_model.json(),
            "by_caller": self.ledger.by_caller.json(),
        })
    }
}

/// When the day of that moment began, and when it ends.
fn day(now: &ZonedDateTime) -> (Timestamp, Timestamp) {
    // Neither fails but at the ends of time.
    let midnight = now.start_of_day().map_or(Timestamp::MIN, |at| at.timestamp());
    let next = now.tomorrow().and_then(|day| day.start_of_day());
    (midnight, next.map_or(Timestamp::MAX, |at| at.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::entry;
    use super::*;

    fn at(text: &str) -> ZonedDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_ends_at_local_midnight() {
        for (now, midnight, until) in [
            ("2026-11-26T02:00[Europe/Berlin]", "2026-11-25T23:00Z", "2026-11-26T23:00Z"),
            ("2026-11-26T00:00[UTC]", "2026-11-26T00:00Z", "2026-11-27T00:00Z"),
            // 25 hours, and 23.
            ("2026-10-25T12:00[Europe/Berlin]", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
            ("2026-03-29T12:00[Europe/Berlin]", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ] {
            let expect = (midnight.parse().unwrap(), until.parse().unwrap());
            assert_eq!(day(&at(now)), expect, "{now}");
        }
    }

    #[test]
    fn what_was_before_the_start_is_joined_once_and_on_the_same_day_only() {
        let mut today = Today::start(&at("2026-11-26T12:00[UTC]"));
        let (midnight, last) = (today.midnight(), today.until);
        today.add(&entry("alice", 1));
        assert_eq!(today.json()["from"], "start");
        assert_eq!(today.json()["since"], today.since().as_second());
        let mut earlier = Ledger::new(NAMES);
        earlier.add(&entry("bob", 2));
        today.earlier(last, &earlier);
        assert_eq!(today.json()["total"]["requests"], 1);
        today.earlier(midnight, &earlier);
        today.earlier(midnight, &earlier);
        let json = today.json();
        assert_eq!(json["from"], "midnight");
        assert_eq!(json["since"], midnight.as_second());
        assert_eq!((&json["total"]["requests"], &json["total"]["input_tokens"]), (&2.into(), &3.into()));
        assert_eq!(
            (&json["by_caller"][1]["name"], &json["by_model"][0]["requests"]),
            (&"bob".into(), &2.into())
        );
    }

    #[test]
    fn a_new_day_begins_with_nothing() {
        let mut today = Today::start(&at("2026-11-26T12:00[UTC]"));
        let (midnight, until) = (today.midnight(), today.until);
        today.add(&entry("alice", 1));
        today.turn(until - jiff::SignedDuration::from_nanos(1));
        assert_eq!(today.json()["total"]["requests"], 1);
        today.turn(until);
        let json = today.json();
        assert_eq!((&json["from"], &json["total"]["requests"]), (&"midnight".into(), &0.into()));
        assert_ne!(today.midnight(), midnight);
        today.earlier(midnight, &Ledger::new(NAMES));
        assert_eq!(today.json(), json);
    }
}
