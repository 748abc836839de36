//! Custom tools, which take text, as functions with one argument: Codex carries functions only.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::turn::Format;

/// What such a function takes.
pub const PARAMETERS: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// The arguments of such a function.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments<'a> {
    input: Cow<'a, str>,
}

/// A custom tool's input as the arguments of a function.
pub fn wrapped(input: &str) -> String {
    // A struct with one string is always JSON.
    serde_json::to_string(&Arguments { input: input.into() }).unwrap_or_default()
}

/// The reverse. A model that wrote something else meant all of it.
pub fn unwrapped(arguments: String) -> String {
    // An array would be read as the fields' values.
    if !arguments.trim_start().starts_with('{') {
        return arguments;
    }
    match serde_json::from_str::<Arguments>(&arguments) {
        Ok(Arguments { input }) => input.into_owned(),
        Err(_) => arguments,
    }
}

/// The tool's description, and what its input must look like.
pub fn description(description: &str, format: &Format) -> String {
    let form = match format {
        Format::Text => "`input` is free text.".to_owned(),
        Format::Grammar { syntax, definition } => {
            format!("`input` is text of exactly this form, a grammar in {syntax} syntax:\n{definition}")
        }
    };
    if description.is_empty() { form } else { format!("{description}\n\n{form}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_comes_back_as_it_went() {
        for input in ["", "ls", "*** Begin Patch\n\"\\ é\u{2028}", "{\"input\":\"x\"}"] {
            assert_eq!(unwrapped(wrapped(input)), input);
        }
        assert_eq!(wrapped("a\n"), r#"{"input":"a\n"}"#);
    }

    #[test]
    fn what_is_no_such_object_is_the_input() {
        for (arguments, expect) in [
            (r#" {"input" : "a\u00e9"} "#, "aé"),
            ("ls -l", "ls -l"),
            ("", ""),
            (r#"{"input":1}"#, r#"{"input":1}"#),
            (r#"{"input":null}"#, r#"{"input":null}"#),
            (r#"{"command":"ls"}"#, r#"{"command":"ls"}"#),
            (r#"{"input":"a","more":1}"#, r#"{"input":"a","more":1}"#),
            (r#"{"input":"a","input":"b"}"#, r#"{"input":"a","input":"b"}"#),
            (r#"["a"]"#, r#"["a"]"#),
            (r#"{"input":"cut"#, r#"{"input":"cut"#),
            (r#""a""#, r#""a""#),
        ] {
            assert_eq!(unwrapped(arguments.into()), expect, "{arguments}");
        }
    }

    #[test]
    fn the_form_of_the_input_is_told() {
        let grammar = Format::Grammar { syntax: "lark".into(), definition: "start: \"x\"".into() };
        assert_eq!(
            description("Edits.", &grammar),
            "Edits.\n\n`input` is text of exactly this form, a grammar in lark syntax:\nstart: \"x\""
        );
        assert_eq!(description("", &Format::Text), "`input` is free text.");
    }
}
