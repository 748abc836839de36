//! Users of this machine: ours, those of a name, and which ids mean somebody. In a user namespace, as
//! `PrivateUsers=` of systemd.exec(5) and rootless containers make one, all users without a mapping
//! share one id, nobody's.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

/// The user this process acts as; sockets it makes belong to that user.
pub fn own_uid() -> u32 {
    // SAFETY: geteuid(2) takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}

/// Our namespace's map, and the id by which the kernel names those who are not in it; see
/// user_namespaces(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    mapped: Vec<Range<u64>>,
    overflow: u32,
}

/// All ids but the last, which means "none".
const ALL: u64 = u32::MAX as u64;

/// What the kernel is built with, and what everybody leaves it at.
const OVERFLOW: u32 = 65_534;

impl Users {
    /// Those of this process.
    pub fn ours() -> &'static Users {
        static OURS: OnceLock<Users> = OnceLock::new();
        OURS.get_or_init(|| {
            let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
            let overflow = overflow.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW);
            match std::fs::read_to_string("/proc/self/uid_map") {
                Ok(map) => Users::new(&map, overflow),
                // A kernel without user namespaces has no map, and neither have other systems.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Users::new("0 0 4294967295", overflow)
                }
                Err(_) => Users::new("", overflow),
            }
        })
    }

    /// Reads `/proc/PID/uid_map`. A line that cannot be read maps nobody.
    pub fn new(map: &str, overflow: u32) -> Users {
        let range = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let (inside, count) = (words.next()?.parse::<u64>().ok()?, words.nth(1)?.parse::<u64>().ok()?);
            Some(inside..inside.checked_add(count)?)
        };
        Users { mapped: map.lines().filter_map(range).collect(), overflow }
    }

    /// Whether that id is one user's and nobody else's.
    pub fn knows(&self, uid: u32) -> bool {
        let mapped = self.mapped.iter().any(|range| range.contains(&u64::from(uid)));
        // Where some are missing, they all have the overflow id, and share it with a user of that id.
        mapped && (uid != self.overflow || self.is_whole())
    }

    /// Whether no user is missing.
    pub fn is_whole(&self) -> bool {
        self.mapped.iter().map(|range| range.end - range.start).sum::<u64>() >= ALL
    }
}

/// The user that the kernel means by that id; `None` if it may be several.
pub fn known(uid: u32) -> Option<u32> {
    Users::ours().knows(uid).then_some(uid)
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

/// The name of the user with that id, if there is such a user.
///
/// Asks the system's user database, which may block.
///
/// # Errors
/// The database cannot be asked.
pub fn name_of(uid: u32) -> io::Result<Option<String>> {
    entry(
        |entry, buffer, length, found| {
            // SAFETY: every pointer is valid for the call and the length is the buffer's own.
            unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) }
        },
        |entry| {
            // SAFETY: an entry that was found has a name, a C string in the buffer, which still lives.
            unsafe { CStr::from_ptr(entry.pw_name) }.to_string_lossy().into_owned()
        },
    )
}

fn look_up(user: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(user) else { return Ok(None) };
    entry(
        |entry, buffer, length, found| {
            // SAFETY: every pointer is valid for the call and the length is the buffer's own.
            unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found) }
        },
        |entry| entry.pw_uid,
    )
}

/// What `read` takes from the entry that `ask`, one of getpwnam_r(3), finds.
fn entry<T>(
    ask: impl Fn(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int,
    read: impl FnOnce(&libc::passwd) -> T,
) -> io::Result<Option<T>> {
    let mut buffer: Vec<libc::c_char> = vec![0; 1024];
    loop {
        // SAFETY: passwd is plain data for which all zeroes is a valid value.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        match ask(&raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(read(&entry))),
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            libc::EINTR => {}
            // The manual lists these as further ways to say "no such user".
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_many_share_is_nobodys() {
        let check = |map: &str, known: &[u32], unknown: &[u32]| {
            let users = Users::new(map, OVERFLOW);
            let found = |ids: &[u32]| ids.iter().map(|uid| users.knows(*uid)).collect::<Vec<_>>();
            assert_eq!(found(known), vec![true; known.len()], "{map:?} knows {known:?}");
            assert_eq!(found(unknown), vec![false; unknown.len()], "{map:?} does not know {unknown:?}");
        };
        check("         0          0 4294967295\n", &[0, 1000, 65_534, u32::MAX - 1], &[u32::MAX]);
        // PrivateUsers=yes of the system's manager, and of a user's.
        check("0 0 1\n1000 1000 1\n", &[0, 1000], &[1, 999, 1001, 65_534]);
        check("1000 1000 1\n", &[1000], &[0, 65_534]);
        // The service's own user is nobody; a container has a nobody of its own, beside the unmapped.
        check("0 0 1\n65534 65534 1\n", &[0], &[65_534]);
        check("0 100000 65536\n", &[0, 65_533, 65_535], &[65_534, 65_536]);
        // Whole in two lines; nothing mapped at all; what cannot be read maps nobody.
        check("0 0 1000\n1000 1000 4294966295\n", &[65_534], &[]);
        check("", &[], &[0, 65_534]);
        check("x y z\n0 0\n", &[], &[0]);
        assert!(!Users::new("", 7).knows(7) && Users::new("0 0 4294967295", 7).knows(7));
    }

    #[test]
    fn ids_have_names() {
        assert_eq!(name_of(0).unwrap().as_deref(), Some("root"));
        assert_eq!(name_of(u32::MAX - 7).unwrap(), None);
    }

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
}
