//! `/v1/models`: what may be named as `model`.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::config::Config;
use crate::turn::Failure;

use super::fields::Fields;

/// The name that always works: the configured model, or Codex's own default.
pub const DEFAULT: &str = crate::clients::MODEL;

/// Every name, the default first, then the aliases, then what the CLI lists.
pub fn names(config: &Config, listed: &[String]) -> Vec<String> {
    let aliases = config.model_aliases.iter().map(|(alias, _)| alias.as_str()).filter(|alias| *alias != "*");
    let mut names: Vec<String> = Vec::new();
    for name in std::iter::once(DEFAULT).chain(aliases).chain(listed.iter().map(String::as_str)) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
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
/// what it stands for as its `root`, as other servers of such lists have it.
pub fn object(name: &str, config: &Config, created: u64) -> Value {
    let owner = if name == DEFAULT { "codex-api-proxy" } else { "openai" };
    let mut entry = json!({"id": name, "object": "model", "created": created, "owned_by": owner});
    if let Some((_, target)) = config.model_aliases.iter().find(|(alias, _)| alias == name) {
        entry["root"] = target.as_str().into();
    }
    entry
}

/// The whole list.
pub fn list(names: &[String], config: &Config, created: u64) -> Value {
    let data: Vec<Value> = names.iter().map(|name| object(name, config, created)).collect();
    json!({"object": "list", "data": data})
}

/// One entry as Anthropic has it.
pub fn anthropic_object(name: &str, created: u64) -> Value {
    let created = i64::try_from(created).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    let created = created.unwrap_or_default().to_string();
    json!({"type": "model", "id": name, "display_name": name, "created_at": created, "lifecycle": "active"})
}

/// The whole list, which is one page of it.
pub fn anthropic_list(names: &[String], created: u64) -> Value {
    let data: Vec<Value> = names.iter().map(|name| anthropic_object(name, created)).collect();
    json!({"data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_list_has_its_shape() {
        let names = ["a".to_owned(), "b".to_owned()];
        let entry = |name: &str| json!({"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:07Z", "lifecycle": "active"});
        let expect =
            json!({"data": [entry("a"), entry("b")], "has_more": false, "first_id": "a", "last_id": "b"});
        assert_eq!(anthropic_list(&names, 7), expect);
        let config =
            Config { model_aliases: vec![("b".to_owned(), "gpt-5.5".to_owned())], ..Config::default() };
        let entry = json!({"id": "a", "object": "model", "created": 7, "owned_by": "openai"});
        let alias =
            json!({"id": "b", "object": "model", "created": 7, "owned_by": "openai", "root": "gpt-5.5"});
        let expect = json!({"object": "list", "data": [entry, alias]});
        assert_eq!(list(&names, &config, 7), expect);
    }

    #[test]
    fn the_default_comes_first_and_nothing_twice() {
        let aliases = [("gpt-4o", "gpt-5.5"), ("*", "gpt-5.5"), ("codex-local", "x")];
        let config = Config {
            model_aliases: aliases.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec(),
            ..Config::default()
        };
        let listed = ["gpt-5.5".to_owned(), "gpt-4o".to_owned()];
        assert_eq!(names(&config, &listed), ["codex-local", "gpt-4o", "gpt-5.5"]);
    }
}
