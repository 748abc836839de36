//! The state file of the Python program of the same name, read as settings of ours.

use std::collections::BTreeMap;
use std::path::Path;

use figment::value::Value;
use serde_json::{Map, Value as Json};
use toml_edit::Item;

use super::flags::REPLACED;
use super::schema::{Base, Setting, to_toml};
use super::shape::printable;
use super::{SETTINGS, edit, files, layers, render, validate};

/// The keys of that file which are settings here, too.
const KEYS: &[&str] = &[
    "host",
    "port",
    "api_key",
    "codex_bin",
    "proxy",
    "model",
    "codex_configs",
    "ephemeral",
    "engine",
    "workers",
    "max_queue_size",
    "queue_timeout_seconds",
    "app_server_codex_home",
    "default_cwd",
    "allowed_roots",
    "timeout_seconds",
    "max_concurrency",
    "log_level",
];

/// What `--fast` of that program stood for.
const FAST: &str = "model_reasoning_effort=\"low\"";

/// A settings file made from a state file.
#[derive(Debug)]
pub struct Converted {
    /// The commented example with the values set.
    pub text: String,
    /// The settings in it, by key.
    pub taken: BTreeMap<&'static str, Value>,
    /// Keys whose value was the default.
    pub defaults: Vec<&'static str>,
    /// What was left out or changed, and why; a line each.
    pub notes: Vec<String>,
}

impl Converted {
    /// `key = value` for each setting taken, secrets hidden.
    pub fn shown(&self) -> Vec<String> {
        let shown = SETTINGS.iter().filter_map(|setting| Some((setting, self.taken.get(setting.key)?)));
        shown
            .map(|(setting, value)| format!("{} = {}", setting.key, to_toml(&setting.redacted(value))))
            .collect()
    }
}

/// What becomes of one value.
enum Verdict {
    Take(Value),
    Default,
    Leave(String),
}
use Verdict::{Default, Leave, Take};

/// Reads a state file that only root or `uid` could have written.
///
/// # Errors
/// Why it cannot be read.
pub fn read(path: &Path, uid: u32) -> Result<String, String> {
    let file = files::read(path, uid)?.ok_or("does not exist")?;
    Ok(file.text)
}

/// Makes settings of a state file's text, for a user with that home directory.
///
/// # Errors
/// What is wrong with it, a line for each key; no secret is in them.
pub fn convert(text: &str, home: &Path) -> Result<Converted, Vec<String>> {
    const NOT_ONE: &str = "not a state file of the Python program";
    let state = match serde_json::from_str(text) {
        Ok(Json::Object(state)) => state,
        Ok(_) => return Err(vec![format!("no JSON object: {NOT_ONE}")]),
        Err(error) => return Err(vec![format!("no JSON ({error}): {NOT_ONE}")]),
    };
    if !state.keys().any(|key| KEYS.contains(&key.as_str())) {
        return Err(vec![format!("no setting in it: {NOT_ONE}")]);
    }
    let mut reader = Reader { state: &state, home, values: BTreeMap::new() };
    reader.read()?;
    let mut converted =
        Converted { text: render::example(), taken: BTreeMap::new(), defaults: vec![], notes: vec![] };
    for key in KEYS.iter().copied().filter(|key| state.contains_key(*key)) {
        match reader.judge(key) {
            Take(value) => _ = converted.taken.insert(key, value),
            Default => converted.defaults.push(key),
            Leave(why) => converted.notes.push(format!("{key}: {why}")),
        }
    }
    converted.adapt(home);
    let replaced = |key: &str| REPLACED.iter().find(|(flag, _)| flag.replace('-', "_") == *key);
    for (key, value) in state.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
        converted.notes.push(match (replaced(key), value.as_str()) {
            (Some((_, instead)), Some(file)) if key == "pid_file" => {
                format!(
                    "{key}: {instead}; if the Python program still runs: kill $(cat '{}')",
                    printable(file)
                )
            }
            (Some((_, instead)), _) => format!("{key}: {instead}"),
            (None, _) => format!("{}: unknown, left out", printable(key)),
        });
    }
    for (key, value) in &converted.taken {
        converted.text = edit::place(&converted.text, key, to_toml(value)).map_err(|why| vec![why])?;
    }
    Ok(converted)
}

