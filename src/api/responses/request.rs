//! The request body as a question of ours.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api::count::{Asked, estimate};
use crate::api::dialect::{GenerationRequest, Wanted, Wishes};
use crate::api::fields::Fields;
use crate::api::form;
use crate::api::models;
use crate::api::raw::{Items, Raw};
use crate::api::remembered::CallersItems;
use crate::api::stop::Stops;
use crate::config::{Config, ContinuationChoice, Profile, ReasoningOutput};
use crate::turn::{At, Caller, Effort, Failure, Output, ServiceTier, Summary, Turn, Verbosity, Workdir};

use super::input::{self, Origin};
use super::object::Echo;
use super::said;
use super::tools::Offered;

/// What the client asked.
#[derive(Debug)]
pub(super) struct ResponsesRequest {
    /// What any format can ask.
    pub(super) request: GenerationRequest,
    /// What its answer needs.
    pub(super) answered: Answered,
}

/// What of a request its answer needs.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// The model as sent.
    pub(super) model: String,
    /// What the response repeats.
    pub(super) echo: Echo,
    /// What is given of what the model says.
    pub(super) wanted: said::Wanted,
    /// Which field each item of the conversation was made of.
    pub(super) origins: Vec<Origin>,
    /// The field of each tool.
    pub(super) tools: Vec<String>,
}

/// Fields that are heard, or refused where they are not.
const KNOWN: &[&str] = &[
    "background",
    "conversation",
    "include",
    "input",
    "instructions",
    "model",
    "previous_response_id",
    "prompt",
    "reasoning",
    "service_tier",
    // Answered by `false`.
    "store",
    "stream",
    "stream_options",
    "text",
    "tool_choice",
    "tools",
];

/// Reads a request body.
///
/// # Errors
/// [`Failure::BadRequest`], [`Failure::Unsupported`] or [`Failure::NotFound`], naming the field.
pub(super) fn decode(
    body: &str,
    remembered: &CallersItems,
    wanted: &Wanted,
    config: &Config,
) -> Result<ResponsesRequest, Failure> {
    let fields = Fields::body(body, wanted)?;
    let model = models::plain(&fields, "model")?;
    read(&fields, model, remembered, wanted, config)
}

/// The answer to a request that only is to be counted; it may leave out the model.
///
/// # Errors
/// As [`decode`].
pub(in crate::api) fn count(asked: &Asked, config: &Config) -> Result<Value, Failure> {
    let fields = Fields::body(asked.body, asked.wanted)?;
    let model = match fields.get("model") {
        Some(_) => models::plain(&fields, "model")?,
        None => models::DEFAULT.into(),
    };
    let read = read(&fields, model, asked.remembered, asked.wanted, config)?;
    Ok(json!({ "object": "response.input_tokens", "input_tokens": estimate(&read.request.turn) }))
}

