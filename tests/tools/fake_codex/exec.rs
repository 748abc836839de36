//! `codex exec --json`: the steps of a scripted turn.
//!
//! | step | effect |
//! |---|---|
//! | `no-stdin` | (first) never reads the prompt; otherwise it is read whole before the first step |
//! | `ignore-term` | (first) SIGTERM has no effect |
//! | `start` | `thread.started` and `turn.started` |
//! | `answer TEXT` | an agent message; `\n`, `\u2028` and other JSON escapes are understood |
//! | `reasoning TEXT` | a reasoning item |
//! | `done` | `turn.completed` with usage 11/3/7/2 |
//! | `failed TEXT` | `error` and `turn.failed` with this message |
//! | `line TEXT` | this line |
//! | `part TEXT` | this text without the end of line |
//! | `hex 00ff…` | these bytes |
//! | `big N` | an agent message of N characters |
//! | `stderr TEXT`, `flood N` | that line, or N bytes of lines, on stderr |
//! | `limit-bytes N`, `limit-lines N` | the process kills itself once it has written so much |
//! | `sleep MS`, `hang` | wait; forever |
//! | `wait FILE` | until this file exists beside the program |
//! | `mark FILE` | make this file beside the program |
//! | `grandchild` | leave a child process behind that sleeps with our pipes open |
//! | `exit N` | end with this status |
//! | `kill` | die of SIGKILL |
//!
//! A script without steps is `start`, the answer, `done`.

use std::io::{Read, StdoutLock, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::script::Script;

/// Runs one turn and gives its exit status.
pub fn run(script: &Script, arguments: &[String]) -> i32 {
    if starts_again(script, "exec") {
        return ignoring_term(arguments);
    }
    let mut prompt = vec![];
    if !script.has("no-stdin") {
        let _ = std::io::stdin().lock().read_to_end(&mut prompt);
        script.record_stdin(&prompt);
    }
    let mut out = Out::new(script);
    let mut steps = script.steps().peekable();
    if steps.peek().is_none() {
        let prompt = String::from_utf8_lossy(&prompt);
        let answer = prompt.split_once("Reply with exactly: ").map_or("pong", |(_, rest)| rest.trim());
        out.start();
        out.message(answer);
        out.done();
        return 0;
    }
    for (word, rest) in steps {
        match word {
            "no-stdin" | "ignore-term" | "limit-bytes" | "limit-lines" => {}
            "start" => out.start(),
            "answer" => out.message(&unescape(rest)),
            "reasoning" => out.item("reasoning", &unescape(rest)),
            "done" => out.done(),
            "failed" => {
                out.line(&json!({ "type": "error", "message": rest }).to_string());
                out.line(&json!({ "type": "turn.failed", "error": { "message": rest } }).to_string());
            }
            "line" => out.line(rest),
            "part" => out.bytes(rest.as_bytes()),
            "hex" => out.bytes(&unhex(rest)),
            "big" => out.message(&"x".repeat(number(rest))),
            "stderr" => eprintln!("{rest}"),
            "flood" => flood(number(rest)),
            "sleep" => std::thread::sleep(Duration::from_millis(number(rest) as u64)),
            "hang" => loop {
                std::thread::park();
            },
            "wait" => {
                while !script.folder().join(rest).exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            "mark" => std::fs::write(script.folder().join(rest), "").unwrap(),
            "grandchild" => drop(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap()),
            "exit" => return number(rest) as i32,
            "kill" => kill_self(),
            other => {
                eprintln!("fake-codex: unknown step {other:?}");
                return 99;
            }
        }
    }
    0
}

/// Whether this process only makes way for the one that ignores SIGTERM.
pub fn starts_again(script: &Script, verb: &str) -> bool {
    verb == "exec" && script.has("ignore-term") && std::env::var_os("FAKE_CODEX_IGNORES_TERM").is_none()
}

/// Starts ourselves again below a shell that ignores the signal: what is ignored stays ignored
/// across exec, and no unsafe code is needed.
pub fn ignoring_term(arguments: &[String]) -> i32 {
    use std::os::unix::process::CommandExt;
    let error = Command::new("sh")
        .args(["-c", r#"trap "" TERM; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .env("FAKE_CODEX_IGNORES_TERM", "1")
        .exec();
    eprintln!("fake-codex: cannot run sh: {error}");
    99
}

/// stdout with a limit after which the process dies.
struct Out {
    stdout: StdoutLock<'static>,
    bytes_left: usize,
    lines_left: usize,
}

impl Out {
    fn new(script: &Script) -> Out {
        let limit = |name| script.value(name).map_or(usize::MAX, number);
        Out {
            stdout: std::io::stdout().lock(),
            bytes_left: limit("limit-bytes"),
            lines_left: limit("limit-lines"),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.bytes_left);
        self.bytes_left -= count;
        // A reader that is gone ends us, as it ends the real CLI.
        if self.stdout.write_all(&bytes[..count]).and_then(|()| self.stdout.flush()).is_err() {
            std::process::exit(1);
        }
        if count < bytes.len() {
            kill_self();
        }
    }

    fn line(&mut self, line: &str) {
        if self.lines_left == 0 {
            kill_self();
        }
        self.lines_left -= 1;
        self.bytes(format!("{line}\n").as_bytes());
    }

    fn item(&mut self, kind: &str, text: &str) {
        self.line(
            &json!({ "type": "item.completed", "item": { "id": "item_0", "type": kind, "text": text } })
                .to_string(),
        );
    }

    fn start(&mut self) {
        self.line(r#"{"type":"thread.started","thread_id":"0199a213-81c0-7800-8aa1-bbab2a035a53"}"#);
        self.line(r#"{"type":"turn.started"}"#);
    }

    fn message(&mut self, text: &str) {
        self.item("agent_message", text);
    }

    fn done(&mut self) {
        self.line(r#"{"type":"turn.completed","usage":{"input_tokens":11,"cached_input_tokens":3,"cache_write_input_tokens":0,"output_tokens":7,"reasoning_output_tokens":2}}"#);
    }
}

fn kill_self() -> ! {
    let _ = Command::new("sh").args(["-c", "kill -KILL $PPID"]).status();
    std::process::exit(98)
}

fn flood(bytes: usize) {
    let line = format!("{}\n", "noise ".repeat(20));
    let mut stderr = std::io::stderr().lock();
    for _ in 0..bytes.div_ceil(line.len()) {
        let _ = stderr.write_all(line.as_bytes());
    }
}

fn number(text: &str) -> usize {
    text.trim().parse().unwrap_or_else(|_| panic!("fake-codex: {text:?} is not a number"))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn unescape(text: &str) -> String {
    let quoted = format!("\"{}\"", text.replace('"', "\\\""));
    serde_json::from_str::<Value>(&quoted)
        .ok()
        .and_then(|value| value.as_str().map(Into::into))
        .unwrap_or_else(|| text.into())
}
