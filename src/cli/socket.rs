//! The addresses of the socket unit, kept in step with `host` and `port`: while systemd holds the
//! sockets, those settings alone would change nothing.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::managed::Kept;
use super::output::warn;
use super::service::{Address, Manager, Socket, World, systemd};
use crate::config::{Config, edit};

/// The drop-in that says where else to listen.
pub fn drop_in(unit_folder: &Path) -> PathBuf {
    unit_folder.join(format!("{}.d/50-start.conf", systemd::SOCKET))
}

/// How the addresses stand to each other.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no socket unit in force, or its addresses are those of the settings.
    Same,
    /// They differ; the text of the drop-in that would make them the same.
    Differ(String),
}

/// Compares the socket's addresses with the settings'.
pub fn compare(socket: &Socket, config: &Config) -> Result<Step, String> {
    if !(socket.enabled || socket.listening) || config.port == 0 {
        return Ok(Step::Same);
    }
    let host = config.host.trim_matches(['[', ']']);
    let wanted = (host, config.port).to_socket_addrs();
    let mut wanted: Vec<SocketAddr> = wanted.map_err(|error| format!("host {host}: {error}"))?.collect();
    wanted.sort();
    wanted.dedup();
    Ok(step(socket, &wanted))
}

fn step(socket: &Socket, wanted: &[SocketAddr]) -> Step {
    let mut held: Vec<SocketAddr> = vec![];
    let mut paths = vec![];
    for address in &socket.addresses {
        match address {
            Address::Tcp(address) => held.push(*address),
            Address::Unix(path) => paths.push(path),
        }
    }
    held.sort();
    if held == wanted {
        return Step::Same;
    }
    let mut text = String::from(
        "# Written by `codex-api-proxy start` or `restart`, to listen on `host` and `port` of the settings.\n\
         [Socket]\nListenStream=\n",
    );
    for address in wanted {
        text += &format!("ListenStream={address}\n");
    }
    for path in paths {
        // A path may hold a specifier's sign.
        text += &format!("ListenStream={}\n", path.display().to_string().replace('%', "%%"));
    }
    Step::Differ(text)
}

/// Brings the socket unit in step if `host` or `port` were given or a drop-in of ours is there, else
/// warns. Gives what was written, to be put in force by [`apply`], and to be put back if need be.
///
/// # Errors
/// The drop-in cannot be written.
pub fn keep_in_step(
    world: &World,
    socket: &Socket,
    config: &Config,
    given: bool,
) -> Result<Option<Kept>, Exit> {
    let Manager::Systemd(systemd) = &world.manager else { return Ok(None) };
    let Some(folder) = systemd.unit_folder() else { return Ok(None) };
    let Step::Differ(text) = compare(socket, config).map_err(Exit::Failure)? else { return Ok(None) };
    let kept = Kept::read(drop_in(&folder), world.sources.uid).map_err(Exit::Failure)?;
    if !given && kept.before.is_none() {
        warn(&[differ(socket, config)]);
        return Ok(None);
    }
    edit::write(&kept.path, &text).map_err(Exit::Failure)?;
    Ok(Some(kept))
}

/// Has systemd read the drop-in, and listen anew if told. A socket cannot change while its service runs.
///
/// # Errors
/// What systemd said.
pub fn apply(world: &World, listen: bool) -> Result<(), String> {
    let Manager::Systemd(systemd) = &world.manager else { return Ok(()) };
    systemd.control(&["daemon-reload"])?;
    systemd.control(&["stop", systemd::SOCKET, systemd::SERVICE])?;
    if listen { systemd.control(&["start", systemd::SOCKET]) } else { Ok(()) }
}

/// Has systemd listen if it does at each login: `stop` had ended that, or the service runs since
/// before its socket was enabled and holds the address itself. Tells whether it was so.
///
/// # Errors
/// What systemd said.
pub fn resume(world: &World) -> Result<bool, Exit> {
    let Manager::Systemd(systemd) = &world.manager else { return Ok(false) };
    let socket = world.manager.service()?.socket;
    if !socket.enabled || socket.listening {
        return Ok(false);
    }
    for arguments in [["stop", systemd::SERVICE], ["start", systemd::SOCKET]] {
        systemd.control(&arguments).map_err(Exit::Failure)?;
    }
    Ok(true)
}

/// Says that the settings' address is not the one in force.
pub fn differ(socket: &Socket, config: &Config) -> String {
    let held: Vec<String> = socket.addresses.iter().map(Address::to_string).collect();
    format!(
        "codex-api-proxy.socket listens on {}; host = {} and port = {} have no effect while it does. Bring it in \
         step with: codex-api-proxy restart --host {} --port {}",
        held.join(" and "),
        config.host,
        config.port,
        config.host,
        config.port
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_replaces_tcp_and_keeps_unix() {
        let socket = |addresses: &[&str]| Socket {
            listening: true,
            enabled: true,
            known: true,
            addresses: addresses.iter().map(|text| Address::parse(text).unwrap()).collect(),
        };
        let wanted = |addresses: &[&str]| -> Vec<SocketAddr> {
            addresses.iter().map(|text| text.parse().unwrap()).collect()
        };
        let both = socket(&["127.0.0.1:8765", "/run/user/1/100%.sock"]);
        assert_eq!(step(&both, &wanted(&["127.0.0.1:8765"])), Step::Same);
        let Step::Differ(text) = step(&both, &wanted(&["0.0.0.0:9000", "[::]:9000"])) else {
            panic!("they differ")
        };
        let (_, lines) = text.split_once("[Socket]\n").unwrap();
        assert_eq!(
            lines,
            "ListenStream=\nListenStream=0.0.0.0:9000\nListenStream=[::]:9000\n\
             ListenStream=/run/user/1/100%%.sock\n"
        );
    }

    #[test]
    fn no_socket_in_force_needs_nothing() {
        let config = Config { port: 9000, ..Config::default() };
        let idle = Socket { addresses: vec![Address::parse("127.0.0.1:8765").unwrap()], ..Socket::default() };
        assert_eq!(compare(&idle, &config), Ok(Step::Same));
        let enabled = Socket { enabled: true, ..idle };
        assert!(matches!(compare(&enabled, &config), Ok(Step::Differ(_))));
        assert_eq!(compare(&enabled, &Config::default()), Ok(Step::Same));
    }
}
