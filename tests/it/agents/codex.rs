//! Codex itself as a client.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::programs::{KEY, asked, client, run, served, untroubled};
use crate::support::proxy::{Proxy, Scratch};
use crate::support::{Reply, require_codex};

pub(super) const PATCH: &str =
    "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-Hello, world.\n+Hello, Oslo.\n*** End Patch\n";

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
