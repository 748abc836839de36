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
    Gauge "connections": "Open client connections.",
        |out, _, gauges| out.value(gauges.connections);
    Gauge "buffered_bytes": "Bytes of request bodies held in memory.",
        |out, _, gauges| out.value(gauges.buffered_bytes);
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
    Histogram "request_duration_seconds": "Request read to whole reply written.",
        |out, totals, _| for (engine, timings) in &totals.engines {
            for (status, histogram) in &timings.total {
                out.histogram(&[("engine", engine), ("status", status.name())], histogram);
            }
        };
    Histogram "queue_wait_seconds": "Joining the queue to slot granted.",
        |out, totals, _| for (engine, timings) in &totals.engines {
            out.histogram(&[("engine", engine)], &timings.queue_wait);
        };
    Histogram "time_to_first_content_seconds": "Request read to first piece of the answer known.",
        |out, totals, _| for (engine, timings) in &totals.engines {
            out.histogram(&[("engine", engine)], &timings.first_content);
        };
    Histogram "proxy_overhead_seconds": "Request read to reply written, less queueing and Codex.",
        |out, totals, _| for (engine, timings) in &totals.engines {
            out.histogram(&[("engine", engine)], &timings.overhead);
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
