//! `config init`: the commented example, with the settings of the Python program if there were any.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};

use super::{after_edit, users_file};
use crate::cli::exit::Exit;
use crate::cli::output::{out, warn};
use crate::codex::home::MARKER;
use crate::config::python_state::{self, Converted};
use crate::config::{Sources, edit, render};

/// `config init`.
pub(super) fn command() -> Command {
    let force = Arg::new("force").long("force").action(ArgAction::SetTrue).help("Replace an existing file");
    let state = Arg::new("from-state")
        .long("from-state")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .value_parser(value_parser!(PathBuf))
        .help(
            "Set what the Python program of the same name had saved, usually in \
             ~/.codex-api-proxy/codex-api-proxy.state.json",
        );
    Command::new("init")
        .about("Write your config.toml: every setting with its meaning, commented out at its default")
        .arg(state)
        .arg(force)
}

/// Runs it.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Exit> {
    let (path, text, sources) = users_file()?;
    if text.is_some() && !matches.get_flag("force") {
        return Err(Exit::Failure(format!("{} exists already; --force replaces it", path.display())));
    }
    let Some(state) = matches.get_one::<PathBuf>("from-state") else {
        edit::write(&path, &render::example()).map_err(Exit::Failure)?;
        return out(&format!("Wrote {}\n", path.display()));
    };
    let converted = converted(state, &sources)?;
    edit::write(&path, &converted.text).map_err(Exit::Failure)?;
    let mut told = format!("Wrote {}\n", path.display());
    let mut list = |heading: &str, entries: String| {
        if !entries.is_empty() {
            told += &format!("{heading}\n  {entries}\n");
        }
    };
    list(&format!("Taken from {}:", state.display()), converted.shown().join("\n  "));
    list("Worth knowing:", converted.notes.join("\n  "));
    list("At their default, so not set:", converted.defaults.join(", "));
    told += "Check them: codex-api-proxy doctor\n";
    out(&told)?;
    let config = after_edit(converted.taken.keys().copied(), &path, &sources)?;
    warn(&Vec::from_iter(foreign_home(&config.app_server_codex_home)));
    Ok(())
}

/// The settings of the Python program.
fn converted(state: &Path, sources: &Sources) -> Result<Converted, Exit> {
    let told = |why: &String| format!("{}: {why}\n", state.display());
    let text = python_state::read(state, sources.uid).map_err(|why| Exit::Failure(told(&why)))?;
    let home = sources.home.as_deref().ok_or_else(|| Exit::Failure("HOME is not set".into()))?;
    python_state::convert(&text, home).map_err(|wrong| Exit::Config(wrong.iter().map(told).collect()))
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
