//! What callers are called where people read of them: in the log, in sums.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::os::users;
use crate::turn::Caller;

/// Whom the system does not tell.
const UNKNOWN: &str = "unknown";

/// How long a request waits for the user database. It is a file nearly everywhere; a directory server
/// that does not answer must not stop those whom it would name.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most users whose names are kept.
const KEPT: usize = 1024;

/// The names of callers; those of users are looked up once.
#[derive(Debug)]
pub struct Callers {
    users: Arc<Mutex<HashMap<u32, Arc<str>>>>,
    /// One look-up at a time, so that a database that hangs holds one thread and no more.
    turn: Arc<Semaphore>,
}

impl Default for Callers {
    fn default() -> Callers {
        Callers { users: Arc::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Callers {
    /// The caller's name: that of the key, never the key; that of the user, or the id of one who has no
    /// name; the address of another machine.
    pub async fn name(&self, caller: &Caller) -> Arc<str> {
        match caller {
            Caller::Key(name) => Arc::clone(name),
            Caller::User(uid) => self.user(*uid).await,
            Caller::Remote(address) => address.to_string().into(),
            Caller::Unknown => UNKNOWN.into(),
        }
    }

    async fn user(&self, uid: u32) -> Arc<str> {
        if let Some(name) = self.kept(uid) {
            return name;
        }
        let looked = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
            if let Some(name) = self.kept(uid) {
                return Some(name);
            }
            let users = Arc::clone(&self.users);
            let look = move || {
                let _turn = turn;
                let name = match users::name_of(uid) {
                    Ok(name) => name.map_or_else(|| uid.to_string().into(), Arc::from),
                    // Perhaps the next time.
                    Err(error) => {
                        tracing::debug!(uid, %error, "cannot look up the name of a user");
                        return None;
                    }
                };
                let mut users = lock(&users);
                if users.len() >= KEPT {
                    users.clear();
                }
                users.insert(uid, Arc::clone(&name));
                Some(name)
            };
            tokio::task::spawn_blocking(look).await.ok().flatten()
        };
        let looked = tokio::time::timeout(PATIENCE, looked).await;
        looked.ok().flatten().unwrap_or_else(|| uid.to_string().into())
    }

    fn kept(&self, uid: u32) -> Option<Arc<str>> {
        lock(&self.users).get(&uid).cloned()
    }

    /// Forgets names, which may have changed.
    pub fn look_again(&self) {
        lock(&self.users).clear();
    }
}

fn lock(users: &Mutex<HashMap<u32, Arc<str>>>) -> MutexGuard<'_, HashMap<u32, Arc<str>>> {
    // Whole entries only; what a panic elsewhere left behind is still true.
    users.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_caller_has_a_name() {
        let callers = Callers::default();
        for (caller, expect) in [
            (Caller::Key("alice".into()), "alice"),
            (Caller::Key("key-2".into()), "key-2"),
            (Caller::User(0), "root"),
            (Caller::User(4_000_000_001), "4000000001"),
            (Caller::Remote([198, 51, 100, 7].into()), "198.51.100.7"),
            (Caller::Remote("2001:db8::7".parse().unwrap()), "2001:db8::7"),
            (Caller::Unknown, "unknown"),
        ] {
            assert_eq!(&*callers.name(&caller).await, expect, "{caller:?}");
        }
    }

    #[tokio::test]
    async fn names_are_kept_up_to_a_number_and_forgotten_on_reload() {
        let callers = Callers::default();
        lock(&callers.users).insert(0, "kept".into());
        assert_eq!(&*callers.name(&Caller::User(0)).await, "kept");
        callers.look_again();
        assert_eq!(&*callers.name(&Caller::User(0)).await, "root");
        for uid in 1..KEPT {
            lock(&callers.users).insert(4_000_000_000 + uid as u32, "x".into());
        }
        assert_eq!(lock(&callers.users).len(), KEPT);
        assert_eq!(&*callers.name(&Caller::User(4_100_000_000)).await, "4100000000");
        assert_eq!(lock(&callers.users).len(), 1);
    }

    /// Somebody else's look-up hangs: nobody waits for it for long, and nobody joins it.
    #[tokio::test(start_paused = true)]
    async fn a_user_database_that_hangs_leaves_the_number() {
        let callers = Callers::default();
        let _hangs = Arc::clone(&callers.turn).acquire_owned().await.unwrap();
        assert_eq!(&*callers.name(&Caller::User(0)).await, "0");
        assert_eq!(callers.kept(0), None);
    }
}
