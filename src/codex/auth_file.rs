//! The file of Codex's login, seen from outside: whether it is still the one that a process began
//! with. It is never read.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file as it was: where it lies, and when it was last written.
pub(super) type Stamp = (u64, u64, i64, i64);

/// Blocking.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let meta = path.metadata().ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

/// An `auth.json` as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthFile {
    path: PathBuf,
    was: Option<Stamp>,
    /// It has an API key. Any other login Codex itself writes anew when it renews it.
    has_key: bool,
}

impl AuthFile {
    /// That of a `CODEX_HOME`, as it is now. Blocking.
    pub fn look(home: &Path) -> AuthFile {
        let path = home.join("auth.json");
        AuthFile { was: stamp(&path), path, has_key: false }
    }

    /// The same, with an API key in it or not.
    pub fn of_key(self, has_key: bool) -> AuthFile {
        AuthFile { has_key, ..self }
    }

    /// Whether it has an API key.
    pub fn has_key(&self) -> bool {
        self.has_key
    }

    /// Whether it was removed, or what is in it replaced by somebody. Blocking.
    pub fn has_changed(&self) -> bool {
        match (self.was, stamp(&self.path)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(was), Some(is)) => self.has_key && was != is,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_codex_renews_is_the_same_and_a_key_that_changes_is_not() {
        let home = tempfile::tempdir().unwrap();
        let none = AuthFile::look(home.path());
        let file = home.path().join("auth.json");
        std::fs::write(&file, "one").unwrap();
        let session = AuthFile::look(home.path());
        let key = session.clone().of_key(true);
        for file in [&none, &session, &key] {
            assert!(!file.has_changed(), "{file:?}");
        }
        std::fs::rename(&file, home.path().join("old")).unwrap();
        std::fs::write(&file, "two").unwrap();
        assert_eq!([&none, &session, &key].map(AuthFile::has_changed), [false, false, true]);
        std::fs::remove_file(&file).unwrap();
        assert_eq!([&none, &session, &key].map(AuthFile::has_changed), [false, true, true]);
    }
}
