//! Who sits at the other end of a TCP connection: a user of this machine, or another machine.
//!
//! Linux answers by sock_diag(7): one request for exactly one socket, the client's, found by its
//! two addresses, whatever these are: who sits here may call from any address of this machine.
//! Where there is no such socket, rtnetlink(7) tells whether the address is one of ours. The kernel
//! answers within the `send` call, so nothing here ever waits.

use std::io;
use std::net::SocketAddr;

/// What is known about the other end.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux tells"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The client's socket belongs to this user of this machine.
    User(u32),
    /// It is on this machine, and nobody vouches for it: no living socket is there (the client
    /// closed it), or its user has no id in our user namespace.
    Nobody,
    /// It is another machine.
    Elsewhere,
    /// This operating system does not tell.
    #[cfg_attr(target_os = "linux", allow(dead_code, reason = "Linux tells"))]
    CannotTell,
}

/// Who is at `peer`, connected to our `local`.
///
/// # Errors
/// The kernel refuses to be asked (netlink forbidden by a sandbox, for example).
#[cfg(target_os = "linux")]
pub fn owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Owner> {
    use super::listen::is_loopback;
    // A socket that is tied to an interface is found by that one's number only.
    let mut interfaces = vec![ANY];
    interfaces.extend([scope(peer), scope(local)].into_iter().filter(|scope| *scope != ANY));
    interfaces.push(LOOPBACK);
    for interface in interfaces {
        if let Some(uid) = netlink::socket_owner(local, peer, interface)? {
            return Ok(super::users::known(uid).map_or(Owner::Nobody, Owner::User));
        }
    }
    // What reaches a loopback address, or comes from one, has not left this machine.
    let ours = is_loopback(local.ip()) || is_loopback(peer.ip()) || peer.ip() == local.ip();
    Ok(if ours || netlink::is_own(peer.ip().to_canonical(), scope(peer))? {
        Owner::Nobody
    } else {
        Owner::Elsewhere
    })
}

/// Sockets that are tied to no interface.
#[cfg(target_os = "linux")]
const ANY: u32 = 0;

/// `lo`: its number is the same everywhere.
#[cfg(target_os = "linux")]
const LOOPBACK: u32 = 1;

/// The interface that a link-local address belongs to; 0 for all others.
#[cfg(target_os = "linux")]
fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    }
}

/// Who is at `peer`: elsewhere than on Linux nobody knows.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn owner(_local: SocketAddr, _peer: SocketAddr) -> io::Result<Owner> {
    Ok(Owner::CannotTell)
}

#[cfg(target_os = "linux")]
mod netlink {
    use std::io::{self, Read, Write};
    use std::net::{IpAddr, SocketAddr};

    use socket2::{Domain, Protocol, Socket, Type};

    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    /// The states of a client that is connected, or has sent all it had to send: TCP_ESTABLISHED,
    /// TCP_FIN_WAIT1 and TCP_FIN_WAIT2.
    const CONNECTED: [u8; 3] = [1, 4, 5];
    const NETLINK_HEADER: usize = 16;
    /// `struct inet_diag_sockid`: two ports, two addresses of 16 bytes, interface, cookie.
    const SOCKET_ID: usize = 48;
    const REQUEST: usize = NETLINK_HEADER + 8 + SOCKET_ID;
    /// Where `struct rtmsg` has its type.
    const ROUTE_TYPE: usize = 7;
    /// `struct inet_diag_msg`: 4 bytes, the socket id, and five words of which uid and inode are last.
    const ANSWER: usize = 4 + SOCKET_ID + 20;

    /// The user of the socket at `peer` that is connected to `local`, if there is one that a
    /// process holds. A socket tied to an interface is found by its number only.
    pub(super) fn socket_owner(
        local: SocketAddr,
        peer: SocketAddr,
        interface: u32,
    ) -> io::Result<Option<u32>> {
        let mut answer = [0; 1024];
        let length = ask(libc::NETLINK_SOCK_DIAG, &request(local, peer, interface), &mut answer)?;
        read(&answer[..length], local, peer)
    }

