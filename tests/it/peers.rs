//! Without a key, only this user, root and the users allowed may call from this machine.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

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

/// Two networks of their own: that of this machine, and of another one. Addresses end in 1 and 2.
struct Networks {
    ours: Child,
    other: Child,
}

impl Networks {
    /// Makes them; `None` where nobody may.
    fn new() -> Option<Networks> {
        let network = || {
            let mut command = Command::new("unshare");
            command.args(["--net", "sh", "-c", "ip link set lo up && echo up && read -r end"]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
            let mut up = String::new();
            let stdout = child.stdout.as_mut().expect("its stdout");
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut up).expect("read");
            (up == "up\n").then_some(child)
        };
        let (Some(ours), Some(other)) = (network(), network()) else {
            skipped("a network of one's own needs root, unshare and ip");
            return None;
        };
        let networks = Networks { ours, other };
        let other = networks.other.id().to_string();
        let link = ["link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &other];
        assert!(run(&networks.ours, &[&["ip"], &link[..]].concat()).status.success(), "no veth");
        for (network, name, host) in [(&networks.ours, "near", 1), (&networks.other, "far", 2)] {
            for address in
                [format!("198.51.100.{host}/24"), format!("fd77::{host}/64"), format!("fe80::{host}/64")]
            {
                let added = run(network, &["ip", "addr", "add", &address, "dev", name, "nodad"]);
                assert!(added.status.success(), "{address}: {added:?}");
            }
            assert!(run(network, &["ip", "link", "set", name, "up"]).status.success());
        }
        Some(networks)
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for network in [&mut self.ours, &mut self.other] {
            drop(network.stdin.take()); // its shell reads the end
            let _ = network.wait();
        }
    }
}

/// The command that enters a network, as a user.
fn enter(network: &Child, user: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", network.id()));
    command.args(["-S", &user.to_string(), "-G", &user.to_string(), "--"]);
    command
}

fn run(network: &Child, command: &[&str]) -> Output {
    enter(network, 0).args(command).output().expect("run nsenter")
}

/// Asks from that address or interface, in a network as a user: the status code and `error.code`.
fn ask_from(network: &Child, user: u32, from: &str, url: &str) -> (String, String) {
    let mut curl = enter(network, user);
    curl.args(["curl", "-gsS", "-m", "20", "-w", "\n%{http_code}", "--interface", from, url]);
    let output = curl.current_dir("/").output().expect("run curl");
    let text = String::from_utf8(output.stdout).expect("text");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    let failed = String::from_utf8_lossy(&output.stderr);
    let code = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default()["error"]["code"].clone();
    (status.to_owned(), code.as_str().map_or(failed.into_owned(), str::to_owned))
}

/// Every address of a machine is a way to every other one; none makes another user a machine.
#[test]
fn no_source_address_makes_another_user_a_remote_machine() {
    if !is_root() {
        return;
    }
    let Some(networks) = Networks::new() else { return };
    let listen = |host: &str| {
        let (setup, _fake) = Setup::fake("");
        setup
            .set("host", host)
            .within(&["nsenter", &format!("--net=/proc/{}/ns/net", networks.ours.id()), "--"])
            .start_unready()
    };
    let (v4, v6) = ("198.51.100.1", "fd77::1");
    for (host, ways) in [
        ("127.0.0.1", vec![("127.0.0.1", "127.0.0.1"), ("127.9.9.9", "127.0.0.1"), (v4, "127.0.0.1")]),
        ("::1", vec![("::1", "[::1]"), (v6, "[::1]")]),
        (
            "0.0.0.0",
            vec![
                (v4, v4),
                ("127.0.0.1", v4),
                (v4, "127.0.0.1"),
                ("127.0.0.3", "127.0.0.1"),
                (v4, "127.0.0.8"),
            ],
        ),
        (v4, vec![(v4, v4), ("127.0.0.1", v4)]),
        (
            "::",
            vec![
                (v6, "[fd77::1]"),
                ("::1", "[fd77::1]"),
                (v6, "[::1]"),
                // A socket with a link-local address is tied to its interface.
                ("if!near", "[fe80::1%25near]"),
                (v4, v4),
                ("127.0.0.1", v4),
                (v4, "127.0.0.1"),
                ("::ffff:198.51.100.1", "[::ffff:127.0.0.1]"),
                ("::ffff:198.51.100.1", "[::ffff:198.51.100.1]"),
            ],
        ),
    ] {
        let proxy = listen(host);
        let port = proxy.address().port();
        for (from, to) in ways {
            let url = format!("http://{to}:{port}/v1/models");
            let found = ask_from(&networks.ours, NOBODY, from, &url);
            assert_eq!(found, ("403".into(), "peer_not_allowed".into()), "nobody on {host}: {from} to {to}");
            let found = ask_from(&networks.ours, 0, from, &url);
            assert_eq!(found.0, "200", "root on {host}: {from} to {to}: {}", found.1);
        }
        // Tied to an interface, the socket of an own address is not to be found.
        if host == "0.0.0.0" || host == "::" {
            let url = format!("http://{v4}:{port}/v1/models");
            let found = ask_from(&networks.ours, NOBODY, "if!near", &url);
            assert_eq!(found, ("403".into(), "peer_not_allowed".into()), "nobody tied to near");
            // Other machines are others, and here no key is set.
            for to in [v4, "[fd77::1]"].iter().take(if host == "::" { 2 } else { 1 }) {
                let from = if to.starts_with('[') { "fd77::2" } else { "198.51.100.2" };
                let url = format!("http://{to}:{port}/v1/models");
                let found = ask_from(&networks.other, NOBODY, from, &url);
                assert_eq!(found.0, "200", "another machine on {host} to {to}: {}", found.1);
            }
        }
        drop(proxy);
    }
}

/// In a user namespace that maps one user alone, all others look like one: nobody of that name is let in,
/// and the check says why.
#[test]
fn users_that_a_namespace_does_not_map_are_named() {
    let (setup, _fake) = Setup::fake("");
    let check = |namespace: bool| {
        let plain = setup.command(&["config", "check"]);
        let mut command = Command::new(if namespace { "unshare" } else { "env" });
        command.args(if namespace { &["--user", "--map-root-user"][..] } else { &[] });
        command.arg(plain.get_program()).args(plain.get_args()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("CODEX_PROXY_ALLOWED_USERS", "nobody");
        let output = command.output().expect("run config check");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, said) = check(false);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("PrivateUsers"), "{said}");
    let (code, said) = check(true);
    if said.contains("unshare failed") {
        return skipped("no user namespaces here");
    }
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("PrivateUsers: the user namespace of this server does not map `nobody`"), "{said}");
}
