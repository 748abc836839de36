//! `config show|check|path|init|set|unset`.

mod init;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::check;
use super::exit::Exit;
use super::given::sources;
use super::output::{out, warn};
use crate::config::flags::{args, config_arg};
use crate::config::schema::{Base, Hide};
use crate::config::{Config, Loaded, Origin, Sources, edit, layers, load, render};

/// The verbs and their arguments.
pub fn command() -> Command {
    let with_settings = |command: Command| command.arg(config_arg()).args(args());
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON for programs");
    let show = Command::new("show").about("Show the settings in force, and where each comes from").arg(json);
    let check = Command::new("check").about("Check all settings, naming each error (exit status 78)");
    let path = Command::new("path").about("Show which settings files are read, and in which order");
    Command::new("config")
        .about("Show, check and edit the settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(show))
        .subcommand(with_settings(check))
        .subcommand(path.arg(config_arg()))
        .subcommand(init::command())
        .subcommand(set_command())
        .subcommand(
            Command::new("unset")
                .about("Remove a setting from your config.toml, keeping comments")
                .arg(key_arg()),
        )
}

fn set_command() -> Command {
    Command::new("set")
        .about("Set a setting in your config.toml, keeping comments")
        .after_help(
            "A running service learns of it by: systemctl --user reload codex-api-proxy\n\n\
             Examples:\n  \
             codex-api-proxy config set max_concurrency 4\n  \
             codex-api-proxy config set allowed_roots ~/src /srv/data\n  \
             codex-api-proxy config set api_key -",
        )
        .arg(key_arg())
        .arg(
            Arg::new("value")
                .value_name("VALUE")
                .required(true)
                .num_args(1..)
                .allow_hyphen_values(true)
                .help("The value; several for a list; - reads one from standard input"),
        )
}

fn key_arg() -> Arg {
    Arg::new("key").value_name("KEY").required(true).help("The setting's name, as config show prints it")
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
        Some(("init", matches)) => init::run(matches),
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
    warn(&loaded.warnings);
    Ok(())
}

fn check(matches: &ArgMatches) -> Result<(), Exit> {
    let loaded = load(&sources(matches)?).map_err(|errors| Exit::Config(errors.to_string()))?;
    warn(&loaded.warnings);
    let rules = check::settings(&loaded.config)?;
    warn(rules.unmapped().as_slice());
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

fn set(key: &str, mut values: Vec<String>) -> Result<(), Exit> {
    let setting = edit::known(key).map_err(Exit::Usage)?;
    if values == ["-"] {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Exit::Failure(format!("stdin: {error}")))?;
        values = vec![text.trim_end_matches(['\r', '\n']).to_owned()];
    } else if setting.hide == Hide::All && std::io::stdin().is_terminal() {
        warn(&[format!(
            "the shell's history may keep this; `config set {key} -` reads the value from stdin"
        )]);
    }
    let (path, text, sources) = users_file()?;
    let base = Base { home: sources.home.as_deref(), folder: &sources.cwd };
    let text = edit::set(&text.unwrap_or_default(), key, &values, &base).map_err(Exit::Usage)?;
    let drafted = Sources { draft: Some((path.clone(), text.clone())), ..sources };
    // Another setting may be the one to change first, so what is wrong is all that is said.
    let loaded = good(&drafted).map_err(|why| {
        Exit::Config(format!("{key} is left as it was, for with it the settings are refused:\n{why}"))
    })?;
    edit::write(&path, &text).map_err(Exit::Failure)?;
    out(&format!("Set {key} in {}\n", path.display()))?;
    warn_of_later_layers([setting.key], &path, &loaded);
    Ok(())
}

fn unset(key: &str) -> Result<(), Exit> {
    let setting = edit::known(key).map_err(Exit::Usage)?;
    let (path, text, sources) = users_file()?;
    let edited = edit::unset(&text.unwrap_or_default(), key);
    let edited = edited.map_err(|why| Exit::Failure(format!("{}: {why}", path.display())))?;
    let Some(text) = edited else { return out(&format!("{key} is not in {}\n", path.display())) };
    let drafted = Sources { draft: Some((path.clone(), text.clone())), ..sources.clone() };
    // What was refused before may be mended step by step.
    if let (Err(why), Ok(_)) = (good(&drafted), good(&sources)) {
        return Err(Exit::Config(format!(
            "{key} is left as it was, for without it the settings are refused:\n{why}"
        )));
    }
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
    warn_of_later_layers(keys, path, &loaded);
    Ok(loaded.config)
}

/// Settings that `config check` would accept.
fn good(sources: &Sources) -> Result<Loaded, String> {
    let loaded = load(sources).map_err(|errors| errors.to_string())?;
    check::settings(&loaded.config).map_err(Exit::into_text)?;
    Ok(loaded)
}

fn warn_of_later_layers<'a>(keys: impl IntoIterator<Item = &'a str>, path: &Path, loaded: &Loaded) {
    for key in keys {
        match loaded.origins.get(key) {
            Some(Origin::Default) | None => {}
            Some(Origin::File(file)) if file == path => {}
            Some(other) => warn(&[format!("{key} is set by {other}")]),
        }
    }
}
