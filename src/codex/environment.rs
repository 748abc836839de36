//! The environment a Codex process gets: an allow-list, so that keys and tokens of other programs
//! never reach a tool that the model runs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;

const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CODEX_CA_CERTIFICATE",
    "CODEX_API_KEY",
];

const PROXIES: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Codex looks at the repository it works in (`git status`, `git remote -v`), outside its sandbox: git
/// would start what the repository's configuration names, such as the filters of `.gitattributes`.
/// With this no command of Codex's own finds a repository. The model's commands go without it
/// ([`super::args`]), so that their git works.
pub const NO_REPOSITORY: (&str, &str) = ("GIT_DIR", "/dev/null");

/// The variables for a Codex process, from ours (`inherited`), the settings and its `CODEX_HOME`.
///
/// Blocking: looks at the folders of `PATH`.
pub fn build(
    config: &Config,
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    codex_home: &Path,
) -> Arc<[(OsString, OsString)]> {
    let extra: Vec<String> =
        provider_keys(&config.codex_configs).into_iter().chain(config.pass_env.clone()).collect();
    let allowed = |name: &str| {
        ALLOWED.contains(&name)
            || PROXIES.contains(&name)
            || name.starts_with("LC_")
            || extra.iter().any(|extra| extra == name)
    };
    // A proxy of the settings replaces the inherited one in both cases of the name.
    let replaced = |name: &str| {
        config.proxy.is_some() && ["http_proxy", "https_proxy"].contains(&name.to_ascii_lowercase().as_str())
    };
    let mut env: Vec<(OsString, OsString)> = inherited
        .into_iter()
        .filter(|(name, _)| name.to_str().is_some_and(|name| allowed(name) && !replaced(name)))
        .filter(|(name, _)| name != NO_REPOSITORY.0)
        .collect();
    if let Some(at) = env.iter().position(|(name, _)| name == "PATH") {
        let home = env.iter().find(|(name, _)| name == "HOME").map(|(_, home)| Path::new(home));
        match search_path(&env[at].1, config, home).kept {
            Some(path) => env[at].1 = path,
            // An empty one would mean the working directory.
            None => drop(env.remove(at)),
        }
    }
    if let Some(proxy) = &config.proxy {
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            env.push((name.into(), proxy.expose().into()));
        }
    }
    let secrets = config.overrides().env;
    env.extend(secrets.into_iter().map(|(name, value)| (name.into(), value.into())));
    env.push(("CODEX_HOME".into(), codex_home.into()));
    env.push((NO_REPOSITORY.0.into(), NO_REPOSITORY.1.into()));
    // Codex's stderr is kept for failures only; its chatter below errors is none.
    env.push(("RUST_LOG".into(), "error".into()));
    env.into()
}

/// A `PATH`, searched for Codex and given to it.
#[derive(Debug, Default)]
pub(super) struct SearchPath {
    /// What is left of it; `None` = nothing.
    pub kept: Option<OsString>,
    /// The folders whose programs a workspace chooses.
    pub dropped: Vec<PathBuf>,
}

/// The folders of `path` whose programs a workspace does not choose: Codex starts `git`, `bwrap` and
/// others by name, outside its sandbox. So none that is relative (to the working directory), and none
/// within a root. A root that holds the whole home is no workspace in that sense: the user's own
/// programs live in it.
pub(super) fn search_path(path: &OsStr, config: &Config, home: Option<&Path>) -> SearchPath {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let home = home.map(real);
    let roots: Vec<PathBuf> = config
        .allowed_roots
        .iter()
        .chain([&config.default_cwd])
        .map(|root| real(root))
        .filter(|root| !home.as_ref().is_some_and(|home| home.starts_with(root)))
        .collect();
    let chosen = |folder: &Path| roots.iter().any(|root| folder.starts_with(root));
    let (kept, dropped): (Vec<PathBuf>, Vec<PathBuf>) = std::env::split_paths(path)
        .partition(|folder| folder.is_absolute() && !chosen(folder) && !chosen(&real(folder)));
    SearchPath { kept: std::env::join_paths(kept).ok().filter(|path| !path.is_empty()), dropped }
}

/// The variables that configured model providers read their key from (`env_key`).
pub fn provider_keys(codex_configs: &[String]) -> Vec<String> {
    codex_configs
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .flat_map(|(key, value)| {
            let mut path: Vec<&str> = key.trim().split('.').collect();
            if path.first() != Some(&"model_providers") {
                return Vec::new();
            }
            // One key may be set alone, a provider whole, or all of them.
            let Ok(toml::Value::Table(table)) =
                format!("v = {value}").parse::<toml::Table>().map(toml::Value::Table)
            else {
                return Vec::new();
            };
            path.remove(0);
            let mut found = Vec::new();
            collect_env_keys(path.last().copied(), &table["v"], &mut found);
            found
        })
        .collect()
}

