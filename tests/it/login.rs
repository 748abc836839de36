//! Which login Codex uses, what is said when there is none, and what sharing the home means.

use serde_json::json;

use crate::support::{Setup, real, wait};

#[test]
fn logging_in_needs_no_restart() {
    let (setup, fake) = Setup::fake("logged-out\nstart\nanswer pong\ndone");
    let proxy = setup.start_unready();
    let message = proxy.ask("hi").send().error(503, "server_error", "not_logged_in");
    assert!(message.contains("codex login"), "{message}");
    let ready = proxy.get("/ready").send();
    assert_eq!((ready.status, &ready.json()["login"]), (503, &json!("missing")));
    fake.script("start\nanswer pong\ndone");
    proxy.scratch().write("home/.codex/auth.json", "{}");
    wait::until("the login is seen", || proxy.get("/ready").send().status == 200);
    assert_eq!(proxy.ask("hi").send().answer(), "pong");
}

#[test]
fn a_login_in_a_keyring_is_named_with_both_ways_out() {
    // The fake is logged in by the user's own home only, and there is no auth.json to link.
    let (setup, _fake) = Setup::fake("logged-in-at .codex\nstart\nanswer pong\ndone");
    setup.scratch().dir("home/.codex");
    let proxy = setup.start_unready();
    let message = proxy.ask("hi").send().error(503, "server_error", "login_not_portable");
    assert!(message.contains("cli_auth_credentials_store") && message.contains("CODEX_HOME"), "{message}");
    assert!(
        !message.contains(&proxy.scratch().dir("home").display().to_string()),
        "no path of ours: {message}"
    );
}

#[test]
fn a_shared_home_is_the_users_own_and_is_said() {
    let Some((setup, upstream)) = real() else { return };
    setup.scratch().write("home/.codex/AGENTS.md", "SHARED-AGENTS-TEXT");
    let proxy = setup.set("isolation", "shared").start();
    assert_eq!(proxy.get("/ready").send().json()["isolation"], json!("shared"));
    assert!(proxy.log().contains("isolation = \"shared\""), "{}", proxy.log());
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
    assert!(upstream.requests()[0].text().contains("SHARED-AGENTS-TEXT"), "the home is really shared");
    assert!(!proxy.scratch().dir("home").join(".codex-api-proxy/codex-home").exists());
}
