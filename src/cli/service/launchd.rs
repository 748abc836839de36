//! launchd of macOS, over `launchctl` and `log`: a LaunchAgent of the logged-in user.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::run::{Ran, run};
use super::{Address, Service, Socket, State};
use crate::observe::log::SUBSYSTEM;
use crate::os::users::own_uid;

/// The agent's label.
pub const LABEL: &str = "local.codex-api-proxy.agent";

/// The system's daemon, in a file named after it.
pub const DAEMON_FILE: &str = "local.codex-api-proxy.daemon.plist";

/// `launchctl print` of a service it does not know.
const UNKNOWN: i32 = 113;

/// `launchctl bootout` of a service that takes its time to end.
const IN_PROGRESS: i32 = 36;

/// How long a service may take to end: more than `ExitTimeOut` of the plists, after which launchd kills it.
const GONE: Duration = Duration::from_secs(60);

/// How often it is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// The user's launchd domain.
#[derive(Debug)]
pub struct Launchd {
    launchctl: Launchctl,
    domain: String,
    /// The agent's file.
    pub plist: PathBuf,
}

impl Launchd {
    pub(super) fn new() -> Launchd {
        let home = std::env::home_dir().unwrap_or_default();
        let plist = home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"));
        Launchd { launchctl: Launchctl::default(), domain: format!("gui/{}", own_uid()), plist }
    }

    fn target(&self) -> String {
        format!("{}/{LABEL}", self.domain)
    }

    /// What launchd knows of the agent.
    ///
    /// # Errors
    /// launchctl cannot be run.
    pub fn service(&self) -> Result<Service, String> {
        let printed = self.launchctl.loaded(&self.target())?;
        let file = Some(self.plist.clone()).filter(|path| path.is_file());
        let disabled = self.launchctl.ask(&["print-disabled", &self.domain])?.out;
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
        if self.launchctl.loaded(&self.target())?.is_none() {
            self.launchctl.control(&["bootstrap", &self.domain, &self.plist.to_string_lossy()])?;
        }
        self.launchctl.control(&["kickstart", &self.target()])
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
        self.launchctl.remove(&self.target())
    }

    /// The program that prints the log's last lines.
    pub fn last_lines(&self) -> Command {
        viewer(&["show", "--last", "2m", "--info"])
    }

    /// The program that shows the log.
    pub fn log(&self, follow: bool, lines: Option<u64>, more: &[String]) -> Command {
        // With the levels that `log_level` lets through; it has no wish for older lines to follow from.
        let mut log = match follow {
            true => viewer(&["stream", "--level", "debug"]),
            false => viewer(&["show", "--last", "1h", "--info", "--debug"]),
        };
        log.args(more);
        let Some(lines) = lines.filter(|_| !follow) else { return log };
        // log(1) has no option for it.
        let mut tail = Command::new("/bin/sh");
        tail.args(["-c", "lines=$1; shift; \"$@\" | tail -n \"$lines\"", "sh", &lines.to_string()]);
        tail.arg(log.get_program()).args(log.get_args());
        tail
    }
}

/// The program, and the words before each call's own.
#[derive(Debug)]
struct Launchctl(Vec<OsString>);

impl Default for Launchctl {
    fn default() -> Launchctl {
        Launchctl(vec!["launchctl".into()])
    }
}

impl Launchctl {
    fn ask(&self, arguments: &[&str]) -> Result<Ran, String> {
        let Launchctl(words) = self;
        run(Command::new(&words[0]).args(&words[1..]).args(arguments))
            .map_err(|error| format!("launchctl {}: {error}", arguments.join(" ")))
    }

    fn control(&self, arguments: &[&str]) -> Result<(), String> {
        let ran = self.ask(arguments)?;
        if ran.success { Ok(()) } else { Err(format!("launchctl {}: {}", arguments.join(" "), ran.why())) }
    }

    /// What launchd tells of a service that it has loaded.
    fn loaded(&self, target: &str) -> Result<Option<String>, String> {
        let ran = self.ask(&["print", target])?;
        match ran.code {
            Some(0) => Ok(Some(ran.out)),
            Some(UNKNOWN) => Ok(None),
            _ => Err(format!("launchctl print {target}: {}", ran.why())),
        }
    }

