//! One line of somebody else's text, without what names an account, a person or a place.

/// The longest line, in bytes.
const LONGEST: usize = 1000;
const HIDDEN: &str = "***";

/// What ids of accounts, organizations, projects, keys and sessions begin with.
const IDS: &[&str] = &[
    "org-",
    "org_",
    "proj-",
    "proj_",
    "project-",
    "acct-",
    "acct_",
    "account-",
    "account_",
    "user-",
    "user_",
    "team-",
    "team_",
    "workspace-",
    "ws_",
    "key-",
    "key_",
    "sk-",
    "sk_",
    "rk_",
    "pk_",
    "sess-",
    "sess_",
    "req-",
    "req_",
    "cus_",
    "sub_",
    "in_",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xox",
    "eyJ",
    "AKIA",
    "AIza",
];

/// Masks `text`; `known` tells whether the request has a word in it, which may then stand.
pub(super) fn mask(text: &str, known: &mut dyn FnMut(&str) -> bool) -> String {
    let line = one_line(text);
    let mut masked = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(c) = rest.chars().next() {
        if ends_word(c) {
            masked.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let mut end = rest.find(ends_word).unwrap_or(rest.len());
        // A quoted path goes to the end of the quotation, spaces and all.
        let quote = masked.chars().last().filter(|last| "\"'`".contains(*last));
        if let (Some(quote), true) = (quote, path_at(rest) == Some(0)) {
            end = rest.find(quote).unwrap_or(end);
        }
        word(&rest[..end], &mut masked, known);
        rest = &rest[end..];
        if masked.len() > LONGEST {
            break;
        }
    }
    cut(masked)
}

/// White space and everything that does not print becomes one space.
fn one_line(text: &str) -> String {
    // Far more than is kept, and little enough to look through.
    let text = &text[..boundary(text, 4 * LONGEST)];
    let unseen = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.split(unseen).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn cut(mut line: String) -> String {
    if line.len() > LONGEST {
        line.truncate(boundary(&line, LONGEST - '…'.len_utf8()));
        line.push('…');
    }
    line
}

/// The last place up to `at` between two characters.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || "\"'`()[]{}<>,;|「」『』“”‘’«»（），。；、".contains(c)
}

fn word(word: &str, masked: &mut String, known: &mut dyn FnMut(&str) -> bool) {
    // The sentence's own punctuation.
    let core = word.trim_end_matches(['.', ':', '!', '?']);
    let Some((start, end)) = secret(core) else { return masked.push_str(word) };
    if known(&core[start..end]) {
        // The rest may have another.
        masked.push_str(&core[..end]);
    } else {
        masked.push_str(&core[..start]);
        masked.push_str(HIDDEN);
    }
    self::word(&core[end..], masked, known);
    masked.push_str(&word[core.len()..]);
}

/// The first part of the word that must not show.
fn secret(word: &str) -> Option<(usize, usize)> {
    let whole = |start: usize| (start, word.len());
    let found = [url_at(word).map(whole), mail_in(word), path_at(word).map(whole), id_in(word)];
    found.into_iter().flatten().min_by_key(|(start, _)| *start).filter(|(start, end)| start < end)
}

fn url_at(word: &str) -> Option<usize> {
    let colon = word.find("://")?;
    let scheme = word[..colon].trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "+.-".contains(c));
    Some(scheme.len())
}

fn mail_in(word: &str) -> Option<(usize, usize)> {
    let at = word.find('@')?;
    let local = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let start = word[..at].trim_end_matches(local).len();
    let domain = word[at + 1..].find(|c: char| !(c.is_alphanumeric() || ".-".contains(c)));
    let end = domain.map_or(word.len(), |length| at + 1 + length);
    (start < at && end > at + 1).then_some((start, end))
}

/// Where an absolute path begins: a slash, `~/`, `C:\` or `\\` that no part of a name stands before.
fn path_at(word: &str) -> Option<usize> {
    let mut before = None;
    for (at, c) in word.char_indices() {
        let free =
            before.is_none_or(|before: char| !before.is_ascii_alphanumeric() && !"._-/~#".contains(before));
        let rest = &word[at..];
        let named =
            |rest: &str| rest.chars().next().is_some_and(|c| c.is_alphanumeric() || "._-~".contains(c));
        let unix = rest.strip_prefix("~/").or(rest.strip_prefix('/')).is_some_and(named);
        let drive = c.is_ascii_alphabetic() && (rest[1..].starts_with(":\\") || rest[1..].starts_with(":/"));
        if free && (unix || drive || rest.starts_with("\\\\")) {
            return Some(at);
        }
        before = Some(c);
    }
    None
}

