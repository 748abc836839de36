//! The journal: a native field for each value, `CODEX_` in front.

use std::io;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::observe::catalog;

/// Native fields, with the message's catalog entry where it has one.
pub(super) struct Journal(tracing_journald::Layer);

/// Connects to the journal.
pub(super) fn layer() -> io::Result<Journal> {
    connect().map(Journal)
}

impl<S> Layer<S> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Layer::<S>::on_record(&self.0, id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(id) = catalog::message_id(event.metadata().target()) else {
            return self.0.on_event(event, context);
        };
        // The crate prefixes every field of an event, and only constant ones are left alone. These
        // messages are rare, so each may have a layer of its own.
        match connect() {
            Ok(layer) => layer.with_custom_fields([("MESSAGE_ID", id)]).on_event(event, context),
            Err(_) => self.0.on_event(event, context),
        }
    }
}

fn connect() -> io::Result<tracing_journald::Layer> {
    let layer = tracing_journald::layer()?
        .with_field_prefix(Some("CODEX".to_owned()))
        .with_syslog_identifier("codex-api-proxy".to_owned())
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
