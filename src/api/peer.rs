//! Who is at the other end of a connection, decided once, as it is accepted.

use std::net::{IpAddr, SocketAddr};

use crate::observe::repeats;
use crate::os::peer::{self, Owner};
use crate::os::users;
use crate::turn::Caller;

/// The other end of a connection. What a request adds to it, a key, makes it a [`Caller`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody whom the Unix socket's file mode lets in: that user, where it can be told.
    Unix(Option<u32>),
    /// That user of this machine, whatever address of it was used.
    Local(u32),
    /// Somebody of this machine for whom nobody vouches.
    Stranger,
    /// Another machine.
    Remote(IpAddr),
    /// Somebody whom this operating system does not tell.
    CannotTell,
}

impl Peer {
    /// Who is connected over TCP: a few system calls that never wait.
    pub fn of_tcp(local: SocketAddr, peer: SocketAddr) -> Peer {
        match peer::owner(local, peer) {
            Ok(Owner::User(uid)) => Peer::Local(uid),
            Ok(Owner::Nobody) => Peer::Stranger,
            Ok(Owner::Elsewhere) => Peer::Remote(peer.ip().to_canonical()),
            Ok(Owner::CannotTell) => Peer::CannotTell,
            Err(error) => {
                if repeats::is_first("connections whose user the kernel does not tell") {
                    tracing::warn!(%error, "the kernel does not tell whose connection {peer} is; it counts as a stranger's");
                }
                Peer::Stranger
            }
        }
    }

    /// Who is connected to a Unix socket, by the user of SO_PEERCRED of unix(7).
    pub fn of_unix(uid: Option<u32>) -> Peer {
        Peer::Unix(uid.and_then(users::known))
    }

    /// Who asks, where no key says better.
    pub fn caller(self) -> Caller {
        match self {
            Peer::Unix(Some(uid)) | Peer::Local(uid) => Caller::User(uid),
            Peer::Remote(address) => Caller::Remote(address),
            Peer::Unix(None) | Peer::Stranger | Peer::CannotTell => Caller::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_who_can_be_told() {
        let remote = "198.51.100.7".parse().unwrap();
        for (peer, caller) in [
            (Peer::Unix(Some(7)), Caller::User(7)),
            (Peer::Unix(None), Caller::Unknown),
            (Peer::Local(7), Caller::User(7)),
            (Peer::Remote(remote), Caller::Remote(remote)),
            (Peer::Stranger, Caller::Unknown),
            (Peer::CannotTell, Caller::Unknown),
        ] {
            assert_eq!(peer.caller(), caller, "{peer:?}");
        }
    }
}
