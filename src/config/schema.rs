//! What a setting is: its names, its shape, and what of it must not print.

use figment::value::Value;

use super::choices::EngineKind;
use super::overrides;
use super::secret::{HIDDEN, url_without_password};
use super::shape::printable;
pub use super::shape::{Bad, Base, LONGEST, Shape, to_toml};

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
    /// The only engine it has an effect with; `None` = either.
    pub engine: Option<EngineKind>,
    /// Whether a change waits for a restart.
    pub restart: Restart,
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

/// Whether a running server goes on with the old value of a setting that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// No: a reload puts it in force.
    Never,
    /// Yes.
    Always,
    /// Yes, unless the service manager holds the sockets: then it does not count here at all.
    WithOwnSockets,
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
    /// All values of Codex overrides but those of keys known to be harmless.
    Overrides,
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

    /// What is wrong with a value of it: `KEY must be …, not …`; without the value where that may be a secret.
    pub fn explain(&self, bad: &Bad) -> String {
        if self.hide != Hide::Nothing {
            return format!("{} must be {} (the value is not shown)", self.key, bad.must);
        }
        let short: String = bad.got.chars().take(80).collect();
        let cut = if short.len() < bad.got.len() { "…" } else { "" };
        format!("{} must be {}, not `{}{cut}`", self.key, bad.must, printable(&short))
    }

    /// A value of it in one line, as a variable would take it.
    pub fn to_text(&self, value: &Value) -> String {
        self.shape.to_text(value)
    }

    /// The value of each use of the flag, in order.
    ///
    /// # Errors
    /// What the value must be.
    pub fn read_flags(&self, texts: &[String], base: &Base) -> Result<Value, Bad> {
        match (&self.shape, texts) {
            // `--codex-config=` alone empties the list.
            (Shape::List(..) | Shape::Pairs, [only]) if only.is_empty() => {
                Ok(Value::from(Vec::<Value>::new()))
            }
            (Shape::List(entry, _), texts) if self.one_entry => {
                let entries: Result<Vec<_>, _> =
                    texts.iter().map(|text| entry.read_text(text, base)).collect();
                Ok(entries?.into())
            }
            (Shape::List(_, separator), texts) => self.shape.read_text(&texts.join(separator), base),
            (Shape::Pairs, texts) => self.shape.read_text(&texts.join(";;"), base),
            (shape, texts) => shape.read_text(texts.last().map_or("", String::as_str), base),
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
                Hide::Overrides => overrides::shown(text),
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

#[cfg(test)]
mod tests;
