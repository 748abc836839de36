//! Who may call: the rules on host, origin, peer and key, in this order, on one request's head.
//!
//! Pure: the lists are prepared once per (re)load in [`Rules`]; who is at the other end was found
//! out as the connection was accepted ([`Peer`]).

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, ORIGIN, TRANSFER_ENCODING, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::config::{Config, Key};
use crate::observe::repeats;
use crate::os::{host, users};
use crate::turn::failure::Rule;
use crate::turn::{Caller, Failure};

use super::peer::Peer;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// What a page's script may read beside the body.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, openai-processing-ms, x-codex-proxy-ignored, x-should-retry, retry-after, retry-after-ms",
);

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

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Answers everybody, and tells more to the trusted.
    Open,
    /// Answers the trusted only.
    Key,
}

/// A request that may be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// No key is configured, or the right one was presented.
    pub trusted: bool,
    /// Who asks.
    pub caller: Caller,
}

/// The rules in force, prepared for comparing.
#[derive(Clone, Debug)]
pub struct Rules {
    hosts: Vec<String>,
    origins: Vec<String>,
    users: Vec<u32>,
    /// Those of them that our user namespace does not map, by name.
    unmapped: Vec<String>,
    keys: Vec<Key>,
}

impl Rules {
    /// Prepares the rules of these settings. Asks the system's user database, which may block.
    ///
    /// # Errors
    /// A sentence naming the setting that is wrong.
    pub fn new(config: &Config) -> Result<Rules, String> {
        let host_name = host::host_name();
        let short = host_name.split('.').next().unwrap_or_default();
        let mut hosts = vec!["localhost".to_owned(), short.to_owned(), host_name.clone()];
        hosts.extend(config.allowed_hosts.iter().map(|host| normal_host(host)));
        hosts.retain(|host| !host.is_empty());

        let origins: Vec<String> =
            config.allowed_origins.iter().map(|origin| normal_origin(origin)).collect();
        if let Some(bad) = origins.iter().find(|origin| *origin != "null" && !origin.contains("://")) {
            return Err(format!(
                "allowed_origins: `{bad}` is not an origin; write each page's scheme, host and port, \
                 as in http://localhost:3000"
            ));
        }
        let mut users = users::resolve_users(&config.allowed_users)?;
        let root = std::iter::once((0, "root".to_owned()));
        let named = users.iter().copied().zip(config.allowed_users.iter().map(|user| format!("`{user}`")));
        let unmapped =
            root.chain(named).filter(|(uid, _)| users::known(*uid).is_none()).map(|(_, name)| name).collect();
        users.extend([0, users::own_uid()]);
        Ok(Rules { hosts, origins, users, unmapped, keys: config.keys.clone() })
    }

    /// What an operator should know of a user namespace that this process runs in: who may call, and
    /// will be refused as a stranger, because the kernel shows such users all as one.
    pub fn unmapped(&self) -> Option<String> {
        let named = self.unmapped.iter().any(|name| name != "root");
        let setting = if named { " (allowed_users)" } else { "" };
        (!self.unmapped.is_empty()).then(|| {
            format!(
                "PrivateUsers: the user namespace of this server does not map {}{setting}, who cannot be told \
                 from strangers and are refused without a key. Set api_key, or run it without PrivateUsers=.",
                self.unmapped.join(", ")
            )
        })
    }

