//! Who may call: the rules on host, origin, peer and key, in this order, on one request's head.
//!
//! Pure: the lists are prepared once per (re)load in [`Rules`], the peer's user is looked up by
//! the caller of [`Rules::check`] when [`Rules::wants_peer`] says that it decides.

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::config::{Config, Secret};
use crate::os::names;
use crate::os::peer::Owner;
use crate::turn::Failure;
use crate::turn::failure::Rule;

/// What of a request decides who may call.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target as sent: an absolute one names its host too.
    pub uri: &'a Uri,
    /// The header section.
    pub headers: &'a HeaderMap,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody the socket's file mode lets in.
    Unix,
    /// Somebody on another machine, or who used one of this machine's outward addresses.
    Remote,
    /// Somebody on this machine; the owner matters only where [`Rules::wants_peer`].
    Loopback(Owner),
}

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Answers everybody, and tells more to the trusted.
    Open,
    /// Answers the trusted only.
    Key,
}

/// A request that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// No key is configured, or the right one was presented.
    pub trusted: bool,
}

/// The rules in force, prepared for comparing.
#[derive(Clone, Debug)]
pub struct Rules {
    hosts: Vec<String>,
    origins: Vec<String>,
    users: Vec<u32>,
    keys: Vec<Secret>,
}
