//! Whether reads can be confined here, tried on files, and which program that takes: behind a wrapper
//! (npm, mise, asdf, Nix, a script) Codex's sandbox must be able to read what the wrapper starts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::config::{AgentReads, Config, Profile};
use crate::os::group;
use crate::process::Lines;
use crate::turn::Failure;

use super::args::{self, Confinement, overrides, weakened};
use super::cli::{CliQuery, PATIENCE, Variables};
use super::home::Home;
use super::survey::off_runtime;
use super::{Version, databases, hidden, locate};

/// How many programs of a wrapper's are tried, the one it started last first.
const MOST_TRIED: usize = 4;

/// The longest first line of an app-server, in bytes.
const LONGEST_LINE: usize = 1 << 20;

/// Tries the wanted confinement: with the program itself, and where that will not do with what it
/// starts, which is told as well.
pub(super) async fn find_out(
    config: &Arc<Config>,
    home: &Home,
    version: Version,
    ask: &CliQuery<'_>,
    env: &Arc<Variables>,
) -> (Confinement, Option<PathBuf>) {
    let attempt = |program: PathBuf| attempt(config, home, program, ask, env);
    let first = attempt(ask.program.to_path_buf()).await;
    let Confinement::Host { reason } = &first else { return (first, None) };
    if config.agent_reads == AgentReads::Host {
        return (first, None);
    }
    let behind = match started(config, version, ask, env).await {
        Ok(behind) => behind,
        Err(why) => {
            let reason = format!("{reason}; what {} starts was not found ({why})", ask.program.display());
            return (Confinement::Host { reason }, None);
        }
    };
    for program in behind.into_iter().take(MOST_TRIED) {
        let second = attempt(program.clone()).await;
        if matches!(second, Confinement::Workspace(_)) {
            return (second, Some(program));
        }
    }
    (first, None)
}

/// That `agent_reads = "workspace"`, which is a requirement, is met.
///
/// # Errors
/// [`Failure::ReadsNotConfined`].
pub(super) fn demand(config: &Config, found: &Confinement) -> Result<(), Failure> {
    // Without tools there is nothing to read with, unless the operator's overrides bring some back.
    let no_tools = config.profile() == Profile::Model && weakened(&config.codex_configs).is_empty();
    if config.agent_reads != AgentReads::Workspace || no_tools {
        return Ok(());
    }
    match found {
        Confinement::Workspace(_) => Ok(()),
        Confinement::Host { reason } => Err(Failure::ReadsNotConfined { detail: reason.clone() }),
        Confinement::Operator => Err(Failure::ReadsNotConfined {
            detail: format!(
                "codex_configs decide what tools may do ({})",
                weakened(&config.codex_configs).join(", ")
            ),
        }),
    }
}

/// Tries the wanted confinement with `program` as what the sandbox needs.
async fn attempt(
    config: &Arc<Config>,
    home: &Home,
    program: PathBuf,
    ask: &CliQuery<'_>,
    env: &Arc<Variables>,
) -> Confinement {
    let (look, homes) = (Arc::clone(config), home.clone());
    let found = off_runtime(move || {
        let vendor = locate::vendor(&program);
        let mut hidden = hidden::paths(&look, &homes, &vendor);
        hidden.push(hidden::probe(&look).join("hidden"));
        (vendor, hidden)
    });
    let (vendor, hidden) = match found.await {
        Ok(found) => found,
        Err(failure) => return Confinement::Host { reason: failure.to_string() },
    };
    let wanted = Confinement::wanted(config, &vendor, &hidden);
    let Confinement::Workspace(values) = &wanted else { return wanted };
    match probe(config, values, ask, env).await {
        Ok(()) => wanted,
        Err(why) => Confinement::Host {
            reason: format!("this Codex CLI on this system does not confine reads ({why})"),
        },
    }
}

/// Tries a permission profile on a file that must stay readable and ones that must not.
async fn probe(
    config: &Arc<Config>,
    values: &[String],
    ask: &CliQuery<'_>,
    env: &Arc<Variables>,
) -> Result<(), String> {
    let look = Arc::clone(config);
    let (inside, outside) = off_runtime(move || -> std::io::Result<(PathBuf, PathBuf)> {
        let (inside, outside) = (hidden::probe(&look), look.state_dir.join("tmp/probe-outside"));
        std::fs::create_dir_all(&inside)?;
        for file in [&inside.join("inside"), &inside.join("hidden"), &outside] {
            std::fs::write(file, "")?;
        }
        Ok((inside, outside))
    })
    .await
    .map_err(|failure| format!("{failure:?}"))?
    .map_err(|error| format!("cannot write probe files: {error}"))?;

    let mut args = vec![OsString::from("sandbox")];
    args.extend(overrides(values));
    let script = r#"test -r inside || exit 10; test -r "$1" && exit 11; test -r hidden && exit 12
        (echo > written) 2>/dev/null && exit 13; exit 0"#;
    args.extend(["--", "/bin/sh", "-c", script, "sh"].map(OsString::from));
    args.push(outside.into());
    match ask.run_in(&inside, &args, env).await {
        Ok((true, ..)) => Ok(()),
        Ok((false, _, stderr)) => Err(match stderr.lines().rfind(|line| !line.starts_with("note: ")) {
            Some(line) => format!("the sandbox said: {line}"),
            None => "a file outside stayed readable, or one inside did not".into(),
        }),
        Err(error) => Err(error.to_string()),
    }
}

