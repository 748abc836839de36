//! Which login Codex uses, what is said when there is none, and what sharing the home means.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::{Reply, Setup, real, wait};

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

/// A session of ChatGPT, of an account of that name.
pub fn session(name: &str) -> String {
    let part = |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let account = json!({ "chatgpt_account_id": name, "chatgpt_plan_type": "plus", "chatgpt_user_id": name });
    let claims = json!({ "email": format!("{name}@example.org"), "exp": 4_000_000_000_u64, "https://api.openai.com/auth": account });
    let token = [part(json!({ "alg": "none" })), part(claims), part(json!("signature"))].join(".");
    let tokens =
        json!({ "id_token": token, "access_token": token, "refresh_token": "r", "account_id": name });
    json!({ "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "tokens": tokens, "last_refresh": "2026-11-25T00:00:00Z" })
        .to_string()
}

#[test]
fn a_login_that_goes_during_a_turn_is_said_and_the_next_one_is_found() {
    for engine in ["exec", "app-server"] {
        for replaced in [true, false] {
            let Some((setup, upstream)) = real() else { return };
            let file = setup.scratch().write("home/.codex/auth.json", &session("one"));
            let proxy = setup
                .set("engine", engine)
                .flag("codex-config", "model_providers.mock.requires_openai_auth=true")
                .start();
            upstream
                .reply(Reply::status(401, json!({ "code": "token_expired", "message": "m" })).then_hang());
            let answer = std::thread::scope(|scope| {
                let asking = scope.spawn(|| proxy.ask("Reply with exactly: pong").send());
                wait::until("the turn is asked", || upstream.requests().len() == 1);
                match replaced {
                    true => std::fs::write(&file, session("two")).unwrap(),
                    false => std::fs::remove_file(&file).unwrap(),
                }
                upstream.release();
                asking.join().unwrap()
            });
            let message = answer.error(503, "server_error", "not_logged_in");
            assert!(message.contains("removed or replaced while the turn ran"), "{engine}: {message}");
            assert_eq!(answer.header("x-should-retry"), Some("true"), "{engine}");
            assert_eq!(upstream.requests().len(), 1, "{engine}: the other account is not asked in between");
            if replaced {
                wait::until("the other login is taken up", || {
                    let answer = proxy.ask("Reply with exactly: pong").send();
                    assert!([200, 503].contains(&answer.status), "{engine}: {}", answer.text());
                    answer.status == 200
                });
                continue;
            }
            wait::until("that there is none is seen", || {
                // Who asks has the login looked at; a worker may still answer by what it knows.
                proxy.ask("Reply with exactly: pong").send();
                let ready = proxy.get("/ready").send();
                ready.status == 503 && ready.json()["login"] == "missing"
            });
            // A worker has the token still, and is not asked with it.
            let before = upstream.requests().len();
            let message = proxy.ask("hi").send().error(503, "server_error", "not_logged_in");
            assert!(message.contains(" login` on the machine of this server"), "{engine}: {message}");
            assert_eq!(upstream.requests().len(), before, "{engine}");
            std::fs::write(&file, session("one")).unwrap();
            wait::until("the login is taken up", || {
                proxy.ask("Reply with exactly: pong").send().status == 200
            });
        }
    }
}

/// A key, and what Codex writes when it is logged in by one.
fn key(name: &str) -> String {
    json!({ "auth_mode": "apikey", "OPENAI_API_KEY": name }).to_string()
}

#[test]
fn a_key_that_goes_during_a_turn_is_said_and_one_that_is_refused_is_not_taken_for_it() {
    for engine in ["exec", "app-server"] {
        for change in ["replaced", "removed", "left"] {
            let Some((setup, upstream)) = real() else { return };
            let file = setup.scratch().write("home/.codex/auth.json", &key("sk-one"));
            let proxy = setup
                .set("engine", engine)
                .flag("codex-config", "model_providers.mock.requires_openai_auth=true")
                .start();
            upstream
                .reply(Reply::status(401, json!({ "code": "invalid_api_key", "message": "m" })).then_hang());
            let answer = std::thread::scope(|scope| {
                let asking = scope.spawn(|| proxy.ask("Reply with exactly: pong").send());
                wait::until("the turn is asked", || upstream.requests().len() == 1);
                match change {
                    "replaced" => std::fs::write(&file, key("sk-two")).unwrap(),
                    "removed" => std::fs::remove_file(&file).unwrap(),
                    _ => {}
                }
                upstream.release();
                asking.join().unwrap()
            });
            if change == "left" {
                let message = answer.error(502, "api_error", "upstream_auth");
                // The program that is configured, not a `codex` that may not be on the PATH.
                assert!(message.contains("/bin/codex login` again on the machine"), "{engine}: {message}");
                continue;
            }
            let message = answer.error(503, "server_error", "not_logged_in");
            assert!(message.contains("removed or replaced while the turn ran"), "{engine}: {message}");
            assert_eq!(answer.header("x-should-retry"), Some("true"), "{engine}");
            if change == "replaced" {
                wait::until("the other key is taken up", || {
                    let answer = proxy.ask("Reply with exactly: pong").send();
                    assert!([200, 503].contains(&answer.status), "{engine}: {}", answer.text());
                    upstream.requests().last().unwrap().header("authorization") == Some("Bearer sk-two")
                });
                continue;
            }
            wait::until("that there is none is seen", || {
                proxy.ask("Reply with exactly: pong").send();
                proxy.get("/ready").send().json()["login"] == "missing"
            });
            proxy.ask("hi").send().error(503, "server_error", "not_logged_in");
        }
    }
}

/// What the client has cannot be taken back: that is said as what it is, and the next request hears of the login.
#[test]
fn an_answer_that_broke_off_is_not_said_to_be_about_the_login() {
    let Some((setup, upstream)) = real() else { return };
    let file = setup.scratch().write("home/.codex/auth.json", &key("sk-one"));
    let proxy = setup
        .set("engine", "app-server")
        .flag("codex-config", "model_providers.mock.requires_openai_auth=true")
        .start();
    upstream.reply(Reply::nothing().then_partial(&["half of it"]).then_hang().then_cut());
    let mut stream = proxy.ask_streamed("hi").open();
    while !stream.data().is_some_and(|data| data.contains("half of it")) {}
    std::fs::remove_file(&file).unwrap();
    upstream.reply(Reply::status(401, json!({ "code": "invalid_api_key", "message": "m" })));
    upstream.release();
    let chunks = stream.chunks();
    let (error, done) = (&chunks.0.last().unwrap()["error"], chunks.1);
    assert_eq!((&error["code"], done), (&json!("codex_failed"), false), "{error}");
    wait::until("the next ones hear of the login", || {
        let answer = proxy.ask("hi").send();
        assert_ne!(answer.status, 200, "{}", answer.text());
        answer.status == 503 && answer.json()["error"]["code"] == "not_logged_in"
    });
}