/// Reads what was a body.
fn read(
    fields: &Fields,
    model: Cow<'_, str>,
    remembered: &CallersItems,
    wanted: &Wanted,
    config: &Config,
) -> Result<ResponsesRequest, Failure> {
    refuse_stored(fields)?;
    let mut offered = Offered::new(config);
    offered.add(fields)?;
    let input = input::decode(fields, &mut offered, remembered, wanted)?;
    let offer = offered.chosen(fields)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    if let Some(options) = fields.object("stream_options")? {
        Fields::of(options, "stream_options.")?.boolean("include_obfuscation")?;
    }
    let text = Text::of(fields)?;
    let reasoning = Reasoning::of(fields)?;
    let service_tier = fields.choice("service_tier", ServiceTier::NAMES, ServiceTier::from_name)?;
    let cwd = fields.cwd()?;
    let mut ignored = without_effect(fields, cwd.is_some(), config)?;
    let encrypted = include(fields, &mut ignored)?;
    ignored.extend(offer.ignored);
    let parallel = fields.boolean("parallel_tool_calls")?;
    let one_call = parallel == Some(false);
    if one_call && !offer.tools.is_empty() {
        ignored.push("parallel_tool_calls".into());
    }
    ignored.sort_unstable();
    let echo = Echo {
        instructions: echo(fields.get("instructions"))?,
        max_output_tokens: fields.integer("max_output_tokens", 1..=i64::MAX)?,
        max_tool_calls: fields.integer("max_tool_calls", 1..=i64::MAX)?,
        metadata: echo(fields.get("metadata"))?,
        parallel_tool_calls: parallel.unwrap_or(true),
        prompt_cache_key: fields.string("prompt_cache_key")?.map(Cow::into_owned),
        effort: reasoning.effort,
        summary: reasoning.summary,
        safety_identifier: fields.string("safety_identifier")?.map(Cow::into_owned),
        service_tier,
        format: text.format.map(|format| written(format_in_full(format))).transpose()?,
        verbosity: text.verbosity,
        tool_choice: echo(fields.get("tool_choice"))?,
        tools: fields.array("tools")?.map(|tools| written(tools_in_full(tools))).transpose()?,
        auto_truncation: fields.string("truncation")?.as_deref() == Some("auto"),
        user: fields.string("user")?.map(Cow::into_owned),
    };
    let turn = Turn {
        // Who asks is not in the body.
        caller: Caller::Unknown,
        client_name: fields.string("prompt_cache_key")?.filter(|name| !name.is_empty()).map(Arc::from),
        model: models::upstream(&model, config),
        output: text.output,
        effort: reasoning.effort,
        verbosity: text.verbosity,
        service_tier,
        tools: offer.tools.into(),
        tool_choice: offer.choice,
        reasoning: reasoning.summary.unwrap_or(Summary::None),
        want_encrypted: encrypted,
        ..Turn::new(input.items, Workdir::unseen(Path::new(&config.default_cwd)))
    };
    let answered = Answered {
        model: model.clone().into_owned(),
        echo,
        wanted: said::Wanted { encrypted, summaries: config.reasoning == ReasoningOutput::ReasoningContent },
        origins: input.origins,
        tools: offer.places,
    };
    let stop = Stops::new::<&str>(&[])?;
    let request = GenerationRequest {
        model: model.into_owned(),
        stream,
        n: 1,
        stop,
        wishes: Wishes { one_call, ..Wishes::default() },
        ignored,
        cwd,
        turn,
    };
    Ok(ResponsesRequest { request, answered })
}

/// A value as it was written, to be repeated.
fn echo(value: Option<Raw>) -> Result<Option<Box<RawValue>>, Failure> {
    value.map(|value| written(value.json().as_str().to_owned())).transpose()
}

fn written(json: String) -> Result<Box<RawValue>, Failure> {
    let broken = |error| Failure::Internal { detail: format!("repeating a field: {error}") };
    RawValue::from_string(json).map_err(broken)
}

/// The tools to be repeated: the published schema wants every key of a function.
fn tools_in_full(tools: Items) -> String {
    let meant = [("description", "null"), ("parameters", "null"), ("strict", "false")];
    let tools: Vec<String> = tools.map(|tool| in_full(tool, "function", &meant)).collect();
    format!("[{}]", tools.join(","))
}

/// Likewise the form of the answer.
fn format_in_full(format: Raw) -> String {
    in_full(format, "json_schema", &[("description", "null"), ("strict", "false")])
}

/// The object as it was written; in one of that type, what was left out says what that meant.
fn in_full(object: Raw, kind: &str, meant: &[(&str, &str)]) -> String {
    let mut text = object.json().as_str().to_owned();
    let Some(fields) = object.fields() else { return text };
    let same = fields.get("type").and_then(Raw::string).is_some_and(|found| found == kind);
    if same && text.ends_with('}') {
        text.pop();
        for (name, value) in meant.iter().filter(|(name, _)| fields.get(name).is_none()) {
            text.push_str(&format!(",\"{name}\":{value}"));
        }
        text.push('}');
    }
    text
}

fn unsupported(path: &str, message: &str) -> Failure {
    Failure::Unsupported {
        at: At::Field(path.into()),
        message: format!("{path} is not supported: {message}"),
    }
}

/// What would need responses to be kept.
fn refuse_stored(fields: &Fields) -> Result<(), Failure> {
    const NOTHING_STORED: &str = "Nothing is stored here; send the whole conversation in `input`.";
    for key in ["previous_response_id", "conversation", "prompt"] {
        if fields.get(key).is_some() {
            return Err(unsupported(key, NOTHING_STORED));
        }
    }
    match fields.boolean("background")? {
        Some(true) => Err(unsupported("background", NOTHING_STORED)),
        _ => Ok(()),
    }
}

