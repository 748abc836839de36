//! The request body as a question of ours.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::count::{Asked, estimate};
use crate::api::dialect::{GenerationRequest, Wanted, Wishes};
use crate::api::fields::Fields;
use crate::api::form;
use crate::api::models;
use crate::api::stop::Stops;
use crate::config::{Config, ContinuationChoice, Profile, ReasoningOutput};
use crate::turn::{At, Effort, Failure, Output, Summary, Turn, Workdir};

use super::content::{self, Origin};
use super::thinking::{self, Thinking};
use super::tools;

/// What the client asked.
#[derive(Debug)]
pub(super) struct MessagesRequest {
    /// What any format can ask.
    pub(super) request: GenerationRequest,
    /// What each item of the conversation was made of.
    pub(super) origins: Vec<Origin>,
    /// Which of the request's tools each of the turn's is.
    pub(super) tool_origins: Vec<usize>,
    /// The field that has the answer's form.
    pub(super) format: &'static str,
    /// What of the model's thinking goes into the answer.
    pub(super) shown: Shown,
}

/// What of the model's thinking goes into the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Thinking blocks.
    pub(super) blocks: bool,
    /// What was thought in them, and not their signatures alone.
    pub(super) text: bool,
}

/// Accepted, checked, without effect: Codex has no path for them, or they change nothing.
const NO_EFFECT: &[&str] = &[
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "speed",
    "inference_geo",
    "diagnostics",
    "billing_policy",
    "user_profile_id",
    "workspace_id",
];

/// What has an effect, or none that anybody misses.
const KNOWN: &[&str] = &[
    "model",
    "messages",
    "system",
    "stream",
    "tools",
    "tool_choice",
    "mcp_servers",
    "stop_sequences",
    "metadata",
    "thinking",
    "output_config",
    "output_format",
    "context_management",
    "cache_control",
    "betas",
    "service_tier",
];

/// The most unknown fields that are named.
const MOST_UNKNOWN: usize = 16;

/// Reads a request body.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::Unsupported`], naming the field.
pub(super) fn decode(body: &str, wanted: &Wanted, config: &Config) -> Result<MessagesRequest, Failure> {
    let fields = Fields::body(body, wanted)?;
    read(&fields, wanted, config, true)
}

/// The answer to a request that only is to be counted.
///
/// # Errors
/// As [`decode`]; but what would be refused for what it asks is counted all the same.
pub(in crate::api) fn count(asked: &Asked, config: &Config) -> Result<Value, Failure> {
    let fields = Fields::body(asked.body, asked.wanted)?;
    let asked = read(&fields, asked.wanted, config, false)?;
    Ok(json!({ "input_tokens": estimate(&asked.request.turn) }))
}

/// Reads what was a body; `answered` unless it only is to be counted.
fn read(
    fields: &Fields,
    wanted: &Wanted,
    config: &Config,
    answered: bool,
) -> Result<MessagesRequest, Failure> {
    let model = models::plain_but(fields, "model", LONG_CONTEXT)?;
    refuse_stored(fields)?;
    let max_tokens = fields.integer("max_tokens", 1..=i64::MAX)?;
    if answered && max_tokens.is_none() {
        return Err(fields.missing("max_tokens"));
    }
    let list = fields.array("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if list.is_empty() {
        return Err(fields.invalid("messages", "must not be empty"));
    }
    let app_server = config.engine.capabilities().tools;
    let conversation = content::decode(fields, list, app_server, !answered, wanted)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let offer = tools::decode(fields, answered)?;
    if answered && !offer.tools.is_empty() && !app_server {
        return Err(Failure::Unsupported {
            at: At::Field("tools".into()),
            message:
                "Tools need the app-server engine: set engine = \"app-server\" (agents best with profile = \
                      \"model\")."
                    .into(),
        });
    }
    let stop = match fields.array("stop_sequences")? {
        Some(list) => Stops::read(list, "stop_sequences")?,
        None => Stops::default(),
    };
    let thinking = Thinking::decode(fields)?;
    let (output, format, asked) = output(fields)?;
    let shown = match thinking {
        Thinking::Unsaid | Thinking::Disabled => Shown::default(),
        Thinking::Enabled { shown, .. } => {
            Shown { blocks: true, text: shown && config.reasoning == ReasoningOutput::ReasoningContent }
        }
    };
    let cwd = fields.cwd()?;
    let client_name = client_name(fields)?;
    check_no_effect(fields)?;

    let mut ignored = ignored(fields);
    if client_name.is_some() && config.continuation == ContinuationChoice::Off {
        ignored.push("metadata.user_id".into());
    }
    if cwd.is_some() && config.profile() == Profile::Model {
        ignored.push("metadata.cwd".into());
    }
    ignored.extend(edits(fields)?);
    ignored.extend(offer.ignored);
    ignored.extend(conversation.ignored);

    let turn = Turn {
        client_name,
        model: upstream(&model, config),
        output,
        effort: thinking.effort(asked),
        tools: offer.tools.into(),
        tool_choice: offer.choice,
        reasoning: if shown.text { Summary::Auto } else { Summary::None },
        want_encrypted: shown.blocks && app_server,
        ..Turn::new(conversation.items, Workdir::unseen(Path::new(&config.default_cwd)))
    };
    let wishes = Wishes { probe: max_tokens == Some(1), one_call: offer.one_call };
    let request =
        GenerationRequest { model: model.into_owned(), stream, n: 1, stop, wishes, ignored, cwd, turn };
    let (origins, tool_origins) = (conversation.origins, offer.origins);
    Ok(MessagesRequest { request, origins, tool_origins, format, shown })
}

