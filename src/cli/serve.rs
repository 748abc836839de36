//! `serve`: settings, log, listeners, engine, ready, serve, drain. Each step fails in its own words.

mod earlier;
mod misconfigured;
mod notifier;
mod reload;
mod signals;
mod welcome;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::events::Ending;
use crate::api::server::Backlog;
use crate::api::{App, body, gate::Rules, routes, seats, server};
use crate::codex::{Codex, args, folders};
use crate::config::{Config, Live, Loaded, Sources, load};
use crate::engine::Engine;
use crate::observe::log::{self, LogHandle};
use crate::observe::message_ids;
use crate::os::listen::{self, Listener};
use crate::os::{descriptors, memory, process, systemd};
use crate::process::Spawner;

use super::check;
use super::exit::Exit;
use super::output::warn;
use super::service::Address;
use notifier::Notifier;
use signals::{Instruction, Signals};

/// How long streams that the drain cuts have for their error event.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the last Codex processes have to be ended and reaped.
const LAST_PROCESSES: Duration = Duration::from_secs(3);

/// Serves until told to stop; a reload loads `sources` again.
pub fn run(sources: Sources) -> ExitCode {
    match serve(sources) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}

fn serve(sources: Sources) -> Result<(), Exit> {
    process::private_umask();
    let unhidden = process::keep_memory_private().err();
    // Before anything else opens a file: the descriptors are known by number.
    let inherited = listen::inherited().map_err(Exit::Failure)?;
    let unraised = descriptors::raise().err();
    let activated = !inherited.is_empty();
    let prepared = Prepared::new(&sources);
    // Without sockets of the service manager, exiting is the honest answer to broken settings. With
    // them it would be asked to start again and again, and its clients would never hear why.
    let prepared = if activated { prepared } else { Ok(prepared?) };
    let log = match &prepared {
        Ok(Prepared { loaded, .. }) => log::start(&loaded.config),
        Err(_) => log::start(&Config::default()),
    };
    let log = log.map_err(Exit::Config)?;
    if let Some(error) = unhidden {
        tracing::warn!(%error, "memory of this process, prompts and keys in it, may be dumped");
    }
    if let Some(error) = unraised {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("codex-api-proxy")
        .max_blocking_threads(64)
        // With it goes what it has freed.
        .thread_keep_alive(body::BLOCKING_KEEP_ALIVE)
        .on_thread_park(memory::on_idle)
        .build()
        .map_err(|error| Exit::Failure(format!("cannot start the runtime: {error}")))?;
    let served = runtime.block_on(async {
        let mut signals =
            Signals::new().map_err(|error| Exit::Failure(format!("cannot wait for signals: {error}")))?;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(why) => match misconfigured::wait(why, &inherited, &sources, &mut signals).await? {
                Some(prepared) => prepared,
                None => return Ok(()),
            },
        };
        let Prepared { loaded, rules } = prepared;
        let Loaded { config, warnings, .. } = loaded;
        log.set_level(&config.log_level).map_err(Exit::Config)?;
        log_warnings(&warnings, &config);
        for warning in folders::warnings(&config).into_iter().chain(rules.unmapped()) {
            tracing::warn!("{warning}");
        }
        let listeners = match activated {
            true => inherited,
            false => listen::bind(&config.host, config.port).map_err(Exit::Failure)?,
        };
        Server { sources, log, activated }.run(config, rules, listeners, signals).await
    });
    // Blocking work that hangs (a dead network file system) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Settings with which the server can run.
struct Prepared {
    loaded: Loaded,
    rules: Rules,
}

impl Prepared {
    /// Loads the settings, and sees that what they name can be had.
    fn new(sources: &Sources) -> Result<Prepared, Exit> {
        let loaded = load(sources)?;
        let config = &loaded.config;
        let rules = check::settings(config)?;
        // Not left to the first look at Codex: a request may come before it, or there is no Codex.
        std::fs::create_dir_all(&config.default_cwd).map_err(|error| {
            Exit::Failure(format!("cannot create default_cwd {}: {error}", config.default_cwd.display()))
        })?;
        Ok(Prepared { loaded, rules })
    }
}

/// Logs what is worth a word, but not who can connect: [`worries`] knows the true addresses.
fn log_warnings(warnings: &[String], config: &Config) {
    let exposure = config.exposure();
    for warning in warnings.iter().filter(|warning| Some(*warning) != exposure.as_ref()) {
        tracing::warn!("{warning}");
    }
}

/// What the operator should know of these settings: each thing said in the log, and given for the
/// status line. `exposed` is a listener that other machines reach.
fn worries(config: &Config, exposed: Option<&str>) -> Vec<String> {
    let mut worries = Vec::new();
    if let Some(listener) = exposed.filter(|_| !config.needs_key()) {
        tracing::warn!(target: message_ids::OPEN_TO_STRANGERS, "{}", open_to_strangers(listener));
        worries.push(format!("{listener} is open to other machines without a key"));
    }
    let weakened = args::weakened(&config.codex_configs);
    if !weakened.is_empty() {
        let warning = format!("codex_configs take isolation away: {}", weakened.join(", "));
        tracing::warn!("{warning}");
        worries.push(warning);
    }
    worries
}

/// Whoever can reach the port can spend the quota: said where it cannot be overlooked.
fn open_to_strangers(listener: &str) -> String {
    format!(
        "{listener} is open to other machines and no key is set: anybody who reaches it can spend your Codex \
         quota and have files read. Set api_key, or host = \"127.0.0.1\"."
    )
}

struct Server {
    sources: Sources,
    log: LogHandle,
    activated: bool,
}

impl Server {
    async fn run(
        self,
        config: Config,
        rules: Rules,
        listeners: Vec<Listener>,
        mut signals: Signals,
    ) -> Result<(), Exit> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Exit::Failure(format!("{what}: {error}"))
        };
        let addresses: Vec<String> = listeners.iter().map(Listener::to_string).collect();
        let (drain, idle_exit) = (config.drain_seconds, config.idle_exit_seconds);
        let exposed = listeners.iter().find(|listener| !listener.is_loopback()).map(Listener::to_string);
        let worries = worries(&config, exposed.as_deref());
        if let Some(listener) = exposed.as_deref().filter(|_| !config.needs_key())
            && self.log.target() != "stderr"
            && std::io::stderr().is_terminal()
        {
            warn(&[open_to_strangers(listener)]);
        }

        let unit = if self.log.target() == "journald" { systemd::unit() } else { None };
        let live = Live::new(config);
        let spawner = Spawner::start().map_err(failed("cannot start the spawner threads"))?;
        let codex = Codex::start(live.clone(), spawner, std::env::vars_os().collect());
        let engine = Engine::start(live.clone(), codex.clone());
        let app = Arc::new(App::new(live.clone(), rules, engine, codex, unit.clone()));
        let buffers = app.buffers.clone();
        tokio::spawn(async move { buffers.keep_tidy().await });
        let remembered = app.remembered.clone();
        tokio::spawn(async move { remembered.keep_short().await });

        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let serving = server::serve(
            listeners,
            TowerToHyperService::new(warp::service(routes::routes(Arc::clone(&app)))),
            limits(&app),
            stop.clone(),
            abort.clone(),
            if self.activated { Backlog::Leave } else { Backlog::Accept },
        );
        let mut serving = tokio::spawn(serving.map_err(failed("cannot serve"))?);
        for address in &addresses {
            tracing::info!("listening on {address}");
        }
        let notifier = Notifier::start(Arc::clone(&app), worries, &addresses);
        if let Some(unit) = unit {
            tokio::spawn(earlier::remember(Arc::clone(&app), unit, notifier.started()));
        }
        let reachable = addresses.iter().find_map(|address| Address::parse(address)?.reachable());
        let url = reachable.map(|address| format!("http://{address}"));
        welcome::start(Arc::clone(&app), url, self.log.target() == "stderr");

        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Instruction::Stop => break,
                    Instruction::Reload => self.reload(&app, &notifier, exposed.as_deref()).await,
                },
                () = idle(&app, idle_exit) => {
                    tracing::info!("nobody has asked for {idle_exit:?}; ending until the next connection");
                    app.events.end(Ending::Idle);
                    stop.cancel();
                    // Whoever connected in this moment is served as ever.
                    tokio::select! {
                        _ = &mut serving => {
                            notifier.stopping();
                            end_processes(&app).await;
                            return Ok(());
                        }
                        () = signals.stop() => break,
                    }
                }
                ended = &mut serving => {
                    return Err(Exit::Failure(format!("the server ended by itself: {ended:?}")));
                }
            }
        }

        let load = app.admission.load();
        let patience = match load.running {
            0 => String::new(),
            1.. => format!("; turns that run have {drain:?} to end, and a second signal (Ctrl-C) cuts them"),
        };
        tracing::info!(running = load.running, waiting = load.waiting, "stopping{patience}");
        app.admission.drain();
        app.events.end(Ending::Draining);
        notifier.stopping();
        let _extending = notifier.extend(drain + LAST_WORDS + LAST_PROCESSES);
        stop.cancel();
        if !drained(&mut serving, drain, &mut signals).await {
            app.cut.cancel();
            let _ = tokio::time::timeout(LAST_WORDS, &mut serving).await;
        }
        abort.cancel();
        end_processes(&app).await;
        Ok(())
    }
}

