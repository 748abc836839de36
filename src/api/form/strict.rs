//! The rules of strict schemas, as OpenAI documents them for Structured Outputs ("Supported schemas").
//!
//! Only what is named there is taken for allowed: a schema that the upstream would have taken all the
//! same is asked for in words and checked, which costs a few tokens; one that it refuses costs the
//! answer.

use serde_json::{Map, Value};

/// The most levels of objects and arrays within each other.
const DEEPEST: usize = 10;
/// The most properties of all objects together.
const MOST_PROPERTIES: usize = 5000;
/// The most `enum` values of the whole schema.
const MOST_VALUES: usize = 1000;
/// The most characters of all names and of all `enum` and `const` values together.
const LONGEST_NAMES: usize = 120_000;
/// The most characters of the values of one `enum` that has more than 250 of them.
const LONGEST_ENUM: usize = 15_000;
const LARGE_ENUM: usize = 250;

/// Formats of strings.
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// Keywords that say nothing about the values.
const NOTES: &[&str] = &["title", "description", "$schema", "$defs", "definitions"];

/// Why a schema is not strict: the keyword or rule. `None` if it is.
pub(super) fn refusal(schema: &Value) -> Option<&'static str> {
    let mut seen = Seen { root: schema, properties: 0, values: 0, names: 0 };
    let root = match schema {
        Value::Object(root) => root,
        _ => return Some("type"),
    };
    if root.get("type").and_then(Value::as_str) != Some("object") || root.contains_key("anyOf") {
        return Some("the root is no object");
    }
    seen.schema(schema, 0).err()
}

/// What was counted so far.
struct Seen<'a> {
    root: &'a Value,
    properties: usize,
    values: usize,
    names: usize,
}

type Verdict = Result<(), &'static str>;

fn holds(rule: bool, why: &'static str) -> Verdict {
    if rule { Ok(()) } else { Err(why) }
}

impl Seen<'_> {
    fn schema(&mut self, schema: &Value, depth: usize) -> Verdict {
        let Value::Object(schema) = schema else { return Err("a schema that is no object") };
        for definitions in ["$defs", "definitions"].iter().filter_map(|key| schema.get(*key)) {
            let Value::Object(definitions) = definitions else { return Err("$defs") };
            for (name, definition) in definitions {
                self.name(name)?;
                self.schema(definition, depth)?;
            }
        }
        if let Some(target) = schema.get("$ref") {
            let alone =
                schema.keys().all(|key| key == "$ref" || key.ends_with("defs") || key == "definitions");
            return holds(alone && self.resolves(target), "$ref");
        }
        if let Some(options) = schema.get("anyOf") {
            let Value::Array(options) = options else { return Err("anyOf") };
            holds(!options.is_empty(), "anyOf")?;
            only(schema, &["anyOf"])?;
            return options.iter().try_for_each(|option| self.schema(option, depth));
        }
        self.values(schema)?;
        let names: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) if !names.is_empty() => {
                names.iter().map(Value::as_str).collect::<Option<_>>().ok_or("type")?
            }
            _ => return Err("type"),
        };
        let mut allowed = vec!["type", "enum", "const"];
        for name in names {
            match name {
                "object" => {
                    allowed.extend(["properties", "required", "additionalProperties"]);
                    self.object(schema, depth + 1)?;
                }
                "array" => {
                    allowed.extend(["items", "minItems", "maxItems"]);
                    holds(depth < DEEPEST, "too many levels")?;
                    self.schema(schema.get("items").ok_or("items")?, depth + 1)?;
                }
                "string" => {
                    allowed.extend(["pattern", "format"]);
                    string(schema)?;
                }
                "number" | "integer" => allowed.extend([
                    "multipleOf",
                    "minimum",
                    "maximum",
                    "exclusiveMinimum",
                    "exclusiveMaximum",
                ]),
                "boolean" | "null" => {}
                _ => return Err("type"),
            }
        }
        only(schema, &allowed)
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> Verdict {
        holds(depth <= DEEPEST, "too many levels")?;
        holds(schema.get("additionalProperties") == Some(&Value::Bool(false)), "additionalProperties")?;
        let Some(Value::Object(properties)) = schema.get("properties") else { return Err("properties") };
        let Some(Value::Array(required)) = schema.get("required") else { return Err("required") };
        let named = |name: &String| required.iter().any(|one| one.as_str() == Some(name));
        holds(required.len() == properties.len() && properties.keys().all(named), "required")?;
        self.properties += properties.len();
        holds(self.properties <= MOST_PROPERTIES, "too many properties")?;
        for (name, property) in properties {
            self.name(name)?;
            self.schema(property, depth)?;
        }
        Ok(())
    }

    fn values(&mut self, schema: &Map<String, Value>) -> Verdict {
        let length = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
        if let Some(values) = schema.get("enum") {
            let Value::Array(values) = values else { return Err("enum") };
            let long: usize = values.iter().map(length).sum();
            self.values += values.len();
            self.names += long;
            holds(!values.is_empty() && self.values <= MOST_VALUES, "enum")?;
            holds(values.len() <= LARGE_ENUM || long <= LONGEST_ENUM, "enum")?;
        }
        self.names += schema.get("const").map_or(0, length);
        holds(self.names <= LONGEST_NAMES, "names too long")
    }

    fn name(&mut self, name: &str) -> Verdict {
        self.names += name.chars().count();
        holds(self.names <= LONGEST_NAMES, "names too long")
    }

    /// Whether a reference leads to a schema of the same document.
    fn resolves(&self, target: &Value) -> bool {
        let pointer = target.as_str().and_then(|target| target.strip_prefix('#'));
        pointer.and_then(|pointer| self.root.pointer(pointer)).is_some_and(Value::is_object)
    }
}

