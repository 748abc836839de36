//! The metrics as Prometheus reads them (text exposition format 0.0.4), declared in one list.

use std::fmt::{Display, Write};

use super::metrics::{Gauges, Histogram, Observer, Totals};

/// The `Content-Type` of [`Observer::prometheus`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of metric it is, for the `# TYPE` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows until the server restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted by size.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric: what it is called, what it means, where its samples come from.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The whole name, unit last.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    samples: fn(&mut Samples, &Totals, &Gauges),
}

macro_rules! metrics {
    ($($kind:ident $name:literal: $help:literal, $samples:expr;)*) => {
        /// Every metric there is, in the order of the exposition.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: concat!("codex_api_proxy_", $name),
            kind: Kind::$kind,
            help: $help,
            samples: $samples,
        },)*];
    };
}

metrics! {
    Gauge "info": "Always 1; the labels tell the version of the proxy and the engine in force.",
        |out, _, gauges| out.labelled(&[("version", env!("CARGO_PKG_VERSION")), ("engine", gauges.engine)], 1);
    Gauge "uptime_seconds": "Time since the server was ready.",
        |out, _, gauges| out.value(gauges.uptime_seconds);
    Counter "requests_total": "Generation requests read: answered, failed and in flight.",
        |out, totals, _| out.value(totals.requests());
    Counter "requests_ok_total": "Generation requests answered completely.",
        |out, totals, _| out.value(totals.ok);
    Counter "requests_error_total":
        "Generation requests that failed, by the status they had or would have had; 499 is a client that left.",
        |out, totals, _| for (status, count) in &totals.errors_by_status {
            out.labelled(&[("http_status", &status.to_string())], count);
        };
    Gauge "requests_in_flight": "Generation requests being answered.",
        |out, totals, _| out.value(totals.in_flight);
    Gauge "turns_queued": "Turns waiting for a slot.",
        |out, _, gauges| out.value(gauges.queued);
    Gauge "turns_running": "Turns holding a slot.",
        |out, _, gauges| out.value(gauges.running);
    Gauge "slots": "Turns that may run at once.",
        |out, _, gauges| out.value(gauges.slots);
    Gauge "app_server_pool_started": "1 if at least one app-server worker is initialized.",
        |out, _, gauges| out.value(u8::from(gauges.app_server_pool_started));
    Gauge "workers_ready": "App-server workers that can take a turn.",
        |out, _, gauges| out.value(gauges.workers_ready);
    Gauge "workers": "App-server workers configured.",
        |out, _, gauges| out.value(gauges.workers_total);
    Gauge "parked_conversations": "Conversations whose threads are kept for their next request.",
        |out, _, gauges| out.value(gauges.parked_conversations);
    Gauge "connections": "Open client connections.",
        |out, _, gauges| out.value(gauges.connections);
    Gauge "buffered_bytes": "Bytes of request bodies held in memory.",
        |out, _, gauges| out.value(gauges.buffered_bytes);
    Gauge "rate_limit_used_ratio": "How much of the account's rate-limit window is used, as Codex last said.",
        |out, _, gauges| for (window, used, _) in &gauges.rate_limits {
            out.labelled(&[("window", window)], used);
        };
    Gauge "rate_limit_reset_timestamp_seconds": "When the account's rate-limit window starts anew, Unix time.",
        |out, _, gauges| for (window, _, resets_at) in &gauges.rate_limits {
            if let Some(at) = resets_at {
                out.labelled(&[("window", window)], at);
            }
        };
    Counter "tokens_total":
        "Tokens as Codex reported them; cached_input is part of input, reasoning_output part of output.",
        |out, totals, _| for (kind, count) in [
            ("input", totals.usage.input),
            ("cached_input", totals.usage.cached_input),
            ("output", totals.usage.output),
            ("reasoning_output", totals.usage.reasoning_output),
        ] {
            out.labelled(&[("kind", kind)], count);
        };
    Gauge "cached_input_ratio":
        "Share of the input tokens that the upstream had in its prompt cache, since the start; absent before any.",
        |out, totals, _| if let Some(ratio) = totals.cached_input_ratio() {
            out.value(ratio);
        };
    Histogram "request_duration_seconds": "Request read to whole reply written.",
        |out, totals, _| for ((engine, api), timings) in &totals.timings {
            for (status, histogram) in &timings.total {
                out.histogram(&[("engine", engine), ("api", api), ("status", status.name())], histogram);
            }
        };
    Histogram "queue_wait_seconds": "Joining the queue to slot granted.",
        |out, totals, _| for ((engine, api), timings) in &totals.timings {
            out.histogram(&[("engine", engine), ("api", api)], &timings.queue_wait);
        };
    Histogram "time_to_first_content_seconds": "Request read to first piece of the answer known.",
        |out, totals, _| for ((engine, api), timings) in &totals.timings {
            out.histogram(&[("engine", engine), ("api", api)], &timings.first_content);
        };
    Histogram "proxy_overhead_seconds": "Request read to reply written, less queueing and Codex.",
        |out, totals, _| for ((engine, api), timings) in &totals.timings {
            out.histogram(&[("engine", engine), ("api", api)], &timings.overhead);
        };
}

