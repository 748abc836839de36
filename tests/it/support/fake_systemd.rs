//! A service manager of sorts: `systemctl`, `journalctl` and `loginctl` as scripts that start the
//! program the unit file names, and write down how they were called.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::Setup;

const SYSTEMCTL: &str = r#"#!/bin/sh
D=$FAKE_SYSTEMD
echo "$*" >>"$D/calls"
unit=$XDG_CONFIG_HOME/systemd/user/codex-api-proxy.service
alive() { [ -s "$D/pid" ] && kill -0 "$(cat "$D/pid")" 2>/dev/null; }
stop() {
    alive && kill -TERM "$(cat "$D/pid")"
    while alive; do sleep 0.01; done
    rm -f "$D/pid"
}
start() {
    if [ -e "$D/refuses" ]; then
        echo 'Job for codex-api-proxy.service failed.' >&2
        exit 1
    fi
    program=$(sed -n 's/^ExecStart=//p' "$unit")
    : >"$D/log"
    # shellcheck disable=SC2046,SC2086
    env -i $(cat "$D/environment") setsid $program >>"$D/log" 2>&1 </dev/null &
    echo $! >"$D/pid"
    until grep -q 'listening on' "$D/log"; do
        alive || exit 1
        sleep 0.01
    done
}
[ "$1" = --user ] && shift
case $1 in
show-environment) cat "$D/environment" ;;
show)
    if alive; then
        printf 'LoadState=loaded\nActiveState=active\nMainPID=%s\n' "$(cat "$D/pid")"
        printf 'ActiveEnterTimestamp=Sun 2026-11-22 12:00:00 UTC\nFragmentPath=%s\n' "$unit"
    elif [ -e "$D/state" ]; then
        cat "$D/state"
    elif [ -e "$unit" ]; then
        printf 'LoadState=loaded\nActiveState=inactive\nFragmentPath=%s\n' "$unit"
    else
        printf 'LoadState=not-found\nActiveState=inactive\n'
    fi
    echo
    cat "$D/socket" 2>/dev/null || echo LoadState=not-found
    ;;
start) case "$*" in *.service*) start ;; esac ;;
restart) stop; start ;;
stop) stop ;;
daemon-reload | disable | reset-failed) ;;
*) echo "Unknown command verb $1." >&2; exit 1 ;;
esac
"#;

const JOURNALCTL: &str =
    "#!/bin/sh\necho \"journalctl $*\" >>\"$FAKE_SYSTEMD/calls\"\ntail -n 15 \"$FAKE_SYSTEMD/log\"\n";

const LOGINCTL: &str = "#!/bin/sh\necho \"loginctl $*\" >>\"$FAKE_SYSTEMD/calls\"\necho Linger=no\n";

/// One such manager. Dropping it ends what it started.
pub struct FakeSystemd {
    folder: PathBuf,
}

impl FakeSystemd {
    /// Puts it before everything else on the PATH of the program under test.
    pub fn install(setup: Setup) -> (Setup, FakeSystemd) {
        let folder = setup.scratch().dir("manager");
        for (name, text) in [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL), ("loginctl", LOGINCTL)] {
            let path = setup.scratch().write(&format!("manager/{name}"), text);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("make it run");
        }
        let path = std::env::var("PATH").expect("PATH is set");
        let environment = format!(
            "HOME={}\nXDG_CONFIG_HOME={}\nPATH=/usr/bin:/bin\n",
            setup.scratch().dir("home").display(),
            setup.scratch().dir("config").display()
        );
        setup.scratch().write("manager/environment", &environment);
        let shown = folder.display().to_string();
        let setup = setup.env("PATH", &format!("{shown}:{path}")).env("FAKE_SYSTEMD", &shown);
        (setup, FakeSystemd { folder })
    }

    /// Has it answer so: `refuses`, `state` (of the service when it does not run) or `socket`.
    pub fn set(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).expect("write a file");
    }

    /// How its programs were called, one line each; nothing that only asks.
    pub fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        let asks =
            |line: &str| ["--user show", "loginctl", "journalctl"].iter().any(|ask| line.starts_with(ask));
        text.lines().filter(|line| !asks(line)).map(str::to_owned).collect()
    }

    /// How they were called, all of it.
    pub fn all_calls(&self) -> String {
        std::fs::read_to_string(self.folder.join("calls")).unwrap_or_default()
    }

    fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.folder.join("pid")).ok()?.trim().parse().ok()
    }

    /// Whether what it started still runs; a zombie does not.
    pub fn runs(&self) -> bool {
        let command = |pid: u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        self.pid().is_some_and(|pid| !command(pid).is_empty())
    }
}

impl Drop for FakeSystemd {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            super::proxy::signal("TERM", pid);
            super::wait::until("what the service manager started has ended", || !self.runs());
        }
    }
}
