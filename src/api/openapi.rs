//! `/openapi.json`: all that is answered here and every field that is read, as an OpenAPI document. It is
//! written by hand in `openapi.json`; tests hold it against the routes and the decoders. The manual page
//! `codex-api-proxy-api(7)` is made from it.

use std::sync::LazyLock;

use serde_json::Value;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    include_str!("openapi.json").replace("\"0.0.0\"", concat!("\"", env!("CARGO_PKG_VERSION"), "\""))
});

/// The document, with the version of this program.
pub fn document() -> &'static str {
    &DOCUMENT
}

/// The document as a value.
pub fn parsed() -> Value {
    // A test reads it: null is what nobody sees.
    serde_json::from_str(document()).unwrap_or_default()
}

/// A field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name below the request, `[]` for every element of a list: `messages[].content[].text`.
    pub path: String,
    /// What it may be: `string`, `"a" | "b"`…
    pub kind: String,
    /// What it does.
    pub description: String,
    /// It is checked and has no effect.
    pub no_effect: bool,
    /// It is refused.
    pub refused: bool,
}

/// Every field of the schema of that name, each before those in it.
pub fn fields(document: &Value, schema: &str) -> Vec<Field> {
    let mut fields = Vec::new();
    add(document, &document["components"]["schemas"][schema], "", &mut fields);
    fields
}

/// What a schema refers to, if it does.
pub fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let to = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    to.and_then(|to| document.pointer(to)).map_or(schema, |schema| resolved(document, schema))
}

/// The forms a value may have.
fn forms<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = resolved(document, schema);
    match schema["oneOf"].as_array() {
        Some(forms_) => forms_.iter().flat_map(|form| forms(document, form)).collect(),
        None => vec![schema],
    }
}

fn add(document: &Value, schema: &Value, path: &str, fields: &mut Vec<Field>) {
    for form in forms(document, schema) {
        if let Some(items) = form.get("items") {
            add(document, items, &format!("{path}[]"), fields);
        }
        for (name, field) in form["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            note(document, field, &path, fields);
            add(document, field, &path, fields);
        }
    }
}

/// Adds a field; of one that is there in another form, what it may be besides.
fn note(document: &Value, schema: &Value, path: &str, fields: &mut Vec<Field>) {
    let forms = forms(document, schema);
    let whole = resolved(document, schema);
    let said = |key: &str| schema.get(key).or_else(|| whole.get(key));
    let flag = |key: &str| said(key).and_then(Value::as_bool).unwrap_or(false);
    let mut kinds: Vec<String> = Vec::new();
    for kind in forms.iter().map(|form| kind(form)) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let description = said("description").and_then(Value::as_str).unwrap_or_default();
    match fields.iter_mut().find(|field| field.path == path) {
        None => fields.push(Field {
            path: path.to_owned(),
            kind: kinds.join(" | "),
            description: description.to_owned(),
            no_effect: flag("x-no-effect"),
            refused: flag("x-refused"),
        }),
        Some(field) => {
            for kind in kinds {
                if !field.kind.split(" | ").any(|known| known == kind) {
                    field.kind = format!("{} | {kind}", field.kind);
                }
            }
            if field.description.is_empty() {
                description.clone_into(&mut field.description);
            }
        }
    }
}

/// One form of a value, in a few words.
fn kind(form: &Value) -> String {
    if let Some(value) = form.get("const") {
        return value.to_string();
    }
    if let Some(values) = form["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    let name = form["type"].as_str().unwrap_or("anything");
    match (form["minimum"].as_f64(), form["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!("{name} from {least} to {most}"),
        (Some(least), None) => format!("{name} from {least}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
