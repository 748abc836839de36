//! What a value may be: how text and TOML become one, and how it is written again.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use figment::value::{Num, Value};
use toml_edit::Item;

use super::check::{self, Check};

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
    pub(super) must: String,
    pub(super) got: String,
}

impl Bad {
    fn new(must: impl Into<String>, got: impl Into<String>) -> Bad {
        Bad { must: must.into(), got: got.into() }
    }
}

impl Shape {
    /// The value of a text from a variable or flag.
    ///
    /// # Errors
    /// What the text must be.
    pub fn read_text(&self, text: &str, base: &Base) -> Result<Value, Bad> {
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
                let entries: Result<Vec<_>, _> = entries.map(|text| entry.read_text(text, base)).collect();
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
    pub fn read_toml(&self, item: &Item, base: &Base) -> Result<Value, Bad> {
        let bad = || Bad::new(self.must(), item.to_string().trim());
        match self {
            Shape::Text(_) | Shape::Choice(_) | Shape::Path | Shape::Program => {
                self.read_text(item.as_str().ok_or_else(bad)?, base)
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
                    entries.map(|value| entry.read_toml(&Item::Value(value.clone()), base)).collect();
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

    /// The value in one line, as a variable would take it.
    pub fn to_text(&self, value: &Value) -> String {
        let texts = |entries: &[Value], separator: &str, of: fn(&Value) -> String| {
            entries.iter().map(of).collect::<Vec<_>>().join(separator)
        };
        let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match (value, self) {
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

/// The text with control characters escaped, so that it cannot play with a terminal.
pub(super) fn printable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// A number as people write it: `30`, `0.5`.
fn number(num: &Num) -> Cow<'static, str> {
    match num.to_u128() {
        Some(whole) => whole.to_string().into(),
        None => num.to_f64().unwrap_or_default().to_string().into(),
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

#[cfg(test)]
mod tests;
