//! `tools`, `mcp_servers` and `tool_choice`: the functions a caller offers.

use std::collections::HashSet;

use crate::api::fields::Fields;
use crate::api::raw::{Items, Raw};
use crate::turn::{At, Failure, Tool, ToolChoice};

/// The longest name of a tool, in bytes, as in Anthropic's reference.
const LONGEST_NAME: usize = 128;

/// What tools begin with that Anthropic runs itself, or whose schema it keeps.
const HOSTED: &[&str] = &[
    "web_search",
    "web_fetch",
    "bash",
    "text_editor",
    "computer",
    "memory",
    "code_execution",
    "tool_search",
    "mcp_toolset",
    "advisor",
];

/// What the request says about tools.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pub(super) tools: Vec<Tool>,
    /// Where each of them stands in the request.
    pub(super) origins: Vec<usize>,
    pub(super) choice: ToolChoice,
    /// Whether only one call at a time is wanted.
    pub(super) one_call: bool,
    /// What is not offered, by its path.
    pub(super) ignored: Vec<String>,
}

/// A tool that is not run here.
struct Hosted {
    /// `tools[0]`.
    path: String,
    /// `web_search`, without the date of its version.
    kind: String,
    /// What `tool_choice` calls it.
    name: String,
}

impl Hosted {
    fn refused(&self) -> Failure {
        Failure::Unsupported {
            at: At::Field(self.path.clone()),
            message: format!(
                "`{}`: hosted tools (`{}`) are not available here; offer a function instead.",
                self.path, self.kind
            ),
        }
    }
}

/// Reads the fields; schemas as they were written. `none` offers nothing. Unless it is to be `answered`,
/// no offer is refused for what it is.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::Unsupported`] naming the field.
pub(super) fn decode(fields: &Fields, answered: bool) -> Result<Offer, Failure> {
    let mut offer = Offer::default();
    let mut hosted = Vec::new();
    let mut names = HashSet::new();
    for (index, value) in fields.array("tools")?.into_iter().flatten().enumerate() {
        let tool = Fields::of(value, format!("tools[{index}]."))?;
        match tool.string("type")?.as_deref() {
            None | Some("custom") => {}
            Some(kind) if HOSTED.iter().any(|known| kind.starts_with(known)) => {
                let name = tool.string("name")?.unwrap_or_default().into_owned();
                hosted.push(Hosted { path: format!("tools[{index}]"), kind: undated(kind), name });
                continue;
            }
            Some(_) => return Err(tool.invalid("type", "must be custom, or left out")),
        }
        let name = tool.name_up_to("name", LONGEST_NAME)?;
        if !names.insert(name.clone()) {
            return Err(tool.invalid("name", "is used by two tools"));
        }
        let schema = tool.object("input_schema")?.ok_or_else(|| tool.missing("input_schema"))?;
        let description = tool.string("description")?.unwrap_or_default();
        let strict = tool.boolean("strict")?.unwrap_or(false);
        for key in ["eager_input_streaming", "defer_loading"] {
            if tool.boolean(key)? == Some(true) && key == "defer_loading" {
                offer.ignored.push(tool.path(key));
            }
        }
        offer.tools.push(Tool::function(name, description, schema.json()).strictly(strict));
        offer.origins.push(index);
    }
    if !fields.array("mcp_servers")?.as_ref().is_none_or(Items::is_empty) {
        hosted.push(Hosted { path: "mcp_servers".into(), kind: "mcp".into(), name: String::new() });
    }
    if !answered {
        // What is offered counts, whether it would be run here or not.
        return Ok(offer);
    }
    if let (true, Some(first)) = (offer.tools.is_empty(), hosted.first()) {
        return Err(first.refused());
    }
    choose(fields, &mut offer, &hosted)?;
    offer.ignored.extend(hosted.into_iter().map(|tool| match tool.path.strip_prefix("tools") {
        Some(_) => format!("{}.{}", tool.path, tool.kind),
        None => tool.path,
    }));
    Ok(offer)
}

/// `web_search` of `web_search_20250305`.
fn undated(kind: &str) -> String {
    let kind: String = kind.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
    match kind.rsplit_once('_') {
        Some((name, date)) if date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
        _ => kind,
    }
}

fn choose(fields: &Fields, offer: &mut Offer, hosted: &[Hosted]) -> Result<(), Failure> {
    let Some(choice) = fields.get("tool_choice") else { return Ok(()) };
    let choice = read_choice(choice)?;
    let needs_tools = || match offer.tools.is_empty() {
        true => Err(fields.invalid("tool_choice", "needs tools")),
        false => Ok(()),
    };
    offer.choice = match &*choice.string("type")?.ok_or_else(|| choice.missing("type"))? {
        "auto" => ToolChoice::Auto,
        "any" => needs_tools().map(|()| ToolChoice::Required)?,
        "tool" => {
            let name = choice.string("name")?.ok_or_else(|| choice.missing("name"))?;
            if let Some(tool) = hosted.iter().find(|tool| tool.name == name) {
                return Err(tool.refused());
            }
            if !offer.tools.iter().any(|tool| tool.name == name) {
                return Err(choice.invalid("name", "must be the name of one of the tools"));
            }
            ToolChoice::Named(name.into_owned())
        }
        "none" => {
            offer.tools.clear();
            offer.origins.clear();
            ToolChoice::Auto
        }
        _ => return Err(choice.invalid("type", "must be one of auto, any, tool, none")),
    };
    if choice.boolean("disable_parallel_tool_use")? == Some(true) && !offer.tools.is_empty() {
        offer.one_call = true;
        offer.ignored.push("tool_choice.disable_parallel_tool_use".into());
    }
    Ok(())
}

fn read_choice(choice: Raw) -> Result<Fields, Failure> {
    Fields::of(choice, "tool_choice.")
}