/// What Claude Code puts behind a model's name to ask for a long context.
const LONG_CONTEXT: &str = "[1m]";

/// What Codex is asked for: the default model for the names that this format's clients ask for by
/// themselves (`claude…`, `anthropic/claude…`, and any with [`LONG_CONTEXT`] behind it), unless they
/// were mapped.
fn upstream(model: &str, config: &Config) -> Option<String> {
    let mapped = |name: &str| config.model_aliases.iter().any(|(alias, _)| alias == name);
    let base = model.strip_suffix(LONG_CONTEXT).unwrap_or(model);
    let name = if mapped(model) { model } else { base };
    let native = model != base || name.strip_prefix("anthropic/").unwrap_or(name).starts_with("claude");
    if native && !mapped(name) && !mapped("*") { None } else { models::upstream(name, config) }
}

/// What needs something that was stored.
fn refuse_stored(fields: &Fields) -> Result<(), Failure> {
    for key in ["thread", "container", "compaction", "fallbacks"] {
        if fields.get(key).is_some() {
            let message = match key {
                "thread" => {
                    "Nothing is stored here: send the whole conversation in `messages`, without `thread`."
                }
                "container" => "container is not supported: no code is run here.",
                "compaction" => "compaction is not supported here: send a shorter conversation.",
                _ => "fallbacks is not supported: a request has one model.",
            };
            return Err(Failure::Unsupported { at: At::Field(key.into()), message: message.into() });
        }
    }
    Ok(())
}

/// The form of the answer, the field it came from, and the effort beside it.
fn output(fields: &Fields) -> Result<(Output, &'static str, Option<Effort>), Failure> {
    let (mut format, mut effort) = (None, None);
    if let Some(config) = fields.object("output_config")? {
        let config = Fields::of(config, "output_config.")?;
        effort = thinking::effort(&config)?;
        format = config.object("format")?.map(|format| (format, "output_config.format"));
    }
    if format.is_none() {
        format = fields.object("output_format")?.map(|format| (format, "output_format"));
    }
    let Some((format, path)) = format else { return Ok((Output::Text, "output_config.format", effort)) };
    let format = Fields::of(format, format!("{path}."))?;
    match &*format.string("type")?.ok_or_else(|| format.missing("type"))? {
        "json_schema" => {
            let schema = format.object("schema")?.ok_or_else(|| format.missing("schema"))?;
            let output =
                form::of_schema(schema.json(), false).map_err(|why| format.invalid("schema", &why))?;
            Ok((output, path, effort))
        }
        _ => Err(format.invalid("type", "must be json_schema")),
    }
}

fn client_name(fields: &Fields) -> Result<Option<Arc<str>>, Failure> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(None) };
    let name = Fields::of(metadata, "metadata.")?.string("user_id")?;
    Ok(name.filter(|name| !name.is_empty()).map(Arc::from))
}

/// The edits of the context that are not made. Clearing thinking is none: what cannot be given back is
/// left out anyway.
fn edits(fields: &Fields) -> Result<Vec<String>, Failure> {
    let Some(management) = fields.object("context_management")? else { return Ok(Vec::new()) };
    let management = Fields::of(management, "context_management.")?;
    let mut ignored = Vec::new();
    for (index, edit) in management.array("edits")?.into_iter().flatten().enumerate() {
        let edit = Fields::of(edit, management.path(&format!("edits[{index}].")))?;
        let kind = edit.string("type")?.ok_or_else(|| edit.missing("type"))?;
        if !kind.starts_with("clear_thinking") && ignored.len() < MOST_UNKNOWN {
            ignored.push(management.path(&format!("edits[{index}]")));
        }
    }
    Ok(ignored)
}

/// Types and ranges of what has no effect.
fn check_no_effect(fields: &Fields) -> Result<(), Failure> {
    fields.number("temperature", 0.0..=2.0)?;
    fields.number("top_p", 0.0..=1.0)?;
    fields.integer("top_k", 0..=i64::MAX)?;
    for key in ["service_tier", "speed", "inference_geo", "user_profile_id", "workspace_id"] {
        fields.string(key)?;
    }
    for key in ["billing_policy", "diagnostics"] {
        fields.object(key)?;
    }
    Ok(())
}

fn ignored(fields: &Fields) -> Vec<String> {
    let named = |name: &str| NO_EFFECT.contains(&name);
    let tier = fields.string("service_tier").ok().flatten().is_some_and(|tier| tier != "auto");
    // Only what can stand in a header.
    let plain = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    let unknown = |name: &&str| !named(name) && !KNOWN.contains(name) && plain(name);
    let mut ignored: Vec<String> = fields.names().filter(|name| named(name)).map(str::to_owned).collect();
    ignored.extend(tier.then(|| "service_tier".to_owned()));
    ignored.extend(fields.names().filter(unknown).take(MOST_UNKNOWN).map(str::to_owned));
    ignored
}

#[cfg(test)]
mod tests;
