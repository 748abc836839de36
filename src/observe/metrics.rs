//! The counters of the running server, and `/metrics` as JSON with the original's keys.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::ledger::{Entry, Ledger};
use super::recent::{Last, Recent};
use super::today::Today;
use crate::turn::Usage;

/// Upper bounds in seconds of a request from read to written, and of its first content.
const REQUEST_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];
/// Upper bounds in seconds of the wait for a slot.
const QUEUE_SECONDS: &[f64] = &[0.0001, 0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Upper bounds in seconds of what the proxy itself adds.
const OVERHEAD_SECONDS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1];

/// How many answered requests the latency summary looks back on.
const RECENT: usize = 512;

/// Values others own, read when the metrics are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// The engine in force: `exec` or `app-server`.
    pub engine: &'static str,
    /// Since the server was ready.
    pub uptime_seconds: f64,
    /// Turns waiting for a slot.
    pub queued: usize,
    /// Turns holding a slot.
    pub running: usize,
    /// Slots there are.
    pub slots: usize,
    /// Whether at least one app-server worker is initialized.
    pub app_server_pool_started: bool,
    /// Workers that can take a turn.
    pub workers_ready: usize,
    /// Workers configured.
    pub workers_total: usize,
    /// Conversations whose threads are kept for their next request.
    pub parked_conversations: usize,
    /// Open client connections.
    pub connections: usize,
    /// Bytes of request bodies held in memory.
    pub buffered_bytes: u64,
    /// The account's rate-limit windows: name, how much is used (of 1), and the Unix time at which it starts
    /// anew, if known.
    pub rate_limits: Vec<(&'static str, f64, Option<u64>)>,
}

/// Counts generation requests. Share one behind an `Arc`.
#[derive(Debug)]
pub struct Observer {
    // One short lock instead of atomics, so that a scrape never sees a sum that does not add up.
    totals: Mutex<Totals>,
    today: Mutex<Today>,
    last: Mutex<Last>,
}

impl Default for Observer {
    fn default() -> Observer {
        let today = Today::start(&jiff::ZonedDateTime::now());
        Observer { totals: Mutex::default(), today: Mutex::new(today), last: Mutex::default() }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// The answer is complete.
    Ok,
    /// It failed, before or after the status was sent.
    Error,
    /// The client left, or somebody interrupted it.
    Cancelled,
}

impl Status {
    /// The one of that name.
    pub(super) fn named(name: &str) -> Option<Status> {
        [Status::Ok, Status::Error, Status::Cancelled].into_iter().find(|status| status.name() == name)
    }

    /// The value of `status` in the latency line.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Error => "error",
            Status::Cancelled => "cancelled",
        }
    }
}

/// A finished request, as [`Observer::finished`] counts it.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) api: &'static str,
    pub(super) engine: &'static str,
    pub(super) status: Status,
    pub(super) http_status: u16,
    pub(super) usage: Option<Usage>,
    pub(super) total: Duration,
    pub(super) queue_wait: Option<Duration>,
    pub(super) first_content: Option<Duration>,
    pub(super) overhead: Option<Duration>,
}

/// Everything counted since the start.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) in_flight: u64,
    pub(super) ok: u64,
    pub(super) error: u64,
    pub(super) errors_by_status: BTreeMap<u16, u64>,
    pub(super) usage: Usage,
    /// By engine and API.
    pub(super) timings: BTreeMap<(&'static str, &'static str), Timings>,
    /// By engine: seconds of the last [`RECENT`] complete answers.
    recent: BTreeMap<&'static str, VecDeque<f64>>,
}

/// What was measured of the requests of one API to one engine.
#[derive(Debug)]
pub(super) struct Timings {
    pub(super) total: BTreeMap<Status, Histogram>,
    pub(super) queue_wait: Histogram,
    pub(super) first_content: Histogram,
    pub(super) overhead: Histogram,
}

/// Observations counted by size. Not cumulative here; the exposition sums up.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    pub(super) bounds: &'static [f64],
    /// One for each bound, and one for what lies above the last.
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
}

impl Observer {
    /// Everything at zero.
    pub fn new() -> Observer {
        Observer::default()
    }

