//! Under which session ids the upstream knows conversations whose threads choose their own. No
//! clock, no I/O.
//!
//! A thread that tells what the model writes, word for word, takes a session id of its own. When it
//! is gone, or a request does not go on from where it is, the conversation stays in that session by
//! a fork under the id noted here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::turn::Identity;

/// So many conversations; about 100 bytes each.
const MOST: usize = 4096;

/// Unused for longer, nothing of it is in the upstream's cache any more.
const LASTS: Duration = Duration::from_secs(60 * 60);

/// Session ids by conversation.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<Identity, (Session, Instant)>);

/// Where the upstream knows a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id there.
    pub id: String,
    /// The namespace that the model's calls have in it, where they have one.
    pub namespace: Option<String>,
}

impl Session {
    /// The one of our choice, of a conversation without functions.
    pub fn of(conversation: Identity) -> Session {
        Session { id: conversation.to_string(), namespace: None }
    }
}

impl Sessions {
    /// A conversation is in this session.
    pub fn note(&mut self, conversation: Identity, session: Session, now: Instant) {
        if self.0.len() >= MOST && !self.0.contains_key(&conversation) {
            self.0.retain(|_, (_, used)| now.saturating_duration_since(*used) < LASTS);
            let oldest = self.0.iter().min_by_key(|(_, (_, used))| *used).map(|(oldest, _)| *oldest);
            if let Some(oldest) = oldest.filter(|_| self.0.len() >= MOST) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(conversation, (session, now));
    }

    /// The session of a conversation, which is used now; `None` if it has none, or had long ago.
    pub fn used(&mut self, conversation: Identity, now: Instant) -> Option<&mut Session> {
        let since = |used: &Instant| now.saturating_duration_since(*used);
        if self.0.get(&conversation).is_some_and(|(_, used)| since(used) >= LASTS) {
            self.0.remove(&conversation);
        }
        let (session, used) = self.0.get_mut(&conversation)?;
        *used = now;
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str) -> Session {
        Session { id: id.into(), namespace: None }
    }

    #[test]
    fn a_session_lasts_as_long_as_it_is_used() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let who = Identity::from_bits(1);
        assert_eq!(sessions.used(who, start), None);
        sessions.note(who, session("a"), start);
        let nearly = LASTS - Duration::from_millis(1);
        assert_eq!(sessions.used(who, start + nearly).map(|session| &*session.id), Some("a"));
        assert_eq!(sessions.used(who, start + nearly * 2).map(|session| &*session.id), Some("a"));
        sessions.note(who, session("b"), start + nearly * 2);
        assert_eq!(sessions.used(who, start + nearly * 2).map(|session| &*session.id), Some("b"));
        assert_eq!(sessions.used(who, start + nearly * 2 + LASTS), None);
        assert!(sessions.0.is_empty());
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let at = |number: usize| start + Duration::from_millis(number as u64);
        for number in 0..MOST {
            sessions.note(Identity::from_bits(number as u128), session("s"), at(number));
        }
        assert!(sessions.used(Identity::from_bits(0), at(MOST)).is_some());
        sessions.note(Identity::from_bits(5), session("again"), at(MOST));
        assert_eq!(sessions.0.len(), MOST, "one that is there takes no other's place");
        sessions.note(Identity::from_bits(u128::MAX), session("new"), at(MOST + 1));
        assert_eq!(sessions.0.len(), MOST);
        assert_eq!(sessions.used(Identity::from_bits(1), at(MOST + 1)), None);
        assert!(sessions.used(Identity::from_bits(0), at(MOST + 1)).is_some());
        sessions.note(Identity::from_bits(u128::MAX - 1), session("late"), at(MOST + 1) + LASTS);
        assert_eq!(sessions.0.len(), 1, "all others are over");
    }
}
