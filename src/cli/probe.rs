//! One small HTTP request to a server on this machine, and what its answer tells.

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value as Json;

use super::service::Address;
use super::service::sockets::{self, Listener};
use crate::os::systemd::Unit;
use crate::os::users::{self, own_uid};

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
        let mut bytes = Vec::new();
        match self.ask(address, patience)?.take(LARGEST).read_to_end(&mut bytes) {
            // A reset after a whole answer is its end.
            Err(error) if bytes.is_empty() => return Err(error),
            _ => {}
        }
        answer(&bytes).ok_or_else(|| not_http(address))
    }

    /// Sends it, and gives the body of the answer as it comes, `patience` for each part of it.
    ///
    /// # Errors
    /// Nobody answers there, or not with success.
    pub fn open(self, address: &Address, patience: Duration) -> io::Result<impl Read + use<>> {
        let mut stream = io::BufReader::new(self.ask(address, patience)?);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let before = head.len();
            stream.by_ref().take(LARGEST).read_until(b'\n', &mut head)?;
            if head.len() == before || head.len() as u64 > LARGEST {
                return Err(not_http(address));
            }
        }
        match answer(&head).ok_or_else(|| not_http(address))?.status {
            200 => Ok(stream),
            status => {
                let mut body = Vec::new();
                stream.take(LARGEST).read_to_end(&mut body)?;
                let body: Json = serde_json::from_slice(&body).unwrap_or_default();
                let message = body["error"]["message"].as_str().unwrap_or("it does not say why");
                Err(io::Error::other(format!("{status}: {message}")))
            }
        }
    }

    fn ask(self, address: &Address, patience: Duration) -> io::Result<Box<dyn Read>> {
        match address {
            Address::Tcp(_) => {
                let to = address.reachable().ok_or(io::ErrorKind::AddrNotAvailable)?;
                let mut stream = TcpStream::connect_timeout(&to, patience.min(Duration::from_secs(5)))?;
                stream.set_read_timeout(Some(patience))?;
                self.write(&mut stream, &to.to_string())?;
                Ok(Box::new(stream))
            }
            Address::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                self.write(&mut stream, "localhost")?;
                Ok(Box::new(stream))
            }
        }
    }

    fn write(self, stream: &mut impl Write, host: &str) -> io::Result<()> {
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
        stream.write_all(format!("{head}\r\n{body}").as_bytes())
    }
}

fn not_http(address: &Address) -> io::Error {
    io::Error::other(format!("{address} does not answer in HTTP"))
}

fn answer(bytes: &[u8]) -> Option<HttpAnswer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(HttpAnswer { status, body: serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Json::Null) })
}

/// Who holds an address: what it is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This program.
    Ours(Listener),
    /// The Python program that this one replaces.
    Python(Listener),
    /// Some other program.
    Other(Listener),
}

impl Holder {
    /// Looks who answers there.
    pub fn of(address: SocketAddr) -> Holder {
        let listener = sockets::holder(address);
        let ask = |path| {
            HttpProbe { path, ..HttpProbe::default() }.send(&Address::Tcp(address), Duration::from_secs(2))
        };
        let health = ask("/health").ok().filter(|answer| answer.status == 200).map(|answer| answer.body);
        // Who does not speak HTTP is not asked twice.
        let root = health.as_ref().and_then(|_| ask("/").ok()).map(|answer| answer.body);
        judge(listener, health.as_ref(), root.as_ref())
    }

    /// Its process, user and unit.
    pub fn listener(&self) -> &Listener {
        let (Holder::Ours(listener) | Holder::Python(listener) | Holder::Other(listener)) = self;
        listener
    }

    /// Whether it is another user's.
    pub fn is_foreign(&self) -> bool {
        self.listener().uid.is_some_and(|uid| uid != own_uid())
    }

    /// ` (process 7 of alice, unit x.service)`, as much of it as is known; whose only if not ours.
    pub fn whose(&self) -> String {
        let listener = self.listener();
        let user = listener.uid.filter(|_| self.is_foreign()).map(user_name);
        let process = match (&listener.process, user) {
            (Some((pid, _)), None) => format!("process {pid}"),
            (Some((pid, _)), Some(user)) => format!("process {pid} of {user}"),
            (None, Some(user)) => format!("of {user}"),
            (None, None) => String::new(),
        };
        let unit = listener.unit.as_ref().map(|unit| format!("unit {}", unit.name));
        let parts: Vec<String> =
            [process, unit.unwrap_or_default()].into_iter().filter(|part| !part.is_empty()).collect();
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
    }

    /// The command that ends it, if there is one.
    pub fn how_to_end(&self) -> Option<String> {
        let listener = self.listener();
        let sudo = if self.is_foreign() { "sudo " } else { "" };
        match (&listener.unit, &listener.process) {
            (Some(Unit { name, of_user: false }), _) => Some(format!("sudo systemctl stop {name}")),
            (Some(Unit { name, of_user: true }), _) if !self.is_foreign() => {
                Some(format!("systemctl --user stop {name}"))
            }
            (_, Some((pid, _))) => Some(format!("{sudo}kill {pid}")),
            (_, None) => None,
        }
    }

