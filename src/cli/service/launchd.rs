//! launchd of macOS, over `launchctl` and `log`: a LaunchAgent of the logged-in user.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::run::{Ran, run};
use super::{Address, Service, Socket, State};
use crate::os::names::own_uid;

/// The agent's label.
pub const LABEL: &str = "local.codex-api-proxy.agent";

/// `launchctl print` of a service it does not know.
const UNKNOWN: i32 = 113;

/// The user's launchd domain.
#[derive(Debug)]
pub struct Launchd {
    domain: String,
    /// The agent's file.
    pub plist: PathBuf,
}

impl Launchd {
    pub(super) fn new() -> Launchd {
        let home = std::env::home_dir().unwrap_or_default();
        let plist = home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"));
        Launchd { domain: format!("gui/{}", own_uid()), plist }
    }

    fn target(&self) -> String {
        format!("{}/{LABEL}", self.domain)
    }

    fn launchctl(&self, arguments: &[&str]) -> Result<Ran, String> {
        run(Command::new("launchctl").args(arguments))
            .map_err(|error| format!("launchctl {}: {error}", arguments.join(" ")))
    }

    fn control(&self, arguments: &[&str]) -> Result<(), String> {
        let ran = self.launchctl(arguments)?;
        if ran.success { Ok(()) } else { Err(format!("launchctl {}: {}", arguments.join(" "), ran.why())) }
    }

    fn loaded(&self) -> Result<Option<String>, String> {
        let ran = self.launchctl(&["print", &self.target()])?;
        match ran.code {
            Some(0) => Ok(Some(ran.out)),
            Some(UNKNOWN) => Ok(None),
            _ => Err(format!("launchctl print {}: {}", self.target(), ran.why())),
        }
    }

    /// What launchd knows of the agent.
    ///
    /// # Errors
    /// launchctl cannot be run.
    pub fn service(&self) -> Result<Service, String> {
        let printed = self.loaded()?;
        let file = Some(self.plist.clone()).filter(|path| path.is_file());
        let disabled = self.launchctl(&["print-disabled", &self.domain])?.out;
        let disabled = disabled.lines().any(|line| {
            line.contains(&format!("\"{LABEL}\""))
                && (line.ends_with("=> disabled") || line.ends_with("=> true"))
        });
        let text = file.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        Ok(read(printed.as_deref(), file, disabled, address(&text)))
    }

    /// Loads the agent and starts it.
    ///
    /// # Errors
    /// What launchctl said.
    pub fn start(&self) -> Result<(), String> {
        if self.loaded()?.is_none() {
            self.control(&["bootstrap", &self.domain, &self.plist.to_string_lossy()])?;
        }
        self.control(&["kickstart", &self.target()])
    }

    /// Loads the agent's file anew and starts it: the file may have changed.
    ///
    /// # Errors
    /// What launchctl said.
    pub fn restart(&self) -> Result<(), String> {
        self.stop()?;
        self.start()
    }

    /// Takes the agent out of launchd, so that KeepAlive does not bring it back.
    ///
    /// # Errors
    /// What launchctl said.
    pub fn stop(&self) -> Result<(), String> {
        if self.loaded()?.is_none() { Ok(()) } else { self.control(&["bootout", &self.target()]) }
    }

    /// The program that prints the log's last lines.
    pub fn last_lines(&self) -> Command {
        let mut command = Command::new("log");
        command.args(["show", "--last", "2m", "--style", "compact", "--predicate", PREDICATE]);
        command
    }

    /// The program that shows the log.
    pub fn log(&self, follow: bool, _lines: Option<u64>, more: &[String]) -> Command {
        let mut command = Command::new("log");
        if follow {
            command.args(["stream", "--level", "info"]);
        } else {
            command.args(["show", "--last", "1h", "--info"]);
        }
        command.args(["--style", "compact", "--predicate", PREDICATE]).args(more);
        command
    }
}

/// Whatever the program logs, in any subsystem.
const PREDICATE: &str = "process == \"codex-api-proxy\"";

/// What an agent gets of the session: not the shell's PATH nor its variables.
pub fn environment(ours: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let kept = ["HOME", "USER", "LOGNAME", "SHELL", "TMPDIR"];
    let mut env: Vec<_> = ours.filter(|(name, _)| kept.iter().any(|kept| name == kept)).collect();
    env.push(("PATH".into(), "/usr/bin:/bin:/usr/sbin:/sbin".into()));
    env
}

/// Where the plist has launchd listen.
fn address(plist: &str) -> Option<Address> {
    let after = |key: &str| {
        let rest = plist.split_once(&format!("<key>{key}</key>"))?.1;
        rest.split_once("<string>")?.1.split_once("</string>").map(|(value, _)| value.to_owned())
    };
    let ip = after("SockNodeName")?.parse().ok()?;
    let port = after("SockServiceName")?.parse().ok()?;
    Some(Address::Tcp(std::net::SocketAddr::new(ip, port)))
}

fn read(printed: Option<&str>, file: Option<PathBuf>, disabled: bool, address: Option<Address>) -> Service {
    let value = |name: &str| {
        let lines = printed?.lines().map(str::trim);
        let mut found = lines.filter_map(|line| line.split_once(" = "));
        found.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let state = match (printed, value("state").as_deref(), value("last exit code").as_deref()) {
        (None, ..) if file.is_none() => State::Missing,
        (None, ..) if disabled => State::Masked,
        (None, ..) => State::Stopped,
        (_, Some("running"), _) => State::Running,
        (_, Some("spawn scheduled"), _) => State::Starting,
        (_, _, Some("0" | "(never exited)") | None) => State::Stopped,
        (_, _, Some(code)) => State::Failed(format!("it ended with status {code}")),
    };
    Service {
        state,
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        since: None,
        says: None,
        enabled: file.is_some() && !disabled,
        file: file.clone(),
        stale: false,
        socket: Socket {
            listening: printed.is_some() && address.is_some(),
            enabled: file.is_some() && !disabled,
            known: address.is_some(),
            addresses: address.into_iter().collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_launchctl_prints_becomes_a_state() {
        let running = "gui/501/local.codex-api-proxy.agent = {\n\tstate = running\n\tpid = 77\n\tlast exit code = 0\n}\n";
        let failed = "x = {\n\tstate = not running\n\tlast exit code = 78\n}\n";
        let idle = "x = {\n\tstate = not running\n\tlast exit code = (never exited)\n}\n";
        let file = || Some(PathBuf::from("/x.plist"));
        for (printed, file, disabled, expect, pid) in [
            (Some(running), file(), false, State::Running, Some(77)),
            (Some(failed), file(), false, State::Failed("it ended with status 78".into()), None),
            (Some(idle), file(), false, State::Stopped, None),
            (None, file(), false, State::Stopped, None),
            (None, file(), true, State::Masked, None),
            (None, None, false, State::Missing, None),
        ] {
            let read = read(printed, file, disabled, None);
            assert_eq!((read.state, read.pid), (expect, pid), "{printed:?}");
        }
    }

    #[test]
    fn the_plist_says_where_launchd_listens() {
        let (_, text) = super::super::units::agent("/p".as_ref(), "/h".as_ref(), "::1", 9000);
        assert_eq!(address(&text), Address::parse("[::1]:9000"));
        assert_eq!(address(""), None);
    }
}
