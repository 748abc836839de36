//! Who asks: decided once for each request, and the one name for it from there on.

use std::net::IpAddr;
use std::sync::Arc;

/// Who sent a request. Limits, the queue's order, a conversation's identity and names in the log
/// all follow this one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Who presented that key: the key's name, never the key.
    Key(Arc<str>),
    /// A user of this machine, over TCP or a Unix socket, by uid.
    User(u32),
    /// Another machine, by its address.
    Remote(IpAddr),
    /// Somebody whom the system does not tell (macOS without a key).
    Unknown,
}
