//! One look at the machine: find the CLI, prepare its home, check login and confinement.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Config, EngineKind, Profile};
use crate::observe::message_ids;
use crate::process::Spawner;
use crate::turn::Failure;

use super::args::{Confinement, table};
use super::auth_file::{AuthFile, Stamp, stamp};
use super::cli::{CliQuery, LoggedIn, ModelList, Variables};
use super::home::Home;
use super::{
    Continuation, Installation, Login, Survey, catalog, confine, environment, folders, locate, rollout,
};

/// The files a survey depends on, as they were: a change asks for a new survey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    stamps: Vec<Option<Stamp>>,
    /// Why the program is not run, if it is not.
    refused: Option<String>,
}

impl Files {
    pub(super) async fn look(config: &Arc<Config>, inherited: &Variables) -> Files {
        let (config, inherited) = (Arc::clone(config), inherited.to_vec());
        off_runtime(move || {
            let program = find(&config, &inherited);
            let login = login_home(&config, &inherited).join("auth.json");
            let own = config.app_server_codex_home.join("auth.json");
            // A login that Codex refreshes in place is another one too: a worker knows only the one it was
            // started with. Starting another changes nothing, so that this comes to rest.
            Files {
                stamps: vec![program.as_deref().and_then(stamp), stamp(&login), stamp(&own)],
                refused: program.and_then(|program| refused(&config, &inherited, &program)),
            }
        })
        .await
        .unwrap_or_default()
    }
}

pub(super) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::Internal { detail: format!("a file task of the survey: {error}") })
}

fn variable<'a>(variables: &'a Variables, name: &str) -> Option<&'a OsStr> {
    variables
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_os_str())
        .filter(|value| !value.is_empty())
}

fn find(config: &Config, inherited: &Variables) -> Option<PathBuf> {
    locate::find(config, variable(inherited, "PATH"), variable(inherited, "HOME").map(Path::new))
}

/// Why a program that was found is not run: everybody could change it, or the wrapper that is named.
fn refused(config: &Config, inherited: &Variables, program: &Path) -> Option<String> {
    let home = variable(inherited, "HOME").map(Path::new);
    let named = locate::installed(config, variable(inherited, "PATH"), home);
    let why = locate::open_to_all(named.as_deref().into_iter().chain([program]))?;
    Some(format!("codex_bin {:?} is not run: {why}", config.codex_bin))
}

/// Whether the disk has a program of the configured name.
pub(super) async fn is_installed(config: &Arc<Config>, inherited: &Variables) -> bool {
    let (config, inherited) = (Arc::clone(config), inherited.to_vec());
    off_runtime(move || find(&config, &inherited).is_some()).await.unwrap_or(false)
}

/// The user's own `CODEX_HOME`.
fn login_home(config: &Config, inherited: &Variables) -> PathBuf {
    match (&config.login_home, variable(inherited, "CODEX_HOME")) {
        (Some(set), _) => set.clone(),
        (None, Some(own)) => PathBuf::from(own),
        (None, None) => Path::new(variable(inherited, "HOME").unwrap_or_default()).join(".codex"),
    }
}

/// Looks at the machine.
pub(super) async fn take(config: &Arc<Config>, spawner: &Spawner, inherited: &Variables) -> Survey {
    let mut survey = Survey {
        program: None,
        behind: None,
        dropped: Vec::new(),
        version: None,
        login: None,
        confinement: None,
        continuation: None,
        models: Vec::new(),
        usable: Err(Failure::Internal { detail: "no survey was made".into() }),
        config: Arc::clone(config),
        files: Files::default(),
        at: Instant::now(),
    };
    survey.usable = fill(&mut survey, spawner, inherited).await;
    survey.at = Instant::now();
    survey
}

