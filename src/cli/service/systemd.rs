//! The user's systemd, over `systemctl --user`, `journalctl --user` and `loginctl`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::run::run;
use super::{Address, Service, Socket, State};
use crate::os::users::own_uid;

/// The service's unit.
pub const SERVICE: &str = "codex-api-proxy.service";
/// The unit of its sockets.
pub const SOCKET: &str = "codex-api-proxy.socket";

/// The system's templates: service and socket.
pub const TEMPLATES: [&str; 2] = ["codex-api-proxy@.service", "codex-api-proxy@.socket"];

/// What is asked of both; a unit leaves out what its kind has not.
const PROPERTIES: &str = "LoadState,ActiveState,SubState,MainPID,StatusText,UnitFileState,FragmentPath,\
     NeedDaemonReload,ActiveEnterTimestamp,Result,ExecMainStatus,Listen";

/// The user's manager, which answered.
#[derive(Debug)]
pub struct Systemd {
    runtime_dir: Option<PathBuf>,
    /// What the manager gives to the services it starts.
    pub environment: Vec<(OsString, OsString)>,
}

impl Systemd {
    /// Talks to the user's manager.
    ///
    /// # Errors
    /// Why there is none, and what may help, in a sentence or two.
    pub fn connect() -> Result<Systemd, String> {
        // `su` and cron leave the variable out, and the manager is there all the same.
        let ours = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
        let usual = PathBuf::from(format!("/run/user/{}", own_uid()));
        let runtime_dir = if ours.is_none() && usual.is_dir() { Some(usual) } else { None };
        let mut systemd = Systemd { runtime_dir, environment: vec![] };
        let ran = match run(systemd.systemctl().arg("show-environment")) {
            Ok(ran) => ran,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err("There is no systemd here (no systemctl on PATH).".into());
            }
            Err(error) => return Err(format!("systemctl cannot be run: {error}.")),
        };
        match ran.success {
            true => {
                systemd.environment = environment(ran.out.as_bytes());
                Ok(systemd)
            }
            false if booted() && own_uid() == 0 => Err(format!(
                "Root has no service manager of its own here ({}). Run this as the user whose Codex login is to be \
                 used; what the whole system runs for users is codex-api-proxy@NAME.service: systemctl status \
                 'codex-api-proxy@*'",
                ran.why()
            )),
            false if booted() => Err(format!(
                "Your user's service manager does not answer ({}). It runs while you are logged in (by ssh or at \
                 the console; `su` and `sudo` are no login), or always after: sudo loginctl enable-linger {}",
                ran.why(),
                own_uid()
            )),
            false => Err(format!("This system was not booted with systemd ({}).", ran.why())),
        }
    }

    fn user_program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.runtime_dir.iter().map(|path| ("XDG_RUNTIME_DIR", path))).arg("--user");
        command
    }

    fn systemctl(&self) -> Command {
        self.user_program("systemctl")
    }

    /// Runs a verb of systemctl.
    ///
    /// # Errors
    /// What it said.
    pub fn control(&self, arguments: &[&str]) -> Result<(), String> {
        control(self.systemctl(), "systemctl --user", arguments)
    }

    /// What the manager knows of the service and its sockets.
    ///
    /// # Errors
    /// The manager does not answer.
    pub fn service(&self) -> Result<Service, String> {
        // In one call, the service's part before an empty line: each takes as long as all else here.
        match run(self.systemctl().args(["show", "-p", PROPERTIES, SERVICE, SOCKET])) {
            Ok(ran) if ran.success => {
                let (service, socket) = ran.out.split_once("\n\n").unwrap_or((&ran.out, ""));
                Ok(read(&Properties::read(service), &Properties::read(socket)))
            }
            Ok(ran) => Err(format!("systemctl --user show {SERVICE} {SOCKET}: {}", ran.why())),
            Err(error) => Err(format!("systemctl --user show {SERVICE} {SOCKET}: {error}")),
        }
    }

    /// Whether the user's services go on without a login; `None` if loginctl does not tell.
    pub fn lingers(&self) -> Option<bool> {
        let uid = own_uid().to_string();
        let ran = run(Command::new("loginctl").args(["show-user", &uid, "-p", "Linger"])).ok()?;
        let told = Properties::read(&ran.out).get("Linger").map(|value| value == "yes");
        // "User ID … is not logged in or lingering": a manager without a session.
        told.or_else(|| ran.err.contains("not logged in or lingering").then_some(false))
    }

    /// Where a user's own units are.
    pub fn unit_folder(&self) -> Option<PathBuf> {
        let folder = |name: &str| {
            let found = self.environment.iter().find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| PathBuf::from(value)).filter(|path| path.is_absolute())
        };
        let home = || folder("HOME").or_else(std::env::home_dir).map(|home| home.join(".config"));
        folder("XDG_CONFIG_HOME").or_else(home).map(|config| config.join("systemd/user"))
    }

    /// The program that prints the log, since that Unix time or the last lines of all.
    pub fn last_lines(&self, since: Option<Duration>) -> Command {
        let mut command = self.user_program("journalctl");
        command.args(["-u", "codex-api-proxy", "--no-pager", "-o", "cat"]);
        match since {
            // Together with --since, -n would give the first lines.
            Some(time) => command.arg(format!("--since=@{}.{:03}", time.as_secs(), time.subsec_millis())),
            None => command.arg("-n15"),
        };
        command
    }

    /// The program that shows the log.
    pub fn log(&self, follow: bool, lines: Option<u64>, more: &[String]) -> Command {
        let mut command = self.user_program("journalctl");
        command.args(["-u", "codex-api-proxy"]);
        command.args(follow.then_some("-f"));
        command.args(lines.map(|lines| format!("-n{lines}")));
        command.args(more);
        command
    }
}

