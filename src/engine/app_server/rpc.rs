//! JSON-RPC over a pair of pipes: requests out, replies matched by id, everything else handed on.
//!
//! Never waits for one conversation on behalf of another: whoever reads must not block, so what
//! it hears goes to a plain function, and what it says goes into a queue with room for more
//! messages than can be under way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::process::Lines;

/// How many requests may wait for their replies: above some 600 the app-server leaves some
/// unanswered.
const IN_FLIGHT: usize = 256;

/// Messages that may wait for the pipe: every request in flight and as many answers.
const OUTBOX: usize = 2 * IN_FLIGHT;

/// Small messages are written together up to this many bytes.
const BATCH: usize = 64 << 10;

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

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RpcError::Refused { code, message } => write!(f, "{message} ({code})"),
            RpcError::Late { method, after } => write!(f, "no reply to {method} within {after:?}"),
            RpcError::Closed => f.write_str("the connection is closed"),
        }
    }
}

type Reply = Result<Box<RawValue>, RpcError>;

/// Something the app-server says of its own accord. Borrowed from the line it stands in.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// `item/agentMessage/delta` and the like.
    pub method: &'a str,
    /// JSON text of the parameters; empty if there are none.
    pub params: &'a str,
    /// JSON text of the id if an answer is owed.
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
    outbox: mpsc::Sender<Vec<u8>>,
    /// `None` once the connection is closed.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
    next: AtomicU64,
    places: Semaphore,
}

/// Messages on their way to the pipe; goes to [`write`].
#[derive(Debug)]
pub struct Outbox(mpsc::Receiver<Vec<u8>>);

impl Rpc {
    /// A connection that still needs its [`write`] and [`Rpc::read`] loops run.
    pub fn new() -> (Rpc, Outbox) {
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let rpc = Rpc {
            outbox,
            pending: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(0),
            places: Semaphore::new(IN_FLIGHT),
        };
        (rpc, Outbox(queue))
    }

    fn pending(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Reply>>>> {
        // Nothing can panic while it is held.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks and waits for the reply, a place among the requests in flight included.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn call<P: Serialize>(&self, method: &'static str, params: &P, limit: Duration) -> Reply {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let exchange = async {
            let _place = self.places.acquire().await.map_err(|_| RpcError::Closed)?;
            let mut line = serde_json::to_vec(&Request { id, method, params }).map_err(|error| {
                RpcError::Refused { code: 0, message: format!("cannot encode {method}: {error}") }
            })?;
            line.push(b'\n');
            let (tell, reply) = oneshot::channel();
            self.pending().as_mut().ok_or(RpcError::Closed)?.insert(id, tell);
            self.outbox.send(line).await.map_err(|_| RpcError::Closed)?;
            reply.await.map_err(|_| RpcError::Closed)?
        };
        let reply = timeout(limit, exchange).await;
        if reply.is_err()
            && let Some(pending) = self.pending().as_mut()
        {
            pending.remove(&id);
        }
        reply.unwrap_or(Err(RpcError::Late { method, after: limit }))
    }

    /// Says something that has no reply.
    pub fn notify(&self, method: &str) {
        self.say(format!("{{\"method\":\"{method}\"}}\n"));
    }

    /// Answers a request of the app-server. `answer` is the `"result":…` or `"error":…` member.
    pub fn answer(&self, id: &str, answer: &str) {
        self.say(format!("{{\"id\":{id},{answer}}}\n"));
    }