/// Logs what a survey found. The same failure is not news each time somebody asks.
pub(super) fn announce(survey: &Survey, before: Option<&Survey>) {
    match &survey.usable {
        Ok(found) => tracing::info!(
            program = %found.program.display(),
            version = %found.version,
            login = found.login.name(),
            reads = found.confinement.name(),
            continuation = found.continuation.name(),
            "codex is ready"
        ),
        Err(failure) if before.is_some_and(|before| before.usable.as_ref().err() == Some(failure)) => return,
        Err(failure @ (Failure::NotLoggedIn { .. } | Failure::LoginNotPortable)) => {
            tracing::warn!(target: message_ids::NOT_LOGGED_IN, "codex is not usable: {failure}");
        }
        Err(
            failure @ (Failure::CodexMissing { .. }
            | Failure::CodexRefused { .. }
            | Failure::CodexTooOld { .. }),
        ) => {
            tracing::warn!(target: message_ids::CODEX_UNUSABLE, "codex is not usable: {failure}");
        }
        Err(failure @ Failure::ReadsNotConfined { .. }) => {
            tracing::warn!(target: message_ids::READS_NOT_CONFINED, "codex is not usable: {failure}");
        }
        Err(failure) => tracing::warn!("codex is not usable: {failure}"),
    }
    if !survey.dropped.is_empty() && before.is_none_or(|before| before.dropped != survey.dropped) {
        tracing::warn!(
            "codex is neither looked for nor finds programs in these folders of PATH, which are relative or within \
             allowed_roots: {:?}",
            survey.dropped
        );
    }
    // A plain chat model has nothing to read with.
    let chats = survey.usable.as_ref().is_ok_and(|found| found.config.profile() == Profile::Model);
    if let (Some(Confinement::Host { reason }), false) = (&survey.confinement, chats) {
        tracing::warn!(target: message_ids::READS_NOT_CONFINED, "codex's tools may read every file this user can read: {reason}");
    }
}

async fn fill(
    survey: &mut Survey,
    spawner: &Spawner,
    inherited: &Variables,
) -> Result<Arc<Installation>, Failure> {
    let config = Arc::clone(&survey.config);
    let missing = || Failure::CodexMissing { bin: config.codex_bin.clone() };

    let (look, variables) = (Arc::clone(&config), inherited.to_vec());
    (survey.program, survey.dropped) = off_runtime(move || {
        let home = variable(&variables, "HOME").map(Path::new);
        let path = variable(&variables, "PATH").map(|path| environment::search_path(path, &look, home));
        (find(&look, &variables), path.unwrap_or_default().dropped)
    })
    .await?;
    let program = survey.program.clone().ok_or_else(missing)?;
    let (look, variables, found) = (Arc::clone(&config), inherited.to_vec(), program.clone());
    if let Some(detail) = off_runtime(move || refused(&look, &variables, &found)).await? {
        return Err(Failure::CodexRefused { detail });
    }

    let (look, variables) = (Arc::clone(&config), inherited.to_vec());
    let home = off_runtime(move || folders::prepare(&look, &login_home(&look, &variables))).await??;
    // Only now: our link to the login may be new, and is not to look like a new login.
    survey.files = Files::look(&config, inherited).await;
    let env = environment(&config, inherited, &home.path).await?;
    let ask = CliQuery { spawner, program: &program, cwd: &home.path };

    let version = ask.version(&env).await?;
    survey.version = Some(version);
    if !version.serves(config.engine) {
        let needs = config.engine.capabilities().version_floor;
        return Err(Failure::CodexTooOld { found: version.to_string(), needs });
    }

    // Before the confinement: it hides the files that exist, and the key is one.
    let (look, at_start) = (Arc::clone(&config), home.path.clone());
    let continuation = off_runtime(move || {
        rollout::sweep(&at_start);
        Continuation::of(&look, version)
    })
    .await?;
    survey.continuation = Some(continuation.clone());
    let models = ask.models(&config, &env).await;
    survey.models = models.as_ref().map_or_else(
        |_| {
            tracing::info!("this Codex CLI does not list its models; /v1/models shows the configured names");
            Vec::new()
        },
        ModelList::shown,
    );
    let codex_home = home.path.clone();
    let auth = off_runtime(move || AuthFile::look(&codex_home)).await?;
    let (login, by_key) = login(&config, &home, &ask, &env, inherited).await;
    let auth = if login == Login::Codex { auth.of_key(by_key) } else { AuthFile::default() };
    survey.login = Some(login);
    match login {
        Login::Missing => {
            return Err(Failure::NotLoggedIn { bin: config.codex_bin.clone(), program });
        }
        Login::NotPortable => return Err(Failure::LoginNotPortable),
        Login::Codex | Login::ApiKey | Login::NotNeeded => {}
    }

    let (confinement, behind) = confine::find_out(&config, &home, version, &ask, &env).await;
    survey.behind = behind;
    if let Some(behind) = survey.behind.clone() {
        let (look, variables) = (Arc::clone(&config), inherited.to_vec());
        if let Some(detail) = off_runtime(move || refused(&look, &variables, &behind)).await? {
            return Err(Failure::CodexRefused { detail });
        }
    }
    confine::demand(&config, &confinement)?;
    survey.confinement = Some(confinement.clone());
    let (catalog, functions) = catalog::prepare(&config, version, models).await;
    let refused = Arc::default();
    let found = Installation {
        program,
        version,
        home,
        login,
        auth,
        confinement,
        catalog,
        functions,
        continuation,
        refused,
        env,
        config,
    };
    Ok(Arc::new(found))
}

