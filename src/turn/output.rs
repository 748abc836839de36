//! The form an answer must have, and how a model is told of it where Codex cannot see to it.

use super::Json;

/// The form of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Free text.
    #[default]
    Text,
    /// Any JSON object: instructed, then verified by the proxy.
    JsonObject,
    /// JSON of this schema, enforced upstream.
    JsonSchema(Json),
    /// JSON of this schema, which the upstream would not take as one to enforce: instructed, then
    /// verified by the proxy.
    Described(Json),
}

impl Output {
    /// What the model must be told, where only words can tell it: a text that ends with a line, and the
    /// schema it speaks of.
    pub fn instruction(&self) -> Option<(&'static str, &str)> {
        match self {
            Output::Text | Output::JsonSchema(_) => None,
            Output::JsonObject => Some((
                "Answer with one valid JSON object and nothing else: no text before or after it, no code fence.",
                "",
            )),
            Output::Described(schema) => Some((
                "Answer with one JSON value that is valid against the JSON Schema below and nothing else: no \
                 text before or after it, no code fence.\n",
                schema.as_str(),
            )),
        }
    }

    /// The schema, whoever sees to it.
    pub fn schema(&self) -> Option<&Json> {
        match self {
            Output::Text | Output::JsonObject => None,
            Output::JsonSchema(schema) | Output::Described(schema) => Some(schema),
        }
    }
}
