//! Codex's own databases, above all its diagnostic log: 30 to 110 kB a turn, which Codex removes
//! nothing of. Here they lie in folders of ours, each removed with the last process that has it open:
//!
//! ```text
//!   STATE/codex-databases/PID-0    all exec processes, until it is full: then those to come have PID-1
//!                         PID-2    one app-server worker, which is replaced when it is full
//! ```
//!
//! Each folder is locked as long as it is used, so that services which share a state folder, and
//! those that come after a crash, remove only what nobody uses.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use crate::config::{Config, Isolation};
use crate::os::trust;
use crate::os::users::own_uid;
use crate::turn::Failure;
use crate::turn::failure::Folder;

use super::args::table;
use super::folders;

/// The variable that tells Codex where its databases are. A CLI that does not know it has them in
/// its `CODEX_HOME`.
pub const VARIABLE: &str = "CODEX_SQLITE_HOME";

/// The folder of the folders, in the state folder.
pub(super) const NAME: &str = "codex-databases";

/// How large databases become before nobody else is given them, in bytes.
pub const FULL: u64 = 64 << 20;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A folder of databases. Dropping it removes it.
#[derive(Debug)]
pub struct Databases {
    path: PathBuf,
    /// Holds the lock.
    lock: Option<File>,
}

impl Databases {
    /// A new folder; what others left behind is removed. Blocking.
    ///
    /// # Errors
    /// [`Failure::StateRefused`] if others could change it, [`Failure::StateNotWritable`].
    fn open(state: &Path) -> Result<Databases, Failure> {
        let all = state.join(NAME);
        trust::make_folder(&all, own_uid()).map_err(|doubt| folders::refused(Folder::State, &all, doubt))?;
        sweep(&all);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = all.join(format!("{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path).and_then(|()| lock(&path)) {
                Ok(Some(lock)) => return Ok(Databases { path, lock: Some(lock) }),
                // Somebody else swept it before it was locked; or has the same process id elsewhere.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(folders::not_writable(Folder::State, &path, &error)),
            }
        }
    }

    /// The variable for a process that is to use them.
    pub(super) fn variable(&self) -> (OsString, OsString) {
        (VARIABLE.into(), self.path.clone().into())
    }

    /// Whether nobody else should be given them: too large, or removed by somebody. Blocking, for
    /// some microseconds.
    pub fn are_full(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.path) else { return true };
        let sizes = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
        sizes.sum::<u64>() > FULL
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        let left = Left { path: std::mem::take(&mut self.path), _lock: self.lock.take() };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // A runtime that ends drops what it does not do any more, which comes to the same.
            runtime.spawn_blocking(move || drop(left));
        }
    }
}

/// A folder that is removed when this is dropped; the lock after it.
struct Left {
    path: PathBuf,
    _lock: Option<File>,
}

impl Drop for Left {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Locks a folder, if it is still there and nobody else has. Where the file system knows no locks,
/// it is opened: then nobody else can lock it either.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let folder = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if flock(&folder, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK) {
        return Ok(None);
    }
    let same = |there: fs::Metadata| folder.metadata().is_ok_and(|ours| ours.ino() == there.ino());
    Ok(fs::symlink_metadata(path).is_ok_and(same).then_some(folder))
}

/// Removes the folders that nobody has locked: their service has died.
fn sweep(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let Ok(folder) = File::open(entry.path()) else { continue };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %path.display(), %error, "cannot remove databases of codex");
        }
        _ => {}
    }
}

/// The databases of processes that run one turn each.
#[derive(Debug, Default)]
pub(super) struct Common(Mutex<Option<Arc<Databases>>>);

impl Common {
    /// The present ones, or new ones when those are full. Blocking.
    ///
    /// # Errors
    /// As [`Databases::open`].
    fn get(&self, state: &Path) -> Result<Arc<Databases>, Failure> {
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*present {
            Some(databases) if !databases.are_full() => Ok(Arc::clone(databases)),
            _ => Ok(Arc::clone(present.insert(Arc::new(Databases::open(state)?)))),
        }
    }
}

