//! Claude Code, as `connect` starts it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::LONG;
use crate::support::programs::{
    KEY, asked, connect, grows, installed, killed, on_path, run, served, untroubled,
};
use crate::support::proxy::{Proxy, Scratch};
use crate::support::upstream::Request;
use crate::support::{Reply, Upstream};

fn world() -> Option<(Proxy, Upstream, Scratch)> {
    let package = installed("@anthropic-ai/claude-code")?;
    let (setup, upstream) = served()?;
    let scratch = Scratch::new();
    on_path(&scratch, "claude", &format!("node '{}'", package.join("cli-wrapper.cjs").display()));
    upstream.when("a concise, sentence-case title", [Reply::text(r#"{"title": "Greeting Oslo"}"#)]);
    Some((setup.start(), upstream, scratch))
}

fn claude(proxy: &Proxy, scratch: &Scratch, words: &[&str]) -> Command {
    let mut claude = connect(proxy, scratch, &["claude-code", "--"]);
    // It would win over the key.
    claude.args(words).env("CODEX_PROXY_API_KEY", KEY).env("ANTHROPIC_AUTH_TOKEN", "not-the-key");
    claude
}

/// What it says, once it says that it went well.
fn result(command: Command, scratch: &Scratch) -> Value {
    let result: Value = serde_json::from_str(&run(command, scratch)).unwrap();
    assert_eq!(result["is_error"], false, "{result}");
    result
}

/// A title is asked for beside the first question, without a tool, if there is time for it.
fn without_title(requests: Vec<Request>) -> Vec<Request> {
    let (titles, requests): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|request| request.tools().is_empty());
    assert!(titles.len() <= 1, "{} titles", titles.len());
    requests
}

#[test]
fn ten_steps_read_edit_and_run_and_are_paid_for_once() {
    let Some((proxy, upstream, scratch)) = world() else { return };
    let file = scratch.write("project/greeting.txt", "Hello, world.\n");
    let other = scratch.write("project/other.txt", "Something else.\n");
    let read = |file: &std::path::Path| json!({ "file_path": file }).to_string();
    let edit = json!({ "file_path": file, "old_string": "world", "new_string": "Oslo" }).to_string();
    let shell = |command: &str| json!({ "command": command, "description": "A step" }).to_string();
    let mut replies = vec![
        Reply::nothing().then_call("Read", &read(&file)).then_call("Read", &read(&other)),
        Reply::text("I change it.").then_call("Edit", &edit),
        Reply::call("Bash", &shell("wc -c < greeting.txt > size.txt")),
    ];
    replies.extend(
        (3..10).map(|step| Reply::call("Bash", &shell(&format!("echo step {step} | tee -a steps.txt")))),
    );
    replies.push(Reply::text("All is done."));
    upstream.when("mark-claude", replies.into_iter().map(|reply| reply.usage(LONG, LONG - 100, 50, 0)));
    let words = ["-p", "mark-claude: greet Oslo and count the bytes", "--output-format", "json"];
    let mut command = claude(&proxy, &scratch, &words);
    command.args(["--allowedTools", "Read,Edit,Bash"]);
    let result = result(command, &scratch);
    assert_eq!(result["result"], "All is done.");
    assert_eq!(result["modelUsage"]["codex-local"]["contextWindow"], 272_000, "{result}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "Hello, Oslo.\n");
    assert_eq!(fs::read_to_string(scratch.path().join("project/size.txt")).unwrap().trim(), "13");
    assert_eq!(fs::read_to_string(scratch.path().join("project/steps.txt")).unwrap().lines().count(), 7);
    untroubled(&proxy);
    let requests = without_title(asked(&upstream, "mark-claude"));
    assert_eq!(requests.len(), 11);
    grows(&requests);
    let outputs = requests[10].tool_outputs();
    assert!(outputs[0].contains("Hello, world.") && outputs[1].contains("Something else."), "{outputs:?}");
    assert!(outputs[2].contains("has been updated"), "{outputs:?}");
    assert_eq!(outputs.len(), 11, "{outputs:?}");
}

#[test]
fn a_subagent_sees_a_picture() {
    let Some((proxy, upstream, scratch)) = world() else { return };
    let (_, picture) = crate::chat::PNG.split_once(',').unwrap();
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, picture).unwrap();
    let file = scratch.dir("project").join("picture.png");
    fs::write(&file, bytes).unwrap();
    let order = json!({
        "description": "Look at a picture", "subagent_type": "general-purpose",
        "prompt": "mark-sub: what colour has picture.png?",
    });
    upstream.when("mark-main", [Reply::call("Agent", &order.to_string()), Reply::text("It is blue.")]);
    let read = Reply::call("Read", &json!({ "file_path": file }).to_string());
    upstream.when("mark-sub", [read, Reply::text("Blue, says the subagent.")]);
    let words = ["-p", "mark-main: have the picture looked at", "--output-format", "json"];
    let result = result(claude(&proxy, &scratch, &words), &scratch);
    assert_eq!(result["result"], "It is blue.");
    untroubled(&proxy);
    let all = without_title(asked(&upstream, ""));
    let (main, sub): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|request| request.raw.contains("mark-main"));
    assert_eq!((main.len(), sub.len()), (2, 2));
    grows(&main);
    grows(&sub);
    assert!(main[1].tool_outputs()[0].contains("Blue, says the subagent."), "{}", main[1].raw);
    assert!(sub[1].raw.contains("data:image/png;base64,"), "{}", sub[1].raw);
}

#[test]
fn its_context_page_shows_the_window_that_is_there() {
    let Some((proxy, upstream, scratch)) = world() else { return };
    let page = run(claude(&proxy, &scratch, &["-p", "/context"]), &scratch);
    assert!(page.contains("**Model:** codex-local") && page.contains(" / 272k ("), "{page}");
    // It counts by what the server says of each part; nothing is asked of the model for it.
    assert!(page.contains("| System tools | "), "{page}");
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn killed_midway_it_leaves_nothing() {
    let Some((proxy, upstream, scratch)) = world() else { return };
    killed(claude(&proxy, &scratch, &["-p", "mark-kill: hi"]), &proxy, &upstream, &scratch, "mark-kill");
}
