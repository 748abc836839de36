//! `start`: saves the given settings, has the service manager start the service, and waits until it
//! is ready; what does not come up leaves everything as it was.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::Exit;
use super::given::given;
use super::launch::Launch;
use super::output::{out, warn};
use super::service::{State, World};
use crate::config::flags::replaced_notices;

/// `start`, without the settings.
pub fn command() -> Command {
    Command::new("start")
        .about("Start the service in the background with these settings, and remember them")
        .after_help(
            "The settings given here (flags, and CODEX_PROXY_* variables of this shell) are saved as the whole of one \
             file, config.d/50-start.toml in your config folder; restart uses them again. Settings to keep for good: \
             codex-api-proxy config set.\n\nExamples:\n  codex-api-proxy start\n  codex-api-proxy start --host 0.0.0.0 \
             --api-key-file ~/keys\n  codex-api-proxy start --fast --engine app-server --workers 4\n  codex-api-proxy \
             start --proxy http://127.0.0.1:8118 --port 9000",
        )
        .arg(
            Arg::new("foreground")
                .long("foreground")
                .action(ArgAction::SetTrue)
                .help("Run in the foreground instead, saving nothing: the same as serve"),
        )
}

/// Runs it.
///
/// # Errors
/// How the program ends, if not well.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    warn(&replaced_notices(matches));
    let world = World::look()?;
    let service = world.manager.service()?;
    if let State::Running | State::Starting = service.state {
        return out(&format!(
            "codex-api-proxy is already {}{}; nothing was changed.\nTo apply settings: codex-api-proxy restart \
             [settings]\n",
            service.state.name(),
            service.process()
        ));
    }
    let given = given(matches)?;
    Launch::new(world, service, false)?.run(given, None)
}
