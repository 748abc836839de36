//! Reading the script beside the program, and recording the calls.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

/// The directives, in order.
#[derive(Default)]
pub struct Script {
    path: Option<PathBuf>,
    lines: Vec<String>,
}

/// Directives that are not steps of a turn.
const FACTS: &[&str] =
    &["version", "logged-out", "logged-in-at", "sandbox", "models", "no-fork", "app-server"];

impl Script {
    /// The script beside the running program, if there is one.
    pub fn load() -> Option<Script> {
        let path = std::env::current_exe().ok()?;
        let text = std::fs::read_to_string(path.with_extension("script")).ok()?;
        let lines =
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Some(Script { lines: lines.map(Into::into).collect(), path: Some(path) })
    }

    /// What follows the first directive of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| split(line).filter(|(word, _)| *word == name)).map(|(_, rest)| rest)
    }

    /// Whether there is such a directive.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The steps of a turn: word and rest.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| split(line)).filter(|(word, _)| !FACTS.contains(word))
    }

    /// What follows `app-server` on its lines.
    pub fn app_server(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| split(line.strip_prefix("app-server ")?))
    }

    /// The folder of the program, for marks.
    pub fn folder(&self) -> &Path {
        self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new("."))
    }

    /// Notes this call.
    pub fn record(&self, verb: &str, arguments: &[String]) {
        let env: serde_json::Map<String, serde_json::Value> =
            std::env::vars_os().map(|(name, value)| (lossy(&name), lossy(&value).into())).collect();
        let cwd = std::env::current_dir().unwrap_or_default();
        self.append(
            &json!({ "verb": verb, "args": arguments, "env": env, "cwd": cwd, "pid": std::process::id() }),
        );
    }

    /// Notes what came on stdin.
    pub fn record_stdin(&self, stdin: &[u8]) {
        if self.path.is_some() {
            let text = String::from_utf8_lossy(stdin);
            self.append(&json!({ "verb": "stdin", "stdin": text, "pid": std::process::id() }));
        }
    }

    fn append(&self, record: &serde_json::Value) {
        let Some(path) = &self.path else { return };
        // One write of one line, so that parallel calls never mix.
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path.with_extension("calls"));
        let _ = file.and_then(|mut file| file.write_all(format!("{record}\n").as_bytes()));
    }
}

fn split(line: &str) -> Option<(&str, &str)> {
    Some(line.split_once(' ').unwrap_or((line, "")))
}

fn lossy(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}
