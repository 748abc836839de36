//! `restart`: the saved settings again, with those given now merged in.

use clap::{ArgMatches, Command};

use super::exit::Exit;
use super::given::given;
use super::launch::Launch;
use super::managed::{self, Kept};
use super::output::warn;
use super::service::{State, World};
use crate::config::flags::replaced_notices;

/// `restart`, without the settings.
pub fn command() -> Command {
    Command::new("restart").about("Restart the service with the saved settings, changed by those given").after_help(
        "Settings given here (flags, and CODEX_PROXY_* variables of this shell) change the saved ones; a list replaces \
         the saved list. Running turns get drain_seconds to end.",
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
    let given = given(matches)?;
    let saved = Kept::read(managed::path(&world.sources)?, world.sources.uid).map_err(Exit::Failure)?.before;
    let runs = matches!(service.state, State::Running | State::Starting);
    let launch = Launch::new(world, service, runs)?;
    match (runs, &saved) {
        (true, _) => {}
        (false, Some(_)) => {
            eprintln!("note: the service was not running; starting it with the saved settings")
        }
        (false, None) => eprintln!("note: nothing was saved by an earlier start; starting the service"),
    }
    launch.run(given, saved.as_deref())
}
