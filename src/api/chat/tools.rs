//! `tools` and `tool_choice`: the functions a caller offers.

use crate::turn::{Failure, Tool, ToolChoice};

use crate::api::fields::Fields;
use crate::api::raw::Raw;

/// The most functions of one request, as in the OpenAI reference.
const MOST: usize = 128;

/// What the request says about functions.
pub(super) struct Offer {
    pub(super) tools: Vec<Tool>,
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
    let choice = choice(fields, &tools)?;
    Ok(match choice {
        Some(choice) => Offer { tools, choice },
        None => Offer { tools: Vec::new(), choice: ToolChoice::Auto },
    })
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
    let name = function.string("name")?.ok_or_else(|| function.missing("name"))?;
    if name.is_empty()
        || name.len() > 64
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    {
        return Err(function.invalid("name", "must be 1 to 64 letters, digits, dots, underscores or hyphens"));
    }
    function.boolean("strict")?;
    let parameters = match function.object("parameters")? {
        None => r#"{"type":"object","properties":{}}"#.into(),
        Some(parameters) => parameters.json(),
    };
    Ok(Tool::function(name, function.string("description")?.unwrap_or_default(), parameters))
}

/// The choice; `None` for "none".
fn choice(fields: &Fields, tools: &[Tool]) -> Result<Option<ToolChoice>, Failure> {
    let invalid = || fields.invalid("tool_choice", "must be none, auto, required or a function of tools");
    let needs_tools = |choice| {
        if tools.is_empty() { Err(fields.invalid("tool_choice", "needs tools")) } else { Ok(Some(choice)) }
    };
    let Some(value) = fields.get("tool_choice") else { return Ok(Some(ToolChoice::Auto)) };
    if let Some(word) = value.string() {
        return match &*word {
            "none" => Ok(None),
            "auto" => Ok(Some(ToolChoice::Auto)),
            "required" => needs_tools(ToolChoice::Required),
            _ => Err(invalid()),
        };
    }
    let choice = Fields::of(value, "tool_choice.").map_err(|_| invalid())?;
    if choice.string("type")?.as_deref() != Some("function") {
        return Err(choice.invalid("type", "must be function"));
    }
    let function = choice.object("function")?.ok_or_else(|| choice.missing("function"))?;
    let function = Fields::of(function, "tool_choice.function.")?;
    let name = function.string("name")?.ok_or_else(|| function.missing("name"))?;
    if !tools.iter().any(|tool| tool.name == name) {
        return Err(function.invalid("name", "must be the name of one of the tools"));
    }
    needs_tools(ToolChoice::Named(name.into_owned()))
}