    /// Decides. The path and the method are known to exist; the body is not read yet.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, head: Head, peer: Peer, access: Access) -> Result<Pass, Failure> {
        self.check_site(head, peer)?;
        if self.keys.is_empty() {
            check_forwarded(head.headers)?;
            self.check_peer(peer)?;
            return Ok(Pass { trusted: true, caller: peer.caller() });
        }
        let presented = presented_keys(head.headers)?;
        // Every key is compared with every other, so that the time tells nothing about them.
        let mut found = None;
        for Key { name, secret } in &self.keys {
            for candidate in &presented {
                if secret.matches(candidate) {
                    found = Some(name);
                }
            }
        }
        match found {
            Some(name) => Ok(Pass { trusted: true, caller: Caller::Key(Arc::clone(name)) }),
            None if access == Access::Open => Ok(Pass { trusted: false, caller: peer.caller() }),
            None => Err(Failure::Unauthorized { presented: !presented.is_empty() }),
        }
    }

    /// The answer to a browser's preflight; `None` if the request is none. Needs no key.
    ///
    /// `methods` is what the route takes, as for `allow`.
    ///
    /// # Errors
    /// Host or origin not allowed.
    pub fn preflight(
        &self,
        head: Head,
        peer: Peer,
        methods: &'static str,
    ) -> Option<Result<warp::reply::Response, Failure>> {
        let asks = |name| head.headers.get(name);
        if head.method != Method::OPTIONS
            || asks(ORIGIN).is_none()
            || asks(ACCESS_CONTROL_REQUEST_METHOD).is_none()
        {
            return None;
        }
        if let Err(failure) = self.check_site(head, peer) {
            return Some(Err(failure));
        }
        let mut response = warp::reply::Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.cors(head.headers).apply(headers);
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if let Some(requested) = asks(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
            headers.append(VARY, HeaderValue::from_static("access-control-request-headers"));
        }
        if asks(REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true") {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        Some(Ok(response))
    }

    /// The headers that let an allowed page read the answer, whatever the answer is.
    pub fn cors(&self, headers: &HeaderMap) -> Cors {
        let mut allowed = headers.get_all(ORIGIN).iter();
        let origin = match (allowed.next(), allowed.next()) {
            (Some(origin), None) if self.allows_origin(origin) => Some(origin.clone()),
            _ => None,
        };
        Cors { origin, varies: !self.origins.is_empty() }
    }

    /// Framing, host and origin: that no web page reaches us under a name of its own or from its own site.
    fn check_site(&self, head: Head, peer: Peer) -> Result<(), Failure> {
        check_framing(head.headers)?;
        let host = one(head.headers, &HOST);
        if !matches!(peer, Peer::Unix(_)) {
            let host = match host {
                Some(Ok(host)) => host,
                Some(Err(_)) => return Err(malformed("The Host header must be sent exactly once.")),
                None => return Err(malformed("The Host header is missing.")),
            };
            self.check_host(host.as_bytes())?;
            if let Some(authority) = head.uri.authority() {
                self.check_host(authority.as_str().as_bytes())?;
            }
        }
        match one(head.headers, &ORIGIN) {
            Some(Ok(origin)) => {
                let own = host.is_some_and(|host| host.is_ok_and(|host| is_own(origin, host)));
                if own || self.allows_origin(origin) { Ok(()) } else { Err(origin_refused(origin)) }
            }
            Some(Err(_)) => Err(malformed("The Origin header must not be sent twice.")),
            // Without an Origin only a page's plain GET (an image, a link) comes from a browser.
            // `same-site` is no better than `cross-site`: another port of this host is another page.
            None => match one(head.headers, &SEC_FETCH_SITE) {
                None => Ok(()),
                Some(Ok(site)) if site == "none" || site == "same-origin" => Ok(()),
                Some(_) => Err(forbidden(
                    Rule::Origin,
                    "Another site's page may not use this server. Add its origin to `allowed_origins` and send requests with CORS.",
                )),
            },
        }
    }

    fn check_host(&self, value: &[u8]) -> Result<(), Failure> {
        let authority = Authority::try_from(value).ok().filter(is_host_and_port).ok_or_else(|| {
            malformed("The Host header is not a host name or address with an optional port.")
        })?;
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let with_port = authority.as_str().to_ascii_lowercase();
        if is_ip(&host) || self.hosts.iter().any(|allowed| *allowed == host || *allowed == with_port) {
            return Ok(());
        }
        Err(forbidden(
            Rule::Host,
            format!(
                "The host name `{host}` is not one of this server's. Add it to `allowed_hosts` to allow it."
            ),
        ))
    }

    fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        self.origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
    }

    /// Whether that peer is refused whatever it sends.
    pub fn turns_away(&self, peer: Peer) -> bool {
        self.keys.is_empty() && self.check_peer(peer).is_err()
    }

    fn check_peer(&self, peer: Peer) -> Result<(), Failure> {
        let message = match peer {
            Peer::Unix(_) | Peer::Remote(_) | Peer::CannotTell => return Ok(()),
            Peer::Local(uid) if self.users.contains(&uid) => return Ok(()),
            Peer::Local(uid) => format!(
                "The user with id {uid} may not use this server. \
                 Add the user to `allowed_users`, or set `api_key` and send the key."
            ),
            Peer::Stranger => "The user at the other end of the connection cannot be told. \
                              Set `api_key` and send the key to be let in without it."
                .to_owned(),
        };
        Err(forbidden(Rule::Peer, message))
    }
}

/// What the log calls refusals of that kind.
pub fn refusals(failure: &Failure) -> repeats::Kind {
    match failure {
        Failure::Forbidden { rule: Rule::Host, .. } => "requests refused with host_not_allowed",
        Failure::Forbidden { rule: Rule::Origin, .. } => "requests refused with origin_not_allowed",
        Failure::Forbidden { rule: Rule::Peer, .. } => "requests refused with peer_not_allowed",
        Failure::Forbidden { rule: Rule::Forwarded, .. } => "requests refused with forwarded_not_allowed",
        Failure::Unauthorized { .. } => "requests refused with invalid_api_key",
        _ => "requests refused for their headers",
    }
}

/// CORS headers for one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    origin: Option<HeaderValue>,
    varies: bool,
}

impl Cors {
    /// Adds them.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = &self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// The header's value; `Err` if it was sent more than once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Result<&'a HeaderValue, ()>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(if values.next().is_none() { Ok(first) } else { Err(()) })
}

