//! Reading the layers, later ones winning, and saying where each value came from.
//!
//! ```text
//! defaults < /etc/codex-api-proxy/config.toml < its config.d/*.toml
//!          < ~/.config/codex-api-proxy/config.toml < its config.d/*.toml
//!          < --config FILE < CODEX_PROXY_* < systemd credential < flags
//! ```
//!
//! figment keeps the layers and remembers the source of each value; texts are read by the shape of
//! their setting, because figment's own reading would turn `CODEX_PROXY_API_KEY=12345` into a number.
//! Nothing here writes: loading has no side effect.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::{Dict, Value};

use super::files::{self, Trusted};
use super::keys::{self, Found};
use super::origin::{Layer, Origin, origin};
use super::schema::{Bad, Base, Initial, PREFIX, Setting, Shape};
use super::shape::printable;
use super::{Config, SETTINGS, Sources, validate};

/// Settings and all there is to say about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where each came from, by key.
    pub origins: BTreeMap<&'static str, Origin>,
    /// What is allowed but worth a word, one line each.
    pub warnings: Vec<String>,
    /// The settings files in the order read, and whether they exist.
    pub files: Vec<(PathBuf, bool)>,
}

/// Everything that is wrong, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// Each names its file and key, variable or flag.
    pub lines: Vec<String>,
    /// Whether nothing but flags is wrong, which makes it a usage error.
    pub only_flags: bool,
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for Errors {}

/// Reads every layer.
///
/// # Errors
/// Everything that is wrong with any of them, at once.
pub fn load(sources: &Sources) -> Result<Loaded, Errors> {
    let Some(state_dir) = sources.state_dir() else {
        let line =
            "HOME is not set, and neither is STATE_DIRECTORY: there is no place for the state directory";
        return Err(Errors { lines: vec![line.into()], only_flags: false });
    };
    let mut reader = Reader::new(sources, &state_dir);
    reader.files();
    reader.environment();
    reader.credential();
    reader.flags();
    reader.finish(state_dir)
}

/// The settings files in the order read and whether they exist (`*.toml` for an empty folder), whatever may be wrong with them.
pub fn files(sources: &Sources) -> Vec<(PathBuf, bool)> {
    let mut reader = Reader::new(sources, Path::new("/"));
    reader.files();
    reader.files
}

/// The settings of a user with that home, no layer read.
pub(super) fn defaults(home: &Path) -> Config {
    let sources = Sources { home: Some(home.into()), cwd: home.into(), ..Sources::default() };
    // Only the table itself could make this fail, and a test loads it.
    load(&sources).expect("the defaults of the settings table pass their own checks").config
}

impl Default for Config {
    /// The settings that no layer changes; reads nothing but the place of the home directory.
    fn default() -> Config {
        let home = std::env::home_dir().unwrap_or_else(|| "/".into());
        defaults(&home)
    }
}

/// What variables, the credential and flags set, by key: what `start` saves for the service. And what
/// is worth a word about them, one line each.
///
/// # Errors
/// What is wrong with them.
pub fn given(sources: &Sources) -> Result<(BTreeMap<&'static str, Value>, Vec<String>), Errors> {
    let only = Sources { etc_dir: None, user_dir: None, config_file: None, ..sources.clone() };
    let mut reader = Reader::new(&only, Path::new("/"));
    reader.environment();
    reader.flags();
    reader.errors()?;
    let set = |setting: &&Setting| origin(reader.layers.find_metadata(setting.key)) != Origin::Default;
    let value = |setting: &Setting| Some((setting.key, reader.layers.find_value(setting.key).ok()?));
    Ok((SETTINGS.iter().filter(set).filter_map(value).collect(), reader.warnings))
}

/// The layers read so far, and what was wrong with them.
struct Reader<'a> {
    sources: &'a Sources,
    layers: Figment,
    wrong: Vec<String>,
    /// How many of `wrong` are about flags.
    wrong_flags: usize,
    wrong_keys: BTreeSet<&'static str>,
    warnings: Vec<String>,
    files: Vec<(PathBuf, bool)>,
    /// The key of the systemd credential.
    credential: Option<Found>,
}

