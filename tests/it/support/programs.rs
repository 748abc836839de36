//! Other people's programs as clients of the proxy: installed, kept to themselves, and watched.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::proxy::{Scratch, signal, skipped};
use super::upstream::Request;
use super::{Proxy, Setup, Upstream, real, wait};

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

/// A program that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        signal("KILL", self.0.id());
        let _ = self.0.wait();
    }
}

/// Runs it to its end, which must be a good one, and gives what it printed.
pub fn run(mut command: Command, scratch: &Scratch) -> String {
    let printed = scratch.path().join("printed");
    let file = fs::File::create(&printed).unwrap();
    command.stdin(Stdio::null()).stdout(file).process_group(0);
    let mut running = Running(command.spawn().unwrap());
    let status = wait::until_some("the client ends", || running.0.try_wait().unwrap());
    let printed = fs::read_to_string(printed).unwrap();
    assert!(status.success(), "{status}: {printed}");
    printed
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

/// The conversation without the numbers that differ from request to request.
fn said(request: &Request) -> Vec<Value> {
    let mut items = request.items().to_vec();
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.remove("id");
    }
    items
}
