//! The accept loop and one task per connection, up to a hyper `Service` that answers requests.
//!
//! Here and not warp's own server, which cannot inherit sockets, limit connections, time out slow
//! heads, or bound a drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error;
use super::wire::{AnswerBody, Progress, Timeouts, Wire};
use crate::api::gate::Caller;
use crate::config::Live;
use crate::os::listen::{self, Listener};
use crate::os::peer::{self, Owner};

/// How long a client may take to send a request's head, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest header section, and the most that is buffered of either direction.
const MAX_BUFFER: usize = 128 * 1024;
/// How long a connection without a request is kept once the server stops: the client may have sent
/// one that is still on its way.
const LINGER: Duration = Duration::from_secs(1);
/// How long accepting rests after an error that will not go away at once (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A connection, as a request extension. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    owner: OnceCell<Owner>,
    last_answer: CancellationToken,
}

/// Over what a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP, between these two addresses.
    Tcp {
        /// The client's.
        peer: SocketAddr,
        /// Ours.
        local: SocketAddr,
    },
    /// A Unix socket.
    Unix,
}

impl Connection {
    /// A connection of that kind.
    pub fn new(kind: Kind) -> Connection {
        Connection(Arc::new(Inner { kind, owner: OnceCell::new(), last_answer: CancellationToken::new() }))
    }

    /// Has the connection end with the answer that is being written, so that its end cannot be
    /// taken for that of a complete one.
    pub fn end_with_this_answer(&self) {
        self.0.last_answer.cancel();
    }

    /// Over what it came.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Who is at the other end. The user of a loopback peer is looked up only if `wanted` (see
    /// [`Rules::wants_peer`](super::gate::Rules::wants_peer)), and once per connection.
    pub async fn caller(&self, wanted: bool) -> Caller {
        match self.0.kind {
            Kind::Unix => Caller::Unix,
            Kind::Tcp { peer, .. } if !listen::is_loopback(peer.ip()) => Caller::Remote,
            Kind::Tcp { .. } if !wanted => Caller::Loopback(Owner::Nobody),
            Kind::Tcp { peer, local } => {
                // A few microseconds of system calls that never wait: no thread is worth that.
                let look_up = || async { owner_or_nobody(local, peer) };
                Caller::Loopback(*self.0.owner.get_or_init(look_up).await)
            }
        }
    }
}

fn owner_or_nobody(local: SocketAddr, peer: SocketAddr) -> Owner {
    peer::owner(local, peer).unwrap_or_else(|error| {
        tracing::warn!(%error, "the kernel does not tell whose connection {peer} is; it is refused");
        Owner::Nobody
    })
}

/// The target of a request exactly as sent, as a request extension: warp shows parts of it only.
#[derive(Clone, Debug)]
pub struct Target(pub Uri);

/// How many connections are open; idle exit and the accept limit follow it. Clones share it.
#[derive(Clone, Debug)]
pub struct Connections(Arc<watch::Sender<usize>>);

impl Default for Connections {
    fn default() -> Connections {
        Connections(Arc::new(watch::Sender::new(0)))
    }
}

impl Connections {
    /// How many are open now.
    pub fn open(&self) -> usize {
        *self.0.borrow()
    }

    /// Resolves once no connection has been open for that long.
    pub async fn idle_for(&self, time: Duration) {
        let mut open = self.0.subscribe();
        loop {
            // The sender lives in `self`, so waiting can only end with the condition.
            let _ = open.wait_for(|open| *open == 0).await;
            tokio::select! {
                () = tokio::time::sleep(time) => return,
                _ = open.changed() => {}
            }
        }
    }

    async fn fewer_than(&self, limit: impl Fn() -> usize) {
        let _ = self.0.subscribe().wait_for(|open| *open < limit()).await;
    }

    fn enter(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.clone())
    }
}

struct Open(Connections);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// What becomes of connections that nobody has accepted yet when the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// They are accepted: with the listener, the kernel would reset them.
    Accept,
    /// They wait for the next process: the listener is the service manager's.
    Leave,
}

