//! `engine = app-server`: many turns on one process, against a JSON-RPC client of the same.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::process::Child;
use tokio::task::JoinSet;

use crate::client::{Client, PROMPT};
use crate::rpc::Direct;
use crate::{Bench, CONCURRENCY, cpu_seconds, heading, milliseconds, percentile, rate, row, status_kb};

const SETTINGS: &[&str] = &["--engine=app-server", "--turns-per-worker=256"];

/// Deltas in a stream that is not paced, and how many such streams at once.
const FLOOD: (usize, usize) = (10_000, 32);

/// Deltas in a paced stream, and the milliseconds between them.
const PACED: (usize, usize) = (100, 20);

/// How often the time to the first content is measured with either.
const ROUNDS: usize = 5;

/// Streams that are open at once where memory is measured.
const OPEN: usize = 256;

/// Measures and prints.
pub async fn run(bench: &Bench, requests: usize) {
    heading("engine = app-server");
    let (mut proxy, address) = bench.serve(&bench.fake, SETTINGS).await;
    let direct = Arc::new(Direct::start(&bench.fake).await);
    let both = Both { address, direct, pid: proxy.id().unwrap() };
    let (ours, theirs) = both.one_at_a_time(400).await;
    for (name, at, target) in [("p50", 0.5, "added <= 0.3 ms"), ("p99", 0.99, "")] {
        let (ours, theirs) = (percentile(&ours, at), percentile(&theirs, at));
        row(
            &format!("time at concurrency 1, {name} (ms)"),
            format!("{ours:.2}"),
            format!("{theirs:.2}"),
            format!("+{:.2}", ours - theirs),
            target,
        );
    }
    prewarmed(bench).await;
    both.throughput(requests).await;
    both.first_content(requests).await;
    both.flood().await;
    both.paced().await;
    proxy.kill().await.unwrap();
    open_streams(bench).await;
}

/// The same fake, but as the real one it takes its time to start a thread: 5 ms (that one 26).
async fn prewarmed(bench: &Bench) {
    let folder = bench.home.join("slow");
    std::fs::create_dir_all(&folder).unwrap();
    let slow = folder.join("codex");
    std::fs::copy(&bench.fake, &slow).unwrap();
    std::fs::write(slow.with_extension("script"), "app-server pause thread/start 5\n").unwrap();
    let settings: Vec<&str> = SETTINGS.iter().copied().chain(["--prewarm=4"]).collect();
    let (mut proxy, address) = bench.serve(&slow, &settings).await;
    let direct = Arc::new(Direct::start(&slow).await);
    let both = Both { address, direct, pid: 0 };
    let (ours, theirs) = both.one_at_a_time(100).await;
    proxy.kill().await.unwrap();
    let (ours, theirs) = (percentile(&ours, 0.5), percentile(&theirs, 0.5));
    compare("time with prewarm, thread/start of 5 ms, p50 (ms)", ours, theirs, 2, "faster than direct");
}

/// Resident memory with many streams open.
async fn open_streams(bench: &Bench) {
    let (mut proxy, address): (Child, SocketAddr) = bench.serve(&bench.fake, SETTINGS).await;
    let pid = proxy.id().unwrap();
    let idle = status_kb(pid, "VmRSS:") / 1024.0;
    let mut clients = vec![];
    for _ in 0..OPEN {
        let mut client = Client::connect(address).await.unwrap();
        client.open("Stream 20 and hang").await;
        clients.push(client);
    }
    for client in &mut clients {
        client.first_delta().await;
    }
    let busy = status_kb(pid, "VmRSS:") / 1024.0;
    proxy.kill().await.unwrap();
    row("resident memory, idle (MB)", format!("{idle:.1}"), "-".into(), String::new(), "");
    row(
        &format!("resident memory, {OPEN} open streams (MB)"),
        format!("{busy:.1}"),
        "-".into(),
        String::new(),
        "<= 25 MB",
    );
}