fn id_in(word: &str) -> Option<(usize, usize)> {
    let part = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let mut at = 0;
    while at < word.len() {
        let start = at + word[at..].find(part)?;
        let end = start + word[start..].find(|c| !part(c)).unwrap_or(word.len() - start);
        if is_id(&word[start..end]) {
            return Some((start, end));
        }
        at = end;
    }
    None
}

fn is_id(run: &str) -> bool {
    // What follows must have a digit or be long: `user-friendly` and `key_name` are words.
    let opaque =
        |rest: &str| rest.len() >= 4 && (rest.len() >= 20 || rest.bytes().any(|b| b.is_ascii_digit()));
    let prefixed = IDS.iter().any(|prefix| run.strip_prefix(prefix).is_some_and(opaque));
    let has = |kind: fn(&u8) -> bool| run.bytes().any(|byte| kind(&byte));
    let hex = run.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    prefixed || (run.len() >= 20 && has(u8::is_ascii_digit) && (hex || mixed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_an_account_or_a_place_is_masked() {
        for (text, expect) in [
            (
                "Invalid schema for response_format 'answer': In context=('properties', 'a'), 'x' is missing.",
                "",
            ),
            (
                "Unsupported value: 'temperature' does not support 0.2 with this model (gpt-5.1-codex-max).",
                "",
            ),
            ("and/or, 3/4, client-side, user-friendly, key_name, in_progress #/properties/a a/b/c", ""),
            ("organization org-AbC123dEf456 is over", "organization *** is over"),
            ("key sk-proj-abc123: bad", "key ***: bad"),
            ("account_id=acct_12345678, next", "account_id=***, next"),
            ("user-9f8e7d6c on proj_1a2b3c4d", "*** on ***"),
            ("id 123e4567-e89b-12d3-a456-426614174000.", "id ***."),
            ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x", "Bearer ***.***.x"),
            ("token AbCdEfGhIjKlMnOpQrSt12", "token ***"),
            ("ask jörg.doe+x@example.com!", "ask ***!"),
            ("see https://platform.example.com/account/api-keys.", "see ***."),
            ("url=https://u:p@h/x?k=v)", "url=***)"),
            ("no file /home/me/.codex/auth.json:12", "no file ***"),
            ("read '/home/me/My Docs/x y' now", "read '***' now"),
            ("path=/etc/passwd or ~/x or C:\\Users\\me or \\\\host\\share", "path=*** or *** or *** or ***"),
            ("组织org-AbC123dEf456的密钥", "组织***的密钥"),
            ("Datei „/home/jörg/ü.txt“ fehlt", "Datei „***“ fehlt"),
            ("邮箱「a@b.cn」。", "邮箱「***」。"),
            ("a\nb\r\n\tc\u{1b}[31m d\u{202e}e\0", "a b c [31m d e"),
            (" \n ", ""),
        ] {
            let expect = if expect.is_empty() { text.trim() } else { expect };
            assert_eq!(mask(text, &mut |_| false), expect, "{text}");
        }
    }

    #[test]
    fn what_the_client_sent_may_stand() {
        let sent = "look at /srv/data/x.txt and https://h/p for a@b.c, call org-AbC123dEf456";
        let text = "no /srv/data/x.txt, no https://h/p, a@b.c or org-AbC123dEf456 but /srv/data/y.txt";
        let expect = "no /srv/data/x.txt, no https://h/p, a@b.c or org-AbC123dEf456 but ***";
        assert_eq!(mask(text, &mut |word| sent.contains(word)), expect);
    }

    #[test]
    fn a_line_has_a_kilobyte_at_most() {
        for text in ["x".repeat(1000), "é".repeat(500)] {
            assert_eq!(mask(&text, &mut |_| false), text);
        }
        for text in ["x ".repeat(5000), "é".repeat(5000), "x".repeat(1001), "/a ".repeat(5000)] {
            let line = mask(&text, &mut |_| false);
            assert!(line.len() <= LONGEST && line.len() > 990 && line.ends_with('…'), "{}", line.len());
        }
    }
}
