//! `make bench`: what the proxy adds to using Codex directly, in one run on this machine.
//!
//! Both sides run the same compiled fake Codex, which answers at once: what is left is the cost
//! of the path. Ours is asked over keep-alive connections; the direct side spawns from this
//! process with the same pipes, or talks JSON-RPC to an app-server of its own. Numbers are printed
//! beside their targets; nothing fails on time, but a delta that is lost, merged or out of order does.
//! `BENCH_REQUESTS` changes how many requests the throughput is measured with (2000; five times
//! that for the app-server). `make bench ARGS=app-server` and `ARGS=exec` measure one engine,
//! `ARGS=growth` what a request costs when it has twice of something, `ARGS=cache` how much of a
//! conversation is paid for once, with the real Codex CLI.
#![allow(clippy::unwrap_used)]

mod app_server;
mod cache;
mod client;
mod exec;
mod growth;
mod rpc;
// The tests' own scripted upstream, of which this uses a part.
#[allow(dead_code)]
#[path = "../../it/support/upstream.rs"]
mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use client::Client;

const CONCURRENCY: usize = 64;

#[tokio::main]
async fn main() {
    let here = std::env::current_exe().unwrap();
    let examples = here.parent().unwrap();
    let bench = Bench {
        fake: examples.join("fake-codex"),
        proxy: examples.parent().unwrap().join("codex-api-proxy"),
        home: Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench").join(std::process::id().to_string()),
    };
    for program in [&bench.fake, &bench.proxy] {
        assert!(program.exists(), "{} is not built: use `make bench`", program.display());
    }
    std::fs::create_dir_all(bench.home.join("home/.codex")).unwrap();
    std::fs::write(bench.home.join("home/.codex/auth.json"), r#"{"OPENAI_API_KEY":"sk-bench"}"#).unwrap();
    bench.run().await;
    let _ = std::fs::remove_dir_all(&bench.home);
}

struct Bench {
    fake: PathBuf,
    proxy: PathBuf,
    home: PathBuf,
}

impl Bench {
    async fn run(&self) {
        let requests =
            std::env::var("BENCH_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!(
            "{cores} cores, {requests} requests at concurrency {CONCURRENCY}, fake codex that answers at once"
        );
        let only = std::env::args().nth(1);
        let all = only.is_none();
        if only.as_deref() == Some("growth") {
            return growth::run(self).await;
        }
        if all || only.as_deref() == Some("exec") {
            exec::run(self, requests).await;
        }
        if all || only.as_deref() == Some("app-server") {
            app_server::run(self, 5 * requests).await;
        }
        if all || only.as_deref() == Some("cache") {
            cache::run(self).await;
        }
    }

    fn command(&self, fake: &Path, address: SocketAddr, settings: &[&str]) -> Command {
        let mut command = Command::new(&self.proxy);
        command
            .arg("serve")
            .arg(format!("--host={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--codex-bin={}", fake.display()))
            .arg(format!("--max-concurrency={CONCURRENCY}"))
            .arg("--max-queue-size=1024")
            .args(settings)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.home.join("log")).unwrap())
            .kill_on_drop(true);
        command
    }

    /// Milliseconds from spawn to the first 200 of `/health`.
    async fn starts(&self, count: usize) -> Vec<f64> {
        let mut times = vec![];
        for _ in 0..count {
            let address = free_address();
            let mut command = self.command(&self.fake, address, &[]);
            let start = Instant::now();
            let mut proxy = command.spawn().unwrap();
            self.until_ok(&mut proxy, address, "/health").await;
            times.push(milliseconds(start));
            proxy.kill().await.unwrap();
        }
        times.sort_by(f64::total_cmp);
        times
    }

    async fn serve(&self, fake: &Path, settings: &[&str]) -> (Child, SocketAddr) {
        let address = free_address();
        let mut proxy = self.command(fake, address, settings).spawn().unwrap();
        self.until_ok(&mut proxy, address, "/ready").await;
        (proxy, address)
    }

    async fn until_ok(&self, proxy: &mut Child, address: SocketAddr, path: &str) {
        let start = Instant::now();
        loop {
            if let Some(mut client) = Client::connect(address).await
                && client.get(path).await == 200
            {
                return;
            }
            if let Some(status) = proxy.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
                panic!("the proxy ended at once: {status}\n{log}");
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{path} is not 200");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
}

/// The head of a table.
fn heading(name: &str) {
    println!("\n{name:<48} {:>10} {:>10} {:>8}   target", "ours", "direct", "");
}

/// A line of it.
fn row(name: &str, ours: String, direct: String, ratio: String, target: &str) {
    println!("{name:<48} {ours:>10} {direct:>10} {ratio:>8}   {target}");
}

/// Turns a second, with `CONCURRENCY` tasks that take from one count.
async fn rate<F: Future<Output = ()> + Send + 'static>(count: usize, task: impl Fn(Count) -> F) -> f64 {
    let left = Count(Arc::new(AtomicUsize::new(count)));
    let start = Instant::now();
    let tasks: tokio::task::JoinSet<()> = (0..CONCURRENCY).map(|_| task(left.clone())).collect();
    tasks.join_all().await;
    count as f64 / start.elapsed().as_secs_f64()
}

/// How many turns are still to be taken.
#[derive(Clone)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn percentile(sorted: &[f64], at: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * at) as usize]
}

/// User and system time of the process alone: fields 14 and 15 of proc_pid_stat(5), without those of
/// the children it has reaped. A tick is 10 ms wherever Linux runs today. 0 elsewhere.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn status_kb(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0.0)
}
