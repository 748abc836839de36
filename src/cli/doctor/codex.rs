//! The Codex CLI: found, new enough, logged in, isolated, confined.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::places::{self, Search};
use super::report::Finding;
use crate::api::error;
use crate::cli::exit::Exit;
use crate::cli::service::World;
use crate::codex::continuation::CHOSEN_SESSION;
use crate::codex::{Codex, Confinement, Installation, Login, Survey, Version, locate};
use crate::config::{Config, EngineKind, Isolation, Live, Profile};
use crate::engine::app_server::features::Without;
use crate::engine::app_server::{self, Features};
use crate::os::trust::{self, Doubt};
use crate::os::users::own_uid;
use crate::process::Spawner;
use crate::turn::Failure;

/// A survey of the machine, the one that the server makes, and what it takes to run a turn.
pub(super) struct Examined {
    pub runtime: tokio::runtime::Runtime,
    pub live: Live,
    pub codex: Codex,
    pub usable: Result<Arc<Installation>, Failure>,
    survey: Option<Arc<Survey>>,
}

impl Examined {
    /// Looks, with the environment that the service has.
    pub fn look(config: &Config, env: &[(OsString, OsString)]) -> Result<Examined, Exit> {
        let failed = |error: std::io::Error| Exit::Failure(format!("cannot start a runtime: {error}"));
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().map_err(failed)?;
        let live = Live::new(config.clone());
        let (codex, usable) = runtime.block_on(async {
            let spawner = Spawner::start().map_err(failed)?;
            let codex = Codex::start(live.clone(), spawner, env.to_vec());
            let usable = codex.ready().await;
            Ok::<_, Exit>((codex, usable))
        })?;
        let survey = codex.survey();
        Ok(Examined { runtime, live, codex, usable, survey })
    }

    /// Everything found, in the order in which one needs the other.
    pub fn findings(&self, config: &Config, world: &World) -> Vec<Finding> {
        let mut findings = vec![];
        let survey = self.survey.as_deref();
        let path = world.variable("PATH");
        let shell = std::env::var_os("PATH");
        let search = Search {
            service: path.map(AsRef::as_ref),
            shell: shell.as_deref(),
            home: world.sources.home.as_deref(),
        };
        let Some(program) = survey.and_then(|survey| survey.program.as_deref()) else {
            return vec![places::missing(config, &search)];
        };
        let named = locate::installed(config, path.map(AsRef::as_ref), world.sources.home.as_deref());
        let behind = survey.and_then(|survey| survey.behind.as_deref());
        findings.push(match behind {
            Some(behind) => {
                Finding::good("codex", format!("{}, which starts {}", program.display(), behind.display()))
            }
            None => found(program, named.as_deref().unwrap_or(program)),
        });
        let all = [Some(program), named.as_deref().filter(|named| *named != program), behind];
        findings.extend(all.into_iter().flatten().flat_map(doubts));
        findings.extend(places::surprises(config, &search));
        findings.extend(survey.and_then(|survey| survey.version).map(|version| age(version, config.engine)));
        if let Some(login) = survey.and_then(|survey| survey.login) {
            findings.push(self.login(login, config));
        }
        if let Ok(installation) = &self.usable {
            findings.extend(confined(installation, config));
            if config.engine.capabilities().threads {
                let examined = self.runtime.block_on(app_server::examine(self.codex.clone()));
                findings.extend(features(examined));
            }
        }
        findings.extend(self.usable.as_ref().err().and_then(unexplained));
        findings
    }

    fn login(&self, login: Login, config: &Config) -> Finding {
        let home = config.app_server_codex_home.display();
        // The one that the service uses, which the user's PATH need not have.
        let found = self.survey.as_ref().and_then(|survey| survey.program.as_ref());
        let program = found.map_or(config.codex_bin.clone(), |program| program.display().to_string());
        match login {
            Login::Codex => {
                let place = self.usable.as_ref().map_or(String::new(), |found| place(&found.home));
                Finding::good("login", format!("Codex is logged in{place}"))
            }
            Login::ApiKey => Finding::good("login", "by CODEX_API_KEY of the service's environment"),
            Login::NotNeeded => Finding::good("login", "not needed by the configured model provider"),
            Login::Missing => Finding::broken("login", "Codex is not logged in").fix(format!("{program} login")).fix(
                "logged in with another CODEX_HOME? codex-api-proxy config set login_home /that/folder",
            ),
            Login::NotPortable => Finding::broken(
                "login",
                "Codex keeps its login in a keyring, which the isolated CODEX_HOME cannot use (login_not_portable)",
            )
            .fix(format!("put cli_auth_credentials_store = \"file\" into ~/.codex/config.toml, then: {program} login"))
            .fix(format!("or log in once for the isolated home: CODEX_HOME={home} {program} login")),
        }
    }
}

