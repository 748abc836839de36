//! One bounded queue: first come first served within a caller, in turn between callers.

use serde_json::json;

use crate::support::{Setup, user, wait};

/// A turn that lasts until the file `go` appears.
const WAITING: &str = "start\nmark begun\nwait go\nanswer pong\ndone";

#[test]
fn the_queue_has_an_end_and_says_so() {
    let (setup, fake) = Setup::fake(WAITING);
    let proxy = setup.set("max_queue_size", 1).start();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask("first").send());
        wait::until("the first runs", || fake.turns().len() == 1);
        let second = scope.spawn(|| proxy.ask("second").send());
        wait::until("the second waits", || proxy.metrics()["turns_queued"] == 1);
        for stream in [false, true] {
            let answer = proxy.chat(json!({ "stream": stream, "messages": [user("third")] })).send();
            answer.error(429, "rate_limit_error", "queue_full");
            assert_eq!(
                (answer.header("x-should-retry"), answer.header("retry-after")),
                (Some("true"), Some("1"))
            );
        }
        proxy.scratch().write("bin/go", "");
        assert_eq!(first.join().unwrap().answer(), "pong");
        assert_eq!(second.join().unwrap().answer(), "pong");
    });
    assert_eq!(fake.turns().len(), 2, "what was refused never ran");
}

#[test]
fn n_turns_are_refused_together() {
    let (setup, fake) = Setup::fake(WAITING);
    let proxy = setup.set("max_queue_size", 2).start();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask("first").send());
        wait::until("the first runs", || fake.turns().len() == 1);
        proxy.chat(json!({ "n": 3, "messages": [user("hi")] })).send().error(
            429,
            "rate_limit_error",
            "queue_full",
        );
        assert_eq!(proxy.metrics()["turns_queued"], 0, "none of the three stayed");
        let both = scope.spawn(|| proxy.chat(json!({ "n": 2, "messages": [user("hi")] })).send());
        wait::until("two wait", || proxy.metrics()["turns_queued"] == 2);
        proxy.scratch().write("bin/go", "");
        first.join().unwrap().answer();
        assert_eq!(both.join().unwrap().json()["choices"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn a_queue_of_no_places_still_lets_a_free_slot_be_used() {
    let (setup, fake) = Setup::fake(WAITING);
    let proxy = setup.set("max_queue_size", 0).start();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask("first").send());
        wait::until("the first runs", || fake.turns().len() == 1);
        proxy.ask("second").send().error(429, "rate_limit_error", "queue_full");
        proxy.scratch().write("bin/go", "");
        first.join().unwrap().answer();
    });
    assert_eq!(proxy.ask("third").send().answer(), "pong");
}

#[test]
fn waiting_has_an_end() {
    let (setup, fake) = Setup::fake(WAITING);
    let proxy = setup.set("queue_timeout_seconds", "0.1").start();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask("first").send());
        wait::until("the first runs", || fake.turns().len() == 1);
        let answer = proxy.ask("second").send();
        answer.error(429, "rate_limit_error", "queue_timeout");
        assert_eq!(answer.header("x-should-retry"), Some("true"));
        proxy.scratch().write("bin/go", "");
        first.join().unwrap().answer();
    });
}

#[test]
fn first_come_first_served() {
    let (setup, fake) = Setup::fake(WAITING);
    let proxy = setup.start();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let proxy = &proxy;
            scope.spawn(move || proxy.ask(&format!("number {number}")).send().answer());
            wait::until("it runs or waits", || {
                let metrics = proxy.metrics();
                metrics["turns_queued"] == number && fake.turns().len() == 1
            });
        }
        proxy.scratch().write("bin/go", "");
    });
    let prompts: Vec<String> =
        fake.calls().iter().filter_map(|call| call["stdin"].as_str().map(str::to_owned)).collect();
    let expected: Vec<String> = (0..6).map(|number| format!("number {number}")).collect();
    assert_eq!(prompts, expected);
}

#[test]
fn so_many_run_at_once_and_no_more() {
    let (setup, fake) = Setup::fake(WAITING);
    let proxy = setup.set("max_concurrency", 3).start();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| proxy.ask("hi").send().answer());
        }
        wait::until("three run and two wait", || {
            fake.turns().len() == 3 && proxy.metrics()["turns_queued"] == 2
        });
        assert_eq!(proxy.metrics()["requests_in_flight"], 5);
        proxy.scratch().write("bin/go", "");
    });
    assert_eq!(fake.turns().len(), 5);
}

#[test]
fn callers_take_turns_and_a_full_queue_gives_way_to_who_has_less_in_it() {
    let (setup, fake) = Setup::fake(WAITING);
    let file = setup.scratch().write("keys", "ann-key\nbob-key\n");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let proxy = setup.set("api_key_file", file.display()).set("max_queue_size", 4).start();
    let queued = |count: u64| {
        wait::until(&format!("{count} wait"), || {
            proxy.get("/metrics").key("ann-key").send().json()["turns_queued"] == count
        });
    };
    let mut refused = vec![];
    std::thread::scope(|scope| {
        let ask = |key: &'static str, text: &'static str| {
            let proxy = &proxy;
            scope.spawn(move || proxy.ask(text).key(key).send())
        };
        let mut ann = vec![ask("ann-key", "ann 0")];
        wait::until("the first runs", || fake.turns().len() == 1);
        for (waiting, text) in [(1, "ann 1"), (2, "ann 2"), (3, "ann 3"), (4, "ann 4")] {
            ann.push(ask("ann-key", text));
            queued(waiting);
        }
        // A lone caller may use all of it, and no more.
        ask("ann-key", "ann 5").join().unwrap().error(429, "rate_limit_error", "queue_full");
        let bob = [ask("bob-key", "bob 1")];
        refused.push(ann.pop().unwrap().join().unwrap());
        let bob = bob.into_iter().chain([ask("bob-key", "bob 2")]).collect::<Vec<_>>();
        refused.push(ann.pop().unwrap().join().unwrap());
        // As many as the other: no more for either.
        for key in ["ann-key", "bob-key"] {
            ask(key, "too much").join().unwrap().error(429, "rate_limit_error", "queue_full");
        }
        queued(4);
        proxy.scratch().write("bin/go", "");
        ann.into_iter().chain(bob).for_each(|thread| assert_eq!(thread.join().unwrap().answer(), "pong"));
    });
    for answer in refused {
        answer.error(429, "rate_limit_error", "queue_full");
        assert_eq!(
            (answer.header("x-should-retry"), answer.header("retry-after")),
            (Some("true"), Some("1"))
        );
    }
    let prompts: Vec<String> =
        fake.calls().iter().filter_map(|call| call["stdin"].as_str().map(str::to_owned)).collect();
    assert_eq!(prompts, ["ann 0", "ann 1", "bob 1", "ann 2", "bob 2"]);
}