struct Reader<'a> {
    state: &'a Map<String, Json>,
    home: &'a Path,
    /// Every value that is one, whatever becomes of it.
    values: BTreeMap<&'static str, Value>,
}

impl Reader<'_> {
    /// Reads all values, so that all errors are told at once.
    fn read(&mut self) -> Result<(), Vec<String>> {
        // Relative paths get here only to be seen as such: nobody knows what they were relative to.
        let base = Base { home: Some(self.home), folder: Path::new("") };
        let mut wrong = vec![];
        for setting in SETTINGS.iter().filter(|setting| KEYS.contains(&setting.key)) {
            let value = match self.state.get(setting.key) {
                None | Some(Json::Null) => continue,
                Some(Json::String(text)) if text.is_empty() => continue,
                Some(value) => value,
            };
            match setting.shape.read_toml(&Item::Value(toml(value)), &base) {
                Ok(value) => _ = self.values.insert(setting.key, value),
                Err(bad) => wrong.push(setting.explain(&bad)),
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn text(&self, key: &str) -> String {
        let known = Setting::find(key).zip(self.values.get(key));
        known.map(|(setting, value)| setting.to_text(value)).unwrap_or_default()
    }

    fn not_known(&self, key: &str) -> String {
        let value = self.state.get(key).map(ToString::to_string).unwrap_or_default();
        format!("{} left out: nobody knows what a relative path started from", printable(&value))
    }

    fn judge(&self, key: &'static str) -> Verdict {
        let Some(value) = self.values.get(key) else { return Default };
        let text = self.text(key);
        let ours = layers::defaults(self.home).value(key);
        let usual = ours.zip(Setting::find(key)).map(|(value, setting)| setting.to_text(&value));
        let relative = |text: &str| !text.starts_with('/');
        match key {
            _ if usual.as_ref() == Some(&text) => Default,
            "queue_timeout_seconds" if text == "30" => Default,
            "codex_configs" | "allowed_roots" if entries(value).next().is_none() => Default,
            "allowed_roots" if text == self.text("default_cwd") => Default,
            "max_queue_size" | "queue_timeout_seconds" if self.text("engine") != "app-server" => {
                Leave(format!(
                    "{text} left out: with engine = exec it had no effect there, and would have one here"
                ))
            }
            "default_cwd" | "app_server_codex_home" if relative(&text) => Leave(self.not_known(key)),
            "codex_bin" if text.contains('/') && relative(&text) => Leave(self.not_known(key)),
            "default_cwd" if self.home.starts_with(&text) => Leave(format!(
                "{0} left out: Codex could read your whole home directory; if you want that: \
                 codex-api-proxy config set default_cwd '{0}'",
                printable(&text)
            )),
            "allowed_roots" if entries(value).any(relative) => Leave(self.not_known(key)),
            _ => Take(value.clone()),
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

impl Converted {
    /// What is said in another way here.
    fn adapt(&mut self, home: &Path) {
        if self.taken.get("codex_configs") == Some(&vec![FAST].into()) {
            self.taken.remove("codex_configs");
            self.taken.insert("fast", true.into());
            self.notes.push(format!("codex_configs: {FAST} is what fast = true stands for"));
        }
        // Here the default is held to the rule as well.
        let usual = layers::defaults(home).value("default_cwd");
        let cwd = self.taken.get("default_cwd").cloned().or(usual);
        let cwd = cwd.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let roots = self.taken.get("allowed_roots");
        let outside =
            roots.is_some_and(|roots| !validate::inside(Path::new(&cwd), entries(roots).map(Path::new)));
        if let (true, Some(Value::Array(_, roots))) = (outside, self.taken.get_mut("allowed_roots")) {
            let shown = printable(&cwd);
            self.notes.push(format!("allowed_roots: {shown} added, since default_cwd must be inside them"));
            roots.push(cwd.into());
        }
    }
}

/// JSON as the TOML that means the same. What TOML does not have, and no setting takes, is an empty table.
fn toml(json: &Json) -> toml_edit::Value {
    match json {
        Json::String(text) => text.as_str().into(),
        Json::Bool(yes) => (*yes).into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::Array(entries) => toml_edit::Array::from_iter(entries.iter().map(toml)).into(),
        Json::Null | Json::Object(_) => toml_edit::InlineTable::new().into(),
    }
}
