//! What the text of a setting must be: each check returns the text in its normal form, or what it must be.

use std::net::IpAddr;

/// A check of one text. `Err` completes the sentence "must be …".
pub type Check = fn(&str) -> Result<String, &'static str>;

/// Turns a yes-or-no rule into a check.
fn rule(holds: bool, text: &str, must: &'static str) -> Result<String, &'static str> {
    if holds { Ok(text.to_owned()) } else { Err(must) }
}

/// A model name: what a request's `model` may be.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn model(text: &str) -> Result<String, &'static str> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    rule(
        first && text.len() <= 128 && text.as_bytes().iter().all(letter),
        text,
        "a model name ([A-Za-z0-9][A-Za-z0-9._:/-]{0,127})",
    )
}

/// The name of an alias: a model name, or `*` for every name.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn alias(text: &str) -> Result<String, &'static str> {
    if text == "*" { Ok(text.to_owned()) } else { model(text) }
}

/// A key: what can travel in an `Authorization` header.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn key(text: &str) -> Result<String, &'static str> {
    // What an editor puts before a text is no part of it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    rule(
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()),
        text,
        "visible ASCII characters without spaces, at least one",
    )
}

/// The name of a caller who has a key; it stands in queues and logs.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn key_name(text: &str) -> Result<String, &'static str> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"._@-".contains(byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let taken = text.strip_prefix("key-").is_some_and(digits);
    rule(
        first && !taken && text.len() <= 64 && text.as_bytes().iter().all(letter),
        text,
        "1 to 64 ASCII letters, digits or any of `._@-`, beginning with a letter or digit, and not like `key-1`, as \
         keys without a name are called",
    )
}

/// A `-c` override for Codex.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn codex_config(text: &str) -> Result<String, &'static str> {
    let named = text.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty());
    rule(named && !text.contains('\0'), text, "key=value (as for codex -c), without NUL characters")
}

/// The name of an environment variable.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn variable(text: &str) -> Result<String, &'static str> {
    let word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let first = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    rule(word && first, text, "the name of an environment variable")
}

/// A login name or numeric uid.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn user(text: &str) -> Result<String, &'static str> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || ":,/".contains(c);
    rule(!text.is_empty() && !text.starts_with('-') && !text.contains(odd), text, "a user name or uid")
}

/// An IP address (brackets allowed) or host name, in lower case.
fn host_name(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return (bare.len() == text.len() || address.is_ipv6()).then(|| address.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits only would be a broken IPv4 address.
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit());
    (name.len() <= 253 && name.split('.').all(label) && !number).then_some(name)
}

/// The address to listen on.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn host(text: &str) -> Result<String, &'static str> {
    host_name(text).ok_or("an IP address or host name, without a port")
}

/// An origin as a browser sends it: scheme, host and, if not the scheme's own, port.
///
/// `null` is refused: any page of any site can make its requests come from `null`.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn origin(text: &str) -> Result<String, &'static str> {
    const MUST: &str =
        "scheme://host or scheme://host:port, without a path (`null` and `*` would admit any site)";
    let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://").ok_or(MUST)?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(letter) {
        return Err(MUST);
    }
    let (host, port) = host_and_port(rest).ok_or(MUST)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(match (scheme, port) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

/// A proxy URL for Codex.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn proxy(text: &str) -> Result<String, &'static str> {
    const MUST: &str = "an http, https, socks5 or socks5h URL of host and port, without a path";
    let (scheme, rest) = text.split_once("://").ok_or(MUST)?;
    let known = ["http", "https", "socks5", "socks5h"].contains(&scheme.to_ascii_lowercase().as_str());
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    rule(known && clean && host_and_port(place).is_some(), text, MUST)
}

/// `host`, `host:port` or `[v6]:port`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let colon = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, port) = match colon {
        None => (text, None),
        Some(at) => (&text[..at], Some(text[at + 1..].parse().ok().filter(|port| *port != 0)?)),
    };
    // An IPv6 address needs its brackets here, or its last group would read as a port.
    let bare_v6 = host.contains(':') && !host.starts_with('[');
    if bare_v6 { None } else { Some((host_name(host)?, port)) }
}

