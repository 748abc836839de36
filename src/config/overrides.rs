//! Secrets in `codex_configs`: every user of the machine can read Codex's command line, so what
//! Codex can take from a variable goes that way, and the rest is named.
//!
//! Codex reads an override as `path=value`: the path is split at every dot, quotes or not, and a
//! value that is no TOML is a text (measured with 0.169.0).

use toml::{Table, Value};

use super::secret::HIDDEN;

/// What the variables are called, a number behind it.
pub const VARIABLE: &str = "CODEX_API_PROXY_SECRET_";

/// The overrides as Codex gets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// What stands in its command line, each behind `-c`.
    pub args: Vec<String>,
    /// What stands in its environment.
    pub env: Vec<(String, String)>,
    /// The paths of what looks like a secret and still stands in `args`.
    pub exposed: Vec<String>,
}

/// Where Codex takes headers, and for providers the token, from variables too.
const FAMILIES: &[&str] = &["model_providers", "mcp_servers"];
const HEADERS: &str = "http_headers";
const ENV_HEADERS: &str = "env_http_headers";
const BEARER: &str = "experimental_bearer_token";
const ENV_KEY: &str = "env_key";

/// Moves secrets into the environment where Codex has a form for that.
///
/// A header of the command line and one of the environment meet as Codex has them meet: the
/// environment's wins, and so does `env_key` over `experimental_bearer_token`.
pub fn split(entries: &[String]) -> Overrides {
    let mut whole = Value::Table(Table::new());
    let mut found = Overrides::default();
    for entry in entries {
        let Some((path, value)) = read(entry) else { continue };
        set(&mut whole, &path, value.clone());
        let args = match strip(&path, value) {
            Stripped::Untouched => Some(entry.clone()),
            Stripped::Rest(rest) => Some(format!("{}={rest}", path.join("."))),
            Stripped::Nothing => None,
        };
        found.args.extend(args);
    }
    let families = FAMILIES.iter().filter_map(|family| Some((*family, whole.get(family)?.as_table()?)));
    for (family, members) in families {
        for (name, member) in members.iter().filter_map(|(name, member)| Some((name, member.as_table()?))) {
            let mut go = |field: &str, secret: &str| {
                let variable = format!("{VARIABLE}{}", found.env.len() + 1);
                found.args.push(format!("{family}.{name}.{field}=\"{variable}\""));
                found.env.push((variable, secret.to_owned()));
            };
            let theirs = member.get(ENV_HEADERS).and_then(Value::as_table);
            let taken = |header: &str| {
                theirs.is_some_and(|theirs| theirs.keys().any(|name| name.eq_ignore_ascii_case(header)))
            };
            for (header, value) in member.get(HEADERS).and_then(Value::as_table).into_iter().flatten() {
                if let Some(secret) = moves(&[family, name, HEADERS, header], value)
                    && !taken(header)
                {
                    go(&format!("{ENV_HEADERS}.{header}"), secret);
                }
            }
            if let Some(secret) = member.get(BEARER).and_then(|value| moves(&[family, name, BEARER], value))
                && !member.contains_key(ENV_KEY)
            {
                go(ENV_KEY, secret);
            }
        }
    }
    for (path, value) in found.args.iter().filter_map(|entry| read(entry)) {
        exposed(&mut path.iter().map(|part| (*part).to_owned()).collect(), &value, &mut found.exposed);
    }
    found
}

/// Path and value as Codex reads them.
fn read(entry: &str) -> Option<(Vec<&str>, Value)> {
    let (path, value) = entry.split_once('=')?;
    let value = value.trim();
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.trim_matches(['"', '\'']).to_owned()));
    Some((path.trim().split('.').collect(), value))
}

fn set(into: &mut Value, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return *into = value };
    if !into.is_table() {
        *into = Value::Table(Table::new());
    }
    if let Value::Table(table) = into {
        set(table.entry(*first).or_insert(Value::Boolean(false)), rest, value);
    }
}

/// The secret, if it stands where Codex has a form for the environment. Codex ignores a variable
/// that is blank, and a name with a dot cannot be addressed.
fn moves<'a>(path: &[&str], value: &'a Value) -> Option<&'a str> {
    let fits = match path {
        [family, _, HEADERS, _] => FAMILIES.contains(family),
        ["model_providers", _, BEARER] => true,
        _ => false,
    };
    let named = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let text = value.as_str()?;
    (fits && path.iter().all(named) && !text.trim().is_empty() && !text.contains(char::is_control))
        .then_some(text)
}

enum Stripped {
    Untouched,
    Rest(Value),
    Nothing,
}

/// The value without what moves.
fn strip(path: &[&str], value: Value) -> Stripped {
    if moves(path, &value).is_some() {
        return Stripped::Nothing;
    }
    let Value::Table(table) = value else { return Stripped::Untouched };
    let mut touched = false;
    let mut rest = Table::new();
    for (name, value) in table {
        let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        match strip(&path, value.clone()) {
            Stripped::Untouched => _ = rest.insert(name, value),
            Stripped::Rest(value) => {
                touched = true;
                rest.insert(name, value);
            }
            Stripped::Nothing => touched = true,
        }
    }
    if touched { Stripped::Rest(Value::Table(rest)) } else { Stripped::Untouched }
}

/// Names what looks like a secret.
fn exposed(path: &mut Vec<String>, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                path.push(name.clone());
                exposed(path, value, found);
                path.pop();
            }
        }
        Value::Array(values) => values.iter().for_each(|value| exposed(path, value, found)),
        Value::String(text) => {
            let prose = path.first().is_some_and(|root| root.ends_with("instructions"));
            let secret = names_secret(path) || tells_secret(text) || (!prose && assigns_secret(text));
            if secret && !text.is_empty() {
                let name = path.join(".");
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
        // A number or a switch is no secret.
        _ => {}
    }
}

