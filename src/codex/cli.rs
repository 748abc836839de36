//! What the program itself tells: its version, its login, its models. Each question is asked in one place.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::config::Config;
use crate::process::{Command, Spawner};
use crate::turn::Failure;

use super::Version;
use super::args::overrides;

/// How long a question to the CLI (`--version`, `login status`, the sandbox probe) may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Variables = [(OsString, OsString)];

/// Short questions to the CLI.
pub(super) struct CliQuery<'a> {
    pub(super) spawner: &'a Spawner,
    pub(super) program: &'a Path,
    pub(super) cwd: &'a Path,
}

impl CliQuery<'_> {
    pub(super) async fn run(
        &self,
        args: &[OsString],
        env: &Arc<Variables>,
    ) -> std::io::Result<(bool, String, String)> {
        self.run_in(self.cwd, args, env).await
    }

    pub(super) async fn run_in(
        &self,
        cwd: &Path,
        args: &[OsString],
        env: &Arc<Variables>,
    ) -> std::io::Result<(bool, String, String)> {
        let (status, stdout, stderr) = self.spawner.output(self.command(cwd, args, env), PATIENCE).await?;
        Ok((status.success(), String::from_utf8_lossy(&stdout).into_owned(), stderr))
    }

    pub(super) fn command(&self, cwd: &Path, args: &[OsString], env: &Arc<Variables>) -> Command {
        Command {
            program: self.program.into(),
            args: args.to_vec(),
            env: Arc::clone(env),
            cwd: cwd.into(),
            held: None,
            uses: None,
        }
    }

    /// What `--version` says.
    ///
    /// # Errors
    /// [`Failure::CodexExited`] if it does not run or names no version.
    pub(super) async fn version(&self, env: &Arc<Variables>) -> Result<Version, Failure> {
        let asked = format!("{} --version", self.program.display());
        let output = self.run(&["--version"].map(OsString::from), env).await;
        let (_, text, _) = output.map_err(|error| Failure::CodexExited {
            status: error.to_string(),
            detail: format!("{asked}: {error}"),
        })?;
        Version::parse(&text).ok_or_else(|| Failure::CodexExited {
            status: "no version".into(),
            detail: format!("{asked} said {text:?}"),
        })
    }

    /// The login that `login status` finds.
    pub(super) async fn logged_in(&self, config: &Config, env: &Arc<Variables>) -> Option<LoggedIn> {
        let mut args = overrides(&config.overrides().args);
        args.extend(["login", "status"].map(OsString::from));
        match self.run(&args, env).await {
            Ok((true, stdout, stderr)) => {
                // `API key configured - ***`; older ones say `Logged in using an API key - ***`.
                let by_key = [stdout, stderr].iter().any(|text| text.contains("API key"));
                Some(LoggedIn { by_key })
            }
            Ok((false, ..)) | Err(_) => None,
        }
    }

    /// What `debug models` lists: the operator's own catalog where `codex_configs` name one.
    ///
    /// # Errors
    /// Why there is no list, in words for the log.
    pub(super) async fn models(&self, config: &Config, env: &Arc<Variables>) -> Result<ModelList, String> {
        let mut args = ["debug", "models"].map(OsString::from).to_vec();
        args.extend(overrides(&own_catalog(config)));
        match self.run(&args, env).await {
            Ok((true, stdout, _)) => ModelList::parse(&stdout),
            Ok((false, _, stderr)) => Err(stderr.lines().last().unwrap_or("it failed in silence").to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A login of Codex's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoggedIn {
    /// By an API key, and not by a session that Codex renews.
    pub(super) by_key: bool,
}

/// The overrides by which the operator names a model catalog.
pub(super) fn own_catalog(config: &Config) -> Vec<String> {
    config.codex_configs.iter().filter(|entry| entry.starts_with("model_catalog_json")).cloned().collect()
}

/// A model that the CLI shows to users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    /// Its name.
    pub name: String,
    /// How many tokens it takes, where that is told.
    pub context_window: Option<u64>,
    /// Whether Codex takes it where no other is asked for.
    pub is_default: bool,
}

/// The models as the CLI lists them: `{"models":[{"slug":…}]}`, at least one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelList(pub(super) Value);

impl ModelList {
    pub(super) fn parse(output: &str) -> Result<ModelList, String> {
        let list: Value = serde_json::from_str(output).map_err(|error| format!("not JSON: {error}"))?;
        match list.get("models").and_then(Value::as_array) {
            Some(models) if models.iter().any(|model| model.get("slug").is_some_and(Value::is_string)) => {
                Ok(ModelList(list))
            }
            _ => Err("no models in it".into()),
        }
    }

    /// Those that the CLI shows to users, in its order.
    pub(super) fn shown(&self) -> Vec<ListedModel> {
        let models = self.0["models"].as_array().into_iter().flatten();
        let shown = || models.clone().filter(|model| model["visibility"].as_str() != Some("hide"));
        let priority = |model: &Value| model["priority"].as_i64().unwrap_or(i64::MAX);
        let first = shown().map(priority).min();
        let mut listed: Vec<ListedModel> = shown()
            .filter_map(|model| {
                Some(ListedModel {
                    name: model["slug"].as_str()?.to_owned(),
                    context_window: model["context_window"].as_u64(),
                    is_default: first == Some(priority(model)),
                })
            })
            .collect();
        // The first of equals.
        listed.iter_mut().filter(|model| model.is_default).skip(1).for_each(|model| model.is_default = false);
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_is_refused() {
        for output in ["", "{}", "[]", r#"{"models":[]}"#, r#"{"models":[{}]}"#, r#"{"models":{"slug":"x"}}"#]
        {
            assert!(ModelList::parse(output).is_err(), "{output}");
        }
    }

    #[test]
    fn hidden_models_are_not_shown() {
        let list = r#"{"models":[{"slug":"b"},{"slug":"x","visibility":"hide"},{},{"slug":"a","visibility":"list"}]}"#;
        let names = |list: &str| -> Vec<String> {
            ModelList::parse(list).unwrap().shown().into_iter().map(|model| model.name).collect()
        };
        assert_eq!(names(list), ["b", "a"]);
    }

    #[test]
    fn the_default_is_the_shown_one_that_comes_first() {
        let list = r#"{"models":[{"slug":"a","priority":3,"context_window":7},{"slug":"b","priority":2},
            {"slug":"c","priority":2},{"slug":"d","priority":1,"visibility":"hide"}]}"#;
        let model = |name: &str, context_window, is_default| ListedModel {
            name: name.into(),
            context_window,
            is_default,
        };
        let expect = [model("a", Some(7), false), model("b", None, true), model("c", None, false)];
        assert_eq!(ModelList::parse(list).unwrap().shown(), expect);
    }
}
