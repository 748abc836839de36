//! What a setting is: its names, its shape, how text and TOML become its value, and its command-line flag.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, ValueHint};
use figment::value::{Num, Value};
use toml_edit::Item;

use super::check::{self, Check};
use super::secret::{HIDDEN, override_without_secret, url_without_password};

/// What every variable's name begins with.
pub const PREFIX: &str = "CODEX_PROXY_";

/// One row of the settings table.
#[derive(Debug)]
pub struct Setting {
    /// The name in files; the field of `Config`.
    pub key: &'static str,
    /// The heading it stands under.
    pub group: &'static str,
    /// One sentence; see [`Setting::doc`].
    pub(super) doc: &'static str,
    /// What its value may be.
    pub shape: Shape,
    /// What it is if no layer sets it.
    pub initial: Initial,
    /// The long option, without `--`.
    pub flag: &'static str,
    /// Whether the option is named in the singular and takes one list entry each time.
    pub one_entry: bool,
    /// What of it must not print.
    pub hide: Hide,
}

/// The value of a setting that no layer sets.
#[derive(Debug)]
pub enum Initial {
    /// This, as a variable would give it.
    Text(&'static str),
    /// This folder of the state directory.
    State(&'static str),
    /// Nothing.
    Unset {
        /// What that means, for the documentation.
        means: &'static str,
        /// A value to show in the commented example.
        example: &'static str,
    },
}

/// What of a value must not print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hide {
    /// Nothing is secret.
    Nothing,
    /// All of it.
    All,
    /// The password of a URL.
    Password,
    /// Secrets inside Codex overrides.
    Overrides,
}

/// What a value may be, and how text becomes one.
#[derive(Debug)]
pub enum Shape {
    /// Text that passes a check.
    Text(Check),
    /// One of these names.
    Choice(&'static [&'static str]),
    /// Yes or no.
    Switch,
    /// A whole number.
    Count {
        /// Smallest allowed.
        least: u64,
        /// Largest allowed.
        most: u64,
    },
    /// Seconds, fractions allowed.
    Seconds {
        /// Smallest allowed.
        least: f64,
    },
    /// A path: `~` expands, relative ones are taken from where the value stands.
    Path,
    /// A command to find on PATH, or a path.
    Program,
    /// A list of these, joined by the separator outside TOML.
    List(&'static Shape, &'static str),
    /// Names and what they stand for, `a=b;;c=d` outside TOML.
    Pairs,
}

/// The longest time a setting may ask for: a year.
pub const LONGEST: f64 = 31_536_000.0;

/// What paths of a layer are relative to.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// What `~` stands for.
    pub home: Option<&'a Path>,
    /// What relative paths start from.
    pub folder: &'a Path,
}

/// A value that its shape refuses: what it must be, and what it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    must: String,
    got: String,
}

impl Bad {
    fn new(must: impl Into<String>, got: impl Into<String>) -> Bad {
        Bad { must: must.into(), got: got.into() }
    }

    /// The end of a message: `must be …, not …`; without the value where that may be a secret.
    pub fn explain(&self, setting: &Setting) -> String {
        if setting.hide != Hide::Nothing {
            return format!("{} must be {} (the value is not shown)", setting.key, self.must);
        }
        let short: String = self.got.chars().take(80).collect();
        let cut = if short.len() < self.got.len() { "…" } else { "" };
        format!("{} must be {}, not `{}{cut}`", setting.key, self.must, short.escape_debug())
    }
}

