//! Settings change while the server runs, and nothing in flight notices.

use serde_json::json;

use crate::support::{Setup, wait};

const CONFIG: &str = "config/codex-api-proxy/config.toml";

#[test]
fn a_reload_changes_what_it_can_and_names_the_rest() {
    let (setup, fake) = Setup::fake("start\nwait go\nanswer pong\ndone");
    setup.scratch().write(CONFIG, "max_queue_size = 0\n");
    let proxy = setup.start();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| proxy.ask("runs through the reload").send());
        wait::until("it runs", || fake.turns().len() == 1);
        proxy.ask("no place").send().error(429, "rate_limit_error", "queue_full");

        let new =
            "max_concurrency = 2\napi_key = \"new-key\"\nkeepalive_seconds = 7\nengine = \"app-server\"\n";
        proxy.scratch().write(CONFIG, new);
        proxy.signal("HUP");
        wait::until("the reload is said", || {
            proxy.log().contains("settings reloaded; a restart is needed for engine")
        });
        // The key and the second slot are in force at once; the engine stays.
        proxy.ask("no key").send().error(401, "invalid_request_error", "invalid_api_key");
        let second = scope.spawn(|| proxy.ask("beside it").key("new-key").send());
        wait::until("the second runs", || fake.turns().len() == 2);
        let ready = proxy.get("/ready").key("new-key").send().json();
        assert_eq!((&ready["engine"], &ready["queue"]["slots"]), (&json!("exec"), &json!(2)));

        proxy.scratch().write("bin/go", "");
        // The one that began without a key ends without one.
        assert_eq!(running.join().unwrap().answer(), "pong");
        assert_eq!(second.join().unwrap().answer(), "pong");
    });
}

#[test]
fn a_broken_file_changes_nothing_and_is_named() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let file = setup.scratch().write(CONFIG, "api_key = \"good\"\n");
    let proxy = setup.start_unready();
    proxy.scratch().write(CONFIG, "api_key = \"other\"\nmax_queue_sise = 1\nport = \"x\"\n");
    proxy.signal("HUP");
    wait::until("both errors are named", || {
        let log = proxy.log();
        let named = |what: &str| log.contains("settings not reloaded") && log.contains(what);
        named("max_queue_sise") && named("port") && log.contains(&file.display().to_string())
    });
    assert_eq!(proxy.ask("hi").key("good").send().answer(), "pong");
    proxy.ask("hi").key("other").send().error(401, "invalid_request_error", "invalid_api_key");

    proxy.scratch().write(CONFIG, "api_key = \"other\"\n");
    proxy.signal("HUP");
    let in_force = |key: &str| proxy.get("/v1/models").key(key).send().status == 200;
    wait::until("the mended file is in force", || in_force("other"));

    // Good to read, and still not to be followed.
    proxy.scratch().write(CONFIG, "api_key = \"third\"\ndefault_cwd = \"/proc/none\"\n");
    proxy.signal("HUP");
    wait::until("that is named too", || {
        proxy.log().contains("settings not reloaded: cannot create default_cwd /proc/none")
    });
    assert!(in_force("other") && !in_force("third"));
}

#[test]
fn the_log_level_changes_too() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup.start();
    let said = || proxy.log().matches("codex_api_proxy.latency").count();
    for (level, lines) in [("error", 0), ("info", 1)] {
        proxy.scratch().write(CONFIG, &format!("log_level = \"{level}\"\napi_key = \"{level}\"\n"));
        proxy.signal("HUP");
        // Before the first reload there is no key, and any is accepted.
        let answered = |key: &str| proxy.get("/v1/models").key(key).send().status == 200;
        wait::until("it is in force", || answered(level) && !answered("neither"));
        assert_eq!(proxy.ask("hi").key(level).send().answer(), "pong");
        wait::until("what is to be logged is", || said() >= lines);
    }
    assert_eq!(said(), 1, "the first was not logged: {}", proxy.log());
}

#[test]
fn codex_settings_reach_the_next_turn() {
    let (setup, fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup.start();
    proxy.ask("before").send().answer();
    proxy.scratch().write(CONFIG, "codex_configs = [\"model_verbosity=\\\"high\\\"\"]\n");
    proxy.signal("HUP");
    wait::until("the reload is said", || proxy.log().contains("settings reloaded"));
    proxy.ask("after").send().answer();
    let with = |turn: usize| {
        fake.turns()[turn]["args"].as_array().unwrap().contains(&json!("model_verbosity=\"high\""))
    };
    assert_eq!((with(0), with(1)), (false, true));
}

#[test]
fn a_key_that_is_taken_away_is_missed_where_others_can_connect() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    setup.scratch().write(CONFIG, "api_key = \"good\"\n");
    let proxy = setup.set("host", "0.0.0.0").start_unready();
    let warned = || proxy.log().matches("is open to other machines and no key is set").count();
    assert_eq!(warned(), 0, "{}", proxy.log());
    for (text, times) in [("", 1), ("api_key = \"good\"\n", 1), ("fast = true\n", 2)] {
        let before = proxy.log().matches("settings reloaded").count();
        proxy.scratch().write(CONFIG, text);
        proxy.signal("HUP");
        wait::until("it is reloaded", || proxy.log().matches("settings reloaded").count() > before);
        assert_eq!(warned(), times, "{}", proxy.log());
    }
}
