//! Coding agents as whole programs, unmodified, with the proxy as their model: what they do to files, and
//! what reached the upstream, is the proof. They are set as `connect` says, by itself where it starts them.

mod claude_code;
mod cline;
mod codex;
mod continue_cli;
mod opencode;
mod qwen_code;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::programs::{KEY, asked, client, connect, grows, untroubled};
use crate::support::proxy::{Proxy, Scratch};
use crate::support::{Reply, Upstream};

/// What each is to do: two files are read at once, one is changed, a command is run.
struct Work {
    greeting: PathBuf,
    other: PathBuf,
}

/// The command: its result is in a file.
const COMMAND: &str = "wc -c < greeting.txt > size.txt";

/// What each answer says the conversation takes: whoever takes the window for much smaller than it is would
/// shorten it, by another request.
const LONG: u64 = 180_000;

/// A call of one of a client's own tools.
type ToolCall = (&'static str, Value);

impl Work {
    fn new(scratch: &Scratch) -> Work {
        Work {
            greeting: scratch.write("project/greeting.txt", "Hello, world.\n"),
            other: scratch.write("project/other.txt", "Something else.\n"),
        }
    }

    /// The model's side of it.
    fn script(upstream: &Upstream, marker: &str, reads: &[ToolCall], edit: &ToolCall, command: &ToolCall) {
        let call = |reply: Reply, (name, input): &ToolCall| reply.then_call(name, &input.to_string());
        let replies = [
            reads.iter().fold(Reply::nothing(), call),
            call(Reply::text("I change it."), edit),
            call(Reply::nothing(), command),
            Reply::text("All is done."),
        ];
        upstream.when(marker, replies.map(|reply| reply.usage(LONG, LONG - 100, 50, 0)));
    }

    /// That it was done, with four questions, each of which holds the one before it.
    fn done(&self, proxy: &Proxy, upstream: &Upstream, marker: &str) -> Vec<String> {
        assert_eq!(fs::read_to_string(&self.greeting).unwrap(), "Hello, Oslo.\n");
        assert_eq!(fs::read_to_string(self.greeting.with_file_name("size.txt")).unwrap().trim(), "13");
        untroubled(proxy);
        let mut requests = asked(upstream, marker);
        // Not a title that is asked for beside it.
        requests.retain(|request| !request.tools().is_empty());
        assert_eq!(requests.len(), 4);
        grows(&requests);
        let outputs = requests[3].tool_outputs();
        assert!(outputs.concat().contains("Hello, world."), "{outputs:?}");
        assert!(outputs.concat().contains("Something else."), "{outputs:?}");
        outputs
    }
}

/// What `connect` prints for a client.
fn printed(proxy: &Proxy, scratch: &Scratch, name: &str) -> String {
    let output = connect(proxy, scratch, &[name]).env("CODEX_PROXY_API_KEY", KEY).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it prints as the text of a file: what is neither a comment nor for a shell.
fn text_of_file(printed: &str) -> String {
    let text = printed.lines().filter(|line| !line.starts_with('#') && !line.starts_with("export "));
    text.map(|line| format!("{line}\n")).collect()
}

/// A shell that runs this, as what was printed is run.
fn shell(scratch: &Scratch, script: &str) -> Command {
    let mut shell = client(std::path::Path::new("sh"), scratch);
    shell.args(["-ec", script]).env("CODEX_PROXY_API_KEY", KEY);
    shell.env("PATH", format!("{}:{}", scratch.dir("bin").display(), std::env::var("PATH").unwrap()));
    shell.env_remove("NO_PROXY").env_remove("no_proxy");
    shell
}
