//! `engine = exec`: one process a turn, against a program that spawns Codex itself.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::client::{Client, PROMPT};
use crate::{Bench, CONCURRENCY, cpu_seconds, heading, milliseconds, percentile, rate, row, status_kb};

/// Measures and prints.
pub async fn run(bench: &Bench, requests: usize) {
    let starts = bench.starts(15).await;
    let (mut proxy, address) = bench.serve(&bench.fake, &[]).await;
    let pid = proxy.id().unwrap();
    let idle = status_kb(pid, "VmRSS:");

    let (ours, direct) = one_at_a_time(bench, address, 400).await;
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
        let fake = bench.fake.clone();
        async move {
            while left.take() {
                spawn_directly(&fake).await;
            }
        }
    })
    .await;
    let busy = status_kb(pid, "VmRSS:");
    proxy.kill().await.unwrap();

    heading("engine = exec");
    for (name, at, target) in [("p50", 0.5, "added <= 1 ms"), ("p99", 0.99, "")] {
        let (ours, direct) = (percentile(&ours, at), percentile(&direct, at));
        row(
            &format!("time at concurrency 1, {name} (ms)"),
            format!("{ours:.2}"),
            format!("{direct:.2}"),
            format!("+{:.2}", ours - direct),
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
    let alone = |name: &str, ours: String, target: &str| row(name, ours, "-".into(), String::new(), target);
    let megabytes = std::fs::metadata(&bench.proxy).unwrap().len() as f64 / f64::from(1 << 20);
    alone("CPU of the proxy alone per 1000 requests (s)", format!("{cpu:.2}"), "<= 1.2 s");
    alone("process start to /health, median (ms)", format!("{:.1}", percentile(&starts, 0.5)), "<= 30 ms");
    alone("resident memory, idle (MB)", format!("{:.1}", idle / 1024.0), "<= 10 MB");
    alone("resident memory, after the load (MB)", format!("{:.1}", busy / 1024.0), "");
    alone("program on disk (MB)", format!("{megabytes:.1}"), "<= 8 MB");
}

/// Sorted milliseconds of ours and direct, taken turn by turn so that both see the same machine.
async fn one_at_a_time(bench: &Bench, address: SocketAddr, count: usize) -> (Vec<f64>, Vec<f64>) {
    let mut client = Client::connect(address).await.unwrap();
    let (mut ours, mut direct) = (vec![], vec![]);
    for round in 0..count + 20 {
        let start = Instant::now();
        client.ask().await;
        let our = milliseconds(start);
        let start = Instant::now();
        spawn_directly(&bench.fake).await;
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
