//! `generate`: what packages ship, from the program itself.

mod completions;
mod man;

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};

use super::exit::Exit;
use super::output::out;
use super::service::units::SHIPPED;
use crate::config::render;

/// `generate` and what it knows.
pub fn command() -> Command {
    let output = || {
        Arg::new("output")
            .long("output")
            .value_name("FOLDER")
            .value_hint(ValueHint::DirPath)
            .value_parser(value_parser!(PathBuf))
            .help("Write them below this folder instead of printing them")
    };
    let shell = Arg::new("shell")
        .value_name(completions::SHELLS.join("|"))
        .value_parser(PossibleValuesParser::new(completions::SHELLS))
        .hide_possible_values(true)
        .required(true)
        .help("The shell to write it for");
    Command::new("generate")
        .about("Print what packages ship: manual pages, completions, unit files, an example of settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("man").about("Print the manual pages").arg(output()))
        .subcommand(
            Command::new("completions")
                .about("Print the script that completes this program's command line")
                .arg(shell),
        )
        .subcommand(Command::new("config").about("Print the commented example of a settings file"))
        .subcommand(
            Command::new("units")
                .about("Print the unit files for systemd and the property lists for launchd")
                .arg(output()),
        )
}

/// Runs the verb; `program` is the whole command line.
///
/// # Errors
/// How the program ends, if not well.
pub fn run(matches: &ArgMatches, program: &Command) -> Result<(), Exit> {
    match matches.subcommand() {
        Some(("man", matches)) => print_or_write(&man::pages(program), ".\\\"", matches),
        Some(("completions", matches)) => {
            let shell = matches.get_one::<String>("shell").and_then(|shell| shell.parse().ok());
            out(&completions::script(
                program,
                shell.ok_or_else(|| Exit::Usage("the shell is missing".into()))?,
            ))
        }
        Some(("config", _)) => out(&render::example()),
        Some(("units", matches)) => {
            let units = SHIPPED.iter().map(|(name, text)| (*name, (*text).to_owned()));
            print_or_write(&units.collect::<Vec<_>>(), "####", matches)
        }
        _ => Err(Exit::Usage("generate needs to know what".into())),
    }
}

/// Prints files one after the other, each below a comment with its name, or writes them.
fn print_or_write(files: &[(&str, String)], comment: &str, matches: &ArgMatches) -> Result<(), Exit> {
    match matches.get_one::<PathBuf>("output") {
        Some(folder) => write(folder, files),
        None => {
            let parts: Vec<String> =
                files.iter().map(|(name, text)| format!("{comment} {name}\n{text}")).collect();
            out(&parts.join("\n"))
        }
    }
}

fn write(folder: &Path, files: &[(&str, String)]) -> Result<(), Exit> {
    let mut written = String::new();
    for (name, text) in files {
        let path = folder.join(name);
        let failed = |error: std::io::Error| Exit::Failure(format!("{}: {error}", path.display()));
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        std::fs::write(&path, text).map_err(failed)?;
        written += &format!("{}\n", path.display());
    }
    out(&written)
}
