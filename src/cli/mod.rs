//! The command line: one clap command, and one match. Each verb is a file or folder that imports no
//! other verb; what they share has files of its own.

mod check;
mod config_cmd;
mod connect;
mod doctor;
mod exit;
mod foreground;
mod generate;
mod given;
mod glance;
mod install;
mod launch;
mod logs;
mod managed;
mod output;
mod probe;
mod readiness;
mod records;
mod restart;
mod serve;
mod service;
mod socket;
mod standing;
mod start;
mod status;
mod stop;
mod unit_files;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::config::flags::{args, config_arg, replaced_args, replaced_notices};
use exit::Exit;

/// The whole command line.
fn command() -> Command {
    let with_settings = |command: Command| command.arg(config_arg()).args(args()).args(replaced_args());
    Command::new("codex-api-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(start::command()).mut_arg("config", |config| {
            config.help("With --foreground only: settings file read after all others")
        }))
        .subcommand(stop::command())
        // Accepted so that it can be refused in words.
        .subcommand(with_settings(restart::command()).mut_arg("config", |config| config.hide(true)))
        .subcommand(status::command())
        .subcommand(logs::command())
        .subcommand(usage::command())
        .subcommand(connect::command())
        .subcommand(with_settings(
            Command::new("serve")
                .about("Run the server in the foreground; what the service manager runs")
                .after_help(
                    "For containers and debugging; otherwise: codex-api-proxy start. SIGTERM and Ctrl-C give \
                     running turns drain_seconds to end, SIGHUP reads the settings again.",
                ),
        ))
        .subcommand(with_settings(doctor::command()))
        .subcommand(config_cmd::command())
        .subcommand(install::install_command())
        .subcommand(install::uninstall_command())
        .subcommand(generate::command())
        .after_help(
            "First steps:\n  \
             codex login              log in to Codex (the program of codex_bin), once\n  \
             codex-api-proxy doctor   says what is missing, if anything\n  \
             codex-api-proxy start    serves http://127.0.0.1:8765/v1 in the background\n  \
             codex-api-proxy connect  says how to point a client there\n\n\
             A turn is one answer of Codex to one request. More: man codex-api-proxy, \
             codex-api-proxy.toml (settings) and codex-api-proxy.service (operation).",
        )
}

/// Runs the program with these arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are no errors, and a reader that left is none either.
            _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let done = match matches.subcommand() {
        Some(("serve", matches)) => return serve(matches),
        Some(("start", matches)) if matches.get_flag("foreground") => return serve(matches),
        Some(("start", matches)) => start::run(matches),
        Some(("stop", matches)) => stop::run(matches),
        Some(("restart", matches)) => restart::run(matches),
        Some(("status", matches)) => status::run(matches),
        Some(("logs", matches)) => logs::run(matches),
        Some(("usage", matches)) => usage::run(matches),
        Some(("connect", matches)) => connect::run(matches),
        Some(("doctor", matches)) => doctor::run(matches),
        Some(("config", matches)) => config_cmd::run(matches),
        Some(("install", matches)) => install::install(matches),
        Some(("uninstall", matches)) => install::uninstall(matches),
        Some(("generate", matches)) => generate::run(matches, &command()),
        _ => Err(Exit::Usage("a command is missing".into())),
    };
    done.map_or_else(Exit::report, |()| ExitCode::SUCCESS)
}

fn serve(matches: &ArgMatches) -> ExitCode {
    output::warn(&replaced_notices(matches));
    match given::sources(matches) {
        Ok(sources) => serve::run(sources),
        Err(exit) => exit.report(),
    }
}
