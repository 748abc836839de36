//! The journal: a native field for each value, `CODEX_` in front.
//!
//! The layer of tracing-journald sends from whichever thread logs, and a journal that stalls would
//! stop the whole server. So events are kept as they were told, and told to that layer again by a
//! thread of their own.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::io;

use tracing::dispatcher::{Dispatch, with_default};
use tracing::field::{DisplayValue, Field, Value, Visit, display};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::observe::message_ids;
use crate::observe::queue::{Queue, Sink};

/// Hands each event to the thread that tells the journal.
pub(super) struct Journal(Queue<Told>);

impl Journal {
    /// Connects to the journal and starts the thread; gives its queue, too.
    ///
    /// # Errors
    /// There is no journal, or no further thread.
    pub(super) fn start() -> io::Result<(Journal, Queue<Told>)> {
        let queue = Queue::start(Teller::connect()?)?;
        Ok((Journal(queue.clone()), queue))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.put(Told::from(event));
    }
}

/// Sends one line at once, from a process that may be gone in a moment. Tells whether the journal
/// has it, and will know whose it is.
pub(super) fn send(level: Level, target: &str, line: &str) -> bool {
    if user_unit().is_none() {
        return false;
    }
    let Ok(layer) = layer(message_ids::message_id(target)) else { return false };
    with_default(&Dispatch::new(tracing_subscriber::registry().with(layer)), || match level {
        Level::ERROR => tracing::error!("{line}"),
        Level::WARN => tracing::warn!("{line}"),
        _ => tracing::info!("{line}"),
    });
    true
}

/// An event, as long as it takes to tell it.
#[derive(Debug)]
pub(super) struct Told {
    metadata: &'static Metadata<'static>,
    /// One for each field of the metadata.
    values: Vec<Option<Owned>>,
}

/// A value of a field. The journal knows texts only.
#[derive(Debug)]
struct Owned(DisplayValue<String>);

impl Told {
    fn from(event: &Event<'_>) -> Told {
        let metadata = event.metadata();
        let mut told = Told { metadata, values: Vec::new() };
        told.values.resize_with(metadata.fields().len(), || None);
        event.record(&mut told);
        told
    }

    fn keep(&mut self, field: &Field, value: impl Display) {
        if let Some(place) = self.values.get_mut(field.index()) {
            *place = Some(Owned(display(value.to_string())));
        }
    }

    /// Tells it again.
    fn tell(&self, to: &Dispatch) {
        let values: Vec<Option<&dyn Value>> =
            self.values.iter().map(|value| value.as_ref().map(|Owned(text)| text as &dyn Value)).collect();
        let values = self.metadata.fields().value_set_all(&values);
        to.event(&Event::new(self.metadata, &values));
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.keep(field, format_args!("{value:?}"));
    }
}

/// Tells the journal.
struct Teller {
    /// One for each `MESSAGE_ID` that was needed, and one without: the layer puts the prefix before all
    /// fields but those which are the same in every line.
    connections: HashMap<Option<&'static str>, Dispatch>,
}

impl Teller {
    fn connect() -> io::Result<Teller> {
        Ok(Teller { connections: HashMap::from([(None, connection(None)?)]) })
    }

    /// Where an event with that target is told.
    fn connection(&mut self, target: &str) -> Option<&Dispatch> {
        let id = message_ids::message_id(target);
        if !self.connections.contains_key(&id)
            && let Ok(new) = connection(id)
        {
            self.connections.insert(id, new);
        }
        // Rather without its explanation than not at all.
        self.connections.get(&id).or_else(|| self.connections.get(&None))
    }
}

impl Sink for Teller {
    type Line = Told;

    fn take(&mut self, line: Told) {
        if let Some(connection) = self.connection(line.metadata.target()) {
            line.tell(connection);
        }
    }
}

/// Where lines are told that all carry that `MESSAGE_ID`.
fn connection(message_id: Option<&'static str>) -> io::Result<Dispatch> {
    // Lines come here past all filters. By themselves these connections want none, or tracing would
    // take the most talkative level of all libraries for wanted.
    Ok(Dispatch::new(tracing_subscriber::registry().with(layer(message_id)?).with(LevelFilter::OFF)))
}

