//! What the service manager is told, by sd_notify(3). Without one, all of this does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager our state");
    }
}

/// Whether somebody listens at all: systemd sets `$NOTIFY_SOCKET`.
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Start-up is over, or a reload.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for people: `Status:` of `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

const LISTENING: &str = "listening on ";

/// The last part of a status line: where the service listens, as URLs.
pub fn listening(urls: &[String]) -> String {
    format!("{LISTENING}{}", urls.join(", "))
}

/// The URLs that [`listening`] put into a status line; none if it says nothing of it.
pub fn listening_in(status: &str) -> impl Iterator<Item = &str> {
    let told = match status.rfind(LISTENING) {
        Some(at) if at == 0 || status[..at].ends_with("; ") => &status[at + LISTENING.len()..],
        _ => "",
    };
    told.split(", ").filter(|url| !url.is_empty())
}

/// The settings are being loaded again; [`ready`] ends it.
pub fn reloading() {
    // systemd 253 and newer wants the time too; older ones ignore it.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// No new requests are taken.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Starting or stopping takes that much longer from now on, `TimeoutStopSec=` notwithstanding.
/// To be said again before the time is over.
pub fn extend(by: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// Within which time [`alive`] is expected again and again: `WatchdogSec=`, sd_watchdog_enabled(3).
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// Nothing hangs.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The unit that a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// As `codex-api-proxy.service`.
    pub name: String,
    /// Whether a user's own manager started it.
    pub of_user: bool,
}

impl Unit {
    /// The command that shows what it logged.
    pub fn journalctl(&self) -> String {
        format!("journalctl {}-u {}", if self.of_user { "--user " } else { "" }, self.name)
    }
}

/// The unit that this process belongs to, if it is one's.
pub fn unit() -> Option<Unit> {
    unit_of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The unit that another process belongs to, if it is one's and the system tells.
pub fn unit_of_process(pid: u32) -> Option<Unit> {
    unit_of(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// From `/proc/PID/cgroup`, see cgroups(7): `0::/system.slice/NAME.service`, or below `…/user@1000.service/`.
fn unit_of(cgroups: &str) -> Option<Unit> {
    let paths = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        // The one hierarchy, or the one that systemd keeps beside those of the first version.
        matches!(parts.next()?, "" | "name=systemd").then(|| parts.next())?
    });
    let mut units = paths.filter_map(|path| {
        let (of_user, below) = match path.split_once("/user@") {
            Some((_, below)) => (true, below.split_once('/')?.1),
            None => (false, path),
        };
        let name = below.split('/').find(|name| name.ends_with(".service"))?;
        Some(Unit { name: name.to_owned(), of_user })
    });
    units.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_unit() {
        let unit = |name: &str, of_user| Some(Unit { name: name.into(), of_user });
        let ours = "/user.slice/user-1000.slice/user@1000.service/app.slice/codex-api-proxy.service";
        for (cgroups, expect) in [
            (format!("0::{ours}\n"), unit("codex-api-proxy.service", true)),
            (format!("12:pids:/x\n1:name=systemd:{ours}\n0::/\n"), unit("codex-api-proxy.service", true)),
            ("0::/system.slice/system-a.slice/a@me.service/below\n".into(), unit("a@me.service", false)),
            ("0::/user.slice/user-1000.slice/session-2.scope\n".into(), None),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(unit_of(&cgroups), expect, "{cgroups}");
        }
    }

    #[test]
    fn a_status_line_tells_where_the_service_listens() {
        let urls = ["http://127.0.0.1:1".to_owned(), "unix:/a;b".to_owned()];
        let line = format!("ready; listening on nothing else; {}", listening(&urls));
        assert_eq!(listening_in(&line).collect::<Vec<_>>(), urls);
        for none in ["", "ready", "not ready: not listening on x", "misconfigured, listening on x"] {
            assert_eq!(listening_in(none).count(), 0, "{none}");
        }
    }
}
