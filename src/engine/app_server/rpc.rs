//! JSON-RPC over a pair of pipes: requests out, replies matched by id, everything else handed on.
//!
//! Never waits for one conversation on behalf of another: whoever reads must not block, so what
//! it hears goes to a plain function, and what it says goes into a queue with room for more
//! messages than can be under way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::AsyncRead;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::process::Lines;
use crate::turn::pace::apart;
use outbox::Message;

/// How many requests may wait for their replies: above some 600 the app-server leaves some
/// unanswered.
const IN_FLIGHT: usize = 256;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpcError {
    /// The app-server answered with an error.
    Refused {
        /// JSON-RPC's code.
        code: i64,
        /// What it said.
        message: String,
    },
    /// It did not answer in time.
    Late {
        /// What was asked.
        method: &'static str,
        /// The time allowed.
        after: Duration,
    },
    /// The connection is gone.
    Closed,
}

/// Where JSON is wrong, without serde's quotation of it, which may be of the prompt.
pub(super) fn place(error: &serde_json::Error) -> String {
    format!("{:?} error at column {}", error.classify(), error.column())
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The message may quote what it refuses.
            RpcError::Refused { code, message } => write!(f, "refused ({code}, {} bytes)", message.len()),
            RpcError::Late { method, after } => write!(f, "no reply to {method} within {after:?}"),
            RpcError::Closed => f.write_str("the connection is closed"),
        }
    }
}

type Reply = Result<Box<RawValue>, RpcError>;

/// Called by the reader with the reply, before it reads on.
pub type OnReply = Box<dyn FnOnce(Result<(), &RpcError>) + Send>;

/// A request that has no reply yet.
struct Waiting {
    tell: oneshot::Sender<Reply>,
    on_reply: Option<OnReply>,
    /// Its place among the requests in flight; a question for a sign of life needs none.
    _place: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

/// A request on its way; [`Rpc::reply`] waits for its reply.
#[derive(Debug)]
pub struct Sent {
    id: u64,
    begins: u64,
    method: &'static str,
    limit: Duration,
    end: Instant,
    reply: oneshot::Receiver<Reply>,
}

impl Sent {
    /// What was asked.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Where it begins in all that is written to the app-server, in bytes.
    pub fn begins(&self) -> u64 {
        self.begins
    }
}

/// Something the app-server says of its own accord. Borrowed from the line it stands in.
#[derive(Clone, Copy, Debug)]
pub struct ServerMessage<'a> {
    /// `item/agentMessage/delta` and the like.
    pub method: &'a str,
    /// JSON text of the parameters; empty if there are none.
    pub params: &'a str,
    /// JSON text of the id if an answer is pending_tool_calls.
    pub id: Option<&'a str>,
}

/// Why the reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The other end closed its output.
    Eof,
    /// What came cannot be trusted, or could not be read.
    Broken(String),
}

/// A JSON string that is borrowed unless it holds escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Text<'a>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Serialize)]
struct Request<'a, P> {
    id: u64,
    method: &'a str,
    params: &'a P,
}

/// The asking side of one connection.
#[derive(Debug)]
pub struct Rpc {
    /// `None` once the connection is closed.
    outgoing: Mutex<Option<Outgoing>>,
    /// `None` once the connection is closed.
    pending: Mutex<Option<HashMap<u64, Waiting>>>,
    /// Told of each reply.
    replied: Notify,
    /// Counts lines heard.
    heard: AtomicU64,
    next: AtomicU64,
    places: Arc<Semaphore>,
}

/// The near end of the way to the pipe.
#[derive(Debug)]
struct Outgoing {
    queue: mpsc::Sender<Message>,
    /// Bytes put in so far.
    bytes: u64,
}