fn compare(name: &str, ours: f64, direct: f64, digits: usize, target: &str) {
    let ratio = format!("{:.2}x", ours / direct);
    row(name, format!("{ours:.digits$}"), format!("{direct:.digits$}"), ratio, target);
}

/// The proxy, and an app-server spoken to directly.
#[derive(Clone)]
struct Both {
    address: SocketAddr,
    direct: Arc<Direct>,
    pid: u32,
}

impl Both {
    /// Sorted milliseconds of ours and direct, taken turn by turn so that both see the same machine.
    async fn one_at_a_time(&self, count: usize) -> (Vec<f64>, Vec<f64>) {
        let mut client = Client::connect(self.address).await.unwrap();
        let (mut ours, mut theirs) = (vec![], vec![]);
        for round in 0..count + 20 {
            let start = Instant::now();
            client.ask().await;
            let our = milliseconds(start);
            let start = Instant::now();
            self.direct.ask(PROMPT, |delta| assert_eq!(delta, "pong")).await;
            // The first rounds warm the caches of both.
            if round >= 20 {
                ours.push(our);
                theirs.push(milliseconds(start));
            }
        }
        (sorted(ours), sorted(theirs))
    }

    async fn throughput(&self, requests: usize) {
        let (address, cpu) = (self.address, cpu_seconds(self.pid));
        let ours = rate(requests, |left| async move {
            let mut client = Client::connect(address).await.unwrap();
            while left.take() {
                client.ask().await;
            }
        })
        .await;
        let cpu = (cpu_seconds(self.pid) - cpu) * 1000.0 / requests as f64;
        let theirs = rate(requests, |left| {
            let direct = Arc::clone(&self.direct);
            async move {
                while left.take() {
                    direct.ask(PROMPT, |_| ()).await;
                }
            }
        })
        .await;
        compare(&format!("throughput at concurrency {CONCURRENCY} (requests/s)"), ours, theirs, 0, ">= 4000");
        row(
            "CPU of the proxy alone per 1000 requests (s)",
            format!("{cpu:.2}"),
            "-".into(),
            String::new(),
            "",
        );
    }

