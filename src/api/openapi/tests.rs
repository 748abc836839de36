//! The document against what really reads requests.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::api::chat::CHAT;
use crate::api::completions::COMPLETIONS;
use crate::api::dialect::{Dialect, Heading, RequestParts, Wanted};
use crate::api::fields::seen;
use crate::api::messages::MESSAGES;
use crate::api::remembered::Remembered;
use crate::api::responses::RESPONSES;
use crate::config::{Config, EngineKind};
use crate::turn::{At, Caller, Failure};

fn formats() -> [(&'static dyn Dialect, &'static str); 4] {
    [
        (&CHAT, "ChatRequest"),
        (&COMPLETIONS, "CompletionsRequest"),
        (&RESPONSES, "ResponsesRequest"),
        (&MESSAGES, "MessagesRequest"),
    ]
}

/// The field that is refused, or the fields without effect.
fn decode(dialect: &dyn Dialect, body: &Value) -> Result<Vec<String>, String> {
    let config = Config { engine: EngineKind::AppServer, ..Config::default() };
    let parts = RequestParts {
        body: &body.to_string(),
        headers: &http::HeaderMap::new(),
        query: None,
        heading: Heading::default(),
        remembered: &Remembered::new(0).of(&Caller::Unknown),
        wanted: &Wanted::default(),
    };
    match dialect.decode(&parts, &config) {
        Ok(decoded) => Ok(decoded.request.ignored),
        Err(
            Failure::BadRequest { at: Some(At::Field(path)), .. }
            | Failure::BadImage { at: At::Field(path), .. }
            | Failure::Unsupported { at: At::Field(path), .. }
            | Failure::NotFound { at: Some(At::Field(path)), .. },
        ) => Err(path),
        Err(other) => panic!("{body}: {other:?}"),
    }
}

/// A value of that schema with as little in it as there can be.
fn least(document: &Value, schema: &Value) -> Value {
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    let form = forms(document, schema)[0];
    if let Some(value) = form.get("example").or(form.get("const")) {
        return value.clone();
    }
    if let Some(values) = form["enum"].as_array() {
        return values[0].clone();
    }
    match form["type"].as_str() {
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") if form["minItems"].as_u64().is_some() => json!([least(document, &form["items"])]),
        Some("array") => json!([]),
        Some("object") => {
            let required = form["required"].as_array().into_iter().flatten();
            let named = required.map(|name| name.as_str().unwrap());
            named.map(|name| (name.to_owned(), least(document, &form["properties"][name]))).collect()
        }
        Some("string") if form["maxLength"] == 0 => json!(""),
        _ => json!("x"),
    }
}

/// A value that is none of that schema's.
fn none_of(document: &Value, schema: &Value) -> Value {
    let forms = forms(document, schema);
    let is = |kind: &str| {
        forms.iter().any(|form| {
            let of = |value: &Value| match value {
                Value::String(_) => "string",
                Value::Bool(_) => "boolean",
                _ => "other",
            };
            let value = form.get("const").or_else(|| form["enum"].get(0));
            form["type"] == kind || value.is_some_and(|value| of(value) == kind)
        })
    };
    let number = is("integer") || is("number");
    if !number {
        json!(1)
    } else if !is("string") {
        json!("x")
    } else {
        json!(true)
    }
}

/// What must stand before an item so that it may stand there.
fn before(item: &Value) -> Vec<Value> {
    let call = |item: Value| vec![item];
    match (item["role"].as_str(), item["type"].as_str(), item["content"][0]["type"].as_str()) {
        (Some("tool"), ..) => call(json!({"role": "assistant", "content": "x", "tool_calls": [
            {"id": "x", "type": "function", "function": {"name": "x", "arguments": "x"}}]})),
        (Some("function"), ..) => call(
            json!({"role": "assistant", "content": "x", "function_call": {"name": "x", "arguments": "x"}}),
        ),
        (_, Some("function_call_output"), _) => {
            call(json!({"type": "function_call", "call_id": "x", "name": "x", "arguments": "x"}))
        }
        (_, Some("custom_tool_call_output"), _) => {
            call(json!({"type": "custom_tool_call", "call_id": "x", "name": "x", "input": "x"}))
        }
        (_, _, Some("tool_result")) => call(json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": "x", "name": "x", "input": {}}]})),
        _ => Vec::new(),
    }
}

struct Walk<'a> {
    document: &'a Value,
    dialect: &'static dyn Dialect,
    /// How many fields got a wrong value.
    tried: usize,
    /// What was said of another field than that.
    astray: Vec<String>,
}

