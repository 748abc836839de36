//! Broken settings while the service manager holds the sockets.
//!
//! Exiting would not help: the connection still waits, so the service would be started again until
//! it is started too often, and then the socket fails with it. So the server stays, answers 503
//! `misconfigured`, and says in the log and its status what is wrong, until a reload finds good
//! settings.

use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::api::routes;
use crate::api::seats::Connections;
use crate::api::server::{self, Backlog, Limits};
use crate::cli::exit::Exit;
use crate::config::{Config, Live, Sources};
use crate::observe::message_ids;
use crate::os::descriptors;
use crate::os::listen::Listener;
use crate::os::systemd;

use super::notifier::feed_watchdog;
use super::{Instruction, LAST_WORDS, Prepared, Signals};

/// Answers until the settings are good, then gives them; `None` if told to stop.
pub async fn wait(
    why: Exit,
    listeners: &[Listener],
    sources: &Sources,
    signals: &mut Signals,
) -> Result<Option<Prepared>, Exit> {
    let failed = |error: std::io::Error| Exit::Failure(format!("cannot serve: {error}"));
    // The service itself will need them again.
    let ours = listeners.iter().map(Listener::try_clone).collect::<Result<_, _>>().map_err(failed)?;
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    let serving = server::serve(
        ours,
        TowerToHyperService::new(warp::service(routes::misconfigured())),
        // Nobody is told more than that the settings are broken, so nobody is a stranger.
        Limits {
            live: Live::new(Config::default()),
            connections: Connections::default(),
            is_stranger: Arc::new(|_| false),
            descriptors: descriptors::limit().unwrap_or(usize::MAX),
        },
        stop.clone(),
        abort,
        Backlog::Leave,
    );
    let serving = tokio::spawn(serving.map_err(failed)?);
    // It ends with this function.
    let fed = feed_watchdog(|| {});
    systemd::ready(&told(why));
    let prepared = loop {
        match signals.next().await {
            Instruction::Stop => {
                systemd::stopping("stopping");
                break None;
            }
            Instruction::Reload => {
                systemd::reloading();
                let sources = sources.clone();
                let loaded = tokio::task::spawn_blocking(move || Prepared::new(&sources)).await;
                match loaded {
                    Ok(Ok(prepared)) => {
                        tracing::info!("the settings are good now");
                        systemd::ready("the settings are good now; looking for the Codex CLI");
                        break Some(prepared);
                    }
                    Ok(Err(why)) => systemd::ready(&told(why)),
                    Err(error) => systemd::ready(&told(Exit::Failure(error.to_string()))),
                }
            }
        }
    };
    if let Some(fed) = fed {
        fed.abort();
    }
    stop.cancel();
    // Once the settings are good it is left to itself: it only waits for clients to leave.
    if prepared.is_none() {
        let _ = tokio::time::timeout(LAST_WORDS, serving).await;
    }
    Ok(prepared)
}

/// Logs what is wrong; the same as a status line.
fn told(why: Exit) -> String {
    let text = why.into_text();
    for line in text.lines() {
        tracing::error!(target: message_ids::SETTINGS_BROKEN, "the settings are broken, answering 503: {line}");
    }
    format!("misconfigured, answering 503: {}", text.replace('\n', "; "))
}
