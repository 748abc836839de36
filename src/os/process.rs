//! What the kernel offers for child processes: groups, parent-death signals, exit watching.

use std::io;

/// Sets the umask so that nothing the program or Codex creates is readable by other users.
pub fn private_umask() {
    #[allow(unsafe_code)]
    // SAFETY: umask(2) takes any mode and cannot fail; called before other threads create files.
    unsafe {
        libc::umask(0o077);
    }
}

/// This process's real user id.
pub fn uid() -> u32 {
    #[allow(unsafe_code)]
    // SAFETY: getuid(2) has no preconditions and cannot fail.
    unsafe {
        libc::getuid()
    }
}

/// Makes the command's child lead its own process group and, on Linux, die with this process.
///
/// Must be spawned from a thread that lives as long as the process: the parent-death signal of
/// prctl(2) fires when the *thread* that forked ends.
pub fn lead_group_and_die_with_parent(command: &mut tokio::process::Command) {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        #[allow(unsafe_code)]
        // SAFETY: the closure runs between fork and exec and calls only async-signal-safe
        // functions (prctl, getppid, _exit); it allocates nothing.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before the signal was armed.
                if libc::getppid() as u32 != parent {
                    libc::_exit(1);
                }
                Ok(())
            });
        }
    }
}

/// A signal for a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Terminate,
    /// End now.
    Kill,
}

/// Signals the group led by `leader`, which must not have been reaped yet (its id could be
/// somebody else's by then). A group that is gone already is fine.
pub fn signal_group(leader: u32, signal: Signal) {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    };
    let Ok(group) = libc::pid_t::try_from(leader) else { return };
    if group > 1 {
        #[allow(unsafe_code)]
        // SAFETY: kill(2) on a group has no memory effects; the caller holds the leader unreaped.
        unsafe {
            libc::kill(-group, number);
        }
    }
}

/// Resolves when the process has ended but is not reaped yet, so that its group can still be
/// named. Where the kernel cannot tell (no pidfd), it never resolves.
pub struct ExitWatch {
    #[cfg(target_os = "linux")]
    pidfd: Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
}

impl ExitWatch {
    /// Watches `pid`, a child of ours that is not reaped yet.
    pub fn new(pid: u32) -> ExitWatch {
        #[cfg(target_os = "linux")]
        {
            ExitWatch { pidfd: open_pidfd(pid).ok() }
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = pid;
            ExitWatch {}
        }
    }

    /// Whether [`ExitWatch::ended`] can ever resolve.
    pub fn can_tell(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            self.pidfd.is_some()
        }
        #[cfg(not(target_os = "linux"))]
        {
            false
        }
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        #[cfg(target_os = "linux")]
        if let Some(pidfd) = &self.pidfd
            && pidfd.readable().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(target_os = "linux")]
fn open_pidfd(pid: u32) -> io::Result<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    use std::os::fd::{FromRawFd, OwnedFd, RawFd};
    #[allow(unsafe_code)]
    // SAFETY: pidfd_open(2) takes a pid and flags and returns a new descriptor or -1.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is fresh, valid and owned by nobody else.
    let owned = unsafe { OwnedFd::from_raw_fd(raw as RawFd) };
    #[allow(unsafe_code)]
    // SAFETY: an `OwnedFd` names one open descriptor until it is dropped.
    let registered =
        unsafe { tokio::io::unix::AsyncFd::register_with_interest(owned, tokio::io::Interest::READABLE) };
    Ok(registered?)
}
/// The resident memory of a process in bytes, where `/proc` tells (Linux; see proc_pid_statm(5)).
///
/// Reads a file that is never on a disk, so it may be called on the runtime.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: sysconf(3) reads a constant.
    #[allow(unsafe_code)]
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(page).ok().map(|page| pages * page)
}
