//! `stop`: the service and the sockets held for it.

use clap::{ArgMatches, Command};

use super::exit::Exit;
use super::output::{out, warn};
use super::service::{Manager, State, World};
use crate::config::flags::{replaced_args, replaced_notices};

/// `stop`.
pub fn command() -> Command {
    Command::new("stop")
        .about("Stop the service; running turns get drain_seconds to end")
        .args(replaced_args())
}

/// Runs it.
///
/// # Errors
/// How the program ends, if not well.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    warn(&replaced_notices(matches));
    let world = World::look()?;
    let service = world.manager.service()?;
    let listening = service.socket.listening;
    let text = match &service.state {
        State::Missing if !listening => {
            "codex-api-proxy is not installed as a service; nothing to stop.\n".into()
        }
        State::Stopped | State::Masked if !listening => "codex-api-proxy is not running.\n".to_owned(),
        state => {
            if *state == State::Running {
                eprintln!("Stopping; running turns may end first ...");
            }
            world.manager.stop(&service).map_err(Exit::Failure)?;
            match state {
                State::Failed(how) => {
                    world.manager.forget_failure().map_err(Exit::Failure)?;
                    format!("codex-api-proxy had failed: {how}. It is stopped now.\n")
                }
                _ => "codex-api-proxy is stopped.\n".into(),
            }
        }
    };
    out(&text)?;
    let enabled = service.enabled || service.socket.enabled;
    match &world.manager {
        Manager::Systemd(_) if enabled => out(
            "It comes back at your next login; to end that: systemctl --user disable codex-api-proxy.service \
             codex-api-proxy.socket\n",
        ),
        _ => Ok(()),
    }
}
