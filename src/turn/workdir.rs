//! Working directories a client may ask for: inside an allowed root, after resolving links.

use std::io;
use std::os::fd::OwnedFd;
#[cfg(target_os = "linux")]
use std::path::Component;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(target_os = "linux")]
use rustix::fs::openat;
use rustix::fs::{Mode, OFlags, open};

use super::{At, Failure};

/// A directory that lies inside an allowed root. Nothing else makes one.
///
/// It is held open from the moment it was checked: what its name leads to by the time the turn has
/// its slot may be another directory, which nobody checked.
#[derive(Clone, Debug)]
pub struct Workdir {
    path: PathBuf,
    held: Option<Arc<OwnedFd>>,
    /// Whether the client named it.
    asked: bool,
}

impl Workdir {
    /// Checks `asked` (or `default` if the client did not ask) against `roots`.
    ///
    /// Blocking: resolves links on disk. Call it off the runtime.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] at [`At::Workdir`] for what the client asked;
    /// [`Failure::Internal`] if the configured default itself is unusable.
    pub fn resolve(asked: Option<&str>, default: &Path, roots: &[PathBuf]) -> Result<Workdir, Failure> {
        let Some(asked) = asked else {
            let held = default.canonicalize().and_then(|path| Workdir::hold(path, false));
            return held.map_err(|error| Failure::Internal {
                detail: format!("default_cwd {}: {error}", default.display()),
            });
        };
        let bad = |why: &str| Failure::bad(At::Workdir, format!("{{at}} {why}."));
        if asked.is_empty() {
            return Err(bad("must not be empty"));
        }
        if asked.contains('\0') {
            return Err(bad("must not contain a NUL character"));
        }
        let path = match asked.strip_prefix('~') {
            _ if Path::new(asked).is_absolute() => PathBuf::from(asked),
            // A relative path is taken from the default directory, the only place the client knows.
            None => default.join(asked),
            Some(_) => {
                return Err(bad("must be an absolute path, or relative to the default working directory"));
            }
        };
        // One message for "outside" and "not there outside", so that nobody can probe the disk.
        let outside = || bad("must be an existing directory inside an allowed root (setting allowed_roots)");
        let real = path.canonicalize().map_err(|_| outside())?;
        // Roots are resolved at each request: they may be links, and may change under us.
        let inside =
            roots.iter().filter_map(|root| root.canonicalize().ok()).any(|root| real.starts_with(root));
        if !inside {
            return Err(outside());
        }
        Workdir::hold(real, true).map_err(|error| match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Failure::Internal {
                detail: format!("the working directory asked for cannot be opened: {error}"),
            },
            _ => outside(),
        })
    }

    /// Opens a directory whose path is free of links, and was when it was checked.
    fn hold(path: PathBuf, asked: bool) -> io::Result<Workdir> {
        let held = Some(Arc::new(open_without_links(&path)?));
        Ok(Workdir { path, held, asked })
    }

    /// The configured default as it stands, for a turn that never looks at its directory. Free of any
    /// look at the disk; that it lies inside the roots is a rule of the settings.
    pub fn unseen(default: &Path) -> Workdir {
        Workdir { path: default.to_path_buf(), held: None, asked: false }
    }

    /// The directory: absolute, and free of links unless it is [`Workdir::unseen`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself, to be entered whatever its name leads to by now; `None` if it is
    /// [`Workdir::unseen`].
    pub fn held(&self) -> Option<Arc<OwnedFd>> {
        self.held.clone()
    }

    /// Sees that the directory has not been removed since it was checked.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] at [`At::Workdir`], or [`Failure::Internal`] for the default.
    pub fn exists(&self) -> Result<(), Failure> {
        let Some(held) = &self.held else { return Ok(()) };
        let links = rustix::fs::fstat(held).map(|stat| stat.st_nlink);
        if links.is_ok_and(|links| links > 0) { Ok(()) } else { Err(self.gone("removed")) }
    }

    /// Sees that the path still leads to the directory that was checked, for a Codex that is given
    /// the path. What it leads to a moment later nobody knows: whoever can swap directories inside
    /// an allowed root while a turn runs there can still have it read another one.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] at [`At::Workdir`] if it leads elsewhere or nowhere, or
    /// [`Failure::Internal`] for the default.
    pub async fn is_still_there(&self) -> Result<(), Failure> {
        let Some(held) = self.held.clone() else { return Ok(()) };
        let path = self.path.clone();
        let same = tokio::task::spawn_blocking(move || {
            // Link by link, as when it was checked: one that leads to the same place now may lead
            // to another when it is followed next.
            let now = open_without_links(&path).and_then(|now| Ok(rustix::fs::fstat(now)?));
            let then = rustix::fs::fstat(&*held);
            matches!((now, then), (Ok(now), Ok(then)) if now.st_dev == then.st_dev && now.st_ino == then.st_ino)
        });
        if same.await.unwrap_or(false) { Ok(()) } else { Err(self.gone("moved or replaced")) }
    }

    fn gone(&self, how: &str) -> Failure {
        if self.asked {
            return Failure::bad(At::Workdir, format!("{{at}} was {how} while the request waited."));
        }
        let path = self.path.display();
        Failure::Internal { detail: format!("default_cwd {path} was {how} while a request waited") }
    }
}

