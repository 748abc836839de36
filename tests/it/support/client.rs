//! A small HTTP/1.1 client that hides nothing: exact statuses, headers in order, whether a body
//! ended properly, server-sent events as they arrive, and bytes no decent client would send.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::wait::PATIENCE;

/// A request being put together.
pub struct Call {
    address: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, String)>,
    /// The body, de-chunked.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing promised (length reached, last chunk seen).
    pub complete: bool,
}

impl Call {
    /// A request to that server; `Host` is its address until set otherwise.
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Call {
        Call { address, method: method.into(), path: path.into(), headers: vec![], body: None }
    }

    /// Adds a header. `host` replaces the usual one; an empty value leaves the header out.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Call {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// `Authorization: Bearer …`.
    pub fn key(self, key: &str) -> Call {
        self.header("authorization", format!("Bearer {key}"))
    }

    /// A JSON body.
    pub fn json(self, body: &Value) -> Call {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Any body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Call {
        self.body = Some(body.into());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let named = |name: &str| self.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !named("host") {
            head += &format!("host: {}\r\n", self.address);
        }
        if let Some(body) = &self.body
            && !named("content-length")
            && !named("transfer-encoding")
        {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            head += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Sends it and opens the answer, read up to the end of its head.
    pub fn open(self) -> Stream {
        let mut connection = Connection::open(self.address);
        connection.send(&self.bytes());
        connection.answer().expect("an answer")
    }

    /// Sends it and reads the whole answer.
    pub fn send(self) -> Response {
        let head_only = self.method == "HEAD";
        let stream = self.open();
        if head_only { stream.without_body() } else { stream.whole() }
    }

    /// Sends it and does not wait for an answer: drop the connection to leave.
    pub fn send_only(self) -> Connection {
        let mut connection = Connection::open(self.address);
        connection.send(&self.bytes());
        connection
    }
}

/// A bare connection.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("connect to the proxy");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        stream.set_nodelay(true).expect("set nodelay");
        Connection { reader: BufReader::new(stream) }
    }

    /// Writes bytes as they are; a server that has already closed is no error.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.reader.get_mut().write_all(bytes) {
            assert!(
                matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
                "cannot write: {error}"
            );
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        let _ = self.reader.get_mut().shutdown(Shutdown::Write);
    }

    /// Everything until the server closes.
    pub fn rest(mut self) -> Vec<u8> {
        let mut bytes = vec![];
        let _ = self.reader.read_to_end(&mut bytes);
        bytes
    }

