//! `logs`: becomes the service manager's own log viewer.

use std::os::unix::process::CommandExt;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::exit::Exit;
use super::service::World;

/// `logs`.
pub fn command() -> Command {
    Command::new("logs")
        .about("Show the service's log (journalctl, or log on macOS)")
        .after_help(
            "Examples:\n  \
             codex-api-proxy logs -f\n  \
             codex-api-proxy logs -n 100 -- -p warning\n  \
             codex-api-proxy logs -- CODEX_REQUEST_ID=ID -o json",
        )
        .arg(
            Arg::new("follow")
                .long("follow")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("Go on with new lines as they come"),
        )
        .arg(
            Arg::new("lines")
                .long("lines")
                .short('n')
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("Only the last N lines"),
        )
        .arg(
            Arg::new("more")
                .value_name("OPTION")
                .num_args(0..)
                .last(true)
                .help("Passed on to journalctl, or to log on macOS"),
        )
}

/// Runs it; does not return if all is well.
///
/// # Errors
/// There is no log to show.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    let world = World::look()?;
    let more: Vec<String> = matches.get_many("more").into_iter().flatten().cloned().collect();
    let lines = matches.get_one::<u64>("lines").copied();
    let mut command = world.manager.log(matches.get_flag("follow"), lines, &more)?;
    let error = command.exec();
    Err(Exit::Failure(format!("{}: {error}", command.get_program().to_string_lossy())))
}
