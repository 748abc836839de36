//! `/events`: the document of `/usage` whenever it changes, as one stream.
//!
//! It is no work and no visit: it ends at once when the server stops, keeps no idle service alive, and
//! there is a bounded number of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;

use crate::turn::Failure;

use super::connection::Connection;
use super::gate::Rules;
use super::seats::Watching;
use super::usage::{self, Looker};
use super::{App, sse};

/// The most that are open at once.
const MOST: usize = 16;

/// The least time between two events.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the server ends all streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It stops.
    Draining,
    /// Nobody has asked anything for long: it ends until the next connection.
    Idle,
}

impl Ending {
    /// As `ready.reason` has it.
    fn code(self) -> &'static str {
        match self {
            Ending::Draining => "draining",
            Ending::Idle => "idle",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Ending::Draining => "The server is stopping.",
            Ending::Idle => "Nobody has asked anything for long: the server ends until the next connection.",
        }
    }
}

/// The open streams. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: AtomicUsize,
    end: CancellationToken,
    why: OnceLock<Ending>,
}

impl Events {
    /// Ends all streams after one last event.
    pub fn end(&self, why: Ending) {
        // The first reason stands.
        let _ = self.0.why.set(why);
        self.0.end.cancel();
    }

    fn enter(&self) -> Result<Open, Failure> {
        let room = |open: usize| (open < MOST).then_some(open + 1);
        let entered = self.0.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, room);
        entered.map(|_| Open(self.clone())).map_err(|open| Failure::EventsFull { open })
    }
}

/// An open stream, until dropped.
#[derive(Debug)]
struct Open(Events);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers with a stream.
///
/// # Errors
/// [`Failure::EventsFull`].
pub(super) fn answer(app: &Arc<App>, looker: Looker, connection: &Connection) -> Result<Response, Failure> {
    let open = app.events.enter()?;
    let now = Instant::now();
    let watch = Watch {
        app: Arc::clone(app),
        rules: app.rules(),
        looker,
        connection: connection.clone(),
        told: None,
        next: now,
        silent_since: now,
        over: false,
        _open: open,
        _watching: app.connections.watch(),
    };
    let mut response = warp::reply::Reply::into_response(warp::reply::stream(Box::pin(watch.stream())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One stream.
struct Watch {
    app: Arc<App>,
    /// Who may call, as it was when this one was let in.
    rules: Arc<Rules>,
    looker: Looker,
    connection: Connection,
    /// The last document, without its time.
    told: Option<serde_json::Value>,
    /// When the next event may go out.
    next: Instant,
    silent_since: Instant,
    over: bool,
    _open: Open,
    _watching: Watching,
}

impl Watch {
    fn stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
        futures_util::stream::unfold(self, |mut watch| async move {
            let frame = watch.frame().await?;
            Some((Ok(frame), watch))
        })
    }

    async fn frame(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let app = Arc::clone(&self.app);
        loop {
            let config = app.live.get();
            let keepalive = self.silent_since + config.keepalive_seconds;
            let end = &app.events.0;
            tokio::select! {
                biased;
                () = end.end.cancelled() => {
                    let why = end.why.get().copied().unwrap_or(Ending::Draining);
                    let mut document = usage::document(&app, &config, &self.looker);
                    document["ready"] = serde_json::json!({
                        "status": "not_ready", "reason": why.code(), "message": why.message(), "fix": null,
                    });
                    self.over = true;
                    // The connection ends with it: nobody waits for another request.
                    self.connection.end_with_this_answer();
                    return Some(written(document));
                }
                () = tokio::time::sleep_until(self.next) => {}
                () = tokio::time::sleep_until(keepalive) => {
                    self.silent_since = Instant::now();
                    return Some(sse::KEEP_ALIVE);
                }
            }
            // Who may call was decided anew: let it ask again.
            if !Arc::ptr_eq(&self.rules, &app.rules()) {
                return None;
            }
            let now = Instant::now();
            self.next = now + PAUSE;
            let document = usage::document(&app, &config, &self.looker);
            if self.told.as_ref() != Some(&document) {
                self.told = Some(document.clone());
                self.silent_since = now;
                return Some(written(document));
            }
        }
    }
}

fn written(document: serde_json::Value) -> Bytes {
    // A value of ours, with keys that are strings: writing it cannot fail.
    sse::named("usage", &usage::timed(document)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_streams_are_all_there_may_be() {
        let events = Events::default();
        let mut open: Vec<Open> = (0..MOST).map(|_| events.enter().unwrap()).collect();
        assert_eq!(events.enter().unwrap_err(), Failure::EventsFull { open: 16 });
        open.pop();
        drop(events.enter().unwrap());
        let _last = events.enter().unwrap();
        assert!(events.enter().is_err());
    }
}
