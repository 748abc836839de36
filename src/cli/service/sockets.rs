//! Which addresses a process listens on, and which process listens on an address: asked of the
//! system, because settings only say what was wanted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::os::systemd::{self, Unit};

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// An internet address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// `127.0.0.1:8765`, `[::1]:8765` or a path, as systemd writes them, or as our status line does:
    /// `http://127.0.0.1:8765`, `unix:/path`.
    pub fn parse(text: &str) -> Option<Address> {
        let text = text.strip_prefix("http://").or(text.strip_prefix("unix:")).unwrap_or(text);
        if text.starts_with('/') {
            return Some(Address::Unix(text.into()));
        }
        text.parse().ok().map(Address::Tcp)
    }

    /// The base URL for clients of this machine; none for a Unix socket.
    pub fn url(&self) -> Option<String> {
        self.reachable().map(|address| format!("http://{address}/v1"))
    }

    /// Where a client of this machine connects: the loopback address for "every address".
    pub fn reachable(&self) -> Option<SocketAddr> {
        let Address::Tcp(address) = self else { return None };
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Some(SocketAddr::new(ip, address.port()))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What the process listens on; empty if the system does not tell.
pub fn of_process(pid: u32) -> Vec<Address> {
    if cfg!(target_os = "macos") {
        let mut command = std::process::Command::new("lsof");
        command.args(["-nP", "-a", "-p", &pid.to_string(), "-iTCP", "-sTCP:LISTEN", "-Fn"]);
        return super::run::run(&mut command).map_or_else(|_| vec![], |ran| lsof(&ran.out));
    }
    let inodes = inodes(Path::new(&format!("/proc/{pid}/fd")));
    let mut found: Vec<Address> = listening()
        .into_iter()
        .filter(|socket| inodes.contains(&socket.inode))
        .map(|socket| socket.address)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Who listens, as far as the system tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// The user who made the socket.
    pub uid: Option<u32>,
    /// Process id and command line, of a process that we may look into.
    pub process: Option<(u32, String)>,
    /// The unit that the process belongs to.
    pub unit: Option<Unit>,
}

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listening {
    inode: u64,
    address: Address,
    uid: Option<u32>,
}

/// Who listens there.
pub fn holder(address: SocketAddr) -> Listener {
    let covers = |held: &Address| match held {
        Address::Tcp(held) => {
            held.port() == address.port() && (held.ip() == address.ip() || held.ip().is_unspecified())
        }
        Address::Unix(_) => false,
    };
    let wanted: Vec<Listening> = listening().into_iter().filter(|socket| covers(&socket.address)).collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let held = inodes(Path::new(&format!("/proc/{pid}/fd")));
        wanted.iter().any(|socket| held.contains(&socket.inode))
    });
    Listener {
        uid: wanted.first().and_then(|socket| socket.uid),
        process: pid.map(|pid| (pid, command_line(pid))),
        unit: pid.and_then(systemd::unit_of_process),
    }
}

/// This user's processes that run a program of that name.
pub fn processes_of(program: &str) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let own = crate::os::users::own_uid();
    let runs = |entry: &std::fs::DirEntry| {
        let exe = std::fs::read_link(entry.path().join("exe")).ok()?;
        // An upgrade puts another file in its place.
        let name = exe.file_name()?.to_str()?.trim_end_matches(" (deleted)");
        (name == program && entry.metadata().ok()?.uid() == own).then_some(())
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        runs(&entry).map(|()| pid)
    });
    found.collect()
}

/// The words a process was started with, joined by spaces; empty if we may not know.
pub fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

fn inodes(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

fn listening() -> Vec<Listening> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let mut found = tcp(&read("tcp"));
    found.extend(tcp(&read("tcp6")));
    found.extend(unix(&read("unix")));
    found
}

/// The listening lines of `/proc/net/tcp` and `tcp6`, see proc_net(5).
fn tcp(text: &str) -> Vec<Listening> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, "0A", _, _, _, uid, _, inode, ..] = fields[..] else { return None };
        let (ip, port) = local.split_once(':')?;
        // Each word of the address is printed as the number it makes in this machine's order.
        let words: Option<Vec<[u8; 4]>> = (0..ip.len() / 8)
            .map(|at| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
            .collect();
        let ip: IpAddr = match words?.concat()[..] {
            [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
            ref bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        };
        let port = u16::from_str_radix(port, 16).ok()?;
        let address = Address::Tcp(SocketAddr::new(ip, port));
        Some(Listening { inode: inode.parse().ok()?, address, uid: uid.parse().ok() })
    };
    text.lines().filter_map(line).collect()
}

/// The listening lines of `/proc/net/unix`.
fn unix(text: &str) -> Vec<Listening> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // __SO_ACCEPTCON
        let [_, _, _, "00010000", _, _, inode, path] = fields[..] else { return None };
        path.starts_with('/').then_some(())?;
        Some(Listening { inode: inode.parse().ok()?, address: Address::Unix(path.into()), uid: None })
    };
    text.lines().filter_map(line).collect()
}

/// `lsof -Fn`: lines `n127.0.0.1:8765`, `n*:8765`.
fn lsof(text: &str) -> Vec<Address> {
    let names = text.lines().filter_map(|line| line.strip_prefix('n'));
    names.filter_map(|name| Address::parse(&name.replacen("*:", "0.0.0.0:", 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_net_names_listeners() {
        if cfg!(target_endian = "big") {
            return;
        }
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:223D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0\n\
            1: 0100007F:223D 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0 100 0 0 10 0\n\
            2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0\n";
        let address = |text: &str| Address::parse(text).unwrap();
        let socket = |inode, text, uid| Listening { inode, address: address(text), uid };
        let expect = [socket(4242, "127.0.0.1:8765", Some(1000)), socket(7, "[::1]:80", Some(0))];
        assert_eq!(tcp(table), expect);
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 99 /run/user/1000/codex-api-proxy.sock\n\
            0: 00000002 00000000 00010000 0001 01 98 @abstract\n\
            0: 00000003 00000000 00000000 0001 03 97 /run/connected\n";
        assert_eq!(unix(table), [socket(99, "/run/user/1000/codex-api-proxy.sock", None)]);
        assert_eq!(
            lsof("p1\nf3\nn127.0.0.1:8765\nn*:80\n"),
            [address("127.0.0.1:8765"), address("0.0.0.0:80")]
        );
    }

    #[test]
    fn our_own_listener_is_found_both_ways() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(of_process(std::process::id()).contains(&Address::Tcp(address)));
        let found = holder(address);
        assert_eq!(found.process.unwrap().0, std::process::id());
        assert_eq!(found.uid, Some(crate::os::users::own_uid()));
        drop(listener);
        // Another may have it by now, but none of ours.
        assert_ne!(holder(address).process.map(|(pid, _)| pid), Some(std::process::id()));
    }

    #[test]
    fn clients_are_told_an_address_they_can_reach() {
        for (text, url) in [
            ("0.0.0.0:8765", Some("http://127.0.0.1:8765/v1")),
            ("[::]:1", Some("http://[::1]:1/v1")),
            ("192.0.2.1:2", Some("http://192.0.2.1:2/v1")),
            ("/run/x.sock", None),
        ] {
            assert_eq!(Address::parse(text).unwrap().url().as_deref(), url, "{text}");
        }
    }
}
