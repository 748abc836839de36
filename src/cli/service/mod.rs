//! The operating system's service manager, as the verbs need it: one closed enum, its programs run
//! with explicit arguments, what they print read by pure functions.

pub mod launchd;
pub mod run;
pub mod sockets;
pub mod systemd;
pub mod units;
mod world;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::cli::exit::Exit;

pub use launchd::Launchd;
pub use sockets::Address;
pub use systemd::Systemd;
pub use world::{World, own_program};

/// How many lines of the log tell why something failed.
const LAST_LINES: usize = 15;

/// Who starts, watches and stops the service.
#[derive(Debug)]
pub enum Manager {
    /// The user's own systemd.
    Systemd(Systemd),
    /// launchd of macOS.
    Launchd(Launchd),
    /// Nobody, and why.
    None(String),
}

/// How the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no unit or agent of that name.
    Missing,
    /// It must not be started.
    Masked,
    /// It does not run.
    Stopped,
    /// It does not run because it failed; how.
    Failed(String),
    /// On its way up.
    Starting,
    /// It runs.
    Running,
    /// On its way down.
    Stopping,
}

impl State {
    /// Whether it has a process.
    pub fn is_up(&self) -> bool {
        matches!(self, State::Running | State::Starting | State::Stopping)
    }

    /// A word for people and programs.
    pub fn name(&self) -> &'static str {
        match self {
            State::Missing => "not installed",
            State::Masked => "masked",
            State::Stopped => "stopped",
            State::Failed(_) => "failed",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
        }
    }
}

/// What the manager knows of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How it is.
    pub state: State,
    /// Its process.
    pub pid: Option<u32>,
    /// Since when it runs, as the manager writes times.
    pub since: Option<String>,
    /// What it says of itself (`STATUS=` of sd_notify(3)).
    pub says: Option<String>,
    /// Whether it is started at login.
    pub enabled: bool,
    /// Its unit or plist file.
    pub file: Option<PathBuf>,
    /// Whether the file is newer than what the manager read.
    pub stale: bool,
    /// The sockets that the manager holds for it.
    pub socket: Socket,
}

impl Service {
    /// ` (process 123, since …)`; nothing without a process.
    pub fn process(&self) -> String {
        match (self.pid, &self.since) {
            (Some(pid), Some(since)) => format!(" (process {pid}, since {since})"),
            (Some(pid), None) => format!(" (process {pid})"),
            _ => String::new(),
        }
    }
}

/// Sockets that the manager holds for the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Whether it listens now.
    pub listening: bool,
    /// Whether it will listen after the next login.
    pub enabled: bool,
    /// Whether there is such a unit.
    pub known: bool,
    /// Where.
    pub addresses: Vec<Address>,
}

impl Manager {
    fn detect() -> Manager {
        if cfg!(target_os = "macos") {
            return Manager::Launchd(Launchd::new());
        }
        match Systemd::connect() {
            Ok(systemd) => Manager::Systemd(systemd),
            Err(why) => Manager::None(why),
        }
    }

    /// What the manager knows of the service.
    ///
    /// # Errors
    /// It cannot be asked, or there is none.
    pub fn service(&self) -> Result<Service, Exit> {
        match self {
            Manager::Systemd(systemd) => systemd.service().map_err(Exit::Failure),
            Manager::Launchd(launchd) => launchd.service().map_err(Exit::Failure),
            Manager::None(why) => Err(no_manager(why)),
        }
    }

    /// Starts the service and waits until the manager calls it started.
    ///
    /// # Errors
    /// What the manager said.
    pub fn start(&self) -> Result<(), String> {
        match self {
            Manager::Systemd(systemd) => systemd.control(&["start", systemd::SERVICE]),
            Manager::Launchd(launchd) => launchd.start(),
            Manager::None(why) => Err(why.clone()),
        }
    }

