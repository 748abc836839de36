//! Connections of others cannot keep the owner out, whatever their number.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::client::Call;
use crate::support::proxy::{signal, skipped};
use crate::support::{Setup, user, wait};

const NOBODY: u32 = 65534;

/// The program with a TCP and a Unix socket of a service manager, and few descriptors.
struct Activated {
    child: Child,
    _setup: Setup,
    address: SocketAddr,
    socket: std::path::PathBuf,
    log: std::path::PathBuf,
}

impl Activated {
    fn start(setup: Setup, limit: &str) -> Activated {
        let socket = setup.scratch().dir("sockets").join("proxy");
        let log = setup.scratch().dir("log").join("text");
        let tcp = listen();
        let unix = UnixListener::bind(&socket).expect("listen");
        let address = tcp.local_addr().expect("its address");
        let script = format!(
            "ulimit {limit}; exec 3<&0 4<&1 0</dev/null 1>&2; export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$0\" \"$@\""
        );
        let setup = setup.within(&["bash", "-c", &script]);
        let flags = setup.flags();
        let mut arguments = vec!["serve"];
        arguments.extend(flags.iter().map(String::as_str));
        let mut command = setup.command(&arguments);
        command.stdin(std::os::fd::OwnedFd::from(tcp)).stdout(std::os::fd::OwnedFd::from(unix));
        command.stderr(std::fs::File::create(&log).expect("a log"));
        let child = command.spawn().expect("start the program");
        Activated { child, _setup: setup, address, socket, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// The status of `/health` over the Unix socket.
    fn unix_health(&self) -> String {
        let mut client = UnixStream::connect(&self.socket).expect("connect");
        client.set_read_timeout(Some(wait::PATIENCE)).expect("a time-out");
        client.write_all(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n").expect("send");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        signal("TERM", self.child.id());
        let _ = self.child.wait();
    }
}

/// A listener with a long backlog: std's is short, and clients that find it full wait a second.
fn listen() -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
    socket.listen(1024).expect("listen");
    socket.into()
}

/// Opens connections as another user and says nothing on them, until its input ends.
fn silent(address: SocketAddr, number: usize) -> Child {
    let script = "ulimit -Sn $(ulimit -Hn); for _ in $(seq $0); do exec {fd}<>/dev/tcp/$1/$2; done; echo open; read -r end";
    let mut command = Command::new("bash");
    command.args(["-c", script, &number.to_string(), &address.ip().to_string(), &address.port().to_string()]);
    command.uid(NOBODY).gid(NOBODY).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("run bash");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("its stdout")).read_line(&mut line).expect("read");
    assert_eq!(line, "open\n");
    child
}

#[test]
fn silent_connections_of_another_user_keep_nobody_out() {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root {
        return skipped("calling as another user needs root");
    }
    for (key, limit, most) in [
        (None, "-Sn 1024", 16),
        (Some("secret"), "-Sn 1024", 512),
        // Where it cannot be raised, fewer connections are held, and turns run all the same.
        (None, "-n 1024", 16),
        (Some("secret"), "-n 1024", 512),
    ] {
        let (mut setup, _fake) = Setup::fake("start\nanswer pong\ndone");
        if let Some(key) = key {
            setup = setup.env("CODEX_PROXY_API_KEY", key);
        }
        let proxy = Activated::start(setup, limit);
        let call = |method: &str, path: &str| {
            let call = Call::new(proxy.address, method, path);
            if let Some(key) = key { call.header("authorization", format!("Bearer {key}")) } else { call }
        };
        wait::until("it is ready", || call("GET", "/ready").send().status == 200);
        let mut others = silent(proxy.address, 1600);
        let about = format!("key {key:?}, ulimit {limit}");
        wait::until("the others hold what they may", || {
            let open = call("GET", "/metrics").send().json()["connections"].as_u64().unwrap_or_default();
            assert!(open <= most + 8, "{about}: {open} connections");
            open > most.min(16)
        });
        for _ in 0..3 {
            assert_eq!(call("GET", "/health").send().status, 200, "{about}");
            assert_eq!(proxy.unix_health(), "200", "{about}");
            let body = json!({ "model": "codex-local", "messages": [user("hi")] });
            assert_eq!(call("POST", "/v1/chat/completions").json(&body).send().answer(), "pong", "{about}");
        }
        // Those that found no seat are one line, and their number.
        wait::until("the rest is summed up", || proxy.log().contains(" more within a second"));
        let lines =
            proxy.log().lines().filter(|line| line.contains("connection") && line.contains("clos")).count();
        assert!((1..20).contains(&lines), "{about}: {}", proxy.log());
        drop(others.stdin.take());
        let _ = others.wait();
    }
}

#[test]
fn refusals_are_summed_up() {
    let (setup, _fake) = Setup::fake("");
    let proxy = setup.start();
    let refused = |number: usize| {
        for _ in 0..number {
            let answer = proxy.ask("hi").header("x-client-ip", "198.51.100.7").send();
            answer.error(403, "permission_error", "forwarded_not_allowed");
        }
    };
    refused(30);
    wait::until("their number is told", || proxy.log().contains("within a second"));
    // What is not refused has its line as ever, and all are counted.
    let log = proxy.log();
    let lines = log.lines().filter(|line| line.contains("forwarded_not_allowed")).count();
    assert!(lines < 30, "{log}");
    let told: u64 = log
        .lines()
        .filter_map(|line| {
            line.split_once("forwarded_not_allowed: ")?.1.split(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    let written = proxy.latency_lines().iter().filter(|line| line["http_status"] == 403).count() as u64;
    assert!(written >= 1 && written + told <= 30, "{written} lines, {told} more");
    wait::until("all are counted", || proxy.metrics()["requests_total"] == 30);
}