/// A log level, or a filter as tracing writes it. `warning` becomes `warn`.
///
/// # Errors
/// The rule, if `text` breaks it.
pub fn log_level(text: &str) -> Result<String, &'static str> {
    const MUST: &str = "debug, info, warning, error, or a tracing filter such as info,codex_api_proxy=debug";
    let word = text.trim().to_ascii_lowercase();
    match word.as_str() {
        "warning" => return Ok("warn".into()),
        "trace" | "debug" | "info" | "warn" | "error" | "off" => return Ok(word),
        // tracing would take a lone word for the name of a target, and a misspelled level would silence the log.
        "" => return Err(MUST),
        _ if !word.contains(['=', ',']) => return Err(MUST),
        _ => {}
    }
    let filter = tracing_subscriber::EnvFilter::builder().parse(text.trim());
    filter.map(|_| text.trim().to_owned()).map_err(|_| MUST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: the text, and its normal form if it passes.
    fn rows(check: Check, rows: &[(&str, Option<&str>)]) {
        for (text, expect) in rows {
            assert_eq!(check(text).ok().as_deref(), *expect, "{text:?}");
        }
    }

    #[test]
    fn models_and_aliases() {
        let long = "m".repeat(128);
        let too_long = "m".repeat(129);
        rows(
            model,
            &[
                ("gpt-5.1", Some("gpt-5.1")),
                ("openai/gpt:latest", Some("openai/gpt:latest")),
                (&long, Some(&long)),
                (&too_long, None),
                ("", None),
                ("-m", None),
                ("a b", None),
                ("*", None),
                ("é", None),
            ],
        );
        rows(alias, &[("*", Some("*")), ("**", None), ("gpt-4o", Some("gpt-4o"))]);
    }

    #[test]
    fn keys_variables_users_overrides() {
        rows(
            key,
            &[
                ("12345", Some("12345")),
                ("~!x", Some("~!x")),
                ("\u{feff}a", Some("a")),
                ("\u{feff}", None),
                ("a\u{feff}", None),
                ("", None),
                ("a b", None),
                ("ä", None),
                ("a\n", None),
            ],
        );
        rows(
            variable,
            &[("A_1", Some("A_1")), ("_", Some("_")), ("1A", None), ("", None), ("A=B", None), ("A-B", None)],
        );
        rows(
            user,
            &[
                ("www-data", Some("www-data")),
                ("1000", Some("1000")),
                ("", None),
                ("a b", None),
                ("-x", None),
            ],
        );
        rows(
            codex_config,
            &[
                ("a=b", Some("a=b")),
                ("a.b=\"x=y\"", Some("a.b=\"x=y\"")),
                ("a=", Some("a=")),
                ("=b", None),
                (" =b", None),
                ("a", None),
                ("", None),
                ("a=\0", None),
            ],
        );
    }

    #[test]
    fn hosts() {
        let label = "a".repeat(63);
        let long_label = "a".repeat(64);
        rows(
            host,
            &[
                ("127.0.0.1", Some("127.0.0.1")),
                ("::1", Some("::1")),
                ("[::1]", Some("::1")),
                ("0.0.0.0", Some("0.0.0.0")),
                ("LocalHost", Some("localhost")),
                ("My-Box.lan.", Some("my-box.lan")),
                (&label, Some(&label)),
                (&long_label, None),
                ("[127.0.0.1]", None),
                ("127.0.0.300", None),
                ("127.1", None),
                ("localhost:80", None),
                ("http://x", None),
                ("a..b", None),
                ("-a", None),
                ("", None),
                ("*", None),
            ],
        );
    }

    #[test]
    fn origins() {
        rows(
            origin,
            &[
                ("https://Example.com", Some("https://example.com")),
                ("https://example.com/", Some("https://example.com")),
                ("https://example.com:443", Some("https://example.com")),
                ("http://localhost:3000", Some("http://localhost:3000")),
                ("http://localhost:80", Some("http://localhost")),
                ("http://[::1]:3000", Some("http://[::1]:3000")),
                ("chrome-extension://abcdef", Some("chrome-extension://abcdef")),
                ("null", None),
                ("*", None),
                ("https://*", None),
                ("https://a/b", None),
                ("https://u@a", None),
                ("https://a:0", None),
                ("https://a:65536", None),
                ("https://", None),
                ("://a", None),
                ("http://::1", None),
                ("example.com", None),
            ],
        );
    }

    #[test]
    fn proxies() {
        let same = |text: &'static str| (text, Some(text));
        rows(
            proxy,
            &[
                same("http://127.0.0.1:8118"),
                same("http://127.0.0.1:8118/"),
                same("socks5h://user:p@ss@proxy.lan:1080"),
                same("https://[::1]:1"),
                same("HTTP://proxy"),
                ("127.0.0.1:8118", None),
                ("ftp://a", None),
                ("http://", None),
                ("http://a:x", None),
                ("http://a/path", None),
                ("http://a b", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn log_levels() {
        rows(
            log_level,
            &[
                ("info", Some("info")),
                ("WARNING", Some("warn")),
                ("off", Some("off")),
                ("info,codex_api_proxy=debug", Some("info,codex_api_proxy=debug")),
                ("codex_api_proxy::api=trace", Some("codex_api_proxy::api=trace")),
                ("inof", None),
                ("a=warning!", None),
                ("", None),
            ],
        );
    }
}
