//! A tool call that must be made, asked for by the form of the answer.
//!
//! Codex has no way to make a model call a tool, but it can have the text kept to a schema. Where a call
//! is required, the text may only be `{"calls":[{"name":…,"arguments":…}]}`: a model that answers in words
//! calls all the same.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashMap;

use super::{CallKind, Json, Output, Tool, ToolCall, ToolChoice, Turn};

/// The tools one of which must be called; none if the model may do as it likes, or if its text has a form
/// of the client's.
fn wanted<'a>(tools: &'a [Tool], choice: &'a ToolChoice) -> impl Iterator<Item = &'a Tool> {
    tools.iter().filter(move |tool| match choice {
        ToolChoice::Auto => false,
        ToolChoice::Required => true,
        ToolChoice::Named(name) => tool.full_name() == *name,
    })
}

/// The schema that the text of a turn is kept to, where it must be a call.
pub fn schema(turn: &Turn) -> Option<Json> {
    if matches!(turn.output, Output::JsonSchema(_) | Output::Described(_)) {
        return None;
    }
    let names: Vec<_> = wanted(&turn.tools, &turn.tool_choice).map(Tool::full_name).collect();
    if names.is_empty() {
        return None;
    }
    // Names have no character that JSON would escape; a list of strings always can be written.
    let names = serde_json::to_string(&names).ok()?;
    let schema = format!(
        r#"{{"type":"object","properties":{{"calls":{{"type":"array","description":"The functions to call.","items":{{"type":"object","properties":{{"name":{{"type":"string","enum":{names}}},"arguments":{{"type":"string","description":"The arguments: a JSON object as text, or a custom tool's input."}}}},"required":["name","arguments"],"additionalProperties":false}}}}}},"required":["calls"],"additionalProperties":false}}"#
    );
    Some(Json::from(schema.as_str()))
}

#[derive(Deserialize)]
struct Calls {
    calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    name: String,
    arguments: String,
}

/// The calls that a text of that form makes; `None` for any other text. A function's arguments are a JSON
/// object. `id` gives each a name.
pub fn calls(
    text: &str,
    tools: &[Tool],
    choice: &ToolChoice,
    mut id: impl FnMut() -> String,
) -> Option<Vec<ToolCall>> {
    let read: Calls = serde_json::from_str(text).ok()?;
    let mut calls = Vec::with_capacity(read.calls.len());
    for Call { name, arguments } in read.calls {
        let tool = wanted(tools, choice).find(|tool| tool.full_name() == name)?;
        let kind = tool.call_kind();
        if kind == CallKind::Function {
            serde_json::from_str::<HashMap<String, IgnoredAny>>(&arguments).ok()?;
        }
        let (name, namespace) = (tool.name.clone(), tool.namespace.clone());
        calls.push(ToolCall { id: id(), name, namespace, kind, arguments });
    }
    (!calls.is_empty()).then_some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{Format, Item, Part, Role, Workdir};

    fn turn(choice: ToolChoice, output: Output) -> Turn {
        let item = Item::message(Role::User, vec![Part::Text("x".into())]);
        let tools = [
            Tool::function("f", "", "{}".into()),
            Tool::function("g", "", "{}".into()).within("n"),
            Tool::custom("c", "", Format::Text),
        ];
        let turn = Turn::new([item], Workdir::unseen(std::path::Path::new("/")));
        Turn { tools: tools.into(), tool_choice: choice, output, ..turn }
    }

    #[test]
    fn only_a_required_call_has_a_schema() {
        let named = |name: &str| ToolChoice::Named(name.into());
        for (choice, output, expect) in [
            (ToolChoice::Auto, Output::Text, None),
            (ToolChoice::Required, Output::Text, Some(r#"["f","n__g","c"]"#)),
            (ToolChoice::Required, Output::JsonObject, Some(r#"["f","n__g","c"]"#)),
            (named("n__g"), Output::Text, Some(r#"["n__g"]"#)),
            (named("g"), Output::Text, None),
            (ToolChoice::Required, Output::JsonSchema("{}".into()), None),
            (ToolChoice::Required, Output::Described("{}".into()), None),
        ] {
            let found = schema(&turn(choice.clone(), output));
            let names = expect.map(|names| format!(r#""enum":{names}}}"#));
            assert_eq!(found.is_some(), names.is_some(), "{choice:?}");
            assert!(found.is_none_or(|schema| schema.as_str().contains(&names.unwrap())), "{choice:?}");
        }
    }

    #[test]
    fn words_of_that_form_are_calls() {
        let mut next = 0;
        let mut read = |text: &str, choice: ToolChoice| {
            let id = || {
                next += 1;
                next.to_string()
            };
            calls(text, &turn(ToolChoice::Auto, Output::Text).tools, &choice, id)
        };
        let two =
            r#"{"calls":[{"name":"n__g","arguments":"{\"a\": 1.50}"},{"name":"c","arguments":"no {json"}]}"#;
        let expect = vec![
            ToolCall::function("1", "g", "{\"a\": 1.50}").within("n"),
            ToolCall::custom("2", "c", "no {json"),
        ];
        assert_eq!(read(two, ToolChoice::Required), Some(expect));
        for text in [
            "",
            "words",
            "{}",
            r#"{"calls":[]}"#,
            r#"{"calls":[{"name":"h","arguments":"{}"}]}"#,
            r#"{"calls":[{"name":"g","arguments":"{}"}]}"#,
            r#"{"calls":[{"name":"f","arguments":"[]"}]}"#,
            r#"{"calls":[{"name":"f","arguments":"{"}]}"#,
            r#"{"calls":[{"name":"f","arguments":{}}]}"#,
            r#"{"calls":[{"name":"f","arguments":"{}"}]} and"#,
        ] {
            assert_eq!(read(text, ToolChoice::Required), None, "{text}");
        }
        assert_eq!(read(two, ToolChoice::Named("c".into())), None);
    }
}
