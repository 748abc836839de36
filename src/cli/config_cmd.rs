//! `config show|check|path|init|set|unset`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};

use super::{Exit, out, sources};
use crate::codex::home::MARKER;
use crate::config::original::{self, Converted};
use crate::config::schema::{Base, Hide, args, config_arg};
use crate::config::{Config, Origin, Sources, edit, layers, load, render};

/// The verbs and their arguments.
pub fn command() -> Command {
    let with_settings = |command: Command| command.arg(config_arg()).args(args());
    let key = || Arg::new("key").value_name("KEY").required(true).help("The setting, as in files");
    Command::new("config")
        .about("Show, check and edit the settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_settings(Command::new("show").about("Effective settings, each with its origin")).arg(
                Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON for programs"),
            ),
        )
        .subcommand(with_settings(Command::new("check").about("Check all settings; exit 78 if any is wrong")))
        .subcommand(Command::new("path").about("Settings files in the order read").arg(config_arg()))
        .subcommand(
            Command::new("init")
                .about("Write the commented example as the user's config.toml")
                .arg(
                    Arg::new("from-state")
                        .long("from-state")
                        .value_name("FILE")
                        .value_hint(ValueHint::FilePath)
                        .value_parser(value_parser!(PathBuf))
                        .help(
                            "With the settings that the Python program of the same name saved, usually in \
                             ~/.codex-api-proxy/codex-api-proxy.state.json",
                        ),
                )
                .arg(
                    Arg::new("force")
                        .long("force")
                        .action(ArgAction::SetTrue)
                        .help("Replace an existing file"),
                ),
        )
        .subcommand(
            Command::new("set")
                .about("Set a key in the user's config.toml, keeping comments")
                .arg(key())
                .arg(
                    Arg::new("value")
                        .value_name("VALUE")
                        .required(true)
                        .num_args(1..)
                        .allow_hyphen_values(true)
                        .help("The value; several for a list; - reads it from standard input"),
                ),
        )
        .subcommand(
            Command::new("unset")
                .about("Remove a key from the user's config.toml, keeping comments")
                .arg(key()),
        )
}

/// Runs the verb.
///
/// # Errors
/// How the program ends, if not well.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    match matches.subcommand() {
        Some(("show", matches)) => show(matches),
        Some(("check", matches)) => check(matches),
        Some(("path", matches)) => path(matches),
        Some(("init", matches)) => init(matches.get_flag("force"), matches.get_one("from-state")),
        Some(("set", matches)) => {
            let values: Vec<String> = matches.get_many("value").into_iter().flatten().cloned().collect();
            set(key(matches), values)
        }
        Some(("unset", matches)) => unset(key(matches)),
        _ => Err(Exit::Usage("config needs a verb".into())),
    }
}

fn key(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("key").map_or("", String::as_str)
}

fn show(matches: &ArgMatches) -> Result<(), Exit> {
    let loaded = load(&sources(matches)?)?;
    if matches.get_flag("json") {
        return out(&render::show_json(&loaded));
    }
    out(&render::show(&loaded))?;
    super::warn(&loaded.warnings);
    Ok(())
}

fn check(matches: &ArgMatches) -> Result<(), Exit> {
    let loaded = load(&sources(matches)?).map_err(|errors| Exit::Config(errors.to_string()))?;
    super::warn(&loaded.warnings);
    out("The settings are valid.\n")
}

fn path(matches: &ArgMatches) -> Result<(), Exit> {
    let sources = sources(matches)?;
    let mut text = String::new();
    for (file, exists) in layers::files(&sources) {
        text += &format!("{}{}\n", file.display(), if exists { "" } else { " (not there)" });
    }
    out(&text)
}

/// The user's own settings file, its text, and all else that is read.
fn users_file() -> Result<(PathBuf, Option<String>, Sources), Exit> {
    let sources = Sources::from_process(vec![], None).map_err(|error| Exit::Failure(error.to_string()))?;
    let none =
        || Exit::Failure("there is no user config folder: neither XDG_CONFIG_HOME nor HOME is set".into());
    let path = sources.user_file().ok_or_else(none)?;
    let text = edit::read(&path, sources.uid).map_err(Exit::Failure)?;
    Ok((path, text, sources))
}

