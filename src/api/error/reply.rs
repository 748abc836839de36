//! A failure as it goes out: its status, its headers, and its body where no format has one.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::api::dialect::Dialect;
use crate::api::ids;
use crate::turn::At;

/// Milliseconds; what OpenAI's own client libraries prefer to `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Tells OpenAI's client libraries whether to send the request again by themselves.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What the client reads of a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorReply {
    /// The status line.
    pub status: StatusCode,
    /// `error.type`, one of OpenAI's.
    pub kind: &'static str,
    /// `error.code`.
    pub code: Cow<'static, str>,
    /// The part of the request that is wrong.
    pub at: Option<At>,
    /// `error.param`: the caller's field for it, as far as that is known.
    pub param: Option<String>,
    /// `error.message`: full sentences, the setting to change where there is one.
    pub message: String,
    /// `x-should-retry`: false where a library's silent retry would only buy the same again.
    pub retry: bool,
    /// `retry-after` and `retry-after-ms`.
    pub retry_after: Option<Duration>,
    /// `allow`.
    pub allow: Option<&'static str>,
}

/// The whole answer: status, headers, and the body as its format writes it.
pub fn response(reply: &ErrorReply, dialect: &dyn Dialect, request_id: &str) -> warp::reply::Response {
    let mut response = warp::reply::Response::new(dialect.error(reply, request_id).into());
    *response.status_mut() = dialect.status(reply);
    reply.headers(response.headers_mut());
    response
}

impl ErrorReply {
    /// `{"error":{"message","type","param","code"}}`, as OpenAI writes it: in all of its formats, and here
    /// where it is not known what the client speaks.
    pub fn envelope(&self) -> Bytes {
        // A map built here, of strings only: writing it cannot fail, and `Display` says so.
        let error = json!({
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        });
        json!({ "error": error }).to_string().into()
    }

    fn headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static(if self.retry { "true" } else { "false" }));
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: earlier than that is too early.
            let whole = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, whole.into());
            headers.insert(RETRY_AFTER_MS, (after.as_millis().min(u64::MAX.into()) as u64).into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
    }

    /// As HTTP/1.1 text, for what never becomes a request; the connection ends with it.
    pub fn wire(&self) -> Bytes {
        let body = self.envelope();
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-should-retry: {}\r\n\
             x-request-id: {}\r\nconnection: close\r\n\r\n",
            self.status,
            body.len(),
            self.retry,
            ids::fresh("req_"),
        );
        [head.as_bytes(), &body].concat().into()
    }
}
