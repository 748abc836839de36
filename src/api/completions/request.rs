//! The request body as a question of ours.

use std::borrow::Cow;
use std::path::Path;

use crate::api::dialect::{GenerationRequest, Wanted, Wishes};
use crate::api::fields::{Fields, wrong};
use crate::api::models;
use crate::api::openai::{include_usage, stop};
use crate::config::{Config, Profile};
use crate::turn::{At, Failure, Item, Part, Role, Turn, Workdir};

/// What the client asked.
#[derive(Debug)]
pub(super) struct CompletionsRequest {
    /// What any format can ask.
    pub(super) request: GenerationRequest,
    /// Whether a stream ends with the token counts.
    pub(super) include_usage: bool,
}

/// Fields that are heard, or refused where they are not.
const KNOWN: &[&str] = &[
    "best_of",
    "echo",
    "logprobs",
    "metadata",
    "model",
    "n",
    "prompt",
    "stop",
    "stream",
    "stream_options",
    "suffix",
];

/// Reads a request body.
///
/// # Errors
/// [`Failure::BadRequest`] or [`Failure::Unsupported`], naming the field.
pub(super) fn decode(body: &str, wanted: &Wanted, config: &Config) -> Result<CompletionsRequest, Failure> {
    let fields = Fields::body(body, wanted)?;
    let model = models::plain(&fields, "model")?;
    let prompt = prompt(&fields)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let n = fields.integer("n", 1..=8)?.unwrap_or(1);
    let include_usage = include_usage(&fields, stream)?;
    let stop = stop(&fields)?;
    let cwd = fields.cwd()?;
    refuse(&fields, n)?;
    check_no_effect(&fields)?;
    let said = Item::message(Role::User, vec![Part::Text(prompt.into())]);
    let turn = Turn {
        model: models::upstream(&model, config),
        ..Turn::new([said], Workdir::unseen(Path::new(&config.default_cwd)))
    };
    let mut ignored: Vec<String> =
        fields.names().filter(|name| !KNOWN.contains(name)).map(str::to_owned).collect();
    if cwd.is_some() && config.profile() == Profile::Model {
        ignored.push("metadata.cwd".into());
    }
    ignored.sort_unstable();
    let request = GenerationRequest {
        model: model.into_owned(),
        stream,
        n: usize::try_from(n).unwrap_or(1),
        stop,
        wishes: Wishes::default(),
        ignored,
        cwd,
        turn,
    };
    Ok(CompletionsRequest { request, include_usage })
}

/// The one text to be answered.
fn prompt<'a>(fields: &Fields<'a>) -> Result<Cow<'a, str>, Failure> {
    let value = fields.get("prompt").ok_or_else(|| fields.missing("prompt"))?;
    if let Some(text) = value.string() {
        return Ok(text);
    }
    let Some(mut list) = value.items() else {
        return Err(wrong("prompt", "a string or an array of one string", value));
    };
    let first = list.next().ok_or_else(|| fields.invalid("prompt", "must not be empty"))?;
    if first.kind() == "a number" || first.kind() == "an array" {
        return Err(unsupported("prompt[0]", "prompt[0] must be a string: Codex takes no tokens."));
    }
    let text = first.string().ok_or_else(|| wrong("prompt[0]", "a string", first))?;
    if !list.is_empty() {
        let message = "prompt must be one text: send each in a request of its own.";
        return Err(unsupported("prompt", message));
    }
    Ok(text)
}

fn unsupported(param: &str, message: &str) -> Failure {
    Failure::Unsupported { at: At::Field(param.into()), message: message.into() }
}

/// What would change the answer's meaning.
fn refuse(fields: &Fields, n: i64) -> Result<(), Failure> {
    if fields.string("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(unsupported(
            "suffix",
            "suffix is not supported: Codex answers a prompt and inserts nothing.",
        ));
    }
    if fields.boolean("echo")? == Some(true) {
        return Err(unsupported("echo", "echo is not supported: an answer is what the model said."));
    }
    if fields.integer("best_of", 1..=20)?.is_some_and(|best| best > n) {
        return Err(unsupported(
            "best_of",
            "best_of is not supported: Codex reports no probabilities to choose by; set n and choose.",
        ));
    }
    if fields.integer("logprobs", 0..=5)?.is_some() {
        return Err(unsupported("logprobs", "logprobs is not supported: Codex reports no probabilities."));
    }
    Ok(())
}

