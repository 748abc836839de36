//! A worker that is lost under a request: what cannot have gone upstream is tried once more within, and
//! nothing is bought twice.

use std::time::Duration;

use serde_json::json;

use crate::support::proxy::{Proxy, signal};
use crate::support::{Setup, real, user, wait};
use crate::workers::workers;

const PONG: &str = "Reply with exactly: pong";

/// The worker of a proxy that has one, once it is ready.
fn ready_worker(proxy: &Proxy) -> u32 {
    wait::until("one worker is ready", || {
        proxy.get("/ready").send().json()["workers"] == json!({ "ready": 1, "total": 1 })
    });
    wait::until_some("one worker runs", || match workers(proxy)[..] {
        [worker] => Some(worker),
        _ => None,
    })
}

/// The status of one turn, its answer checked if there is one.
fn turn(proxy: &Proxy) -> u16 {
    let answer = proxy.ask(PONG).send();
    match answer.status {
        200 => assert_eq!(answer.answer(), "pong"),
        status => assert!(answer.json()["error"]["code"].is_string(), "{status} {}", answer.text()),
    }
    answer.status
}

/// With threads started beforehand, the conversation and the start of the turn are written at once,
/// to a process that may be dead already.
#[test]
fn a_worker_killed_just_before_a_request_costs_it_nothing() {
    each_prewarm(|prewarm| {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", "app-server").set("prewarm", prewarm).start();
        for round in 0..6 {
            let worker = ready_worker(&proxy);
            let before = upstream.requests().len();
            signal("KILL", worker);
            // The time between death and request is what is tried.
            std::thread::sleep(Duration::from_millis(round));
            assert_eq!(turn(&proxy), 200, "prewarm {prewarm}, {round} ms after");
            assert_eq!(upstream.requests().len(), before + 1);
        }
    });
}

fn each_prewarm(check: impl Fn(u32) + Sync) {
    std::thread::scope(|scope| {
        for prewarm in [0, 2] {
            let check = &check;
            scope.spawn(move || check(prewarm));
        }
    });
}

#[test]
fn a_worker_killed_during_a_request_never_buys_it_twice() {
    each_prewarm(|prewarm| {
        let Some((setup, upstream)) = real() else { return };
        let proxy = setup.set("engine", "app-server").set("prewarm", prewarm).start();
        let mut answered = 0;
        for round in (0..24).step_by(3) {
            let worker = ready_worker(&proxy);
            let before = upstream.requests().len();
            let status = std::thread::scope(|scope| {
                let turn = scope.spawn(|| turn(&proxy));
                std::thread::sleep(Duration::from_millis(round));
                signal("KILL", worker);
                turn.join().unwrap()
            });
            let bought = upstream.requests().len() - before;
            match status {
                200 => assert_eq!(bought, 1, "prewarm {prewarm}, killed after {round} ms"),
                502 => assert!(bought <= 1, "prewarm {prewarm}, killed after {round} ms: {bought}"),
                status => panic!("{status}"),
            }
            answered += usize::from(status == 200);
        }
        assert!(answered > 0);
    });
}

/// As many turns at once, and how many of them were answered.
fn answered(proxy: &Proxy, turns: usize) -> usize {
    std::thread::scope(|scope| {
        let turns: Vec<_> = (0..turns).map(|_| scope.spawn(|| turn(proxy) == 200)).collect();
        turns.into_iter().map(|turn| usize::from(turn.join().unwrap())).sum()
    })
}

fn gone(pid: u32) -> bool {
    // A zombie would still be there.
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_frozen_worker_costs_its_victim_and_nobody_after() {
    let Some((setup, upstream)) = real() else { return };
    let proxy =
        setup.set("engine", "app-server").set("turns_per_worker", 8).set("timeout_seconds", 8).start();
    let worker = ready_worker(&proxy);
    // In the middle of a turn, which only its own time limit can end.
    let victim = std::thread::scope(|scope| {
        let victim = scope.spawn(|| proxy.ask("[[hang]]").send());
        wait::until("it is at work", || upstream.open() == 1);
        signal("STOP", worker);
        victim.join().unwrap()
    });
    victim.error(504, "timeout_error", "turn_timeout");
    assert_eq!(answered(&proxy, 24), 24);
    wait::until("the frozen one is reaped", || gone(worker));
    assert_eq!(upstream.requests().len(), 25);
    ready_worker(&proxy);
}

#[test]
fn requests_that_a_frozen_worker_never_read_are_answered_by_another() {
    each_prewarm(|prewarm| {
        let Some((setup, upstream)) = real() else { return };
        let setup = setup.set("engine", "app-server").set("turns_per_worker", 24).set("prewarm", prewarm);
        let proxy = setup.start();
        let worker = ready_worker(&proxy);
        signal("STOP", worker);
        assert_eq!(answered(&proxy, 24), 24, "prewarm {prewarm}");
        wait::until("the frozen one is reaped", || gone(worker));
        assert_eq!(upstream.requests().len(), 24);
    });
}

/// It answers some requests and never others.
#[test]
fn a_worker_that_leaves_requests_unanswered_is_replaced() {
    for method in ["thread/start", "turn/start"] {
        let (setup, fake) = Setup::fake(&format!("app-server mute {method}"));
        let setup = setup.set("engine", "app-server").set("turns_per_worker", 8);
        let proxy = setup.set("timeout_seconds", 4).start();
        let worker = ready_worker(&proxy);
        let body = json!({ "messages": [user(PONG)] });
        proxy.chat(body).send().error(504, "timeout_error", "turn_timeout");
        fake.script("");
        assert_eq!(answered(&proxy, 24), 24, "{method}");
        // The old one ends when it owes nobody anything any more.
        assert!(workers(&proxy).iter().any(|now| *now != worker), "{method}");
    }
}

/// Slow is the model, not the worker: it keeps its place.
#[test]
fn a_worker_that_shows_that_it_lives_is_kept() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").set("timeout_seconds", 1).start();
    let worker = ready_worker(&proxy);
    for round in 1..=3 {
        proxy.ask("[[hang]]").send().error(504, "timeout_error", "turn_timeout");
        assert_eq!(answered(&proxy, 1), 1);
        assert_eq!(upstream.requests().len(), 2 * round);
    }
    assert_eq!(ready_worker(&proxy), worker);
}
