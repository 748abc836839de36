//! The settings loaded again, while everything runs on. What is broken changes nothing.

use crate::api::App;
use crate::config::schema::Restart;
use crate::config::{Config, SETTINGS};
use crate::observe::message_ids;

use super::notifier::Notifier;
use super::{Prepared, Server, log_warnings, worries};
use crate::cli::exit::Exit;

impl Server {
    /// Loads the settings again and puts in force what can change. `exposed` is a listener that other
    /// machines reach.
    pub(super) async fn reload(&self, app: &App, notifier: &Notifier, exposed: Option<&str>) {
        notifier.reloading();
        let sources = self.sources.clone();
        let prepared = tokio::task::spawn_blocking(move || Prepared::new(&sources).map_err(Exit::into_text));
        let prepared = prepared.await.unwrap_or_else(|error| Err(format!("loading the settings: {error}")));
        let Prepared { loaded, rules } = match prepared {
            Ok(prepared) => prepared,
            Err(errors) => {
                for error in errors.lines() {
                    tracing::error!(target: message_ids::SETTINGS_BROKEN, "settings not reloaded: {error}");
                }
                let note = "running on the old settings: the new ones are broken, see the log";
                tracing::warn!("{note}");
                return notifier.reloaded(None, Some(note.to_owned()));
            }
        };
        log_warnings(&loaded.warnings, &loaded.config);
        let (config, kept) = keep_fixed(loaded.config, &app.live.get(), self.activated);
        let worries = worries(&config, exposed);
        if let Err(error) = self.log.set_level(&config.log_level) {
            tracing::error!("log_level not changed: {error}");
        }
        app.reload(config, rules);
        if kept.is_empty() {
            tracing::info!("settings reloaded");
            return notifier.reloaded(Some(worries), None);
        }
        let note = format!("settings reloaded; a restart is needed for {}", kept.join(", "));
        tracing::warn!("{note}");
        notifier.reloaded(Some(worries), Some(note));
    }
}

/// The new settings with what only a restart can change left as it is, and the names of that.
fn keep_fixed(mut new: Config, old: &Config, activated: bool) -> (Config, Vec<&'static str>) {
    let mut kept = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| setting.restart != Restart::Never) {
        // Sockets of the service manager are its own business.
        let counts = !(activated && setting.restart == Restart::WithOwnSockets);
        if counts && new.value(setting.key) != old.value(setting.key) {
            kept.push(setting.key);
        }
        new.copy(setting.key, old);
    }
    (new, kept)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::choices::{EngineKind, LogFormat, LogTarget};

    #[test]
    fn what_only_a_restart_can_change_stays_and_is_named() {
        let old = Config::default();
        let new = Config {
            host: "::1".into(),
            port: 1,
            engine: EngineKind::AppServer,
            log_target: LogTarget::Stderr,
            log_format: LogFormat::Json,
            drain_seconds: Duration::from_secs(1),
            idle_exit_seconds: Duration::from_secs(2),
            max_queue_size: 3,
            model: Some("another".into()),
            ..Config::default()
        };
        let fixed =
            ["host", "port", "idle_exit_seconds", "drain_seconds", "engine", "log_target", "log_format"];
        for (activated, named) in [(false, &fixed[..]), (true, &fixed[2..])] {
            let (config, kept) = keep_fixed(new.clone(), &old, activated);
            assert_eq!(kept, named);
            for setting in SETTINGS {
                let from = if fixed.contains(&setting.key) { &old } else { &new };
                assert_eq!(config.value(setting.key), from.value(setting.key), "{}", setting.key);
            }
            assert_eq!((config.slots(), config.profile()), (old.slots(), old.profile()), "of the old engine");
        }
        assert_eq!(keep_fixed(old.clone(), &old, false).1, [""; 0]);
    }
}
