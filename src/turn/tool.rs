//! What the caller lets the model ask for, and what the model then asked.

use std::borrow::Cow;

use super::Json;

/// A tool the caller offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// `[A-Za-z0-9_.-]{1,64}`.
    pub name: String,
    /// The group it belongs to; see [`Tool::full_name`].
    pub namespace: Option<String>,
    /// What it does; may be empty.
    pub description: String,
    /// What it takes.
    pub kind: ToolKind,
}

/// What a tool takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// JSON arguments.
    Function {
        /// The arguments' JSON Schema, an object.
        parameters: Json,
        /// Whether the arguments must keep to it; not carried by every engine.
        strict: bool,
    },
    /// Text.
    Custom {
        /// The form of that text.
        format: Format,
    },
}

/// The form of a custom tool's input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Any text.
    #[default]
    Text,
    /// Text of a grammar.
    Grammar {
        /// `lark` or `regex`.
        syntax: String,
        /// The grammar.
        definition: String,
    },
}

impl Tool {
    /// A function.
    pub fn function(name: impl Into<String>, description: impl Into<String>, parameters: Json) -> Tool {
        let kind = ToolKind::Function { parameters, strict: false };
        Tool { name: name.into(), namespace: None, description: description.into(), kind }
    }

    /// A tool that takes text.
    pub fn custom(name: impl Into<String>, description: impl Into<String>, format: Format) -> Tool {
        let kind = ToolKind::Custom { format };
        Tool { name: name.into(), namespace: None, description: description.into(), kind }
    }

    /// The same, its arguments bound to its schema if it is a function.
    pub fn strictly(mut self, is: bool) -> Tool {
        if let ToolKind::Function { strict, .. } = &mut self.kind {
            *strict = is;
        }
        self
    }

    /// The same in a namespace.
    pub fn within(self, namespace: impl Into<String>) -> Tool {
        Tool { namespace: Some(namespace.into()), ..self }
    }

    /// What the model knows it by: `namespace__name`, or the name alone. Different for each of a
    /// turn's tools; whoever reads the request sees to that.
    pub fn full_name(&self) -> Cow<'_, str> {
        full_name(self.namespace.as_deref(), &self.name)
    }

    /// How a call of it looks.
    pub fn call_kind(&self) -> CallKind {
        match self.kind {
            ToolKind::Function { .. } => CallKind::Function,
            ToolKind::Custom { .. } => CallKind::Custom,
        }
    }
}

fn full_name<'a>(namespace: Option<&str>, name: &'a str) -> Cow<'a, str> {
    match namespace {
        Some(namespace) => Cow::Owned(format!("{namespace}__{name}")),
        None => Cow::Borrowed(name),
    }
}

/// A call of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The id the result must name.
    pub id: String,
    /// The tool's name as the caller offered it.
    pub name: String,
    /// Its namespace, likewise.
    pub namespace: Option<String>,
    /// Of which kind of tool.
    pub kind: CallKind,
    /// Exactly as the model wrote them: a function's arguments (normally JSON text), or a custom
    /// tool's input.
    pub arguments: String,
}

/// The kind of tool that is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallKind {
    /// A [`ToolKind::Function`].
    #[default]
    Function,
    /// A [`ToolKind::Custom`].
    Custom,
}

impl ToolCall {
    /// A call of a function.
    pub fn function(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: impl Into<String>,
    ) -> ToolCall {
        let (id, name, arguments) = (id.into(), name.into(), arguments.into());
        ToolCall { id, name, namespace: None, kind: CallKind::Function, arguments }
    }

    /// A call of a custom tool.
    pub fn custom(id: impl Into<String>, name: impl Into<String>, input: impl Into<String>) -> ToolCall {
        ToolCall { kind: CallKind::Custom, ..ToolCall::function(id, name, input) }
    }

    /// The same in a namespace.
    pub fn within(self, namespace: impl Into<String>) -> ToolCall {
        ToolCall { namespace: Some(namespace.into()), ..self }
    }

    /// The [`Tool::full_name`] of what is called.
    pub fn full_name(&self) -> Cow<'_, str> {
        full_name(self.namespace.as_deref(), &self.name)
    }
}

/// Whether the model must call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// Some tool must be called.
    Required,
    /// The tool of this [full name](Tool::full_name) must be called.
    Named(String),
}
