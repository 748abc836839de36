//! opencode, as `connect` starts it, and in each dialect.

use std::process::Command;

use serde_json::json;

use super::{COMMAND, Work, printed, shell};
use crate::support::programs::{KEY, connect, killed, native, on_path, run, served};
use crate::support::proxy::{Proxy, Scratch};
use crate::support::{Reply, Upstream};

fn world() -> Option<(Proxy, Upstream, Scratch)> {
    let package = native("opencode-")?;
    let (setup, upstream) = served()?;
    let scratch = Scratch::new();
    on_path(&scratch, "opencode", &format!("'{}'", package.join("bin/opencode").display()));
    upstream.when("You are a title generator", [Reply::text("Greeting Oslo")]);
    Some((setup.start(), upstream, scratch))
}

fn script(upstream: &Upstream, work: &Work) {
    let read = |file| ("read", json!({ "filePath": file }));
    let edit = json!({ "filePath": work.greeting, "oldString": "world", "newString": "Oslo" });
    let command = json!({ "command": COMMAND, "description": "Count" });
    let reads = [read(&work.greeting), read(&work.other)];
    Work::script(upstream, "mark-open", &reads, &("edit", edit), &("bash", command));
}

fn started(proxy: &Proxy, scratch: &Scratch, word: &str) -> Command {
    let mut opencode = connect(proxy, scratch, &["opencode", "--", "run", word]);
    opencode.env("CODEX_PROXY_API_KEY", KEY);
    opencode
}

#[test]
fn opencode_reads_edits_and_runs() {
    let Some((proxy, upstream, scratch)) = world() else { return };
    let work = Work::new(&scratch);
    script(&upstream, &work);
    let said = run(started(&proxy, &scratch, "mark-open: greet Oslo, and count"), &scratch);
    assert!(said.contains("All is done."), "{said}");
    assert_eq!(work.done(&proxy, &upstream, "mark-open").len(), 4);
    assert!(proxy.latency_lines().iter().all(|line| line["api"] == "responses"));
}

#[test]
fn opencode_does_so_in_the_other_dialects() {
    for (package, api) in
        [("@ai-sdk/openai-compatible", "chat_completions"), ("@ai-sdk/anthropic", "messages")]
    {
        let Some((proxy, upstream, scratch)) = world() else { return };
        let work = Work::new(&scratch);
        script(&upstream, &work);
        let settings = printed(&proxy, &scratch, "opencode");
        let settings = settings.replace("@ai-sdk/openai", package);
        let command = format!("{} run 'mark-open: greet Oslo, and count'", settings.trim_end());
        let said = run(shell(&scratch, &command), &scratch);
        assert!(said.contains("All is done."), "{said}");
        assert_eq!(work.done(&proxy, &upstream, "mark-open").len(), 4);
        assert!(proxy.latency_lines().iter().all(|line| line["api"] == api), "{:?}", proxy.latency_lines());
    }
}

#[test]
fn opencode_killed_midway_leaves_nothing() {
    let Some((proxy, upstream, scratch)) = world() else { return };
    killed(started(&proxy, &scratch, "mark-kill: hi"), &proxy, &upstream, &scratch, "mark-kill");
}