    /// Stops the service and starts it again.
    ///
    /// # Errors
    /// What the manager said.
    pub fn restart(&self) -> Result<(), String> {
        match self {
            Manager::Systemd(systemd) => systemd.control(&["restart", systemd::SERVICE]),
            Manager::Launchd(launchd) => launchd.restart(),
            Manager::None(why) => Err(why.clone()),
        }
    }

    /// Stops the service and the sockets held for it.
    ///
    /// # Errors
    /// What the manager said.
    pub fn stop(&self, service: &Service) -> Result<(), String> {
        match self {
            Manager::Systemd(systemd) if service.socket.known => {
                // The socket first: a connection would start the service again.
                systemd.control(&["stop", systemd::SOCKET, systemd::SERVICE])
            }
            Manager::Systemd(systemd) => systemd.control(&["stop", systemd::SERVICE]),
            Manager::Launchd(launchd) => launchd.stop(),
            Manager::None(why) => Err(why.clone()),
        }
    }

    /// Has the manager forget that the service failed, which it remembers beyond a stop.
    ///
    /// # Errors
    /// What the manager said.
    pub fn forget_failure(&self) -> Result<(), String> {
        let Manager::Systemd(systemd) = self else { return Ok(()) };
        match systemd.service()?.state {
            State::Failed(_) => systemd.control(&["reset-failed", systemd::SERVICE]),
            _ => Ok(()),
        }
    }

    /// The last lines of the log, since that Unix time if given; or why there are none.
    pub fn last_lines(&self, since: Option<Duration>) -> String {
        let mut command = match self {
            Manager::Systemd(systemd) => systemd.last_lines(since),
            Manager::Launchd(launchd) => launchd.last_lines(),
            Manager::None(_) => return String::new(),
        };
        match run::run(&mut command) {
            Ok(ran) if !ran.out.trim().is_empty() => {
                // Repetitions would push out the line that matters.
                let mut lines: Vec<&str> = vec![];
                for line in ran.out.trim_end().lines() {
                    if !lines.contains(&line) {
                        lines.push(line);
                    }
                }
                lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
            }
            Ok(ran) if ran.success => "(the log has no line of it)".into(),
            Ok(ran) => format!("(the log cannot be read: {})", ran.why()),
            Err(error) => format!("(the log cannot be read: {error})"),
        }
    }

    /// The program that shows the log.
    ///
    /// # Errors
    /// There is no manager.
    pub fn log(&self, follow: bool, lines: Option<u64>, more: &[String]) -> Result<Command, Exit> {
        match self {
            Manager::Systemd(systemd) => Ok(systemd.log(follow, lines, more)),
            Manager::Launchd(launchd) => Ok(launchd.log(follow, lines, more)),
            Manager::None(why) => Err(Exit::Failure(format!(
                "{why}\nThere is no service log here. `codex-api-proxy serve` writes its log to standard error."
            ))),
        }
    }

    /// How a person has it started at each login.
    pub fn how_to_enable(&self) -> &'static str {
        match self {
            Manager::Systemd(_) => "systemctl --user enable codex-api-proxy",
            _ => "launchctl enable gui/$(id -u)/local.codex-api-proxy.agent",
        }
    }

    /// How a person allows it again after it was masked.
    pub fn how_to_unmask(&self) -> &'static str {
        match self {
            Manager::Systemd(_) => "systemctl --user unmask codex-api-proxy",
            _ => self.how_to_enable(),
        }
    }

    /// Said where it would have to be started, but must not be.
    pub fn masked(&self) -> Exit {
        let what = match self {
            Manager::Systemd(_) => "the unit codex-api-proxy.service is masked",
            _ => "the agent is disabled",
        };
        Exit::Failure(format!(
            "{what}: somebody decided that it must not start. To allow it: {}",
            self.how_to_unmask()
        ))
    }
}

/// Said by every verb that needs a manager where there is none.
pub fn no_manager(why: &str) -> Exit {
    Exit::Failure(format!(
        "{why}\nThis command works through the service manager (systemd or launchd). Without one, as in a \
         container, run the server in the foreground: codex-api-proxy serve"
    ))
}
