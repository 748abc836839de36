//! The form an answer must have, and how a model is told of it where Codex cannot see to it.

use std::borrow::Cow;

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
    /// What the model must be told, where only words can tell it.
    pub fn instruction(&self) -> Option<Cow<'static, str>> {
        match self {
            Output::Text | Output::JsonSchema(_) => None,
            Output::JsonObject => Some(
                "Answer with one valid JSON object and nothing else: no text before or after it, no code fence."
                    .into(),
            ),
            Output::Described(schema) => Some(
                format!(
                    "Answer with one JSON value that is valid against the JSON Schema below and nothing else: no \
                     text before or after it, no code fence.\n{schema}"
                )
                .into(),
            ),
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
