//! The request body as a question of ours.

use std::path::Path;
use std::sync::Arc;

use crate::api::dialect::{GenerationRequest, Wanted, Wishes};
use crate::api::fields::{Fields, wrong};
use crate::api::form;
use crate::api::models;
use crate::api::openai::{include_usage, stop};
use crate::api::raw::Raw;
use crate::config::{Config, ContinuationChoice, Profile};
use crate::turn::{At, Caller, Effort, Failure, Output, ServiceTier, Summary, Turn, Verbosity, Workdir};

use super::{messages, tools};

/// What the client asked.
#[derive(Debug)]
pub(super) struct ChatRequest {
    /// What any format can ask.
    pub(super) request: GenerationRequest,
    /// Whether a stream ends with the token counts.
    pub(super) include_usage: bool,
    /// Of which message each item of the conversation was made.
    pub(super) origins: Vec<usize>,
    /// Which of the request's functions each of the turn's is.
    pub(super) tool_origins: Vec<usize>,
}

/// Accepted, checked, without effect: Codex has no path for them.
const NO_EFFECT: &[&str] = &[
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "user",
    "safety_identifier",
    "prompt_cache_retention",
    "store",
    "logit_bias",
    "prediction",
    "top_logprobs",
    "web_search_options",
];

/// Reads a request body.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::Unsupported`], naming the field.
pub(super) fn decode(body: &str, wanted: &Wanted, config: &Config) -> Result<ChatRequest, Failure> {
    let fields = Fields::body(body, wanted)?;

    let model = models::plain(&fields, "model")?;
    let list = fields.array("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if list.is_empty() {
        return Err(fields.invalid("messages", "must not be empty"));
    }
    let messages = messages::decode(list, wanted)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let n = fields.integer("n", 1..=8)?.unwrap_or(1);
    let offer = tools::decode(&fields)?;
    if !offer.tools.is_empty() && !config.engine.capabilities().tools {
        return Err(unsupported(
            "tools",
            "Function tools need the app-server engine: set engine = \"app-server\" (agents best with profile = \"model\").",
        ));
    }
    let include_usage = include_usage(&fields, stream)?;
    let stop = stop(&fields)?;
    let cwd = fields.cwd()?;
    let turn = Turn {
        // Who asks is not in the body.
        caller: Caller::Unknown,
        client_name: fields.string("prompt_cache_key")?.filter(|name| !name.is_empty()).map(Arc::from),
        model: models::upstream(&model, config),
        output: output(&fields)?,
        effort: fields.choice("reasoning_effort", Effort::NAMES, Effort::from_name)?,
        verbosity: fields.choice("verbosity", Verbosity::NAMES, Verbosity::from_name)?,
        service_tier: fields.choice("service_tier", ServiceTier::NAMES, ServiceTier::from_name)?,
        tools: offer.tools.into(),
        tool_choice: offer.choice,
        reasoning: Summary::Auto,
        ..Turn::new(messages.items, Workdir::unseen(Path::new(&config.default_cwd)))
    };
    check_no_effect(&fields)?;
    let mut ignored = ignored(&fields, &turn, cwd.is_some(), config);
    ignored.extend(messages.ignored.into_iter().map(str::to_owned));
    ignored.sort_unstable();
    let n = usize::try_from(n).unwrap_or(1);
    let request = GenerationRequest {
        model: model.into_owned(),
        stream,
        n,
        stop,
        wishes: Wishes::default(),
        ignored,
        cwd,
        turn,
    };
    Ok(ChatRequest { request, include_usage, origins: messages.origins, tool_origins: offer.origins })
}

fn unsupported(param: &str, message: &str) -> Failure {
    Failure::Unsupported { at: At::Field(param.into()), message: message.into() }
}

/// The form of the answer; a schema as it was written.
fn output(fields: &Fields) -> Result<Output, Failure> {
    let Some(format) = fields.object("response_format")? else { return Ok(Output::Text) };
    let format = Fields::of(format, "response_format.")?;
    match &*format.string("type")?.ok_or_else(|| format.missing("type"))? {
        "text" => Ok(Output::Text),
        "json_object" => Ok(Output::JsonObject),
        "json_schema" => {
            let json_schema = format.object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
            form::of_fields(&Fields::of(json_schema, "response_format.json_schema.")?)
        }
        _ => Err(format.invalid("type", "must be one of text, json_object, json_schema")),
    }
}

/// Types and ranges of what has no effect, and refusal of what would change the answer's meaning.
fn check_no_effect(fields: &Fields) -> Result<(), Failure> {
    fields.number("temperature", 0.0..=2.0)?;
    fields.number("top_p", 0.0..=1.0)?;
    fields.number("presence_penalty", -2.0..=2.0)?;
    fields.number("frequency_penalty", -2.0..=2.0)?;
    fields.integer("max_tokens", 1..=i64::MAX)?;
    fields.integer("max_completion_tokens", 1..=i64::MAX)?;
    fields.integer("seed", i64::MIN..=i64::MAX)?;
    fields.integer("top_logprobs", 0..=20)?;
    for key in ["user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"] {
        fields.string(key)?;
    }
    for key in ["logit_bias", "prediction", "web_search_options"] {
        fields.object(key)?;
    }
    fields.boolean("store")?;
    fields.boolean("parallel_tool_calls")?;
    if fields.boolean("logprobs")? == Some(true) {
        return Err(unsupported("logprobs", "logprobs is not supported: Codex reports no probabilities."));
    }
    for (index, modality) in fields.array("modalities")?.into_iter().flatten().enumerate() {
        let path = format!("modalities[{index}]");
        if modality.string().ok_or_else(|| wrong(&path, "a string", modality))? != "text" {
            return Err(unsupported(
                "modalities",
                "Only the modality text is supported: Codex answers in text.",
            ));
        }
    }
    if fields.get("audio").is_some() {
        return Err(unsupported("audio", "audio is not supported: Codex answers in text."));
    }
    for key in ["functions", "function_call"] {
        if fields.get(key).is_some() {
            return Err(unsupported(
                key,
                &format!("{key} is the older form of tools and not supported: use tools."),
            ));
        }
    }
    Ok(())
}

fn ignored(fields: &Fields, turn: &Turn, cwd: bool, config: &Config) -> Vec<String> {
    let without_effect = |name: &str| match name {
        // Codex decides; only "no" is a wish that is not heard.
        "parallel_tool_calls" => {
            fields.get(name).and_then(Raw::boolean) == Some(false) && !turn.tools.is_empty()
        }
        // A part of the conversation's identity, where that goes upstream.
        "prompt_cache_key" => config.continuation == ContinuationChoice::Off,
        name => NO_EFFECT.contains(&name),
    };
    let mut ignored: Vec<String> =
        fields.names().filter(|name| without_effect(name)).map(str::to_owned).collect();
    if cwd && config.profile() == Profile::Model {
        ignored.push("metadata.cwd".into());
    }
    ignored
}

#[cfg(test)]
mod tests;
