//! What Codex is told on its command line: the floor of both profiles, the lean profile, the
//! sandbox, and the operator's own overrides, which win over ours.
//!
//! Every value here is a constant, a checked path or the operator's; client text never becomes a
//! `-c` value except from closed lists.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::overrides::VARIABLE;
use crate::config::{AgentReads, Config, Profile};
use crate::turn::{Effort, Turn};

use super::Version;
use super::environment::NO_REPOSITORY;

/// Switched off in both profiles: whatever could load something of the user's, spend in the
/// background, reach the network through a tool, or wait for a person.
const FLOOR: &[&str] = &[
    "features.apps=false",
    "features.plugins=false",
    "features.skill_mcp_dependency_install=false",
    "features.goals=false",
    "features.sleep_tool=false",
    "features.image_generation=false",
    "features.tool_suggest=false",
    "features.skill_search=false",
    "features.browser_use=false",
    "features.computer_use=false",
    "features.hooks=false",
    "features.memories=false",
    // Sources the user's shell start-up files outside the sandbox.
    "features.shell_snapshot=false",
    // A dead network would otherwise be waited for without end.
    "features.unbounded_connection_retries=false",
    "features.skip_host_skill_discovery=true",
    "tools.experimental_request_user_input.enabled=false",
    "web_search=\"disabled\"",
    "skills.include_instructions=false",
    "skills.bundled.enabled=false",
    "orchestrator.mcp.enabled=false",
    "orchestrator.skills.enabled=false",
    "project_doc_max_bytes=0",
    "approval_policy=\"never\"",
    // Tools see a core environment and no login shell's.
    "shell_environment_policy.inherit=\"core\"",
    "allow_login_shell=false",
    // We ignore the user's config, and with it their choice about these; so: off.
    "analytics.enabled=false",
    "history.persistence=\"none\"",
    "check_for_update_on_startup=false",
    "suppress_unstable_features_warning=true",
];

/// Added by `profile = model`: no tools but the caller's, no context but the conversation.
const LEAN: &[&str] = &[
    // Results of the caller's functions go on whole; there are no tools of Codex's to restrain.
    "tool_output_token_limit=10000000",
    "features.view_image=false",
    "features.shell_tool=false",
    "features.unified_exec=false",
    "tools.update_plan.enabled=false",
    "include_permissions_instructions=false",
    "include_environment_context=false",
    "include_collaboration_mode_instructions=false",
    "include_apps_instructions=false",
];

/// Added for the app-server.
const APP_SERVER: [&str; 2] = [
    // A thread nobody listens to any more is freed at once, not after half an hour.
    "thread_unload_delay_secs=1",
    // A history that is too long is the caller's to know of, not Codex's to cut in silence.
    "model_context_window=100000000",
];

/// Sub-agents would spend on their own; older CLIs stop at the unknown key.
const AGENTS_OFF: (&str, Version) = ("agents.enabled=false", Version(0, 155, 0));

/// The `-c` values of ours, without the operator's: the floor, and the lean profile on top.
///
/// `catalog` is the lean model catalog's file, where one could be built.
pub fn ours(config: &Config, version: Version, catalog: Option<&Path>) -> Vec<String> {
    let mut values: Vec<String> = FLOOR.iter().map(|&value| value.into()).collect();
    if version >= AGENTS_OFF.1 {
        values.push(AGENTS_OFF.0.into());
    }
    if config.profile() == Profile::Model {
        values.extend(LEAN.iter().map(|&value| value.into()));
        if let Some(catalog) = catalog {
            values.push(format!("model_catalog_json={}", quoted(catalog)));
        }
    }
    values.push(format!("shell_environment_policy.exclude={}", toml::Value::Array(not_inherited(config))));
    if config.fast && config.codex_configs.is_empty() {
        values.push(format!("model_reasoning_effort=\"{}\"", Effort::Low.name()));
    }
    values
}

/// What tools do not inherit even where the operator lets them inherit all else.
fn not_inherited(config: &Config) -> Vec<toml::Value> {
    let secrets = (!config.overrides().env.is_empty()).then(|| format!("{VARIABLE}*"));
    [NO_REPOSITORY.0.to_owned()].into_iter().chain(secrets).map(toml::Value::String).collect()
}

