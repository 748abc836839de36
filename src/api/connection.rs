//! One connection, from its acceptance to its end: what its requests know of it, and the time it has.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::connection_io::{AnswerBody, ConnectionIo, Progress, Timeouts};
use super::error;
use super::peer::Peer;
use super::request_body::RequestBody;
use super::seats::Seat;

/// How long a client may take to send a request's head, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest header section, and the most that is buffered of either direction.
pub(super) const MAX_BUFFER: usize = 128 * 1024;
/// How long a connection without a request is kept once the server stops: the client may have sent
/// one that is still on its way.
const LINGER: Duration = Duration::from_secs(1);

/// A connection, as a request extension. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: Peer,
    last_answer: CancellationToken,
}

impl Connection {
    /// A connection with that other end.
    pub fn new(peer: Peer) -> Connection {
        Connection(Arc::new(Inner { peer, last_answer: CancellationToken::new() }))
    }

    /// Has the connection end with the answer that is being written, so that its end cannot be
    /// taken for that of a complete one.
    pub fn end_with_this_answer(&self) {
        self.0.last_answer.cancel();
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.0.peer
    }
}

/// The target of a request exactly as sent, as a request extension: warp shows parts of it only.
#[derive(Clone, Debug)]
pub struct Target(pub Uri);

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What every connection's task gets a copy of.
#[derive(Clone)]
pub(super) struct Host<S> {
    pub service: S,
    pub stop: CancellationToken,
    pub abort: CancellationToken,
    pub timeouts: Timeouts,
}

impl<S, B> Host<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Serves one connection to its end.
    pub(super) async fn converse(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        peer: Peer,
        seat: Arc<Seat>,
    ) {
        let progress = Arc::new(Progress::default());
        let wire = ConnectionIo::new(stream, Arc::clone(&progress), self.timeouts);
        let connection = Connection::new(peer);
        let last_answer = connection.0.last_answer.clone();
        let service = Introduced {
            service: self.service,
            connection,
            progress: Arc::clone(&progress),
            seat: Arc::clone(&seat),
            stop: self.stop.clone(),
        };
        let mut conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(wire), service);
        let lingered = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        let mut lingered = std::pin::pin!(lingered);
        let mut closing = false;
        // Whose seat is given to another ends at once, but for a request that has just come.
        let gone = async {
            seat.leave().cancelled().await;
            tokio::time::sleep(LINGER).await;
            while progress.is_answering() {
                tokio::time::sleep(LINGER).await;
            }
        };
        let mut gone = std::pin::pin!(gone);
        let ended = loop {
            tokio::select! {
                // First, so that a request that has already arrived is answered and not cut.
                biased;
                ended = &mut conversation => break ended,
                () = self.abort.cancelled() => return,
                () = &mut gone => return,
                () = async {
                    tokio::select! {
                        () = &mut lingered => {},
                        () = last_answer.cancelled() => {},
                        () = seat.leave().cancelled() => {},
                    }
                }, if !closing =>
                {
                    closing = true;
                    Pin::new(&mut conversation).graceful_shutdown();
                }
            }
        };
        let Err(error) = ended else { return };
        tracing::debug!(%error, "a connection ended early");
        let parts = conversation.into_parts();
        if let Some(status) = unanswered(&error, &parts.read_buf) {
            let mut wire = parts.io.into_inner();
            tokio::select! {
                () = self.abort.cancelled() => {}
                refused = refuse(&mut wire, status) => if let Err(error) = refused {
                    tracing::debug!(%error, "a client left before its refusal");
                }
            }
        }
    }
}

/// The refusals that hyper leaves out: a head that did not come in time, and HTTP/2.
fn unanswered(error: &hyper::Error, received: &[u8]) -> Option<StatusCode> {
    if error.is_parse_version_h2() {
        Some(StatusCode::HTTP_VERSION_NOT_SUPPORTED)
    } else if error.is_timeout() && !received.is_empty() {
        Some(StatusCode::REQUEST_TIMEOUT)
    } else {
        None // an idle connection that timed out, or a client that left
    }
}

async fn refuse(
    wire: &mut ConnectionIo<impl AsyncRead + AsyncWrite + Unpin>,
    status: StatusCode,
) -> io::Result<()> {
    wire.write_all(&error::malformed(status).wire()).await?;
    wire.shutdown().await
}

/// The routes, with each request introduced: which connection it came over, and its whole target.
struct Introduced<S> {
    service: S,
    connection: Connection,
    progress: Arc<Progress>,
    seat: Arc<Seat>,
    stop: CancellationToken,
}

impl<S, B> Service<Request<Incoming>> for Introduced<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible, Future: Send> + 'static,
{
    type Response = Response<AnswerBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (head, body) = request.into_parts();
        let (body, read) = RequestBody::new(body);
        let mut request = Request::from_parts(head, body);
        let target = Target(request.uri().clone());
        request.extensions_mut().insert(target);
        request.extensions_mut().insert(self.connection.clone());
        let progress = Arc::clone(&self.progress);
        let answering = (progress.answering(), self.seat.busy());
        let response = self.service.call(request);
        let (stop, last, seat) =
            (self.stop.clone(), self.connection.0.last_answer.clone(), Arc::clone(&self.seat));
        Box::pin(async move {
            let mut response = response.await?;
            // After an answer to a body that nobody read hyper may close, and would not say so.
            let unread = !read.get();
            if unread || stop.is_cancelled() || last.is_cancelled() || seat.leave().is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            progress.set_unread(unread);
            Ok(response.map(|body| AnswerBody::new(body, answering)))
        })
    }
}
