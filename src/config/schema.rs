//! What a setting is: its names, its shape, what of it must not print, and its command-line flag.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, ValueHint};
use figment::value::Value;

use super::overrides;
use super::secret::{HIDDEN, url_without_password};
pub use super::shape::{Bad, Base, LONGEST, Shape, to_text, to_toml};

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

    /// The setting of that key.
    pub fn find(key: &str) -> Option<&'static Setting> {
        super::settings::SETTINGS.iter().find(|setting| setting.key == key)
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
    let entries = match &setting.shape {
        Shape::List(..) if setting.one_entry => " (repeatable)".to_owned(),
        Shape::List(_, separator) => format!(" (joined by {separator} or repeated)"),
        Shape::Pairs => " (a=b;;c=d)".to_owned(),
        _ => String::new(),
    };
    let doc = setting.doc().trim_end_matches('.');
    let arg = Arg::new(setting.key)
        .long(setting.flag)
        .help(format!("{doc}{entries} [default: {default}] [env: {}]", setting.env()))
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
        Shape::Choice(names) => arg
            .value_parser(PossibleValuesParser::new(*names))
            .value_name(names.join("|"))
            .hide_possible_values(true),
        Shape::Count { .. } => arg.value_name("N"),
        Shape::Seconds { .. } => arg.value_name("SECONDS"),
        // What shells propose: all paths but those of files are folders.
        Shape::Path if setting.key.ends_with("_file") => {
            arg.value_name("FILE").value_hint(ValueHint::FilePath)
        }
        Shape::Path | Shape::List(Shape::Path, _) => arg.value_name("FOLDER").value_hint(ValueHint::DirPath),
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
pub(super) const REPLACED: &[(&str, &str)] = &[
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