/// The operator's overrides, as given; where they replace what tools do not inherit, with ours again.
fn operators(config: &Config) -> Vec<String> {
    let mut values = config.overrides().args;
    let replaces = |entry: &String| {
        let key = entry.split('=').next().unwrap_or_default().trim();
        ["shell_environment_policy", "shell_environment_policy.exclude"].contains(&key)
    };
    if values.iter().any(replaces) {
        let policy = table(&values).remove("shell_environment_policy");
        let mut excluded = match policy.as_ref().and_then(|policy| policy.get("exclude")) {
            Some(toml::Value::Array(excluded)) => excluded.clone(),
            _ => Vec::new(),
        };
        excluded.extend(not_inherited(config));
        values.push(format!("shell_environment_policy.exclude={}", toml::Value::Array(excluded)));
    }
    values
}

/// What overrides come to together, as Codex reads them. What Codex cannot read either is not ours to
/// judge.
pub(super) fn table(codex_configs: &[String]) -> toml::Table {
    let mut table = toml::Table::new();
    for entry in codex_configs.iter().filter_map(|entry| entry.parse::<toml::Table>().ok()) {
        merge(&mut table, entry);
    }
    table
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// A path as a TOML string.
pub fn quoted(path: &Path) -> String {
    basic(&path.to_string_lossy())
}

/// Text as a TOML string on one line: where the text has quotes of both kinds, the toml crate takes a
/// form with line breaks, which no inline table of an override may hold.
pub(super) fn basic(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// How the reads of the agent's tools are confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// A permission profile: the working directory and system files only. Its `-c` values.
    Workspace(Vec<String>),
    /// `--sandbox read-only`: no writes, but every file the user can read.
    Host {
        /// Why reads are not confined.
        reason: String,
    },
    /// The operator's `codex_configs` decide.
    Operator,
}

/// With one of these among `codex_configs` the operator decides what tools may do.
const SANDBOX: &[&str] = &["sandbox_mode", "default_permissions", "permissions"];

impl Confinement {
    /// What to try: `vendor` is Codex's own folder, `hidden` are existing paths that stay
    /// unreadable even below the working directory.
    pub fn wanted(config: &Config, vendor: &Path, hidden: &[PathBuf]) -> Confinement {
        if config.codex_configs.iter().any(|entry| SANDBOX.contains(&root_key(entry))) {
            return Confinement::Operator;
        }
        if config.agent_reads == AgentReads::Host {
            return Confinement::Host { reason: "agent_reads = \"host\"".into() };
        }
        let mut rules = vec![
            "\":minimal\"=\"read\"".to_owned(),
            format!("{}=\"read\"", quoted(vendor)),
            "\":project_roots\"={\".\"=\"read\"}".to_owned(),
        ];
        let hidden = hidden.iter().flat_map(|path| super::hidden::rules(path));
        rules.extend(hidden.map(|path| format!("{}=\"none\"", basic(&path))));
        Confinement::Workspace(vec![
            "default_permissions=\"codex_api_proxy\"".into(),
            format!("permissions.codex_api_proxy.filesystem={{{}}}", rules.join(",")),
        ])
    }

    /// A word for status pages: `workspace`, `host` or `operator`.
    pub fn name(&self) -> &'static str {
        match self {
            Confinement::Workspace(_) => "workspace",
            Confinement::Host { .. } => "host",
            Confinement::Operator => "operator",
        }
    }

    fn args(&self) -> Vec<OsString> {
        match self {
            // Together with `--sandbox` the permission profile would be silently ignored.
            Confinement::Workspace(values) => overrides(values),
            Confinement::Host { .. } => vec!["--sandbox".into(), "read-only".into()],
            Confinement::Operator => Vec::new(),
        }
    }
}

/// `-c value` for each.
pub fn overrides(values: &[String]) -> Vec<OsString> {
    values.iter().flat_map(|value| ["-c".into(), value.into()]).collect()
}

/// The key of a `key=value` override, up to its first dot.
pub(super) fn root_key(entry: &str) -> &str {
    let key = entry.split('=').next().unwrap_or_default();
    key.split('.').next().unwrap_or_default().trim()
}

/// The part of `codex exec`'s command line that is the same for every turn.
pub fn exec(
    config: &Config,
    version: Version,
    catalog: Option<&Path>,
    confinement: &Confinement,
) -> Vec<OsString> {
    let fixed = ["exec", "--json", "--skip-git-repo-check", "--ignore-user-config", "--ignore-rules"];
    let mut args: Vec<OsString> = fixed.into_iter().map(OsString::from).collect();
    if config.ephemeral {
        args.push("--ephemeral".into());
    }
    args.extend(confinement.args());
    args.extend(overrides(&ours(config, version, catalog)));
    if config.profile() == Profile::Model {
        args.extend(overrides(&["instructions=\"\"".into()]));
    }
    if let Some(model) = &config.model {
        args.extend(overrides(&[format!("model={}", toml::Value::String(model.clone()))]));
    }
    args.extend(overrides(&operators(config)));
    args
}

