//! How many descriptors this process and its children may have: getrlimit(2), RLIMIT_NOFILE.
#![allow(unsafe_code)]

use std::io;
use std::sync::OnceLock;

/// The limits as they were before [`raise`]: what children get back.
static BEFORE: OnceLock<libc::rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one, for this process only: children of
/// [`spawn`](super::spawn) get the old one back, as programs that use select(2) need it.
///
/// # Errors
/// What getrlimit or setrlimit said; the limit is then as before.
pub fn raise() -> io::Result<()> {
    let before = limits()?;
    // macOS refuses more than its OPEN_MAX, whatever the hard limit says.
    let most = if cfg!(target_os = "macos") { before.rlim_max.min(10_240) } else { before.rlim_max };
    let raised = most.max(before.rlim_cur);
    if raised == before.rlim_cur {
        return Ok(());
    }
    let wanted = libc::rlimit { rlim_cur: raised, rlim_max: before.rlim_max };
    // SAFETY: setrlimit(2) reads a structure of ours.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } != 0 {
        return Err(io::Error::last_os_error());
    }
    BEFORE.get_or_init(|| before);
    Ok(())
}

/// How many descriptors this process may have.
///
/// # Errors
/// What getrlimit said.
pub fn limit() -> io::Result<usize> {
    Ok(usize::try_from(limits()?.rlim_cur).unwrap_or(usize::MAX))
}

/// What a child is to be given, if that is not what this process has.
pub(super) fn of_children() -> Option<libc::rlimit> {
    BEFORE.get().copied()
}

fn limits() -> io::Result<libc::rlimit> {
    let mut found = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) writes to a structure of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut found) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(found)
}
