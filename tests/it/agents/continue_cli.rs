//! Continue's command line, with the files that `connect` says.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{COMMAND, Work, printed, text_of_file};
use crate::support::Upstream;
use crate::support::programs::{KEY, client, installed, killed, run, served};
use crate::support::proxy::{Proxy, Scratch};

struct World {
    proxy: Proxy,
    upstream: Upstream,
    scratch: Scratch,
    program: std::path::PathBuf,
}

impl World {
    fn new() -> Option<World> {
        let program = installed("@continuedev/cli")?.join("dist/cn.js");
        let (setup, upstream) = served()?;
        let (proxy, scratch) = (setup.start(), Scratch::new());
        let text = printed(&proxy, &scratch, "continue");
        scratch.write("user/.continue/config.yaml", &text_of_file(&text));
        scratch.write("user/.continue/.env", &format!("CODEX_LOCAL_API_KEY={KEY}\n"));
        Some(World { proxy, upstream, scratch, program })
    }

    fn started(&self, word: &str) -> Command {
        let mut client = client(Path::new("node"), &self.scratch);
        client.arg(&self.program).args(["--auto", "-p", word]);
        client
    }
}

#[test]
fn continue_reads_edits_and_runs() {
    let Some(world) = World::new() else { return };
    let World { proxy, upstream, scratch, .. } = &world;
    let work = Work::new(scratch);
    let read = |file| ("Read", json!({ "filepath": file }));
    let edit = json!({ "file_path": work.greeting, "old_string": "world", "new_string": "Oslo" });
    let reads = [read(&work.greeting), read(&work.other)];
    Work::script(
        upstream,
        "mark-continue",
        &reads,
        &("Edit", edit),
        &("Bash", json!({ "command": COMMAND })),
    );
    let said = run(world.started("mark-continue: greet Oslo, and count"), scratch);
    assert!(said.contains("All is done."), "{said}");
    assert_eq!(work.done(proxy, upstream, "mark-continue").len(), 4);
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn continue_killed_midway_leaves_nothing() {
    let Some(world) = World::new() else { return };
    killed(world.started("mark-kill: hi"), &world.proxy, &world.upstream, &world.scratch, "mark-kill");
}
