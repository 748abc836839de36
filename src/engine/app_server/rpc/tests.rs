use std::sync::Arc;

use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};

use super::outbox::BATCH;
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
        [("hello".into(), r#"{"a":1}"#.into(), None), ("ask".into(), String::new(), Some(r#""q""#.into()))]
    );
    rpc.answer(r#""q""#, r#""result":{}"#);
    assert_eq!(peer.hear().await, serde_json::json!({"id": "q", "result": {}}));
}

#[tokio::test]
async fn a_reply_is_seen_before_what_follows_it() {
    let (rpc, mut peer, heard, _reading) = connect();
    let seen: Arc<Mutex<Vec<(bool, usize)>>> = Arc::default();
    let mut sent = Vec::new();
    for _ in 0..2 {
        let (seen, heard) = (Arc::clone(&seen), Arc::clone(&heard));
        let look = move |reply: Result<(), &RpcError>| {
            seen.lock().unwrap().push((reply.is_ok(), heard.lock().unwrap().len()));
        };
        sent.push(rpc.send("thread/start", &["x"], SOON, Some(Box::new(look))).await.unwrap());
    }
    let ids = [peer.hear().await["id"].clone(), peer.hear().await["id"].clone()];
    // All in one piece, so that the reader does not pause between them.
    let lines = [
        format!(r#"{{"id":{},"result":{{}}}}"#, ids[0]),
        r#"{"method":"one"}"#.into(),
        format!(r#"{{"id":{},"error":{{"code":1,"message":"no"}}}}"#, ids[1]),
        r#"{"method":"two"}"#.into(),
    ];
    peer.say(&lines.join("\n")).await;
    let mut sent = sent.into_iter();
    assert!(rpc.reply(sent.next().unwrap()).await.is_ok());
    assert!(rpc.reply(sent.next().unwrap()).await.is_err());
    assert_eq!(*seen.lock().unwrap(), [(true, 0), (false, 1)]);
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
    let params = |index: usize, big: bool| {
        let body = if big { text.as_str() } else { "small" };
        format!("{{\"n\":{index},\"text\":\"{body}\"}}")
    };
    let rows = [false, true, false, true, true, false, false, true, true, false];
    let (mut sizes, mut begins) = (Vec::new(), Vec::new());
    for (index, big) in rows.into_iter().enumerate() {
        // In each of the ways there are.
        let params = params(index, big);
        match index % 3 {
            0 => rpc.say(format!("{{\"params\":{params}}}\n")),
            1 => {
                let params: Box<RawValue> = RawValue::from_string(params).unwrap();
                begins.push((index, rpc.send("m", &params, SOON, None).await.unwrap().begins()));
            }
            _ => {
                let pieces: Vec<Vec<u8>> =
                    params.into_bytes().chunks(BATCH / 2).map(<[u8]>::to_vec).collect();
                let sent = rpc.send_pieces("m", pieces.into_iter(), 0, SOON, None).await.unwrap();
                begins.push((index, sent.begins()));
            }
        }
    }
    for (index, big) in rows.into_iter().enumerate() {
        let line = peer.hears.next_line().await.unwrap().unwrap();
        sizes.push(line.len() as u64 + 1);
        let got: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(got["params"]["n"], index);
        assert_eq!(got["params"]["text"].as_str().unwrap().len(), if big { text.len() } else { 5 });
    }
    for (index, begin) in begins {
        assert_eq!(begin, sizes[..index].iter().sum::<u64>(), "{index}");
    }
}

/// Of a long message that nobody reads, only a piece is there.
#[tokio::test]
async fn a_long_message_is_made_as_it_is_read() {
    let (rpc, mut peer, _heard, _reading) = connect();
    let made = Arc::new(AtomicU64::new(0));
    let pieces = (0..100).map({
        let made = Arc::clone(&made);
        move |index: u64| {
            made.fetch_add(1, Ordering::Relaxed);
            format!("{}\"{}\"", if index == 0 { "[" } else { "," }, "x".repeat(BATCH)).into_bytes()
        }
    });
    let pieces = pieces.chain(std::iter::once(b"]".to_vec()));
    rpc.send_pieces("m", pieces, 0, SOON, None).await.unwrap();
    assert_eq!(made.swap(0, Ordering::Relaxed), 100, "each is looked at once for its length");
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(made.load(Ordering::Relaxed) < 5, "{made:?}");
    assert_eq!(peer.hear().await["params"].as_array().unwrap().len(), 100);
    assert_eq!(made.load(Ordering::Relaxed), 99, "all but the first again");
}
