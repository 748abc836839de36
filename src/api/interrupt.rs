//! `POST /turns/{id}/interrupt`: a request is ended from outside, by who may.

use bytes::Buf;
use futures_util::Stream;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use warp::reply::Response;

use crate::turn::Failure;
use crate::turn::failure::Rule;

use super::App;
use super::body::{self, Limits};
use super::routes::json;
use super::running::NotInterrupted;
use super::usage::Looker;

/// The most that such a body is, in bytes: nothing in it is read.
const LONGEST: u64 = 4 << 10;

/// The request's name in what follows `turns/` of the path.
pub(super) fn id(rest: &str) -> Option<&str> {
    rest.strip_suffix("/interrupt").filter(|id| !id.is_empty() && !id.contains('/'))
}

/// Ends the request of that name.
///
/// # Errors
/// The body is none; there is no such request; it is another's.
pub(super) async fn interrupt<B: Buf, E>(
    app: &App,
    looker: &Looker,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<B, E>>,
    id: &str,
) -> Result<Response, Failure> {
    let limits = Limits::of(app.live.get().max_body_bytes.min(LONGEST));
    let body = body::read(headers, body, limits, &app.buffers, app.live.get().max_buffered_bytes).await?;
    if serde_json::from_str::<Map<String, Value>>(body.text()).is_err() {
        let message = "The request body must be a JSON object, as {}.".into();
        return Err(Failure::BadRequest { at: None, message });
    }
    match app.running.interrupt(id, |owner| looker.may_end(owner)) {
        Ok(()) => {
            tracing::info!(turn = id, "a request is interrupted");
            Ok(json(&json!({"id": id, "interrupted": true})))
        }
        Err(NotInterrupted::Gone) => {
            let message = "There is no running or queued turn with this id.".into();
            Err(Failure::NotFound { at: None, message })
        }
        Err(NotInterrupted::Anothers) => {
            let message = "The turn is another caller's. Its own caller may interrupt it, and on the machine of \
                           this server its user and root.";
            Err(Failure::Forbidden { rule: Rule::Turn, message: message.into() })
        }
    }
}
