//! The accept loop and one task per connection, up to a hyper `Service` that answers requests.
//!
//! Here and not warp's own server, which cannot inherit sockets, limit connections, time out slow
//! heads, or bound a drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{BoxError, Host};
use super::peer::Peer;
use super::seats::Connections;
use super::wire::Timeouts;
use crate::config::Live;
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

/// Serves until `stop`: then closes the listeners at once, lets every request in flight run to its
/// end, and resolves when the last connection is gone. `abort` cuts what is still open.
///
/// An idle connection gets one more answer, if its request comes soon; from `stop` on answers say
/// `Connection: close`.
///
/// Every request carries its [`Connection`](super::connection::Connection) and
/// [`Target`](super::connection::Target) as extensions. At most
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
    let host = Host { service, stop: stop.clone(), abort, timeouts: Timeouts::default() };
    let tasks = TaskTracker::new();
    Ok(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = host.accept_all(&mut acceptors, &live, &connections, &tasks) => {}
        }
        if backlog == Backlog::Accept {
            host.accept_rest(acceptors, &connections, &tasks);
        } else {
            drop(acceptors);
        }
        tasks.close();
        tasks.wait().await;
    })
}

impl<S, B> Host<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn enter(&self, accepted: Accepted, connections: &Connections, tasks: &TaskTracker) {
        let open = connections.enter();
        let host = self.clone();
        // Now, since the client's leaving takes away who it was.
        let peer = match accepted.peer() {
            Ok(peer) => peer,
            Err(error) => return tracing::debug!(%error, "a client left as it was accepted"),
        };
        tasks.spawn(async move {
            match accepted {
                Accepted::Unix(stream) => host.converse(stream, peer).await,
                Accepted::Tcp(stream, _) => host.converse(stream, peer).await,
            }
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