/// Opens a directory by a path that must not have a link in it.
#[cfg(target_os = "linux")]
fn open_without_links(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = open("/", flags, Mode::empty())?;
    for part in path.components() {
        if let Component::Normal(name) = part {
            directory = openat(&directory, name, flags, Mode::empty())?;
        }
    }
    Ok(directory)
}

/// Opens a directory by a path that must not have a link in it: open(2) of macOS sees to that.
#[cfg(not(target_os = "linux"))]
fn open_without_links(path: &Path) -> io::Result<OwnedFd> {
    let no_links = OFlags::from_bits_retain(libc::O_NOFOLLOW_ANY.cast_unsigned());
    Ok(open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | no_links, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_checked_is_what_is_held() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().canonicalize().unwrap();
        let (inside, moved) = (root.join("a/b"), root.join("c"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(root.join("outside")).unwrap();
        let asked = inside.to_str();
        let dir = Workdir::resolve(asked, &root, std::slice::from_ref(&root)).unwrap();
        assert_eq!((dir.exists(), dir.is_still_there().await), (Ok(()), Ok(())));
        let is_bad = |result: Result<(), Failure>, how: &str| {
            let message = format!("{{at}} was {how} while the request waited.");
            assert_eq!(result, Err(Failure::bad(At::Workdir, message)));
        };
        // Moved; replaced by another; by a link to itself; above it, by a link to itself; back again.
        std::fs::rename(&inside, &moved).unwrap();
        is_bad(dir.is_still_there().await, "moved or replaced");
        std::fs::create_dir(&inside).unwrap();
        is_bad(dir.is_still_there().await, "moved or replaced");
        std::fs::remove_dir(&inside).unwrap();
        std::os::unix::fs::symlink(&moved, &inside).unwrap();
        is_bad(dir.is_still_there().await, "moved or replaced");
        std::fs::remove_file(&inside).unwrap();
        std::fs::rename(&moved, &inside).unwrap();
        std::fs::rename(root.join("a"), root.join("z")).unwrap();
        std::os::unix::fs::symlink("z", root.join("a")).unwrap();
        is_bad(dir.is_still_there().await, "moved or replaced");
        assert_eq!(dir.exists(), Ok(()));
        std::fs::remove_file(root.join("a")).unwrap();
        std::fs::rename(root.join("z"), root.join("a")).unwrap();
        assert_eq!(dir.is_still_there().await, Ok(()));
        std::fs::remove_dir(&inside).unwrap();
        is_bad(dir.exists(), "removed");
        let unseen = Workdir::unseen(Path::new("/nowhere"));
        assert_eq!((unseen.exists(), unseen.is_still_there().await), (Ok(()), Ok(())));
    }

    #[test]
    fn only_directories_inside_a_root_pass() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let root = base.join("work");
        for dir in ["work/sub", "work-sibling", "elsewhere"] {
            std::fs::create_dir_all(base.join(dir)).unwrap();
        }
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink(base.join("elsewhere"), root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("sub"), base.join("elsewhere/in")).unwrap();
        let roots = [root.clone()];
        let ask = |asked: &str| Workdir::resolve(Some(asked), &root, &roots).map(|dir| dir.path);

        let text = |path: &Path| path.to_str().unwrap().to_owned();
        assert_eq!(ask(&text(&root)), Ok(root.clone()));
        assert_eq!(ask(&text(&root.join("sub"))), Ok(root.join("sub")));
        assert_eq!(ask("sub"), Ok(root.join("sub")));
        assert_eq!(ask(&text(&base.join("elsewhere/in"))), Ok(root.join("sub")));
        assert_eq!(Workdir::resolve(None, &root, &roots).map(|dir| dir.path), Ok(root.clone()));
        for asked in [
            text(&root.join("sub/../..")),
            text(&base.join("work-sibling")),
            text(&root.join("out")),
            text(&root.join("file")),
            text(&root.join("missing")),
            "../elsewhere".into(),
            "/".into(),
            "~".into(),
            "~root".into(),
            "".into(),
            "a\0b".into(),
        ] {
            assert!(
                matches!(ask(&asked), Err(Failure::BadRequest { at: Some(At::Workdir), .. })),
                "{asked:?}"
            );
        }
    }
}