    fn say(&self, line: String) {
        // Full only if the app-server floods us with requests while it reads nothing; it then
        // misses an answer, and the deadline of what it owes us tells.
        if self.outbox.try_send(line.into_bytes()).is_err() {
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
        mut on: impl FnMut(Heard<'_>),
    ) -> Ended {
        let mut lines = Lines::new(pipe, longest);
        let ended = loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => break Ended::Eof,
                Err(error) => break Ended::Broken(format!("cannot read its output: {error}")),
            };
            if line.first() != Some(&b'{') {
                continue;
            }
            match serde_json::from_slice::<Envelope<'_>>(line) {
                Ok(Envelope { method: Some(method), id, params, .. }) => on(Heard {
                    method: &method.0,
                    params: params.map_or("", RawValue::get),
                    id: id.map(RawValue::get),
                }),
                Ok(Envelope { id: Some(id), result, error, .. }) => self.resolve(id.get(), result, error),
                Ok(_) => {}
                Err(error) => break Ended::Broken(format!("it wrote a broken message: {error}")),
            }
        };
        self.close();
        ended
    }

    fn resolve(&self, id: &str, result: Option<&RawValue>, error: Option<ErrorObject>) {
        let waiting = id.parse().ok().and_then(|id: u64| self.pending().as_mut()?.remove(&id));
        let Some(waiting) = waiting else {
            tracing::debug!(id, "the app-server answered what nobody asked");
            return;
        };
        let reply = match error {
            Some(error) => Err(RpcError::Refused { code: error.code, message: error.message }),
            None => Ok(result.unwrap_or(RawValue::NULL).to_owned()),
        };
        // Whoever asked may have given up.
        let _ = waiting.send(reply);
    }

    /// Fails every request under way, and every later one.
    pub fn close(&self) {
        self.places.close();
        self.pending().take();
    }
}