async fn environment(
    config: &Arc<Config>,
    inherited: &Variables,
    codex_home: &Path,
) -> Result<Arc<Variables>, Failure> {
    let (config, inherited) = (Arc::clone(config), inherited.to_vec());
    let codex_home = codex_home.to_path_buf();
    off_runtime(move || environment::build(&config, inherited, &codex_home)).await
}

/// Finds out how Codex will authenticate, and whether by an API key of its own, without the network and
/// without reading a token.
async fn login(
    config: &Arc<Config>,
    home: &Home,
    ask: &CliQuery<'_>,
    env: &Arc<Variables>,
    inherited: &Variables,
) -> (Login, bool) {
    if !needs_login(&config.codex_configs) {
        return (Login::NotNeeded, false);
    }
    // Only `codex exec` takes the key from the environment.
    if config.engine == EngineKind::Exec && environment::has_api_key(env) {
        return (Login::ApiKey, false);
    }
    if let Some(LoggedIn { by_key }) = ask.logged_in(config, env).await {
        return (Login::Codex, by_key);
    }
    // The user may be logged in where the isolated home cannot see it.
    if !home.has_auth
        && home.login.is_dir()
        && let Ok(elsewhere) = environment(config, inherited, &home.login).await
        && ask.logged_in(config, &elsewhere).await.is_some()
    {
        return (Login::NotPortable, false);
    }
    (Login::Missing, false)
}

/// Whether the configured model provider uses one of Codex's logins: the built-in ones do, one of
/// the operator's own only if it says so.
fn needs_login(codex_configs: &[String]) -> bool {
    let table = table(codex_configs);
    let Some(provider) = table.get("model_provider").and_then(toml::Value::as_str) else { return true };
    let own = table.get("model_providers").and_then(|providers| providers.get(provider));
    own.is_none_or(|own| own.get("requires_openai_auth").and_then(toml::Value::as_bool).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_operators_own_providers_need_no_login() {
        for (entries, expect) in [
            (&[][..], true),
            (&[r#"model_provider="openai""#], true),
            (&[r#"model_provider="mine""#], true),
            (&[r#"model_provider="mine""#, r#"model_providers.mine={base_url="x"}"#], false),
            (
                &[
                    r#"model_provider="mine""#,
                    r#"model_providers.mine.base_url="x""#,
                    r#"model_providers.mine.name="n""#,
                ],
                false,
            ),
            (
                &[
                    r#"model_provider="mine""#,
                    r#"model_providers.mine={base_url="x"}"#,
                    "model_providers.mine.requires_openai_auth=true",
                ],
                true,
            ),
            (&["not toml ="], true),
        ] {
            let owned: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
            assert_eq!(needs_login(&owned), expect, "{entries:?}");
        }
    }
}