fn init(force: bool, state: Option<&PathBuf>) -> Result<(), Exit> {
    let (path, text, sources) = users_file()?;
    if text.is_some() && !force {
        return Err(Exit::Failure(format!("{} exists already; --force replaces it", path.display())));
    }
    let Some(state) = state else {
        edit::write(&path, &render::example()).map_err(Exit::Failure)?;
        return out(&format!("Wrote {}\n", path.display()));
    };
    let converted = converted(state, &sources)?;
    edit::write(&path, &converted.text).map_err(Exit::Failure)?;
    let mut told = format!("Wrote {}\n", path.display());
    let mut list = |heading: &str, lines: &[String]| {
        if !lines.is_empty() {
            told += &format!("{heading}\n  {}\n", lines.join("\n  "));
        }
    };
    list(&format!("Taken from {}:", state.display()), &converted.shown());
    list("Worth knowing:", &converted.notes);
    list("At their default, so not set:", &Vec::from_iter(joined(&converted.defaults)));
    told += "Check them: codex-api-proxy doctor\n";
    out(&told)?;
    let config = after_edit(converted.taken.keys().copied(), &path, &sources)?;
    super::warn(&Vec::from_iter(foreign_home(&config.app_server_codex_home)));
    Ok(())
}

/// The settings of the Python program.
fn converted(state: &Path, sources: &Sources) -> Result<Converted, Exit> {
    let told = |why: &String| format!("{}: {why}\n", state.display());
    let text = original::read(state, sources.uid).map_err(|why| Exit::Failure(told(&why)))?;
    let home = sources.home.as_deref().ok_or_else(|| Exit::Failure("HOME is not set".into()))?;
    original::convert(&text, home).map_err(|wrong| Exit::Config(wrong.iter().map(told).collect()))
}

fn joined(words: &[&str]) -> Option<String> {
    (!words.is_empty()).then(|| words.join(", "))
}

/// The isolated home of the Python program has no mark by which it could be known as ours.
fn foreign_home(home: &Path) -> Option<String> {
    let used = std::fs::read_dir(home).is_ok_and(|mut entries| entries.next().is_some());
    let shown = home.display();
    (used && !home.join(MARKER).exists()).then(|| {
        format!(
            "{shown} is the Python program's and is not used as it is; move it away: mv {shown} {shown}.old"
        )
    })
}

fn set(key: &str, mut values: Vec<String>) -> Result<(), Exit> {
    let setting = edit::known(key).map_err(Exit::Usage)?;
    if values == ["-"] {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Exit::Failure(format!("stdin: {error}")))?;
        values = vec![text.trim_end_matches(['\r', '\n']).to_owned()];
    } else if setting.hide == Hide::All && std::io::stdin().is_terminal() {
        super::warn(&[format!(
            "the shell's history may keep this; `config set {key} -` reads the value from stdin"
        )]);
    }
    let (path, text, sources) = users_file()?;
    let base = Base { home: sources.home.as_deref(), folder: &sources.cwd };
    let text = edit::set(&text.unwrap_or_default(), key, &values, &base).map_err(Exit::Usage)?;
    edit::write(&path, &text).map_err(Exit::Failure)?;
    out(&format!("Set {key} in {}\n", path.display()))?;
    after_edit([setting.key], &path, &sources).map(drop)
}

fn unset(key: &str) -> Result<(), Exit> {
    let setting = edit::known(key).map_err(Exit::Usage)?;
    let (path, text, sources) = users_file()?;
    let edited = edit::unset(&text.unwrap_or_default(), key);
    let edited = edited.map_err(|why| Exit::Failure(format!("{}: {why}", path.display())))?;
    let Some(text) = edited else { return out(&format!("{key} is not in {}\n", path.display())) };
    edit::write(&path, &text).map_err(Exit::Failure)?;
    out(&format!("Removed {key} from {}\n", path.display()))?;
    after_edit([setting.key], &path, &sources).map(drop)
}

/// Says what a later layer makes of the edit, and whether the settings as a whole still hold.
fn after_edit<'a>(
    keys: impl IntoIterator<Item = &'a str>,
    path: &Path,
    sources: &Sources,
) -> Result<Config, Exit> {
    let loaded =
        load(sources).map_err(|errors| Exit::Config(format!("written, but now refused:\n{errors}")))?;
    for key in keys {
        match loaded.origins.get(key) {
            Some(Origin::Default) | None => {}
            Some(Origin::File(file)) if file == path => {}
            Some(other) => super::warn(&[format!("{key} is set by {other}")]),
        }
    }
    Ok(loaded.config)
}
