//! Listening sockets: inherited from the service manager (sd_listen_fds(3)) or bound by ourselves.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections the kernel keeps for us before they are accepted.
const BACKLOG: i32 = 1024;

/// A listening socket, non-blocking and closed on exec. `Display` is its URL.
#[derive(Debug)]
pub enum Listener {
    /// An internet address.
    Tcp(TcpListener),
    /// A path; who may connect is up to its file mode.
    Unix(UnixListener),
}

impl Listener {
    /// Whether only this machine can reach it. Unix sockets count as such.
    pub fn is_loopback(&self) -> bool {
        match self {
            Listener::Tcp(tcp) => tcp.local_addr().is_ok_and(|addr| is_loopback(addr.ip())),
            Listener::Unix(_) => true,
        }
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn try_clone(&self) -> io::Result<Listener> {
        Ok(match self {
            Listener::Tcp(tcp) => Listener::Tcp(tcp.try_clone()?),
            Listener::Unix(unix) => Listener::Unix(unix.try_clone()?),
        })
    }

    /// The address of a TCP listener, with the port the kernel chose if 0 was asked for.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(tcp) => tcp.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }
}

impl fmt::Display for Listener {
    /// `http://127.0.0.1:8765`, `http://[::1]:8765` or `unix:/run/….sock`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Tcp(tcp) => match tcp.local_addr() {
                Ok(addr) => write!(f, "http://{addr}"),
                Err(error) => write!(f, "http://? ({error})"),
            },
            Listener::Unix(unix) => match unix.local_addr() {
                Ok(addr) => match addr.as_pathname() {
                    Some(path) => write!(f, "unix:{}", path.display()),
                    None => write!(f, "unix:(unnamed)"),
                },
                Err(error) => write!(f, "unix:? ({error})"),
            },
        }
    }
}

/// Whether this is the machine itself, also when written as an IPv4 address within IPv6.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The sockets that systemd or launchd handed over; none if it did not.
///
/// Call it before anything else opens a file: the descriptors are known by number alone. They are
/// taken once; later calls find none.
///
/// # Errors
/// A sentence naming the descriptor that is no listening stream socket, or the variable that is wrong.
pub fn inherited() -> Result<Vec<Listener>, String> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    #[cfg(target_os = "macos")]
    {
        let failed = |error: io::Error| format!("the sockets passed by launchd: {error}");
        let sockets = super::launchd::sockets(super::launchd::LISTENERS).map_err(failed)?;
        if !sockets.is_empty() {
            return sockets.into_iter().map(|owned| adopt(owned).map_err(failed)).collect();
        }
    }
    let descriptors = sd_notify::listen_fds_with_names()
        .map_err(|error| format!("the sockets passed by the service manager (LISTEN_FDS): {error}"))?;
    descriptors
        .map(|(fd, name)| {
            // SAFETY: sd_listen_fds(3) makes these descriptors ours; the guard above makes us take
            // each of them once, and `listen_fds` found each to be open (it set FD_CLOEXEC).
            let owned = unsafe { OwnedFd::from_raw_fd(fd) };
            adopt(owned).map_err(|error| refused(fd, &name, &error))
        })
        .collect()
}

fn refused(fd: RawFd, name: &str, error: &io::Error) -> String {
    let name = if name.is_empty() { String::new() } else { format!(" (`{name}`)") };
    format!("descriptor {fd}{name} passed by the service manager cannot be listened on: {error}")
}

/// Makes a listener of any descriptor that is one.
fn adopt(owned: OwnedFd) -> io::Result<Listener> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let socket = Socket::from(owned);
    if socket.r#type()? != Type::STREAM {
        return Err(wrong("it is not a stream socket (use ListenStream=)"));
    }
    if !is_listening(&socket)? {
        return Err(wrong("it is not listening (use Accept=no)"));
    }
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    if address.is_unix() {
        Ok(Listener::Unix(socket.into()))
    } else if address.as_socket().is_some() {
        Ok(Listener::Tcp(socket.into()))
    } else {
        Err(wrong("it is neither an internet nor a Unix socket"))
    }
}

#[cfg(target_os = "linux")]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// launchd passes listening sockets only, and `SO_ACCEPTCONN` is not readable everywhere.
#[cfg(not(target_os = "linux"))]
fn is_listening(_: &Socket) -> io::Result<bool> {
    Ok(true)
}

