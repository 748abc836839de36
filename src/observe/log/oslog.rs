//! The unified log of macOS, which knows text only: an event reaches it as the line that stderr would have.

use tracing::field::display;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::one_line;

/// Hands its layer each event with all its fields in the message: the unified log cuts long
/// messages, and the layer of the crate would say the latency line's fields twice.
pub(super) struct OneMessage<L>(pub(super) L);

impl<S, L> Layer<S> for OneMessage<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let (Some(message), Ok(line)) = (fields.field("message"), one_line(event)) else {
            return self.0.on_event(event, context);
        };
        let values: [(_, Option<&dyn tracing::Value>); 1] = [(&message, Some(&display(line)))];
        self.0.on_event(&Event::new(event.metadata(), &fields.value_set(&values)), context);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tracing::field::Field;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::observe::latency;

    /// Keeps the fields of each event.
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut |field: &Field, value: &dyn Debug| {
                self.0.lock().unwrap().push(format!("{field}: {value:?}"));
            });
        }
    }

    #[test]
    fn an_event_is_one_message_with_its_fields() {
        let kept = Arc::new(Mutex::new(vec![]));
        let subscriber = tracing_subscriber::registry().with(OneMessage(Kept(Arc::clone(&kept))));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(setting = "port", number = 7, "first\nsecond");
            tracing::info!(target: latency::TARGET, n = 1, "codex_api_proxy.latency {{\"n\":1}}");
            tracing::info!(target: "hyper::proto", "of a library");
            tracing::info!(no = "message");
        });
        assert_eq!(
            *kept.lock().unwrap(),
            [
                r#"message: first\nsecond setting="port" number=7"#,
                r#"message: codex_api_proxy.latency {"n":1}"#,
                "message: hyper::proto: of a library",
                r#"no: "message""#,
            ]
        );
    }
}