impl Setting {
    /// What it does: one sentence.
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }

    /// The variable, as `CODEX_PROXY_PORT`.
    pub fn env(&self) -> String {
        format!("{PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// The setting of that key.
    pub fn find(key: &str) -> Option<&'static Setting> {
        super::settings::SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The value of each use of the flag, in order.
    ///
    /// # Errors
    /// What the value must be.
    pub fn from_flags(&self, texts: &[String], base: &Base) -> Result<Value, Bad> {
        match (&self.shape, texts) {
            // `--codex-config=` alone empties the list.
            (Shape::List(..) | Shape::Pairs, [only]) if only.is_empty() => {
                Ok(Value::from(Vec::<Value>::new()))
            }
            (Shape::List(entry, _), texts) if self.one_entry => {
                let entries: Result<Vec<_>, _> =
                    texts.iter().map(|text| entry.from_text(text, base)).collect();
                Ok(entries?.into())
            }
            (Shape::List(_, separator), texts) => self.shape.from_text(&texts.join(separator), base),
            (Shape::Pairs, texts) => self.shape.from_text(&texts.join(";;"), base),
            (shape, texts) => shape.from_text(texts.last().map_or("", String::as_str), base),
        }
    }

    /// The value without what must not print.
    pub fn redacted(&self, value: &Value) -> Value {
        let hidden = |value: &Value| -> Value {
            let text = value.as_str().unwrap_or_default();
            match self.hide {
                Hide::Nothing => text.to_owned(),
                Hide::All => HIDDEN.to_owned(),
                Hide::Password => url_without_password(text),
                Hide::Overrides => override_without_secret(text),
            }
            .into()
        };
        match value {
            _ if self.hide == Hide::Nothing => value.clone(),
            Value::Array(_, entries) => entries.iter().map(hidden).collect::<Vec<_>>().into(),
            value => hidden(value),
        }
    }
}

impl Shape {
    /// The value of a text from a variable or flag.
    ///
    /// # Errors
    /// What the text must be.
    pub fn from_text(&self, text: &str, base: &Base) -> Result<Value, Bad> {
        let bad = || Bad::new(self.must(), text);
        match self {
            Shape::Text(check) => check(text).map(Value::from).map_err(|must| Bad::new(must, text)),
            Shape::Choice(names) => match names.contains(&text) {
                true => Ok(text.into()),
                false => Err(bad()),
            },
            Shape::Switch => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" => Ok(true.into()),
                "0" | "false" | "no" => Ok(false.into()),
                _ => Err(bad()),
            },
            Shape::Count { .. } => self.count(text.trim().parse().map_err(|_| bad())?).ok_or_else(bad),
            Shape::Seconds { .. } => self.seconds(text.trim().parse().map_err(|_| bad())?).ok_or_else(bad),
            Shape::Path => absolute(text, base).map(Value::from),
            Shape::Program if text.contains('/') || text.starts_with('~') => {
                absolute(text, base).map(Value::from)
            }
            Shape::Program => match text.is_empty() || text.contains('\0') {
                true => Err(bad()),
                false => Ok(text.into()),
            },
            Shape::List(entry, separator) => {
                let entries = text.split(separator).map(str::trim).filter(|entry| !entry.is_empty());
                let entries: Result<Vec<_>, _> = entries.map(|text| entry.from_text(text, base)).collect();
                Ok(entries?.into())
            }
            Shape::Pairs => {
                let entries = text.split(";;").map(str::trim).filter(|entry| !entry.is_empty());
                let pair = |entry: &'_ str| {
                    let (name, target) = entry.split_once('=').ok_or(Bad::new(self.must(), entry))?;
                    Ok((name.trim().to_owned(), target.trim().to_owned()))
                };
                pairs(entries.map(pair).collect::<Result<_, _>>()?)
            }
        }
    }

    /// The value of an entry of a TOML file.
    ///
    /// # Errors
    /// What the entry must be.
    pub fn from_toml(&self, item: &Item, base: &Base) -> Result<Value, Bad> {
        let bad = || Bad::new(self.must(), item.to_string().trim());
        match self {
            Shape::Text(_) | Shape::Choice(_) | Shape::Path | Shape::Program => {
                self.from_text(item.as_str().ok_or_else(bad)?, base)
            }
            Shape::Switch => item.as_bool().map(Value::from).ok_or_else(bad),
            Shape::Count { .. } => {
                let number = item.as_integer().and_then(|number| u64::try_from(number).ok());
                number.and_then(|number| self.count(number)).ok_or_else(bad)
            }
            Shape::Seconds { .. } => {
                let number = item.as_float().or(item.as_integer().map(|number| number as f64));
                number.and_then(|number| self.seconds(number)).ok_or_else(bad)
            }
            Shape::List(entry, _) => {
                let entries = item.as_array().ok_or_else(bad)?.iter();
                let entries: Result<Vec<_>, _> =
                    entries.map(|value| entry.from_toml(&Item::Value(value.clone()), base)).collect();
                Ok(entries?.into())
            }
            Shape::Pairs => {
                let table = item.as_table_like().ok_or_else(bad)?;
                let pair = |(name, target): (&str, &Item)| {
                    Ok((name.to_owned(), target.as_str().ok_or_else(bad)?.to_owned()))
                };
                pairs(table.iter().map(pair).collect::<Result<_, _>>()?)
            }
        }
    }

    fn count(&self, number: u64) -> Option<Value> {
        matches!(self, Shape::Count { least, most } if (*least..=*most).contains(&number))
            .then(|| number.into())
    }

    fn seconds(&self, number: f64) -> Option<Value> {
        matches!(self, Shape::Seconds { least } if (*least..=LONGEST).contains(&number))
            .then(|| number.into())
    }

    /// Completes "must be …".
    pub fn must(&self) -> String {
        match self {
            Shape::Text(_) => "text in quotes".into(),
            Shape::Choice(names) => format!("one of {}", names.join(", ")),
            Shape::Switch => "yes or no (1, true, yes, 0, false, no; in files true or false)".into(),
            Shape::Count { least, most } => format!("a whole number from {least} to {most}"),
            Shape::Seconds { least } => format!("a number of seconds from {least} to {LONGEST}"),
            Shape::Path => "a path".into(),
            Shape::Program => "the name of a command, or its path".into(),
            Shape::List(..) => "a list of texts, as [\"…\", \"…\"]".into(),
            Shape::Pairs => "names and models, as {\"name\" = \"model\"} or name=model;;name=model".into(),
        }
    }
}