/// The command line of a `codex app-server`. What a turn needs beyond it goes over its pipes.
///
/// All overrides stand after the subcommand: CLIs up to 0.155 lose the others.
pub fn app_server(
    config: &Config,
    version: Version,
    catalog: Option<&Path>,
    confinement: &Confinement,
) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["app-server", "--stdio"].map(OsString::from).into();
    args.extend(match confinement {
        Confinement::Host { .. } => overrides(&["sandbox_mode=\"read-only\"".into()]),
        Confinement::Workspace(_) | Confinement::Operator => confinement.args(),
    });
    args.extend(overrides(&ours(config, version, catalog)));
    args.extend(overrides(&APP_SERVER.map(String::from)));
    if let Some(model) = &config.model {
        args.extend(overrides(&[format!("model={}", toml::Value::String(model.clone()))]));
    }
    args.extend(overrides(&operators(config)));
    args
}

/// The part of `codex exec`'s command line that one turn adds. The prompt comes on stdin. With a
/// recording's id the turn runs as a fork of that session.
pub fn exec_turn(
    turn: &Turn,
    schema: Option<&Path>,
    images: &[impl AsRef<Path>],
    recording: Option<&str>,
) -> Vec<OsString> {
    let mut args = Vec::new();
    let mut set = |key: &str, value: &str| args.extend(overrides(&[format!("{key}=\"{value}\"")]));
    if let Some(effort) = turn.effort {
        set("model_reasoning_effort", effort.name());
    }
    if let Some(verbosity) = turn.verbosity {
        set("model_verbosity", verbosity.name());
    }
    if let Some(tier) = turn.service_tier.and_then(|tier| tier.upstream()) {
        set("service_tier", tier);
    }
    let mut file = |flag: &str, path: &Path| {
        let mut arg = OsString::from(flag);
        arg.push(path);
        args.push(arg);
    };
    if let Some(model) = &turn.model {
        // One word: a name can never be read as an option.
        file("--model=", Path::new(model));
    }
    if let Some(schema) = schema {
        file("--output-schema=", schema);
    }
    for image in images {
        file("--image=", image.as_ref());
    }
    // All options stand before `fork`: behind it `--sandbox` is unknown, and codex 0.160 would lose every `-c` that
    // stands before it.
    args.extend(recording.map(|_| "fork".into()));
    // `--image` takes several values, so the prompt's `-` needs to be set apart.
    args.push("--".into());
    args.extend(recording.map(OsString::from));
    args.push("-".into());
    args
}

/// What of the operator's overrides takes isolation away, for the log, `doctor` and status.
pub fn weakened(codex_configs: &[String]) -> Vec<String> {
    const HARMLESS: &[&str] = &[
        "model",
        "model_provider",
        "model_providers",
        "model_reasoning_effort",
        "model_reasoning_summary",
        "model_verbosity",
        "model_context_window",
        "model_auto_compact_token_limit",
        "model_max_output_tokens",
        "model_catalog_json",
        "model_supports_reasoning_summaries",
        "service_tier",
        "tool_output_token_limit",
        "sqlite_home",
        "openai_base_url",
        "chatgpt_base_url",
        "cli_auth_credentials_store",
        "hide_agent_reasoning",
        "show_raw_agent_reasoning",
        "instructions",
        "developer_instructions",
        "analytics",
        "forced_login_method",
        "forced_chatgpt_workspace_id",
    ];
    let off = |value: &str| {
        ["false", "\"disabled\"", "disabled", "\"none\"", "\"never\"", "never"].contains(&value.trim())
    };
    codex_configs
        .iter()
        .filter_map(|entry| entry.split_once('='))
        // Even `sandbox_mode="read-only"` replaces a profile of ours that confines reads too.
        .filter(|(key, value)| {
            let root = root_key(key);
            SANDBOX.contains(&root) || (!HARMLESS.contains(&root) && !off(value))
        })
        // Values may hold secrets; the key says enough.
        .map(|(key, _)| key.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests;
