//! Coding agents as whole programs, unmodified, with the proxy as their model: what they do to files, and
//! what reached the upstream, is the proof.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::programs::{KEY, asked, client, installed, run, served, untroubled};
use crate::support::proxy::{Proxy, Scratch};
use crate::support::{Reply, require_codex};

const PATCH: &str =
    "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-Hello, world.\n+Hello, Oslo.\n*** End Patch\n";

#[test]
fn claude_code_reads_a_file_edits_it_and_runs_a_command() {
    let Some(package) = installed("@anthropic-ai/claude-code") else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let file = scratch.write("project/greeting.txt", "Hello, world.\n");
    let edit = json!({ "file_path": file, "old_string": "world", "new_string": "Oslo" });
    let count = json!({ "command": "wc -c < greeting.txt > size.txt", "description": "Count" });
    upstream.when("a concise, sentence-case title", [Reply::text(r#"{"title": "Greeting Oslo"}"#)]);
    upstream.when(
        "mark-claude",
        [
            Reply::call("Read", &json!({ "file_path": file }).to_string()),
            Reply::call("Edit", &edit.to_string()),
            Reply::call("Bash", &count.to_string()),
            Reply::text("All is done."),
        ],
    );
    let mut claude = client(Path::new("node"), &scratch);
    claude.arg(package.join("cli-wrapper.cjs")).args(["-p", "mark-claude: greet Oslo and count the bytes"]);
    claude.args(["--allowedTools", "Read,Edit,Bash", "--output-format", "json"]);
    claude.env("ANTHROPIC_BASE_URL", proxy.url()).env("ANTHROPIC_API_KEY", KEY);
    let result: Value = serde_json::from_str(&run(claude, &scratch)).unwrap();
    assert_eq!((&result["result"], &result["is_error"]), (&json!("All is done."), &json!(false)), "{result}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "Hello, Oslo.\n");
    assert_eq!(fs::read_to_string(scratch.path().join("project/size.txt")).unwrap().trim(), "13");
    untroubled(&proxy);
    let requests = asked(&upstream, "mark-claude");
    // The title is asked for beside the first question, without a tool, if there is time for it.
    let (titles, requests): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|request| request.tools().is_empty());
    assert!(titles.len() <= 1 && requests.len() == 4, "{} titles, {}", titles.len(), requests.len());
    let outputs = requests[3].tool_outputs();
    assert!(outputs[0].contains("Hello, world."), "{outputs:?}");
    assert!(outputs[1].contains("has been updated"), "{outputs:?}");
    assert_eq!(outputs.len(), 3, "{outputs:?}");
}

/// Codex's own command line for a client: everything of it is below the scratch folder.
fn codex(codex: &Path, scratch: &Scratch, proxy: &Proxy, arguments: &[&str]) -> Vec<Value> {
    let provider = format!(
        r#"model_providers.proxy={{name="proxy",base_url="{}/v1",wire_api="responses",env_key="PROXY_KEY"}}"#,
        proxy.url()
    );
    let mut command = client(codex, scratch);
    command.env("CODEX_HOME", scratch.dir("user/.codex")).env("PROXY_KEY", KEY);
    command.args(["exec", "--json", "--skip-git-repo-check", "--sandbox=danger-full-access"]);
    command.args(["-c", "model_provider=proxy", "-c", &provider]).args(arguments);
    let printed = run(command, scratch);
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn last_words(events: &[Value]) -> &str {
    let items = events.iter().rev().map(|event| &event["item"]);
    let mut words = items.filter(|item| item["type"] == "agent_message");
    words.next().and_then(|item| item["text"].as_str()).unwrap_or_default()
}

#[test]
fn codex_patches_a_file_and_runs_a_command() {
    let Some(program) = require_codex() else { return };
    // With its thread kept, and with the conversation built anew from what the client sends.
    for kept in [16, 0] {
        let Some((setup, upstream)) = served() else { return };
        let (proxy, scratch) = (setup.set("parked_conversations", kept).start(), Scratch::new());
        let file = scratch.write("project/greeting.txt", "Hello, world.\n");
        let thought = json!({
            "type": "reasoning", "id": "rs_upstream", "encrypted_content": "SEALED",
            "summary": [{ "type": "summary_text", "text": "Of Oslo." }],
        });
        let thinks = Reply::nothing()
            .then_event(json!({ "type": "response.output_item.done", "output_index": 0, "item": thought }));
        upstream.when(
            "mark-codex",
            [
                thinks.then_call("apply_patch", &json!({ "input": PATCH }).to_string()),
                Reply::call("client_exec_command", r#"{"cmd": "wc -c < greeting.txt > size.txt"}"#),
                Reply::text("All is done."),
                Reply::text("Quite sure."),
            ],
        );
        let events =
            codex(&program, &scratch, &proxy, &["-m", "gpt-5.5", "mark-codex: greet Oslo, and count"]);
        assert_eq!(last_words(&events), "All is done.", "{events:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "Hello, Oslo.\n");
        assert_eq!(fs::read_to_string(scratch.path().join("project/size.txt")).unwrap().trim(), "13");
        let events =
            codex(&program, &scratch, &proxy, &["-m", "gpt-5.5", "resume", "--last", "Are you sure?"]);
        assert_eq!(last_words(&events), "Quite sure.", "{events:?}");

        untroubled(&proxy);
        let requests = asked(&upstream, "mark-codex");
        assert_eq!(requests.len(), 4);
        for request in &requests[1..] {
            let sealed = request.items().iter().filter(|item| item["encrypted_content"] == "SEALED").count();
            assert_eq!(sealed, 1, "{}", request.raw);
        }
        let outputs = requests[3].tool_outputs();
        assert!(outputs[0].contains("Success. Updated the following files:\nM greeting.txt"), "{outputs:?}");
        assert!(outputs[1].contains("Process exited with code 0"), "{outputs:?}");
        assert_eq!(outputs.len(), 2, "{outputs:?}");
    }
}

/// Newer models are given one freeform tool in a namespace, which takes JavaScript.
#[test]
fn codex_in_code_mode_patches_a_file_and_runs_a_command() {
    let Some(program) = require_codex() else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let file = scratch.write("project/greeting.txt", "Hello, world.\n");
    let patches = format!("text(await tools.apply_patch({}))", json!(PATCH));
    let runs = r#"text((await tools.exec_command({ cmd: "wc -c < greeting.txt | tee size.txt" })).output)"#;
    let exec = |script: &str| Reply::call("functions__exec", &json!({ "input": script }).to_string());
    upstream.when("mark-codex", [exec(&patches), exec(runs), Reply::text("All is done.")]);
    let events =
        codex(&program, &scratch, &proxy, &["-m", "gpt-6.1-sol", "mark-codex: greet Oslo, and count"]);
    assert_eq!(last_words(&events), "All is done.", "{events:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "Hello, Oslo.\n");
    assert_eq!(fs::read_to_string(scratch.path().join("project/size.txt")).unwrap().trim(), "13");
    untroubled(&proxy);
    let requests = asked(&upstream, "mark-codex");
    assert_eq!(requests.len(), 3);
    let outputs = requests[2].tool_outputs();
    assert_eq!(outputs.len(), 2, "{outputs:?}");
    assert!(outputs[1].contains("13"), "{outputs:?}");
}
