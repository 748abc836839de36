//! App-server workers that come, go and die while they are used, with a fake Codex.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::proxy::{Proxy, signal};
use crate::support::{Setup, wait};

/// The processes that the proxy has started and not yet reaped.
pub fn workers(proxy: &Proxy) -> Vec<u32> {
    let pid = proxy.pid();
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return vec![] };
    let children =
        tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The worker of a proxy that has one, while nothing else of Codex runs.
fn only_worker(proxy: &Proxy) -> u32 {
    wait::until_some("one worker runs", || match workers(proxy)[..] {
        [worker] => Some(worker),
        _ => None,
    })
}

/// How many files and sockets the proxy has open.
pub fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).map_or(0, Iterator::count)
}

#[test]
fn another_login_gets_another_worker_and_then_there_is_rest() {
    let (setup, _fake) = Setup::fake("");
    let write = |proxy: &Proxy, key: &str| {
        // Into the same file, as Codex itself does when it refreshes a token.
        proxy.scratch().write("home/.codex/auth.json", &format!(r#"{{"OPENAI_API_KEY":"{key}"}}"#));
    };
    setup.scratch().write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-1"}"#);
    let proxy = setup.set("engine", "app-server").start();
    let mut worker = only_worker(&proxy);
    for key in ["sk-2", "sk-3"] {
        write(&proxy, key);
        wait::until("a worker of the new login took over", || {
            assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
            let now = workers(&proxy);
            now.len() == 1 && now[0] != worker
        });
        worker = only_worker(&proxy);
    }
    let started = || proxy.log().matches("a codex worker is ready").count();
    wait::until("each login was taken up", || started() >= 3);
    assert_eq!(started(), 3, "and once only");
    assert!(!proxy.log().contains("sk-"));
}

/// By turns, by memory, by what its log takes: another one takes over, and no turn fails of it.
#[test]
fn a_worn_worker_is_replaced_and_nobody_notices() {
    for (script, why, turns) in [
        ("", "it has had its turns", 1100),
        ("app-server heavy 520", "its memory has grown", 100),
        ("app-server log 65", "its log has grown", 100),
        ("app-server heavy 400\napp-server log 64", "", 100),
    ] {
        let (setup, _fake) = Setup::fake(script);
        let proxy =
            setup.set("engine", "app-server").set("turns_per_worker", 4).set("max_concurrency", 4).start();
        let before = only_worker(&proxy);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..turns / 4 {
                        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong", "{script}");
                    }
                });
            }
        });
        if why.is_empty() {
            assert_eq!(only_worker(&proxy), before, "{script}");
            assert!(!proxy.log().contains("is replaced"));
            continue;
        }
        wait::until("another one took over", || workers(&proxy).iter().all(|now| *now != before));
        assert!(proxy.log().contains(&format!("a codex worker is replaced: {why}")), "{}", proxy.log());
        let databases = proxy.scratch().path().join("home/.codex-api-proxy/codex-databases");
        wait::until("what it wrote is gone", || {
            std::fs::read_dir(&databases).unwrap().count() == workers(&proxy).len()
        });
    }
}

/// Streams that complete, streams whose client leaves and streams whose worker is killed, all at once.
#[test]
fn dying_workers_under_load_leave_everything_in_its_place() {
    let (setup, _fake) = Setup::fake("");
    let proxy = setup.set("engine", "app-server").set("workers", 4).set("turns_per_worker", 8).start();
    wait::until("four workers run", || workers(&proxy).len() == 4);
    proxy.ask("Reply with exactly: pong").send().answer();
    let before = descriptors(&proxy);
    for round in 0..3 {
        let begun = AtomicUsize::new(0);
        let outcomes: Vec<Option<(Vec<Value>, bool)>> = std::thread::scope(|scope| {
            let streams: Vec<_> = (0..32)
                .map(|number| {
                    let (proxy, begun) = (&proxy, &begun);
                    scope.spawn(move || {
                        let mut stream = proxy.ask_streamed("Stream 60 every 50").open();
                        begun.fetch_add(1, Ordering::Relaxed);
                        if number % 4 == 0 {
                            stream.data();
                            return None;
                        }
                        // What fails before it began has its status instead of a stream.
                        if stream.header("content-type") == Some("application/json") {
                            return Some((vec![stream.whole().json()], false));
                        }
                        Some(stream.chunks())
                    })
                })
                .collect();
            // A turn that has not begun would be given to another worker, and not be cut.
            wait::until("the turns tell", || begun.load(Ordering::Relaxed) == 32);
            // Two of four; the others' turns must not notice.
            workers(&proxy).iter().take(2).for_each(|pid| signal("KILL", *pid));
            streams.into_iter().map(|stream| stream.join().unwrap()).collect()
        });
        let ended: Vec<(Vec<Value>, bool)> = outcomes.into_iter().flatten().collect();
        let (mut whole, mut cut) = (0, 0);
        for (chunks, done) in &ended {
            let last = chunks.last().unwrap();
            let said: Vec<&str> = chunks
                .iter()
                .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
                .filter(|text| !text.is_empty())
                .map(|text| text.split(' ').next().unwrap())
                .collect();
            let in_order = said.iter().enumerate().all(|(index, number)| *number == index.to_string());
            assert!(in_order, "{said:?}");
            if *done {
                whole += 1;
                assert_eq!(said.len(), 60);
            } else {
                cut += 1;
                assert!(last["error"]["message"].is_string(), "{last}");
            }
        }
        assert_eq!(ended.len(), 24);
        assert!(whole > 0 && cut > 0, "round {round}: {whole} whole, {cut} cut");
    }
    wait::until("four workers are ready and nothing runs", || {
        let page = proxy.get("/ready").send().json();
        page["workers"] == json!({ "ready": 4, "total": 4 })
            && page["queue"]["running"] == 0
            && page["queue"]["waiting"] == 0
    });
    wait::until("there are four processes", || workers(&proxy).len() == 4);
    wait::until("every descriptor is given back", || descriptors(&proxy) <= before);
    // All slots are free.
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong"));
        }
    });
}