/// Binds every address `host` stands for (`localhost` = 127.0.0.1 and ::1), all on one port.
///
/// Port 0 lets the kernel choose. Resolving a name may block: call it outside the runtime's threads.
///
/// # Errors
/// A sentence naming the address, the setting to change, and the cause.
pub fn bind(host: &str, port: u16) -> Result<Vec<Listener>, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let addresses = (bare, port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot resolve `host` = \"{host}\": {error}"))?;

    let mut chosen = port;
    let mut bound: Vec<Listener> = Vec::new();
    let mut unavailable = None;
    for mut address in addresses {
        address.set_port(chosen);
        if bound.iter().any(|listener| listener.tcp_addr() == Some(address)) {
            continue;
        }
        match bind_one(address) {
            Ok(listener) => {
                chosen = listener.local_addr().map_or(chosen, |addr| addr.port());
                bound.push(Listener::Tcp(listener));
            }
            // `localhost` names ::1 also where IPv6 is switched off: one family is enough.
            Err(error) if is_unavailable(&error) => unavailable = Some((address, error)),
            Err(error) => return Err(explain(address, &error)),
        }
    }
    match (bound.is_empty(), unavailable) {
        (false, _) => Ok(bound),
        (true, Some((address, error))) => Err(explain(address, &error)),
        (true, None) => Err(format!("`host` = \"{host}\" has no address")),
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the previous process's connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_unavailable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "cannot listen on {address}: the address is in use; stop what uses it or change `port` ({})",
                address.port()
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "cannot listen on {address}: permission denied; ports below 1024 need a privilege, change `port` ({})",
                address.port()
            )
        }
        _ => format!("cannot listen on {address}: {error}; check `host` and `port` ({})", address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_host_binds_all_its_addresses_on_one_port() {
        let check = |host: &str, expect: &[&str]| {
            let bound = bind(host, 0).unwrap();
            let port = bound[0].tcp_addr().unwrap().port();
            let mut urls: Vec<String> = bound.iter().map(|listener| listener.to_string()).collect();
            urls.sort();
            let expect: Vec<String> = expect.iter().map(|url| format!("{url}:{port}")).collect();
            assert!(port != 0 && urls == expect, "{host}: {urls:?}");
        };
        check("127.0.0.1", &["http://127.0.0.1"]);
        check("0.0.0.0", &["http://0.0.0.0"]);
        if UdpSocket::bind("[::1]:0").is_ok() {
            check("::1", &["http://[::1]"]);
            check("[::1]", &["http://[::1]"]);
        }
        let localhost = bind("localhost", 0).unwrap();
        let port = localhost[0].tcp_addr().unwrap().port();
        assert!(localhost.iter().all(|one| one.is_loopback() && one.tcp_addr().unwrap().port() == port));
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        let check = |ip: &str, expect: bool| assert_eq!(is_loopback(ip.parse().unwrap()), expect, "{ip}");
        check("127.0.0.1", true);
        check("127.9.9.9", true);
        check("::1", true);
        check("::ffff:127.0.0.1", true);
        check("0.0.0.0", false);
        check("::", false);
        check("192.168.1.1", false);
        check("::ffff:192.168.1.1", false);
        assert!(!bind("0.0.0.0", 0).unwrap()[0].is_loopback());
    }

    #[test]
    fn an_address_in_use_names_address_setting_and_cause() {
        let taken = bind("127.0.0.1", 0).unwrap();
        let port = taken[0].tcp_addr().unwrap().port();
        assert_eq!(
            bind("127.0.0.1", port).unwrap_err(),
            format!(
                "cannot listen on 127.0.0.1:{port}: the address is in use; stop what uses it or change `port` ({port})"
            )
        );
        let error = bind("192.0.2.1", 1).unwrap_err();
        assert!(error.starts_with("cannot listen on 192.0.2.1:1: ") && error.contains("`host`"), "{error}");
        let error = bind("no such host", 1).unwrap_err();
        assert!(error.starts_with("cannot resolve `host` = \"no such host\": "), "{error}");
    }

    #[test]
    fn only_listening_stream_sockets_are_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.sock");
        let check = |name: &str, fd: OwnedFd, expect: Result<String, &str>| match (adopt(fd), expect) {
            (Ok(listener), Ok(url)) => assert_eq!(listener.to_string(), url, "{name}"),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{name}: {error}"),
            (found, expect) => panic!("{name}: {found:?}, not {expect:?}"),
        };
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", tcp.local_addr().unwrap());
        let connected = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        check("tcp", tcp.into(), Ok(url));
        check("unix", UnixListener::bind(&path).unwrap().into(), Ok(format!("unix:{}", path.display())));
        check("connected", connected.into(), Err("it is not listening"));
        check("udp", UdpSocket::bind("127.0.0.1:0").unwrap().into(), Err("it is not a stream socket"));
        let file = std::fs::File::create(folder.path().join("file")).unwrap();
        check("file", file.into(), Err("non-socket"));
    }

    #[test]
    fn a_refused_descriptor_is_named() {
        let error = io::Error::other("it is not listening");
        assert_eq!(
            refused(3, "http", &error),
            "descriptor 3 (`http`) passed by the service manager cannot be listened on: it is not listening"
        );
    }

    /// The test runs itself as a child that systemd would have started: LISTEN_PID is its own.
    #[test]
    fn sockets_of_the_service_manager_are_taken_once() {
        const NAME: &str = "os::listen::tests::sockets_of_the_service_manager_are_taken_once";
        const CHILD: &str = "TEST_INHERITED";
        if std::env::var_os(CHILD).is_some() {
            let shown = inherited().map(|all| all.iter().map(Listener::to_string).collect::<Vec<_>>());
            println!("\nfound {shown:?}");
            assert!(inherited().unwrap().is_empty(), "they were taken");
            return;
        }
        let check = |count: &str, names: &str, fd: OwnedFd, expect: &str| {
            let script =
                "exec 3<&0 0</dev/null; export LISTEN_PID=$$; exec \"$0\" --exact \"$1\" --nocapture";
            let output = std::process::Command::new("bash")
                .args(["-c", script])
                .arg(std::env::current_exe().unwrap())
                .arg(NAME)
                .envs([(CHILD, "1"), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)])
                .stdin(fd)
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let found = text.lines().find_map(|line| line.strip_prefix("found ")).unwrap_or(&text);
            assert!(output.status.success() && found == expect, "{found}, not {expect}");
        };
        let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
        let one = tcp();
        let url = format!("Ok([\"http://{}\"])", one.local_addr().unwrap());
        check("1", "http", one.into(), &url);
        check(
            "1",
            "http",
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "Err(\"descriptor 3 (`http`) passed by the service manager cannot be listened on: \
             it is not a stream socket (use ListenStream=)\")",
        );
        check(
            "x",
            "http",
            tcp().into(),
            "Err(\"the sockets passed by the service manager (LISTEN_FDS): invalid LISTEN_FDS\")",
        );
    }
}
