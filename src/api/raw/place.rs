//! Where in a body its text goes wrong, and in what words that is said.

use crate::turn::Failure;

/// The longest name of a field that is quoted, in bytes.
const LONGEST: usize = 64;

/// What a client reads of a text that could not be read.
pub(super) fn explained(text: &str, error: &serde_json::Error) -> Failure {
    let said = error.to_string();
    let why = if said.starts_with("lone leading surrogate")
        || said.starts_with("unexpected end of hex escape")
    {
        "has half of a surrogate pair (\\ud800 to \\udfff), as of an emoji that was cut in two: that is no \
         character"
    } else if said.starts_with("number out of range") {
        "has a number that is out of the range of 64-bit floating point"
    } else {
        return Failure::BadRequest {
            at: None,
            message: format!("The request body is not valid JSON: {error}."),
        };
    };
    match path(text, offset(text, error.line(), error.column())) {
        path if path.is_empty() => {
            Failure::BadRequest { at: None, message: format!("The request body {why}.") }
        }
        path => Failure::bad_field(path.clone(), format!("{path} {why}.")),
    }
}

/// The byte that a line and a column, counted from 1, stand for.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let lines = text.split_inclusive('\n').take(line.saturating_sub(1));
    lines.map(str::len).sum::<usize>() + column
}

/// What is open around a place.
enum Open<'a> {
    /// An object, and the name whose value is being read.
    Object(Option<&'a str>),
    /// An array, and how many of its values were read.
    Array(usize),
}

/// The field that byte belongs to, as `messages[0].content`; empty for the body as a whole. What comes
/// before it is valid JSON.
fn path(text: &str, end: usize) -> String {
    let bytes = text.as_bytes().get(..end).unwrap_or(text.as_bytes());
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' => open.push(Open::Object(None)),
            b'[' => open.push(Open::Array(0)),
            b'}' | b']' => drop(open.pop()),
            b',' => match open.last_mut() {
                Some(Open::Object(name)) => *name = None,
                Some(Open::Array(count)) => *count += 1,
                None => {}
            },
            b'"' => {
                let begin = at + 1;
                at = begin;
                while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                if let Some(Open::Object(name @ None)) = open.last_mut() {
                    *name = text.get(begin..at.min(bytes.len())).filter(|name| name.len() <= LONGEST);
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for open in open {
        match open {
            Open::Object(Some(name)) if path.is_empty() => path.push_str(name),
            Open::Object(Some(name)) => {
                path.push('.');
                path.push_str(name);
            }
            Open::Object(None) => {}
            Open::Array(count) => path.push_str(&format!("[{count}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::At;

    #[test]
    fn what_is_no_character_is_named_with_its_field() {
        for (text, field) in [
            (
                r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"hi \ud83d"}]}"#,
                "messages[1].content",
            ),
            (
                r#"{"messages":[{"content":[{"type":"text"},{"text":"\ude00"}]}]}"#,
                "messages[0].content[1].text",
            ),
            ("{\n \"a\": {\"b\\\"c\": [1, 2]},\n \"stop\": [\"x\", \"\\ud83dx\"]}", "stop[1]"),
            (r#"{"user":"\ud83d\u0041"}"#, "user"),
            (r#"["\ud83d"]"#, "[0]"),
            (r#""\ud83d""#, ""),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            match explained(text, &error) {
                Failure::BadRequest { at, message } => {
                    let named = if field.is_empty() { "The request body" } else { field };
                    assert!(
                        message.starts_with(&format!("{named} has half of a surrogate pair")),
                        "{message}"
                    );
                    assert_eq!(at, (!field.is_empty()).then(|| At::Field(field.into())), "{text}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_number_beyond_all_is_named_too() {
        let text = r#"{"temperature": 1e400}"#;
        let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        let message = "temperature has a number that is out of the range of 64-bit floating point.";
        assert_eq!(explained(text, &error), Failure::bad_field("temperature", message));
    }
}
