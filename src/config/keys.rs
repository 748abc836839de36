//! The keys that callers present, each with its caller's name, and the files they are read from.

use std::sync::Arc;

use super::{Secret, check};

/// A key that lets its caller in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The caller's name, which several keys may share; `key-1` for the first key if it has none.
    pub name: Arc<str>,
    /// What is presented.
    pub secret: Secret,
}

/// A key as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// For a person: `line 3`.
    pub place: String,
    /// The caller's name, if it stands there.
    pub name: Option<String>,
    /// The key.
    pub secret: Secret,
}

/// The keys of a key file, and what is worth a word: `KEY` or `NAME KEY` on each line, `#` begins a
/// line of comment.
///
/// # Errors
/// All that is wrong, by line; never the text of a line.
pub(super) fn parse(text: &str) -> Result<(Vec<Found>, Vec<String>), Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut found, mut warnings, mut wrong) = (vec![], vec![], vec![]);
    for (at, line) in text.lines().enumerate() {
        let place = format!("line {}", at + 1);
        if line.contains('\u{feff}') {
            wrong.push(format!("{place}: a byte order mark stands within the file; remove it"));
            continue;
        }
        // At the end of a line it belongs to the line's end.
        if line.trim_end_matches('\r').contains('\r') {
            wrong.push(format!("{place}: lines must end with a line feed, not with a carriage return alone"));
            continue;
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (name, key) = match words[..] {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            [key] => (None, key),
            [_, key, ..] if key.starts_with('#') => {
                wrong.push(format!("{place}: a comment must have a line of its own"));
                continue;
            }
            [name, key] => (Some(name), key),
            [..] => {
                wrong.push(format!("{place} must be KEY or NAME KEY"));
                continue;
            }
        };
        let named = name.map(check::key_name).transpose();
        match (named, check::key(key)) {
            (Err(must), _) => wrong.push(format!("{place}: the name of a key must be {must}")),
            (_, Err(must)) => wrong.push(format!("{place}: a key must be {must}")),
            (Ok(name), Ok(key)) => {
                warnings.extend(odd(&key).map(|why| format!("{place}: {why}")));
                let odd_name = name.as_deref().and_then(odd_name);
                warnings.extend(odd_name.map(|why| format!("{place}: {why}")));
                if odd_name.is_none() && name.as_ref().is_some_and(|name| name.len() > key.len()) {
                    warnings.push(format!("{place}: the name is longer than the key; the name comes first"));
                }
                found.push(Found { place, name, secret: Secret::new(key) });
            }
        }
    }
    match wrong.is_empty() {
        true if found.is_empty() => Err(vec!["holds no key".into()]),
        true => Ok((found, warnings)),
        false => Err(wrong),
    }
}

/// What of a key was likely not meant as a part of it.
pub(super) fn odd(key: &str) -> Option<&'static str> {
    let quote = ['"', '\''];
    let assigned = key
        .split_once('=')
        .is_some_and(|(name, value)| check::variable(name).is_ok() && value.contains(|c: char| c != '='));
    match () {
        () if key.starts_with(quote) || key.ends_with(quote) => {
            Some("the quotes are taken as a part of the key; callers must send them, too")
        }
        () if assigned => Some("`NAME=` is taken as a part of the key; callers must send it, too"),
        () => None,
    }
}

/// What of a name was likely not meant as one.
fn odd_name(name: &str) -> Option<&'static str> {
    match name {
        "export" => {
            Some("`export` is taken as the caller's name, and all behind it as the key; write the key alone")
        }
        _ if name.eq_ignore_ascii_case("bearer") => {
            Some("`Bearer` is taken as the caller's name; write the key alone")
        }
        _ => None,
    }
}

