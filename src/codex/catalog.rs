//! The model catalog without the agent: the CLI's own list of models, with everything taken out
//! that would put Codex's tools beside, or in the place of, the caller's.
//!
//! Most models of the list are "code mode" ones: Codex hides functions inside a JavaScript tool,
//! so that no function call ever comes back. Only an altered list changes that. It also lifts the
//! limits at which Codex shortens tool results or replaces the history by a summary.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::{Config, ModelCatalog, Profile};
use crate::os::users::own_uid;

use super::Version;
use super::cli::{ModelList, own_catalog};
use super::survey::off_runtime;

/// Counts changes of [`lean`], so that a file of an older program is not taken for ours.
const REVISION: u32 = 2;

/// Which models can be given the caller's functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Functions {
    /// Any.
    AllModels,
    /// Any but these.
    NotWith {
        /// Their names.
        models: HashSet<String>,
        /// The model Codex takes by itself, if it is one of them.
        default: bool,
        /// Why.
        reason: String,
    },
    /// None, because it is not known which.
    Never {
        /// Why.
        reason: String,
    },
}

impl Functions {
    /// Why `model` (or the default one) cannot be given functions.
    pub fn refused(&self, model: Option<&str>) -> Option<&str> {
        match self {
            Functions::AllModels => None,
            Functions::NotWith { models, default, reason } => {
                model.map_or(*default, |model| models.contains(model)).then_some(reason.as_str())
            }
            Functions::Never { reason } => Some(reason),
        }
    }

    /// Why not with every model, for status pages.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Functions::AllModels => None,
            Functions::NotWith { reason, .. } | Functions::Never { reason } => Some(reason),
        }
    }
}

/// Finds or builds the lean catalog where the settings want it, from what the CLI lists, and learns what
/// goes without.
pub(super) async fn prepare(
    config: &Arc<Config>,
    version: Version,
    models: Result<ModelList, String>,
) -> (Option<PathBuf>, Functions) {
    let why_not = if config.profile() == Profile::Agent {
        Some("profile = \"agent\"")
    } else if config.model_catalog == ModelCatalog::Off {
        Some("model_catalog = \"off\"")
    } else if !own_catalog(config).is_empty() {
        Some("model_catalog_json in codex_configs")
    } else {
        None
    };
    if why_not.is_some() && !config.engine.capabilities().tools {
        return (None, Functions::AllModels);
    }
    let path = config.state_dir.join(format!("models-{version}-{REVISION}.json"));
    if why_not.is_none() && is_there(&path).await {
        return (Some(path), Functions::AllModels);
    }
    let (error, functions) = match (models, why_not) {
        (Ok(models), Some(why)) => return (None, without(&models.0, why)),
        (Ok(models), None) => {
            let functions = without(&models.0, "the lean model catalog cannot be written");
            match write(path, lean(models.0)).await {
                Ok(path) => return (Some(path), Functions::AllModels),
                Err(error) => (error, functions),
            }
        }
        (Err(error), _) => {
            let reason = "the model list of this Codex CLI cannot be read (codex debug models)".into();
            (error, Functions::Never { reason })
        }
    };
    tracing::warn!(error, "no lean model catalog; function tools are limited");
    (None, functions)
}

/// What can be done with the list as it is.
fn without(list: &Value, why: &str) -> Functions {
    let models = || list["models"].as_array().into_iter().flatten();
    let slug = |model: &Value| model["slug"].as_str().unwrap_or_default().to_owned();
    let code_mode =
        |model: &&Value| model["tool_mode"].as_str().is_some_and(|mode| mode.contains("code_mode"));
    let listed = |model: &&Value| model["visibility"].as_str() != Some("hide");
    let default = models().filter(listed).min_by_key(|model| model["priority"].as_i64().unwrap_or(i64::MAX));
    Functions::NotWith {
        default: default.as_ref().is_some_and(code_mode),
        models: models().filter(code_mode).map(slug).collect(),
        reason: why.to_owned(),
    }
}

