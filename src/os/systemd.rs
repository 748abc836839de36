//! What the service manager is told, by sd_notify(3), and what it made of this process. Without one,
//! all of this does nothing.

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

/// The unit that this process belongs to, if a user's own manager started it.
pub fn user_unit() -> Option<String> {
    user_unit_of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// From `/proc/PID/cgroup`, see cgroups(7): `0::/user.slice/user-1000.slice/user@1000.service/…/NAME.service`.
fn user_unit_of(cgroups: &str) -> Option<String> {
    let paths = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        // The one hierarchy, or the one that systemd keeps beside those of the first version.
        matches!(parts.next()?, "" | "name=systemd").then(|| parts.next())?
    });
    let units = paths.filter_map(|path| {
        let (_, below) = path.split_once("/user@")?;
        below.split('/').skip(1).find(|name| name.ends_with(".service"))
    });
    units.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_unit_is_told_by_its_control_group() {
        let ours = "/user.slice/user-1000.slice/user@1000.service/app.slice/codex-api-proxy.service";
        for (cgroups, expect) in [
            (format!("0::{ours}\n"), Some("codex-api-proxy.service")),
            (format!("12:pids:/x\n1:name=systemd:{ours}\n0::/\n"), Some("codex-api-proxy.service")),
            (format!("0::{ours}/below\n"), Some("codex-api-proxy.service")),
            ("0::/system.slice/system-codex\\x2dapi.slice/codex-api-proxy@me.service\n".into(), None),
            ("0::/user.slice/user-1000.slice/session-2.scope\n".into(), None),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(user_unit_of(&cgroups).as_deref(), expect, "{cgroups}");
        }
    }
}
