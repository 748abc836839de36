//! Cline's command line, with the file that `connect` says.

use std::process::Command;

use serde_json::json;

use super::{COMMAND, Work, printed, text_of_file};
use crate::support::Upstream;
use crate::support::programs::{KEY, client, killed, native, run, served};
use crate::support::proxy::{Proxy, Scratch};

struct World {
    proxy: Proxy,
    upstream: Upstream,
    scratch: Scratch,
    program: std::path::PathBuf,
}

impl World {
    fn new() -> Option<World> {
        let program = native("@cline/cli-")?.join("bin/cline");
        let (setup, upstream) = served()?;
        let (proxy, scratch) = (setup.start(), Scratch::new());
        let text = printed(&proxy, &scratch, "cline");
        scratch.write("user/.cline/data/settings/providers.json", &text_of_file(&text));
        Some(World { proxy, upstream, scratch, program })
    }

    fn started(&self, word: &str) -> Command {
        let mut client = client(&self.program, &self.scratch);
        client.arg(word).env("OPENAI_API_KEY", KEY);
        // Else it leaves a server of its own behind, one for the machine.
        client.env("CLINE_SESSION_BACKEND_MODE", "local");
        client
    }
}

#[test]
fn cline_reads_edits_and_runs() {
    let Some(world) = World::new() else { return };
    let World { proxy, upstream, scratch, .. } = &world;
    let work = Work::new(scratch);
    let read = |file| ("read_files", json!({ "files": [{ "path": file }] }));
    let reads = [read(&work.greeting), read(&work.other)];
    let edit = json!({ "input": super::codex::PATCH });
    let command = json!({ "commands": [COMMAND] });
    Work::script(upstream, "mark-cline", &reads, &("apply_patch", edit), &("run_commands", command));
    let said = run(world.started("mark-cline: greet Oslo, and count"), scratch);
    assert!(said.contains("All is done."), "{said}");
    assert_eq!(work.done(proxy, upstream, "mark-cline").len(), 4);
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn cline_killed_midway_leaves_nothing() {
    let Some(world) = World::new() else { return };
    killed(
        world.started("mark-kill: say hi to me"),
        &world.proxy,
        &world.upstream,
        &world.scratch,
        "mark-kill",
    );
}
