//! The request body as a question of ours.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::config::{Config, ContinuationChoice, EngineKind, Profile};
use crate::turn::{
    Caller, Effort, Failure, Item, Output, ServiceTier, Tool, ToolChoice, Turn, Verbosity, Workdir,
};

use super::super::stop::Stops;
use super::fields::{Fields, wrong};
use super::{messages, tools};

/// What the client asked, checked as far as it can be without touching the disk.
#[derive(Debug)]
pub struct Ask {
    /// The model as sent, to be echoed.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether a stream ends with the token counts.
    pub include_usage: bool,
    /// How many answers.
    pub n: usize,
    /// Where each answer ends early.
    pub stop: Stops,
    /// Fields that were accepted and have no effect, in alphabetical order.
    pub ignored: Vec<String>,
    client_name: Option<Arc<str>>,
    upstream_model: Option<String>,
    conversation: Arc<[Item]>,
    cwd: Option<String>,
    output: Output,
    effort: Option<Effort>,
    verbosity: Option<Verbosity>,
    service_tier: Option<ServiceTier>,
    tools: Arc<[Tool]>,
    tool_choice: ToolChoice,
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

/// The most JSON values in one body. A body of tiny values takes many times its size once read, so
/// that its length alone would not bound the memory; no conversation comes near this.
const MOST_VALUES: usize = 1_000_000;

/// How many values a JSON text has, give or take one for each container: a glance, not a parser.
fn values(body: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in body.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Reads a request body.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::Unsupported`], naming the field.
pub fn decode(body: &str, config: &Config) -> Result<Ask, Failure> {
    if values(body) > MOST_VALUES {
        return Err(Failure::BadRequest {
            param: None,
            message: format!("The request body has more than {MOST_VALUES} JSON values."),
        });
    }
    let value: Value = serde_json::from_str(body).map_err(|error| Failure::BadRequest {
        param: None,
        message: format!("The request body is not valid JSON: {error}."),
    })?;
    let fields = Fields::of(&value, "").map_err(|_| Failure::BadRequest {
        param: None,
        message: format!("The request body must be a JSON object, not {}.", super::fields::kind(&value)),
    })?;

    let model = model(&fields)?;
    let list = fields.array("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if list.is_empty() {
        return Err(fields.invalid("messages", "must not be empty"));
    }
    let conversation = messages::decode(list)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let n = fields.integer("n", 1..=8)?.unwrap_or(1);
    let offer = tools::decode(&fields)?;
    if !offer.tools.is_empty() && config.engine == EngineKind::Exec {
        return Err(unsupported(
            "tools",
            "Function tools need the app-server engine: set engine = \"app-server\".",
        ));
    }
    let ask = Ask {
        stream,
        include_usage: include_usage(&fields, stream)?,
        n: usize::try_from(n).unwrap_or(1),
        stop: stop(&fields)?,
        client_name: fields.string("prompt_cache_key")?.filter(|name| !name.is_empty()).map(Arc::from),
        upstream_model: upstream_model(model, config),
        conversation: conversation.into(),
        cwd: cwd(&fields)?,
        output: output(&fields)?,
        effort: fields.choice("reasoning_effort", Effort::NAMES, Effort::from_name)?,
        verbosity: fields.choice("verbosity", Verbosity::NAMES, Verbosity::from_name)?,
        service_tier: fields.choice("service_tier", ServiceTier::NAMES, ServiceTier::from_name)?,
        tools: offer.tools.into(),
        tool_choice: offer.choice,
        model: model.to_owned(),
        ignored: Vec::new(),
    };
    check_no_effect(&fields)?;
    let ignored = ignored(&fields, &ask, config);
    Ok(Ask { ignored, ..ask })
}

impl Ask {
    /// The turn to run. Blocking if it [needs a directory](needs_directory): resolves it on the disk.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] on `metadata.cwd`.
    pub fn turn(&self, caller: Caller, config: &Config) -> Result<Turn, Failure> {
        // In the lean profile the model sees no files, so every directory is as good.
        let asked = self.cwd.as_deref().filter(|_| config.profile() == Profile::Agent);
        let default = Path::new(&config.default_cwd);
        let workdir = if needs_directory(config) {
            Workdir::resolve(asked, default, &config.allowed_roots)?
        } else {
            Workdir::unseen(default)
        };
        Ok(Turn {
            caller,
            client_name: self.client_name.clone(),
            model: self.upstream_model.clone(),
            conversation: Arc::clone(&self.conversation),
            workdir,
            output: self.output.clone(),
            effort: self.effort,
            verbosity: self.verbosity,
            service_tier: self.service_tier,
            tools: Arc::clone(&self.tools),
            tool_choice: self.tool_choice.clone(),
        })
    }

    /// The form the answer must have.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Whether a function must be called.
    pub fn tool_choice(&self) -> &ToolChoice {
        &self.tool_choice
    }
}

/// Whether a turn looks at its directory: an agent works in it, and `codex exec` starts in it.
pub fn needs_directory(config: &Config) -> bool {
    config.profile() == Profile::Agent || config.engine == EngineKind::Exec
}

fn unsupported(param: &str, message: &str) -> Failure {
    Failure::Unsupported { param: param.into(), message: message.into() }
}

/// The model's name: it becomes a word of Codex's command line, so only plain names pass.
fn model<'a>(fields: &Fields<'a>) -> Result<&'a str, Failure> {
    let model = fields.string("model")?.ok_or_else(|| fields.missing("model"))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/-".contains(&b);
    if model.len() > 128
        || !model.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !model.bytes().all(plain)
    {
        let why = "must begin with a letter or digit and have at most 128 letters, digits and . _ : / -";
        return Err(fields.invalid("model", why));
    }
    Ok(model)
}

/// What Codex is asked for: `None` is the configured or Codex's own default.
fn upstream_model(model: &str, config: &Config) -> Option<String> {
    let alias =
        |name: &str| config.model_aliases.iter().find(|(alias, _)| alias == name).map(|(_, target)| target);
    let target = match alias(model) {
        Some(target) => target,
        None if model == super::super::models::DEFAULT => return None,
        None => alias("*").map_or(model, String::as_str),
    };
    (target != super::super::models::DEFAULT).then(|| target.to_owned())
}

fn include_usage(fields: &Fields, stream: bool) -> Result<bool, Failure> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(fields.invalid("stream_options", "is only allowed when stream is true"));
    }
    let options = Fields::of(options, "stream_options.")?;
    options.boolean("include_obfuscation")?;
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

fn stop(fields: &Fields) -> Result<Stops, Failure> {
    let list = match fields.get("stop") {
        None => &[],
        Some(stop @ Value::String(_)) => std::slice::from_ref(stop),
        Some(Value::Array(list)) => list.as_slice(),
        Some(other) => return Err(wrong("stop", "a string or an array of strings", other)),
    };
    if list.len() > Stops::MOST {
        return Err(fields.invalid("stop", &format!("must have at most {} strings", Stops::MOST)));
    }
    let single = matches!(fields.get("stop"), Some(Value::String(_)));
    let mut stops = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let key = if single { "stop".to_owned() } else { format!("stop[{index}]") };
        let Value::String(stop) = value else { return Err(wrong(&key, "a string", value)) };
        if stop.is_empty() {
            return Err(fields.invalid("stop", "must not have an empty string"));
        }
        if stop.len() > Stops::LONGEST {
            return Err(fields.invalid(&key, &format!("must have at most {} bytes", Stops::LONGEST)));
        }
        stops.push(stop.as_str());
    }
    Stops::new(&stops)
}

fn cwd(fields: &Fields) -> Result<Option<String>, Failure> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(None) };
    Ok(Fields::of(metadata, "metadata.")?.string("cwd")?.map(str::to_owned))
}

fn output(fields: &Fields) -> Result<Output, Failure> {
    let Some(format) = fields.object("response_format")? else { return Ok(Output::Text) };
    let format = Fields::of(format, "response_format.")?;
    match format.string("type")?.ok_or_else(|| format.missing("type"))? {
        "text" => Ok(Output::Text),
        "json_object" => Ok(Output::JsonObject),
        "json_schema" => {
            let json_schema = format.object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
            let json_schema = Fields::of(json_schema, "response_format.json_schema.")?;
            json_schema.string("name")?.ok_or_else(|| json_schema.missing("name"))?;
            json_schema.string("description")?;
            json_schema.boolean("strict")?;
            let schema = json_schema.object("schema")?.ok_or_else(|| json_schema.missing("schema"))?;
            Ok(Output::JsonSchema(schema.to_string()))
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
    for modality in fields.array("modalities")?.unwrap_or_default() {
        if modality.as_str() != Some("text") {
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

fn ignored(fields: &Fields, ask: &Ask, config: &Config) -> Vec<String> {
    let without_effect = |name: &str| match name {
        // Codex decides; only "no" is a wish that is not heard.
        "parallel_tool_calls" => fields.get(name) == Some(&Value::Bool(false)) && !ask.tools.is_empty(),
        // A part of the conversation's identity, where that goes upstream.
        "prompt_cache_key" => config.continuation == ContinuationChoice::Off,
        name => NO_EFFECT.contains(&name),
    };
    let mut ignored: Vec<String> =
        fields.names().filter(|name| without_effect(name)).map(str::to_owned).collect();
    if ask.cwd.is_some() && config.profile() == Profile::Model {
        ignored.push("metadata.cwd".into());
    }
    ignored.sort_unstable();
    ignored
}

#[cfg(test)]
mod tests;
