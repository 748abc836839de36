//! `/v1/models`: what may be named as `model`.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::codex::ListedModel;
use crate::config::Config;
use crate::turn::Failure;

use super::fields::Fields;

/// The name that always works: the configured model, or Codex's own default.
pub const DEFAULT: &str = crate::clients::MODEL;

/// What may be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// By this name.
    pub name: String,
    /// What it stands for, if it is an alias.
    root: Option<String>,
    /// How many tokens it takes, where the CLI tells.
    context_window: Option<u64>,
}

/// All of them, the default first, then the aliases, then what the CLI lists.
pub fn all(config: &Config, listed: &[ListedModel]) -> Vec<Model> {
    let window = |name: &str| listed.iter().find(|model| model.name == name)?.context_window;
    let codexs_own = || listed.iter().find(|model| model.is_default)?.context_window;
    let of_default = config.model.as_deref().map_or_else(codexs_own, window);
    let aliases = config.model_aliases.iter().filter(|(alias, _)| alias != "*");
    let aliases = aliases.map(|(alias, target)| Model {
        name: alias.clone(),
        root: Some(target.clone()),
        context_window: if target == DEFAULT { of_default } else { window(target) },
    });
    let listed = listed.iter().map(|model| Model {
        name: model.name.clone(),
        root: None,
        context_window: model.context_window,
    });
    let default = config.model_aliases.iter().find(|(alias, _)| alias == DEFAULT);
    let default = Model {
        name: DEFAULT.into(),
        root: default.map(|(_, target)| target.clone()),
        context_window: default.map_or(of_default, |(_, target)| window(target)),
    };
    let mut all: Vec<Model> = Vec::new();
    for model in std::iter::once(default).chain(aliases).chain(listed) {
        if !all.iter().any(|known| known.name == model.name) {
            all.push(model);
        }
    }
    all
}

/// The model's name: it becomes a word of Codex's command line, so only plain names pass.
///
/// # Errors
/// [`Failure::BadRequest`] naming the field.
pub(super) fn plain<'a>(fields: &Fields<'a>, key: &str) -> Result<Cow<'a, str>, Failure> {
    plain_but(fields, key, "")
}

/// The same where `end` may stand behind the name.
///
/// # Errors
/// [`Failure::BadRequest`] naming the field.
pub(super) fn plain_but<'a>(fields: &Fields<'a>, key: &str, end: &str) -> Result<Cow<'a, str>, Failure> {
    let whole = fields.string(key)?.ok_or_else(|| fields.missing(key))?;
    let model = whole.strip_suffix(end).unwrap_or(&whole);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/-".contains(&b);
    if model.len() > 128
        || !model.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !model.bytes().all(plain)
    {
        let why = "must begin with a letter or digit and have at most 128 letters, digits and . _ : / -";
        return Err(fields.invalid(key, why));
    }
    Ok(whole)
}

/// What Codex is asked for: `None` is the configured or Codex's own default.
pub(super) fn upstream(model: &str, config: &Config) -> Option<String> {
    let alias =
        |name: &str| config.model_aliases.iter().find(|(alias, _)| alias == name).map(|(_, target)| target);
    let target = match alias(model) {
        Some(target) => target,
        None if model == DEFAULT => return None,
        None => alias("*").map_or(model, String::as_str),
    };
    (target != DEFAULT).then(|| target.to_owned())
}

/// One entry. `created` is when this server started: nobody tells when the model was made. An alias has
/// what it stands for as its `root`, and the window is told in two ways, as other servers of such lists have it.
pub fn object(model: &Model, created: u64) -> Value {
    let owner = if model.name == DEFAULT { "codex-api-proxy" } else { "openai" };
    let mut entry = json!({"id": model.name, "object": "model", "created": created, "owned_by": owner});
    if let Some(root) = &model.root {
        entry["root"] = root.as_str().into();
    }
    if let Some(window) = model.context_window {
        (entry["context_window"], entry["max_model_len"]) = (window.into(), window.into());
    }
    entry
}

/// The whole list.
pub fn list(models: &[Model], created: u64) -> Value {
    let data: Vec<Value> = models.iter().map(|model| object(model, created)).collect();
    json!({"object": "list", "data": data})
}

/// One entry as Anthropic has it.
pub fn anthropic_object(model: &Model, created: u64) -> Value {
    let created = i64::try_from(created).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    let created = created.unwrap_or_default().to_string();
    let name = &model.name;
    let mut entry = json!({"type": "model", "id": name, "display_name": name, "created_at": created, "lifecycle": "active"});
    if let Some(window) = model.context_window {
        entry["max_input_tokens"] = window.into();
    }
    entry
}

/// The whole list, which is one page of it.
pub fn anthropic_list(models: &[Model], created: u64) -> Value {
    let data: Vec<Value> = models.iter().map(|model| anthropic_object(model, created)).collect();
    let id = |model: Option<&Model>| model.map(|model| model.name.clone());
    json!({"data": data, "has_more": false, "first_id": id(models.first()), "last_id": id(models.last())})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, root: Option<&str>, context_window: Option<u64>) -> Model {
        Model { name: name.into(), root: root.map(str::to_owned), context_window }
    }

    #[test]
    fn either_list_has_its_shape() {
        let models = [model("a", None, None), model("b", Some("gpt-5.5"), Some(9))];
        let entry = |name: &str| json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:07Z", "lifecycle": "active"});
        let mut second = entry("b");
        second["max_input_tokens"] = 9.into();
        let expect =
            json!({"data": [entry("a"), second], "has_more": false, "first_id": "a", "last_id": "b"});
        assert_eq!(anthropic_list(&models, 7), expect);
        let entry = json!({"id": "a", "object": "model", "created": 7, "owned_by": "openai"});
        let alias = json!({
            "id": "b", "object": "model", "created": 7, "owned_by": "openai", "root": "gpt-5.5", "context_window": 9, "max_model_len": 9,
        });
        let expect = json!({"object": "list", "data": [entry, alias]});
        assert_eq!(list(&models, 7), expect);
    }

    #[test]
    fn the_default_comes_first_and_nothing_twice() {
        let listed = |name: &str, context_window, is_default| ListedModel {
            name: name.into(),
            context_window,
            is_default,
        };
        let cli = [
            listed("gpt-5.5", Some(5), false),
            listed("gpt-6", Some(6), true),
            listed("gpt-4o", None, false),
        ];
        let config = |aliases: &[(&str, &str)], model: Option<&str>| Config {
            model_aliases: aliases.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            model: model.map(str::to_owned),
            ..Config::default()
        };
        let six = model("gpt-6", None, Some(6));
        let four = model("gpt-4o", None, None);
        let five = model("gpt-5.5", None, Some(5));
        assert_eq!(
            all(&config(&[], None), &cli),
            [model("codex-local", None, Some(6)), five.clone(), six.clone(), four.clone()]
        );
        assert_eq!(all(&config(&[], Some("gpt-5.5")), &cli)[0], model("codex-local", None, Some(5)));
        assert_eq!(all(&config(&[], Some("unknown")), &cli)[0], model("codex-local", None, None));
        let aliases =
            [("gpt-4o", "gpt-5.5"), ("mine", "codex-local"), ("*", "gpt-5.5"), ("codex-local", "x")];
        assert_eq!(
            all(&config(&aliases, None), &cli),
            [
                model("codex-local", Some("x"), None),
                model("gpt-4o", Some("gpt-5.5"), Some(5)),
                model("mine", Some("codex-local"), Some(6)),
                five,
                six,
            ]
        );
        assert_eq!(all(&config(&[], None), &[]), [model("codex-local", None, None)]);
    }
}