/// Whether it is new enough, and what it is too old for.
fn age(version: Version, engine: EngineKind) -> Finding {
    let newer = "npm install -g @openai/codex@latest (or as you installed it)";
    let floor = |engine: EngineKind| engine.capabilities().version_floor;
    let (name, needs) = (engine.name(), floor(engine));
    if !version.serves(engine) {
        let text = format!("{version} is too old: engine = {name} needs {needs} or newer");
        return Finding::broken("version", text).fix(newer);
    }
    let mut lacks = vec![];
    if !version.serves(EngineKind::AppServer) {
        let needs = floor(EngineKind::AppServer);
        lacks.push(format!("engine = app-server (function tools, text as it is written) needs {needs}"));
    }
    if version < CHOSEN_SESSION {
        lacks.push(format!(
            "that the next turn of a conversation finds the last one in the prompt cache needs {CHOSEN_SESSION}"
        ));
    }
    let text = format!("{version} (engine = {name} needs {needs})");
    match lacks.is_empty() {
        true => Finding::good("version", text),
        false => Finding::mind("version", format!("{text}; {}", lacks.join("; "))).fix(newer),
    }
}

fn place(home: &crate::codex::Home) -> String {
    match std::fs::read_link(home.path.join("auth.json")) {
        Ok(target) => format!(", in {}", target.display()),
        Err(_) if home.has_auth => format!(", in {}", home.path.join("auth.json").display()),
        Err(_) => String::new(),
    }
}

/// Who else could change what is run.
fn doubts(program: &Path) -> Vec<Finding> {
    let doubts = match trust::program(program, own_uid()) {
        Ok(doubts) => doubts,
        Err(doubt) => vec![doubt],
    };
    let finding = |doubt: Doubt| match &doubt {
        Doubt::Writable { path, mode } => {
            let text = format!(
                "others may write to {} (mode {mode:04o}), and so run what they like as you",
                path.display()
            );
            // What everybody may change, the server does not run.
            let finding = if doubt.is_open_to_all() { Finding::broken } else { Finding::mind };
            finding("codex", text).fix(format!("chmod go-w {}", path.display()))
        }
        _ if doubt.is_open_to_all() => Finding::broken("codex", doubt.to_string())
            .fix("install it where only you can write: codex-api-proxy config set codex_bin /path/to/codex"),
        _ => Finding::mind("codex", doubt.to_string()),
    };
    doubts.into_iter().map(finding).collect()
}

fn found(program: &Path, named: &Path) -> Finding {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    let (shown, wrapper) = (program.display(), real(named));
    match () {
        () if real(program) == wrapper && wrapper.extension().is_some_and(|end| end == "js") => {
            Finding::mind(
                "codex",
                format!("{shown} is npm's Node wrapper, and the native program behind it was not found"),
            )
            .fix("npm install -g @openai/codex@latest (with optional dependencies)")
        }
        () if real(program) == wrapper => Finding::good("codex", shown.to_string()),
        () => Finding::good("codex", format!("{shown}, the native program behind {}", named.display())),
    }
}

fn confined(installation: &Installation, config: &Config) -> Vec<Finding> {
    let home = installation.home.path.display();
    let isolation = match config.isolation {
        Isolation::Strict => {
            Finding::good("isolation", format!("strict: Codex runs in {home}, with the login only"))
        }
        Isolation::Shared => {
            let text =
                format!("shared: Codex runs in {home}, with your configuration, MCP servers and skills");
            Finding::mind("isolation", text).fix("codex-api-proxy config set isolation strict")
        }
    };
    let reads = match &installation.confinement {
        // Without tools there is nothing to confine.
        _ if config.profile() == Profile::Model => {
            Finding::good("reads", "profile = model: the model has no tools of Codex's to read with")
        }
        Confinement::Workspace(_) => {
            Finding::good("reads", "workspace: tools read the working directory and system files; tried")
        }
        Confinement::Host { reason } => Finding::mind(
            "reads",
            format!("host: a prompt can have Codex read whatever you can read ({reason})"),
        )
        .fix("a chat model without tools: codex-api-proxy config set profile model"),
        Confinement::Operator => Finding::mind("reads", "decided by your codex_configs")
            .fix("remove sandbox settings from codex_configs"),
    };
    vec![isolation, reads]
}