fn collect_env_keys(name: Option<&str>, value: &toml::Value, found: &mut Vec<String>) {
    match value {
        toml::Value::String(variable) if name == Some("env_key") => found.push(variable.clone()),
        toml::Value::Table(table) => {
            for (name, value) in table {
                match (name.as_str(), value) {
                    // Headers taken from the environment: `{ Header = "VARIABLE" }`.
                    ("env_http_headers", toml::Value::Table(headers)) => {
                        found.extend(headers.values().filter_map(|v| v.as_str()).map(str::to_owned));
                    }
                    _ => collect_env_keys(Some(name), value, found),
                }
            }
        }
        _ => {}
    }
}

/// Whether the login may come from the environment instead of `auth.json`.
pub fn has_api_key(env: &[(OsString, OsString)]) -> bool {
    env.iter().any(|(name, value)| name == OsStr::new("CODEX_API_KEY") && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn names(config: &Config, inherited: &[&str]) -> Vec<String> {
        let inherited = inherited.iter().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.into(), value.into())
        });
        let env = build(config, inherited, Path::new("/home"));
        env.iter()
            .map(|(name, value)| format!("{}={}", name.to_str().unwrap(), value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn only_the_allow_list_passes() {
        let inherited = [
            "PATH=/bin",
            "LC_ALL=C",
            "AWS_SECRET_ACCESS_KEY=x",
            "CODEX_PROXY_API_KEY=x",
            "OPENAI_API_KEY=x",
            "NOTIFY_SOCKET=x",
            "LISTEN_FDS=1",
            "CREDENTIALS_DIRECTORY=x",
            "JOURNAL_STREAM=x",
            "CODEX_HOME=/other",
            "RUST_LOG=trace",
            "CODEX_API_KEY=k",
            "https_proxy=http://inherited",
        ];
        let expect = [
            "PATH=/bin",
            "LC_ALL=C",
            "CODEX_API_KEY=k",
            "https_proxy=http://inherited",
            "CODEX_HOME=/home",
            "GIT_DIR=/dev/null",
            "RUST_LOG=error",
        ];
        assert_eq!(names(&Config::default(), &inherited), expect);
    }

    #[test]
    fn named_variables_and_provider_keys_pass() {
        let config = Config {
            pass_env: vec!["EXTRA".into()],
            codex_configs: vec![
                r#"model_providers.a={name="a",env_key="A_KEY",env_http_headers={"X"="A_HEADER"}}"#.into(),
                r#"model_providers.b.env_key="B_KEY""#.into(),
                r#"other.env_key="C_KEY""#.into(),
                "model_providers.broken={".into(),
            ],
            ..Config::default()
        };
        let inherited = ["EXTRA=1", "A_KEY=2", "A_HEADER=3", "B_KEY=4", "C_KEY=5"];
        assert_eq!(names(&config, &inherited)[..4], ["EXTRA=1", "A_KEY=2", "A_HEADER=3", "B_KEY=4"]);
        assert_eq!(names(&config, &inherited).len(), 7);
    }

    #[test]
    fn a_workspace_names_no_program_of_codexs_own() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        for folder in ["home/bin", "work/bin", "tools"] {
            std::fs::create_dir_all(base.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink("work/bin", base.join("link")).unwrap();
        let at = |name: &str| base.join(name).display().to_string();
        let path = format!(
            ".:{}:{}:{}::bin:{}:{}",
            at("home/bin"),
            at("work/bin"),
            at("link"),
            at("tools"),
            at("tools/../work")
        );
        let home = format!("HOME={}", at("home"));
        let with = |roots: &[&str], path: &str| {
            let config = Config {
                allowed_roots: roots.iter().map(|&root| base.join(root)).collect(),
                default_cwd: base.join("cwd"),
                pass_env: vec!["GIT_DIR".into()],
                ..Config::default()
            };
            let env = names(&config, &[&format!("PATH={path}"), &home, "GIT_DIR=/own"]);
            assert!(env.contains(&"GIT_DIR=/dev/null".into()) && !env.contains(&"GIT_DIR=/own".into()));
            env.iter().find_map(|pair| pair.strip_prefix("PATH=")).map(str::to_owned)
        };
        assert_eq!(with(&["work"], &path), Some(format!("{}:{}", at("home/bin"), at("tools"))));
        // The user's own programs lie in a root that holds the home.
        let all = [at("home/bin"), at("work/bin"), at("link"), at("tools"), at("tools/../work")].join(":");
        assert_eq!(with(&[""], &path), Some(all.clone()));
        assert_eq!(with(&["home"], &path), Some(all));
        for none in [".", "", "bin:", &at("work/bin"), &at("cwd")] {
            assert_eq!(with(&["work"], none), None, "{none:?}");
        }
    }

    #[test]
    fn a_proxy_setting_replaces_both_cases() {
        let config = Config { proxy: Some(Secret::new("http://p:1")), ..Config::default() };
        assert_eq!(
            names(&config, &["HTTPS_PROXY=http://old", "no_proxy=localhost"])[..5],
            [
                "no_proxy=localhost",
                "http_proxy=http://p:1",
                "https_proxy=http://p:1",
                "HTTP_PROXY=http://p:1",
                "HTTPS_PROXY=http://p:1"
            ]
        );
    }
}