/// Checks the aliases and keeps their order.
fn pairs(pairs: Vec<(String, String)>) -> Result<Value, Bad> {
    for (at, (name, target)) in pairs.iter().enumerate() {
        check::alias(name).map_err(|must| Bad::new(format!("names that are * or {must}"), name))?;
        check::model(target).map_err(|must| Bad::new(format!("names for {must}"), target))?;
        if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(Bad::new("names that differ", name));
        }
    }
    Ok(pairs.into_iter().map(|(name, target)| Value::from(vec![name, target])).collect::<Vec<_>>().into())
}

/// Expands `~` and makes a path absolute; `.` and repeated slashes go, `..` and links stay.
fn absolute(text: &str, base: &Base) -> Result<String, Bad> {
    let bad = |must: &str| Bad::new(must, text);
    if text.is_empty() || text.contains('\0') {
        return Err(bad("a path"));
    }
    let home = || base.home.ok_or_else(|| bad("a path without ~, for HOME is not set"));
    let path = match text.strip_prefix('~') {
        None => base.folder.join(text),
        Some("") => home()?.to_path_buf(),
        Some(rest) => match rest.strip_prefix('/') {
            Some(rest) => home()?.join(rest.trim_start_matches('/')),
            None => return Err(bad("a path in which ~ stands alone or before a slash")),
        },
    };
    let plain: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    plain.into_os_string().into_string().map_err(|_| bad("a path in UTF-8"))
}

/// A number as people write it: `30`, `0.5`.
fn number(num: &Num) -> Cow<'static, str> {
    match num.to_u128() {
        Some(whole) => whole.to_string().into(),
        None => num.to_f64().unwrap_or_default().to_string().into(),
    }
}

/// The value in one line, as a variable would take it.
pub fn to_text(setting: &Setting, value: &Value) -> String {
    let texts = |entries: &[Value], separator: &str, of: fn(&Value) -> String| {
        entries.iter().map(of).collect::<Vec<_>>().join(separator)
    };
    let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match (value, &setting.shape) {
        (Value::Array(_, entries), Shape::List(_, separator)) => texts(entries, separator, plain),
        (Value::Array(_, entries), _) => texts(entries, ";;", |pair| {
            pair.as_array().map_or(String::new(), |pair| {
                pair.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("=")
            })
        }),
        (Value::Bool(_, yes), _) => yes.to_string(),
        (Value::Num(_, num), _) => number(num).into_owned(),
        (value, _) => plain(value),
    }
}