/// What makes a whole request of a value and its place, and the value's path in it.
type Embed<'a> = &'a dyn Fn(Value) -> (Value, String);

impl Walk<'_> {
    fn wrong(&mut self, schema: &Value, embed: Embed) {
        let (body, path) = embed(none_of(self.document, schema));
        let said = decode(self.dialect, &body);
        if said.as_ref() != Err(&path) {
            self.astray.push(format!("{path}: {said:?} of {body}"));
        }
        self.tried += 1;
    }

    /// Gives every field below a wrong value.
    fn below(&mut self, schema: &Value, embed: Embed) {
        for form in forms(self.document, schema) {
            if let Some(items) = form.get("items") {
                let within = |value: Value| {
                    let mut list = before(&value);
                    let at = list.len();
                    list.push(value);
                    let (body, path) = embed(list.into());
                    (body, format!("{path}[{at}]"))
                };
                self.wrong(items, &within);
                self.below(items, &within);
            }
            let least = least(self.document, form);
            for (name, field) in form["properties"].as_object().into_iter().flatten() {
                let within = |value: Value| {
                    let mut object = least.clone();
                    object[name] = value;
                    let (body, path) = embed(object);
                    (body, if path.is_empty() { name.clone() } else { format!("{path}.{name}") })
                };
                self.wrong(field, &within);
                self.below(field, &within);
            }
        }
    }
}

#[test]
fn every_field_of_the_document_is_read_and_every_field_that_is_read_is_in_it() {
    let document = parsed();
    for (dialect, schema) in formats() {
        let mut walk = Walk { document: &document, dialect, tried: 0, astray: Vec::new() };
        let schema = &document["components"]["schemas"][schema];
        let whole = |mut body: Value| {
            if !body["stream_options"].is_null() {
                body["stream"] = true.into();
            }
            (body, String::new())
        };
        let read = seen::during(|| walk.below(schema, &whole));
        assert!(walk.astray.is_empty(), "{}:\n{}", dialect.name(), walk.astray.join("\n"));
        assert!(walk.tried > 20, "{}: {}", dialect.name(), walk.tried);
        let mut told = Vec::new();
        add(&document, schema, "", &mut told);
        let told: BTreeSet<String> = told.into_iter().map(|field| field.path).collect();
        let untold: Vec<&String> = read.difference(&told).collect();
        assert_eq!(untold, Vec::<&String>::new(), "{}", dialect.name());
    }
}

#[test]
fn what_has_no_effect_or_is_refused_is_so() {
    let document = parsed();
    for (dialect, name) in formats() {
        let schema = &document["components"]["schemas"][name];
        let plain = least(&document, schema);
        for (name, field) in schema["properties"].as_object().unwrap() {
            let mut body = plain.clone();
            body[name] = least(&document, field);
            if name == "stream_options" {
                body["stream"] = true.into();
            }
            let (whole, refused) = (resolved(&document, field), Err(name.clone()));
            let decoded = decode(dialect, &body);
            if whole["x-refused"] == true {
                assert_eq!(decoded, refused, "{body}");
                continue;
            }
            // These need tools.
            if name == "tool_choice" && decoded.is_err() {
                continue;
            }
            let ignored = decoded.unwrap_or_else(|path| panic!("{}: {path} {body}", dialect.name()));
            assert_eq!(ignored.contains(name), whole["x-no-effect"] == true, "{}: {body}", dialect.name());
        }
    }
}

#[test]
fn every_error_code_of_the_document_is_one() {
    let table = include_str!("../error.rs");
    for (status, codes) in parsed()["x-error-codes"].as_object().unwrap() {
        assert!(status.parse::<u16>().is_ok());
        for code in codes.as_array().unwrap() {
            assert!(table.contains(&format!("\"{}\"", code.as_str().unwrap())), "{code}");
        }
    }
}

#[test]
fn references_lead_somewhere() {
    let document = parsed();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut values = vec![&document];
    while let Some(value) = values.pop() {
        if let Some(to) = value["$ref"].as_str() {
            assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
        }
        match value {
            Value::Object(map) => values.extend(map.values()),
            Value::Array(list) => values.extend(list),
            _ => {}
        }
    }
}