impl Reader<'_> {
    fn new<'a>(sources: &'a Sources, state_dir: &Path) -> Reader<'a> {
        let mut reader = Reader {
            sources,
            layers: Figment::new(),
            wrong: vec![],
            wrong_flags: 0,
            wrong_keys: BTreeSet::new(),
            warnings: vec![],
            files: vec![],
            credential: None,
        };
        let mut values = Dict::new();
        for setting in SETTINGS {
            let value = match &setting.initial {
                Initial::Text(text) => setting.shape.read_text(text, &sources.here()),
                Initial::State(folder) => {
                    Shape::Path.read_text(folder, &Base { home: None, folder: state_dir })
                }
                Initial::Unset { .. } if matches!(setting.shape, Shape::List(..)) => {
                    Ok(Vec::<Value>::new().into())
                }
                Initial::Unset { .. } => continue,
            };
            match value {
                Ok(value) => _ = values.insert(setting.key.into(), value),
                Err(bad) => reader.bad_value(setting, "default", &bad),
            }
        }
        reader.merge(Origin::Default, values);
        reader
    }

    fn merge(&mut self, origin: Origin, values: Dict) {
        self.layers = std::mem::take(&mut self.layers).merge(Layer { origin, values });
    }

    fn bad_value(&mut self, setting: &Setting, place: &str, bad: &Bad) {
        self.wrong.push(format!("{place}: {}", setting.explain(bad)));
        self.wrong_keys.insert(setting.key);
    }

    fn files(&mut self) {
        let sources = self.sources;
        for folder in [&sources.etc_dir, &sources.user_dir].into_iter().flatten() {
            self.file(&folder.join("config.toml"), false);
            let folder = folder.join("config.d");
            match files::drop_ins(&folder, sources.uid) {
                Ok(files) if files.is_empty() => self.files.push((folder.join("*.toml"), false)),
                Ok(files) => files.iter().for_each(|file| self.file(file, false)),
                Err(why) => self.wrong.push(format!("{} {why}", folder.display())),
            }
        }
        let named =
            sources.env.iter().find(|(name, value)| name == "CODEX_PROXY_CONFIG" && !value.is_empty());
        let named = named.map(|(_, value)| PathBuf::from(value));
        let Some(file) = sources.config_file.clone().or(named) else { return };
        match file.to_str().map(|file| Shape::Path.read_text(file, &sources.here())) {
            Some(Ok(path)) => self.file(Path::new(path.as_str().unwrap_or_default()), true),
            _ => self.wrong.push(format!("--config {}: not a usable path", file.display())),
        }
    }

    fn file(&mut self, path: &Path, required: bool) {
        let place = path.display();
        let draft = self.sources.draft.as_ref().filter(|(draft, _)| draft == path);
        let file = match draft {
            Some((_, text)) => Ok(Some(Trusted::draft(text))),
            None => files::read(path, self.sources.uid),
        };
        let file = match file {
            Ok(file) => file,
            Err(why) => {
                self.files.push((path.into(), true));
                return self.wrong.push(format!("{place} {why}"));
            }
        };
        self.files.push((path.into(), file.is_some()));
        match file {
            Some(file) => self.toml(path, &file),
            None if required => {
                self.wrong.push(format!("{place} does not exist (--config or CODEX_PROXY_CONFIG)"))
            }
            None => {}
        }
    }

    fn toml(&mut self, path: &Path, file: &Trusted) {
        let line = |at: Option<std::ops::Range<usize>>| {
            let before = &file.text[..at.map_or(0, |at| at.start).min(file.text.len())];
            before.matches('\n').count() + 1
        };
        let place = path.display();
        let document = match toml_edit::Document::parse(file.text.as_str()) {
            Ok(document) => document,
            Err(error) => {
                let start = error.span().map_or(0, |at| at.start).min(file.text.len());
                let column = file.text[..start].chars().rev().take_while(|c| *c != '\n').count() + 1;
                let why = error.message().replace('\n', " ");
                return self.wrong.push(format!("{place}:{}:{column}: {why}", line(error.span())));
            }
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let base = Base { home: self.sources.home.as_deref(), folder };
        let mut values = Dict::new();
        let mut secret = false;
        for (key, item) in document.as_table() {
            let at = document.as_table().key(key).and_then(|key| key.span()).or(item.span());
            let place = format!("{place}:{}", line(at));
            let Some(setting) = Setting::find(key) else {
                let near = did_you_mean(nearest(key).map(|near| near.key.to_owned()));
                self.wrong.push(format!("{place}: unknown setting `{}`{near}", printable(key)));
                continue;
            };
            match setting.shape.read_toml(item, &base) {
                Ok(value) => {
                    secret |= setting.redacted(&value) != value;
                    values.insert(key.into(), value);
                }
                Err(bad) => self.bad_value(setting, &place, &bad),
            }
        }
        if file.group_writable() {
            self.warnings.push(format!("{place} can be written by its group (chmod g-w)"));
        }
        if secret && file.readable_by_others() {
            self.warnings.push(format!(
                "{place} holds a secret and has mode {:04o}: others can read it (chmod go-r)",
                file.mode()
            ));
        }
        self.merge(Origin::File(path.into()), values);
    }

    fn environment(&mut self) {
        let sources = self.sources;
        for (name, value) in &sources.env {
            let Some(name) = name.to_str() else { continue };
            let Some(key) = name.strip_prefix(PREFIX).filter(|_| name != "CODEX_PROXY_CONFIG") else {
                continue;
            };
            let key = key.to_ascii_lowercase();
            let Some(setting) = Setting::find(&key).filter(|setting| setting.env() == name) else {
                let near = did_you_mean(nearest(&key).map(Setting::env));
                self.warnings.push(format!("{name} is not a setting and has no effect{near}"));
                continue;
            };
            if value.is_empty() {
                continue;
            }
            let Some(text) = value.to_str() else {
                self.wrong.push(format!("{name}: is not UTF-8 text"));
                self.wrong_keys.insert(setting.key);
                continue;
            };
            match setting.shape.read_text(text, &sources.here()) {
                Ok(value) => {
                    self.merge(Origin::Environment(name.into()), Dict::from([(setting.key.into(), value)]))
                }
                Err(bad) => self.bad_value(setting, name, &bad),
            }
        }
    }

    fn credential(&mut self) {
        let Some(path) = self.sources.credentials_dir.as_ref().map(|folder| folder.join("api-key")) else {
            return;
        };
        let place = path.display();
        let keys = match files::read(&path, self.sources.uid) {
            Ok(None) => return,
            Ok(Some(file)) => keys::parse(&file.text),
            Err(why) => Err(vec![why]),
        };
        match keys {
            Ok((keys, warnings)) => match <[Found; 1]>::try_from(keys) {
                Ok([key]) => {
                    self.warnings.extend(warnings.iter().map(|why| format!("{place} {why}")));
                    let values = Dict::from([("api_key".into(), key.secret.expose().into())]);
                    self.credential = Some(key);
                    self.merge(Origin::Credential(path), values);
                }
                Err(_) => self.wrong.push(format!("{place} must hold one key; api_key_file takes several")),
            },
            Err(wrong) => self.wrong.extend(wrong.iter().map(|why| format!("{place} {why}"))),
        }
    }

    fn flags(&mut self) {
        let sources = self.sources;
        for (key, texts) in &sources.flags {
            let Some(setting) = Setting::find(key) else { continue };
            let flag = format!("--{}", setting.flag);
            match setting.read_flags(texts, &sources.here()) {
                Ok(value) => self.merge(Origin::Flag(flag), Dict::from([((*key).into(), value)])),
                Err(bad) => {
                    self.bad_value(setting, &flag, &bad);
                    self.wrong_flags += 1;
                }
            }
        }
    }

    fn errors(&self) -> Result<(), Errors> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        Err(Errors { lines: self.wrong.clone(), only_flags: self.wrong_flags == self.wrong.len() })
    }

    fn finish(mut self, state_dir: PathBuf) -> Result<Loaded, Errors> {
        let origins: BTreeMap<_, _> =
            SETTINGS.iter().map(|row| (row.key, origin(self.layers.find_metadata(row.key)))).collect();
        let built = Config::from_values(|key| self.layers.find_value(key).ok(), state_dir);
        let mut config = match built {
            Ok(config) => config,
            Err(key) => {
                // A broken default has been named already; else the shape of a row does not fit its type.
                if self.wrong.is_empty() {
                    self.wrong.push(format!("{key}: the value does not fit the setting's type"));
                }
                self.errors()?;
                return Err(Errors { lines: vec![], only_flags: false });
            }
        };
        validate::resolve(&mut config, &origins);
        self.keys(&mut config, &origins);
        let sources = self.sources;
        let folders = [&sources.etc_dir, &sources.user_dir, &sources.credentials_dir, &config.api_key_file];
        let files = self.files.iter().filter(|(_, exists)| *exists).map(|(path, _)| path);
        config.read_from = folders.into_iter().flatten().chain(files).cloned().collect();
        validate::errors(&config, &origins, &self.wrong_keys, &mut self.wrong);
        self.errors()?;
        self.warnings.extend(validate::warnings(&config, &origins));
        Ok(Loaded { config, origins, warnings: self.warnings, files: self.files })
    }

    /// Collects every accepted key.
    fn keys(&mut self, config: &mut Config, origins: &BTreeMap<&'static str, Origin>) {
        let mut found = Vec::new();
        if let Some(secret) = &config.api_key {
            let from_credential = matches!(origins.get("api_key"), Some(Origin::Credential(_)));
            let name = self.credential.take().filter(|_| from_credential).and_then(|found| found.name);
            found.push(Found { place: "api_key".into(), name, secret: secret.clone() });
        }
        let mut place = "api_key_file".to_owned();
        if let Some(path) = &config.api_key_file {
            place += &format!(" {}", path.display());
            match files::read(path, self.sources.uid) {
                Ok(Some(file)) => {
                    if file.readable_by_others() {
                        let mode = file.mode();
                        self.warnings
                            .push(format!("{place} has mode {mode:04o}: others can read it (chmod go-r)"));
                    }
                    if file.group_writable() {
                        self.warnings.push(format!("{place} can be written by its group (chmod g-w)"));
                    }
                    match keys::parse(&file.text) {
                        Ok((more, warnings)) => {
                            found.extend(more);
                            self.warnings.extend(warnings.iter().map(|why| format!("{place} {why}")));
                        }
                        Err(wrong) => self.wrong.extend(wrong.iter().map(|why| format!("{place} {why}"))),
                    }
                }
                Ok(None) => self.wrong.push(format!("{place} does not exist")),
                Err(why) => self.wrong.push(format!("{place} {why}")),
            }
        }
        match keys::named(found) {
            Ok(keys) => config.keys = keys,
            Err(why) => self.wrong.push(format!("{place} {why}")),
        }
    }
}

/// The setting whose key is closest to a misspelled one, if any is close.
pub(super) fn nearest(asked: &str) -> Option<&'static Setting> {
    let scored = SETTINGS.iter().map(|setting| (strsim::damerau_levenshtein(asked, setting.key), setting));
    let (distance, setting) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= (setting.key.len() / 3).max(1)).then_some(setting)
}

/// ` (did you mean `port`?)`, or nothing.
pub(super) fn did_you_mean(name: Option<String>) -> String {
    name.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

#[cfg(test)]
mod tests;
