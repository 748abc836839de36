//! Qwen Code, as `connect` starts it.

use std::process::Command;

use serde_json::json;

use super::{COMMAND, Work, printed};
use crate::support::Upstream;
use crate::support::programs::{KEY, connect, installed, killed, on_path, run, served};
use crate::support::proxy::{Proxy, Scratch};

fn world() -> Option<(Proxy, Upstream, Scratch)> {
    let package = installed("@qwen-code/qwen-code")?;
    let (setup, upstream) = served()?;
    let (proxy, scratch) = (setup.start(), Scratch::new());
    on_path(&scratch, "qwen", &format!("node '{}'", package.join("cli.js").display()));
    let text = printed(&proxy, &scratch, "qwen-code");
    let settings = text.lines().find_map(|line| line.strip_prefix("# {")).unwrap();
    scratch.write("user/.qwen/settings.json", &format!("{{{settings}"));
    Some((proxy, upstream, scratch))
}

fn started(proxy: &Proxy, scratch: &Scratch, word: &str) -> Command {
    let words = ["qwen-code", "--", "--approval-mode", "yolo", "--output-format", "text", "-p", word];
    let mut qwen = connect(proxy, scratch, &words);
    qwen.env("CODEX_PROXY_API_KEY", KEY);
    qwen
}

#[test]
fn qwen_code_reads_edits_and_runs() {
    let Some((proxy, upstream, scratch)) = world() else { return };
    let work = Work::new(&scratch);
    let read = |file| ("read_file", json!({ "file_path": file }));
    let edit = json!({ "file_path": work.greeting, "old_string": "world", "new_string": "Oslo" });
    let command = json!({ "command": COMMAND, "is_background": false });
    let reads = [read(&work.greeting), read(&work.other)];
    Work::script(&upstream, "mark-qwen", &reads, &("edit", edit), &("run_shell_command", command));
    let said = run(started(&proxy, &scratch, "mark-qwen: greet Oslo, and count"), &scratch);
    assert!(said.contains("All is done."), "{said}");
    assert_eq!(work.done(&proxy, &upstream, "mark-qwen").len(), 4);
    assert_eq!(upstream.requests().len(), 4);
    let page = run(started(&proxy, &scratch, "/context"), &scratch);
    assert!(page.contains("Context window: 272.0k tokens"), "{page}");
}

#[test]
fn qwen_code_killed_midway_leaves_nothing() {
    let Some((proxy, upstream, scratch)) = world() else { return };
    killed(started(&proxy, &scratch, "mark-kill: hi"), &proxy, &upstream, &scratch, "mark-kill");
}
