//! The installed Codex CLI: where it is, what it can do, whose login it uses, how it is confined.
//!
//! A [`Codex`] surveys the machine in the background at start, and again when the settings, the
//! program or the login change, or when somebody asks after a failure. Engines take the latest
//! [`Installation`]; status pages take the whole [`Survey`].

pub mod args;
mod auth_file;
pub mod catalog;
mod cli;
mod confine;
pub mod continuation;
mod databases;
pub mod environment;
pub mod errors;
pub mod folders;
mod hidden;
pub mod home;
pub mod locate;
pub mod places;
pub mod rollout;
pub mod surroundings;
mod survey;
pub mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::config::{Config, Live};
use crate::process::{Command, Spawner};
use crate::turn::Failure;

pub use args::Confinement;
pub use auth_file::AuthFile;
pub use catalog::Functions;
pub use cli::ListedModel;
pub use continuation::Continuation;
pub use databases::Databases;
pub use home::Home;
pub use version::Version;

/// How long a failed survey is believed before a request has it repeated.
const FAILURE_LASTS: Duration = Duration::from_secs(1);

/// How long a good survey is believed before its files are looked at again, in the background.
const SUCCESS_LASTS: Duration = Duration::from_secs(2);

/// How Codex authenticates itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// By its own login (`codex login`).
    Codex,
    /// By `CODEX_API_KEY` of our environment.
    ApiKey,
    /// The configured model provider needs none of Codex's logins.
    NotNeeded,
    /// Not at all.
    Missing,
    /// By a login in a keyring that the isolated home cannot use.
    NotPortable,
}

impl Login {
    /// A word for status pages.
    pub fn name(self) -> &'static str {
        match self {
            Login::Codex => "codex",
            Login::ApiKey => "api_key",
            Login::NotNeeded => "not_needed",
            Login::Missing => "missing",
            Login::NotPortable => "not_portable",
        }
    }
}

/// A Codex CLI that can be run, and how.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The native program.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its `CODEX_HOME`.
    pub home: Home,
    /// How it authenticates.
    pub login: Login,
    /// Where its login is, if it has one of its own.
    pub auth: AuthFile,
    /// How its tools' reads are confined.
    pub confinement: Confinement,
    /// The lean model catalog, if `profile = model` and one could be built.
    pub catalog: Option<PathBuf>,
    /// Which models can be given the caller's functions.
    pub functions: Functions,
    /// Whether conversations are continued.
    pub continuation: Continuation,
    /// Set once it turned out that this CLI does not take a session of ours after all.
    pub(crate) refused: Arc<OnceLock<()>>,
    /// Its whole environment.
    pub env: Arc<[(OsString, OsString)]>,
    /// The settings this was made for.
    pub config: Arc<Config>,
}

impl Installation {
    /// What it means that the upstream refused the credentials of a process of it: they may be others by now.
    pub async fn why_refused(&self, failure: Failure) -> Failure {
        let Failure::UpstreamAuth { bin: _, detail, said } = failure else { return failure };
        let auth = self.auth.clone();
        match survey::off_runtime(move || auth.has_changed()).await {
            Ok(true) => Failure::LoginChanged,
            Ok(false) | Err(_) => Failure::UpstreamAuth { bin: self.config.codex_bin.clone(), detail, said },
        }
    }

    /// Whether conversations are continued, as far as is known by now.
    pub fn continuation(&self) -> Continuation {
        match (&self.continuation, self.refused.get()) {
            (Continuation::Full(_), Some(())) => Continuation::limited(
                self.config.engine,
                "this Codex CLI does not take a session id of ours".into(),
            ),
            (continuation, _) => continuation.clone(),
        }
    }
}

/// What a look at the machine found, usable or not.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The program, if there is one.
    pub program: Option<PathBuf>,
    /// What that program starts or becomes, where it is a wrapper and that had to be found out.
    pub behind: Option<PathBuf>,
    /// Its version, if it told.
    pub version: Option<Version>,
    /// How it authenticates, if that was found out.
    pub login: Option<Login>,
    /// How reads are confined, if that was found out and will do.
    pub confinement: Option<Confinement>,
    /// Whether conversations are continued, if that was found out.
    continuation: Option<Continuation>,
    /// The models the CLI lists.
    models: Vec<ListedModel>,
    /// What engines may use, or why nothing.
    pub usable: Result<Arc<Installation>, Failure>,
    /// The folders of `PATH` that are neither searched for the program nor given to it.
    dropped: Vec<PathBuf>,
    config: Arc<Config>,
    files: survey::Files,
    at: Instant,
}

impl Survey {
    /// The models the CLI lists, in its order.
    pub fn models(&self) -> &[ListedModel] {
        &self.models
    }

    /// Whether conversations are continued, if that was found out.
    pub fn continuation(&self) -> Option<Continuation> {
        match &self.usable {
            Ok(installation) => Some(installation.continuation()),
            Err(_) => self.continuation.clone(),
        }
    }
}

/// The CLI of this machine, surveyed in the background.
#[derive(Clone, Debug)]
pub struct Codex {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    live: Live,
    spawner: Spawner,
    inherited: Vec<(OsString, OsString)>,
    latest: watch::Sender<Option<Arc<Survey>>>,
    look_again: Notify,
    databases: databases::Common,
    /// Something that no file tells has changed: the next look is a whole survey.
    doubted: AtomicBool,
}

