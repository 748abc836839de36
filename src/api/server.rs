//! The accept loop and one task per connection, up to a hyper `Service` that answers requests.
//!
//! Here and not warp's own server, which cannot inherit sockets, limit connections, time out slow
//! heads, or bound a drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Body;
use hyper::service::Service;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{BoxError, Host};
use super::connection_io::Timeouts;
use super::peer::Peer;
use super::request_body::RequestBody;
use super::seats::{self, Connections, Holder, Refused, Seats};
use crate::config::Live;
use crate::observe::repeats;
use crate::os::listen::Listener;

/// How long accepting rests after an error that will not go away at once (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What becomes of connections that nobody has accepted yet when the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// They are accepted: with the listener, the kernel would reset them.
    Accept,
    /// They wait for the next process: the listener is the service manager's.
    Leave,
}

/// What bounds the connections.
#[derive(Clone)]
pub struct Limits {
    /// The settings in force.
    pub live: Live,
    /// The count of open connections.
    pub connections: Connections,
    /// Whether that peer would be refused whatever it asks.
    pub is_stranger: Arc<dyn Fn(Peer) -> bool + Send + Sync>,
    /// How many descriptors this process may have.
    pub descriptors: usize,
}

/// Serves until `stop`: then closes the listeners at once, lets every request in flight run to its
/// end, and resolves when the last connection is gone. `abort` cuts what is still open.
///
/// An idle connection gets one more answer, if its request comes soon; from `stop` on answers say
/// `Connection: close`.
///
/// Every request carries its [`Connection`](super::connection::Connection) and
/// [`Target`](super::connection::Target) as extensions. At most `max_connections` are open over
/// TCP, and as many over Unix sockets, so that nobody at the network keeps out who may use these;
/// [`seats`] has who gets how many of them.
///
/// # Errors
/// A listener cannot be registered with the runtime.
pub fn serve<S, B>(
    listeners: Vec<Listener>,
    service: S,
    limits: Limits,
    stop: CancellationToken,
    abort: CancellationToken,
    backlog: Backlog,
) -> io::Result<impl Future<Output = ()> + Send>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let acceptors = listeners.into_iter().map(Acceptor::new).collect::<io::Result<Vec<_>>>()?;
    let (tcp, unix) = acceptors.into_iter().partition(|one| matches!(one, Acceptor::Tcp(_)));
    let host = Host { service, stop: stop.clone(), abort, timeouts: Timeouts::default() };
    let tasks = TaskTracker::new();
    let door = |acceptors| Door {
        acceptors,
        waiting: None,
        seats: Seats::default(),
        host: host.clone(),
        limits: limits.clone(),
        tasks: tasks.clone(),
    };
    let (mut tcp, mut unix) = (door(tcp), door(unix));
    Ok(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = async { tokio::join!(tcp.accept_all(), unix.accept_all()); } => {}
        }
        for door in [tcp, unix] {
            door.close(backlog);
        }
        tasks.close();
        tasks.wait().await;
    })
}

/// The listeners of one kind, and the seats behind them.
struct Door<S> {
    acceptors: Vec<Acceptor>,
    /// Accepted, and without a seat so far.
    waiting: Option<(Accepted, Peer)>,
    seats: Seats,
    host: Host<S>,
    limits: Limits,
    tasks: TaskTracker,
}

impl<S, B> Door<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Serves whom we have accepted, unless its share is taken; gives it back if all are.
    fn enter(&self, accepted: Accepted, peer: Peer) -> Option<Accepted> {
        let (tcp, unix) = seats::most(&self.limits.live.get(), self.limits.descriptors);
        let most = if matches!(accepted, Accepted::Tcp(..)) { tcp } else { unix };
        let holder = Holder::of(peer, (self.limits.is_stranger)(peer));
        let seat = match self.seats.take(holder, most) {
            Ok(seat) => Arc::new(seat),
            Err(Refused::Full) => return Some(accepted),
            Err(Refused::Share(share)) => {
                if repeats::is_first("connections closed because others of the same client are open") {
                    tracing::warn!(
                        "a connection of {holder} is closed: {share} are open, which is its share of max_connections"
                    );
                }
                return None;
            }
        };
        let (open, host) = (self.limits.connections.enter(), self.host.clone());
        self.tasks.spawn(async move {
            match accepted {
                Accepted::Unix(stream) => host.converse(stream, peer, seat).await,
                Accepted::Tcp(stream, _) => host.converse(stream, peer, seat).await,
            }
            drop(open);
        });
        None
    }

    /// Accepts no more, but for what has been waiting if that is to be served. Asks the kernel
    /// itself: the runtime may not have heard yet.
    fn close(mut self, backlog: Backlog) {
        let mut late: Vec<(Accepted, Peer)> = self.waiting.take().into_iter().collect();
        if backlog == Backlog::Accept {
            for acceptor in std::mem::take(&mut self.acceptors) {
                let ended = acceptor.accept_rest(|accepted| match accepted.peer() {
                    Ok(peer) => late.push((accepted, peer)),
                    Err(error) => tracing::debug!(%error, "a client left as it was accepted"),
                });
                if let Err(error) = ended {
                    tracing::debug!(%error, "what waited to be accepted is left");
                }
            }
        }
        for (accepted, peer) in late {
            if self.enter(accepted, peer).is_some() {
                tracing::debug!("no connection is free for who has waited");
            }
        }
    }

    /// Accepts for ever.
    async fn accept_all(&mut self) {
        let mut failing = false;
        loop {
            // Who has no seat keeps the door: the others wait in the kernel's backlog.
            while let Some((accepted, peer)) = self.waiting.take() {
                if let Some(accepted) = self.enter(accepted, peer) {
                    self.waiting = Some((accepted, peer));
                    self.seats.changed().await;
                }
            }
            match accept_any(&mut self.acceptors).await {
                Ok(accepted) => {
                    failing = false;
                    // Now, since the client's leaving takes away who it was.
                    match accepted.peer() {
                        Ok(peer) => self.waiting = Some((accepted, peer)),
                        Err(error) => tracing::debug!(%error, "a client left as it was accepted"),
                    }
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

impl Accepted {
    /// Who is there.
    fn peer(&self) -> io::Result<Peer> {
        match self {
            Accepted::Unix(stream) => Ok(Peer::of_unix(stream.peer_cred().ok().map(|user| user.uid()))),
            Accepted::Tcp(stream, peer) => {
                // A delta is worth sending at once, however small.
                stream.set_nodelay(true)?;
                Ok(Peer::of_tcp(stream.local_addr()?, *peer))
            }
        }
    }
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

#[cfg(test)]
mod tests;
