//! `/v1/models`: what may be named as `model`.

use serde_json::{Value, json};

use crate::config::Config;

/// The name that always works: the configured model, or Codex's own default.
pub const DEFAULT: &str = "codex-local";

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

/// One entry. `created` is when this server started: nobody tells when the model was made.
pub fn object(name: &str, created: u64) -> Value {
    json!({"id": name, "object": "model", "created": created, "owned_by": if name == DEFAULT { "codex-api-proxy" } else { "openai" }})
}

/// The whole list.
pub fn list(names: &[String], created: u64) -> Value {
    let data: Vec<Value> = names.iter().map(|name| object(name, created)).collect();
    json!({"object": "list", "data": data})
}

#[cfg(test)]
mod tests {
    use super::*;

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