fn layer(message_id: Option<&'static str>) -> io::Result<tracing_journald::Layer> {
    // The journal looks for itself which unit sent a line, but cannot if the process has ended by
    // then. By this field it finds what systemd says about a unit.
    let unit = user_unit().map(|unit| ("USER_UNIT", unit));
    let id = message_id.map(|id| ("MESSAGE_ID", id.to_owned()));
    let layer = tracing_journald::layer()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(error.kind(), "there is no journal on this system"),
            _ => error,
        })?
        .with_field_prefix(Some("CODEX".to_owned()))
        .with_syslog_identifier("codex-api-proxy".to_owned())
        .with_custom_fields(unit.into_iter().chain(id))
        // The crate's own mapping makes every info line a "notice", above syslog's "info".
        .with_priority_mappings(PriorityMappings {
            error: Priority::Error,
            warn: Priority::Warning,
            info: Priority::Informational,
            debug: Priority::Debug,
            trace: Priority::Debug,
        });
    Ok(layer)
}

/// The unit that this process belongs to, if a user's own manager started it.
fn user_unit() -> Option<String> {
    user_unit_of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// From `/proc/PID/cgroup`, see cgroups(7): `0::/user.slice/user-1000.slice/user@1000.service/…/NAME.service`.
fn user_unit_of(cgroups: &str) -> Option<String> {
    let paths = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        // The one hierarchy, or the one that systemd keeps beside those of the first version.
        matches!(parts.next()?, "" | "name=systemd").then(|| parts.next())?
    });
    let units = paths.filter_map(|path| {
        let (_, below) = path.split_once("/user@")?;
        below.split('/').skip(1).find(|name| name.ends_with(".service"))
    });
    units.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps the texts of each event that is told.
    struct Kept(Arc<Mutex<Vec<Vec<String>>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = vec![format!("{} {}", event.metadata().level(), event.metadata().target())];
            event.record(&mut |field: &Field, value: &dyn Debug| {
                fields.push(format!("{}={value:?}", field.name()))
            });
            self.0.lock().unwrap().push(fields);
        }
    }

    /// Tells everything on, in the queue's thread.
    struct Again(Dispatch);

    impl Sink for Again {
        type Line = Told;

        fn take(&mut self, line: Told) {
            line.tell(&self.0);
        }
    }

    #[test]
    fn events_are_told_again_as_they_were() {
        let kept = Arc::new(Mutex::new(vec![]));
        let again = tracing_subscriber::registry().with(Kept(Arc::clone(&kept))).with(LevelFilter::OFF);
        let queue = Queue::start(Again(Dispatch::new(again))).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal(queue.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(setting = "port", number = 7, "b.c" = ?Some("x"), ms = 2.5, left = None::<u64>, "first\nsecond");
            tracing::error!(target: message_ids::SETTINGS_BROKEN, on = true, "broken");
        });
        queue.flush();
        let module = module_path!();
        assert_eq!(
            *kept.lock().unwrap(),
            [
                vec![
                    format!("WARN {module}"),
                    "message=first\nsecond".into(),
                    "setting=port".into(),
                    "number=7".into(),
                    "b.c=Some(\"x\")".into(),
                    "ms=2.5".into(),
                ],
                vec![
                    format!("ERROR {}", message_ids::SETTINGS_BROKEN),
                    "message=broken".into(),
                    "on=true".into(),
                ],
            ]
        );
    }

    #[test]
    fn a_users_unit_is_told_by_its_control_group() {
        let ours = "/user.slice/user-1000.slice/user@1000.service/app.slice/codex-api-proxy.service";
        for (cgroups, expect) in [
            (format!("0::{ours}\n"), Some("codex-api-proxy.service")),
            (format!("12:pids:/x\n1:name=systemd:{ours}\n0::/\n"), Some("codex-api-proxy.service")),
            (format!("0::{ours}/below\n"), Some("codex-api-proxy.service")),
            ("0::/system.slice/system-codex\\x2dapi.slice/codex-api-proxy@me.service\n".into(), None),
            ("0::/user.slice/user-1000.slice/session-2.scope\n".into(), None),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(user_unit_of(&cgroups).as_deref(), expect, "{cgroups}");
        }
    }
}
