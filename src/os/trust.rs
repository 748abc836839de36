//! Who else could change what a path leads to: every component is looked at, none is taken on trust.
//!
//! The walk goes from the root down. What lies in a folder that nobody else can write to, or in a
//! sticky one and is not somebody else's, cannot be replaced by another user: so each step rests on
//! the one before, and what was found stays true.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// What speaks against a path.
#[derive(Debug)]
pub enum Doubt {
    /// Somebody else than this user and root owns it.
    Foreign {
        /// The component.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whether it lies where everybody may put things (a sticky folder, as `/tmp` is one): then
        /// anybody could have been the one to put it there.
        planted: bool,
    },
    /// Group or everybody may write to it.
    Writable {
        /// The component.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is a link where none is followed.
    Link(PathBuf),
    /// It is not a folder.
    NotAFolder(PathBuf),
    /// It cannot be looked at or made.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Doubt::Foreign { path, owner, planted: false } => {
                write!(f, "{} belongs to user {owner}, who can change it", path.display())
            }
            Doubt::Foreign { path, owner, planted: true } => {
                let path = path.display();
                write!(f, "{path} belongs to user {owner}, and lies where every user may put files")
            }
            Doubt::Writable { path, mode } => {
                let path = path.display();
                write!(f, "others may write to {path} (mode {mode:04o}); run chmod go-w {path}")
            }
            Doubt::Link(path) => write!(f, "{} is not a folder (a link is not followed)", path.display()),
            Doubt::NotAFolder(path) => write!(f, "{} is not a folder", path.display()),
            Doubt::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

/// Makes a folder of ours where it is missing, private to `uid`, and sees that nobody but `uid` and
/// root could replace it or put anything into it. Blocking.
///
/// # Errors
/// The first doubt, from the root down; nothing is made below it.
pub fn make_folder(path: &Path, uid: u32) -> Result<(), Doubt> {
    Walk { uid, make: true, doubts: None }.folder(path)
}

/// Sees the same of a folder that may be missing yet. Blocking.
///
/// # Errors
/// The first doubt, from the root down.
pub fn folder(path: &Path, uid: u32) -> Result<(), Doubt> {
    Walk { uid, make: false, doubts: None }.folder(path)
}

/// All that speaks against running a program, along its path and every link in it. Blocking.
///
/// # Errors
/// What cannot be looked at.
pub fn program(path: &Path, uid: u32) -> Result<Vec<Doubt>, Doubt> {
    let mut walk = Walk { uid, make: false, doubts: Some(Vec::new()) };
    walk.to(path)?;
    Ok(walk.doubts.unwrap_or_default())
}

impl Doubt {
    /// Whether every user of the machine may write, or might have, and not only a group, which may be a
    /// private one, or one user.
    pub fn is_open_to_all(&self) -> bool {
        match self {
            Doubt::Writable { mode, .. } => mode & 0o002 != 0,
            Doubt::Foreign { planted, .. } => *planted,
            Doubt::Link(_) | Doubt::NotAFolder(_) | Doubt::Io(..) => false,
        }
    }
}

/// Whether everybody may write to a folder, sticky or not.
pub fn is_open_to_all(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.mode() & 0o002 != 0)
}

struct Walk {
    uid: u32,
    make: bool,
    /// Where doubts are collected; `None` = the first one ends the walk.
    doubts: Option<Vec<Doubt>>,
}

impl Walk {
    fn folder(mut self, path: &Path) -> Result<(), Doubt> {
        match self.to(path)? {
            // To others a link of root's is as good as a folder: systemd makes such state directories.
            Some((end, _)) if end.is_symlink => Err(Doubt::Link(path.into())),
            Some((end, meta)) if !meta.is_dir() => Err(Doubt::NotAFolder(end.path)),
            Some((end, meta)) if others_write(&meta) => {
                Err(Doubt::Writable { path: end.path, mode: meta.mode() & 0o7777 })
            }
            _ => Ok(()),
        }
    }

    fn doubt(&mut self, doubt: Doubt) -> Result<(), Doubt> {
        match &mut self.doubts {
            Some(doubts) => {
                doubts.push(doubt);
                Ok(())
            }
            None => Err(doubt),
        }
    }