/// What the app-server was found to carry, by starting one.
fn features(examined: Result<Features, Failure>) -> Vec<Finding> {
    let features = match examined {
        Ok(features) => features,
        Err(failure) => {
            let text = format!("the app-server did not become ready: {failure}");
            let finding = Finding::broken("features", text);
            return vec![match failure {
                Failure::CodexLacks { .. } => {
                    finding.fix("npm install -g @openai/codex@latest (or as you installed it)")
                }
                _ => finding,
            }];
        }
    };
    let carried: Vec<&str> = features.carried().map(|feature| feature.name).collect();
    let mut findings = vec![Finding::good("features", format!("{}; tried", carried.join(", ")))];
    findings.extend(features.missing().iter().map(|feature| {
        let loss = match feature.without {
            Without::Nothing => "the engine cannot work",
            Without::Functions => "requests with tools are refused",
            Without::Loss(loss) => loss,
        };
        Finding::mind("features", format!("no {} ({}): {loss}", feature.name, feature.sign()))
    }));
    findings
}

/// What has no finding of its own yet.
fn unexplained(failure: &Failure) -> Option<Finding> {
    let told = matches!(
        failure,
        Failure::CodexMissing { .. }
            | Failure::CodexRefused { .. }
            | Failure::CodexTooOld { .. }
            | Failure::NotLoggedIn { .. }
            | Failure::LoginNotPortable
    );
    if let Failure::ReadsNotConfined { detail } = failure {
        let text = format!("agent_reads = workspace cannot be kept ({detail}), so nothing is answered");
        let finding = Finding::broken("reads", text)
            .fix("a chat model without tools: codex-api-proxy config set profile model")
            .fix("or go without: codex-api-proxy config set agent_reads auto");
        return Some(finding);
    }
    let text = failure.detail().map_or_else(|| error::answer(failure).message, str::to_owned);
    (!told).then(|| Finding::broken("codex", text))
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn a_program_that_others_can_change_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let program = base.join("bin/codex");
        std::fs::create_dir(base.join("bin")).unwrap();
        std::fs::write(&program, "").unwrap();
        for (path, bits, expect) in [
            ("bin", 0o755, None),
            ("bin", 0o775, Some(Verdict::Mind)),
            ("bin", 0o777, Some(Verdict::Broken)),
            ("bin", 0o1777, None),
            ("bin/codex", 0o775, Some(Verdict::Mind)),
            ("bin/codex", 0o757, Some(Verdict::Broken)),
        ] {
            let path = base.join(path);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
            let found = doubts(&program);
            assert_eq!(found.first().map(|finding| finding.verdict), expect, "{bits:o}: {found:?}");
            assert!(found.iter().all(|finding| finding.text.contains(path.to_str().unwrap())));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn what_an_old_version_lacks_is_told() {
        let (exec, app_server) = (EngineKind::Exec, EngineKind::AppServer);
        let cache = "finds the last one in the prompt cache needs 0.160.0";
        let tools = "engine = app-server (function tools, text as it is written) needs 0.155";
        for (version, engine, verdict, parts) in [
            (
                Version(0, 139, 9),
                exec,
                Verdict::Broken,
                vec!["0.139.9 is too old: engine = exec needs 0.140 or newer"],
            ),
            (
                Version(0, 140, 0),
                exec,
                Verdict::Mind,
                vec!["0.140.0 (engine = exec needs 0.140); ", tools, cache],
            ),
            (Version(0, 154, 9), exec, Verdict::Mind, vec![tools, cache]),
            (
                Version(0, 154, 9),
                app_server,
                Verdict::Broken,
                vec!["engine = app-server needs 0.155 or newer"],
            ),
            (
                Version(0, 155, 0),
                app_server,
                Verdict::Mind,
                vec!["(engine = app-server needs 0.155); that ", cache],
            ),
            (Version(0, 159, 9), exec, Verdict::Mind, vec!["(engine = exec needs 0.140); that ", cache]),
            (Version(0, 160, 0), exec, Verdict::Good, vec!["0.160.0 (engine = exec needs 0.140)"]),
        ] {
            let finding = age(version, engine);
            assert_eq!(
                (finding.verdict, finding.fixes.is_empty()),
                (verdict, verdict == Verdict::Good),
                "{finding:?}"
            );
            assert!(parts.iter().all(|part| finding.text.contains(part)), "{}", finding.text);
        }
    }

    #[test]
    fn the_wrapper_and_what_is_behind_it_are_named() {
        let base = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = base.path().join(name);
            std::fs::write(&path, "").unwrap();
            path
        };
        let (native, wrapper, link) = (file("native"), file("codex.js"), base.path().join("codex"));
        std::os::unix::fs::symlink(&wrapper, &link).unwrap();
        for (program, named, part) in [
            (&native, &native, "native"),
            (&native, &link, "the native program behind"),
            (&link, &link, "npm's Node wrapper"),
        ] {
            let finding = found(program, named);
            assert!(finding.text.contains(part), "{}", finding.text);
        }
    }
}
