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

    /// What is about to be written, as private as it will be.
    pub fn draft(text: &str) -> Trusted {
        Trusted { text: text.to_owned(), mode: 0o600 }
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
    trust(path, &found, uid)?;
    Ok(Some(Trusted { text: text(file)?, mode: found.mode() }))
}

fn trust(path: &Path, found: &Metadata, uid: u32) -> Result<(), String> {
    if found.uid() != 0 && found.uid() != uid && !is_hidden_roots(path, found.uid()) {
        return Err(format!("belongs to uid {}, not to root or uid {uid}: refused", found.uid()));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err("can be written by everybody: refused (chmod o-w)".into());
    }
    Ok(())
}

/// Whether a file that seems to belong to `owner` is root's all the same. In a user namespace, as
/// `PrivateUsers=` of systemd.exec(5) makes one, everybody but us is nobody, root too. What lies in
/// `/etc` is root's even so, if `/etc` itself seems to be nobody's: no one else can put it there.
fn is_hidden_roots(path: &Path, owner: u32) -> bool {
    let etc = Path::new("/etc");
    let nobodys = |etc: Metadata| seems_roots(owner, etc.uid(), etc.mode());
    path.canonicalize().is_ok_and(|path| path.starts_with(etc)) && std::fs::metadata(etc).is_ok_and(nobodys)
}

/// Whether who seems to own both a file below `/etc` and `/etc` must be root.
fn seems_roots(owner: u32, etc: u32, mode: u32) -> bool {
    owner == etc && etc != 0 && mode & (GROUP_WRITE | OTHERS_WRITE) == 0
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
    trust(folder, &std::fs::metadata(folder).map_err(cannot)?, uid)?;
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
    fn where_root_is_nobody_etc_is_roots_all_the_same() {
        for (owner, etc, mode, expect) in [
            (65534, 65534, 0o755, true),
            // Root is known, so nobody is nobody.
            (65534, 0, 0o755, false),
            (1000, 65534, 0o755, false),
            (65534, 65534, 0o775, false),
            (65534, 65534, 0o757, false),
        ] {
            assert_eq!(seems_roots(owner, etc, mode), expect, "{owner} {etc} {mode:o}");
        }
        assert!(!is_hidden_roots(Path::new("/etc/hostname"), 65534), "the tests run where root is known");
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
    fn paths_resolve_as_far_as_they_exist() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        assert_eq!(resolved(&dir.path().join("link/new/deep")), Some(real.join("new/deep")));
        assert_eq!(resolved(&dir.path().join("new/../deep")), None);
    }
}