/// The programs that an app-server, started through the wrapper, consists of once it answers: the one
/// that was started last first, and not the one that was asked for.
async fn started(
    config: &Arc<Config>,
    version: Version,
    ask: &CliQuery<'_>,
    env: &Arc<Variables>,
) -> Result<Vec<PathBuf>, String> {
    const INITIALIZE: &[u8] = br#"{"id":0,"method":"initialize","params":{"clientInfo":{"name":"codex-api-proxy","title":null,"version":"0"}}}
"#;
    let args = args::app_server(config, version, None, &Confinement::Host { reason: String::new() });
    let look = Arc::clone(config);
    let databases = off_runtime(move || databases::for_process(&look, &databases::Common::default(), true));
    let databases = databases.await.and_then(|opened| opened).map_err(|failure| failure.to_string())?;
    let mut command = ask.command(ask.cwd, &args, env);
    if let Some(databases) = &databases {
        command.env = env.iter().cloned().chain([databases.variable()]).collect();
    }
    command.uses = databases.map(|databases| databases as _);
    let mut child = ask.spawner.spawn(command).await.map_err(|error| error.to_string())?;
    let answers = async {
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("its pipes are gone".to_owned());
        };
        stdin.write_all(INITIALIZE).await.map_err(|error| error.to_string())?;
        let mut lines = Lines::new(stdout, LONGEST_LINE);
        match lines.next().await {
            // Held: without its input it would end.
            Ok(Some(_)) => Ok((stdin, lines)),
            Ok(None) => Err("its app-server ended before it answered".into()),
            Err(error) => Err(error.to_string()),
        }
    };
    let answered = tokio::time::timeout(PATIENCE, answers).await;
    let found = match answered {
        Ok(Ok(held)) => {
            let leader = child.pid();
            let found =
                off_runtime(move || group::programs(leader)).await.map_err(|failure| failure.to_string());
            drop(held);
            found
        }
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("its app-server did not answer within {PATIENCE:?}")),
    };
    child.stop().await;
    let asked_for: &Path = ask.program;
    Ok(found?.into_iter().filter(|program| program != asked_for).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::choices::ProfileChoice;

    #[test]
    fn what_is_asked_for_by_name_is_a_requirement() {
        use AgentReads::{Auto, Host, Workspace};
        let (kept, host) =
            (Confinement::Workspace(vec![]), Confinement::Host { reason: "no sandbox".into() });
        for (reads, profile, overrides, found, refused) in [
            (Auto, ProfileChoice::Agent, "", &host, None),
            (Auto, ProfileChoice::Agent, "", &Confinement::Operator, None),
            (Host, ProfileChoice::Agent, "", &host, None),
            (Workspace, ProfileChoice::Agent, "", &kept, None),
            (Workspace, ProfileChoice::Agent, "", &host, Some("no sandbox")),
            (Workspace, ProfileChoice::Auto, "", &host, Some("no sandbox")),
            (
                Workspace,
                ProfileChoice::Agent,
                "sandbox_mode=\"read-only\"",
                &Confinement::Operator,
                Some("codex_configs decide what tools may do (sandbox_mode)"),
            ),
            // A plain chat model has nothing to read with, unless it was given something.
            (Workspace, ProfileChoice::Model, "", &host, None),
            (Workspace, ProfileChoice::Model, "features.shell_tool=true", &host, Some("no sandbox")),
            (Workspace, ProfileChoice::Model, "features.shell_tool=true", &kept, None),
        ] {
            let codex_configs = Some(overrides).filter(|text| !text.is_empty()).map(str::to_owned);
            let config = Config {
                agent_reads: reads,
                profile,
                codex_configs: codex_configs.into_iter().collect(),
                ..Config::default()
            };
            let expect = refused.map(|why| Failure::ReadsNotConfined { detail: why.to_owned() });
            assert_eq!(demand(&config, found).err(), expect, "{reads:?} {profile:?} {overrides:?} {found:?}");
        }
    }
}
