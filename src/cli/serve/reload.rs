//! The settings loaded again, while everything runs on. What is broken changes nothing.

use crate::api::App;
use crate::config::Config;
use crate::observe::catalog;

use super::service::Service;
use super::{Prepared, Server, warn_of_weakening};
use crate::cli::Exit;

impl Server {
    /// Loads the settings again and puts in force what can change.
    pub(super) async fn reload(&self, app: &App, service: &Service) {
        service.reloading();
        let sources = self.sources.clone();
        let prepared = tokio::task::spawn_blocking(move || Prepared::new(&sources).map_err(Exit::into_text));
        let prepared = prepared.await.unwrap_or_else(|error| Err(format!("loading the settings: {error}")));
        let outcome = match prepared {
            Err(errors) => {
                for error in errors.lines() {
                    tracing::error!(target: catalog::SETTINGS_BROKEN, "settings not reloaded: {error}");
                }
                Some("running on the old settings: the new ones are broken, see the log".to_owned())
            }
            Ok(Prepared { loaded, rules }) => {
                loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                warn_of_weakening(&loaded.config);
                let (config, kept) = keep_fixed(loaded.config, &app.live.get(), self.activated);
                if let Err(error) = self.log.set_level(&config.log_level) {
                    tracing::error!("log_level not changed: {error}");
                }
                app.reload(config, rules);
                (!kept.is_empty())
                    .then(|| format!("settings reloaded; a restart is needed for {}", kept.join(", ")))
            }
        };
        match &outcome {
            None => tracing::info!("settings reloaded"),
            Some(note) => tracing::warn!("{note}"),
        }
        service.reloaded(outcome);
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
