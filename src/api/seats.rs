//! How many connections are open, who holds them, and which one goes when all are taken.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::peer::Peer;
use crate::config::Config;
use crate::os::users::own_uid;

/// How many connections all those together have who would only be told that they may not call.
pub const STRANGERS: usize = 16;

/// Descriptors kept for what is no connection: ours, and for each turn that may run at once the
/// pipes, process and files of its start.
const RESERVED: usize = 64;
const RESERVED_FOR_TURN: usize = 16;

/// How many connections are open; idle exit follows it. Clones share it.
#[derive(Clone, Debug)]
pub struct Connections(Arc<watch::Sender<Count>>);

/// So many are open, and on so many of them somebody only watches.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    open: usize,
    watching: usize,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections(Arc::new(watch::Sender::new(Count::default())))
    }
}

impl Connections {
    /// How many are open now.
    pub fn open(&self) -> usize {
        self.0.borrow().open
    }

    /// Resolves once no connection has been open for that long, but for those on which somebody only watches.
    pub async fn idle_for(&self, time: Duration) {
        let mut open = self.0.subscribe();
        loop {
            // The sender lives in `self`, so waiting can only end with the condition.
            let _ = open.wait_for(|count| count.open <= count.watching).await;
            tokio::select! {
                () = tokio::time::sleep(time) => return,
                _ = open.changed() => {}
            }
        }
    }

    pub(super) fn enter(&self) -> Open {
        self.0.send_modify(|count| count.open += 1);
        Open(self.clone())
    }

    /// Somebody watches on one of them, and asks nothing.
    pub(super) fn watch(&self) -> Watching {
        self.0.send_modify(|count| count.watching += 1);
        Watching(self.clone())
    }
}

/// An open connection, until dropped.
#[derive(Debug)]
pub(super) struct Open(Connections);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.open -= 1);
    }
}

/// Somebody who only watches, until dropped.
#[derive(Debug)]
pub(super) struct Watching(Connections);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.watching -= 1);
    }
}

/// Who shares a number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// We ourselves, and where nobody can be told apart, everybody.
    Us,
    /// Another user of this machine who may call, or try with a key.
    User(u32),
    /// Another machine; of IPv6 the whole /64, which any machine in it may use.
    Machine(IpAddr),
    /// Those of this machine who have no id of their own.
    Unknown,
    /// All who will only be refused.
    Strangers,
}

impl Holder {
    /// Who holds the connections of that peer.
    pub fn of(peer: Peer, is_stranger: bool) -> Holder {
        match peer {
            _ if is_stranger => Holder::Strangers,
            Peer::CannotTell => Holder::Us,
            Peer::Local(uid) | Peer::Unix(Some(uid)) if uid == own_uid() => Holder::Us,
            Peer::Local(uid) | Peer::Unix(Some(uid)) => Holder::User(uid),
            Peer::Remote(IpAddr::V6(ip)) => Holder::Machine(IpAddr::V6((ip.to_bits() & (!0 << 64)).into())),
            Peer::Remote(ip) => Holder::Machine(ip),
            Peer::Stranger | Peer::Unix(None) => Holder::Unknown,
        }
    }

    /// How many of `most` connections it may hold; `None` if all.
    fn share(self, most: usize) -> Option<usize> {
        let half = (most / 2).max(1);
        match self {
            Holder::Us => None,
            Holder::Strangers => Some(half.min(STRANGERS)),
            Holder::User(_) | Holder::Machine(_) | Holder::Unknown => Some(half),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Us => f.write_str("this user"),
            Holder::User(uid) => write!(f, "user {uid}"),
            Holder::Machine(IpAddr::V6(net)) => write!(f, "{net}/64"),
            Holder::Machine(ip) => write!(f, "{ip}"),
            Holder::Unknown => f.write_str("a user without an id here"),
            Holder::Strangers => f.write_str("a user who may not call"),
        }
    }
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The holder has its share.
    Share(usize),
    /// All are taken, and on every one is a request being answered.
    Full,
}

/// The seats of one kind of listener. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// The last number given to a seat, and to the beginning of its rest.
    last: u64,
    seats: HashMap<u64, Place>,
    holders: HashMap<Holder, Held>,
}

