//! Tools as an item of the conversation, which Codex hands to the upstream as it is: nothing of a schema
//! or a grammar is lost, and custom tools stay what they are.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::engine::app_server::rpc::json;
use crate::engine::app_server::tool_names::Names;
use crate::turn::{At, Failure, Format, Role, Tool, ToolKind};

#[derive(Serialize)]
#[serde(tag = "type", rename = "additional_tools")]
struct AdditionalTools<'a> {
    role: &'static str,
    tools: Vec<ItemTool<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ItemTool<'a> {
    Function { name: String, description: &'a str, strict: bool, parameters: &'a RawValue },
    Custom { name: String, description: &'a str, format: ItemFormat<'a> },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ItemFormat<'a> {
    Text,
    Grammar { syntax: &'a str, definition: &'a str },
}

/// The item that offers these tools, in JSON.
///
/// # Errors
/// If parameters are not JSON.
pub fn additional_tools(tools: &[Tool], names: &Names) -> Result<Vec<Vec<u8>>, Failure> {
    let all: Result<Vec<ItemTool<'_>>, Failure> =
        tools.iter().enumerate().map(|(index, tool)| item_tool(index, tool, names)).collect();
    let item = AdditionalTools { role: Role::Developer.name(), tools: all? };
    json(&item).map_err(|error| Failure::Internal { detail: format!("writing the tools: {error}") })
}

fn item_tool<'a>(index: usize, tool: &'a Tool, names: &Names) -> Result<ItemTool<'a>, Failure> {
    let name = names.out(&tool.full_name()).to_owned();
    let description = &*tool.description;
    Ok(match &tool.kind {
        ToolKind::Function { parameters, strict } => ItemTool::Function {
            name,
            description,
            strict: *strict,
            parameters: serde_json::from_str(parameters.as_str())
                .map_err(|_| Failure::bad(At::Tool(index), "The parameters must be a JSON object."))?,
        },
        ToolKind::Custom { format: Format::Text } => {
            ItemTool::Custom { name, description, format: ItemFormat::Text }
        }
        ToolKind::Custom { format: Format::Grammar { syntax, definition } } => {
            ItemTool::Custom { name, description, format: ItemFormat::Grammar { syntax, definition } }
        }
    })
}
