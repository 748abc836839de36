//! Which local user sits at the other end of a loopback TCP connection.
//!
//! Linux answers by sock_diag(7): one request for exactly one socket, the client's, found by its
//! two addresses. The kernel answers within the `send` call, so nothing here ever waits.

use std::io;
use std::net::SocketAddr;

/// What is known about the user at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The client's socket belongs to this user.
    User(u32),
    /// No living socket is at the other end (the client closed it): nobody vouches for the request.
    Nobody,
    /// This operating system does not tell.
    CannotTell,
}

/// The owner of the socket at `peer` that is connected to our `local`.
///
/// # Errors
/// The kernel refuses to be asked (netlink forbidden by a sandbox, for example).
#[cfg(target_os = "linux")]
pub fn owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Owner> {
    sock_diag::owner(local, peer)
}

/// The owner of the socket at `peer`: elsewhere than on Linux nobody knows.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn owner(_local: SocketAddr, _peer: SocketAddr) -> io::Result<Owner> {
    Ok(Owner::CannotTell)
}

#[cfg(target_os = "linux")]
mod sock_diag {
    use std::io::{self, Read, Write};
    use std::net::{IpAddr, SocketAddr};

    use socket2::{Domain, Protocol, Socket, Type};

    use super::Owner;

    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const TCP_ESTABLISHED: u8 = 1;
    const NETLINK_HEADER: usize = 16;
    /// `struct inet_diag_sockid`: two ports, two addresses of 16 bytes, interface, cookie.
    const SOCKET_ID: usize = 48;
    const REQUEST: usize = NETLINK_HEADER + 8 + SOCKET_ID;
    /// `struct inet_diag_msg`: 4 bytes, the socket id, and five words of which uid and inode are last.
    const ANSWER: usize = 4 + SOCKET_ID + 20;

    pub(super) fn owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Owner> {
        let mut netlink = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::DGRAM,
            Some(Protocol::from(libc::NETLINK_SOCK_DIAG)),
        )?;
        netlink.set_nonblocking(true)?;
        netlink.write_all(&request(local, peer))?;
        let mut answer = [0; 1024];
        let length = netlink.read(&mut answer)?;
        read(&answer[..length], local, peer)
    }

    /// `struct nlmsghdr` and `struct inet_diag_req_v2`, asking for the client's socket: its source
    /// is our peer.
    fn request(local: SocketAddr, peer: SocketAddr) -> [u8; REQUEST] {
        let mut request = Vec::with_capacity(REQUEST);
        request.extend((REQUEST as u32).to_ne_bytes());
        request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
        request.extend([0; 8]); // sequence and port id: one request per socket needs neither
        let family = if peer.ip().to_canonical().is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        request.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
        request.extend(u32::MAX.to_ne_bytes()); // any state; the answer's is checked
        request.extend(socket_id(peer, local));
        request.extend([0; 4]); // any interface
        request.extend([0xff; 8]); // no cookie
        let mut bytes = [0; REQUEST];
        bytes.copy_from_slice(&request);
        bytes
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

    /// Reads the kernel's one message.
    fn read(message: &[u8], local: SocketAddr, peer: SocketAddr) -> io::Result<Owner> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "sock_diag: malformed answer");
        let kind = message.get(4..6).ok_or_else(malformed)?;
        let body = message.get(NETLINK_HEADER..).ok_or_else(malformed)?;
        if kind == (libc::NLMSG_ERROR as u16).to_ne_bytes() {
            let error = -i32::from_ne_bytes(word(body, 0).ok_or_else(malformed)?);
            return match error {
                libc::ENOENT => Ok(Owner::Nobody),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        if kind != SOCK_DIAG_BY_FAMILY.to_ne_bytes() || body.len() < ANSWER {
            return Err(malformed());
        }
        let uid = u32::from_ne_bytes(word(body, ANSWER - 8).ok_or_else(malformed)?);
        let inode = u32::from_ne_bytes(word(body, ANSWER - 4).ok_or_else(malformed)?);
        // Without an inode no process holds the socket any more (closed, TIME_WAIT) and the uid
        // reads as 0, which must not pass for root. Where no connected socket matches, the kernel
        // answers with a listener on that port; and a socket in SYN_SENT may be somebody else's
        // attempt to reuse the addresses. So: this very pair of addresses, established, held.
        let held = inode != 0 && body[1] == TCP_ESTABLISHED && is_pair(body, peer, local);
        Ok(if held { Owner::User(uid) } else { Owner::Nobody })
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
    use crate::os::names::own_uid;
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
