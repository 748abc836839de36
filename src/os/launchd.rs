//! Listening sockets from launchd, the service manager of macOS: launch_activate_socket(3).
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The key below `Sockets` in our plists.
pub const LISTENERS: &CStr = c"Listeners";

unsafe extern "C" {
    /// libSystem. Stores an array made by malloc(3); returns an errno.
    fn launch_activate_socket(name: *const c_char, fds: *mut *mut c_int, count: *mut usize) -> c_int;
}

/// The descriptors that launchd holds under `name` in the job's `Sockets`; none if it did not start us,
/// or if the plist has no such name. They are given once.
///
/// # Errors
/// What launchd said, `EALREADY` if they have been taken.
pub fn sockets(name: &CStr) -> io::Result<Vec<OwnedFd>> {
    let mut array: *mut c_int = std::ptr::null_mut();
    let mut count = 0_usize;
    // SAFETY: `name` ends in NUL and both results are written to variables of ours.
    let errno = unsafe { launch_activate_socket(name.as_ptr(), &mut array, &mut count) };
    match errno {
        0 => {}
        // Not a job of launchd; or one without such sockets.
        libc::ESRCH | libc::ENOENT => return Ok(Vec::new()),
        errno => return Err(io::Error::from_raw_os_error(errno)),
    }
    let mut owned = Vec::new();
    if !array.is_null() {
        // SAFETY: on success `array` has `count` open descriptors, which are the caller's to own.
        let fds = unsafe { std::slice::from_raw_parts(array, count) };
        // SAFETY: as above; each is taken once.
        owned.extend(fds.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
        // SAFETY: launch_activate_socket(3) gives the array to the caller to free.
        unsafe { libc::free(array.cast()) };
    }
    for fd in &owned {
        // launchd does not close them on exec, and Codex must not inherit them.
        // SAFETY: sets a flag of a descriptor we own.
        if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(owned)
}