    pub(super) fn totals(&self) -> MutexGuard<'_, Totals> {
        // Only additions happen under the lock; what a panic elsewhere left behind is still true.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn day(&self) -> MutexGuard<'_, Today> {
        // As above.
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        today.turn(jiff::Timestamp::now());
        today
    }

    /// What was spent today.
    pub fn today(&self) -> Today {
        self.day().clone()
    }

    /// Adds what was spent between that midnight and the start.
    pub fn earlier(&self, midnight: jiff::Timestamp, ledger: &Ledger) {
        self.day().earlier(midnight, ledger);
    }

    /// Counts a request that has its line.
    pub(super) fn spent(&self, entry: &Entry) {
        self.day().add(entry);
    }

    /// The requests that were finished last, the newest first.
    pub fn recent(&self) -> Vec<Recent> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).all()
    }

    pub(super) fn keep(&self, request: Recent) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).add(request);
    }

    pub(super) fn started(&self) {
        self.totals().in_flight += 1;
    }

    pub(super) fn finished(&self, request: &Finished) {
        let mut totals = self.totals();
        totals.in_flight = totals.in_flight.saturating_sub(1);
        match request.status {
            Status::Ok => totals.ok += 1,
            Status::Error | Status::Cancelled => {
                totals.error += 1;
                *totals.errors_by_status.entry(request.http_status).or_default() += 1;
            }
        }
        if let Some(usage) = request.usage {
            totals.usage += usage;
        }
        totals.timings.entry((request.engine, request.api)).or_default().add(request);
        let recent = totals.recent.entry(request.engine).or_default();
        // A refusal takes microseconds and a time-out minutes; neither says how fast answers are.
        if request.status == Status::Ok {
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(request.total.as_secs_f64());
        }
    }

    /// The counters under the names of the Python original, and what was added since.
    pub fn json(&self, gauges: &Gauges) -> Value {
        let totals = self.totals();
        json!({
            "requests_total": totals.requests(),
            "requests_ok": totals.ok,
            "requests_error": totals.error,
            "errors_by_status": totals.errors_by_status,
            "engine": gauges.engine,
            "uptime_seconds": gauges.uptime_seconds,
            "app_server_pool_started": gauges.app_server_pool_started,
            "requests_in_flight": totals.in_flight,
            "turns_queued": gauges.queued,
            "turns_running": gauges.running,
            "slots": gauges.slots,
            "workers_ready": gauges.workers_ready,
            "workers_total": gauges.workers_total,
            "parked_conversations": gauges.parked_conversations,
            "connections": gauges.connections,
            "buffered_bytes": gauges.buffered_bytes,
            "tokens": {
                "input": totals.usage.input,
                "cached_input": totals.usage.cached_input,
                "output": totals.usage.output,
                "reasoning_output": totals.usage.reasoning_output,
            },
            "cached_input_ratio": totals.cached_input_ratio(),
            "latency": totals.recent.iter()
                .map(|(engine, recent)| ((*engine).to_owned(), totals.summary(engine, recent)))
                .collect::<serde_json::Map<String, Value>>(),
        })
    }
}

impl Totals {
    /// Requests read so far: answered, failed and in flight.
    pub(super) fn requests(&self) -> u64 {
        self.ok + self.error + self.in_flight
    }

    /// How much of the input tokens, of 1, the upstream had in its prompt cache; `None` before there are any.
    pub(super) fn cached_input_ratio(&self) -> Option<f64> {
        let Usage { input, cached_input, .. } = self.usage;
        (input > 0).then(|| (cached_input as f64 / input as f64 * 1e4).round() / 1e4)
    }

    /// Complete answers of this engine; percentiles of the last [`RECENT`] of them, exact.
    fn summary(&self, engine: &str, recent: &VecDeque<f64>) -> Value {
        let complete = self.timings.iter().filter(|((of, _), _)| *of == engine);
        let complete = complete.filter_map(|(_, timings)| timings.total.get(&Status::Ok));
        let (count, sum) = complete.fold((0, 0.0), |(count, sum), all| (count + all.count(), sum + all.sum));
        let mut recent: Vec<f64> = recent.iter().copied().collect();
        recent.sort_by(f64::total_cmp);
        let ms = |seconds: f64| (seconds * 1e5).round() / 100.0;
        // Nearest rank: the smallest value that this share of them does not exceed.
        let percentile = |share: f64| {
            let rank = (share * recent.len() as f64).ceil() as usize;
            recent.get(rank.saturating_sub(1)).copied().map(ms)
        };
        json!({
            "count": count,
            "mean_ms": (count > 0).then(|| ms(sum / count as f64)),
            "recent": recent.len(),
            "p50_ms": percentile(0.50),
            "p95_ms": percentile(0.95),
            "p99_ms": percentile(0.99),
            "max_ms": percentile(1.0),
        })
    }
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            total: BTreeMap::new(),
            queue_wait: Histogram::new(QUEUE_SECONDS),
            first_content: Histogram::new(REQUEST_SECONDS),
            overhead: Histogram::new(OVERHEAD_SECONDS),
        }
    }
}