const WORDS: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "authorization",
    "bearer",
    "cookie",
    "credential",
];
/// Tables of which every entry may be one.
const TABLES: &[&str] = &["headers", HEADERS, "query_params", "env", "set"];

fn has_word(text: &str) -> bool {
    let text = text.to_ascii_lowercase().replace('-', "_");
    WORDS.iter().any(|word| text.contains(word))
}

/// Whether the path says that what stands there is secret, and not only the name of a variable.
fn names_secret(path: &[String]) -> bool {
    let innocent = |part: &String| {
        part.starts_with("env_") || part.ends_with("_env_var") || part.ends_with("_credentials_store")
    };
    !path.iter().any(innocent)
        && path.iter().any(|part| has_word(part) || TABLES.contains(&part.to_ascii_lowercase().as_str()))
}

/// Whether the text itself is one: a known kind of token, or a URL with a login or a query.
fn tells_secret(text: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "sk-",
        "sk_",
        "pk_live",
        "rk_live",
        "ghp_",
        "gho_",
        "ghs_",
        "ghu_",
        "github_pat_",
        "glpat-",
        "xox",
        "eyJ",
        "AKIA",
        "ASIA",
        "AIza",
        "hf_",
        "npm_",
        "Bearer ",
        "bearer ",
        "Basic ",
        "basic ",
    ];
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)) || plain_url(text) == Some(false)
}

/// Whether a URL is without login, query and fragment; `None` if it is none.
fn plain_url(text: &str) -> Option<bool> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Some(!authority.contains('@') && !rest.contains(['?', '#']))
}

/// Whether the text hands a secret over, as `--api-key=…` of a command does.
fn assigns_secret(text: &str) -> bool {
    text.split_once(['=', ':']).is_some_and(|(name, value)| has_word(name) && !value.trim().is_empty())
}

/// The keys whose values print; `*` is any name. All else may hold a secret.
const SHOWN: &[&str] = &[
    "agents.enabled",
    "allow_login_shell",
    "analytics.enabled",
    "approval_policy",
    "chatgpt_base_url",
    "cli_auth_credentials_store",
    "default_permissions",
    "features.*",
    "forced_login_method",
    "hide_agent_reasoning",
    "history.persistence",
    "mcp_servers.*.bearer_token_env_var",
    "mcp_servers.*.enabled",
    "mcp_servers.*.env_http_headers.*",
    "model",
    "model_auto_compact_token_limit",
    "model_catalog_json",
    "model_context_window",
    "model_max_output_tokens",
    "model_provider",
    "model_providers.*.base_url",
    "model_providers.*.env_http_headers.*",
    "model_providers.*.env_key",
    "model_providers.*.name",
    "model_providers.*.request_max_retries",
    "model_providers.*.requires_openai_auth",
    "model_providers.*.stream_idle_timeout_ms",
    "model_providers.*.stream_max_retries",
    "model_providers.*.supports_websockets",
    "model_providers.*.wire_api",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "model_supports_reasoning_summaries",
    "model_verbosity",
    "openai_base_url",
    "project_doc_max_bytes",
    "sandbox_mode",
    "service_tier",
    "shell_environment_policy.inherit",
    "show_raw_agent_reasoning",
    "tool_output_token_limit",
    "tools.view_image",
    "tools.web_search",
    "web_search",
];

/// The entry as it may print: values of known harmless keys only, `***` for all else.
pub(super) fn shown(entry: &str) -> String {
    let Some((path, value)) = read(entry) else { return HIDDEN.into() };
    let harmless = |part: &&str| {
        let word = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_\"'".contains(&byte));
        word && part.len() <= 64 && !tells_secret(part)
    };
    if !path.iter().all(harmless) {
        return HIDDEN.into();
    }
    match reveal(&mut path.iter().map(|part| (*part).to_owned()).collect(), &value) {
        Revealed::All => entry.to_owned(),
        Revealed::Some(value) => format!("{}={value}", path.join(".")),
        Revealed::Nothing => format!("{}={HIDDEN}", path.join(".")),
    }
}

enum Revealed {
    All,
    Some(Value),
    Nothing,
}

fn reveal(path: &mut Vec<String>, value: &Value) -> Revealed {
    // `Some(true)`: the value may print; `Some(false)`: something below it may.
    let known = SHOWN.iter().filter_map(|shown| {
        let shown: Vec<&str> = shown.split('.').collect();
        let fits = shown.len() >= path.len() && shown.iter().zip(&*path).all(|(a, b)| *a == "*" || a == b);
        fits.then_some(shown.len() == path.len())
    });
    match (known.max(), value) {
        (Some(true), Value::String(text)) if tells_secret(text) || assigns_secret(text) => Revealed::Nothing,
        (Some(true), Value::Table(_) | Value::Array(_)) => Revealed::Nothing,
        (Some(true), _) => Revealed::All,
        (Some(false), Value::Table(table)) => {
            let mut all = true;
            let mut shown = Table::new();
            for (name, value) in table {
                path.push(name.clone());
                let value = match reveal(path, value) {
                    Revealed::All => value.clone(),
                    Revealed::Some(value) => {
                        all = false;
                        value
                    }
                    Revealed::Nothing => {
                        all = false;
                        Value::String(HIDDEN.into())
                    }
                };
                path.pop();
                shown.insert(name.clone(), value);
            }
            if all { Revealed::All } else { Revealed::Some(Value::Table(shown)) }
        }
        _ => Revealed::Nothing,
    }
}

#[cfg(test)]
mod tests;
