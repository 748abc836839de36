//! HTTP as a client library has it, and little more: this process shares the cores with the proxy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is asked where nothing else is said.
pub const PROMPT: &str = "Reply with exactly: pong";

/// A keep-alive connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Option<Client> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Client { stream, buffer: vec![] })
    }

    pub async fn get(&mut self, path: &str) -> u16 {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await
    }

    pub async fn ask(&mut self) {
        let status = self.exchange(&completion(PROMPT, false)).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&self.buffer));
        assert!(self.buffer.windows(4).any(|window| window == b"pong"));
    }

    /// Sends a request, reads its answer whole, gives the status.
    pub async fn exchange(&mut self, request: &str) -> u16 {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let length: usize = length.and_then(|text| text.parse().ok()).expect("a content-length");
                if self.buffer.len() >= end + 4 + length {
                    return head[9..12].parse().unwrap();
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return 0;
            }
        }
    }

    /// Asks for a stream, gives every delta of it to `on`, and the time to the first one.
    pub async fn stream(&mut self, prompt: &str, on: impl FnMut(&str)) -> Duration {
        let start = Instant::now();
        self.open(prompt).await;
        self.deltas(start, on).await.expect("the stream is complete")
    }

    /// Asks for a stream.
    pub async fn open(&mut self, prompt: &str) {
        self.stream.write_all(completion(prompt, true).as_bytes()).await.unwrap();
        self.buffer.clear();
    }

    /// Waits for the first delta of a stream that goes on.
    pub async fn first_delta(&mut self) {
        while !self.buffer.windows(CONTENT.len() + 1).any(|window| {
            // The opening chunk's content is empty.
            window.starts_with(CONTENT.as_bytes()) && window[CONTENT.len()] != b'"'
        }) {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the stream ended");
        }
    }

    /// Reads a stream to its end. `None` if it did not end as complete.
    async fn deltas(&mut self, start: Instant, mut on: impl FnMut(&str)) -> Option<Duration> {
        let (mut first, mut done) = (None, false);
        loop {
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
            let whole = self.buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let text = std::str::from_utf8(&self.buffer[..whole]).expect("whole characters");
            for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
                if let Some((_, rest)) = line.split_once(CONTENT) {
                    let (delta, _) = rest.split_once('"').expect("a string");
                    if !delta.is_empty() {
                        first.get_or_insert_with(|| start.elapsed());
                        on(delta);
                    }
                }
                done |= line == "[DONE]";
            }
            let ended = done && self.buffer.ends_with(b"0\r\n\r\n");
            self.buffer.drain(..whole);
            if ended {
                return first;
            }
        }
    }
}

const CONTENT: &str = r#""content":""#;

fn completion(prompt: &str, stream: bool) -> String {
    let body = format!(
        r#"{{"model":"codex-local","stream":{stream},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
