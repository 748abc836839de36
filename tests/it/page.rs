//! The page at `/` in a real Chromium, against the real program in each of its states.
//!
//! `tests/page/look.mjs` does the looking; what has to happen meanwhile is done here, when it says so.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::login::session;
use crate::support::proxy::{Proxy, Scratch, skipped};
use crate::support::{Reply, Setup, real, user, wait};
use crate::usage::with_plan;

const KEY: &str = "page-key-8f21";

/// The browser, or why there is none.
fn chromium() -> Option<PathBuf> {
    let modules = modules();
    if !modules.join("node_modules/playwright-core").exists() {
        skipped(&format!("{} has no playwright-core: run `make test-tools`", modules.display()));
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path)
        .flat_map(|folder| ["chromium", "google-chrome"].map(|name| folder.join(name)));
    let found = places.find(|place| place.exists());
    if found.is_none() {
        skipped("chromium is not there: run `make test-tools`");
    }
    found
}

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser")
}

/// Where the pictures go: below `target`, or where `make pictures` wants them.
fn pictures() -> PathBuf {
    let wanted = std::env::var_os("PAGE_PICTURES").map(PathBuf::from);
    wanted.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page"))
}

/// Looks at that service, which is in that state; `at` is called with each word of the script.
fn look(chromium: &Path, state: &str, proxy: &Proxy, mut at: impl FnMut(&str)) {
    // A profile of its own, and nothing of the user's.
    let scratch = Scratch::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/look.mjs");
    let mut run = Command::new("node")
        .arg(script)
        .args([state, &format!("{}/", proxy.url())])
        .arg(pictures())
        .env("BROWSER_MODULES", modules())
        .env("CHROMIUM", chromium)
        .env("PAGE_KEY", KEY)
        .env("HOME", scratch.dir("home"))
        .env("TMPDIR", scratch.dir("tmp"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = run.stdin.take().unwrap();
    let mut done = false;
    for word in BufReader::new(run.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if word == "done" {
            done = true;
            break;
        }
        at(&word);
        answers.write_all(b"done\n").unwrap();
    }
    drop(answers);
    let status = run.wait().unwrap();
    assert!(done && status.success(), "{state}: {status}");
}

fn nothing(word: &str) {
    panic!("nothing was to be done at {word}");
}

#[test]
fn the_page_is_served_to_browsers_and_json_to_programs() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", KEY).start();
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let ask = |path: &str| proxy.get(path).header("accept", browser);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.svg", "image/svg+xml"),
    ] {
        // Open without the key: what it shows is not.
        let answer = ask(path).send();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        for part in ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path} {name}");
        }
        // The gate is that of all routes.
        let refused = ask(path).header("host", "evil.example").send();
        refused.error(403, "permission_error", "host_not_allowed");
        for site in ["cross-site", "same-site"] {
            ask(path).header("sec-fetch-site", site).header("sec-fetch-mode", "navigate").send().error(
                403,
                "permission_error",
                "origin_not_allowed",
            );
        }
        for site in ["none", "same-origin"] {
            assert_eq!(ask(path).header("sec-fetch-site", site).send().status, 200, "{path} {site}");
        }
    }
    let page = ask("/").send();
    assert_eq!(page.header("vary"), Some("accept"));
    assert!(page.text().contains("data-kind=\"good\"") && page.text().contains(">Working<"));
    for accept in [None, Some("*/*"), Some("application/json")] {
        let mut call = proxy.get("/");
        if let Some(accept) = accept {
            call = call.header("accept", accept);
        }
        let answer = call.send();
        assert_eq!(answer.json()["name"], "codex-api-proxy");
        assert_eq!(answer.header("vary"), Some("accept"));
    }
}

#[test]
fn ready() {
    let Some(chromium) = chromium() else { return };
    let Some((setup, upstream)) = real() else { return };
    setup.scratch().write("home/.codex/auth.json", &session("one"));
    let setup = with_plan(setup, &upstream).flag("model-aliases", "gpt-4o=gpt-5.5");
    let proxy = setup.set("engine", "app-server").start();
    // Told with a turn, and then looked at: the shorter window goes fast.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let window = |used: u64, seconds: u64, left: u64| json!({ "used_percent": used, "limit_window_seconds": seconds, "reset_after_seconds": left, "reset_at": now + left });
    upstream.plan(json!({
        "plan_type": "plus",
        "rate_limit": {
            "allowed": true, "limit_reached": false,
            "primary_window": window(58, 18_000, 9_000), "secondary_window": window(23, 604_800, 400_000),
        },
    }));
    let told =
        || proxy.get("/usage").send().json()["plan"]["windows"].as_array().is_some_and(|all| all.len() == 2);
    wait::until("the plan is told", told);
    look(&chromium, "ready", &proxy, nothing);
}

#[test]
fn not_logged_in() {
    let Some(chromium) = chromium() else { return };
    let (setup, _fake) = Setup::fake("logged-out\nstart\nanswer pong\ndone");
    let proxy = setup.start_unready();
    let said = |code: &str| proxy.ask("hi").send().json()["error"]["code"] == code;
    wait::until("it is known that nobody is logged in", || said("not_logged_in"));
    look(&chromium, "login", &proxy, nothing);
}

#[test]
fn busy() {
    let Some(chromium) = chromium() else { return };
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").set("workers", 1).start();
    // Something to see in the pictures: two windows, and what was asked before.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let told = Reply::text("pong")
        .header("x-codex-primary-used-percent", "41.5")
        .header("x-codex-primary-window-minutes", "300")
        .header("x-codex-primary-reset-at", &(now + 7_800).to_string())
        .header("x-codex-secondary-used-percent", "62")
        .header("x-codex-secondary-window-minutes", "10080")
        .header("x-codex-secondary-reset-at", &(now + 310_000).to_string());
    upstream.reply(told);
    for text in ["hi", "Reply with exactly: pong", "[[failed=scripted it broke]]"] {
        proxy.ask_streamed(text).send();
    }
    std::thread::scope(|scope| {
        look(&chromium, "busy", &proxy, |_| {
            for _ in 0..2 {
                let body = json!({ "model": "codex-local", "messages": [user("[[hang]]")] });
                let call = proxy.chat(body);
                scope.spawn(move || call.send());
            }
            wait::until("one runs", || upstream.open() == 1);
        });
    });
    wait::until("the upstream is left alone", || upstream.open() == 0);
}

#[test]
fn limited() {
    let Some(chromium) = chromium() else { return };
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").start();
    let full = Reply::text("pong")
        .header("x-codex-primary-used-percent", "100")
        .header("x-codex-primary-window-minutes", "300")
        .header("x-codex-primary-reset-at", "4000000000");
    upstream.reply(full);
    assert_eq!(proxy.ask("hi").send().answer(), "pong");
    look(&chromium, "limited", &proxy, nothing);
}

#[test]
fn a_key_is_wanted_and_kept_in_the_page() {
    let Some(chromium) = chromium() else { return };
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", KEY).start();
    look(&chromium, "key", &proxy, nothing);
    assert!(!proxy.log().contains(KEY));
}

#[test]
fn stopping() {
    let Some(chromium) = chromium() else { return };
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.start();
    look(&chromium, "draining", &proxy, |_| proxy.signal("TERM"));
}
