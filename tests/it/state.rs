//! The folders of the program's own: safely its own, or not used; full or read-only, and said.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use serde_json::json;

use crate::support::proxy::{Proxy, skipped};
use crate::support::{Setup, Upstream, real, user, wait};

/// A user that exists everywhere and owns nothing.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !root {
        skipped("giving files away and mounting need root");
    }
    root
}

const STATE: &str = "the state folder (STATE_DIRECTORY, else ~/.codex-api-proxy)";
const HOME: &str = "the isolated CODEX_HOME (app_server_codex_home)";
const WORKSPACE: &str = "the workspace (default_cwd)";

/// What a client reads of a folder that is not used.
fn refused(folder: &str) -> (&'static str, String) {
    if folder == HOME {
        let text =
            "The isolated Codex home (`app_server_codex_home`) cannot be used. The server's log says why.";
        return ("misconfigured", text.into());
    }
    let text = format!(
        "Other users could change {folder} of this server, or it is a link: it is not used. \
         `codex-api-proxy doctor` on its machine names what to mend."
    );
    ("state_refused", text)
}

fn mode(path: &Path, bits: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
}

/// Each folder is made another user's, open to others, and a link, while the server is down; what
/// another user put into it never reaches the model.
#[test]
fn a_folder_that_others_could_change_is_refused_until_it_is_mended() {
    let (upstream, codex) = match (real(), crate::support::require_codex()) {
        (Some((_, upstream)), Some(codex)) => (upstream, codex),
        _ => return,
    };
    let engines = [("exec", "agent"), ("app-server", "agent")];
    let cases = [
        ("home/.codex-api-proxy", STATE),
        ("home/.codex-api-proxy/tmp", STATE),
        ("home/.codex-api-proxy/codex-home", HOME),
        ("home/.codex-api-proxy/workspace", WORKSPACE),
    ];
    for (number, (name, folder)) in cases.into_iter().enumerate() {
        // One engine each: what is looked at is the same.
        let (engine, profile) = engines[number % 2];
        let setup = Setup::real(&codex, &upstream).set("engine", engine).set("profile", profile);
        let path = setup.scratch().dir(name);
        mode(path.parent().unwrap(), 0o755);
        std::fs::write(path.join("AGENTS.md"), "LEAK").unwrap();
        mode(&path, 0o770);
        let proxy = setup.start_unready();
        is_refused(&proxy, folder);
        mode(&path, 0o707);
        is_refused(&proxy, folder);
        if is_root() {
            mode(&path, 0o700);
            chown(&path, Some(NOBODY), None).unwrap();
            is_refused(&proxy, folder);
            chown(&path, Some(0), None).unwrap();
        }
        mode(&path, 0o700);
        let moved = path.with_extension("moved");
        std::fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        is_refused(&proxy, folder);
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&moved, &path).unwrap();
        // A home without our marker is somebody's: it is not cleared for them.
        std::fs::remove_file(path.join("AGENTS.md")).unwrap();
        wait::until("it is used again", || proxy.get("/ready").send().status == 200);
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong", "{name}");
    }
    assert!(upstream.requests().iter().all(|request| !request.text().contains("LEAK")));
}

