//! Names the machine gives: its users and itself.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;

/// The user this process acts as; sockets it makes belong to that user.
pub fn own_uid() -> u32 {
    // SAFETY: geteuid(2) takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}

/// This host's name as gethostname(2) gives it, lower case; empty if it has none.
pub fn host_name() -> String {
    // POSIX: at most 255 bytes; the last byte stays 0 even if the name was cut.
    let mut name = [0u8; 257];
    // SAFETY: the pointer is valid for the length given, one less than the array.
    let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0;
    match CStr::from_bytes_until_nul(&name) {
        Ok(text) if !failed => text.to_string_lossy().to_ascii_lowercase(),
        _ => String::new(),
    }
}

/// The user ids of these users, given by name or number.
///
/// Asks the system's user database, which may block: call it when settings are loaded.
///
/// # Errors
/// The first user that does not exist or cannot be looked up, as a sentence.
pub fn resolve_users(users: &[String]) -> Result<Vec<u32>, String> {
    users.iter().map(|user| resolve_user(user)).collect()
}

fn resolve_user(user: &str) -> Result<u32, String> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match look_up(user) {
        Ok(Some(uid)) => Ok(uid),
        Ok(None) => Err(format!("allowed_users: there is no user `{user}` on this machine")),
        Err(error) => Err(format!("allowed_users: cannot look up user `{user}`: {error}")),
    }
}

fn look_up(user: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(user) else { return Ok(None) };
    let mut buffer: Vec<libc::c_char> = vec![0; 1024];
    loop {
        // SAFETY: passwd is plain data for which all zeroes is a valid value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is valid for the call and the length is the buffer's own.
        let error = unsafe {
            libc::getpwnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found)
        };
        match error {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(entry.pw_uid)),
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            libc::EINTR => {}
            // getpwnam_r(3) lists these as further ways to say "no such user".
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_resolve_by_name_and_number() {
        let check = |users: &[&str], expect: Result<Vec<u32>, &str>| {
            let users: Vec<String> = users.iter().map(|user| user.to_string()).collect();
            assert_eq!(resolve_users(&users), expect.map_err(str::to_owned), "{users:?}");
        };
        check(&[], Ok(vec![]));
        check(&["root", "1234"], Ok(vec![0, 1234]));
        check(&["4294967295"], Ok(vec![u32::MAX]));
        check(
            &["root", "no-such-user-here"],
            Err("allowed_users: there is no user `no-such-user-here` on this machine"),
        );
        check(&["a\0b"], Err("allowed_users: there is no user `a\0b` on this machine"));
    }

    #[test]
    fn the_host_has_a_name() {
        let name = host_name();
        assert!(!name.is_empty() && !name.contains('\0') && name == name.to_ascii_lowercase(), "{name:?}");
    }
}