    /// Walks to the end of a path; `None` if it is missing.
    fn to(&mut self, path: &Path) -> Result<Option<(End, Metadata)>, Doubt> {
        let mut rest: VecDeque<OsString> = parts(path).collect();
        let mut end = End { path: PathBuf::from("/"), is_symlink: false };
        let mut meta = look(&end.path)?;
        self.check(&end.path, &meta, false)?;
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                // No link is left in what was walked.
                end.path.pop();
                meta = look(&end.path)?;
                continue;
            }
            if !meta.is_dir() {
                return Err(Doubt::NotAFolder(end.path));
            }
            if others_write(&meta) && meta.mode() & STICKY == 0 {
                let mode = meta.mode() & 0o7777;
                self.doubt(Doubt::Writable { path: end.path.clone(), mode })?;
            }
            let next = end.path.join(&name);
            let open_to_all = meta.mode() & 0o002 != 0;
            meta = match fs::symlink_metadata(&next) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.make => make(&next)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Doubt::Io(next, error)),
            };
            self.check(&next, &meta, open_to_all)?;
            if meta.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Doubt::Io(next, io::Error::from_raw_os_error(libc::ELOOP)));
                }
                end.is_symlink |= rest.is_empty() && links == 1 && meta.uid() == self.uid;
                let target = fs::read_link(&next).map_err(|error| Doubt::Io(next, error))?;
                if target.is_absolute() {
                    end.path = PathBuf::from("/");
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(part);
                }
                meta = look(&end.path)?;
            } else {
                end.path = next;
            }
        }
        if self.doubts.is_some() && !meta.is_dir() && others_write(&meta) {
            let mode = meta.mode() & 0o7777;
            self.doubt(Doubt::Writable { path: end.path.clone(), mode })?;
        }
        Ok(Some((end, meta)))
    }

    fn check(&mut self, path: &Path, meta: &Metadata, planted: bool) -> Result<(), Doubt> {
        if meta.uid() == self.uid || is_roots(meta.uid()) {
            return Ok(());
        }
        self.doubt(Doubt::Foreign { path: path.into(), owner: meta.uid(), planted })
    }
}

/// Where a walk has come to.
struct End {
    /// Free of links.
    path: PathBuf,
    /// Whether the path given is itself a link, and this user's.
    is_symlink: bool,
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn look(path: &Path) -> Result<Metadata, Doubt> {
    fs::symlink_metadata(path).map_err(|error| Doubt::Io(path.into(), error))
}

fn make(path: &Path) -> Result<Metadata, Doubt> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // Another one of ours was faster, or somebody else: the look tells.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Doubt::Io(path.into(), error)),
    }
    look(path)
}

/// Whether group or everybody may write. The administrators of a Mac may become root as they like,
/// and Homebrew's folders are theirs.
fn others_write(meta: &Metadata) -> bool {
    const ADMIN: u32 = 80;
    let trusted = if cfg!(target_os = "macos") && meta.gid() == ADMIN { 0o020 } else { 0 };
    meta.mode() & OTHERS_WRITE & !trusted != 0
}

/// Whether an owner is root. In a user namespace, as `PrivateUsers=` of systemd.exec(5) makes one,
/// root is nobody, like every other user: then `/etc` tells who root is.
fn is_roots(owner: u32) -> bool {
    owner == 0 || fs::metadata("/etc").is_ok_and(|etc| owner == etc.uid() && etc.mode() & OTHERS_WRITE == 0)
}