    /// Takes a service out of launchd and waits until it is gone: before, it cannot be loaded anew.
    fn remove(&self, target: &str) -> Result<(), String> {
        if self.loaded(target)?.is_none() {
            return Ok(());
        }
        let ran = self.ask(&["bootout", target])?;
        if !ran.success && ran.code != Some(IN_PROGRESS) {
            return Err(format!("launchctl bootout {target}: {}", ran.why()));
        }
        let end = Instant::now() + GONE;
        while self.loaded(target)?.is_some() {
            if Instant::now() > end {
                return Err(format!("launchctl bootout {target}: it does not end"));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Takes the system's daemon out of launchd, if it is in there.
///
/// # Errors
/// What launchctl said.
pub fn remove_daemon() -> Result<(), String> {
    Launchctl::default().remove(&format!("system/{}", DAEMON_FILE.trim_end_matches(".plist")))
}

/// log(1) for what the service said.
fn viewer(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/log");
    command.args(arguments).args(["--style", "compact", "--predicate"]);
    command.arg(format!("subsystem == \"{SUBSYSTEM}\""));
    command
}

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
    fn the_log_is_that_of_our_subsystem() {
        // By this the service knows that launchd started it.
        let labels: Vec<&str> = super::super::units::SHIPPED
            .iter()
            .filter_map(|(path, _)| path.strip_prefix("launchd/")?.strip_suffix(".plist"))
            .collect();
        assert!(labels.contains(&LABEL) && labels.iter().all(|label| label.starts_with(SUBSYSTEM)));
        let launchd = Launchd::new();
        let words = |command: Command| -> Vec<String> {
            let words = [command.get_program()].into_iter().chain(command.get_args());
            words.map(|word| word.to_string_lossy().into_owned()).collect()
        };
        let predicate = ["--style", "compact", "--predicate", "subsystem == \"local.codex-api-proxy\""];
        let shown = ["/usr/bin/log", "show", "--last", "1h", "--info", "--debug"];
        assert_eq!(words(launchd.log(false, None, &[])), [&shown[..], &predicate].concat());
        let followed = ["/usr/bin/log", "stream", "--level", "debug"];
        assert_eq!(words(launchd.log(true, Some(5), &[])), [&followed[..], &predicate].concat());
        let last = words(launchd.log(false, Some(5), &["--source".into()]));
        let (shell, rest) = last.split_at(5);
        assert_eq!((&shell[0], &shell[1], &shell[4]), (&"/bin/sh".into(), &"-c".into(), &"5".into()));
        assert_eq!(rest, [&shown[..], &predicate, &["--source"]].concat());
    }

    /// A launchctl of sorts: it writes down what it is told to do, and a service that is booted out
    /// takes until it has been looked at twice.
    const LAUNCHCTL: &str = r#"
        cd "$1"; shift
        case $1 in
        print)
            [ ! -e leaving ] || { echo >>leaving; [ "$(wc -l <leaving)" -le 2 ] || rm loaded leaving; }
            [ -e loaded ] || exit 113
            printf '%s = {\n\tstate = running\n\tpid = 7\n}\n' "$2" ;;
        print-disabled) cat disabled 2>/dev/null ;;
        *)
            echo "$*" >>calls
            case $1 in
            bootstrap) [ ! -e loaded ] || { echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; }; >loaded ;;
            kickstart) [ -e loaded ] || exit 113 ;;
            bootout) >leaving; echo 'Boot-out failed: 36: Operation now in progress' >&2; exit 36 ;;
            esac ;;
        esac"#;

    #[test]
    fn launchctl_is_told_what_is_left_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let words = ["sh", "-c", LAUNCHCTL, "launchctl"].map(OsString::from);
        let launchctl = Launchctl(words.into_iter().chain([folder.path().into()]).collect());
        let plist = folder.path().join("agent.plist");
        let (_, text) = super::super::units::agent("/p".as_ref(), "/h".as_ref(), "127.0.0.1", 9000);
        std::fs::write(&plist, text).unwrap();
        let launchd = Launchd { launchctl, domain: "gui/7".into(), plist: plist.clone() };
        let calls = |launchd: &Launchd, verb: fn(&Launchd) -> Result<(), String>| {
            let file = folder.path().join("calls");
            _ = std::fs::remove_file(&file);
            verb(launchd).unwrap();
            std::fs::read_to_string(file).unwrap_or_default()
        };
        let (target, load) = (format!("gui/7/{LABEL}"), format!("bootstrap gui/7 {}\n", plist.display()));
        let (kick, remove) = (format!("kickstart {target}\n"), format!("bootout {target}\n"));

        assert_eq!(launchd.service().unwrap().state, State::Stopped);
        assert_eq!(calls(&launchd, Launchd::stop), "");
        assert_eq!(calls(&launchd, Launchd::start), format!("{load}{kick}"));
        let service = launchd.service().unwrap();
        assert_eq!((&service.state, service.pid), (&State::Running, Some(7)));
        assert!(service.enabled && service.socket.listening, "{service:?}");
        assert_eq!(calls(&launchd, Launchd::start), kick);
        assert_eq!(calls(&launchd, Launchd::restart), format!("{remove}{load}{kick}"));
        assert_eq!(calls(&launchd, Launchd::stop), remove);
        std::fs::write(folder.path().join("disabled"), format!("\t\t\"{LABEL}\" => disabled\n")).unwrap();
        assert_eq!(launchd.service().unwrap().state, State::Masked);
    }

    #[test]
    fn the_plist_says_where_launchd_listens() {
        let (_, text) = super::super::units::agent("/p".as_ref(), "/h".as_ref(), "::1", 9000);
        assert_eq!(address(&text), Address::parse("[::1]:9000"));
        assert_eq!(address(""), None);
    }
}
