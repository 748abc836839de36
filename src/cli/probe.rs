//! One small HTTP request to a server on this machine, and what its answer tells.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value as Json;

use super::service::Address;
use super::service::sockets;

/// No answer of ours is nearly as large.
const LARGEST: u64 = 8 << 20;

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The body; `null` if it is not JSON.
    pub body: Json,
}

/// A request and who sends it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpProbe<'a> {
    /// The path.
    pub path: &'a str,
    /// A key for the `Authorization` header.
    pub key: Option<&'a str>,
    /// A JSON body makes it a POST.
    pub body: Option<&'a str>,
}

impl HttpProbe<'_> {
    /// Sends it, and waits at most `patience` for each part of the answer.
    ///
    /// # Errors
    /// Nobody answers there, or not in HTTP.
    pub fn send(self, address: &Address, patience: Duration) -> io::Result<HttpAnswer> {
        self.try_to(address, patience).map_err(|error| match error.kind() {
            // The kernel's word for it means something else to people.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {} s", patience.as_secs_f64()),
            ),
            _ => error,
        })
    }

    fn try_to(self, address: &Address, patience: Duration) -> io::Result<HttpAnswer> {
        let (host, bytes) = match address {
            Address::Tcp(_) => {
                let to = address.reachable().ok_or(io::ErrorKind::AddrNotAvailable)?;
                let stream = TcpStream::connect_timeout(&to, patience.min(Duration::from_secs(5)))?;
                stream.set_read_timeout(Some(patience))?;
                (to.to_string(), self.exchange(stream, &to.to_string())?)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                ("localhost".into(), self.exchange(stream, "localhost")?)
            }
        };
        answer(&bytes).ok_or_else(|| io::Error::other(format!("{host} does not answer in HTTP")))
    }

    fn exchange(self, mut stream: impl Read + Write, host: &str) -> io::Result<Vec<u8>> {
        let method = if self.body.is_some() { "POST" } else { "GET" };
        // HTTP/1.0: the answer ends with the connection and is never chunked.
        let mut head = format!("{method} {} HTTP/1.0\r\nHost: {host}\r\n", self.path);
        if let Some(key) = self.key {
            head += &format!("Authorization: Bearer {key}\r\n");
        }
        let body = self.body.unwrap_or_default();
        if self.body.is_some() {
            head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut bytes = Vec::new();
        match stream.take(LARGEST).read_to_end(&mut bytes) {
            // A reset after a whole answer is its end.
            Err(error) if bytes.is_empty() => Err(error),
            _ => Ok(bytes),
        }
    }
}

fn answer(bytes: &[u8]) -> Option<HttpAnswer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(HttpAnswer { status, body: serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Json::Null) })
}

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This program; its process, if the system tells.
    Ours(Option<u32>),
    /// The Python program that this one replaces.
    Python(Option<u32>),
    /// Some other program: its process and command line, if the system tells.
    Other(Option<(u32, String)>),
}

impl Holder {
    /// Looks who answers there.
    pub fn of(address: SocketAddr) -> Holder {
        let process = sockets::holder(address);
        let ask = |path| {
            HttpProbe { path, ..HttpProbe::default() }.send(&Address::Tcp(address), Duration::from_secs(2))
        };
        let health = ask("/health").ok().filter(|answer| answer.status == 200).map(|answer| answer.body);
        // Who does not speak HTTP is not asked twice.
        let root = health.as_ref().and_then(|_| ask("/").ok()).map(|answer| answer.body);
        judge(process, health.as_ref(), root.as_ref())
    }