/// Serves until `stop`: then closes the listeners at once, lets every request in flight run to its
/// end, and resolves when the last connection is gone. `abort` cuts what is still open.
///
/// An idle connection gets one more answer, if its request comes soon; from `stop` on answers say
/// `Connection: close`.
///
/// Every request carries its [`Connection`] and [`Target`] as extensions. At most
/// `max_connections` are open; more wait in the kernel's backlog.
///
/// # Errors
/// A listener cannot be registered with the runtime.
pub fn serve<S, B>(
    listeners: Vec<Listener>,
    service: S,
    live: Live,
    connections: Connections,
    stop: CancellationToken,
    abort: CancellationToken,
    backlog: Backlog,
) -> io::Result<impl Future<Output = ()> + Send>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let mut acceptors = listeners.into_iter().map(Acceptor::new).collect::<io::Result<Vec<_>>>()?;
    let server = Server { service, stop: stop.clone(), abort, timeouts: Timeouts::default() };
    let tasks = TaskTracker::new();
    Ok(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = server.accept_all(&mut acceptors, &live, &connections, &tasks) => {}
        }
        if backlog == Backlog::Accept {
            server.accept_rest(acceptors, &connections, &tasks);
        } else {
            drop(acceptors);
        }
        tasks.close();
        tasks.wait().await;
    })
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What every connection's task gets a copy of.
#[derive(Clone)]
struct Server<S> {
    service: S,
    stop: CancellationToken,
    abort: CancellationToken,
    timeouts: Timeouts,
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn enter(&self, accepted: Accepted, connections: &Connections, tasks: &TaskTracker) {
        let open = connections.enter();
        let server = self.clone();
        tasks.spawn(async move {
            server.connected(accepted).await;
            drop(open);
        });
    }

    /// Accepts what has been waiting. Asks the kernel itself: the runtime may not have heard yet.
    fn accept_rest(&self, acceptors: Vec<Acceptor>, connections: &Connections, tasks: &TaskTracker) {
        for acceptor in acceptors {
            let ended = acceptor.accept_rest(|accepted| self.enter(accepted, connections, tasks));
            if let Err(error) = ended {
                tracing::debug!(%error, "what waited to be accepted is left");
            }
        }
    }

