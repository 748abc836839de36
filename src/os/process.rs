//! This process and the groups of its children.

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Sets the umask so that nothing the program or Codex creates is readable by other users.
pub fn private_umask() {
    #[allow(unsafe_code)]
    // SAFETY: umask(2) takes any mode and cannot fail; called before other threads create files.
    unsafe {
        libc::umask(0o077);
    }
}

/// Sees that the memory of this process, which holds prompts, answers and keys, is written to no core
/// file and (Linux) can be read by no other process of this user: see PR_SET_DUMPABLE in prctl(2).
///
/// Children may not dump core either; else they are as any process, for exec undoes the rest. Who is
/// not root no longer finds our open files and environment in `/proc`.
///
/// # Errors
/// What setrlimit or prctl said.
pub fn keep_memory_private() -> std::io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: setrlimit(2) reads a structure of ours.
    #[allow(unsafe_code)]
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    if limited != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // The limit does not keep programs from seeing a dump that the kernel pipes to them.
    #[cfg(target_os = "linux")]
    {
        // SAFETY: this prctl(2) takes a number and has no memory effects.
        #[allow(unsafe_code)]
        let hidden = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        if hidden != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Whether this process may make entries in that folder, as access(2) judges it.
pub fn may_write(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path ends in NUL and outlives the call.
    #[allow(unsafe_code)]
    let refused = unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) };
    refused == 0
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

/// How many bytes of what was written to a pipe nobody has read yet, told by either end of it
/// (Linux: pipe(7), `FIONREAD`). `None` where that is not known.
pub fn unread(pipe: BorrowedFd<'_>) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open while borrowed, and FIONREAD writes one int.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut bytes) };
        u64::try_from(bytes).ok().filter(|_| result == 0)
    }
    #[cfg(not(target_os = "linux"))]
    {
        // Elsewhere the writing end may tell of another buffer.
        let _ = pipe;
        None
    }
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
