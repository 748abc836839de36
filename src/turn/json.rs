//! JSON that is passed on as its author wrote it.

use std::fmt;

/// A JSON text with its keys in their order and its numbers digit by digit, on one line: blanks
/// between its values are gone, so that it fits into protocols whose messages are lines.
///
/// Whoever makes one vouches that the text is JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        let mut line = String::with_capacity(text.len());
        let (mut in_string, mut escaped) = (false, false);
        for c in text.chars() {
            if in_string {
                in_string = escaped || c != '"';
                escaped = !escaped && c == '\\';
            } else if c.is_ascii_whitespace() {
                continue;
            } else {
                in_string = c == '"';
            }
            line.push(c);
        }
        Json(line.into())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blanks_between_values_go() {
        for (text, expect) in [
            ("{}", "{}"),
            (
                "{ \"b\" :\r\n\t1.0 , \"a\" : [ 1E5 , 12345678901234567890123 ] }",
                "{\"b\":1.0,\"a\":[1E5,12345678901234567890123]}",
            ),
            (r#"{"a b": " \\", "c\"  d" : "\" \\\" e " }"#, r#"{"a b":" \\","c\"  d":"\" \\\" e "}"#),
            ("\"\u{2028} é\"", "\"\u{2028} é\""),
        ] {
            assert_eq!(Json::from(text).as_str(), expect);
        }
    }
}
