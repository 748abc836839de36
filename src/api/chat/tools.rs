//! `tools` and `tool_choice`: the functions a caller offers.

use std::collections::HashSet;

use crate::turn::{Failure, Tool, ToolChoice};

use crate::api::fields::Fields;
use crate::api::raw::Raw;

/// The most functions of one request, as in the OpenAI reference.
const MOST: usize = 128;

/// What the request says about functions.
pub(super) struct Offer {
    pub(super) tools: Vec<Tool>,
    /// Where each of them stands in the request.
    pub(super) origins: Vec<usize>,
    pub(super) choice: ToolChoice,
}

/// Reads both fields; schemas as they were written. `none` offers nothing.
///
/// # Errors
/// [`Failure::BadRequest`] naming the field.
pub(super) fn decode(fields: &Fields) -> Result<Offer, Failure> {
    let mut tools: Vec<Tool> = Vec::new();
    for (index, value) in fields.array("tools")?.into_iter().flatten().enumerate() {
        if index == MOST {
            return Err(fields.invalid("tools", &format!("must not have more than {MOST} entries")));
        }
        let place = format!("tools[{index}].");
        let tool = tool(value, &place)?;
        if tools.iter().any(|known| known.name == tool.name) {
            let path = format!("{place}function.name");
            return Err(Failure::bad_field(path.clone(), format!("{path} is used by two tools.")));
        }
        tools.push(tool);
    }
    let (choice, allowed) = match choice(fields, &tools)? {
        Choice::None => (ToolChoice::Auto, HashSet::new()),
        Choice::All(choice) => (choice, (0..tools.len()).collect()),
        Choice::Allowed(choice, allowed) => (choice, allowed),
    };
    let (origins, tools) = tools.into_iter().enumerate().filter(|(index, _)| allowed.contains(index)).unzip();
    Ok(Offer { tools, origins, choice })
}

fn tool(value: Raw, place: &str) -> Result<Tool, Failure> {
    let fields = Fields::of(value, place)?;
    match fields.string("type")?.as_deref() {
        Some("function") => {}
        None => return Err(fields.missing("type")),
        Some(_) => return Err(fields.invalid("type", "must be function")),
    }
    let function = fields.object("function")?.ok_or_else(|| fields.missing("function"))?;
    let function = Fields::of(function, fields.path("function."))?;
    let name = function.tool_name("name")?;
    let strict = function.boolean("strict")?.unwrap_or(false);
    let parameters = function.parameters("parameters")?;
    let description = function.string("description")?.unwrap_or_default();
    Ok(Tool::function(name, description, parameters).strictly(strict))
}

/// What `tool_choice` says.
enum Choice {
    None,
    /// Of all functions.
    All(ToolChoice),
    /// Of those with these numbers alone.
    Allowed(ToolChoice, HashSet<usize>),
}

fn choice(fields: &Fields, tools: &[Tool]) -> Result<Choice, Failure> {
    let invalid = || {
        fields.invalid("tool_choice", "must be none, auto, required, a function of tools or allowed_tools")
    };
    let needs_tools = |choice| {
        if tools.is_empty() { Err(fields.invalid("tool_choice", "needs tools")) } else { Ok(choice) }
    };
    let Some(value) = fields.get("tool_choice") else { return Ok(Choice::All(ToolChoice::Auto)) };
    if let Some(word) = value.string() {
        return match &*word {
            "none" => Ok(Choice::None),
            "auto" => Ok(Choice::All(ToolChoice::Auto)),
            "required" => needs_tools(Choice::All(ToolChoice::Required)),
            _ => Err(invalid()),
        };
    }
    let choice = Fields::of(value, "tool_choice.").map_err(|_| invalid())?;
    match choice.string("type")?.as_deref() {
        Some("function") => {
            let index = named(&choice, tools)?;
            Ok(Choice::All(ToolChoice::Named(tools[index].name.clone())))
        }
        Some("allowed_tools") => {
            // OpenAI's own reference has it both within a field of that name and beside the type.
            let inner = choice.object("allowed_tools")?;
            let allowed = match inner {
                Some(inner) => Fields::of(inner, "tool_choice.allowed_tools.")?,
                None => choice,
            };
            let list = allowed.array("tools")?.ok_or_else(|| allowed.missing("tools"))?;
            let mode = match allowed.string("mode")?.as_deref() {
                Some("auto") => ToolChoice::Auto,
                Some("required") => ToolChoice::Required,
                None => return Err(allowed.missing("mode")),
                Some(_) => return Err(allowed.invalid("mode", "must be auto or required")),
            };
            if list.is_empty() {
                return Err(allowed.invalid("tools", "must not be empty"));
            }
            let mut indexes = HashSet::new();
            for (number, tool) in list.enumerate() {
                let tool = Fields::of(tool, allowed.path(&format!("tools[{number}].")))?;
                if tool.string("type")?.is_some_and(|kind| kind != "function") {
                    return Err(tool.invalid("type", "must be function"));
                }
                indexes.insert(named(&tool, tools)?);
            }
            Ok(Choice::Allowed(mode, indexes))
        }
        _ => Err(choice.invalid("type", "must be function or allowed_tools")),
    }
}

/// Which of `tools` the `function.name` of `choice` is.
fn named(choice: &Fields, tools: &[Tool]) -> Result<usize, Failure> {
    let function = choice.object("function")?.ok_or_else(|| choice.missing("function"))?;
    let function = Fields::of(function, choice.path("function."))?;
    let name = function.string("name")?.ok_or_else(|| function.missing("name"))?;
    let index = tools.iter().position(|tool| tool.name == name);
    index.ok_or_else(|| function.invalid("name", "must be the name of one of the tools"))
}