    /// A sentence that names it and how to be rid of it.
    pub fn explain(&self, address: SocketAddr) -> String {
        let end = self.how_to_end();
        let by = end.as_ref().map_or(String::new(), |end| format!(" (or: {end})"));
        let whose = self.whose();
        match self {
            Holder::Ours(_) => {
                let stop = end.map_or(String::new(), |end| format!("Stop it ({end}), or choose"));
                let choose = if stop.is_empty() { "Choose" } else { &stop };
                format!(
                    "{address} is held by another codex-api-proxy{whose}, which this service did not start. {choose} \
                     another port: --port"
                )
            }
            Holder::Python(_) => format!(
                "{address} is held by the Python program codex-api-proxy{whose}, which this one replaces. Stop it with \
                 its own `codex-api-proxy stop`{by}, then start again. The settings it saved are in \
                 ~/.codex-api-proxy/codex-api-proxy.state.json; the options have the same names here."
            ),
            Holder::Other(Listener { process: Some((_, command)), .. }) => format!(
                "{address} is held by another program{whose}: {command}. Stop it{by}, or choose another port: --port"
            ),
            Holder::Other(Listener { process: None, uid: None, .. }) => {
                format!("{address} is held by a program of another user. Choose another port: --port")
            }
            Holder::Other(_) => {
                format!("{address} is held by a program{whose}. Choose another port: --port")
            }
        }
    }
}

/// What a person calls that user.
fn user_name(uid: u32) -> String {
    // Where the database does not answer, the number is right, too.
    users::name_of(uid).ok().flatten().unwrap_or_else(|| format!("uid {uid}"))
}

fn judge(listener: Listener, health: Option<&Json>, root: Option<&Json>) -> Holder {
    let command = listener.process.as_ref().map_or("", |(_, command)| command.as_str());
    let first = command.split(' ').next().unwrap_or_default();
    // Installed by pip, its script is run by an interpreter, and is named like this program.
    let python = first.rsplit('/').next().unwrap_or_default().starts_with("python")
        && (command.contains("codex-api-proxy") || command.contains("codex_api_proxy"));
    let ours = root.is_some_and(|page| page["name"] == "codex-api-proxy");
    let has = |key: &str| health.is_some_and(|page| page.get(key).is_some());
    match () {
        () if python => Holder::Python(listener),
        () if ours => Holder::Ours(listener),
        // FastAPI has no page at `/`, and only that program's health page names Codex.
        () if has("status") && (has("codex_available") || has("codex_bin")) => Holder::Python(listener),
        () => Holder::Other(listener),
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

    fn listener(process: Option<&str>, uid: Option<u32>, unit: Option<(&str, bool)>) -> Listener {
        let unit = unit.map(|(name, of_user)| Unit { name: name.into(), of_user });
        Listener { uid, process: process.map(|command| (7, command.to_owned())), unit }
    }

    #[test]
    fn the_holder_of_a_port_is_recognized() {
        let health = json!({ "status": "ok", "codex_available": true, "codex_bin": "codex" });
        let ours = json!({ "name": "codex-api-proxy" });
        let other = json!({ "status": "ok" });
        for (command, health, root, expect) in [
            (
                Some("/usr/bin/python3 /usr/local/bin/codex-api-proxy start"),
                None,
                None,
                Holder::Python as fn(Listener) -> Holder,
            ),
            (Some("python3.11 -m codex_api_proxy.server"), Some(&other), None, Holder::Python),
            (None, Some(&health), None, Holder::Python),
            (Some("/usr/bin/codex-api-proxy serve"), Some(&health), Some(&ours), Holder::Ours),
            (None, Some(&other), Some(&ours), Holder::Ours),
            (Some("nginx: master"), Some(&other), None, Holder::Other),
            (Some("python3 -m http.server"), None, None, Holder::Other),
            (None, None, None, Holder::Other),
        ] {
            let held = listener(command, Some(0), None);
            assert_eq!(judge(held.clone(), health, root), expect(held), "{command:?}");
        }
    }

    #[test]
    fn the_holder_is_named_with_what_ends_it() {
        let (us, serve) = (own_uid(), Some("codex-api-proxy serve"));
        // Nobody's name, and not us.
        let them = 4_000_000_001;
        let of_user = Some(("codex-api-proxy.service", true));
        let of_system = Some(("codex-api-proxy@me.service", false));
        for (process, uid, unit, whose, end) in [
            (serve, Some(us), None, " (process 7)", Some("kill 7")),
            (
                serve,
                Some(us),
                of_user,
                " (process 7, unit codex-api-proxy.service)",
                Some("systemctl --user stop codex-api-proxy.service"),
            ),
            (
                serve,
                Some(us),
                of_system,
                " (process 7, unit codex-api-proxy@me.service)",
                Some("sudo systemctl stop codex-api-proxy@me.service"),
            ),
            (serve, Some(them), None, " (process 7 of uid 4000000001)", Some("sudo kill 7")),
            (
                serve,
                Some(them),
                of_user,
                " (process 7 of uid 4000000001, unit codex-api-proxy.service)",
                Some("sudo kill 7"),
            ),
            (None, Some(them), None, " (of uid 4000000001)", None),
            (None, None, None, "", None),
        ] {
            let holder = Holder::Ours(listener(process, uid, unit));
            assert_eq!((holder.whose().as_str(), holder.how_to_end().as_deref()), (whose, end));
            let said = holder.explain("127.0.0.1:1".parse().unwrap());
            let ends = end.map_or("Choose another port: --port".into(), |end| {
                format!("Stop it ({end}), or choose another port: --port")
            });
            let expect = format!(
                "127.0.0.1:1 is held by another codex-api-proxy{whose}, which this service did not start. {ends}"
            );
            assert_eq!(said, expect);
        }
    }
}
