//! `serve`: settings, log, listeners, engine, ready, serve, drain. Each step fails in its own words.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::{App, gate::Rules, routes, server};
use crate::codex::{Codex, args};
use crate::config::{Config, EngineKind, Live, Loaded, Sources, load};
use crate::engine::{Engine, app_server, exec};
use crate::observe::log::{self, LogHandle};
use crate::os::listen::{self, Listener};
use crate::os::{process, systemd};
use crate::process::Spawner;

use super::Exit;

/// How long streams that the drain cuts have for their error event.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the last Codex processes have to be ended and reaped.
const LAST_PROCESSES: Duration = Duration::from_secs(3);

/// Serves until told to stop; `sources` are loaded again by a reload.
pub fn run(loaded: Loaded, sources: Sources) -> ExitCode {
    match serve(loaded, sources) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}

fn serve(loaded: Loaded, sources: Sources) -> Result<(), Exit> {
    process::private_umask();
    // Before anything else opens a file: the descriptors are known by number.
    let inherited = listen::inherited().map_err(Exit::Failure)?;
    let config = loaded.config;
    let rules = Rules::new(&config).map_err(Exit::Config)?;
    let log = log::start(&config).map_err(Exit::Config)?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    create_workspace(&config).map_err(Exit::Failure)?;
    let (listeners, activated) = match inherited {
        none if none.is_empty() => (listen::bind(&config.host, config.port).map_err(Exit::Failure)?, false),
        some => (some, true),
    };
    warn_of_strangers(&config, &listeners, log.target());

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("codex-api-proxy")
        .max_blocking_threads(64)
        .build()
        .map_err(|error| Exit::Failure(format!("cannot start the runtime: {error}")))?;
    let served = runtime.block_on(Server { sources, log, activated }.run(config, rules, listeners));
    // Blocking work that hangs (a dead network file system) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Not left to the first look at Codex: a request may come before it, or there is no Codex.
fn create_workspace(config: &Config) -> Result<(), String> {
    std::fs::create_dir_all(&config.default_cwd)
        .map_err(|error| format!("cannot create default_cwd {}: {error}", config.default_cwd.display()))
}

/// Names the operator's overrides that take isolation away.
fn warn_of_weakening(config: &Config) {
    let weakened = args::weakened(&config.codex_configs);
    if !weakened.is_empty() {
        tracing::warn!("codex_configs take isolation away: {}", weakened.join(", "));
    }
}

/// Whoever can reach the port can spend the quota: said where it cannot be overlooked.
fn warn_of_strangers(config: &Config, listeners: &[Listener], log_target: &str) {
    let strangers = listeners.iter().find(|listener| !listener.is_loopback());
    if let Some(listener) = strangers.filter(|_| !config.needs_key()) {
        let warning = format!(
            "{listener} is open to other machines and no key is set: anybody who reaches it can spend your Codex \
             quota and have files read. Set api_key, or host = \"127.0.0.1\"."
        );
        tracing::warn!("{warning}");
        if log_target != "stderr" {
            super::warn(&[warning]);
        }
    }
}

struct Server {
    sources: Sources,
    log: LogHandle,
    activated: bool,
}

impl Server {
    async fn run(self, config: Config, rules: Rules, listeners: Vec<Listener>) -> Result<(), Exit> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Exit::Failure(format!("{what}: {error}"))
        };
        let mut signals = Signals::new().map_err(failed("cannot wait for signals"))?;
        let addresses: Vec<String> = listeners.iter().map(Listener::to_string).collect();
        let (drain, idle_exit) = (config.drain_seconds, config.idle_exit_seconds);
        warn_of_weakening(&config);

        let live = Live::new(config);
        let spawner = Spawner::start().map_err(failed("cannot start the spawner threads"))?;
        let codex = Codex::start(live.clone(), spawner, std::env::vars_os().collect());
        let engine = match live.get().engine {
            EngineKind::Exec => Engine::Exec(exec::Exec::start(live.clone(), codex.clone())),
            EngineKind::AppServer => Engine::AppServer(app_server::Pool::start(live.clone(), codex.clone())),
        };
        let app = Arc::new(App::new(live.clone(), rules, engine, codex));

        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let service = TowerToHyperService::new(warp::service(routes::routes(Arc::clone(&app))));
        let serving =
            server::serve(listeners, service, live, app.connections.clone(), stop.clone(), abort.clone());
        let mut serving = tokio::spawn(serving.map_err(failed("cannot serve"))?);
        for address in &addresses {
            tracing::info!("listening on {address}");
        }
        systemd::ready(&format!("listening on {}", addresses.join(", ")));

        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Asked::Stop => break,
                    Asked::Reload => self.reload(&app).await,
                },
                () = idle(&app, idle_exit) => {
                    tracing::info!("nobody has asked for {idle_exit:?}; ending until the next connection");
                    break;
                }
                ended = &mut serving => {
                    return Err(Exit::Failure(format!("the server ended by itself: {ended:?}")));
                }
            }
        }

        let load = app.admission.load();
        tracing::info!(running = load.running, waiting = load.waiting, "stopping");
        systemd::stopping("waiting for the running turns");
        app.admission.drain();
        stop.cancel();
        let drained = tokio::select! {
            _ = &mut serving => true,
            () = tokio::time::sleep(drain) => {
                tracing::warn!("the drain time of {drain:?} is over; cutting what still runs");
                false
            }
            () = signals.stop() => {
                tracing::warn!("told to stop again; cutting what still runs");
                false
            }
        };
        app.cut.cancel();
        // A task that has ended must not be waited for again.
        if !drained {
            let _ = tokio::time::timeout(LAST_WORDS, &mut serving).await;
        }
        abort.cancel();
        let reaped = async {
            app.engine.shutdown().await;
            while app.admission.load().running > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(LAST_PROCESSES, reaped).await.is_err() {
            tracing::warn!("a codex process did not end in time; the kernel ends it with this one");
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Loads the settings again. What is broken changes nothing.
    async fn reload(&self, app: &App) {
        systemd::reloading();
        let sources = self.sources.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let loaded = load(&sources).map_err(|errors| errors.to_string())?;
            let rules = Rules::new(&loaded.config)?;
            create_workspace(&loaded.config)?;
            Ok::<_, String>((loaded, rules))
        });
        let result = match loaded.await {
            Ok(result) => result,
            Err(error) => Err(format!("loading the settings: {error}")),
        };
        let status = match result {
            Err(errors) => {
                for error in errors.lines() {
                    tracing::error!("settings not reloaded: {error}");
                }
                "running on the old settings: the new ones are broken, see the log".to_owned()
            }
            Ok((loaded, rules)) => {
                loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                let (config, kept) = keep_fixed(loaded.config, &app.live.get(), self.activated);
                warn_of_weakening(&config);
                if let Err(error) = self.log.set_level(&config.log_level) {
                    tracing::error!("log_level not changed: {error}");
                }
                app.reload(config, rules);
                match kept.as_slice() {
                    [] => "settings reloaded".to_owned(),
                    kept => format!("settings reloaded; a restart is needed for {}", kept.join(", ")),
                }
            }
        };
        tracing::info!("{status}");
        systemd::ready(&status);
    }
}

