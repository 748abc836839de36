//! A POST that is no turn: its body is read as any other's, and answered without queue and Codex.
//!
//! What is asked so is how many tokens a request would have. Nobody here can tell: it is estimated, and
//! the answer says that it is.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use warp::reply::Response;

use crate::config::Config;
use crate::turn::{Caller, Failure, Item, Part, ToolKind, Turn};

use super::App;
use super::body::{self, Limits};
use super::dialect::Wanted;
use super::generate::INLINE;
use super::remembered::CallersItems;

/// Names the fields of an answer that are estimates.
const ESTIMATED: HeaderName = HeaderName::from_static("x-codex-proxy-estimated");

/// Makes the answer of a body, in the words of a format.
pub(super) type Count = fn(asked: &Asked, config: &Config) -> Result<Value, Failure>;

/// A request that only is to be counted.
pub(super) struct Asked<'a> {
    /// The body's text.
    pub(super) body: &'a str,
    /// To be asked between the parts of a long request.
    pub(super) wanted: &'a Wanted,
    /// What the client was answered lately.
    pub(super) remembered: &'a CallersItems,
}

/// Reads a body and answers it; the field `input_tokens` is an estimate.
///
/// # Errors
/// As for any body, and what `count` finds wrong.
pub(super) async fn count<B: Buf, E>(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    count: Count,
    body: impl Stream<Item = Result<B, E>>,
) -> Result<Response, Failure> {
    let config: Arc<Config> = app.live.get();
    let limits = Limits::of(config.max_body_bytes);
    let body = body::read(headers, body, limits, &app.buffers, config.max_buffered_bytes).await?;
    let wanted = Wanted::default();
    // Leaves with the client.
    let _waits = wanted.guard();
    let remembered = app.remembered.of(caller);
    let large = body.text().len() > INLINE;
    let turn = if large { app.buffers.turn(body.text().len()).await } else { None };
    let reading = move || {
        let asked = Asked { body: body.text(), wanted: &wanted, remembered: &remembered };
        let answer = count(&asked, &config);
        drop(turn);
        answer
    };
    let answer = if large {
        let read = tokio::task::spawn_blocking(reading).await;
        read.map_err(|error| Failure::Internal { detail: format!("reading the request: {error}") })??
    } else {
        reading()?
    };
    let mut response = Response::new(answer.to_string().into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ESTIMATED, HeaderValue::from_static("input_tokens"));
    Ok(response)
}

/// What a token is, about, in bytes of UTF-8.
const BYTES_PER_TOKEN: usize = 4;
/// What an image is, about, in tokens.
const TOKENS_PER_IMAGE: usize = 1000;

/// How many tokens a turn's text, tools and schemas are, about.
pub(super) fn estimate(turn: &Turn) -> usize {
    let (mut bytes, mut images) = (0, 0);
    let mut parts = |parts: &[Part]| {
        for part in parts {
            match part {
                Part::Text(text) => bytes += text.len(),
                Part::Image(_) => images += 1,
            }
        }
    };
    let mut others = 0;
    for item in turn.conversation.iter() {
        match item {
            Item::Message { content, .. } | Item::ToolResult { content, .. } => parts(content),
            Item::Reasoning { summary, .. } => others += summary.iter().map(String::len).sum::<usize>(),
            Item::ToolCall(call) => others += call.full_name().len() + call.arguments.len(),
        }
    }
    for tool in turn.tools.iter() {
        others += tool.full_name().len() + tool.description.len();
        if let ToolKind::Function { parameters, .. } = &tool.kind {
            others += parameters.as_str().len();
        }
    }
    others += turn.output.schema().map_or(0, |schema| schema.as_str().len());
    (bytes + others).div_ceil(BYTES_PER_TOKEN) + images * TOKENS_PER_IMAGE
}
