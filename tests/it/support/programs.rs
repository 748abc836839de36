//! Other people's programs as clients of the proxy: installed, kept to themselves, and watched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

use super::proxy::{Scratch, processes_of, signal, skipped};
use super::upstream::Request;
use super::{Ended, Proxy, Reply, Setup, Upstream, real, wait};
use crate::threads::session;

/// The key they are given.
pub const KEY: &str = "agent-key";

/// As the README has it for agents. Claude Code asks for a title beside its first question: two at once.
pub fn served() -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    let setup = setup.set("engine", "app-server").set("turns_per_worker", 2);
    Some((setup.env("CODEX_PROXY_API_KEY", KEY), upstream))
}

/// A package that `make test-tools` gets from npm, or `None` after saying why the test is skipped.
pub fn installed(package: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents/node_modules").join(package);
    if !path.exists() {
        skipped(&format!("{package} is not there: run `make test-tools`"));
        return None;
    }
    Some(path)
}

/// An agent that comes as a program for each system, likewise: this system's, whose name begins so.
pub fn native(package: &str) -> Option<PathBuf> {
    let path = Path::new(package);
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents/node_modules").join(path.parent()?);
    let begin = path.file_name()?.to_str()?;
    let is_it = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(begin))
    };
    let found = fs::read_dir(all).ok().and_then(|all| all.flatten().map(|entry| entry.path()).find(is_it));
    if found.is_none() {
        skipped(&format!("{package}… is not there: run `make test-tools`"));
    }
    found
}

/// The Python of that folder below `target`, with the module in it, likewise.
pub fn python(folder: &str, module: &str) -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(folder).join("bin/python");
    let has = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        skipped(&format!("the Python module {module} is not there: run `make test-tools`"));
        return None;
    }
    Some(python)
}

/// The libraries that it gets for Node, that one among them, likewise.
pub fn modules(package: &str) -> Option<PathBuf> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sdk-node/node_modules");
    if !modules.join(package).exists() {
        skipped(&format!("{package} is not there: run `make test-tools`"));
        return None;
    }
    Some(modules)
}

/// A program in the folder `project` of its own world: another user's home, and nothing outside this
/// machine to be reached.
pub fn client(program: &Path, scratch: &Scratch) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("HOME", scratch.dir("user")).env("TMPDIR", scratch.dir("user/tmp"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env(name, "http://127.0.0.1:9");
    }
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command.current_dir(scratch.dir("project"));
    command
}

/// The program as a user types it, whose settings name that server's port; what is [`on_path`] comes first.
pub fn connect(proxy: &Proxy, scratch: &Scratch, words: &[&str]) -> Command {
    let mut command = client(Path::new(env!("CARGO_BIN_EXE_codex-api-proxy")), scratch);
    command.arg("connect").args(words);
    command.env("CODEX_PROXY_PORT", proxy.address().port().to_string());
    command.env("PATH", format!("{}:{}", scratch.dir("bin").display(), std::env::var("PATH").unwrap()));
    // A shell behind a proxy, which would not find this machine's loopback addresses.
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    command
}

/// A script of `tests/sdk`, started by `connect` for each of these clients: the settings of all of them.
pub fn script(names: &[&str], program: &Path, name: &str, proxy: &Proxy, scratch: &Scratch) -> Command {
    let mut words = vec![];
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            words.extend([env!("CARGO_BIN_EXE_codex-api-proxy"), "connect"]);
        }
        words.extend([name, "--"]);
    }
    let mut command = connect(proxy, scratch, &words);
    command.arg(program).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name));
    command.env("CODEX_PROXY_API_KEY", KEY);
    command
}

