//! The form of an answer: who sees to it that JSON is of the schema asked for, and whether it is.
//!
//! Codex asks its upstream for any schema as a strict one, and the upstream refuses a schema that its
//! strict rules do not allow. What a client did not declare as strict and those rules refuse goes out
//! in words, and the answer is checked here.

use std::collections::HashMap;

use serde_json::Value;

use crate::turn::{Failure, Json, Output, pace};

use super::fields::Fields;

mod strict;

/// How an answer of this schema is asked for. `strict` is the client's own word: its schema then goes
/// as it is.
///
/// # Errors
/// Why nothing can be checked against it, to be written behind the field's name.
pub(super) fn of_schema(schema: Json, strict: bool) -> Result<Output, String> {
    if strict {
        return Ok(Output::JsonSchema(schema));
    }
    let invalid = |why| format!("is not a JSON Schema that answers can be checked against: {why}");
    let value: Value = serde_json::from_str(schema.as_str()).map_err(|error| invalid(error.to_string()))?;
    if strict::refusal(&value).is_none() {
        return Ok(Output::JsonSchema(schema));
    }
    match pace::apart(usize::MAX, || validator(&value)) {
        Ok(_) => Ok(Output::Described(schema)),
        Err(why) => Err(invalid(why)),
    }
}

/// The form that the object with `name`, `strict` and `schema` asks for; the schema as it was written.
///
/// # Errors
/// [`Failure::BadRequest`] naming the field.
pub(super) fn of_fields(fields: &Fields) -> Result<Output, Failure> {
    fields.string("name")?.ok_or_else(|| fields.missing("name"))?;
    fields.string("description")?;
    let strict = fields.boolean("strict")?.unwrap_or(false);
    let schema = fields.object("schema")?.ok_or_else(|| fields.missing("schema"))?;
    of_schema(schema.json(), strict).map_err(|why| fields.invalid("schema", &why))
}

/// A validator that fetches nothing and gives up on patterns that would keep it busy.
fn validator(schema: &Value) -> Result<jsonschema::Validator, String> {
    let patterns = jsonschema::PatternOptions::fancy_regex().backtrack_limit(100_000);
    let options = jsonschema::options().with_pattern_options(patterns);
    options.build(schema).map_err(|error| {
        let place = error.instance_path().to_string();
        let message = error.to_string();
        // What it says may quote the schema at length; it is the client's own.
        let message: String = message.chars().take(200).collect();
        if place.is_empty() { message } else { format!("at {place}: {message}") }
    })
}

/// The JSON that `text` is, where it is of that form; out of its fence, if it is in one. Free text is
/// of any form.
pub(super) fn check<'a>(form: &Output, text: &'a str) -> Option<&'a str> {
    let fits = |json: &str| match form {
        Output::Text | Output::JsonSchema(_) => true,
        // Only read, not built: built, it would take many times the text's memory.
        Output::JsonObject => {
            let read = || serde_json::from_str::<HashMap<String, serde::de::IgnoredAny>>(json).is_ok();
            pace::apart(json.len(), read)
        }
        // However small either is: what a schema may ask for has no bound.
        Output::Described(schema) => pace::apart(usize::MAX, || is_valid(schema, json)),
    };
    if fits(text) {
        return Some(text);
    }
    fenced(text).filter(|json| fits(json))
}

fn is_valid(schema: &Json, json: &str) -> bool {
    let (Ok(schema), Ok(json)) = (serde_json::from_str(schema.as_str()), serde_json::from_str::<Value>(json))
    else {
        return false;
    };
    validator(&schema).is_ok_and(|validator| validator.is_valid(&json))
}

/// What stands in the fence, if the whole text is one (Markdown: three or more backticks or tildes).
fn fenced(text: &str) -> Option<&str> {
    let text = text.trim();
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let inner = text.trim_start_matches(mark);
    let fence = text.get(..text.len() - inner.len()).filter(|fence| fence.len() >= 3)?;
    let (info, inner) = inner.split_once('\n')?;
    let inner = inner.strip_suffix(fence)?;
    (!info.contains(mark)).then(|| inner.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fence_around_all_is_taken_off() {
        for (text, expect) in [
            ("```json\n{}\n```", Some("{}")),
            ("```\n{\"a\": 1}\n```\n", Some("{\"a\": 1}")),
            ("\n ```JSON \r\n{}\r\n```  ", Some("{}")),
            ("~~~\n{}\n~~~", Some("{}")),
            ("````json\n{\"a\":\"```\"}\n````", Some("{\"a\":\"```\"}")),
            ("{\"a\":\"```\"}", Some("{\"a\":\"```\"}")),
            ("```json\n[]\n```", None),
            ("Here:\n```json\n{}\n```", None),
            ("```json\n{}\n```\nDone.", None),
            ("```json\n{}\n```\n```json\n{}\n```", None),
            ("```{}```", None),
            ("```json\n{}", None),
            ("``\n{}\n``", None),
            ("```\n```", None),
            ("```", None),
            ("", None),
        ] {
            assert_eq!(check(&Output::JsonObject, text), expect, "{text:?}");
        }
    }

    #[test]
    fn a_schema_goes_as_it_is_unless_the_strict_rules_refuse_it() {
        let strict = r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#;
        let loose = r#"{"type":"object","properties":{"b":{"type":"string","default":"x"}}}"#;
        let json = Json::from;
        assert_eq!(of_schema(json(strict), false), Ok(Output::JsonSchema(json(strict))));
        assert_eq!(of_schema(json(loose), true), Ok(Output::JsonSchema(json(loose))));
        assert_eq!(of_schema(json(loose), false), Ok(Output::Described(json(loose))));
        for (schema, why) in [
            (r#"{"type":"objekt"}"#, "at /type"),
            (r#"{"properties":{"a":{"minimum":"1"}}}"#, "at /properties/a/minimum"),
            (r#"{"$ref":"https://example.invalid/schema.json"}"#, "example.invalid"),
            (r##"{"$ref":"#/$defs/nowhere"}"##, "nowhere"),
            (r#"{"pattern":"("}"#, "at /pattern"),
        ] {
            match of_schema(json(schema), false) {
                Err(message) => assert!(
                    message.starts_with("is not a JSON Schema") && message.contains(why),
                    "{schema}: {message}"
                ),
                other => panic!("{schema}: {other:?}"),
            }
        }
    }

    #[test]
    fn answers_are_checked_against_what_words_described() {
        let form = |schema: &str| Output::Described(schema.into());
        for (schema, text, expect) in [
            (r#"{"type":"array","uniqueItems":true}"#, "[1, 2]", true),
            (r#"{"type":"array","uniqueItems":true}"#, "[1, 1]", false),
            (r#"{"oneOf":[{"type":"string"},{"type":"null"}]}"#, "null", true),
            (r#"{"oneOf":[{"type":"string"},{"type":"null"}]}"#, "1", false),
            (r#"{"type":"string","minLength":2}"#, "\"a\"", false),
            (r#"{"type":"string","minLength":2}"#, "a", false),
            (
                r##"{"$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/n"}"##,
                r#"{"next":{"next":{"next":3}}}"#,
                false,
            ),
            (
                r##"{"$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/n"}"##,
                r#"{"next":{"next":{}}}"#,
                true,
            ),
            (r#"{"pattern":"^(a+)+$"}"#, "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"", false),
            (r#"{"pattern":"^(?=.*b)(a|a)*$"}"#, "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"", false),
        ] {
            assert_eq!(check(&form(schema), text).is_some(), expect, "{schema} {text}");
        }
    }
}