    /// In rounds of both, so that what else the machine does meets both alike.
    async fn first_content(&self, requests: usize) {
        let (ours, theirs) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            let (address, into) = (self.address, ours.clone());
            rate(requests / ROUNDS, move |left| {
                let into = into.clone();
                async move {
                    let mut client = Client::connect(address).await.unwrap();
                    while left.take() {
                        into.add(client.stream(PROMPT, |_| ()).await.as_secs_f64() * 1000.0);
                    }
                }
            })
            .await;
            let (direct, into) = (Arc::clone(&self.direct), theirs.clone());
            rate(requests / ROUNDS, move |left| {
                let (direct, into) = (Arc::clone(&direct), into.clone());
                async move {
                    while left.take() {
                        into.add(direct.ask(PROMPT, |_| ()).await.as_secs_f64() * 1000.0);
                    }
                }
            })
            .await;
        }
        let (ours, theirs) = (percentile(&ours.sorted(), 0.5), percentile(&theirs.sorted(), 0.5));
        let name = format!("time to first content at concurrency {CONCURRENCY}, p50 (ms)");
        compare(&name, ours, theirs, 2, "<= 2x");
    }

    /// Streams as fast as they come.
    async fn flood(&self) {
        let (deltas, streams) = FLOOD;
        let prompt = format!("Stream {deltas}");
        let all = (deltas * streams) as f64;
        let (cpu, start) = (cpu_seconds(self.pid), Instant::now());
        let mut tasks = JoinSet::new();
        for _ in 0..streams {
            let (address, prompt) = (self.address, prompt.clone());
            tasks.spawn(async move {
                let mut next = Next::default();
                Client::connect(address).await.unwrap().stream(&prompt, |delta| _ = next.check(delta)).await;
                assert_eq!(next.0, deltas, "deltas were lost");
            });
        }
        tasks.join_all().await;
        let ours = all / start.elapsed().as_secs_f64();
        let cpu = (cpu_seconds(self.pid) - cpu) * 100_000.0 / all;

        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..streams {
            let (direct, prompt) = (Arc::clone(&self.direct), prompt.clone());
            tasks.spawn(async move {
                let mut next = Next::default();
                direct.ask(&prompt, |delta| _ = next.check(delta)).await;
            });
        }
        tasks.join_all().await;
        let theirs = all / start.elapsed().as_secs_f64();
        compare(&format!("deltas/s of {streams} streams"), ours, theirs, 0, ">= 150000");
        row(
            "CPU of the proxy alone per 100,000 deltas (s)",
            format!("{cpu:.2}"),
            "-".into(),
            String::new(),
            "<= 0.5 s",
        );
    }

    /// Streams of the pace of a model: how late each delta is.
    async fn paced(&self) {
        let (deltas, pace) = PACED;
        let prompt = format!("Stream {deltas} every {pace}");
        let (ours, theirs) = (Samples::default(), Samples::default());
        let mut tasks = JoinSet::new();
        let cpu = cpu_seconds(self.pid);
        for _ in 0..CONCURRENCY {
            let (address, prompt, into) = (self.address, prompt.clone(), ours.clone());
            tasks.spawn(async move {
                let mut next = Next::default();
                let on = |delta: &str| into.add(next.check(delta));
                Client::connect(address).await.unwrap().stream(&prompt, on).await;
                assert_eq!(next.0, deltas, "deltas were lost");
            });
        }
        tasks.join_all().await;
        let cpu = (cpu_seconds(self.pid) - cpu) * 100_000.0 / (deltas * CONCURRENCY) as f64;
        let mut tasks = JoinSet::new();
        for _ in 0..CONCURRENCY {
            let (direct, prompt, into) = (Arc::clone(&self.direct), prompt.clone(), theirs.clone());
            tasks.spawn(async move {
                let mut next = Next::default();
                direct.ask(&prompt, |delta| into.add(next.check(delta))).await;
            });
        }
        tasks.join_all().await;
        let (ours, theirs) = (ours.sorted(), theirs.sorted());
        for (name, at, target) in [("p50", 0.5, ""), ("p99", 0.99, "<= 5 ms")] {
            compare(
                &format!("delay of a delta, {CONCURRENCY} paced streams, {name} (ms)"),
                percentile(&ours, at),
                percentile(&theirs, at),
                2,
                target,
            );
        }
        row(
            "CPU of the proxy per 100,000 paced deltas (s)",
            format!("{cpu:.2}"),
            "-".into(),
            String::new(),
            "",
        );
    }
}

/// The number the next delta must have.
#[derive(Default)]
struct Next(usize);

impl Next {
    /// Checks that the delta is the next one and that one alone; gives its age in milliseconds where it
    /// says when it was written.
    fn check(&mut self, delta: &str) -> f64 {
        let mut words = delta.split(' ');
        let number: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(usize::MAX);
        assert_eq!(number, self.0, "a delta is lost, merged or out of order: {delta:?}");
        self.0 += 1;
        let written =
            words.next().and_then(|word| word.parse().ok()).map_or(Duration::ZERO, Duration::from_micros);
        assert!(words.all(str::is_empty), "deltas were merged: {delta:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.saturating_sub(written).as_secs_f64() * 1000.0
    }
}

/// Numbers collected by many tasks.
#[derive(Clone, Default)]
struct Samples(Arc<Mutex<Vec<f64>>>);

impl Samples {
    fn add(&self, sample: f64) {
        self.0.lock().unwrap().push(sample);
    }

    fn sorted(&self) -> Vec<f64> {
        sorted(self.0.lock().unwrap().clone())
    }
}

fn sorted(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    samples
}