    /// The next answer on this connection, read up to the end of its head.
    ///
    /// # Errors
    /// The server closed or sent no HTTP.
    pub fn answer(mut self) -> io::Result<Stream> {
        loop {
            let status_line = self.line()?;
            let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
            let status: u16 =
                status.ok_or_else(|| io::Error::other(format!("no status: {status_line:?}")))?;
            let mut headers = vec![];
            loop {
                let line = self.line()?;
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other("no header"))?;
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            if status != 100 {
                return Ok(Stream::new(self, status, headers));
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

enum Framing {
    Chunked,
    Length(usize),
    UntilClose,
    Done,
}

/// An answer whose body is still arriving. Dropping it leaves in the middle.
pub struct Stream {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order sent.
    pub headers: Vec<(String, String)>,
    connection: Connection,
    framing: Framing,
    pending: Vec<u8>,
    complete: bool,
}

/// One event of a server-sent event stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Sse {
    /// A `data:` event, its lines joined.
    Data(String),
    /// A comment line, without the colon.
    Comment(String),
    /// A field we do not expect (`id`, `event`, `retry`).
    Other(String),
}

impl Stream {
    fn new(connection: Connection, status: u16, headers: Vec<(String, String)>) -> Stream {
        let find = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let framing = match (find("transfer-encoding"), find("content-length")) {
            _ if status == 204 || status == 304 => Framing::Done,
            (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
            (_, Some(length)) => Framing::Length(length.parse().expect("a content-length")),
            _ => Framing::UntilClose,
        };
        Stream {
            status,
            headers,
            connection,
            framing,
            pending: vec![],
            complete: status == 204 || status == 304,
        }
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The next piece of the body; `None` at its end or when it breaks off.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let reader = &mut self.connection.reader;
        match self.framing {
            Framing::Done => None,
            Framing::UntilClose => {
                let mut piece = vec![0; 65536];
                let count = reader.read(&mut piece).unwrap_or(0);
                piece.truncate(count);
                self.complete |= count == 0;
                (count > 0).then_some(piece)
            }
            Framing::Length(0) => {
                self.complete = true;
                None
            }
            Framing::Length(left) => {
                let mut piece = vec![0; left.min(65536)];
                let count = reader.read(&mut piece).unwrap_or(0);
                piece.truncate(count);
                self.framing = Framing::Length(left - count);
                (count > 0).then_some(piece)
            }
            Framing::Chunked => {
                let mut size = String::new();
                reader.read_line(&mut size).ok()?;
                let size = usize::from_str_radix(size.trim().split(';').next()?, 16).ok()?;
                let mut piece = vec![0; size + 2];
                reader.read_exact(&mut piece).ok()?;
                piece.truncate(size);
                if size == 0 {
                    self.framing = Framing::Done;
                    self.complete = true;
                    return None;
                }
                Some(piece)
            }
        }
    }

    fn without_body(self) -> Response {
        Response { status: self.status, headers: self.headers, body: vec![], complete: true }
    }

    /// Reads to the end.
    pub fn whole(mut self) -> Response {
        let mut body = std::mem::take(&mut self.pending);
        while let Some(piece) = self.piece() {
            body.extend(piece);
        }
        Response { status: self.status, headers: self.headers, body, complete: self.complete }
    }

    /// The next server-sent event; `None` at the end.
    pub fn event(&mut self) -> Option<Sse> {
        let frame = self.frame()?;
        let mut data: Vec<&str> = vec![];
        for line in frame.trim_end_matches('\n').split('\n') {
            match line.split_once(':') {
                Some(("data", text)) => data.push(text.strip_prefix(' ').expect("`data: ` has its space")),
                Some(("", text)) => return Some(Sse::Comment(text.trim().into())),
                _ => return Some(Sse::Other(line.into())),
            }
        }
        Some(Sse::Data(data.join("\n")))
    }

    /// The next event that has a name, and its data; comments passed over.
    pub fn named(&mut self) -> Option<(String, String)> {
        loop {
            let frame = self.frame()?;
            if frame.starts_with(':') {
                continue;
            }
            let named = frame.strip_prefix("event: ").and_then(|rest| rest.split_once("\ndata: "));
            let (name, data) = named.unwrap_or_else(|| panic!("no named event: {frame}"));
            return Some((name.to_owned(), data.trim_end_matches('\n').to_owned()));
        }
    }

    fn frame(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = self.pending.drain(..end + 2).collect();
                return Some(String::from_utf8(frame).expect("events are UTF-8"));
            }
            let piece = self.piece()?;
            self.pending.extend(piece);
        }
    }

    /// The next `data:` event, comments passed over.
    pub fn data(&mut self) -> Option<String> {
        loop {
            match self.event()? {
                Sse::Data(data) => return Some(data),
                Sse::Comment(_) => {}
                Sse::Other(line) => panic!("a field that has no place in this stream: {line}"),
            }
        }
    }

    /// All the rest: the chunks, and whether `[DONE]` closed them.
    pub fn chunks(&mut self) -> (Vec<Value>, bool) {
        let mut chunks = vec![];
        while let Some(data) = self.data() {
            if data == "[DONE]" {
                assert_eq!(self.event(), None, "nothing follows [DONE]");
                return (chunks, true);
            }
            chunks.push(serde_json::from_str(&data).expect("chunks are JSON"));
        }
        (chunks, false)
    }

    /// Whether the body ended as its framing promised.
    pub fn complete(&self) -> bool {
        self.complete
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a UTF-8 body")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The answer's text, from a 200.
    pub fn answer(&self) -> String {
        assert!(self.status == 200 && self.complete, "{} {}", self.status, self.text());
        self.json()["choices"][0]["message"]["content"].as_str().expect("a text answer").into()
    }

    /// Checks the error envelope and returns its message.
    pub fn error(&self, status: u16, kind: &str, code: &str) -> String {
        let text = self.text();
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{text}");
        assert!(self.header("x-request-id").is_some(), "an error carries its request id: {:?}", self.headers);
        let body = self.json();
        check_envelope(&body, kind, code)
    }
}

/// Checks one error object, wherever it came, and returns its message.
pub fn check_envelope(body: &Value, kind: &str, code: &str) -> String {
    let error = body["error"].as_object().unwrap_or_else(|| panic!("no error object: {body}"));
    let mut keys: Vec<&str> = error.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "{body}");
    assert_eq!((error["type"].as_str(), error["code"].as_str()), (Some(kind), Some(code)), "{body}");
    error["message"].as_str().expect("a message").into()
}