/// Takes the agent out of every model of the list.
fn lean(mut list: Value) -> Value {
    for model in list["models"].as_array_mut().into_iter().flatten() {
        let Some(model) = model.as_object_mut() else { continue };
        for (key, value) in [
            ("tool_mode", Value::Null),
            ("multi_agent_version", Value::Null),
            ("multi_agent_reasoning_effort", Value::Null),
            ("apply_patch_tool_type", Value::Null),
            ("shell_type", json!("disabled")),
            ("experimental_supported_tools", json!([])),
            ("supports_search_tool", json!(false)),
            ("context_window", json!(100_000_000)),
            ("max_context_window", json!(100_000_000)),
            ("truncation_policy", json!({"mode": "tokens", "limit": 10_000_000})),
        ] {
            model.insert(key.into(), value);
        }
        // Nine tenths of the list, which Codex reads again for every thread; none of it is said here.
        for (key, value) in [("base_instructions", json!("")), ("model_messages", Value::Null)] {
            model.entry(key).and_modify(|said| *said = value);
        }
    }
    list
}

async fn is_there(path: &Path) -> bool {
    tokio::fs::symlink_metadata(path)
        .await
        .is_ok_and(|meta| meta.is_file() && meta.len() > 0 && meta.uid() == own_uid())
}

/// Writes the file whole or not at all, and removes those of other versions.
async fn write(path: PathBuf, list: Value) -> Result<PathBuf, String> {
    let work = move || {
        let fail = |error: std::io::Error| format!("{}: {error}", path.display());
        let draft = path.with_extension("new");
        let _ = fs::remove_file(&draft);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(fail)?;
        file.write_all(list.to_string().as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
        fs::rename(&draft, &path).map_err(fail)?;
        for entry in
            path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten()
        {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("models-") && name.ends_with(".json") && entry.path() != path {
                // Another one's left-over; nothing depends on its removal.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(path)
    };
    off_runtime(work).await.unwrap_or_else(|failure| Err(format!("{failure:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Value {
        json!({"models": [
            {"slug": "old", "priority": 9, "visibility": "list", "tool_mode": null, "shell_type": "unified_exec"},
            {"slug": "new", "priority": 1, "visibility": "list", "tool_mode": "code_mode_only", "context_window": 5, "kept": {"a": 1},
             "base_instructions": "You are an agent.", "model_messages": {"permissions": "Ask first."}},
            {"slug": "secret", "priority": 0, "visibility": "hide", "tool_mode": null},
        ], "kept": true})
    }

    #[test]
    fn only_what_makes_an_agent_is_taken_out() {
        let lean = lean(list());
        assert_eq!(lean["kept"], true);
        let model = &lean["models"][1];
        assert_eq!(
            (&model["slug"], &model["priority"], &model["kept"]["a"]),
            (&json!("new"), &json!(1), &json!(1))
        );
        assert_eq!((&model["tool_mode"], &model["shell_type"]), (&Value::Null, &json!("disabled")));
        assert_eq!(model["context_window"], 100_000_000);
        assert_eq!((&model["base_instructions"], &model["model_messages"]), (&json!(""), &Value::Null));
        assert!(lean["models"][0].get("model_messages").is_none(), "older lists have no such thing");
        assert!(
            matches!(without(&lean, ""), Functions::NotWith { models, default: false, .. } if models.is_empty())
        );
    }

    #[test]
    fn functions_are_refused_where_the_list_hides_them() {
        let functions = without(&list(), "model_catalog = \"off\"");
        for (model, refused) in
            [(Some("new"), true), (Some("old"), false), (Some("unknown"), false), (None, true)]
        {
            assert_eq!(functions.refused(model).is_some(), refused, "{model:?}");
        }
        assert_eq!(Functions::AllModels.refused(None), None);
        assert_eq!(Functions::Never { reason: "r".into() }.refused(Some("old")), Some("r"));
    }

    #[tokio::test]
    async fn a_new_file_replaces_those_of_other_versions() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["models-0.1.0-1.json", "models-0.2.0-1.new", "keep.json"] {
            fs::write(path(name), "x").unwrap();
        }
        assert!(!is_there(&path("models-0.2.0-1.json")).await);
        let written = write(path("models-0.2.0-1.json"), list()).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&fs::read(&written).unwrap()).unwrap(), list());
        assert!(is_there(&written).await);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["keep.json", "models-0.2.0-1.json"]);
        assert!(write(path("missing/models-1-1.json"), list()).await.is_err());
    }
}