impl Codex {
    /// Starts the first survey. `inherited` is our own environment.
    pub fn start(live: Live, spawner: Spawner, inherited: Vec<(OsString, OsString)>) -> Codex {
        let shared = Arc::new(Shared {
            live,
            spawner,
            inherited,
            latest: watch::Sender::new(None),
            look_again: Notify::new(),
            databases: databases::Common::default(),
            doubted: AtomicBool::new(false),
        });
        tokio::spawn(keep_surveying(Arc::downgrade(&shared)));
        Codex { shared }
    }

    /// The usable CLI, waiting for a survey of the present settings where needed.
    ///
    /// # Errors
    /// Why there is none. A failure is looked into again when it is older than a second, so that
    /// installing or logging in needs no restart.
    pub async fn ready(&self) -> Result<Arc<Installation>, Failure> {
        let mut latest = self.shared.latest.subscribe();
        loop {
            let survey = latest.borrow_and_update().clone();
            if let Some(survey) = survey
                && Arc::ptr_eq(&survey.config, &self.shared.live.get())
            {
                let age = survey.at.elapsed();
                if survey.usable.is_ok() {
                    if age > SUCCESS_LASTS {
                        self.look_again();
                    }
                    return survey.usable.clone();
                }
                if age < FAILURE_LASTS {
                    return survey.usable.clone();
                }
            }
            self.look_again();
            if latest.changed().await.is_err() {
                return Err(Failure::Internal { detail: "the survey of the Codex CLI has ended".into() });
            }
        }
    }

    /// What is known now; `None` while the first survey runs.
    pub fn survey(&self) -> Option<Arc<Survey>> {
        self.shared.latest.borrow().clone()
    }

    /// Tells of each new survey (also when nothing changed in it).
    pub fn surveys(&self) -> watch::Receiver<Option<Arc<Survey>>> {
        self.shared.latest.subscribe()
    }

    /// Whether there is a program that may be run, asking the disk while no survey can tell.
    pub async fn available(&self) -> bool {
        match self.survey() {
            Some(survey) => {
                survey.program.is_some() && !matches!(survey.usable, Err(Failure::CodexRefused { .. }))
            }
            None => survey::is_installed(&self.shared.live.get(), &self.shared.inherited).await,
        }
    }

    /// Asks for another look at a machine that was not usable, unless the last is fresh: status
    /// pages may be asked by anybody, as often as they like.
    pub fn look_again_if_stale(&self) {
        let stale = |survey: Arc<Survey>| survey.usable.is_err() && survey.at.elapsed() > FAILURE_LASTS;
        if self.survey().is_some_and(stale) {
            self.look_again();
        }
    }

    /// Asks for a look at the machine; returns at once.
    pub fn look_again(&self) {
        self.shared.look_again.notify_one();
    }

    /// Asks for a whole survey, though no file that one depends on has changed; returns at once.
    pub fn doubt(&self) {
        self.shared.doubted.store(true, Ordering::Relaxed);
        self.look_again();
    }

    /// A command of that CLI for one turn, or for many if the process `lasts`; and the databases that
    /// it has for itself then.
    ///
    /// # Errors
    /// [`Failure::StateRefused`] or [`Failure::StateNotWritable`] for a state folder that does not take
    /// its databases.
    pub async fn command(
        &self,
        installation: &Installation,
        args: Vec<OsString>,
        cwd: PathBuf,
        lasts: bool,
    ) -> Result<(Command, Option<Arc<Databases>>), Failure> {
        let (shared, config) = (Arc::clone(&self.shared), Arc::clone(&installation.config));
        let databases =
            survey::off_runtime(move || databases::for_process(&config, &shared.databases, lasts));
        let databases = databases.await??;
        let env = match &databases {
            Some(databases) => installation.env.iter().cloned().chain([databases.variable()]).collect(),
            None => Arc::clone(&installation.env),
        };
        let uses = databases.clone().map(|databases| databases as _);
        let command = Command { program: installation.program.clone(), args, env, cwd, held: None, uses };
        Ok((command, databases))
    }

    /// Who starts processes.
    pub fn spawner(&self) -> &Spawner {
        &self.shared.spawner
    }
}

/// Surveys whenever asked, until nobody is left to ask.
async fn keep_surveying(shared: std::sync::Weak<Shared>) {
    loop {
        let Some(now) = shared.upgrade() else { return };
        let config = now.live.get();
        let before = now.latest.borrow().clone();
        let doubted = now.doubted.swap(false, Ordering::Relaxed);
        let unchanged = match &before {
            Some(before) if !doubted && before.usable.is_ok() && Arc::ptr_eq(&before.config, &config) => {
                survey::Files::look(&config, &now.inherited).await == before.files
            }
            _ => false,
        };
        if unchanged {
            // Believed for another while.
            now.latest.send_modify(|latest| {
                if let Some(survey) = latest {
                    Arc::make_mut(survey).at = Instant::now();
                }
            });
        } else {
            let survey = survey::take(&config, &now.spawner, &now.inherited).await;
            survey::announce(&survey, before.as_deref());
            now.latest.send_replace(Some(Arc::new(survey)));
        }
        drop(now);
        loop {
            // The asker holds the shared part; without askers there is nobody to wait for.
            let Some(waiting) = shared.upgrade() else { return };
            if tokio::time::timeout(Duration::from_secs(60), waiting.look_again.notified()).await.is_ok() {
                break;
            }
        }
    }
}
