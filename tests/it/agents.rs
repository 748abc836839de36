//! Coding agents and agent libraries as whole programs, unmodified, with the proxy as their model: what
//! they do to files, and what reached the upstream, is the proof.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::proxy::{Scratch, signal, skipped};
use crate::support::upstream::Request;
use crate::support::{Proxy, Reply, Setup, Upstream, real, require_codex, wait};

const KEY: &str = "agent-key";
const PATCH: &str =
    "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-Hello, world.\n+Hello, Oslo.\n*** End Patch\n";

/// As the README has it for agents. Claude Code asks for a title beside its first question: two at once.
fn served() -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    let setup = setup.set("engine", "app-server").set("turns_per_worker", 2);
    Some((setup.env("CODEX_PROXY_API_KEY", KEY), upstream))
}

/// A package that `make test-tools` gets from npm, or `None` after saying why the test is skipped.
fn installed(package: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents/node_modules").join(package);
    if !path.exists() {
        skipped(&format!("{package} is not there: run `make test-tools`"));
        return None;
    }
    Some(path)
}

/// The Python with the package, likewise.
fn python(module: &str) -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/python");
    let has = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        skipped(&format!("the Python module {module} is not there: run `make test-tools`"));
        return None;
    }
    Some(python)
}

/// A program in the folder `project` of its own world: another user's home, and nothing outside this
/// machine to be reached.
fn client(program: &Path, scratch: &Scratch) -> Command {
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
fn run(mut command: Command, scratch: &Scratch) -> String {
    let printed = scratch.path().join("printed");
    let file = fs::File::create(&printed).unwrap();
    command.stdin(Stdio::null()).stdout(file).process_group(0);
    let mut running = Running(command.spawn().unwrap());
    let status = wait::until_some("the client ends", || running.0.try_wait().unwrap());
    let printed = fs::read_to_string(printed).unwrap();
    assert!(status.success(), "{status}: {printed}");
    printed
}

/// What reached the upstream with that word in it; and that nothing came twice, nor failed at the proxy.
fn asked(proxy: &Proxy, upstream: &Upstream, marker: &str) -> Vec<Request> {
    let lines = proxy.latency_lines();
    assert!(lines.iter().all(|line| line["status"] != "error"), "{lines:?}");
    let all = upstream.requests();
    for (index, request) in all.iter().enumerate() {
        let alike = all[..index].iter().find(|earlier| said(earlier) == said(request));
        assert!(alike.is_none(), "bought twice: {}", request.raw);
    }
    all.into_iter().filter(|request| request.raw.contains(marker)).collect()
}

/// The conversation without the numbers that differ from request to request.
fn said(request: &Request) -> Vec<Value> {
    let mut items = request.items().to_vec();
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.remove("id");
    }
    items
}

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
    let requests = asked(&proxy, &upstream, "mark-claude");
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

        let requests = asked(&proxy, &upstream, "mark-codex");
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
    let requests = asked(&proxy, &upstream, "mark-codex");
    assert_eq!(requests.len(), 3);
    let outputs = requests[2].tool_outputs();
    assert_eq!(outputs.len(), 2, "{outputs:?}");
    assert!(outputs[1].contains("13"), "{outputs:?}");
}

#[test]
fn openai_agents_run_a_tool_loop() {
    let Some(python) = python("agents") else { return };
    let Some((setup, upstream)) = served() else { return };
    let (proxy, scratch) = (setup.start(), Scratch::new());
    let report = Reply::text(r#"{"city": "Oslo", "wet": true}"#);
    let (oslo, rome) = (r#"{"city": "Oslo"}"#, r#"{"city": "Rome"}"#);
    let both = || Reply::call("weather", oslo).then_call("populace", r#"{"city": "Oslo", "year": 2020}"#);
    let again = || [both(), Reply::call("weather", rome), Reply::text("Wet, both.")];
    upstream.when("mark-whole", again());
    upstream.when("mark-streamed", again());
    upstream.when("mark-again", [Reply::text("Quite.")]);
    upstream.when("mark-structured", [Reply::call("weather", oslo), report]);
    let mut script = client(&python, &scratch);
    script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/openai_agents.py"));
    script.env("OPENAI_BASE_URL", format!("{}/v1", proxy.url())).env("OPENAI_API_KEY", KEY);
    // Otherwise it reports its runs to OpenAI.
    script.env("OPENAI_AGENTS_DISABLE_TRACING", "1");
    run(script, &scratch);
    for (marker, times) in
        [("mark-whole", 3), ("mark-streamed", 3), ("mark-structured", 3), ("mark-again", 1)]
    {
        assert_eq!(asked(&proxy, &upstream, marker).len(), times, "{marker}");
    }
    let last = asked(&proxy, &upstream, "mark-whole").pop().unwrap();
    assert_eq!(last.tool_outputs(), ["rain in Oslo", "700000", "rain in Rome"]);
    let formed = asked(&proxy, &upstream, "mark-structured");
    assert!(formed[1].body["text"]["format"]["schema"]["properties"]["wet"].is_object(), "{}", formed[1].raw);
}