    /// Whether packets for that address stay on this machine.
    pub(super) fn is_own(ip: IpAddr, interface: u32) -> io::Result<bool> {
        let mut answer = [0; 4096];
        let length = ask(libc::NETLINK_ROUTE, &route_request(ip, interface), &mut answer)?;
        let (kind, body) = message(&answer[..length])?;
        if kind == libc::NLMSG_ERROR as u16 {
            let error = -i32::from_ne_bytes(word(body, 0).ok_or_else(malformed)?);
            return match error {
                // There is no way to that address, so least of all a local one.
                libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL => Ok(false),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        let route = body.get(ROUTE_TYPE).filter(|_| kind == libc::RTM_NEWROUTE).ok_or_else(malformed)?;
        Ok([libc::RTN_LOCAL, libc::RTN_ANYCAST].contains(route))
    }

    /// Sends a request and receives its one answer.
    fn ask(protocol: libc::c_int, request: &[u8], answer: &mut [u8]) -> io::Result<usize> {
        let mut netlink =
            Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, Some(Protocol::from(protocol)))?;
        netlink.set_nonblocking(true)?;
        netlink.write_all(request)?;
        netlink.read(answer)
    }

    fn malformed() -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, "netlink: malformed answer")
    }

    /// The type and the body of the kernel's one message.
    fn message(bytes: &[u8]) -> io::Result<(u16, &[u8])> {
        let kind = bytes.get(4..6).and_then(|kind| kind.try_into().ok()).ok_or_else(malformed)?;
        Ok((u16::from_ne_bytes(kind), bytes.get(NETLINK_HEADER..).ok_or_else(malformed)?))
    }

    /// `struct nlmsghdr`, `struct rtmsg` and its attributes: the route to that address.
    fn route_request(ip: IpAddr, interface: u32) -> Vec<u8> {
        let (family, address) = match ip {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        let mut body = vec![family as u8, (address.len() * 8) as u8];
        body.extend([0; 10]); // any source, table, protocol, scope and type; no flags
        attribute(&mut body, libc::RTA_DST, &address);
        if interface != 0 {
            attribute(&mut body, libc::RTA_OIF, &interface.to_ne_bytes());
        }
        let mut request = Vec::with_capacity(NETLINK_HEADER + body.len());
        request.extend(((NETLINK_HEADER + body.len()) as u32).to_ne_bytes());
        request.extend(libc::RTM_GETROUTE.to_ne_bytes());
        request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        request
    }

    /// `struct rtattr` and its value, whose length is a multiple of four.
    fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
        body.extend(((4 + value.len()) as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
    }

    /// `struct nlmsghdr` and `struct inet_diag_req_v2`, asking for the client's socket: its source
    /// is our peer.
    fn request(local: SocketAddr, peer: SocketAddr, interface: u32) -> Vec<u8> {
        let mut request = Vec::with_capacity(REQUEST);
        request.extend((REQUEST as u32).to_ne_bytes());
        request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
        request.extend([0; 8]); // sequence and port id: one request per socket needs neither
        let family = if peer.ip().to_canonical().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        request.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
        request.extend(u32::MAX.to_ne_bytes()); // any state; the answer's is checked
        request.extend(socket_id(peer, local));
        request.extend(interface.to_ne_bytes());
        request.extend([0xff; 8]); // no cookie
        request
    }

    /// The ports and addresses of `struct inet_diag_sockid`, an IPv4 address in the first word.
    fn socket_id(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        let mut id = Vec::with_capacity(36);
        id.extend(source.port().to_be_bytes());
        id.extend(destination.port().to_be_bytes());
        for ip in [source.ip().to_canonical(), destination.ip().to_canonical()] {
            match ip {
                IpAddr::V4(ip) => {
                    id.extend(ip.octets());
                    id.extend([0; 12]);
                }
                IpAddr::V6(ip) => id.extend(ip.octets()),
            }
        }
        id
    }

    /// Reads the kernel's word on a socket.
    fn read(answer: &[u8], local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
        let (kind, body) = message(answer)?;
        if kind == libc::NLMSG_ERROR as u16 {
            let error = -i32::from_ne_bytes(word(body, 0).ok_or_else(malformed)?);
            return match error {
                libc::ENOENT => Ok(None),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        if kind != SOCK_DIAG_BY_FAMILY || body.len() < ANSWER {
            return Err(malformed());
        }
        let uid = u32::from_ne_bytes(word(body, ANSWER - 8).ok_or_else(malformed)?);
        let inode = u32::from_ne_bytes(word(body, ANSWER - 4).ok_or_else(malformed)?);
        // Without an inode no process holds the socket any more (closed, TIME_WAIT) and the uid
        // reads as 0, which must not pass for root. Where no connected socket matches, the kernel
        // answers with a listener on that port; and a socket in SYN_SENT may be somebody else's
        // attempt to reuse the addresses. So: this very pair of addresses, connected, held.
        let held = inode != 0 && CONNECTED.contains(&body[1]) && is_pair(body, peer, local);
        Ok(held.then_some(uid))
    }

    /// Whether the answer is about these two addresses; an IPv6 socket speaking IPv4 gives them mapped.
    fn is_pair(body: &[u8], source: SocketAddr, destination: SocketAddr) -> bool {
        let ipv6 = body[0] == libc::AF_INET6 as u8;
        let ip = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&body[at..at + 16]);
            if ipv6 {
                IpAddr::from(octets).to_canonical()
            } else {
                IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
            }
        };
        let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        (ip(8), port(4)) == (source.ip().to_canonical(), source.port())
            && (ip(24), port(6)) == (destination.ip().to_canonical(), destination.port())
    }

    fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
        bytes.get(at..at + 4)?.try_into().ok()
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::os::users::own_uid;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    fn accepted(listener: &TcpListener) -> (TcpStream, SocketAddr, SocketAddr) {
        let (stream, peer) = listener.accept().unwrap();
        let local = stream.local_addr().unwrap();
        (stream, local, peer)
    }

    #[test]
    fn our_own_connections_are_ours_in_every_family() {
        let check = |listen: &str, connect: &str| {
            let Ok(listener) = TcpListener::bind(listen) else {
                assert!(listen.starts_with('['), "IPv4 is always there");
                return;
            };
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((connect, port)).unwrap();
            let (server, local, peer) = accepted(&listener);
            assert_eq!(owner(local, peer).unwrap(), Owner::User(own_uid()), "{listen} from {connect}");
            // Seen from the client the other end is the server's socket, also ours.
            assert_eq!(owner(peer, local).unwrap(), Owner::User(own_uid()));
            drop((client, server));
        };
        check("127.0.0.1:0", "127.0.0.1");
        check("127.0.0.1:0", "::ffff:127.0.0.1");
        check("[::1]:0", "::1");
        check("[::]:0", "127.0.0.1");
        check("[::]:0", "::1");
    }

    #[test]
    fn a_closed_client_vouches_for_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, local, peer) = accepted(&listener);
        drop(client);
        server.read_to_end(&mut Vec::new()).unwrap(); // the end has arrived: the client is gone
        assert_eq!(owner(local, peer).unwrap(), Owner::Nobody);

        // A listener on the client's port is not the client.
        let imposter = bind_reusing(peer);
        if let Ok(_imposter) = imposter {
            assert_eq!(owner(local, peer).unwrap(), Owner::Nobody);
        }
        // Nor is a connection that never was.
        let never: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert_eq!(owner(local, never).unwrap(), Owner::Nobody);
    }

    #[test]
    fn a_client_that_has_sent_all_is_still_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, local, peer) = accepted(&listener);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        server.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(owner(local, peer).unwrap(), Owner::User(own_uid()));
    }

    #[test]
    fn other_machines_are_told_from_this_one() {
        let check = |local: &str, peer: &str, expect: Owner| {
            let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 9);
            assert_eq!(owner(at(local), at(peer)).unwrap(), expect, "{local} from {peer}");
        };
        // None of these has a socket; what has not left this machine is nobody's.
        for peer in ["127.0.0.1", "127.200.3.4", "::ffff:127.0.0.1", "::1"] {
            check("192.0.2.77", peer, Owner::Nobody);
        }
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            check(local, "198.51.100.7", Owner::Nobody);
            check(local, "2001:db8::7", Owner::Nobody);
        }
        check("198.51.100.7", "198.51.100.7", Owner::Nobody);
        check("192.0.2.77", "198.51.100.7", Owner::Elsewhere);
        check("192.0.2.77", "::ffff:198.51.100.7", Owner::Elsewhere);
        check("2001:db8::1", "2001:db8::7", Owner::Elsewhere);
    }

    fn bind_reusing(address: SocketAddr) -> std::io::Result<TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        Ok(socket.into())
    }

    /// Needs root to become somebody else; a developer's own run checks only what it may.
    #[test]
    fn another_user_is_told_apart() {
        if own_uid() != 0 {
            return;
        }
        const SOMEBODY: u32 = 12_345;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut child = Command::new("bash")
            .args([
                "-c",
                "exec 3<>/dev/tcp/127.0.0.1/$0; echo connected >&3; read -r line",
                &port.to_string(),
            ])
            .uid(SOMEBODY)
            .gid(SOMEBODY)
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut server, local, peer) = accepted(&listener);
        server.read_exact(&mut [0; 10]).unwrap();
        assert_eq!(owner(local, peer).unwrap(), Owner::User(SOMEBODY));
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(child.wait().unwrap().success());
        server.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(owner(local, peer).unwrap(), Owner::Nobody);
    }
}