/// `text`.
struct Text<'a> {
    output: Output,
    format: Option<Raw<'a>>,
    verbosity: Option<Verbosity>,
}

impl<'a> Text<'a> {
    fn of(fields: &Fields<'a>) -> Result<Text<'a>, Failure> {
        let Some(text) = fields.object("text")? else {
            return Ok(Text { output: Output::Text, format: None, verbosity: None });
        };
        let text = Fields::of(text, "text.")?;
        let verbosity = text.choice("verbosity", Verbosity::NAMES, Verbosity::from_name)?;
        let format = text.object("format")?;
        let output = match format {
            None => Output::Text,
            Some(format) => {
                let format = Fields::of(format, "text.format.")?;
                match &*format.string("type")?.ok_or_else(|| format.missing("type"))? {
                    "text" => Output::Text,
                    "json_object" => Output::JsonObject,
                    "json_schema" => form::of_fields(&format)?,
                    _ => return Err(format.invalid("type", "must be one of text, json_object, json_schema")),
                }
            }
        };
        Ok(Text { output, format, verbosity })
    }
}

/// `reasoning`.
#[derive(Default)]
struct Reasoning {
    effort: Option<Effort>,
    summary: Option<Summary>,
}

impl Reasoning {
    fn of(fields: &Fields) -> Result<Reasoning, Failure> {
        let Some(reasoning) = fields.object("reasoning")? else { return Ok(Reasoning::default()) };
        let reasoning = Fields::of(reasoning, "reasoning.")?;
        Ok(Reasoning {
            effort: reasoning.choice("effort", Effort::NAMES, Effort::from_name)?,
            summary: reasoning.choice("summary", Summary::NAMES, Summary::from_name)?,
        })
    }
}

/// Whether encrypted reasoning is to be given; what else is asked for is not there.
fn include(fields: &Fields, ignored: &mut Vec<String>) -> Result<bool, Failure> {
    let mut encrypted = false;
    for (index, value) in fields.array("include")?.into_iter().flatten().enumerate() {
        let path = format!("include[{index}]");
        match value.string().as_deref() {
            None => return Err(crate::api::fields::wrong(&path, "a string", value)),
            Some("reasoning.encrypted_content") => encrypted = true,
            Some("message.output_text.logprobs") => {
                return Err(unsupported(&path, "Codex reports no probabilities."));
            }
            Some(_) => ignored.push(path),
        }
    }
    Ok(encrypted)
}

/// Checks types and ranges of what has no effect, and names what is there of it.
fn without_effect(fields: &Fields, cwd: bool, config: &Config) -> Result<Vec<String>, Failure> {
    fields.number("temperature", 0.0..=2.0)?;
    fields.number("top_p", 0.0..=1.0)?;
    fields.boolean("store")?;
    for key in ["client_metadata", "metadata"] {
        fields.object(key)?;
    }
    for key in ["prompt_cache_retention", "safety_identifier", "user"] {
        fields.string(key)?;
    }
    if fields.integer("top_logprobs", 0..=20)?.is_some_and(|number| number > 0) {
        return Err(unsupported("top_logprobs", "Codex reports no probabilities."));
    }
    let truncation = fields.choice("truncation", &["auto", "disabled"], |word| match word {
        "auto" => Some(true),
        "disabled" => Some(false),
        _ => None,
    })?;
    let without = |name: &&str| match *name {
        // A part of the conversation's identity, where that goes upstream.
        "prompt_cache_key" => config.continuation == ContinuationChoice::Off,
        "truncation" => truncation == Some(true),
        // Said where it has none.
        "parallel_tool_calls" => false,
        // Unless it names the directory.
        "metadata" => !cwd,
        name => !KNOWN.contains(&name),
    };
    let mut ignored: Vec<String> = fields.names().filter(without).map(str::to_owned).collect();
    if cwd && config.profile() == Profile::Model {
        ignored.push("metadata.cwd".into());
    }
    Ok(ignored)
}

#[cfg(test)]
mod tests;