    /// A sentence that names it and how to be rid of it.
    pub fn explain(&self, address: SocketAddr) -> String {
        let kill = |pid: &Option<u32>| pid.map_or(String::new(), |pid| format!(" (or: kill {pid})"));
        let process = |pid: &Option<u32>| pid.map_or(String::new(), |pid| format!(" (process {pid})"));
        match self {
            Holder::Ours(pid) => format!(
                "{address} is held by another codex-api-proxy{}, which this service did not start. Stop it{}, or \
                 choose another port: --port",
                process(pid),
                kill(pid)
            ),
            Holder::Python(pid) => format!(
                "{address} is held by the Python program codex-api-proxy{}, which this one replaces. Stop it with \
                 its own `codex-api-proxy stop`{}, then start again. The settings it saved are in \
                 ~/.codex-api-proxy/codex-api-proxy.state.json; the options have the same names here.",
                process(pid),
                kill(pid)
            ),
            Holder::Other(Some((pid, command))) => {
                format!(
                    "{address} is held by another program, process {pid} ({command}). Stop it, or choose another port: --port"
                )
            }
            Holder::Other(None) => {
                format!("{address} is held by a program of another user. Choose another port: --port")
            }
        }
    }
}

fn judge(process: Option<(u32, String)>, health: Option<&Json>, root: Option<&Json>) -> Holder {
    let pid = process.as_ref().map(|(pid, _)| *pid);
    let command = process.as_ref().map_or("", |(_, command)| command.as_str());
    let first = command.split(' ').next().unwrap_or_default();
    // Installed by pip, its script is run by an interpreter, and is named like this program.
    let python = first.rsplit('/').next().unwrap_or_default().starts_with("python")
        && (command.contains("codex-api-proxy") || command.contains("codex_api_proxy"));
    let ours = root.is_some_and(|page| page["name"] == "codex-api-proxy");
    let has = |key: &str| health.is_some_and(|page| page.get(key).is_some());
    match () {
        () if python => Holder::Python(pid),
        () if ours => Holder::Ours(pid),
        // FastAPI has no page at `/`, and only that program's health page names Codex.
        () if has("status") && (has("codex_available") || has("codex_bin")) => Holder::Python(pid),
        () => Holder::Other(process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        for (bytes, expect) in [
            ("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\n{\"a\":1}", Some((503, json!({ "a": 1 })))),
            ("HTTP/1.0 200 OK\r\n\r\nhello", Some((200, Json::Null))),
            ("HTTP/1.1 200 OK\r\n", None),
            ("SSH-2.0-OpenSSH\r\n\r\n", None),
            ("", None),
        ] {
            let expect = expect.map(|(status, body)| HttpAnswer { status, body });
            assert_eq!(answer(bytes.as_bytes()), expect, "{bytes}");
        }
    }

    #[test]
    fn whoever_does_not_answer_is_said_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let ask = HttpProbe { path: "/ready", ..HttpProbe::default() };
        let error = ask.send(&address, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.to_string(), "no answer within 0.02 s");
        drop(listener);
        let error = ask.send(&address, Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    }

    #[test]
    fn the_holder_of_a_port_is_recognized() {
        let process = |command: &str| Some((7, command.to_owned()));
        let health = json!({ "status": "ok", "codex_available": true, "codex_bin": "codex" });
        let ours = json!({ "name": "codex-api-proxy" });
        let other = json!({ "status": "ok" });
        for (process, health, root, expect) in [
            (
                process("/usr/bin/python3 /usr/local/bin/codex-api-proxy start"),
                None,
                None,
                Holder::Python(Some(7)),
            ),
            (process("python3.11 -m codex_api_proxy.server"), Some(&other), None, Holder::Python(Some(7))),
            (None, Some(&health), None, Holder::Python(None)),
            (process("/usr/bin/codex-api-proxy serve"), Some(&health), Some(&ours), Holder::Ours(Some(7))),
            (None, Some(&other), Some(&ours), Holder::Ours(None)),
            (process("nginx: master"), Some(&other), None, Holder::Other(process("nginx: master"))),
            (process("python3 -m http.server"), None, None, Holder::Other(process("python3 -m http.server"))),
            (None, None, None, Holder::Other(None)),
        ] {
            assert_eq!(judge(process.clone(), health, root), expect, "{process:?}");
        }
    }
}
