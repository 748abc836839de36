//! `generate`: what packages ship, from the program itself.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};

use super::service::units::SHIPPED;
use super::{Exit, out};
use crate::config::render;

/// `generate` and what it knows.
pub fn command() -> Command {
    Command::new("generate")
        .about("Print what packages ship")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("config").about("The commented example of a settings file"))
        .subcommand(
            Command::new("units").about("The unit files for systemd and the plists for launchd").arg(
                Arg::new("output")
                    .long("output")
                    .value_name("FOLDER")
                    .value_hint(ValueHint::DirPath)
                    .value_parser(value_parser!(PathBuf))
                    .help("Write them below this folder instead of printing them"),
            ),
        )
}

/// Runs the verb.
///
/// # Errors
/// How the program ends, if not well.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    match matches.subcommand() {
        Some(("config", _)) => out(&render::example()),
        Some(("units", matches)) => match matches.get_one::<PathBuf>("output") {
            Some(folder) => write(folder),
            None => {
                let parts: Vec<String> =
                    SHIPPED.iter().map(|(name, text)| format!("#### {name}\n{text}")).collect();
                out(&parts.join("\n"))
            }
        },
        _ => Err(Exit::Usage("generate needs to know what".into())),
    }
}

fn write(folder: &std::path::Path) -> Result<(), Exit> {
    let mut written = String::new();
    for (name, text) in SHIPPED {
        let path = folder.join(name);
        let failed = |error: std::io::Error| Exit::Failure(format!("{}: {error}", path.display()));
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        std::fs::write(&path, text).map_err(failed)?;
        written += &format!("{}\n", path.display());
    }
    out(&written)
}