#[derive(Debug)]
struct Place {
    requests: usize,
    resting: u64,
    leave: CancellationToken,
}

#[derive(Debug, Default)]
struct Held {
    taken: usize,
    /// The seats without a request, that which has been without one for longest first.
    resting: BTreeMap<u64, u64>,
}

impl Seats {
    /// Takes a seat of `most`; where all are taken, the largest holder's oldest connection without
    /// a request leaves.
    pub fn take(&self, holder: Holder, most: usize) -> Result<Seat, Refused> {
        let mut table = self.table();
        let taken = table.holders.get(&holder).map_or(0, |held| held.taken);
        if let Some(share) = holder.share(most).filter(|share| taken >= *share) {
            return Err(Refused::Share(share));
        }
        if table.seats.len() >= most && !table.evict() {
            return Err(Refused::Full);
        }
        table.last += 1;
        let id = table.last;
        let leave = CancellationToken::new();
        table.seats.insert(id, Place { requests: 0, resting: id, leave: leave.clone() });
        let held = table.holders.entry(holder).or_default();
        held.taken += 1;
        held.resting.insert(id, id);
        Ok(Seat { seats: self.clone(), holder, id, leave })
    }

    /// Resolves when a seat may have become free.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn evict(&mut self) -> bool {
        let resting = self.holders.iter().filter(|(_, held)| !held.resting.is_empty());
        let Some((holder, held)) = resting.max_by_key(|(_, held)| held.taken) else { return false };
        let (holder, id) = (*holder, held.resting.first_key_value().map(|(_, id)| *id));
        let place = id.and_then(|id| self.remove(holder, id));
        place.is_some_and(|place| {
            place.leave.cancel();
            true
        })
    }

    fn remove(&mut self, holder: Holder, id: u64) -> Option<Place> {
        let place = self.seats.remove(&id)?;
        if let Some(held) = self.holders.get_mut(&holder) {
            held.taken -= 1;
            held.resting.remove(&place.resting);
            if held.taken == 0 {
                self.holders.remove(&holder);
            }
        }
        Some(place)
    }
}

/// A connection's seat, until dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    holder: Holder,
    id: u64,
    leave: CancellationToken,
}

impl Seat {
    /// Cancelled when the seat is another's.
    pub fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    /// A request has come; the guard is held until it is answered.
    pub fn busy(self: &Arc<Seat>) -> Busy {
        let mut table = self.seats.table();
        if let Some(place) = table.seats.get_mut(&self.id) {
            place.requests += 1;
            let resting = place.resting;
            if let Some(held) = table.holders.get_mut(&self.holder) {
                held.resting.remove(&resting);
            }
        }
        drop(table);
        Busy(Arc::clone(self))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.table().remove(self.holder, self.id);
        self.seats.0.changed.notify_one();
    }
}

/// A request on a seat.
#[derive(Debug)]
pub struct Busy(Arc<Seat>);

impl Drop for Busy {
    fn drop(&mut self) {
        let Seat { seats, holder, id, .. } = &*self.0;
        let mut table = seats.table();
        table.last += 1;
        let now = table.last;
        // It may be another's already.
        let Some(place) = table.seats.get_mut(id) else { return };
        place.requests -= 1;
        if place.requests > 0 {
            return;
        }
        place.resting = now;
        if let Some(held) = table.holders.get_mut(holder) {
            held.resting.insert(now, *id);
        }
        drop(table);
        seats.0.changed.notify_one();
    }
}

/// How many connections there may be over TCP, and beside them over Unix sockets, if there are that
/// many descriptors: enough are left for the turns.
pub fn most(config: &Config, descriptors: usize) -> (usize, usize) {
    let reserved = RESERVED.saturating_add(config.slots().saturating_mul(RESERVED_FOR_TURN));
    let room = descriptors.saturating_sub(reserved.min(descriptors / 2));
    let unix = room / 4;
    let fit = |room: usize| config.max_connections.min(room).max(1);
    (fit(room - unix), fit(unix))
}

#[cfg(test)]
mod tests;
