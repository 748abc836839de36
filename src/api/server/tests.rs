use super::*;
use crate::api::connection::{Connection, MAX_BUFFER, Target};
use crate::api::request_body::RequestBody;
use crate::config::Config;
use crate::os::listen;
use crate::os::users::own_uid;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use serde_json::Value;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;

/// A server under test: what it is asked shows in `served`; `/wait` is answered when `gate` opens.
struct Fixture {
    address: SocketAddr,
    stop: CancellationToken,
    abort: CancellationToken,
    connections: Connections,
    served: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    live: Live,
    done: tokio::task::JoinHandle<()>,
}

const TRICK: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

async fn route(
    request: Request<RequestBody>,
    gate: Arc<Semaphore>,
    cancelled: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    struct Unfinished(Arc<AtomicUsize>);
    impl Drop for Unfinished {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (parts, body) = request.into_parts();
    let (status, text) = match parts.uri.path() {
        "/wait" => {
            let unfinished = Unfinished(cancelled);
            gate.acquire().await.unwrap().forget();
            std::mem::forget(unfinished);
            (200, "waited".to_owned())
        }
        "/who" => {
            let connection = parts.extensions.get::<Connection>().unwrap();
            let target = &parts.extensions.get::<Target>().unwrap().0;
            (200, format!("{:?} {target}", connection.peer()))
        }
        "/refuse" => (413, "{}".to_owned()), // without reading the body
        "/length" => match body.collect().await {
            Ok(body) => (200, body.to_bytes().len().to_string()),
            Err(_) => (400, "{}".to_owned()),
        },
        "/large" => (200, "x".repeat(8 << 20)),
        "/trick" => (200, TRICK.to_owned()),
        _ => (200, "ok".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// As many connections as the settings say, and no strangers.
fn limits(live: Live, connections: Connections) -> Limits {
    Limits { live, connections, is_stranger: Arc::new(|_| false), descriptors: usize::MAX }
}

impl Fixture {
    fn start(max_connections: usize, more: Vec<Listener>) -> Fixture {
        let mut listeners = listen::bind("127.0.0.1", 0).unwrap();
        let address = listeners[0].tcp_addr().unwrap();
        listeners.extend(more);
        let live = Live::new(Config { max_connections, ..Config::default() });
        let (stop, abort, connections) = <(CancellationToken, CancellationToken, Connections)>::default();
        let (served, cancelled) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let gate = Arc::new(Semaphore::new(0));
        let service = {
            let (served, cancelled, gate) = (Arc::clone(&served), Arc::clone(&cancelled), Arc::clone(&gate));
            service_fn(move |request| {
                served.fetch_add(1, Ordering::SeqCst);
                route(request, Arc::clone(&gate), Arc::clone(&cancelled))
            })
        };
        let serving = serve(
            listeners,
            service,
            limits(live.clone(), connections.clone()),
            stop.clone(),
            abort.clone(),
            Backlog::Accept,
        );
        let done = tokio::spawn(serving.unwrap());
        Fixture { address, stop, abort, connections, served, cancelled, gate, live, done }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a fresh connection and reads until the server closes it.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// One request on an open connection, and the body of its answer.
async fn ask(client: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    client.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    answer(client).await.1
}

/// Reads one answer with a content length: its head and body.
async fn answer(client: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut bytes = Vec::new();
    let head = loop {
        bytes.push(client.read_u8().await.unwrap());
        if let Some(head) = bytes.strip_suffix(b"\r\n\r\n") {
            break String::from_utf8(head.to_vec()).unwrap();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// The status and `error.code` of an answer in the envelope, after which the connection ends.
fn refusal(text: &str) -> (u16, String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    assert!(head.contains("content-type: application/json") && head.contains("connection: close"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{text:?}"));
    (head[9..12].parse().unwrap(), body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_hyper_refuses_has_the_envelope() {
    let server = Fixture::start(100, vec![]);
    let check = async |bytes: &[u8], status: u16, code: &str| {
        let text = server.raw(bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        assert_eq!(refusal(&text), (status, code.to_owned()), "{shown}");
        // The same after a good request on the same connection.
        let good = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let text = server.raw(&[good, bytes].concat()).await;
        let (first, second) = text.split_once("ok").unwrap_or_else(|| panic!("{shown}: {text:?}"));
        assert!(first.starts_with("HTTP/1.1 200 OK"), "{text:?}");
        assert_eq!(refusal(second), (status, code.to_owned()), "{shown} after a good request");
    };
    check(b"GARBAGE\r\n\r\n", 400, "malformed_request").await;
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "malformed_request").await;
    check(b"GET / HTTP/3.0\r\n\r\n", 400, "malformed_request").await;
    check(b"GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed_request").await;
    check(b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, "malformed_request").await;
    check(b"GET / HTTP/1.1\r\nhost: x\0\r\n\r\n", 400, "malformed_request").await;
    check(b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400, "malformed_request").await;
    check(b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "malformed_request").await;
    check(b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "malformed_request")
        .await;
    check(b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 400, "malformed_request").await;
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    check(many.as_bytes(), 431, "headers_too_large").await;
    let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(2 * MAX_BUFFER));
    check(long.as_bytes(), 431, "headers_too_large").await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(70_000));
    check(long.as_bytes(), 414, "uri_too_long").await;
}

#[tokio::test]
async fn http_2_is_told_so() {
    let server = Fixture::start(100, vec![]);
    let text = server.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(refusal(&text), (505, "http_version_not_supported".to_owned()));
}

#[tokio::test]
async fn answers_of_ours_are_never_altered() {
    let server = Fixture::start(100, vec![]);
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "/trick").await, TRICK);
    }
    client
        .write_all(b"POST /length HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        .await
        .unwrap();
    let (head, body) = answer(&mut client).await;
    assert!(
        head.starts_with("HTTP/1.1 400") && body == "{}",
        "a bad chunk is the service's to answer: {head}"
    );
}

#[tokio::test]
async fn a_large_refused_body_does_not_lose_the_answer() {
    let server = Fixture::start(100, vec![]);
    let address = server.address;
    for framing in ["content-length: 10485760", "transfer-encoding: chunked"] {
        // As plain clients do: everything is sent before anything is read.
        let answer = tokio::task::spawn_blocking(move || {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            write!(client, "POST /refuse HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n").unwrap();
            if framing.starts_with("transfer") {
                write!(client, "a00000\r\n").unwrap();
            }
            let piece = vec![b'x'; 1 << 16];
            for _ in 0..160 {
                client.write_all(&piece).unwrap();
            }
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n") && answer.ends_with("{}"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn expect_continue_is_answered_when_the_body_is_wanted() {
    let server = Fixture::start(100, vec![]);
    let mut client = server.connect().await;
    let head = "HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(format!("POST /length {head}").as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    client.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"abc").await.unwrap();
    assert_eq!(answer(&mut client).await.1, "3");
    client.write_all(format!("POST /refuse {head}").as_bytes()).await.unwrap();
    assert!(answer(&mut client).await.0.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn an_answer_to_an_unread_body_says_that_the_connection_closes() {
    let server = Fixture::start(100, vec![]);
    for (path, framing, body, closes) in [
        ("/length", "content-length: 3", "abc", false),
        ("/length", "transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", false),
        ("/refuse", "content-length: 0", "", false),
        ("/refuse", "content-length: 3", "abc", true),
        ("/refuse", "transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", true),
        // A success as well.
        ("/ok", "content-length: 3", "abc", true),
    ] {
        let mut client = server.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(body.as_bytes()).await.unwrap();
        let (head, _) = answer(&mut client).await;
        assert_eq!(head.contains("connection: close"), closes, "{path} {framing}: {head}");
        if closes {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "{path} {framing}");
        } else {
            client.write_all(b"GET /ok HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert_eq!(answer(&mut client).await.1, "ok", "{path} {framing}");
        }
    }
}

#[tokio::test]
async fn no_more_connections_than_allowed() {
    let server = Fixture::start(2, vec![]);
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    assert_eq!((ask(&mut first, "/").await, ask(&mut second, "/").await), ("ok".into(), "ok".into()));
    assert_eq!(server.connections.open(), 2);

    // The third takes the seat of the one that has been without a request for longest.
    let mut third = server.connect().await;
    assert_eq!(ask(&mut third, "/").await, "ok");
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
    until(|| server.connections.open() == 2).await;

    // While both are being answered, the fourth waits unaccepted.
    for client in [&mut second, &mut third] {
        client.write_all(request("/wait").as_bytes()).await.unwrap();
    }
    until(|| server.served.load(Ordering::SeqCst) == 5).await;
    let mut fourth = server.connect().await;
    fourth.write_all(request("/fourth").as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(20), fourth.read_u8()).await;
    assert!(early.is_err(), "nobody is cut short, and no more are served than allowed");
    assert_eq!((server.connections.open(), server.served.load(Ordering::SeqCst)), (2, 5));
    server.gate.add_permits(1);
    assert_eq!(answer(&mut fourth).await.1, "ok");
    server.gate.add_permits(1);
    let mut waited = 0;
    for client in [&mut second, &mut third] {
        waited += usize::from(answer(client).await.1 == "waited");
    }
    assert_eq!(waited, 2);

    // A reload takes effect with the next connection.
    let mut config = (*server.live.get()).clone();
    config.max_connections = 3;
    server.live.set(config);
    drop((second, third, fourth));
    let mut more = [server.connect().await, server.connect().await, server.connect().await];
    for client in &mut more {
        assert_eq!(ask(client, "/").await, "ok");
    }
    until(|| server.connections.open() == 3).await;
    drop(more);
    until(|| server.connections.open() == 0).await;
}

/// Whoever sends half a request has none.
#[tokio::test]
async fn half_a_request_holds_no_seat() {
    let server = Fixture::start(1, vec![]);
    for sent in ["", "GET / HTTP/1.1\r\nhost: x\r\n", "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /"] {
        let mut slow = server.connect().await;
        slow.write_all(sent.as_bytes()).await.unwrap();
        until(|| server.connections.open() > 0).await;
        let mut next = server.connect().await;
        assert_eq!(ask(&mut next, "/").await, "ok", "behind {sent:?}");
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.ok(); // reset, where hyper had not read it all
        drop(next);
        until(|| server.connections.open() == 0).await;
    }
}

#[tokio::test]
async fn every_request_knows_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    unix.set_nonblocking(true).unwrap();
    let server = Fixture::start(100, vec![Listener::Unix(unix)]);
    let tcp = ask(&mut server.connect().await, "http://localhost/who").await;
    let known = if cfg!(target_os = "linux") { Peer::Local(own_uid()) } else { Peer::CannotTell };
    assert_eq!(tcp, format!("{known:?} http://localhost/who"));
    let mut client = UnixStream::connect(&path).await.unwrap();
    assert_eq!(ask(&mut client, "/who").await, format!("{:?} /who", Peer::Unix(Some(own_uid()))));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let more = [
        b"".to_vec(),
        // Some clients end a body with a line of its own.
        b"\r\n".to_vec(),
        b"GET /ok HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        vec![0; 32 << 10],
    ];
    for (left, more) in more.into_iter().enumerate() {
        let server = Fixture::start(100, vec![]);
        let mut client = server.connect().await;
        client.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        client.write_all(&more).await.unwrap();
        until(|| server.served.load(Ordering::SeqCst) == 1).await;
        assert_eq!(server.cancelled.load(Ordering::SeqCst), 0, "{left}");
        drop(client);
        until(|| server.cancelled.load(Ordering::SeqCst) == 1).await;
        until(|| server.connections.open() == 0).await;
    }
}

#[tokio::test]
async fn what_was_sent_behind_a_request_is_served_after_it() {
    let server = Fixture::start(100, vec![]);
    let mut client = server.connect().await;
    let body = "x".repeat(100_000);
    let next = format!("POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    client.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until(|| server.served.load(Ordering::SeqCst) == 1).await;
    // More than is read ahead, so that the rest stays in the socket.
    client.write_all(next.as_bytes()).await.unwrap();
    server.gate.add_permits(1);
    assert_eq!(answer(&mut client).await.1, "waited");
    assert_eq!(answer(&mut client).await.1, "100000");
    assert_eq!(ask(&mut client, "/").await, "ok");
}

#[tokio::test]
async fn an_idle_connection_gets_one_more_answer_when_stopping() {
    let server = Fixture::start(100, vec![]);
    let (mut idle, mut silent) = (server.connect().await, server.connect().await);
    assert_eq!(ask(&mut idle, "/").await, "ok");
    until(|| server.connections.open() == 2).await;
    server.stop.cancel();
    for client in [&mut idle, &mut silent] {
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let (head, body) = answer(client).await;
        assert!(head.contains("connection: close") && body == "ok", "{head}");
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
    server.done.await.unwrap();
}

/// The runtime has one thread, so nothing is accepted between connecting and stopping.
#[tokio::test]
async fn who_waits_in_the_backlog_is_answered_unless_the_socket_lives_on() {
    for backlog in [Backlog::Accept, Backlog::Leave] {
        let listeners = listen::bind("127.0.0.1", 0).unwrap();
        let address = listeners[0].tcp_addr().unwrap();
        let kept = listeners[0].try_clone().unwrap();
        let service =
            service_fn(|_: Request<RequestBody>| async { Ok(Response::new(Full::<Bytes>::from("ok"))) });
        let stop = CancellationToken::new();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        stop.cancel();
        let (limits, abort) =
            (limits(Live::new(Config::default()), Connections::default()), CancellationToken::new());
        let serving = serve(listeners, service, limits, stop, abort, backlog);
        let reading = tokio::task::spawn_blocking(move || {
            let mut first = [0; 12];
            let read = client
                .set_read_timeout(Some(Duration::from_millis(300)))
                .and_then(|()| client.read(&mut first));
            (read.unwrap_or(0), first)
        });
        serving.unwrap().await;
        let (read, first) = reading.await.unwrap();
        match backlog {
            Backlog::Accept => assert_eq!(&first[..read], b"HTTP/1.1 200"),
            Backlog::Leave => {
                assert_eq!(read, 0);
                let Listener::Tcp(next) = kept else { panic!("a TCP listener") };
                next.accept().unwrap();
            }
        }
    }
}

#[tokio::test]
async fn stopping_ends_the_idle_and_lets_the_busy_finish() {
    let server = Fixture::start(100, vec![]);
    let (mut idle, mut silent, mut busy) =
        (server.connect().await, server.connect().await, server.connect().await);
    assert_eq!(ask(&mut idle, "/").await, "ok");
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until(|| server.served.load(Ordering::SeqCst) == 2 && server.connections.open() == 3).await;

    server.stop.cancel();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    until(|| std::net::TcpStream::connect(server.address).is_err()).await;
    until(|| server.connections.open() == 1).await;
    assert!(!server.done.is_finished());

    server.gate.add_permits(1);
    let (head, body) = answer(&mut busy).await;
    assert!(head.contains("connection: close") && body == "waited", "{head}");
    assert_eq!(busy.read(&mut [0]).await.unwrap(), 0);
    server.done.await.unwrap();
}

#[tokio::test]
async fn aborting_cuts_what_is_left() {
    let server = Fixture::start(100, vec![]);
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until(|| server.served.load(Ordering::SeqCst) == 1).await;
    server.stop.cancel();
    server.abort.cancel();
    assert!(matches!(busy.read(&mut [0]).await, Ok(0) | Err(_)));
    server.done.await.unwrap();
    assert_eq!((server.cancelled.load(Ordering::SeqCst), server.connections.open()), (1, 0));
}

/// A conversation over memory, where time can be paused.
fn converse(buffer: usize) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (client, stream) = tokio::io::duplex(buffer);
    let (stop, abort) = <(CancellationToken, CancellationToken)>::default();
    let service = service_fn(|request| route(request, Arc::new(Semaphore::new(0)), Arc::default()));
    let seat = Arc::new(Seats::default().take(Holder::Us, 1).unwrap());
    let host = Host { service, stop, abort, timeouts: Timeouts::default() };
    (client, tokio::spawn(host.converse(stream, Peer::Stranger, seat)))
}

#[tokio::test(start_paused = true)]
async fn slow_heads_are_answered_and_idle_connections_just_closed() {
    let check = async |sent: &str, expect: Option<(u16, &str)>| {
        let (mut client, conversation) = converse(1 << 16);
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        drop(client);
        conversation.await.unwrap();
        let text =
            text.strip_prefix("HTTP/1.1 200 OK").map_or(&*text, |rest| rest.split_once("ok").unwrap().1);
        let found = (!text.is_empty()).then(|| refusal(text));
        assert_eq!(found, expect.map(|(status, code)| (status, code.to_owned())), "{sent:?}");
    };
    check("", None).await;
    check("GET / HTTP/1.1\r\nhost: x\r\n\r\n", None).await;
    check("GET / HT", Some((408, "request_timeout"))).await;
    check("GET / HTTP/1.1\r\nhost: x\r\n", Some((408, "request_timeout"))).await;
    check("GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT", Some((408, "request_timeout"))).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut() {
    let (mut client, conversation) = converse(1024);
    client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    conversation.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_neither_sends_nor_closes_is_left() {
    let (mut client, conversation) = converse(1024);
    client.write_all(b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    assert!(answer(&mut client).await.0.starts_with("HTTP/1.1 413"));
    conversation.await.unwrap();
}

#[tokio::test]
async fn warp_routes_and_bodies_fit() {
    use crate::api::{body, error};
    use warp::Filter;
    let buffers = body::Buffers::new();
    let routes = warp::path!("v1" / "echo")
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Connection>())
        .and(warp::body::stream())
        .then(move |headers, connection: Connection, stream| {
            let buffers = buffers.clone();
            async move {
                assert!(!matches!(connection.peer(), Peer::Unix(_)));
                match body::read(&headers, stream, body::Limits::of(10), &buffers, 1000).await {
                    Ok(body) => warp::reply::Response::new(body.text().to_owned().into()),
                    Err(failure) => error::response(&error::answer(&failure), &crate::api::chat::CHAT, ""),
                }
            }
        });
    let service = hyper_util::service::TowerToHyperService::new(warp::service(routes));
    let listeners = listen::bind("127.0.0.1", 0).unwrap();
    let address = listeners[0].tcp_addr().unwrap();
    let (stop, abort) = <(CancellationToken, CancellationToken)>::default();
    let limits = limits(Live::new(Config::default()), Connections::default());
    let serving = serve(listeners, service, limits, stop.clone(), abort, Backlog::Accept).unwrap();
    let done = tokio::spawn(serving);
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let check = async |client: &mut TcpStream, rest: &str, status: u16, expect: &str| {
        client.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        let (head, body) = answer(client).await;
        assert_eq!(head[9..12], status.to_string());
        assert!(body.contains(expect), "{body}");
    };
    check(&mut client, "content-length: 2\r\n\r\n{}", 200, "{}").await;
    check(&mut client, "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, "{}").await;
    check(&mut client, "content-length: 10\r\n\r\n0123456789", 200, "0123456789").await;
    check(&mut client, "content-length: 11\r\n\r\n01234567890", 413, "request_too_large").await;
    // That body was not read.
    client = TcpStream::connect(address).await.unwrap();
    check(&mut client, "transfer-encoding: chunked\r\n\r\n1\r\n{\r\nXX\r\n", 400, "invalid_value").await;
    stop.cancel();
    done.await.unwrap();
}

/// Out of descriptors, accepting rests and goes on. The server runs as a child with few of them.
#[test]
fn running_out_of_descriptors_passes() {
    const NAME: &str = "api::server::tests::running_out_of_descriptors_passes";
    const CHILD: &str = "TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(async {
            let server = Fixture::start(1000, vec![]);
            println!("\naddress {}", server.address);
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
                .await
                .unwrap()
                .unwrap();
        });
    }
    let mut child = std::process::Command::new("bash")
        .args(["-c", "ulimit -n 32; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(NAME)
        .env(CHILD, "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let address = lines.find_map(|line| line.unwrap().strip_prefix("address ").map(str::to_owned)).unwrap();

    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut clients: Vec<_> = (0..60).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    let mut waiting = clients.split_off(40);
    // The first take all descriptors there are, and hold them until they are dropped.
    if cfg!(target_os = "linux") {
        let descriptors = format!("/proc/{}/fd", child.id());
        while std::fs::read_dir(&descriptors).unwrap().count() < 32 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    drop(clients);
    for client in &mut waiting {
        client.write_all(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ok"), "{answer}");
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