fn is_refused(proxy: &Proxy, folder: &str) {
    let (code, message) = refused(folder);
    // The survey before this one may be believed for another moment.
    let answer = wait::until_some("it is refused", || {
        let answer = proxy.ask("hi").send();
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(answer.error(503, "server_error", code), message);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let reason = wait::until_some("/ready says why", || {
        proxy.get("/ready").send().json()["reason"].as_str().map(str::to_owned)
    });
    assert_eq!(reason, message);
}

/// Others may write to a folder above: it could be swapped as a whole.
#[test]
fn a_folder_below_what_others_could_change_is_refused() {
    let (setup, _fake) = Setup::fake("");
    let home = setup.home();
    mode(&home, 0o757);
    let proxy = setup.start_unready();
    is_refused(&proxy, STATE);
    assert!(!home.join(".codex-api-proxy/tmp").exists(), "nothing is made in it");
    // Sticky, others can replace only what is theirs.
    mode(&home, 0o1777);
    wait::until("it is used", || proxy.get("/ready").send().status == 200);
}

/// With a file system of its own for the state folder, full or read-only and mended again.
fn on_a_small_disk(engine: &str, profile: &str) -> Option<(Proxy, Upstream, String)> {
    if !is_root() {
        return None;
    }
    let (setup, upstream) = real()?;
    let state = setup.scratch().dir("home/.codex-api-proxy").display().to_string();
    let setup = setup.set("engine", engine).set("profile", profile);
    let mount = format!("mount -t tmpfs -o size=64m,mode=0700 none {state}; exec \"$@\"");
    Some((setup.in_mounts(&mount).start(), upstream, state))
}

/// What makes the folder take nothing, and what mends it.
fn harms(state: &str) -> [(String, String); 2] {
    let fill = |name: &str, block: &str| {
        format!("dd if=/dev/zero of={state}/{name} bs={block} 2>/dev/null || true;")
    };
    [
        (fill("filler1", "64k") + &fill("filler2", "4k"), format!("rm {state}/filler*")),
        (
            format!("mount --bind {state} {state}; mount -o remount,bind,ro {state}"),
            format!("umount -l {state}"),
        ),
    ]
}

fn takes_nothing(folder: &str) -> String {
    format!(
        "This server cannot write to {folder}: it is full, read-only or not permitted. \
         `codex-api-proxy doctor` on its machine says more."
    )
}

fn is_ready(proxy: &Proxy) -> bool {
    proxy.get("/ready").send().status == 200
}

#[test]
fn a_state_folder_that_takes_nothing_is_said_by_exec() {
    let Some((proxy, _upstream, state)) = on_a_small_disk("exec", "agent") else { return };
    let with_schema = json!({
        "messages": [user("Reply with exactly: {}")],
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": {
            "type": "object", "properties": {}, "required": [], "additionalProperties": false
        } } },
    });
    for (harm, mend) in harms(&state) {
        assert_eq!(proxy.chat(with_schema.clone()).send().answer(), "{}");
        proxy.among_its_mounts(&harm);
        for stream in [false, true] {
            let mut body = with_schema.clone();
            body["stream"] = json!(stream);
            let message = proxy.chat(body).send().error(503, "server_error", "state_not_writable");
            assert_eq!(message, takes_nothing(STATE));
            assert!(!message.contains(&state));
        }
        assert!(proxy.log().contains(&format!("cannot write to {state}/tmp")), "the log names the path");
        wait::until("/ready says why", || {
            proxy.get("/ready").send().json()["reason"] == json!(takes_nothing(STATE))
        });
        proxy.among_its_mounts(&mend);
        wait::until("it is ready again", || is_ready(&proxy));
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
    }
}

/// Without files of its own a turn does not meet the disk before Codex does.
#[test]
fn a_read_only_state_folder_is_said_where_codex_fails_of_it() {
    let Some((proxy, _upstream, state)) = on_a_small_disk("exec", "agent") else { return };
    let [_, (harm, mend)] = harms(&state);
    proxy.among_its_mounts(&harm);
    let message =
        proxy.ask("Reply with exactly: pong").send().error(503, "server_error", "state_not_writable");
    assert_eq!(message, takes_nothing(STATE));
    proxy.among_its_mounts(&mend);
    wait::until("it is ready again", || is_ready(&proxy));
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
}

#[test]
fn a_state_folder_that_takes_nothing_is_said_by_an_app_server() {
    let Some((proxy, _upstream, state)) = on_a_small_disk("app-server", "model") else { return };
    let workers = || -> Vec<u32> {
        let mut all = proxy.descendants();
        all.retain(|(_, line)| line.contains("app-server"));
        all.into_iter().map(|(pid, _)| pid).collect()
    };
    let [full, read_only] = harms(&state);
    for ((harm, mend), still_starts) in [(full, true), (read_only, false)] {
        proxy.among_its_mounts(&harm);
        // One that runs needs nothing of the disk.
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
        for pid in workers() {
            crate::support::proxy::signal("KILL", pid);
        }
        let wanted = if still_starts { 200 } else { 503 };
        let answer = wait::until_some("another one starts or not", || {
            let answer = proxy.ask("Reply with exactly: pong").send();
            (answer.status == wanted).then_some(answer)
        });
        if !still_starts {
            let message = answer.error(503, "server_error", "state_not_writable");
            assert_eq!(message, takes_nothing(STATE));
            let reason = proxy.get("/ready").send().json()["reason"].clone();
            assert_eq!(reason, json!(takes_nothing(STATE)));
        }
        proxy.among_its_mounts(&mend);
        wait::until("it is ready again", || is_ready(&proxy));
        assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
    }
}