#[cfg(test)]
mod tests {
    use super::super::users::own_uid;
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let real = base.path().canonicalize().unwrap();
        (base, real)
    }

    #[test]
    fn folders_are_made_private_below_what_nobody_else_can_write() {
        let (_base, base) = place();
        let state = base.join("a/state");
        assert!(folder(&state, own_uid()).is_ok() && !state.exists(), "looking makes nothing");
        make_folder(&state, own_uid()).unwrap();
        assert_eq!(state.metadata().unwrap().mode() & 0o7777, 0o700);
        make_folder(&state, own_uid()).unwrap();
        for (bits, parent, itself) in [
            (0o755, true, true),
            (0o775, false, false),
            (0o757, false, false),
            (0o720, false, false),
            // Sticky: what others put there is theirs, and what is ours they cannot replace.
            (0o1777, true, false),
            (0o1770, true, false),
        ] {
            mode(&base.join("a"), bits);
            assert_eq!(make_folder(&state, own_uid()).is_ok(), parent, "parent {bits:o}");
            assert_eq!(make_folder(&base.join("a/new"), own_uid()).is_ok(), parent, "new in {bits:o}");
            assert_eq!(base.join("a/new").exists(), parent, "made in {bits:o}");
            _ = fs::remove_dir(base.join("a/new"));
            mode(&base.join("a"), 0o700);
            mode(&state, bits);
            let result = make_folder(&state, own_uid());
            assert_eq!(result.is_ok(), itself, "itself {bits:o}");
            if let Err(doubt) = result {
                let text =
                    format!("others may write to {0} (mode {bits:04o}); run chmod go-w {0}", state.display());
                assert_eq!(doubt.to_string(), text);
            }
            mode(&state, 0o700);
        }
    }

    #[test]
    fn links_are_followed_above_a_folder_but_not_to_it() {
        let (_base, base) = place();
        fs::create_dir_all(base.join("real/deep")).unwrap();
        symlink("real/deep", base.join("relative")).unwrap();
        symlink(base.join("real"), base.join("absolute")).unwrap();
        symlink("../real", base.join("real/up")).unwrap();
        symlink("round", base.join("round")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        let uid = own_uid();
        for (path, expect) in [
            ("relative/state", true),
            ("absolute/state", true),
            ("real/up/deep/../state", true),
            ("round/state", false),
            ("file", false),
            ("file/state", false),
        ] {
            assert_eq!(make_folder(&base.join(path), uid).is_ok(), expect, "{path}");
        }
        let link = make_folder(&base.join("absolute"), uid);
        assert!(matches!(link, Err(Doubt::Link(_))), "{link:?}");
        if uid == 0 {
            // To another user root's links are as good as folders: systemd makes such.
            fs::create_dir(base.join("theirs")).unwrap();
            chown(base.join("theirs"), Some(4242), None).unwrap();
            symlink("theirs", base.join("roots")).unwrap();
            assert!(make_folder(&base.join("roots"), 4242).is_ok());
        }
        mode(&base.join("real"), 0o777);
        let Err(Doubt::Writable { path, .. }) = make_folder(&base.join("absolute/state"), uid) else {
            panic!()
        };
        assert_eq!(path, base.join("real"));
    }

    #[test]
    fn what_is_anothers_is_named() {
        let (_base, base) = place();
        if own_uid() != 0 {
            // Only root can give files away; the other way round anybody can see.
            assert!(matches!(folder(&base, own_uid() + 1), Err(Doubt::Foreign { .. })));
            return;
        }
        fs::create_dir_all(base.join("theirs/state")).unwrap();
        symlink("theirs", base.join("link")).unwrap();
        chown(base.join("theirs"), Some(4242), None).unwrap();
        std::os::unix::fs::lchown(base.join("link"), Some(4243), None).unwrap();
        for (path, at, who) in
            [("theirs/state", "theirs", 4242), ("theirs", "theirs", 4242), ("link/x", "link", 4243)]
        {
            match make_folder(&base.join(path), 0) {
                Err(Doubt::Foreign { path, owner, planted: false }) => {
                    assert_eq!((path, owner), (base.join(at), who))
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(make_folder(&base.join("theirs/state"), 4242).is_ok());
    }

    #[test]
    fn a_program_is_looked_at_along_its_whole_path() {
        let (_base, base) = place();
        fs::create_dir_all(base.join("open/sub")).unwrap();
        fs::create_dir_all(base.join("bin")).unwrap();
        fs::write(base.join("open/sub/codex"), "").unwrap();
        mode(&base.join("open/sub/codex"), 0o755);
        symlink("../open/sub/codex", base.join("bin/codex")).unwrap();
        let found = |path: &str| {
            let doubts = program(&base.join(path), own_uid()).unwrap();
            let shown = doubts.into_iter().map(|doubt| match doubt {
                Doubt::Writable { path, .. } => {
                    path.strip_prefix(&base).unwrap().to_str().unwrap().to_owned()
                }
                other => panic!("{other:?}"),
            });
            shown.collect::<Vec<_>>()
        };
        assert_eq!(found("bin/codex"), [""; 0]);
        mode(&base.join("open"), 0o777);
        assert_eq!(found("bin/codex"), ["open"]);
        mode(&base.join("open/sub/codex"), 0o775);
        assert_eq!(found("bin/codex"), ["open", "open/sub/codex"]);
        mode(&base.join("open"), 0o1777);
        assert_eq!(found("bin/codex"), ["open/sub/codex"]);
        assert_eq!(found("bin/none"), [""; 0]);
    }

    #[test]
    fn what_every_user_could_have_put_there_is_open_to_all() {
        let (_base, base) = place();
        if own_uid() != 0 {
            return;
        }
        fs::create_dir_all(base.join("tmp/folder")).unwrap();
        symlink("/bin/sh", base.join("tmp/link")).unwrap();
        for file in ["tmp/codex", "tmp/folder/codex"] {
            fs::write(base.join(file), "").unwrap();
        }
        let open = |path: &str| {
            let doubts = program(&base.join(path), 0).unwrap();
            doubts.iter().filter(|doubt| doubt.is_open_to_all()).map(ToString::to_string).collect::<Vec<_>>()
        };
        let planted = |path: &str| {
            let path = base.join(path);
            let text = "belongs to user 4242, and lies where every user may put files";
            vec![format!("{} {text}", path.display())]
        };
        for path in ["tmp/codex", "tmp/folder", "tmp/link"] {
            std::os::unix::fs::lchown(base.join(path), Some(4242), None).unwrap();
        }
        // Foreign is not open, as long as not everybody may put things there.
        for (bits, everybody) in [(0o755, false), (0o1775, false), (0o1777, true)] {
            mode(&base.join("tmp"), bits);
            for (path, at) in
                [("tmp/codex", "tmp/codex"), ("tmp/folder/codex", "tmp/folder"), ("tmp/link", "tmp/link")]
            {
                let expect = if everybody { planted(at) } else { vec![] };
                assert_eq!(open(path), expect, "{path} in {bits:o}");
            }
        }
        chown(base.join("tmp/codex"), Some(0), None).unwrap();
        assert_eq!(open("tmp/codex"), [""; 0]);
    }
}