/// What bounds the connections. Says so where there are too few descriptors for them.
fn limits(app: &Arc<App>) -> server::Limits {
    let descriptors = match descriptors::limit() {
        Ok(descriptors) => descriptors,
        Err(error) => {
            tracing::warn!(%error, "the system does not tell how many descriptors there may be");
            usize::MAX
        }
    };
    let most = app.live.get().max_connections;
    let (tcp, _) = seats::most(&app.live.get(), descriptors);
    if tcp < most {
        tracing::warn!(
            "max_connections = {most} is more than {descriptors} descriptors allow: {tcp} connections at once, \
             the rest is kept for turns; raise LimitNOFILE of the unit (ulimit -Hn)"
        );
    }
    let rules = Arc::clone(app);
    server::Limits {
        live: app.live.clone(),
        connections: app.connections.clone(),
        is_stranger: Arc::new(move |peer| rules.rules().turns_away(peer)),
        descriptors,
    }
}

/// Waits for the last connection to end; false if something else came first. A task that has
/// ended must not be waited for again.
async fn drained(serving: &mut JoinHandle<()>, drain: Duration, signals: &mut Signals) -> bool {
    tokio::select! {
        _ = serving => true,
        () = tokio::time::sleep(drain) => {
            tracing::warn!("the drain time of {drain:?} is over; cutting what still runs");
            false
        }
        () = signals.stop() => {
            tracing::warn!("told to stop again; cutting what still runs");
            false
        }
    }
}

/// No Codex process outlives the service.
async fn end_processes(app: &App) {
    app.cut.cancel();
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
