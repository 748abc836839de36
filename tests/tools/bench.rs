//! `make bench`: what the proxy adds to spawning Codex directly, in one run on this machine.
//!
//! Both sides run the same compiled fake Codex, which answers at once: what is left is the cost
//! of the path. Ours is asked over keep-alive connections, the direct side spawns from this
//! process with the same pipes. Numbers are printed beside their targets; nothing fails on time.
//! `BENCH_REQUESTS` changes how many requests the throughput is measured with (2000).
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const CONCURRENCY: usize = 64;
const PROMPT: &str = "Reply with exactly: pong";

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

        let starts = self.starts(15).await;
        let (mut proxy, address) = self.serve().await;
        let pid = proxy.id().unwrap();
        let idle = status_kb(pid, "VmRSS:");

        let (ours, direct) = self.one_at_a_time(address, 400).await;
        let cpu = cpu_seconds(pid);
        let our_rate = rate(requests, |left| async move {
            let mut client = Client::connect(address).await.unwrap();
            while left.take() {
                client.ask().await;
            }
        })
        .await;
        let cpu = (cpu_seconds(pid) - cpu) * 1000.0 / requests as f64;
        let direct_rate = rate(requests, |left| {
            let fake = self.fake.clone();
            async move {
                while left.take() {
                    spawn_directly(&fake).await;
                }
            }
        })
        .await;
        let busy = status_kb(pid, "VmRSS:");
        proxy.kill().await.unwrap();

        let added = |at: f64| percentile(&ours, at) - percentile(&direct, at);
        let kb = |path: &Path| std::fs::metadata(path).unwrap().len() as f64 / 1024.0;
        println!("\n{:<44} {:>10} {:>10} {:>8}   target", "", "ours", "direct", "");
        let row = |name: &str, ours: String, direct: String, ratio: String, target: &str| {
            println!("{name:<44} {ours:>10} {direct:>10} {ratio:>8}   {target}");
        };
        for (name, at, target) in [("p50", 0.5, "added <= 1 ms"), ("p99", 0.99, "")] {
            row(
                &format!("time at concurrency 1, {name} (ms)"),
                format!("{:.2}", percentile(&ours, at)),
                format!("{:.2}", percentile(&direct, at)),
                format!("+{:.2}", added(at)),
                target,
            );
        }
        row(
            &format!("throughput at concurrency {CONCURRENCY} (turns/s)"),
            format!("{our_rate:.0}"),
            format!("{direct_rate:.0}"),
            format!("{:.0} %", 100.0 * our_rate / direct_rate),
            ">= 80 %",
        );
        let none = || "-".to_owned();
        row(
            "CPU of the proxy alone per 1000 requests (s)",
            format!("{cpu:.2}"),
            none(),
            String::new(),
            "<= 1.2 s",
        );
        row(
            "process start to /health, median (ms)",
            format!("{:.1}", percentile(&starts, 0.5)),
            none(),
            String::new(),
            "<= 30 ms",
        );
        row("resident memory, idle (MB)", format!("{:.1}", idle / 1024.0), none(), String::new(), "<= 10 MB");
        row(
            "resident memory, after the load (MB)",
            format!("{:.1}", busy / 1024.0),
            none(),
            String::new(),
            "",
        );
        row(
            "program on disk (MB)",
            format!("{:.1}", kb(&self.proxy) / 1024.0),
            none(),
            String::new(),
            "<= 8 MB",
        );
    }

    fn command(&self, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.proxy);
        command
            .arg("serve")
            .arg(format!("--host={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--codex-bin={}", self.fake.display()))
            .arg(format!("--max-concurrency={CONCURRENCY}"))
            .arg("--max-queue-size=1024")
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
            let mut command = self.command(address);
            let start = Instant::now();
            let mut proxy = command.spawn().unwrap();
            self.until_ok(&mut proxy, address, "/health").await;
            times.push(milliseconds(start));
            proxy.kill().await.unwrap();
        }
        times.sort_by(f64::total_cmp);
        times
    }

    async fn serve(&self) -> (Child, SocketAddr) {
        let address = free_address();
        let mut proxy = self.command(address).spawn().unwrap();
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

    /// Sorted milliseconds of ours and direct, taken turn by turn so that both see the same machine.
    async fn one_at_a_time(&self, address: SocketAddr, count: usize) -> (Vec<f64>, Vec<f64>) {
        let mut client = Client::connect(address).await.unwrap();
        let (mut ours, mut direct) = (vec![], vec![]);
        for round in 0..count + 20 {
            let start = Instant::now();
            client.ask().await;
            let our = milliseconds(start);
            let start = Instant::now();
            spawn_directly(&self.fake).await;
            // The first rounds warm the caches of both.
            if round >= 20 {
                ours.push(our);
                direct.push(milliseconds(start));
            }
        }
        ours.sort_by(f64::total_cmp);
        direct.sort_by(f64::total_cmp);
        (ours, direct)
    }
}

/// What a program would do that calls Codex itself.
async fn spawn_directly(fake: &Path) {
    let mut child = Command::new(fake)
        .args([
            "exec",
            "--json",
            "--skip-git-repo-check",
            "--ignore-user-config",
            "--ignore-rules",
            "--ephemeral",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(PROMPT.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success() && output.stdout.windows(4).any(|window| window == b"pong"));
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

/// A keep-alive connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Option<Client> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Client { stream, buffer: vec![] })
    }

    async fn get(&mut self, path: &str) -> u16 {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await
    }

    async fn ask(&mut self) {
        let body =
            format!(r#"{{"model":"codex-local","messages":[{{"role":"user","content":"{PROMPT}"}}]}}"#);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let status = self.exchange(&request).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&self.buffer));
        assert!(self.buffer.windows(4).any(|window| window == b"pong"));
    }

    /// Sends a request, reads its answer whole, gives the status.
    async fn exchange(&mut self, request: &str) -> u16 {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let length: usize = length.and_then(|text| text.parse().ok()).expect("a content-length");
                if self.buffer.len() >= end + 4 + length {
                    return head[9..12].parse().unwrap();
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return 0;
            }
        }
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