/// Every key once, in the order found, with its caller's name.
///
/// # Errors
/// A key that stands there under two names.
pub(super) fn named(found: Vec<Found>) -> Result<Vec<Key>, String> {
    let mut kept: Vec<Found> = Vec::new();
    for next in found {
        let Some(same) = kept.iter_mut().find(|same| same.secret == next.secret) else {
            kept.push(next);
            continue;
        };
        match (&same.name, &next.name) {
            (Some(one), Some(other)) if one != other => {
                return Err(format!(
                    "{}: the key is that of {}, which has another name; give each caller a key of its own",
                    next.place, same.place
                ));
            }
            (None, Some(_)) => same.name = next.name,
            _ => {}
        }
    }
    let key = |(at, found): (usize, Found)| Key {
        // By place, which tells nothing of the key.
        name: found.name.unwrap_or_else(|| format!("key-{}", at + 1)).into(),
        secret: found.secret,
    };
    Ok(kept.into_iter().enumerate().map(key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NAME:KEY` of each key, or what is wrong.
    fn read(text: &str) -> Result<Vec<String>, Vec<String>> {
        let (found, _) = parse(text)?;
        let keys = named(found).map_err(|wrong| vec![wrong])?;
        Ok(keys.iter().map(|key| format!("{}:{}", key.name, key.secret.expose())).collect())
    }

    #[test]
    fn a_line_is_a_key_or_a_name_and_a_key() {
        for (text, expect) in [
            ("# mine\n one \n\ntwo\n", &["key-1:one", "key-2:two"][..]),
            ("alice a1\n\tbob \t b1\r\nc1\n", &["alice:a1", "bob:b1", "key-3:c1"]),
            ("\u{feff}alice a1", &["alice:a1"]),
            ("\u{feff}# mine\na1", &["key-1:a1"]),
            ("a#b\n  # c d e\n", &["key-1:a#b"]),
            // A key is changed by having both for a while.
            ("alice old\nalice new", &["alice:old", "alice:new"]),
            ("a1\nalice a1\na1\nalice a1", &["alice:a1"]),
            ("same\nsame\nother", &["key-1:same", "key-2:other"]),
            ("\"quoted\"\nbob KEY=b1", &["key-1:\"quoted\"", "bob:KEY=b1"]),
            ("a.b_c-d@e f", &["a.b_c-d@e:f"]),
            ("key-one a\nkey- b", &["key-one:a", "key-:b"]),
        ] {
            assert_eq!(read(text), Ok(expect.iter().map(|key| (*key).to_owned()).collect()), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_never_quoted() {
        let name = "line 1: the name of a key must be 1 to 64 ASCII letters, digits or any of `._@-`, beginning with \
                    a letter or digit, and not like `key-1`, as keys without a name are called";
        let longest = "n".repeat(64);
        assert_eq!(read(&format!("{longest} k")), Ok(vec![format!("{longest}:k")]));
        for (text, expect) in [
            ("", &["holds no key"][..]),
            ("# none\n\n", &["holds no key"]),
            ("\u{feff}", &["holds no key"]),
            ("a b c", &["line 1 must be KEY or NAME KEY"]),
            ("ok\na # b", &["line 2: a comment must have a line of its own"]),
            ("secret #laptop", &["line 1: a comment must have a line of its own"]),
            ("\"a b\"", &[name]),
            ("key-7 a", &[name]),
            (&format!("{longest}n k"), &[name]),
            (
                "ä\na ö\n",
                &[
                    "line 1: a key must be visible ASCII characters without spaces, at least one",
                    "line 2: a key must be visible ASCII characters without spaces, at least one",
                ],
            ),
            ("a\n\u{feff}secret\nb", &["line 2: a byte order mark stands within the file; remove it"]),
            (
                "secret\rother\nb\r\n",
                &["line 1: lines must end with a line feed, not with a carriage return alone"],
            ),
            ("export A=b c", &["line 1 must be KEY or NAME KEY"]),
            (
                "alice a1\nbob a1",
                &[
                    "line 2: the key is that of line 1, which has another name; give each caller a key of its own",
                ],
            ),
        ] {
            assert_eq!(read(text), Err(expect.iter().map(|line| (*line).to_owned()).collect()), "{text:?}");
        }
    }

    #[test]
    fn what_was_hardly_meant_is_warned_about() {
        let quotes = "the quotes are taken as a part of the key; callers must send them, too";
        let assigned = "`NAME=` is taken as a part of the key; callers must send it, too";
        for (key, expect) in [
            ("\"a\"", Some(quotes)),
            ("'a'", Some(quotes)),
            ("a'", Some(quotes)),
            ("A_1=b", Some(assigned)),
            ("CODEX_PROXY_API_KEY=\"b\"", Some(quotes)),
            ("a=b=", Some(assigned)),
            ("c2VjcmV0==", None),
            ("sk-a=b", None),
            ("=b", None),
            ("a\"b", None),
        ] {
            assert_eq!(odd(key), expect, "{key}");
        }
        let (_, warnings) = parse("alice 'a-long-key'\nsecret bob\n").unwrap();
        let swapped = "line 2: the name is longer than the key; the name comes first";
        assert_eq!(warnings, [format!("line 1: {quotes}"), swapped.into()]);
        let (_, warnings) = parse("\u{feff}# of a shell\r\nexport A_1=b\r\nbearer c\r\n").unwrap();
        let exported = "line 2: `export` is taken as the caller's name, and all behind it as the key; write the key alone";
        let bearer = "line 3: `Bearer` is taken as the caller's name; write the key alone";
        assert_eq!(warnings, [format!("line 2: {assigned}"), exported.into(), bearer.into()]);
    }
}