/// Makes a client's program be found by its name: these words of a shell begin its command line.
pub fn on_path(scratch: &Scratch, name: &str, words: &str) {
    let program = scratch.write(&format!("bin/{name}"), &format!("#!/bin/sh\nexec {words} \"$@\"\n"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that does not outlive its test, nor does what it started in its group.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        signal("KILL", format!("-{}", self.0.id()));
        let _ = self.0.wait();
    }
}

/// Starts it in a process group of its own; what it prints goes to a file.
fn start(mut command: Command, printed: &Path) -> Running {
    command.stdin(Stdio::null()).stdout(fs::File::create(printed).unwrap()).process_group(0);
    Running(command.spawn().unwrap())
}

/// Runs it to its end, which must be a good one, and gives what it printed.
pub fn run(command: Command, scratch: &Scratch) -> String {
    let (status, printed) = run_to_any_end(command, scratch);
    assert!(status.success(), "{status}: {printed}");
    printed
}

/// Likewise, however it ends.
pub fn run_to_any_end(command: Command, scratch: &Scratch) -> (ExitStatus, String) {
    let printed = scratch.path().join("printed");
    let mut running = start(command, &printed);
    let status = wait::within(8 * wait::PATIENCE, "the client ends", || running.0.try_wait().unwrap());
    (status, fs::read_to_string(printed).unwrap())
}

/// Kills it in the middle of the answer to that word: its turn ends, and nothing of either stays behind.
pub fn killed(command: Command, proxy: &Proxy, upstream: &Upstream, scratch: &Scratch, marker: &str) {
    upstream.when(marker, [Reply::nothing().then_partial(&["half"]).then_hang()]);
    let running = start(command, &scratch.path().join("printed"));
    // Not a title that it asks for beside it.
    let speaks =
        |request: &Request| request.raw.contains(marker) && request.deltas > 0 && !request.tools().is_empty();
    let turn = || upstream.requests().into_iter().find(speaks);
    wait::until("the model speaks", || turn().is_some());
    drop(running);
    let ended = wait::until_some("its turn ends", || turn()?.ended);
    assert_eq!(ended.0, Ended::ClientClosed);
    wait::until("its place is free", || {
        let metrics = proxy.get("/metrics").header("authorization", format!("Bearer {KEY}")).send().json();
        metrics["requests_in_flight"] == 0
    });
    let cancelled = |line: &Value| line["status"] == "cancelled" && line["http_status"] == 499;
    wait::until("its line is logged", || proxy.latency_lines().iter().any(cancelled));
    wait::until("no process of it is left", || processes_of(scratch.path()).is_empty());
}

/// What reached the upstream with that word in it; and that nothing came twice.
pub fn asked(upstream: &Upstream, marker: &str) -> Vec<Request> {
    let all = upstream.requests();
    for (index, request) in all.iter().enumerate() {
        let alike = all[..index].iter().find(|earlier| said(earlier) == said(request));
        assert!(alike.is_none(), "bought twice: {}", request.raw);
    }
    all.into_iter().filter(|request| request.raw.contains(marker)).collect()
}

/// That no request of theirs failed.
pub fn untroubled(proxy: &Proxy) {
    let lines = proxy.latency_lines();
    assert!(!lines.is_empty() && lines.iter().all(|line| line["status"] != "error"), "{lines:?}");
}

/// That each request holds the whole of the one before it, in the same session: the upstream has all of
/// that in its cache.
pub fn grows(requests: &[Request]) {
    let tools = |request: &Request| request.body["tools"].clone();
    for pair in requests.windows(2) {
        let [before, now] = pair else { unreachable!() };
        assert_eq!((session(before), tools(before)), (session(now), tools(now)));
        let (before, now) = (said(before), said(now));
        let same = before.iter().zip(&now).take_while(|(before, now)| before == now).count();
        assert_eq!(same, before.len(), "{:?} became {:?}", before.get(same), now.get(same));
        assert!(now.len() > before.len(), "{now:?}");
    }
}

/// The conversation without the numbers that differ from request to request.
fn said(request: &Request) -> Vec<Value> {
    let mut items = request.items().to_vec();
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.remove("id");
    }
    items
}
