//! Every request has its caller's name in the log: key, user or address, and never the key.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::Setup;
use crate::support::proxy::{Proxy, skipped};

fn caller(proxy: &Proxy, request_id: &str) -> Value {
    proxy.latency_line("chat_completion_latency", request_id)["caller"].clone()
}

/// This user's name, as the system has it.
fn own_name() -> String {
    let output = Command::new("id").arg("-un").output().expect("run id");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_key_has_its_name_or_its_place() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let file = setup.scratch().write("keys", "alice key-of-alice\nkey-without-name\nbob key-of-bob\n");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let proxy = setup.env("CODEX_PROXY_API_KEY", "env-key").set("api_key_file", file.display()).start();
    for (id, key, expect) in [
        ("first", "env-key", "key-1"),
        ("named", "key-of-alice", "alice"),
        ("third", "key-without-name", "key-3"),
        ("also-named", "key-of-bob", "bob"),
    ] {
        assert_eq!(proxy.ask("hi").key(key).header("x-request-id", id).send().answer(), "pong");
        assert_eq!(caller(&proxy, id), expect, "{id}");
    }
    // Who has no key is called by his connection.
    proxy.ask("hi").key("wrong").header("x-request-id", "refused").send().error(
        401,
        "invalid_request_error",
        "invalid_api_key",
    );
    assert_eq!(caller(&proxy, "refused"), own_name());
    let log = proxy.log();
    for key in ["env-key", "key-of-alice", "key-without-name", "key-of-bob", "wrong"] {
        assert!(!log.contains(key), "{key} in {log}");
    }
}

#[test]
fn a_user_has_his_name_or_his_number() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    const NAMELESS: u32 = 4_000_000_001;
    let users = format!("nobody,{NAMELESS}");
    let proxy = setup.env("CODEX_PROXY_ALLOWED_USERS", &users).start();
    assert_eq!(proxy.ask("hi").header("x-request-id", "own").send().answer(), "pong");
    assert_eq!(caller(&proxy, "own"), own_name());
    if own_name() != "root" {
        return skipped("calling as another user needs root");
    }
    for (uid, expect) in [(65534, "nobody"), (NAMELESS, "4000000001")] {
        let body = json!({ "model": "codex-local", "messages": [{ "role": "user", "content": "hi" }] });
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "-H", "content-type: application/json", "-H"]);
        curl.arg(format!("x-request-id: {expect}")).args(["-d", &body.to_string()]);
        curl.arg(format!("{}/v1/chat/completions", proxy.url()));
        let output = curl.uid(uid).gid(65534).current_dir("/").output().expect("run curl");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(caller(&proxy, expect), expect);
    }
}
