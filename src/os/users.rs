//! Which user ids mean somebody: in a user namespace, as `PrivateUsers=` of systemd.exec(5) and
//! rootless containers make one, all users without a mapping share one id, nobody's.

use std::ops::Range;
use std::sync::OnceLock;

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
}