/// Databases for a process: those of all that run one turn each, or its own if it `lasts`. `None` in
/// the user's own home, and where the operator says where they are. Blocking.
///
/// # Errors
/// As [`Databases::open`].
pub(super) fn for_process(
    config: &Config,
    common: &Common,
    lasts: bool,
) -> Result<Option<Arc<Databases>>, Failure> {
    let told = config.pass_env.iter().any(|name| name == VARIABLE)
        || table(&config.overrides().args).contains_key("sqlite_home");
    if told || config.isolation == Isolation::Shared {
        return Ok(None);
    }
    if lasts {
        return Databases::open(&config.state_dir).map(|databases| Some(Arc::new(databases)));
    }
    common.get(&config.state_dir).map(Some)
}

/// Whether a file of an isolated home is a log that an earlier version had Codex write there.
pub(super) fn is_old_log(name: &str) -> bool {
    name.starts_with("logs_")
        && [".sqlite", ".sqlite-wal", ".sqlite-shm"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(all: &Path) -> usize {
        fs::read_dir(all).map_or(0, Iterator::count)
    }

    #[test]
    fn turns_share_databases_until_they_are_full_and_the_last_one_removes_them() {
        let state = tempfile::tempdir().unwrap();
        let all = state.path().canonicalize().unwrap().join(NAME);
        let config = Config { state_dir: all.parent().unwrap().into(), ..Config::default() };
        let common = Common::default();
        let turn = || for_process(&config, &common, false).unwrap().unwrap();
        let first = turn();
        assert_eq!(first.path.metadata().unwrap().mode() & 0o777, 0o700);
        let log = File::create(first.path.join("logs_2.sqlite-wal")).unwrap();
        log.set_len(FULL).unwrap();
        assert!(Arc::ptr_eq(&first, &turn()), "not yet full");
        log.set_len(FULL + 1).unwrap();
        let second = turn();
        assert!(!Arc::ptr_eq(&first, &second) && left(&all) == 2);
        drop(first);
        assert_eq!(left(&all), 1);
        let path = second.path.clone();
        drop(second);
        assert!(path.exists(), "kept for the next turn");
        // Removed under us: made anew.
        fs::remove_dir_all(&path).unwrap();
        assert!(turn().path.exists());
        let (worker, other) = (for_process(&config, &common, true), for_process(&config, &common, true));
        assert_ne!(worker.unwrap().unwrap().path, other.unwrap().unwrap().path);
        drop(common);
        assert_eq!(left(&all), 0);
    }

    #[test]
    fn only_what_nobody_uses_is_swept() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().canonicalize().unwrap();
        let all = state.join(NAME);
        let ours = Databases::open(&state).unwrap();
        fs::create_dir(all.join("4194304-0")).unwrap();
        fs::write(all.join("4194304-0/logs_2.sqlite"), "x").unwrap();
        let next = Databases::open(&state).unwrap();
        assert!(ours.path.exists() && next.path.exists() && left(&all) == 2);
        // As after a crash: nobody holds the lock.
        let mut crashed = next;
        drop(crashed.lock.take());
        let path = crashed.path.clone();
        std::mem::forget(crashed);
        sweep(&all);
        assert!(ours.path.exists() && !path.exists());
    }

    #[test]
    fn the_users_home_and_the_operators_word_are_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let base = Config { state_dir: state.path().canonicalize().unwrap(), ..Config::default() };
        for config in [
            Config { isolation: Isolation::Shared, ..base.clone() },
            Config { pass_env: vec![VARIABLE.into()], ..base.clone() },
            Config { codex_configs: vec!["sqlite_home=\"/elsewhere\"".into()], ..base.clone() },
        ] {
            assert!(for_process(&config, &Common::default(), true).unwrap().is_none(), "{config:?}");
            assert!(for_process(&config, &Common::default(), false).unwrap().is_none(), "{config:?}");
        }
        assert!(!base.state_dir.join(NAME).exists());
    }

    #[test]
    fn only_codexs_log_is_removed_from_a_home() {
        for (name, expect) in [
            ("logs_2.sqlite", true),
            ("logs_2.sqlite-wal", true),
            ("logs_1.sqlite-shm", true),
            ("state_5.sqlite", false),
            ("logs_2.sqlite.bak", false),
            ("logs", false),
        ] {
            assert_eq!(is_old_log(name), expect, "{name}");
        }
    }
}
