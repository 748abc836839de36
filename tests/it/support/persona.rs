//! What the upstream answers when nothing was scripted: it plays a small, predictable model.
//!
//! `Reply with exactly: X` answers X, to the end of its line; a JSON schema gets an instance of it; directives in the
//! last user message do the rest: `[[delay=50]]` (milliseconds before each word), `[[hang]]`,
//! `[[cut]]`, `[[fail=429]]`, `[[usage-limit]]`, `[[failed=CODE MESSAGE]]`, `[[length]]`,
//! `[[reasoning=TEXT]]`, `[[tool=NAME {json}]]` (several make parallel calls).

use std::time::Duration;

use serde_json::{Value, json};

use super::{Reply, is_output, text_of};

/// The answer to a request nobody scripted.
pub fn reply(body: &Value) -> Reply {
    let items = body["input"].as_array().map_or(&[][..], Vec::as_slice);
    let asked = items.iter().rev().find(|item| item["role"] == "user").map(text_of).unwrap_or_default();
    let directives: Vec<&str> =
        asked.split("[[").skip(1).filter_map(|rest| rest.split_once("]]")).map(|(text, _)| text).collect();
    let value = |name: &str| directives.iter().find_map(|text| text.strip_prefix(name)?.strip_prefix('='));
    let has = |name: &str| directives.contains(&name);
    let pace = Duration::from_millis(value("delay").and_then(|text| text.parse().ok()).unwrap_or(0));

    if let Some(code) = value("fail").and_then(|text| text.parse().ok()) {
        return Reply::status(
            code,
            json!({ "message": "scripted failure", "type": "scripted", "code": null }),
        );
    }
    if has("usage-limit") {
        return Reply::status(
            429,
            json!({ "type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": "plus", "resets_in_seconds": 3600 }),
        );
    }
    if let Some(text) = value("failed") {
        let (code, message) = text.split_once(' ').unwrap_or((text, "scripted failure"));
        return Reply::failed(code, message);
    }
    if has("hang") {
        return Reply::hang();
    }
    let mut reply = Reply::nothing().pace(pace);
    if let Some(text) = value("reasoning") {
        reply = reply.then_reasoning(&[text]);
    }
    let answered = items.last().is_some_and(is_output);
    let calls: Vec<&str> = directives.iter().filter_map(|text| text.strip_prefix("tool=")).collect();
    if !calls.is_empty() && !answered {
        return calls.into_iter().fold(reply, |reply, call| {
            let (name, arguments) = call.split_once(' ').unwrap_or((call, "{}"));
            reply.then_call(name, arguments)
        });
    }
    let answer = match (items.last(), &body["text"]["format"]["schema"]) {
        (Some(last), _) if answered => {
            format!("The tool said: {}", last["output"].as_str().unwrap_or_default())
        }
        (_, schema) if !schema.is_null() => instance(schema, schema, 0).to_string(),
        _ => asked.split_once("Reply with exactly: ").map_or_else(
            || friendly(&without_directives(&asked)),
            |(_, rest)| {
                rest.split('\n')
                    .next()
                    .unwrap_or_default()
                    .split("[[")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            },
        ),
    };
    let words: Vec<&str> = answer.split_inclusive(' ').collect();
    reply = if has("cut") { reply.then_partial(&words).then_cut() } else { reply.then_text(&words) };
    if has("length") { reply.then_incomplete("max_output_tokens") } else { reply }
}

fn without_directives(asked: &str) -> String {
    asked.split("[[").map(|part| part.split_once("]]").map_or(part, |(_, rest)| rest)).collect()
}

fn friendly(asked: &str) -> String {
    let words = asked.split_whitespace().count();
    let start: String = asked.split_whitespace().take(12).collect::<Vec<_>>().join(" ");
    format!(
        "Hello from the scripted upstream! You wrote {words} words, beginning with \"{start}\". \
         The real Codex CLI carried them here and carries this answer back."
    )
}

/// The smallest instance of a schema: enough for the strict subset that OpenAI accepts.
fn instance(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > 16 {
        return Value::Null;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference.strip_prefix('#').and_then(|path| root.pointer(path));
        return target.map_or(Value::Null, |target| instance(target, root, depth + 1));
    }
    for key in ["const", "default"] {
        if !schema[key].is_null() {
            return schema[key].clone();
        }
    }
    for key in ["enum", "anyOf", "oneOf"] {
        if let Some(first) = schema[key].get(0) {
            return if key == "enum" { first.clone() } else { instance(first, root, depth + 1) };
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object");
    match kind {
        "string" => json!("text"),
        "integer" => json!(7),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "null" => Value::Null,
        "array" => json!([instance(&schema["items"], root, depth + 1)]),
        _ => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, schema)| (name.clone(), instance(schema, root, depth + 1))).collect()
        }
    }
}
