//! Reading files that decide who may spend the quota: whose they are is checked on the open file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Far more than any settings file has, and little enough to hold in memory.
const LARGEST: u64 = 1 << 20;

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const OTHERS_READ: u32 = 0o044;

/// A file that only root or we could have written.
pub(super) struct Trusted {
    pub text: String,
    mode: u32,
}

impl Trusted {
    pub fn group_writable(&self) -> bool {
        self.mode & GROUP_WRITE != 0
    }

    /// Group or everybody may read it.
    pub fn readable_by_others(&self) -> bool {
        self.mode & OTHERS_READ != 0
    }

    /// The permission bits.
    pub fn mode(&self) -> u32 {
        self.mode & 0o7777
    }
}

/// Reads a file if it is there and nobody but root and `uid` can have written it.
///
/// # Errors
/// Why it cannot be read or must not be trusted; the path is not in it.
pub(super) fn read(path: &Path, uid: u32) -> Result<Option<Trusted>, String> {
    // Without O_NONBLOCK a named pipe would hang the start.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    // The open file, not the path: the path may name another file a moment later.
    let found = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !found.is_file() {
        return Err("is not a regular file".into());
    }
    trust(&found, path, uid)?;
    Ok(Some(Trusted { text: text(file)?, mode: found.mode() }))
}

fn trust(found: &Metadata, path: &Path, uid: u32) -> Result<(), String> {
    // Below /etc only root makes files, also where they do not show as root's.
    let roots = |owner| owner == 0 || (path.starts_with("/etc") && root_as_nobody() == Some(owner));
    if found.uid() != uid && !roots(found.uid()) {
        return Err(format!("belongs to uid {}, not to root or uid {uid}: refused", found.uid()));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err("can be written by everybody: refused (chmod o-w)".into());
    }
    Ok(())
}

/// As whom root's files show where root is nobody: in a user namespace without it, such as
/// `PrivateUsers=` of a user's unit. Other users' files show the same.
fn root_as_nobody() -> Option<u32> {
    let mapped = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let nobody = std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?;
    if maps_root(&mapped) { None } else { nobody.trim().parse().ok() }
}

/// Lines `INSIDE OUTSIDE COUNT`, see user_namespaces(7).
fn maps_root(uid_map: &str) -> bool {
    uid_map.lines().any(|line| line.split_whitespace().nth(1) == Some("0"))
}

fn text(file: File) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("is larger than {LARGEST} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}

/// The `*.toml` files of a drop-in folder in name order; none if there is no such folder.
///
/// # Errors
/// Why the folder cannot be read or must not be trusted; the path is not in it.
pub(super) fn drop_ins(folder: &Path, uid: u32) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot(error)),
    };
    trust(&std::fs::metadata(folder).map_err(cannot)?, folder, uid)?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(cannot)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The keys of a key file: one a line, `#` begins a comment.
///
/// # Errors
/// What is wrong, by line; never the text of a line.
pub(super) fn keys(text: &str) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = super::check::key(line).map_err(|must| format!("line {}: a key must be {must}", at + 1))?;
        keys.push(key);
    }
    if keys.is_empty() { Err("holds no key".into()) } else { Ok(keys) }
}

/// The directory as the disk has it, links resolved as far as it exists.
///
/// `None` if what does not exist is reached through `..`, whose meaning nobody knows yet.
pub(super) fn resolved(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            return Some(missing.iter().rev().fold(real, |path, part| path.join(part)));
        }
        missing.push(ancestor.file_name()?.to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_files_of_root_or_ours_that_others_cannot_write_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        assert!(read(&path, 0).unwrap().is_none());
        std::fs::write(&path, "x").unwrap();
        let uid = path.metadata().unwrap().uid();
        for (bits, group, others) in
            [(0o600, false, false), (0o640, false, true), (0o604, false, true), (0o660, true, true)]
        {
            mode(&path, bits);
            let file = read(&path, uid).unwrap().unwrap();
            assert_eq!((file.group_writable(), file.readable_by_others()), (group, others), "{bits:o}");
        }
        mode(&path, 0o602);
        assert!(read(&path, uid).err().unwrap().contains("written by everybody"));
        mode(&path, 0o600);
        if uid != 0 {
            assert!(read(&path, uid + 1).err().unwrap().contains("belongs to uid"));
        } else {
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
            assert!(read(&path, 0).err().unwrap().contains("belongs to uid 12345"));
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
            assert!(read(&path, 12345).is_ok());
        }
        assert_eq!(read(dir.path(), uid).err().unwrap(), "is not a regular file");
    }

    #[test]
    fn sizes_and_encodings_at_their_edge() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, vec![b' '; LARGEST as usize]).unwrap();
        let uid = path.metadata().unwrap().uid();
        assert!(read(&path, uid).is_ok());
        std::fs::write(&path, vec![b' '; LARGEST as usize + 1]).unwrap();
        assert!(read(&path, uid).err().unwrap().contains("larger than"));
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read(&path, uid).err().unwrap(), "is not UTF-8 text");
    }

    #[test]
    fn drop_ins_come_in_name_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["20-b.toml", "10-a.toml", ".hidden.toml", "30-c.toml~", "README"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let uid = dir.path().metadata().unwrap().uid();
        let expect = vec![dir.path().join("10-a.toml"), dir.path().join("20-b.toml")];
        assert_eq!(drop_ins(dir.path(), uid), Ok(expect));
        assert_eq!(drop_ins(&dir.path().join("none"), uid), Ok(vec![]));
        mode(dir.path(), 0o707);
        assert!(drop_ins(dir.path(), uid).err().unwrap().contains("written by everybody"));
    }

    #[test]
    fn key_files() {
        assert_eq!(keys("# mine\n one \n\ntwo\n"), Ok(vec!["one".into(), "two".into()]));
        assert_eq!(keys("# none\n\n"), Err("holds no key".into()));
        assert_eq!(keys(""), Err("holds no key".into()));
        assert!(keys("ok\nnot ok").unwrap_err().starts_with("line 2: "));
    }

    #[test]
    fn paths_resolve_as_far_as_they_exist() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        assert_eq!(resolved(&dir.path().join("link/new/deep")), Some(real.join("new/deep")));
        assert_eq!(resolved(&dir.path().join("new/../deep")), None);
    }

    #[test]
    fn a_user_namespace_may_lack_root() {
        for (uid_map, expect) in [
            ("         0          0 4294967295\n", true),
            ("      1001       1001          1\n", false),
            ("         0       1000          1\n         1     100000      65536\n", false),
            ("      1001       1001          1\n         0          0          1\n", true),
        ] {
            assert_eq!(maps_root(uid_map), expect, "{uid_map}");
        }
    }
}