/// The new settings with what only a restart can change left as it is, and the names of that.
fn keep_fixed(new: Config, old: &Config, activated: bool) -> (Config, Vec<&'static str>) {
    let mut kept = Vec::new();
    let mut note = |name, changed: bool| {
        if changed {
            kept.push(name);
        }
    };
    // Sockets of the service manager are its own business.
    note("host", !activated && new.host != old.host);
    note("port", !activated && new.port != old.port);
    note("engine", new.engine != old.engine);
    note("log_target", new.log_target != old.log_target);
    note("log_format", new.log_format != old.log_format);
    note("drain_seconds", new.drain_seconds != old.drain_seconds);
    note("idle_exit_seconds", new.idle_exit_seconds != old.idle_exit_seconds);
    let config = Config {
        host: old.host.clone(),
        port: old.port,
        engine: old.engine,
        log_target: old.log_target,
        log_format: old.log_format,
        drain_seconds: old.drain_seconds,
        idle_exit_seconds: old.idle_exit_seconds,
        ..new
    };
    (config, kept)
}

/// Resolves when nobody has been connected for so long; never if that is switched off.
async fn idle(app: &App, after: Duration) {
    if after.is_zero() {
        return std::future::pending().await;
    }
    loop {
        app.connections.idle_for(after).await;
        if app.admission.load().running == 0 {
            return;
        }
        tokio::time::sleep(after).await;
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits to be told to stop; reloading is over by then.
    async fn stop(&mut self) {
        while let Asked::Reload = self.next().await {}
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}