fn only(schema: &Map<String, Value>, allowed: &[&str]) -> Verdict {
    let known = |key: &String| allowed.contains(&key.as_str()) || NOTES.contains(&key.as_str());
    holds(schema.keys().all(known), "an unsupported keyword")
}

fn string(schema: &Map<String, Value>) -> Verdict {
    let format = |format: &Value| format.as_str().is_some_and(|format| FORMATS.contains(&format));
    holds(schema.get("format").is_none_or(format), "format")?;
    let plain = |pattern: &Value| {
        pattern.as_str().is_some_and(|pattern| {
            !["(?=", "(?!", "(?<=", "(?<!"].iter().any(|around| pattern.contains(around))
        })
    };
    holds(schema.get("pattern").is_none_or(plain), "pattern")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(properties: Value) -> Value {
        let required: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }

    fn with(mut schema: Value, key: &str, value: Value) -> Value {
        schema[key] = value;
        schema
    }

    fn deep(levels: usize) -> Value {
        (0..levels).fold(json!({"type": "string"}), |inner, _| object(json!({"a": inner})))
    }

    #[test]
    fn what_the_reference_shows_is_strict() {
        let one = || object(json!({"a": {"type": "string"}}));
        for schema in [
            one(),
            object(json!({})),
            with(one(), "title", json!("T")),
            with(one(), "$schema", json!("https://json-schema.org/draft/2020-12/schema")),
            object(json!({"a": {"type": ["string", "null"], "description": "d"}})),
            object(
                json!({"a": {"type": "string", "enum": ["x", "y"]}, "b": {"type": "integer", "minimum": 1}}),
            ),
            object(
                json!({"a": {"type": "string", "const": "x"}, "b": {"type": "boolean"}, "c": {"type": "null"}}),
            ),
            object(json!({"a": {"type": "string", "pattern": "^@[a-z]+$", "format": "email"}})),
            object(json!({"a": {"type": "number", "multipleOf": 0.5, "exclusiveMaximum": 3}})),
            object(json!({"a": {"type": "array", "items": one(), "minItems": 1, "maxItems": 2}})),
            object(json!({"a": {"anyOf": [one(), {"type": "null"}], "description": "d"}})),
            with(object(json!({"a": {"$ref": "#/$defs/b"}})), "$defs", json!({"b": one()})),
            with(object(json!({"a": {"$ref": "#/definitions/b"}})), "definitions", json!({"b": one()})),
            object(json!({"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}})),
            deep(10),
        ] {
            assert_eq!(refusal(&schema), None, "{schema}");
        }
    }

    #[test]
    fn what_it_rules_out_is_not() {
        let one = || object(json!({"a": {"type": "string"}}));
        let many = |count: usize, length: usize| -> Vec<String> {
            (0..count).map(|number| format!("{number:0length$}")).collect()
        };
        let values = |count, length| object(json!({"a": {"type": "string", "enum": many(count, length)}}));
        for schema in [
            json!(true),
            json!({}),
            json!({"type": "string"}),
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "object"}),
            json!({"type": ["object", "null"], "properties": {}, "required": [], "additionalProperties": false}),
            json!({"anyOf": [one(), one()]}),
            with(one(), "required", json!([])),
            with(one(), "required", json!(["a", "b"])),
            with(one(), "required", json!(["b"])),
            with(one(), "required", Value::Null),
            with(one(), "additionalProperties", json!(true)),
            with(one(), "additionalProperties", json!({"type": "string"})),
            with(one(), "properties", json!([])),
            with(one(), "allOf", json!([])),
            with(one(), "not", json!({})),
            with(one(), "patternProperties", json!({})),
            with(one(), "minProperties", json!(1)),
            with(one(), "default", json!({})),
            with(one(), "examples", json!([])),
            object(json!({"a": {"type": "object", "properties": {}}})),
            object(json!({"a": {"type": "string", "default": "x"}})),
            object(json!({"a": {"type": "string", "minLength": 1}})),
            object(json!({"a": {"type": "string", "format": "uri"}})),
            object(json!({"a": {"type": "string", "pattern": "(?!x)"}})),
            object(json!({"a": {"type": "string", "minimum": 1}})),
            object(json!({"a": {"type": "file"}})),
            object(json!({"a": {"type": []}})),
            object(json!({"a": {"enum": ["x"]}})),
            object(json!({"a": {"const": "x"}})),
            object(json!({"a": {}})),
            object(json!({"a": true})),
            object(json!({"a": {"type": "string", "enum": []}})),
            object(json!({"a": {"type": "array"}})),
            object(json!({"a": {"type": "array", "items": [{"type": "number"}, {"type": "number"}]}})),
            object(json!({"a": {"type": "array", "items": {"type": "string"}, "uniqueItems": true}})),
            object(json!({"a": {"type": "array", "items": {"type": "object"}}})),
            object(json!({"a": {"oneOf": [{"type": "string"}]}})),
            object(json!({"a": {"anyOf": []}})),
            object(json!({"a": {"anyOf": [{"type": "string", "default": 1}]}})),
            object(json!({"a": {"anyOf": [{"type": "string"}], "type": "string"}})),
            object(json!({"a": {"$ref": "#/$defs/b"}})),
            object(json!({"a": {"$ref": "https://example.com/x"}})),
            object(json!({"a": {"$ref": 1}})),
            with(
                object(json!({"a": {"$ref": "#/$defs/b", "description": "d"}})),
                "$defs",
                json!({"b": {"type": "string"}}),
            ),
            with(one(), "$defs", json!({"b": {"type": "object"}})),
            with(one(), "$defs", json!([])),
            deep(11),
            values(1001, 4),
            values(251, 60),
            object(json!({"a": {"type": "string", "const": "x".repeat(120_001)}})),
        ] {
            assert!(refusal(&schema).is_some(), "{schema}");
        }
        assert_eq!(refusal(&values(1000, 4)), None);
        assert_eq!(refusal(&values(250, 400)), None);
        assert_eq!(refusal(&values(251, 59)), None);
    }
}
