//! Where workers come from.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::codex::{Codex, Installation, args, folders};
use crate::engine::app_server::features::Features;
use crate::engine::app_server::worker::Worker;
use crate::engine::app_server::{Link, Timing};
use crate::engine::not_started;
use crate::engine::plan::{Asking, Plan};
use crate::turn::Failure;

pub(super) type Promise<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// Where workers come from. Functions rather than a `Codex`, so that tests need no process.
pub(super) struct Source {
    /// The CLI to use now, or why there is none.
    pub(super) installation: Box<dyn Fn() -> Promise<Arc<Installation>> + Send + Sync>,
    /// Starts a process of it.
    pub(super) launch: Box<dyn Fn(Arc<Installation>) -> Promise<Link> + Send + Sync>,
    /// The latest usable CLI; another one than a worker's means the worker is out of date.
    pub(super) latest: watch::Receiver<Option<Arc<Installation>>>,
    /// Why the login of any worker is none any more, if so.
    pub(super) logged_out: watch::Receiver<Option<Failure>>,
    /// Asks for a fresh look at the CLI.
    pub(super) look_again: Box<dyn Fn() + Send + Sync>,
}

impl Source {
    /// The processes of the CLI on this machine.
    pub(super) fn of(codex: Codex) -> Source {
        let (tell, latest) = watch::channel(None);
        let (tell_login, logged_out) = watch::channel(None);
        let mut surveys = codex.surveys();
        tokio::spawn(async move {
            while surveys.changed().await.is_ok() {
                let survey = surveys.borrow_and_update().clone();
                let Some(survey) = survey else { continue };
                let told = match survey.usable.clone() {
                    Ok(usable) => {
                        tell_login.send_replace(None);
                        tell.send(Some(usable)).is_ok()
                    }
                    Err(failure) if is_about_login(&failure) => tell_login.send(Some(failure)).is_ok(),
                    Err(_) => true,
                };
                if !told {
                    return;
                }
            }
        });
        let (ready, again) = (codex.clone(), codex.clone());
        Source {
            installation: Box::new(move || {
                let codex = ready.clone();
                Box::pin(async move { codex.ready().await })
            }),
            launch: Box::new(move |installation| {
                let codex = codex.clone();
                Box::pin(async move { launch(&codex, &installation).await })
            }),
            latest,
            logged_out,
            look_again: Box::new(move || again.look_again()),
        }
    }

    /// Starts a worker.
    ///
    /// # Errors
    /// Why it did not become ready; its process is gone then.
    pub(super) async fn start(&self, timing: Timing, plan: Plan) -> Result<Arc<Worker>, Failure> {
        let installation = (self.installation)().await?;
        let link = (self.launch)(Arc::clone(&installation)).await.inspect_err(|_| (self.look_again)())?;
        let config = Arc::clone(&installation.config);
        match Worker::start(link, installation, timing, plan).await {
            Ok(started) => Ok(started),
            Err(failure) => Err(folders::cause(&config, failure).await),
        }
    }
}

/// A fresh app-server of that CLI.
async fn launch(codex: &Codex, installation: &Installation) -> Result<Link, Failure> {
    let line = args::app_server(
        &installation.config,
        installation.version,
        installation.catalog.as_deref(),
        &installation.confinement,
    );
    let cwd = installation.config.default_cwd.clone();
    let (command, databases) = codex.command(installation, line, cwd, true).await?;
    let link = async {
        let mut child = codex.spawner().spawn(command).await?;
        match (child.stdout.take(), child.stdin.take()) {
            (Some(stdout), Some(stdin)) => {
                let input = Some(stdin.as_fd().try_clone_to_owned()?);
                let (reader, writer) = (Box::new(stdout), Box::new(stdin));
                Ok(Link { reader, writer, child: Some(child), input, databases })
            }
            _ => Err(io::Error::other("the codex process has no pipes")),
        }
    };
    link.await.map_err(|error| not_started(installation, &error))
}

/// Whether it says that there is no login that a worker could use.
pub(super) fn is_about_login(failure: &Failure) -> bool {
    matches!(failure, Failure::NotLoggedIn { .. } | Failure::LoginNotPortable)
}

/// Starts a worker of the CLI on this machine, sees what it carries, and ends it.
///
/// # Errors
/// Why it did not become ready.
pub async fn examine(codex: Codex) -> Result<Features, Failure> {
    let worker = Source::of(codex).start(Timing::default(), Plan::default()).await?;
    worker.fail(Failure::Draining);
    drop(worker.wait_exited().await);
    Ok(worker.features().cloned().unwrap_or_default())
}

/// Asks a worker what the account has left.
pub(super) async fn ask(worker: &Worker, asking: &Asking) {
    match worker.rate_limits().await {
        Ok(Some(limits)) => asking.told(limits),
        Ok(None) => asking.none(),
        Err(error) => tracing::info!("what the plan has left could not be asked: {error}"),
    }
}

/// The same of a worker that is there for nothing else, and gone when this ends. `closing` cuts it short.
pub(in crate::engine) async fn ask_plan(
    codex: Codex,
    installation: Arc<Installation>,
    asking: Asking,
    closing: CancellationToken,
) {
    let started = async {
        let link = launch(&codex, &installation).await?;
        Worker::start(link, Arc::clone(&installation), Timing::default(), Plan::default()).await
    };
    match started.await {
        Ok(worker) => {
            tokio::select! {
                () = ask(&worker, &asking) => {}
                () = closing.cancelled() => {}
            }
            worker.fail(Failure::Draining);
            drop(worker.wait_exited().await);
        }
        Err(failure) => tracing::info!("what the plan has left could not be asked: {failure}"),
    }
}
