//! What the page on the HTTP formats says of them, from the document that the server gives of itself.

use serde_json::{Map, Value};

use crate::api::openapi::{self, Field};

use super::prose;

/// The formats, each with the route that speaks it and the schema of its requests.
const FORMATS: [(&str, &str); 4] = [
    ("/v1/chat/completions", "ChatRequest"),
    ("/v1/completions", "CompletionsRequest"),
    ("/v1/responses", "ResponsesRequest"),
    ("/v1/messages", "MessagesRequest"),
];

/// A term and what it means.
fn entry(term: &str, text: &str) -> String {
    format!(".TP\n{}\n{}\n", prose(&format!("`{term}`")), prose(text))
}

fn entries(map: Option<&Map<String, Value>>) -> impl Iterator<Item = (&String, &Value)> {
    map.into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Every route.
pub(super) fn routes() -> String {
    let document = openapi::parsed();
    let mut roff = String::new();
    for (path, item) in entries(document["paths"].as_object()) {
        let item = openapi::resolved(&document, item);
        for (method, operation) in entries(item.as_object()).filter(|(_, operation)| operation.is_object()) {
            roff += &entry(&format!("{} {path}", method.to_uppercase()), text(&operation["summary"]));
        }
    }
    roff
}

/// Every field of every format.
pub(super) fn fields() -> String {
    let document = openapi::parsed();
    let mut roff = String::new();
    for (route, schema) in FORMATS {
        roff += &format!(".SS POST {}\n", prose(route));
        for field in openapi::fields(&document, schema) {
            roff += &entry(&field.path, &told(&field));
        }
    }
    roff
}

/// What a field may be and does.
fn told(field: &Field) -> String {
    let kind = if field.refused { String::new() } else { format!("({}) ", field.kind) };
    let effect = if field.no_effect { " Without effect." } else { "" };
    format!("{kind}{}{effect}", field.description).replace("  ", " ").trim().to_owned()
}

/// The headers of answers.
pub(super) fn headers() -> String {
    let document = openapi::parsed();
    let headers = document["components"]["headers"].as_object();
    entries(headers).map(|(name, header)| entry(name, text(&header["description"]))).collect()
}

/// The codes of errors by status.
pub(super) fn errors() -> String {
    let document = openapi::parsed();
    let codes = |list: &Value| list.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let statuses = entries(document["x-error-codes"].as_object());
    statuses.map(|(status, list)| entry(status, &format!("{}.", codes(list)))).collect()
}
