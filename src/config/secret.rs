//! Values that must never print.

use subtle::ConstantTimeEq;

/// What stands in for a secret wherever it would print.
pub const HIDDEN: &str = "***";

/// A secret text. `Debug` and `Display` show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself; name it where it is used, never where it could print.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A URL without its password, as `http://user:***@host`.
    pub fn redacted(&self) -> String {
        url_without_password(&self.0)
    }

    /// Compares in constant time (for secrets of equal length).
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Hides the password of a URL; all of it if it does not read as a URL.
pub(super) fn url_without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.into() };
    match rest.rsplit_once('@') {
        None => url.to_owned(),
        Some((login, place)) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{place}"),
            // Without a colon the whole login may be a token.
            None => format!("{scheme}://{HIDDEN}@{place}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_hidden() {
        for (url, shown) in [
            ("http://127.0.0.1:8118", "http://127.0.0.1:8118"),
            ("http://u:p@host:1", "http://u:***@host:1"),
            ("http://u:p@q:r@host", "http://u:***@host"),
            ("http://token@host", "http://***@host"),
            ("u:p@host", "***"),
        ] {
            assert_eq!(Secret::new(url).redacted(), shown);
        }
    }

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert!(secret.matches(b"hunter2") && !secret.matches(b"hunter3") && !secret.matches(b"hunter"));
    }
}