fn is_own(origin: &HeaderValue, host: &HeaderValue) -> bool {
    let origin = origin.as_bytes();
    // We speak plain HTTP; a page reached through a TLS proxy has the same host.
    [&b"http://"[..], b"https://"].iter().any(|scheme| {
        origin.split_at_checked(scheme.len()).is_some_and(|(s, rest)| {
            s.eq_ignore_ascii_case(scheme) && rest.eq_ignore_ascii_case(host.as_bytes())
        })
    })
}

/// `Authority` also takes `user@host` and text after `[::1]`; neither is a host.
fn is_host_and_port(authority: &Authority) -> bool {
    let host = authority.host();
    let is_port = |rest: &str| match rest.strip_prefix(':') {
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()),
        None => rest.is_empty(),
    };
    !host.is_empty() && authority.as_str().strip_prefix(host).is_some_and(is_port)
}

fn is_ip(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

fn normal_host(host: &str) -> String {
    host.trim().trim_end_matches('.').to_ascii_lowercase()
}

fn normal_origin(origin: &str) -> String {
    origin.trim().trim_end_matches('/').to_ascii_lowercase()
}

/// A reverse proxy in front makes everybody a peer of this machine: without a key nothing would be left.
fn check_forwarded(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.keys().find(|name| is_of_a_proxy(name)) {
        None => Ok(()),
        Some(name) => Err(forbidden(
            Rule::Forwarded,
            format!(
                "The request was forwarded by a proxy (it has the header `{name}`). \
                 Behind a proxy this server needs a key: set `api_key`."
            ),
        )),
    }
}

/// Whether a proxy has forwarded the request: its peer speaks for somebody else.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(is_of_a_proxy)
}

/// Whether proxies add a header of that name, and clients do not.
///
/// Most tell the client's address, and end accordingly: `true-client-ip`, `cf-connecting-ipv6`,
/// `fly-client-ip`, `x-real-ip`, `x-remote-addr`, `x-azure-socketip`.
fn is_of_a_proxy(name: &HeaderName) -> bool {
    const NAMES: [&str; 10] = [
        "forwarded",
        "via",
        "cdn-loop",
        "cf-ray",
        "cf-visitor",
        "cf-ipcountry",
        "cf-worker",
        "client-ip",
        "x-arr-log-id",
        "x-originating-host",
    ];
    const BEGINNINGS: [&str; 5] =
        ["x-forwarded", "x-original-forwarded", "x-envoy-", "x-proxyuser-", "x-appengine-"];
    const LAST_WORDS: [&str; 8] =
        ["ip", "ipv4", "ipv6", "clientip", "socketip", "realip", "addr", "forwarded"];
    let name = name.as_str();
    NAMES.contains(&name)
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || name.rsplit_once('-').is_some_and(|(_, last)| LAST_WORDS.contains(&last))
}

/// The keys sent, by either header, each of which may be sent once.
///
/// # Errors
/// One was sent twice: whoever checked it before us may have looked at the other.
fn presented_keys(headers: &HeaderMap) -> Result<Vec<&[u8]>, Failure> {
    let mut keys = Vec::new();
    match one(headers, &AUTHORIZATION) {
        Some(Err(_)) => return Err(malformed("The Authorization header must not be sent twice.")),
        Some(Ok(value)) => keys.extend(bearer(value)),
        None => {}
    }
    match one(headers, &X_API_KEY) {
        Some(Err(_)) => return Err(malformed("The x-api-key header must not be sent twice.")),
        Some(Ok(value)) => keys.push(value.as_bytes().trim_ascii()),
        None => {}
    }
    Ok(keys)
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, key) = value.as_bytes().trim_ascii().split_at_checked(b"bearer".len())?;
    let separated = key.first().is_some_and(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(b"bearer") && separated).then(|| key.trim_ascii())
}

/// That the body is framed as we read it: by its length, or `chunked` and nothing else. A coding
/// that is not undone would hand on what the client did not mean (RFC 9112, 6.1).
fn check_framing(headers: &HeaderMap) -> Result<(), Failure> {
    match one(headers, &TRANSFER_ENCODING) {
        None => Ok(()),
        Some(Ok(coding)) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        Some(_) => Err(malformed(
            "The Transfer-Encoding header must be `chunked` alone; compress a body with Content-Encoding.",
        )),
    }
}

fn malformed(message: &str) -> Failure {
    Failure::BadRequest { at: None, message: message.into() }
}

fn forbidden(rule: Rule, message: impl Into<String>) -> Failure {
    Failure::Forbidden { rule, message: message.into() }
}

fn origin_refused(origin: &HeaderValue) -> Failure {
    let origin = String::from_utf8_lossy(origin.as_bytes());
    forbidden(
        Rule::Origin,
        format!(
            "Pages of `{origin}` may not use this server. Add the origin to `allowed_origins` to allow it."
        ),
    )
}

#[cfg(test)]
mod tests;