/// Whether systemd runs this system: sd_booted(3).
fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Runs a verb of the system's systemctl; where systemd does not run, there is nothing to be told.
///
/// # Errors
/// What it said.
pub fn control_system(arguments: &[&str]) -> Result<(), String> {
    if booted() { control(Command::new("systemctl"), "systemctl", arguments) } else { Ok(()) }
}

fn control(mut systemctl: Command, name: &str, arguments: &[&str]) -> Result<(), String> {
    let words = arguments.join(" ");
    match run(systemctl.args(arguments)) {
        Ok(ran) if ran.success => Ok(()),
        Ok(ran) => {
            let said = ran.err.trim().replace('\n', " ");
            // The verbs show the log themselves.
            let said = said.split(" See \"").next().unwrap_or_default();
            Err(format!("{name} {words}: {said}"))
        }
        Err(error) => Err(format!("{name} {words}: {error}")),
    }
}

/// `NAME=value` lines of `systemctl show`; a name may come several times.
#[derive(Debug, PartialEq, Eq)]
struct Properties(Vec<(String, String)>);

impl Properties {
    fn read(text: &str) -> Properties {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        Properties(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

fn read(service: &Properties, socket: &Properties) -> Service {
    let text = |name: &str| service.get(name).map(str::to_owned);
    let enabled = |unit: &Properties| {
        unit.get("UnitFileState").is_some_and(|state| state == "enabled" || state == "enabled-runtime")
    };
    let state = match (service.get("LoadState"), service.get("ActiveState")) {
        (Some("masked"), _) => State::Masked,
        (_, Some("active" | "reloading")) => State::Running,
        (_, Some("activating")) if service.get("SubState") == Some("auto-restart") => {
            State::Failed(format!("{}; systemd tries again", failure(service)))
        }
        (_, Some("activating")) => State::Starting,
        (_, Some("deactivating")) => State::Stopping,
        (_, Some("failed")) => State::Failed(failure(service)),
        (Some("not-found"), _) | (None, None) => State::Missing,
        _ => State::Stopped,
    };
    let listen = socket
        .all("Listen")
        .flat_map(|line| line.split(") "))
        .filter_map(|entry| Address::parse(entry.split(" (").next().unwrap_or_default().trim()));
    Service {
        pid: service.get("MainPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0),
        since: text("ActiveEnterTimestamp").filter(|_| state == State::Running),
        // What it said last is kept after its end.
        says: text("StatusText").filter(|_| state.is_up()),
        enabled: enabled(service),
        file: text("FragmentPath").map(PathBuf::from),
        stale: service.get("NeedDaemonReload") == Some("yes"),
        socket: Socket {
            listening: matches!(socket.get("ActiveState"), Some("active")),
            enabled: enabled(socket),
            known: socket.get("LoadState").is_some_and(|state| state == "loaded"),
            addresses: listen.collect(),
        },
        state,
    }
}

/// How it failed, in words.
fn failure(service: &Properties) -> String {
    let status = service.get("ExecMainStatus").unwrap_or("?");
    match (service.get("Result"), status) {
        (Some("exit-code"), "78") => "its settings are wrong (exit status 78)".into(),
        (Some("exit-code"), "64") => "its command line is wrong (exit status 64)".into(),
        (Some("exit-code"), "203") => {
            "the program that its unit names cannot be run (exit status 203)".into()
        }
        (Some("exit-code"), status) if status.parse().is_ok_and(|code: u32| (200..=245).contains(&code)) => {
            format!(
                "systemd could not give it what its unit asks for (exit status {status}, see systemd.exec(5))"
            )
        }
        (Some("exit-code"), status) => format!("it ended with status {status}"),
        (Some("signal" | "core-dump"), status) => format!("signal {status} ended it"),
        (Some("timeout"), _) => "it did not become ready, or did not stop, in time".into(),
        (Some("watchdog"), _) => "it stopped answering the watchdog".into(),
        (Some("start-limit-hit"), _) => "it was started too often in a short time".into(),
        (Some(other), _) => other.to_owned(),
        (None, _) => "the reason is not known".into(),
    }
}

/// `systemctl show-environment`: `NAME=value`, odd values as `$'…'` with escapes of C.
fn environment(text: &[u8]) -> Vec<(OsString, OsString)> {
    let line = |line: &[u8]| {
        let at = line.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&line[..at], &line[at + 1..]);
        let quoted = value.strip_prefix(b"$'").and_then(|rest| rest.strip_suffix(b"'"));
        let value = quoted.map_or_else(|| value.to_vec(), unescaped);
        Some((OsStr::from_bytes(name).to_owned(), OsString::from_vec(value)))
    };
    text.split(|&byte| byte == b'\n').filter_map(line).collect()
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let number = std::str::from_utf8(&digits).ok();
                out.extend(number.and_then(|digits| u8::from_str_radix(digits, 16).ok()));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_shows_becomes_a_state() {
        for (shown, expect) in [
            ("LoadState=not-found\nActiveState=inactive\n", State::Missing),
            ("LoadState=masked\nActiveState=inactive\n", State::Masked),
            ("LoadState=loaded\nActiveState=inactive\n", State::Stopped),
            ("LoadState=loaded\nActiveState=active\n", State::Running),
            ("LoadState=loaded\nActiveState=reloading\n", State::Running),
            ("LoadState=loaded\nActiveState=activating\n", State::Starting),
            ("LoadState=loaded\nActiveState=deactivating\n", State::Stopping),
            (
                "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=signal\nExecMainStatus=9\n",
                State::Failed("signal 9 ended it; systemd tries again".into()),
            ),
            // The file was removed while it ran.
            ("LoadState=not-found\nActiveState=active\n", State::Running),
            (
                "LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=78\n",
                State::Failed("its settings are wrong (exit status 78)".into()),
            ),
            (
                "LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=203\n",
                State::Failed("the program that its unit names cannot be run (exit status 203)".into()),
            ),
            (
                "LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=226\n",
                State::Failed(
                    "systemd could not give it what its unit asks for (exit status 226, see systemd.exec(5))"
                        .into(),
                ),
            ),
            (
                "LoadState=loaded\nActiveState=failed\nResult=watchdog\nExecMainStatus=6\n",
                State::Failed("it stopped answering the watchdog".into()),
            ),
            ("", State::Missing),
        ] {
            assert_eq!(read(&Properties::read(shown), &Properties::read("")).state, expect, "{shown}");
        }
    }

    #[test]
    fn all_that_status_tells_is_read() {
        let service = "MainPID=42\nStatusText=listening on http://127.0.0.1:8765, a=b\nActiveState=active\n\
             LoadState=loaded\nUnitFileState=enabled\nFragmentPath=/home/me/x.service\nNeedDaemonReload=yes\n\
             ActiveEnterTimestamp=Sun 2026-11-22 15:53:04 UTC\n";
        let socket = "LoadState=loaded\nActiveState=active\nUnitFileState=disabled\n\
             Listen=127.0.0.1:8765 (Stream)\nListen=/run/user/1000/codex-api-proxy.sock (Stream)\n";
        let read = read(&Properties::read(service), &Properties::read(socket));
        let address = |text: &str| Address::parse(text).unwrap();
        assert_eq!(
            read,
            Service {
                state: State::Running,
                pid: Some(42),
                since: Some("Sun 2026-11-22 15:53:04 UTC".into()),
                says: Some("listening on http://127.0.0.1:8765, a=b".into()),
                enabled: true,
                file: Some("/home/me/x.service".into()),
                stale: true,
                socket: Socket {
                    listening: true,
                    enabled: false,
                    known: true,
                    addresses: vec![
                        address("127.0.0.1:8765"),
                        address("/run/user/1000/codex-api-proxy.sock")
                    ],
                },
            }
        );
    }

    #[test]
    fn the_managers_environment_is_unquoted() {
        let text = "HOME=/home/me\nEMPTY=\nODD=$'a b\\'c\\n\\x41\\\\'\nPATH=/usr/bin:/bin\nnot a line\n";
        let pairs: Vec<(OsString, OsString)> =
            [("HOME", "/home/me"), ("EMPTY", ""), ("ODD", "a b'c\nA\\"), ("PATH", "/usr/bin:/bin")]
                .map(|(name, value)| (name.into(), value.into()))
                .into();
        assert_eq!(environment(text.as_bytes()), pairs);
    }
}