/// Types and ranges of what has no effect.
fn check_no_effect(fields: &Fields) -> Result<(), Failure> {
    fields.number("temperature", 0.0..=2.0)?;
    fields.number("top_p", 0.0..=1.0)?;
    fields.number("presence_penalty", -2.0..=2.0)?;
    fields.number("frequency_penalty", -2.0..=2.0)?;
    fields.integer("max_tokens", 0..=i64::MAX)?;
    fields.integer("seed", i64::MIN..=i64::MAX)?;
    fields.string("user")?;
    fields.object("logit_bias")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(extra: Value) -> Result<CompletionsRequest, Failure> {
        let mut body = json!({"model": "codex-local", "prompt": "hi"});
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        decode(&body.to_string(), &Wanted::default(), &Config::default())
    }

    #[test]
    fn a_prompt_is_what_a_user_says() {
        let said = |text: &str| Item::message(Role::User, vec![Part::Text(text.into())]);
        for (prompt, text) in [(json!("Say."), "Say."), (json!(["Say."]), "Say."), (json!(""), "")] {
            let asked = read(json!({"prompt": prompt})).unwrap();
            assert_eq!(asked.request.turn.conversation[..], [said(text)]);
        }
        let asked = read(json!({
            "n": 2, "best_of": 2, "stop": ["a", "b"], "stream": true, "suffix": "", "echo": false, "logprobs": null,
            "stream_options": {"include_usage": true},
        }));
        let CompletionsRequest { request, include_usage } = asked.unwrap();
        assert_eq!((request.n, request.stop.count(), request.stream, include_usage), (2, 2, true, true));
        assert!(request.ignored.is_empty() && request.turn.model.is_none());
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let asked = read(json!({
            "max_tokens": 16, "temperature": 0, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0,
            "seed": 1, "user": "u", "logit_bias": {}, "future_field": 1, "metadata": {"cwd": "/"},
        }));
        let expect = [
            "frequency_penalty",
            "future_field",
            "logit_bias",
            "max_tokens",
            "presence_penalty",
            "seed",
            "temperature",
            "top_p",
            "user",
        ];
        assert_eq!(asked.unwrap().request.ignored, expect);
        let model = Config { profile: crate::config::choices::ProfileChoice::Model, ..Config::default() };
        let body = r#"{"model": "m", "prompt": "hi", "metadata": {"cwd": "/"}}"#;
        assert_eq!(decode(body, &Wanted::default(), &model).unwrap().request.ignored, ["metadata.cwd"]);
    }

    #[test]
    fn what_is_refused_is_named() {
        for (extra, path, message) in [
            (json!({"model": null}), "model", "model is required."),
            (json!({"prompt": null}), "prompt", "prompt is required."),
            (
                json!({"prompt": 1}),
                "prompt",
                "prompt must be a string or an array of one string, not a number.",
            ),
            (json!({"prompt": []}), "prompt", "prompt must not be empty."),
            (json!({"prompt": [null]}), "prompt[0]", "prompt[0] must be a string, not null."),
            (json!({"prompt": [1, 2]}), "!prompt[0]", "prompt[0] must be a string: Codex takes no tokens."),
            (json!({"prompt": [[1, 2]]}), "!prompt[0]", "prompt[0] must be a string: Codex takes no tokens."),
            (
                json!({"prompt": ["a", "b"]}),
                "!prompt",
                "prompt must be one text: send each in a request of its own.",
            ),
            (
                json!({"suffix": "."}),
                "!suffix",
                "suffix is not supported: Codex answers a prompt and inserts nothing.",
            ),
            (json!({"suffix": 1}), "suffix", "suffix must be a string, not a number."),
            (json!({"echo": true}), "!echo", "echo is not supported: an answer is what the model said."),
            (json!({"echo": 1}), "echo", "echo must be a boolean, not a number."),
            (
                json!({"best_of": 2}),
                "!best_of",
                "best_of is not supported: Codex reports no probabilities to choose by; set n and choose.",
            ),
            (json!({"best_of": 0}), "best_of", "best_of must be between 1 and 20."),
            (
                json!({"logprobs": 0}),
                "!logprobs",
                "logprobs is not supported: Codex reports no probabilities.",
            ),
            (json!({"logprobs": 6}), "logprobs", "logprobs must be between 0 and 5."),
            (json!({"n": 9}), "n", "n must be between 1 and 8."),
            (json!({"stop": 1}), "stop", "stop must be a string or an array of strings, not a number."),
            (json!({"max_tokens": -1}), "max_tokens", "max_tokens must be at least 0."),
            (json!({"temperature": 3}), "temperature", "temperature must be between 0 and 2."),
            (json!({"seed": "1"}), "seed", "seed must be an integer, not a string."),
            (json!({"logit_bias": []}), "logit_bias", "logit_bias must be an object, not an array."),
            (json!({"metadata": {"cwd": 1}}), "metadata.cwd", "metadata.cwd must be a string, not a number."),
            (
                json!({"stream_options": {}}),
                "stream_options",
                "stream_options is only allowed when stream is true.",
            ),
        ] {
            let said = match read(extra.clone()).unwrap_err() {
                Failure::BadRequest { at: Some(At::Field(path)), message } => (path, message),
                Failure::Unsupported { at: At::Field(path), message } => (format!("!{path}"), message),
                other => panic!("{extra}: {other:?}"),
            };
            assert_eq!(said, (path.to_owned(), message.to_owned()), "{extra}");
        }
    }
}