impl Rpc {
    /// A connection that still needs its [`write()`] and [`Rpc::read`] loops run.
    pub fn new() -> (Rpc, Outbox) {
        let (outbox, queue) = mpsc::channel(outbox::LONGEST_QUEUE);
        let rpc = Rpc {
            outgoing: Mutex::new(Some(Outgoing { queue: outbox, bytes: 0 })),
            pending: Mutex::new(Some(HashMap::new())),
            replied: Notify::new(),
            heard: AtomicU64::new(0),
            next: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(IN_FLIGHT)),
        };
        (rpc, Outbox(queue))
    }

    fn pending(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        // Nothing can panic while it is held.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks and waits for the reply, a place among the requests in flight included.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn call<P: Serialize>(&self, method: &'static str, params: &P, limit: Duration) -> Reply {
        let sent = self.send(method, params, limit, None).await?;
        self.reply(sent).await
    }

    /// Asks without waiting for the reply: requests sent one after the other arrive in that order.
    /// `limit` runs from now to the reply. The reply is first shown to `on_reply`: what that does is
    /// done before anything that the app-server said later is heard.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn send<P: Serialize>(
        &self,
        method: &'static str,
        params: &P,
        limit: Duration,
        on_reply: Option<OnReply>,
    ) -> Result<Sent, RpcError> {
        let end = Instant::now() + limit;
        let place = self.place(method, limit, end).await?;
        self.send_in(Some(place), method, params, limit, end, on_reply).await
    }

    /// [`Rpc::send`] with parameters in pieces, `bytes` of them or so, which are made as they are written.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn send_pieces(
        &self,
        method: &'static str,
        params: impl Iterator<Item = Vec<u8>> + Clone + Send + 'static,
        bytes: usize,
        limit: Duration,
        on_reply: Option<OnReply>,
    ) -> Result<Sent, RpcError> {
        let end = Instant::now() + limit;
        let place = self.place(method, limit, end).await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let head = format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":").into_bytes();
        let pieces = std::iter::once(head).chain(params).chain(std::iter::once(b"}\n".to_vec()));
        let line = apart(bytes, || Message::of(pieces));
        self.send_line(id, line, Some(place), method, limit, end, on_reply).await
    }

    async fn place(
        &self,
        method: &'static str,
        limit: Duration,
        end: Instant,
    ) -> Result<OwnedSemaphorePermit, RpcError> {
        let place = timeout_at(end, Arc::clone(&self.places).acquire_owned());
        let place = place.await.map_err(|_| RpcError::Late { method, after: limit })?;
        place.map_err(|_| RpcError::Closed)
    }

    async fn send_in<P: Serialize>(
        &self,
        place: Option<OwnedSemaphorePermit>,
        method: &'static str,
        params: &P,
        limit: Duration,
        end: Instant,
        on_reply: Option<OnReply>,
    ) -> Result<Sent, RpcError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let line = Message::json(&Request { id, method, params }).map_err(|error| RpcError::Refused {
            code: 0,
            message: format!("cannot encode {method}: {error}"),
        })?;
        self.send_line(id, line, place, method, limit, end, on_reply).await
    }

    #[allow(clippy::too_many_arguments, reason = "the two ways above end here")]
    async fn send_line(
        &self,
        id: u64,
        line: Message,
        place: Option<OwnedSemaphorePermit>,
        method: &'static str,
        limit: Duration,
        end: Instant,
        on_reply: Option<OnReply>,
    ) -> Result<Sent, RpcError> {
        let (tell, reply) = oneshot::channel();
        let waiting = Waiting { tell, on_reply, _place: place };
        self.pending().as_mut().ok_or(RpcError::Closed)?.insert(id, waiting);
        let queue =
            self.outgoing().as_ref().map(|outgoing| outgoing.queue.clone()).ok_or(RpcError::Closed)?;
        // Waits only if the app-server reads nothing while we owe it answers.
        let Ok(room) = timeout_at(end, queue.reserve_owned()).await else {
            self.forget(id);
            return Err(RpcError::Late { method, after: limit });
        };
        let begins = self.put(room.map_err(|_| RpcError::Closed)?, line)?;
        Ok(Sent { id, begins, method, limit, end, reply })
    }

    /// Puts a message behind all others, and says where it begins.
    fn put(&self, room: mpsc::OwnedPermit<Message>, line: Message) -> Result<u64, RpcError> {
        let mut outgoing = self.outgoing();
        let outgoing = outgoing.as_mut().ok_or(RpcError::Closed)?;
        let begins = outgoing.bytes;
        outgoing.bytes += line.len() as u64;
        room.send(line);
        Ok(begins)
    }

    fn outgoing(&self) -> MutexGuard<'_, Option<Outgoing>> {
        // Nothing can panic while it is held.
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the reply to a request.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn reply(&self, sent: Sent) -> Reply {
        let Sent { id, method, limit, end, reply, .. } = sent;
        match timeout_at(end, reply).await {
            Ok(reply) => reply.map_err(|_| RpcError::Closed)?,
            Err(_) => {
                self.forget(id);
                Err(RpcError::Late { method, after: limit })
            }
        }
    }

    fn forget(&self, id: u64) -> Option<Waiting> {
        self.pending().as_mut()?.remove(&id)
    }

    /// Says something that has no reply.
    pub fn notify(&self, method: &str) {
        self.say(format!("{{\"method\":\"{method}\"}}\n"));
    }

    /// Answers a request of the app-server. `answer` is the `"result":…` or `"error":…` member.
    pub fn answer(&self, id: &str, answer: &str) {
        self.say(format!("{{\"id\":{id},{answer}}}\n"));
    }

    /// Answers a request of the app-server, waiting while that does not read. Gives where the answer
    /// begins in all that is written to it, in bytes.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn respond(&self, id: &str, answer: &str, limit: Duration) -> Result<u64, RpcError> {
        let queue =
            self.outgoing().as_ref().map(|outgoing| outgoing.queue.clone()).ok_or(RpcError::Closed)?;
        let room = timeout_at(Instant::now() + limit, queue.reserve_owned()).await;
        let room = room.map_err(|_| RpcError::Late { method: "item/tool/call", after: limit })?;
        self.put(room.map_err(|_| RpcError::Closed)?, format!("{{\"id\":{id},{answer}}}\n").into())
    }

    fn say(&self, line: String) {
        let queue = self.outgoing().as_ref().map(|outgoing| outgoing.queue.clone());
        let Some(room) = queue.map(mpsc::Sender::try_reserve_owned) else { return };
        // Full only if the app-server floods us with requests while it reads nothing; it then
        // misses an answer, and the deadline of what it owes us tells.
        let put = room.map(|room| self.put(room, line.into()));
        if put.is_err() {
            tracing::warn!("the app-server does not read; an answer to it was dropped");
        }
    }

    /// Reads until the end, resolving replies and handing everything else to `on`.
    ///
    /// Lines that are no JSON objects (a wrapper's chatter) are skipped; one that begins like a
    /// message and is none ends the reading, because a part of somebody's answer may be lost.
    pub async fn read(
        &self,
        pipe: impl AsyncRead + Unpin,
        longest: usize,
        mut on: impl FnMut(ServerMessage<'_>),
    ) -> Ended {
        let mut lines = Lines::new(pipe, longest);
        let ended = loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => break Ended::Eof,
                Err(error) => break Ended::Broken(format!("cannot read its output: {error}")),
            };
            self.heard.fetch_add(1, Ordering::Relaxed);
            if line.first() != Some(&b'{') {
                continue;
            }
            let understood = apart(line.len(), || {
                match serde_json::from_slice::<Envelope<'_>>(line)? {
                    Envelope { method: Some(method), id, params, .. } => on(ServerMessage {
                        method: &method.0,
                        params: params.map_or("", RawValue::get),
                        id: id.map(RawValue::get),
                    }),
                    Envelope { id: Some(id), result, error, .. } => self.resolve(id.get(), result, error),
                    Envelope { .. } => {}
                }
                Ok(())
            });
            if let Err(error) = understood {
                break Ended::Broken(format!("it wrote a broken message: {}", place(&error)));
            }
        };
        self.close();
        ended
    }

    fn resolve(&self, id: &str, result: Option<&RawValue>, error: Option<ErrorObject>) {
        let waiting = id.parse().ok().and_then(|id| self.forget(id));
        let Some(waiting) = waiting else {
            tracing::debug!(id, "the app-server answered what nobody asked");
            return;
        };
        let reply = match error {
            Some(error) => Err(RpcError::Refused { code: error.code, message: error.message }),
            None => Ok(result.unwrap_or(RawValue::NULL).to_owned()),
        };
        if let Some(on_reply) = waiting.on_reply {
            on_reply(reply.as_ref().map(|_| ()));
        }
        // Whoever asked may have given up.
        let _ = waiting.tell.send(reply);
        self.replied.notify_waiters();
    }

    /// Fails every request under way, and every later one.
    pub fn close(&self) {
        self.places.close();
        self.outgoing().take();
        self.pending().take();
    }
}

mod outbox;
mod vital;

pub use outbox::{Outbox, json, write};
pub use vital::Vital;

#[cfg(test)]
mod tests;