/// Writes messages to the pipe, small ones together, until the connection or the pipe is gone.
pub async fn write(Outbox(mut queue): Outbox, mut pipe: impl AsyncWrite + Unpin) {
    let mut batch = Vec::new();
    while let Some(first) = queue.recv().await {
        batch = if first.len() > BATCH {
            first
        } else {
            batch.clear();
            batch.extend_from_slice(&first);
            batch
        };
        while batch.len() < BATCH
            && let Ok(next) = queue.try_recv()
        {
            batch.extend_from_slice(&next);
        }
        if pipe.write_all(&batch).await.is_err() || pipe.flush().await.is_err() {
            // The reader sees the end of the process and says why.
            return;
        }
        if batch.capacity() > 4 * BATCH {
            batch = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    struct Peer {
        hears: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
        says: WriteHalf<DuplexStream>,
    }

    impl Peer {
        async fn say(&mut self, line: &str) {
            self.says.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }

        async fn hear(&mut self) -> serde_json::Value {
            serde_json::from_str(&self.hears.next_line().await.unwrap().unwrap()).unwrap()
        }
    }

    type Heards = Arc<Mutex<Vec<(String, String, Option<String>)>>>;

    fn connect() -> (Arc<Rpc>, Peer, Heards, tokio::task::JoinHandle<Ended>) {
        let (ours, theirs) = duplex(1 << 16);
        let (read, pipe) = split(ours);
        let (hears, says) = split(theirs);
        let (rpc, outbox) = Rpc::new();
        let rpc = Arc::new(rpc);
        tokio::spawn(write(outbox, pipe));
        let heard = Heards::default();
        let reading = tokio::spawn({
            let (rpc, heard) = (Arc::clone(&rpc), Arc::clone(&heard));
            async move {
                rpc.read(read, 1000, |said| {
                    heard.lock().unwrap().push((
                        said.method.to_owned(),
                        said.params.to_owned(),
                        said.id.map(str::to_owned),
                    ));
                })
                .await
            }
        });
        (rpc, Peer { hears: BufReader::new(hears).lines(), says }, heard, reading)
    }

    fn ask(rpc: &Arc<Rpc>, limit: Duration) -> tokio::task::JoinHandle<Reply> {
        let rpc = Arc::clone(rpc);
        tokio::spawn(async move { rpc.call("thread/start", &["x"], limit).await })
    }

    #[tokio::test]
    async fn replies_find_their_requests_in_any_order() {
        let (rpc, mut peer, heard, _reading) = connect();
        let (first, second) = (ask(&rpc, SOON), ask(&rpc, SOON));
        let (a, b) = (peer.hear().await, peer.hear().await);
        assert_eq!(a["method"], "thread/start");
        assert_eq!(a["params"], serde_json::json!(["x"]));
        let ids = [a["id"].as_u64().unwrap(), b["id"].as_u64().unwrap()];
        assert_ne!(ids[0], ids[1]);
        peer.say(r#"{"id":77,"result":1}"#).await;
        peer.say(r#"{"id":"0","result":1}"#).await;
        peer.say("npm notice: a new version").await;
        peer.say(r#"{"method":"hello","params":{"a":1},"new":true}"#).await;
        peer.say(r#"{"method":"as\u006b","id":"q"}"#).await;
        peer.say(&format!(r#"{{"id":{},"error":{{"code":-32600,"message":"no"}}}}"#, ids[1])).await;
        peer.say(&format!(r#"{{"id":{},"result":{{"t":1}}}}"#, ids[0])).await;
        let mut replies = [first.await.unwrap(), second.await.unwrap()];
        replies.sort_by_key(Result::is_err);
        assert_eq!(replies[0].as_ref().unwrap().get(), r#"{"t":1}"#);
        assert_eq!(replies[1].clone().unwrap_err(), RpcError::Refused { code: -32600, message: "no".into() });
        assert_eq!(
            *heard.lock().unwrap(),
            [
                ("hello".into(), r#"{"a":1}"#.into(), None),
                ("ask".into(), String::new(), Some(r#""q""#.into()))
            ]
        );
        rpc.answer(r#""q""#, r#""result":{}"#);
        assert_eq!(peer.hear().await, serde_json::json!({"id": "q", "result": {}}));
    }

    #[tokio::test]
    async fn a_late_reply_is_an_error_and_then_ignored() {
        let (rpc, mut peer, _heard, _reading) = connect();
        let late = ask(&rpc, Duration::from_millis(50));
        let asked = peer.hear().await;
        let error = late.await.unwrap().unwrap_err();
        assert_eq!(error, RpcError::Late { method: "thread/start", after: Duration::from_millis(50) });
        peer.say(&format!(r#"{{"id":{},"result":1}}"#, asked["id"])).await;
        let next = ask(&rpc, SOON);
        let asked = peer.hear().await;
        peer.say(&format!(r#"{{"id":{},"result":null}}"#, asked["id"])).await;
        assert_eq!(next.await.unwrap().unwrap().get(), "null");
        assert!(rpc.pending().as_ref().unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_end_fails_what_is_under_way_and_what_comes_later() {
        let broken = |text: &'static str| async move {
            let (rpc, mut peer, _heard, reading) = connect();
            let waiting = ask(&rpc, SOON);
            peer.hear().await;
            peer.says.write_all(text.as_bytes()).await.unwrap();
            drop(peer);
            assert_eq!(waiting.await.unwrap().unwrap_err(), RpcError::Closed);
            assert_eq!(rpc.call("late", &(), SOON).await.unwrap_err(), RpcError::Closed);
            reading.await.unwrap()
        };
        assert_eq!(broken("").await, Ended::Eof);
        assert!(matches!(broken("{\"id\":0,\"res").await, Ended::Broken(_)), "half a line");
        assert!(matches!(broken("{\"method\":5}\n").await, Ended::Broken(_)));
        assert!(matches!(broken("{garbage}\n").await, Ended::Broken(_)));
        let long: &'static str = Box::leak(format!("{{{}", " ".repeat(1000)).into_boxed_str());
        assert!(matches!(broken(long).await, Ended::Broken(_)), "a line over the limit");
    }

    #[tokio::test]
    async fn requests_in_flight_are_bounded() {
        let (rpc, mut peer, _heard, _reading) = connect();
        let asked: Vec<_> = (0..IN_FLIGHT + 5).map(|_| ask(&rpc, SOON)).collect();
        let mut ids = Vec::new();
        for _ in 0..IN_FLIGHT {
            ids.push(peer.hear().await["id"].clone());
        }
        assert_eq!(rpc.places.available_permits(), 0);
        assert_eq!(rpc.pending().as_ref().unwrap().len(), IN_FLIGHT);
        for id in ids {
            peer.say(&format!(r#"{{"id":{id},"result":1}}"#)).await;
        }
        for _ in 0..5 {
            let id = peer.hear().await["id"].clone();
            peer.say(&format!(r#"{{"id":{id},"result":1}}"#)).await;
        }
        for reply in asked {
            reply.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn large_messages_arrive_whole_among_small_ones() {
        let (rpc, mut peer, _heard, _reading) = connect();
        let text = "x".repeat(3 * BATCH);
        for (index, big) in [false, true, false, true, true, false].into_iter().enumerate() {
            let body = if big { text.as_str() } else { "small" };
            rpc.say(format!("{{\"n\":{index},\"text\":\"{body}\"}}\n"));
        }
        for (index, big) in [false, true, false, true, true, false].into_iter().enumerate() {
            let got = peer.hear().await;
            assert_eq!(got["n"], index);
            assert_eq!(got["text"].as_str().unwrap().len(), if big { text.len() } else { 5 });
        }
    }
}
