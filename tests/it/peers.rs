//! Without a key, only this user, root and the users allowed may call over loopback.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::proxy::{Proxy, skipped};
use crate::support::{Setup, wait};

/// A user that exists everywhere and owns nothing.
const NOBODY: u32 = 65534;

/// Asks for a path as another user; the status code and the body.
fn as_nobody(proxy: &Proxy, path: &str, header: &str) -> (String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-w", "\n%{http_code}", "-H", header]).arg(format!("{}{path}", proxy.url()));
    let output = curl.uid(NOBODY).gid(NOBODY).current_dir("/").output().expect("run curl");
    let text = String::from_utf8(output.stdout).expect("text");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.to_owned())
}

fn is_root() -> bool {
    // Only root may become somebody else.
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root {
        skipped("calling as another user needs root");
    }
    root
}

#[test]
fn another_user_is_refused_unless_allowed_or_in_possession_of_the_key() {
    if !is_root() {
        return;
    }
    let (setup, _fake) = Setup::fake("");
    let proxy = setup.start();
    for path in ["/v1/models", "/health", "/ready", "/metrics"] {
        let (status, body) = as_nobody(&proxy, path, "x-none: 1");
        assert_eq!(status, "403", "{path}: {body}");
        assert!(body.contains("\"peer_not_allowed\"") && body.contains("allowed_users"), "{body}");
    }
    assert_eq!(proxy.get("/v1/models").send().status, 200, "this user is not refused");

    proxy.scratch().write("config/codex-api-proxy/config.toml", "allowed_users = [\"nobody\"]\n");
    proxy.signal("HUP");
    wait::until("nobody is allowed", || as_nobody(&proxy, "/v1/models", "x-none: 1").0 == "200");

    proxy.scratch().write("config/codex-api-proxy/config.toml", "api_key = \"secret\"\n");
    proxy.signal("HUP");
    wait::until("the key decides", || as_nobody(&proxy, "/v1/models", "x-none: 1").0 == "401");
    assert_eq!(as_nobody(&proxy, "/v1/models", "authorization: Bearer secret").0, "200");
}
