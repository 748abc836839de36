//! Whether conversations are continued: their requests reach the upstream under one session id and
//! cache key, so that its prompt cache works; and where they are not, why.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use crate::config::{Config, ContinuationChoice, EngineKind, Isolation, Profile};
use crate::turn::identity::Key;

use super::Version;

/// The oldest CLI whose forks keep the session id.
pub const CHOSEN_SESSION: Version = Version(0, 160, 0);

/// The key's file in the state folder.
pub const KEY_FILE: &str = "conversation.key";

/// How far conversations are continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// Every request goes out under the identity of its conversation, made with this key.
    Full(Key),
    /// Only while a thread of the conversation lives in a worker.
    #[allow(dead_code, reason = "for workers whose threads live on between requests")]
    Threads {
        /// Why not in full.
        reason: String,
    },
    /// Not at all.
    Off {
        /// Why.
        reason: String,
    },
}

impl Continuation {
    /// What these settings and this CLI allow. Blocking where it needs the key, which is made if there is none.
    pub fn of(config: &Config, version: Version) -> Continuation {
        if config.continuation == ContinuationChoice::Off {
            return Continuation::Off { reason: "continuation = \"off\"".into() };
        }
        if config.engine.capabilities().threads && config.profile() == Profile::Agent {
            return Continuation::Off {
                reason: "profile = \"agent\" with engine = \"app-server\" begins a thread for each request"
                    .into(),
            };
        }
        let reason = if config.isolation == Isolation::Shared {
            "isolation = \"shared\": no file of ours is put into your CODEX_HOME".into()
        } else if !config.ephemeral {
            "ephemeral = false: Codex chooses the id of a session that it saves".into()
        } else if version < CHOSEN_SESSION {
            format!("Codex {version} chooses session ids itself; from {CHOSEN_SESSION} on it takes ours")
        } else {
            match key(&config.state_dir.join(KEY_FILE)) {
                Ok(key) => return Continuation::Full(key),
                Err(why) => why,
            }
        };
        Continuation::limited(config.engine, reason)
    }

    /// What is left where no session id can be chosen.
    pub(super) fn limited(engine: EngineKind, reason: String) -> Continuation {
        match engine.capabilities().threads {
            false => Continuation::Off { reason },
            true => Continuation::Threads { reason },
        }
    }

    /// A word for status pages: `full`, `threads` or `off`.
    pub fn name(&self) -> &'static str {
        match self {
            Continuation::Full(_) => "full",
            Continuation::Threads { .. } => "threads",
            Continuation::Off { .. } => "off",
        }
    }

    /// Why it is not `full`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Continuation::Full(_) => None,
            Continuation::Threads { reason } | Continuation::Off { reason } => Some(reason),
        }
    }
}

/// This installation's key, made at the first call. Blocking.
fn key(path: &Path) -> Result<Key, String> {
    let shown = path.display();
    loop {
        match read(path) {
            Ok(found) => return found,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {shown}: {error}")),
        }
        match make(path) {
            Ok(()) => {}
            // Somebody else was faster: theirs is the key.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot write {shown}: {error}")),
        }
    }
}

fn read(path: &Path) -> std::io::Result<Result<Key, String>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let (meta, shown) = (file.metadata()?, path.display());
    if !meta.is_file() || meta.len() != Key::BYTES as u64 {
        return Ok(Err(format!("{shown} is not a file of {} bytes; remove it", Key::BYTES)));
    }
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o7777;
        return Ok(Err(format!("{shown} is open to other users (mode {mode:04o}); remove it")));
    }
    let mut bytes = [0; Key::BYTES];
    file.read_exact(&mut bytes)?;
    Ok(Ok(Key::new(bytes)))
}

static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// Makes the file, whole or not at all.
fn make(path: &Path) -> std::io::Result<()> {
    let mut bytes = [0; Key::BYTES];
    getrandom::fill(&mut bytes)?;
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("key.{}-{number}", std::process::id()));
    // Left behind by a process of this number that died here.
    let _ = std::fs::remove_file(&draft);
    let written = write(&draft, &bytes).and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    written
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::config::choices::ProfileChoice;

    fn config(state: &Path) -> Config {
        Config { state_dir: state.into(), ..Config::default() }
    }

    #[test]
    fn it_is_full_where_nothing_stands_against_it() {
        let state = tempfile::tempdir().unwrap();
        let base = config(state.path());
        let new = Version(0, 160, 0);
        let workers = Config { engine: EngineKind::AppServer, ..base.clone() };
        for (config, version, word, because) in [
            (base.clone(), new, "full", ""),
            (Config { continuation: ContinuationChoice::Off, ..base.clone() }, new, "off", "continuation"),
            (Config { isolation: Isolation::Shared, ..base.clone() }, new, "off", "isolation"),
            (Config { ephemeral: false, ..base.clone() }, new, "off", "ephemeral"),
            (base.clone(), Version(0, 159, 9), "off", "0.159.9"),
            (workers.clone(), new, "full", ""),
            (Config { isolation: Isolation::Shared, ..workers.clone() }, new, "threads", "isolation"),
            (Config { ephemeral: false, ..workers.clone() }, new, "threads", "ephemeral"),
            (workers.clone(), Version(0, 159, 9), "threads", "0.159.9"),
            (Config { continuation: ContinuationChoice::Off, ..workers.clone() }, new, "off", "continuation"),
            (Config { profile: ProfileChoice::Agent, ..workers }, new, "off", "profile"),
            (Config { state_dir: state.path().join("missing"), ..base.clone() }, new, "off", "cannot write"),
        ] {
            let found = Continuation::of(&config, version);
            assert_eq!(found.name(), word, "{found:?}");
            assert_eq!(found.reason().is_none(), word == "full");
            assert!(found.reason().unwrap_or_default().contains(because), "{found:?}");
        }
    }

    #[test]
    fn the_key_is_made_once_and_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(KEY_FILE);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| key(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(key(&other.path().join(KEY_FILE)).unwrap(), keys[0]);
    }

    #[test]
    fn a_key_that_is_not_a_secret_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(KEY_FILE);
        let (real, open) = (state.path().join("real"), std::fs::Permissions::from_mode(0o640));
        std::fs::write(&real, [1; Key::BYTES]).unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).unwrap();
        let refused = |why: &str| {
            let message = key(&path).unwrap_err();
            assert!(message.contains(why) && message.contains("conversation.key"), "{message}");
            let _ = std::fs::remove_file(&path);
        };
        symlink(&real, &path).unwrap();
        refused("cannot read");
        std::fs::write(&path, [1; Key::BYTES]).unwrap();
        std::fs::set_permissions(&path, open).unwrap();
        refused("(mode 0640)");
        for length in [0, Key::BYTES - 1, Key::BYTES + 1] {
            std::fs::write(&path, vec![1; length]).unwrap();
            refused("is not a file of 32 bytes");
        }
        std::fs::copy(&real, &path).unwrap();
        assert_eq!(key(&path), Ok(Key::new([1; Key::BYTES])));
    }
}
