//! The doubles themselves: a test that leans on one may trust it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::support::fake_codex::FakeCodex;
use crate::support::proxy::{Scratch, require_codex, signal};
use crate::support::upstream::{Ended, Reply, Upstream};
use crate::support::wait;

fn exec(codex: &Path, scratch: &Scratch, upstream: &Upstream) -> Command {
    let mut command = Command::new(codex);
    command.args([
        "exec",
        "--json",
        "--skip-git-repo-check",
        "--ignore-user-config",
        "--ignore-rules",
        "--sandbox",
        "read-only",
        "--ephemeral",
        "-c",
        "model_provider=\"mock\"",
        "-c",
    ]);
    command.arg(format!(r#"model_providers.mock={{name="mock",base_url="{}",wire_api="responses",request_max_retries=0,stream_max_retries=0}}"#, upstream.url()));
    command.env("CODEX_HOME", scratch.dir("codex-home")).current_dir(scratch.dir("workspace"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn ask(mut command: Command, prompt: &str) -> Output {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(prompt.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_real_codex_carries_what_the_upstream_says() {
    let Some(codex) = require_codex() else { return };
    let (scratch, upstream) = (Scratch::new(), Upstream::start());
    let odd = "a\u{2028}b\r\n\u{1f469}\u{200d}\u{1f4bb} \u{1} \"quoted\" \\ end";
    upstream.when("odd", [Reply::text(odd).usage(100, 20, 30, 4)]);
    upstream.when("huge", [Reply::text("x".repeat(2 << 20))]);
    upstream.when(
        "schema",
        [Reply::failed("rate_limit_exceeded", "Rate limit reached. Please try again in 1.5s.")],
    );

    let out = String::from_utf8(ask(exec(&codex, &scratch, &upstream), "odd").stdout).unwrap();
    let message: serde_json::Value = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|line| line["type"] == "item.completed")
        .unwrap();
    assert_eq!(message["item"]["text"], odd);
    assert!(out.contains(r#""input_tokens":100,"cached_input_tokens":20"#), "{out}");
    assert_eq!(upstream.only_request().last_text("user"), "odd");

    let out = ask(exec(&codex, &scratch, &upstream), "huge").stdout;
    assert!(out.len() > 2 << 20);
    let out = String::from_utf8(ask(exec(&codex, &scratch, &upstream), "schema").stdout).unwrap();
    assert!(out.contains("try again in 1.5s"), "{out}");
}

#[test]
fn the_upstream_knows_how_its_connections_end() {
    let Some(codex) = require_codex() else { return };
    let (scratch, upstream) = (Scratch::new(), Upstream::start());
    upstream.reply(Reply::nothing().then_partial(&["one", "two"]).then_hang());
    let mut child = exec(&codex, &scratch, &upstream).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hi").unwrap();
    wait::until("both deltas are out", || {
        upstream.requests().first().is_some_and(|request| request.deltas == 2)
    });
    assert_eq!(upstream.open(), 1);
    signal("TERM", child.id());
    child.wait().unwrap();
    let ended = wait::until_some("the upstream sees it end", || upstream.requests()[0].ended);
    assert_eq!(ended.0, Ended::ClientClosed);
    wait::until("the connection is gone", || upstream.open() == 0);
}

#[test]
fn the_upstream_hands_back_what_a_tool_printed() {
    let Some(codex) = require_codex() else { return };
    let (scratch, upstream) = (Scratch::new(), Upstream::start());
    scratch.write("workspace/note.txt", "the note");
    upstream.when("run", [Reply::call("exec_command", r#"{"cmd":"cat note.txt"}"#), Reply::text("read it")]);
    let mut command = exec(&codex, &scratch, &upstream);
    command.args(["-m", "gpt-5.5"]);
    let out = String::from_utf8(ask(command, "run").stdout).unwrap();
    assert!(out.contains("read it"), "{out}");
    let requests = upstream.requests();
    assert!(requests[0].tools().contains(&"exec_command".into()), "{:?}", requests[0].tools());
    let outputs = requests[1].tool_outputs();
    assert!(outputs[0].contains("the note"), "{outputs:?}");
}

#[test]
fn the_fake_codex_follows_its_script() {
    let scratch = Scratch::new();
    let fake = FakeCodex::new(scratch.path(), "version codex-cli 0.98.0");
    let run =
        |arguments: &[&str]| Command::new(fake.path()).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    assert_eq!(text(&run(&["--version"])), "codex-cli 0.98.0\n");
    assert_eq!(run(&["login", "status"]).status.code(), Some(0));
    let turn = text(&run(&["-c", "x=1", "exec", "--json", "-"]));
    assert_eq!(turn.lines().count(), 4);
    assert!(turn.contains(r#""text":"pong""#) && turn.contains("turn.completed"), "{turn}");
    fake.script("logged-out\nstart\nstderr oops\nanswer two\\nlines\nlimit-lines 3\ndone");
    assert_eq!(run(&["login", "status"]).status.code(), Some(1));
    let killed = run(&["exec"]);
    assert_eq!((killed.status.code(), text(&killed).lines().count()), (None, 3));
    assert!(text(&killed).contains(r#""text":"two\nlines""#));
    fake.script("ignore-term\nmark here\nwait there\nexit 7");
    let mut child = Command::new(fake.path()).arg("exec").stdin(Stdio::null()).spawn().unwrap();
    wait::until("it has begun", || scratch.path().join("here").exists());
    signal("TERM", child.id());
    scratch.write("there", "");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(fake.turns()[0]["args"], json!(["-c", "x=1", "exec", "--json", "-"]));
}
