//! The command line: one clap command, one match, and how the program ends.

pub mod config_cmd;
pub mod doctor;
pub mod generate;
pub mod install;
pub mod logs;
pub mod managed;
pub mod probe;
pub mod restart;
pub mod serve;
pub mod service;
pub mod socket;
pub mod start;
pub mod status;
pub mod stop;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use tracing::Level;

use crate::config::schema::{args, config_arg, flags, replaced_args, replaced_notices};
use crate::config::{Errors, Sources};
use crate::observe::{catalog, log};

/// Something went wrong.
const FAILURE: u8 = 1;
/// EX_CONFIG of sysexits(3).
const CONFIG: u8 = 78;

/// How the program ends if not well; the text goes to stderr.
#[derive(Debug)]
pub enum Exit {
    /// 1: something failed.
    Failure(String),
    /// 64 (EX_USAGE of sysexits(3)): the command line is wrong.
    Usage(String),
    /// 78 (EX_CONFIG of sysexits(3)): the settings are wrong.
    Config(String),
    /// The code says it all; what there was to print is printed.
    Code(u8),
    /// 0: whoever read our output has left.
    ReaderGone,
}

impl From<Errors> for Exit {
    fn from(errors: Errors) -> Exit {
        let text = errors.to_string();
        if errors.only_flags { Exit::Usage(text) } else { Exit::Config(text) }
    }
}

impl Exit {
    /// What is wrong, without the code.
    pub fn into_text(self) -> String {
        match self {
            Exit::Failure(text) | Exit::Usage(text) | Exit::Config(text) => text,
            Exit::Code(_) | Exit::ReaderGone => String::new(),
        }
    }

    /// Prints the text and gives the code.
    pub fn report(self) -> ExitCode {
        let (code, text) = match self {
            Exit::Failure(text) => (FAILURE, text),
            Exit::Usage(text) => (64, text),
            Exit::Config(text) => (CONFIG, text),
            Exit::Code(code) => return ExitCode::from(code),
            Exit::ReaderGone => return ExitCode::SUCCESS,
        };
        let target = if code == CONFIG { catalog::SETTINGS_BROKEN } else { module_path!() };
        let mut explains = false;
        for (at, line) in text.lines().enumerate() {
            // Each line about settings is an error of its own; others, and what comes after an empty
            // line, explain the first.
            explains |= line.is_empty() || (at > 0 && code == FAILURE);
            log::say(Level::ERROR, target, &format!("{}{line}", if explains { "" } else { "error: " }));
        }
        ExitCode::from(code)
    }
}

/// The whole command line.
pub fn command() -> Command {
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
             codex login              log in to Codex, once\n  \
             codex-api-proxy doctor   says what is missing, if anything\n  \
             codex-api-proxy start    serves http://127.0.0.1:8765/v1 in the background\n\n\
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
        Some(("doctor", matches)) => doctor::run(matches),
        Some(("config", matches)) => config_cmd::run(matches),
        Some(("install", matches)) => install::install(matches),
        Some(("uninstall", matches)) => install::uninstall(matches),
        Some(("generate", matches)) => generate::run(matches),
        _ => Err(Exit::Usage("a command is missing".into())),
    };
    done.map_or_else(Exit::report, |()| ExitCode::SUCCESS)
}

fn serve(matches: &ArgMatches) -> ExitCode {
    warn(&replaced_notices(matches));
    match sources(matches) {
        Ok(sources) => serve::run(sources),
        Err(exit) => exit.report(),
    }
}

/// What this process and these flags say about the settings.
fn sources(matches: &ArgMatches) -> Result<Sources, Exit> {
    let file = matches.try_get_one::<String>("config").ok().flatten().map(PathBuf::from);
    Sources::from_process(flags(matches), file).map_err(|error| Exit::Failure(error.to_string()))
}

/// Prints to stdout.
fn out(text: &str) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Exit::ReaderGone,
        _ => Exit::Failure(format!("stdout: {error}")),
    })
}

/// Prints warnings to stderr.
fn warn(lines: &[String]) {
    for line in lines {
        log::say(Level::WARN, module_path!(), &format!("warning: {line}"));
    }
}
