//! Names for requests and replies: unique, not secret.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName};

/// The header a request is named by, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static SEED: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A new name: the prefix and 32 hexadecimal digits.
pub fn fresh(prefix: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // SipHash with keys of this process: does not repeat within it, nor between processes.
    let mut name = String::with_capacity(prefix.len() + 32);
    let _ = write!(name, "{prefix}{:016x}{:016x}", SEED.0.hash_one(number), SEED.1.hash_one(number));
    name
}

/// The client's name for the request, if it is one we can log and return, else one of ours.
pub fn request_id(headers: &HeaderMap) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match sent {
        Some(id) if (1..=128).contains(&id.len()) && id.bytes().all(plain) => id.to_owned(),
        _ => fresh("req_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_is_kept_if_it_is_plain() {
        let longest = "a".repeat(128);
        for (sent, kept) in [
            ("a.B_9-", true),
            (longest.as_str(), true),
            (&"a".repeat(129), false),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("é", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, http::HeaderValue::from_bytes(sent.as_bytes()).unwrap());
            let id = request_id(&headers);
            assert_eq!(id == sent, kept, "{sent:?}");
            assert!(kept || (id.starts_with("req_") && id.len() == 36), "{id}");
        }
        assert_ne!(fresh(""), fresh(""));
    }
}
