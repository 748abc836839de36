//! What no single value shows: values that depend on each other, and what is allowed but worth a word.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::resolved;
use super::schema::Setting;
use super::shape::printable;
use super::{AgentReads, Config, Isolation, Origin, SETTINGS};

type Origins = BTreeMap<&'static str, Origin>;

/// Fills in what follows from other settings.
pub(super) fn resolve(config: &mut Config, origins: &Origins) {
    let roots = config.allowed_roots.iter().map(PathBuf::as_path);
    match config.allowed_roots.first() {
        None => config.allowed_roots = vec![config.default_cwd.clone()],
        // Nobody chose the workspace, but somebody chose where Codex may work.
        Some(first)
            if origins.get("default_cwd") == Some(&Origin::Default)
                && !inside(&config.default_cwd, roots) =>
        {
            config.default_cwd = first.clone();
        }
        Some(_) => {}
    }
    if config.first_event_timeout_seconds == Some(Duration::ZERO) {
        config.first_event_timeout_seconds = None;
    }
}

/// Adds what contradicts; `known` are the keys already found wrong, whose values mean nothing.
pub(super) fn errors(config: &Config, origins: &Origins, known: &BTreeSet<&str>, wrong: &mut Vec<String>) {
    let good = |keys: [&str; 2]| keys.iter().all(|key| !known.contains(key));
    // The later layer made the contradiction.
    let place = |keys: [&'static str; 2]| match keys.into_iter().filter_map(|key| origins.get(key)).max() {
        Some(Origin::Default) | None => String::new(),
        Some(origin) => format!("{origin}: "),
    };
    let bytes = ["max_buffered_bytes", "max_body_bytes"];
    if good(bytes) && config.max_buffered_bytes < config.max_body_bytes {
        wrong.push(format!(
            "{}max_buffered_bytes ({}) must be at least max_body_bytes ({})",
            place(bytes),
            config.max_buffered_bytes,
            config.max_body_bytes
        ));
    }
    let places = ["default_cwd", "allowed_roots"];
    if good(places) && !inside(&config.default_cwd, config.allowed_roots.iter().map(PathBuf::as_path)) {
        let roots: Vec<_> = config.allowed_roots.iter().map(|root| root.display().to_string()).collect();
        wrong.push(format!(
            "{}default_cwd {} must be inside allowed_roots ({}): add it to these, or set default_cwd to a folder inside \
             one of them",
            place(places),
            config.default_cwd.display(),
            roots.join(", ")
        ));
    }
}

/// Whether the folder is one of the roots or inside one, links resolved.
pub(super) fn inside<'a>(folder: &Path, mut roots: impl Iterator<Item = &'a Path>) -> bool {
    let real = resolved(folder);
    roots.any(|root| match (&real, resolved(root)) {
        (Some(folder), Some(root)) => folder.starts_with(&root),
        _ => false,
    })
}

impl Config {
    /// The warning that others than this machine can connect, as far as the settings tell.
    pub fn exposure(&self) -> Option<String> {
        let text = || {
            format!(
                "host = {} without a key: whoever reaches this machine can spend your Codex quota and read files \
                 through Codex; set api_key or api_key_file",
                self.host
            )
        };
        self.open_to_strangers().then(text)
    }
}

/// What is allowed but worth a word, one line each.
pub(super) fn warnings(config: &Config, origins: &Origins) -> Vec<String> {
    let mut notes = Vec::new();
    let set = |key: &str| origins.get(key).is_some_and(|origin| *origin != Origin::Default);
    let mut say = |when: bool, text: String| when.then(|| notes.push(text));

    if let (Some(key), Some(origin)) = (&config.api_key, origins.get("api_key"))
        // That of a credential was looked at when it was read.
        && !matches!(origin, Origin::Credential(_))
        && let Some(why) = super::keys::odd(key.expose())
    {
        say(true, format!("{origin}: api_key: {why}"));
    }

    let exposure = config.exposure();
    say(exposure.is_some(), exposure.unwrap_or_default());
    say(
        matches!(origins.get("api_key"), Some(Origin::Flag(_))),
        "--api-key: other users can see the command line; use CODEX_PROXY_API_KEY, api_key_file or a systemd \
         credential"
            .into(),
    );
    say(
        matches!(origins.get("proxy"), Some(Origin::Flag(_)))
            && config.proxy.as_ref().is_some_and(|proxy| proxy.redacted() != proxy.expose()),
        "--proxy: other users can see the password on the command line; use CODEX_PROXY_PROXY or a settings file"
            .into(),
    );
    let exposed = config.overrides().exposed;
    say(
        !exposed.is_empty(),
        format!(
            "codex_configs: {} stands in the command line of codex, where other users can read it; name a variable \
             instead where Codex has a form for that (env_key, env_http_headers, bearer_token_env_var, env_vars) and \
             list it in pass_env",
            printable(&exposed.join(", "))
        ),
    );
    say(
        matches!(origins.get("codex_configs"), Some(Origin::Flag(_)))
            && !(exposed.is_empty() && config.overrides().env.is_empty()),
        "--codex-config: other users can see the secret on the command line; use CODEX_PROXY_CODEX_CONFIGS or a \
         settings file"
            .into(),
    );
    say(
        config.isolation == Isolation::Shared,
        "isolation = shared: Codex loads your own configuration, MCP servers, skills and rules".into(),
    );
    say(
        config.agent_reads == AgentReads::Host,
        "agent_reads = host: a prompt can make Codex read whatever you can read, keys and logins included"
            .into(),
    );
    let other = |setting: &&Setting| setting.engine.is_some_and(|engine| engine != config.engine);
    for Setting { key, .. } in SETTINGS.iter().filter(other) {
        say(set(key), format!("{key} is unused with engine = {}", config.engine.name()));
    }
    say(
        config.fast && !config.codex_configs.is_empty(),
        "fast has no effect because codex_configs is set".into(),
    );
    say(
        config.first_event_timeout_seconds.is_some_and(|limit| limit >= config.timeout_seconds),
        "first_event_timeout_seconds has no effect: timeout_seconds is not longer".into(),
    );
    say(
        config.needs_key() && !config.allowed_users.is_empty(),
        "allowed_users is unused because a key is configured".into(),
    );
    notes
}