/// The value as TOML.
pub fn to_toml(value: &Value) -> toml_edit::Value {
    match value {
        Value::Bool(_, yes) => (*yes).into(),
        Value::Num(_, num) => match num.to_f64() {
            Some(seconds) if seconds.fract() != 0.0 => seconds.into(),
            Some(seconds) => (seconds as i64).into(),
            None => num.to_u128().and_then(|whole| i64::try_from(whole).ok()).unwrap_or(i64::MAX).into(),
        },
        Value::Array(_, entries) if entries.iter().any(|entry| entry.as_array().is_some()) => {
            let mut table = toml_edit::InlineTable::new();
            for pair in entries.iter().filter_map(Value::as_array) {
                if let [name, target] = pair {
                    table.insert(name.as_str().unwrap_or_default(), to_toml(target));
                }
            }
            table.into()
        }
        Value::Array(_, entries) => toml_edit::Array::from_iter(entries.iter().map(to_toml)).into(),
        value => value.as_str().unwrap_or_default().into(),
    }
}

/// The flag of every setting, under the headings of the table.
pub fn args() -> Vec<Arg> {
    super::settings::SETTINGS.iter().map(arg).collect()
}

fn arg(setting: &'static Setting) -> Arg {
    let default = match &setting.initial {
        Initial::Text("") => "none".to_owned(),
        Initial::Text(text) => (*text).to_owned(),
        Initial::State(folder) => format!("~/.codex-api-proxy/{folder}"),
        Initial::Unset { means, .. } => (*means).to_owned(),
    };
    let arg = Arg::new(setting.key)
        .long(setting.flag)
        .help(format!("{} [default: {default}] [env: {}]", setting.doc(), setting.env()))
        .help_heading(setting.group);
    let arg = match &setting.shape {
        Shape::List(..) | Shape::Pairs => arg.action(ArgAction::Append),
        // As in the original, the last use of a flag counts.
        _ => arg.action(ArgAction::Set).overrides_with(setting.key),
    };
    match &setting.shape {
        Shape::Switch => {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false")
        }
        Shape::Choice(names) => arg.value_parser(PossibleValuesParser::new(*names)).value_name("NAME"),
        Shape::Count { .. } => arg.value_name("N"),
        Shape::Seconds { .. } => arg.value_name("SECONDS"),
        Shape::Path | Shape::List(Shape::Path, _) => arg.value_name("PATH").value_hint(ValueHint::AnyPath),
        Shape::Program => arg.value_name("PROGRAM").value_hint(ValueHint::CommandName),
        Shape::Text(_) => arg.value_name("TEXT"),
        Shape::List(..) | Shape::Pairs => arg.value_name("ENTRY"),
    }
}

/// `--config FILE`.
pub fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .help("Settings file read after all others; it must exist [env: CODEX_PROXY_CONFIG]")
        .overrides_with("config")
}

/// The settings given as flags: key and every value, in the order of the table.
pub fn flags(matches: &ArgMatches) -> Vec<(&'static str, Vec<String>)> {
    let given = |setting: &'static Setting| {
        let values = matches.try_get_many::<String>(setting.key).ok()??;
        Some((setting.key, values.cloned().collect()))
    };
    super::settings::SETTINGS.iter().filter_map(given).collect()
}

/// Options of the Python original that do nothing here, and what replaced them.
const REPLACED: &[(&str, &str)] = &[
    ("pid-file", "the service manager knows the process (codex-api-proxy status)"),
    ("log-file", "the log is in the journal or system log (codex-api-proxy logs)"),
    ("state-file", "start saves its settings in config.d/50-start.toml (codex-api-proxy config path)"),
];

/// `--pid-file`, `--log-file` and `--state-file`: accepted, hidden, without effect.
pub fn replaced_args() -> Vec<Arg> {
    REPLACED.iter().map(|(flag, _)| Arg::new(*flag).long(*flag).hide(true).overrides_with(*flag)).collect()
}

/// One line for each such option that was given.
pub fn replaced_notices(matches: &ArgMatches) -> Vec<String> {
    let given = |flag: &str| matches.try_get_one::<String>(flag).is_ok_and(|value| value.is_some());
    let replaced = REPLACED.iter().filter(|(flag, _)| given(flag));
    replaced.map(|(flag, instead)| format!("--{flag} has no effect: {instead}")).collect()
}

#[cfg(test)]
mod tests;