impl Observer {
    /// The metrics in the text exposition format; serve it as [`CONTENT_TYPE`].
    pub fn prometheus(&self, gauges: &Gauges) -> String {
        let totals = self.totals();
        let mut out = Samples { name: "", text: String::with_capacity(8 << 10) };
        for metric in METRICS {
            out.name = metric.name;
            let _ = writeln!(out.text, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(out.text, "# TYPE {} {}", metric.name, metric.kind.name());
            (metric.samples)(&mut out, &totals, gauges);
        }
        out.text
    }
}

type Labels<'a> = &'a [(&'a str, &'a str)];

/// The samples of one metric, being written. Writing to a `String` cannot fail.
struct Samples {
    name: &'static str,
    text: String,
}

impl Samples {
    fn value(&mut self, value: impl Display) {
        self.sample("", &[], value);
    }

    fn labelled(&mut self, labels: Labels, value: impl Display) {
        self.sample("", labels, value);
    }

    fn histogram(&mut self, labels: Labels, histogram: &Histogram) {
        let mut below = 0;
        let bounds = histogram.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&histogram.counts) {
            below += count;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample("_bucket", &labels, below);
        }
        self.sample("_sum", labels, histogram.sum);
        self.sample("_count", labels, below);
    }

    fn sample(&mut self, suffix: &str, labels: Labels, value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (i, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{text}\"", if i == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::metrics::Status;
    use super::super::metrics::{Finished, tests::request};
    use super::*;
    use crate::turn::Usage;

    type Parsed = BTreeMap<String, f64>;
    /// Counts by bound, sum, count.
    type Series = (Vec<(f64, f64)>, Option<f64>, Option<f64>);

    fn is_name(name: &str) -> bool {
        let rest = name.strip_prefix(|c: char| c.is_ascii_alphabetic() || c == '_');
        rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    }

    /// `{a="b",c="d"}` with escapes resolved; anything else panics.
    fn labels(text: &str) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let mut rest = text.strip_prefix('{').unwrap();
        loop {
            let (name, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(name), "{name}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("escape \\{c}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
            match &after[end + 1..] {
                "}" => return labels,
                more => rest = more.strip_prefix(',').unwrap(),
            }
        }
    }

    /// Reads an exposition as strictly as the format is written; gives sample -> value.
    fn parse(text: &str) -> Parsed {
        assert!(text.ends_with('\n'));
        let mut samples = Parsed::new();
        let mut types = BTreeMap::new();
        let mut lines = text.lines().peekable();
        while let Some(help) = lines.next() {
            let (name, help) = help.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
            assert!(is_name(name) && help.ends_with('.') && !help.contains('\\'), "{name}: {help}");
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
            assert!(types.insert(name, kind).is_none(), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            // The series of a histogram, by its labels without `le`.
            let mut series: BTreeMap<_, Series> = BTreeMap::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let value: f64 = value.parse().unwrap();
                assert!(value.is_finite() && value >= 0.0, "{line}");
                let at = sample.find('{').unwrap_or(sample.len());
                let mut labels = if at < sample.len() { labels(&sample[at..]) } else { BTreeMap::new() };
                assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} twice");
                let suffix = sample[..at].strip_prefix(name).unwrap();
                if kind != "histogram" {
                    assert_eq!(suffix, "", "{line}");
                    continue;
                }
                let bound = labels.remove("le").map(|le| match le.as_str() {
                    "+Inf" => f64::INFINITY,
                    le => le.parse().unwrap(),
                });
                let series = series.entry(labels).or_default();
                match (suffix, bound) {
                    ("_bucket", Some(bound)) => series.0.push((bound, value)),
                    ("_sum", None) => assert!(series.1.replace(value).is_none()),
                    ("_count", None) => assert!(series.2.replace(value).is_none()),
                    _ => panic!("{line}"),
                }
            }
            for (buckets, sum, count) in series.values() {
                assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: {buckets:?}");
                assert_eq!(buckets.last().copied(), count.map(|count| (f64::INFINITY, count)));
                assert!(sum.is_some());
            }
        }
        assert_eq!(types.len(), METRICS.len());
        samples
    }

    #[test]
    fn the_exposition_is_valid_and_says_what_was_counted() {
        let observer = Observer::new();
        for _ in 0..4 {
            observer.started();
        }
        let ok = || Finished {
            queue_wait: Some(Duration::from_micros(50)),
            first_content: Some(Duration::from_millis(7)),
            overhead: Some(Duration::from_micros(60)),
            ..request(Status::Ok, 200, 20)
        };
        let usage = Usage { input: 8, cached_input: 6, output: 3, reasoning_output: 1 };
        observer.finished(&Finished { usage: Some(usage), ..ok() });
        observer.finished(&Finished { engine: "app-server", ..ok() });
        observer.finished(&request(Status::Error, 504, 300_001));
        let gauges = Gauges {
            engine: "exec",
            uptime_seconds: 12.25,
            slots: 3,
            parked_conversations: 5,
            app_server_pool_started: true,
            rate_limits: vec![("primary", 0.125, Some(1_763_825_000)), ("secondary", 0.5, None)],
            ..Gauges::default()
        };
        let samples = parse(&observer.prometheus(&gauges));
        let info = concat!("info{version=\"", env!("CARGO_PKG_VERSION"), "\",engine=\"exec\"}");
        for (sample, value) in [
            (info, 1.0),
            ("uptime_seconds", 12.25),
            ("slots", 3.0),
            ("parked_conversations", 5.0),
            ("cached_input_ratio", 0.75),
            ("app_server_pool_started", 1.0),
            (r#"rate_limit_used_ratio{window="primary"}"#, 0.125),
            (r#"rate_limit_used_ratio{window="secondary"}"#, 0.5),
            (r#"rate_limit_reset_timestamp_seconds{window="primary"}"#, 1_763_825_000.0),
            ("requests_total", 4.0),
            ("requests_ok_total", 2.0),
            ("requests_in_flight", 1.0),
            (r#"requests_error_total{http_status="504"}"#, 1.0),
            (r#"tokens_total{kind="cached_input"}"#, 6.0),
            (
                r#"request_duration_seconds_bucket{engine="exec",api="chat_completions",status="ok",le="0.01"}"#,
                0.0,
            ),
            (
                r#"request_duration_seconds_bucket{engine="exec",api="chat_completions",status="ok",le="0.025"}"#,
                1.0,
            ),
            (
                r#"request_duration_seconds_bucket{engine="exec",api="chat_completions",status="error",le="300"}"#,
                0.0,
            ),
            (
                r#"request_duration_seconds_bucket{engine="exec",api="chat_completions",status="error",le="+Inf"}"#,
                1.0,
            ),
            (r#"request_duration_seconds_sum{engine="exec",api="chat_completions",status="ok"}"#, 0.02),
            (r#"queue_wait_seconds_bucket{engine="app-server",api="chat_completions",le="0.0001"}"#, 1.0),
            (r#"proxy_overhead_seconds_bucket{engine="exec",api="chat_completions",le="0.00005"}"#, 0.0),
            (r#"proxy_overhead_seconds_bucket{engine="exec",api="chat_completions",le="0.0001"}"#, 1.0),
            (r#"time_to_first_content_seconds_count{engine="exec",api="chat_completions"}"#, 1.0),
        ] {
            assert_eq!(samples.get(&format!("codex_api_proxy_{sample}")), Some(&value), "{sample}");
        }
        let unused = parse(&Observer::new().prometheus(&Gauges::default()));
        assert!(!unused.contains_key("codex_api_proxy_cached_input_ratio"));
    }

    #[test]
    fn label_values_are_escaped() {
        let mut out = Samples { name: "x", text: String::new() };
        out.labelled(&[("a", "\\ \" \n"), ("b", "ü,}")], 1);
        assert_eq!(out.text, "x{a=\"\\\\ \\\" \\n\",b=\"ü,}\"} 1\n");
        let read = labels(out.text.strip_prefix('x').and_then(|text| text.strip_suffix(" 1\n")).unwrap());
        assert_eq!((read["a"].as_str(), read["b"].as_str()), ("\\ \" \n", "ü,}"));
    }
}