    /// Accepts for ever.
    async fn accept_all(
        &self,
        acceptors: &mut [Acceptor],
        live: &Live,
        connections: &Connections,
        tasks: &TaskTracker,
    ) {
        let mut failing = false;
        loop {
            connections.fewer_than(|| live.get().max_connections.max(1)).await;
            match accept_any(acceptors).await {
                Ok(accepted) => {
                    failing = false;
                    self.enter(accepted, connections, tasks);
                }
                Err(error) if is_of_one_client(&error) => {
                    tracing::debug!(%error, "a client left before it was accepted")
                }
                Err(error) => {
                    // Once, not twice a second for as long as it lasts.
                    if !failing {
                        tracing::warn!(%error, "cannot accept connections; trying again until it works");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connected(self, accepted: Accepted) {
        match accepted {
            Accepted::Unix(stream) => self.converse(stream, Kind::Unix).await,
            Accepted::Tcp(stream, peer) => {
                // A delta is worth sending at once, however small.
                let set_up = stream.set_nodelay(true).and_then(|()| stream.local_addr());
                match set_up {
                    Ok(local) => self.converse(stream, Kind::Tcp { peer, local }).await,
                    Err(error) => tracing::debug!(%error, "a client left as it was accepted"),
                }
            }
        }
    }

    /// Serves one connection to its end.
    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send, kind: Kind) {
        let progress = Arc::new(Progress::default());
        let wire = Wire::new(stream, Arc::clone(&progress), self.timeouts);
        let connection = Connection::new(kind);
        let last_answer = connection.0.last_answer.clone();
        let service = Introduced { service: self.service, connection, progress, stop: self.stop.clone() };
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
        let ended = loop {
            tokio::select! {
                // First, so that a request that has already arrived is answered and not cut.
                biased;
                ended = &mut conversation => break ended,
                () = self.abort.cancelled() => return,
                () = async { tokio::select! { () = &mut lingered => {}, () = last_answer.cancelled() => {} } },
                    if !closing =>
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

async fn refuse(wire: &mut Wire<impl AsyncRead + AsyncWrite + Unpin>, status: StatusCode) -> io::Result<()> {
    wire.write_all(&error::malformed(status).wire()).await?;
    wire.shutdown().await
}

/// A listener in the runtime.
enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Acceptor {
    fn new(listener: Listener) -> io::Result<Acceptor> {
        Ok(match listener {
            Listener::Tcp(tcp) => Acceptor::Tcp(TcpListener::from_std(tcp)?),
            Listener::Unix(unix) => Acceptor::Unix(UnixListener::from_std(unix)?),
        })
    }

    /// Accepts until nobody waits.
    fn accept_rest(self, mut enter: impl FnMut(Accepted)) -> io::Result<()> {
        match self {
            Acceptor::Tcp(tcp) => {
                let tcp = tcp.into_std()?;
                while let Some((stream, peer)) = unless_none(tcp.accept())? {
                    stream.set_nonblocking(true)?;
                    enter(Accepted::Tcp(TcpStream::from_std(stream)?, peer));
                }
            }
            Acceptor::Unix(unix) => {
                let unix = unix.into_std()?;
                while let Some((stream, _)) = unless_none(unix.accept())? {
                    stream.set_nonblocking(true)?;
                    enter(Accepted::Unix(UnixStream::from_std(stream)?));
                }
            }
        }
        Ok(())
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        Poll::Ready(Ok(match self {
            Acceptor::Tcp(tcp) => {
                let (stream, peer) = ready!(tcp.poll_accept(cx))?;
                Accepted::Tcp(stream, peer)
            }
            Acceptor::Unix(unix) => Accepted::Unix(ready!(unix.poll_accept(cx))?.0),
        }))
    }
}

/// `None` if there is nothing to accept.
fn unless_none<T>(accepted: io::Result<T>) -> io::Result<Option<T>> {
    match accepted {
        Ok(accepted) => Ok(Some(accepted)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The next connection of any listener, each in its turn.
async fn accept_any(acceptors: &mut [Acceptor]) -> io::Result<Accepted> {
    if acceptors.len() > 1 {
        acceptors.rotate_left(1);
    }
    let poll_any = |cx: &mut Context<'_>| {
        let ready = acceptors.iter().map(|acceptor| acceptor.poll_accept(cx)).find(Poll::is_ready);
        ready.unwrap_or(Poll::Pending)
    };
    std::future::poll_fn(poll_any).await
}

/// Whether an error of accept(2) is about that client only; the next can be accepted at once.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The routes, with each request introduced: which connection it came over, and its whole target.
struct Introduced<S> {
    service: S,
    connection: Connection,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

impl<S, B> Service<Request<Incoming>> for Introduced<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + 'static,
{
    type Response = Response<AnswerBody<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let target = Target(request.uri().clone());
        request.extensions_mut().insert(target);
        request.extensions_mut().insert(self.connection.clone());
        let has_body = !request.body().is_end_stream();
        let takes_body = request.method() == Method::POST;
        let progress = Arc::clone(&self.progress);
        let answering = progress.answering();
        let response = self.service.call(request);
        let (stop, last) = (self.stop.clone(), self.connection.0.last_answer.clone());
        Box::pin(async move {
            let mut response = response.await?;
            if stop.is_cancelled() || last.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // A success of POST has read its body; whatever else may have left it in the socket.
            progress.set_unread(has_body && !(takes_body && response.status().is_success()));
            Ok(response.map(|body| AnswerBody::new(body, answering)))
        })
    }
}

#[cfg(test)]
mod tests;
