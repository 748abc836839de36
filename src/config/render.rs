//! What people read of the settings: the commented example, the tables of the reference, `config show`.

use serde_json::{Value as Json, json};

use super::schema::{Initial, LONGEST, Setting, Shape, to_toml};
use super::shape::printable;
use super::{Loaded, Origin, SETTINGS};

/// The state directory as documentation names it.
const STATE: &str = "~/.codex-api-proxy";

/// The default as TOML, and what it means if nothing is set.
fn initial(setting: &Setting) -> (String, Option<&'static str>) {
    // Documentation shows `~` and relative places as they are written, so paths are not expanded here.
    let toml = |text: &str| match &setting.shape {
        Shape::Path => toml_edit::Value::from(text).to_string(),
        Shape::List(Shape::Path, _) => format!("[{}]", toml_edit::Value::from(text)),
        Shape::Pairs if text.is_empty() => "{}".to_owned(),
        shape => {
            let here = super::schema::Base { home: None, folder: std::path::Path::new("/") };
            shape.read_text(text, &here).map_or_else(|_| text.to_owned(), |value| to_toml(&value).to_string())
        }
    };
    match &setting.initial {
        Initial::Text(text) => (toml(text), None),
        Initial::State(folder) => (toml(&format!("{STATE}/{folder}")), None),
        Initial::Unset { means, example } => (toml(example), Some(means)),
    }
}

/// What a value may be, where its default does not show it.
fn choices(setting: &Setting) -> String {
    match &setting.shape {
        Shape::Choice(names) => format!("One of {}.", names.join(", ")),
        _ => String::new(),
    }
}

/// What a value may be, for documentation.
pub fn kind(setting: &Setting) -> String {
    match &setting.shape {
        Shape::Text(_) => "text".to_owned(),
        Shape::Choice(names) => format!("one of {}", names.join(", ")),
        Shape::Switch => "true or false".to_owned(),
        Shape::Count { least, most } => format!("a whole number from {least} to {most}"),
        Shape::Seconds { least } => format!("seconds from {least} to {LONGEST}"),
        Shape::Path => "a path".to_owned(),
        Shape::Program => "a command or a path".to_owned(),
        Shape::List(entry, separator) => {
            let entries = if matches!(entry, Shape::Path) { "paths" } else { "texts" };
            let joined = format!("a list of {entries}, joined by `{separator}` in the variable");
            match setting.one_entry {
                true => joined + "; the option is repeated for each",
                false => joined + " and the option, which may be repeated too",
            }
        }
        Shape::Pairs => {
            "a table of names and models; as variable and option: `name=model;;name=model`".to_owned()
        }
    }
}

/// Its default, for documentation.
pub fn default(setting: &Setting) -> String {
    match initial(setting) {
        (_, Some(means)) => means.to_owned(),
        (value, None) => format!("`{value}`"),
    }
}

/// A settings file with every key commented out at its default.
pub fn example() -> String {
    let mut text = String::from(
        "# Settings of codex-api-proxy, each at its default. `codex-api-proxy config path` lists the files\n\
         # that are read; later ones win, then CODEX_PROXY_* variables, then flags.\n\
         # `~` is the home directory; relative paths start from the folder of the file they stand in.\n",
    );
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            text += &format!("\n## {group}\n");
        }
        let (value, means) = initial(setting);
        text += &format!("\n# {}\n", setting.doc());
        for line in [choices(setting), means.map_or(String::new(), |means| format!("Not set: {means}."))] {
            if !line.is_empty() {
                text += &format!("# {line}\n");
            }
        }
        text += &format!("# {} = {value}\n", setting.key);
    }
    text
}

/// One effective setting, secrets hidden.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its key.
    pub key: &'static str,
    /// Its value in one line; empty if not set.
    pub text: String,
    /// Its value as JSON; `null` if not set.
    pub json: Json,
    /// Where it came from.
    pub origin: Origin,
}

/// Every effective setting with its origin, secrets hidden.
pub fn rows(loaded: &Loaded) -> Vec<Row> {
    let row = |setting: &'static Setting| {
        let value = loaded.config.value(setting.key).map(|value| setting.redacted(&value));
        Row {
            key: setting.key,
            text: value.as_ref().map_or(String::new(), |value| setting.to_text(value)),
            json: value.map_or(Json::Null, |value| to_json(setting, &value)),
            origin: loaded.origins.get(setting.key).cloned().unwrap_or(Origin::Default),
        }
    };
    SETTINGS.iter().map(row).collect()
}

fn to_json(setting: &Setting, value: &figment::value::Value) -> Json {
    match (&setting.shape, value.as_array()) {
        (Shape::Pairs, Some(pairs)) => {
            let pair = |pair: &figment::value::Value| match pair.as_array() {
                Some([name, target]) => Some((name.as_str()?.to_owned(), json!(target.as_str()))),
                _ => None,
            };
            Json::Object(pairs.iter().filter_map(pair).collect())
        }
        (_, Some(entries)) => entries.iter().filter_map(|entry| entry.as_str()).collect(),
        (Shape::Count { .. }, None) => json!(value.to_u128().and_then(|whole| u64::try_from(whole).ok())),
        (Shape::Seconds { .. }, None) => match to_toml(value) {
            toml_edit::Value::Integer(whole) => json!(whole.value()),
            _ => json!(value.to_f64()),
        },
        (Shape::Switch, None) => json!(value.to_bool()),
        (_, None) => json!(value.as_str()),
    }
}

/// `config show`: a line `key = value  # origin` for each setting.
pub fn show(loaded: &Loaded) -> String {
    let line = |row: Row| {
        let value = if row.json.is_null() { "(not set)" } else { row.text.as_str() };
        format!("{:<28} {:<32} # {}\n", row.key, printable(value), row.origin)
    };
    rows(loaded).into_iter().map(line).collect()
}

/// `config show --json`: the same for programs.
pub fn show_json(loaded: &Loaded) -> String {
    let origin = |origin: &Origin| match origin {
        Origin::Default => json!({ "kind": "default" }),
        Origin::File(path) => json!({ "kind": "file", "path": path.to_string_lossy() }),
        Origin::Environment(name) => json!({ "kind": "environment", "variable": name }),
        Origin::Credential(path) => json!({ "kind": "credential", "path": path.to_string_lossy() }),
        Origin::Flag(flag) => json!({ "kind": "flag", "flag": flag }),
    };
    let entry = |row: Row| (row.key.to_owned(), json!({ "value": row.json, "origin": origin(&row.origin) }));
    let settings: serde_json::Map<_, _> = rows(loaded).into_iter().map(entry).collect();
    let whole = json!({ "settings": settings, "warnings": loaded.warnings });
    format!("{whole:#}\n")
}

#[cfg(test)]
mod reference;
#[cfg(test)]
pub mod tests;