impl Timings {
    fn add(&mut self, request: &Finished) {
        self.total
            .entry(request.status)
            .or_insert_with(|| Histogram::new(REQUEST_SECONDS))
            .observe(request.total);
        for (histogram, took) in [
            (&mut self.queue_wait, request.queue_wait),
            (&mut self.first_content, request.first_content),
            (&mut self.overhead, request.overhead),
        ] {
            took.into_iter().for_each(|took| histogram.observe(took));
        }
    }
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    pub(super) fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        // A bound is inclusive (`le`).
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket] += 1;
        self.sum += seconds;
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn request(status: Status, http_status: u16, millis: u64) -> Finished {
        Finished {
            api: "chat_completions",
            engine: "exec",
            status,
            http_status,
            usage: None,
            total: Duration::from_millis(millis),
            queue_wait: None,
            first_content: None,
            overhead: None,
        }
    }

    #[test]
    fn the_originals_keys_add_up_with_one_in_flight() {
        let observer = Observer::new();
        for _ in 0..6 {
            observer.started();
        }
        let usage = Usage { input: 10, cached_input: 4, output: 3, reasoning_output: 1 };
        observer.finished(&Finished { usage: Some(usage), ..request(Status::Ok, 200, 20) });
        observer.finished(&Finished { usage: Some(usage), ..request(Status::Ok, 200, 40) });
        observer.finished(&request(Status::Error, 429, 1));
        observer.finished(&request(Status::Error, 429, 1));
        observer.finished(&request(Status::Cancelled, 499, 9000));
        let gauges = Gauges { engine: "exec", uptime_seconds: 1.5, queued: 2, ..Gauges::default() };
        assert_eq!(
            observer.json(&gauges),
            json!({
                "requests_total": 6,
                "requests_ok": 2,
                "requests_error": 3,
                "errors_by_status": {"429": 2, "499": 1},
                "engine": "exec",
                "uptime_seconds": 1.5,
                "app_server_pool_started": false,
                "requests_in_flight": 1,
                "turns_queued": 2,
                "turns_running": 0,
                "slots": 0,
                "workers_ready": 0,
                "workers_total": 0,
                "parked_conversations": 0,
                "connections": 0,
                "buffered_bytes": 0,
                "tokens": {"input": 20, "cached_input": 8, "output": 6, "reasoning_output": 2},
                "cached_input_ratio": 0.4,
                "latency": {"exec": {
                    "count": 2, "mean_ms": 30.0, "recent": 2,
                    "p50_ms": 20.0, "p95_ms": 40.0, "p99_ms": 40.0, "max_ms": 40.0,
                }},
            })
        );
    }

    #[test]
    fn the_summary_forgets_beyond_its_window() {
        let observer = Observer::new();
        for millis in 1..=RECENT as u64 + 1 {
            observer.finished(&request(Status::Ok, 200, millis));
        }
        let json = observer.json(&Gauges::default());
        let exec = &json["latency"]["exec"];
        assert_eq!((&exec["count"], &exec["recent"]), (&513.into(), &512.into()));
        assert_eq!((&exec["p50_ms"], &exec["max_ms"]), (&257.0.into(), &513.0.into()));
    }

    #[test]
    fn nothing_answered_yet_has_no_percentiles() {
        let observer = Observer::new();
        observer.finished(&request(Status::Error, 502, 5));
        let exec = &observer.json(&Gauges::default())["latency"]["exec"];
        assert_eq!(
            (&exec["count"], &exec["mean_ms"], &exec["p50_ms"]),
            (&0.into(), &Value::Null, &Value::Null)
        );
        assert_eq!(observer.json(&Gauges::default())["cached_input_ratio"], Value::Null);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::new(OVERHEAD_SECONDS);
        for micros in [0, 50, 51, 100_000, 100_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut expect = vec![0; OVERHEAD_SECONDS.len() + 1];
        (expect[0], expect[1], expect[OVERHEAD_SECONDS.len() - 1], expect[OVERHEAD_SECONDS.len()]) =
            (2, 1, 1, 1);
        assert_eq!(histogram.counts, expect);
    }

    #[test]
    fn bounds_rise() {
        for bounds in [REQUEST_SECONDS, QUEUE_SECONDS, OVERHEAD_SECONDS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
