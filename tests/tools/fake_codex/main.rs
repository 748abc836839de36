//! A Codex CLI for tests and benchmarks: fast, scripted, and badly behaved where told.
//!
//! Without a script it is a good and quick one. With a file `NAME.script` beside the program
//! `NAME`, it follows that, and appends one JSON line for each call to `NAME.calls`.
//!
//! A script is one directive a line; `#` begins a comment:
//!
//! | directive | effect |
//! |---|---|
//! | `version TEXT` | what `--version` prints (default `codex-cli 0.169.0`) |
//! | `logged-out` | `login status` says so and exits 1 |
//! | `logged-in-at NAME` | the same unless the folder name of `CODEX_HOME` is `NAME` |
//! | `sandbox N` | the status of `sandbox …` (default 0: confinement works) |
//! | `no-fork` | `exec … fork` is a usage error |
//! | `models JSON` | what `debug models` prints |
//! | anything else | a step of every turn, see `exec.rs`; `app-server …` lines, see `app_server.rs` |
#![allow(clippy::unwrap_used)]

mod app_server;
mod exec;
mod script;

use std::io::Write;

use script::Script;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let verb = verb(&arguments);
    let script = Script::load();
    if let Some(script) = &script
        && !exec::starts_again(script, verb)
    {
        script.record(verb, &arguments);
    }
    let script = script.unwrap_or_default();
    let code = match verb {
        "version" => say(script.value("version").unwrap_or("codex-cli 0.169.0")),
        "login" if script.has("logged-out") || logged_in_elsewhere(&script) => {
            eprintln!("Not logged in");
            1
        }
        "login" => {
            eprintln!("Logged in using ChatGPT");
            0
        }
        "debug" => say(script
            .value("models")
            .unwrap_or(r#"{"models":[{"slug":"gpt-fake","display_name":"Fake","visibility":"list"}]}"#)),
        "sandbox" => script.value("sandbox").and_then(|code| code.parse().ok()).unwrap_or(0),
        "exec" if script.has("no-fork") && arguments.iter().any(|argument| argument == "fork") => {
            eprintln!("error: unexpected argument 'fork' found");
            2
        }
        "exec" => exec::run(&script, &arguments),
        "app-server" => app_server::run(&script, &arguments),
        other => {
            eprintln!("error: unrecognized subcommand '{other}'");
            2
        }
    };
    std::process::exit(code);
}

/// The subcommand: the first word that no option before it takes as its value.
fn verb(arguments: &[String]) -> &str {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--version" | "-V" => return "version",
            "-c" | "--config" | "--enable" | "--disable" | "-m" | "--model" => drop(words.next()),
            option if option.starts_with('-') => {}
            verb => return verb,
        }
    }
    ""
}

fn say(text: &str) -> i32 {
    let _ = writeln!(std::io::stdout(), "{text}");
    0
}

/// Whether the script has a login that this `CODEX_HOME` does not see, as in a keyring.
fn logged_in_elsewhere(script: &Script) -> bool {
    let home = std::env::var_os("CODEX_HOME").map(std::path::PathBuf::from).unwrap_or_default();
    script.value("logged-in-at").is_some_and(|name| !home.ends_with(name))
}
