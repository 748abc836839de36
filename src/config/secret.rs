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

/// Hides the value of a Codex override whose key, or text, names something secret.
pub(super) fn override_without_secret(text: &str) -> String {
    const TELLTALES: &[&str] =
        &["token", "secret", "password", "api_key", "apikey", "authorization", "bearer", "headers"];
    let lower = text.to_ascii_lowercase();
    let Some((key, _)) = text.split_once('=') else { return HIDDEN.into() };
    // Names of variables are no secrets, and neither are limits counted in tokens.
    let innocent =
        ["env_key", "env_http_headers", "bearer_token_env_var", "token_limit", "max_output_tokens"];
    let last = key.trim().rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    if innocent.iter().any(|name| last.ends_with(name)) || !TELLTALES.iter().any(|word| lower.contains(word))
    {
        return text.to_owned();
    }
    format!("{key}={HIDDEN}")
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
    fn secrets_inside_codex_overrides_are_hidden() {
        for (text, shown) in [
            ("model_reasoning_effort=\"low\"", "model_reasoning_effort=\"low\""),
            (
                "model_providers.x.experimental_bearer_token=\"sk\"",
                "model_providers.x.experimental_bearer_token=***",
            ),
            ("model_providers.x.http_headers={A=\"b\"}", "model_providers.x.http_headers=***"),
            ("model_providers.x={http_headers={A=\"b\"}}", "model_providers.x=***"),
            ("model_providers.x.env_key=\"OPENAI_API_KEY\"", "model_providers.x.env_key=\"OPENAI_API_KEY\""),
            ("model_auto_compact_token_limit=1000", "model_auto_compact_token_limit=1000"),
        ] {
            assert_eq!(override_without_secret(text), shown);
        }
    }

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert!(secret.matches(b"hunter2") && !secret.matches(b"hunter3") && !secret.matches(b"hunter"));
    }
}
