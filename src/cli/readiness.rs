//! Whether the service answers, and where: asked once, or until it does.

use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::probe::{HttpAnswer, HttpProbe};
use super::service::{Address, Service, State, World, sockets};
use crate::config::Config;
use crate::os::systemd;

/// How long the service may take from the manager's "started" to answering turns.
const PATIENCE: Duration = Duration::from_secs(60);

/// A reason given for so long is not about to go away by itself.
const SETTLED: Duration = Duration::from_secs(4);

/// How often it is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// Where the settings want it to listen.
pub fn addresses_of(config: &Config) -> Vec<Address> {
    let host = config.host.trim_matches(['[', ']']);
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, config.port));
    found.map_or_else(|_| vec![], |found| found.map(Address::Tcp).collect())
}

/// Where the service's process listens, by its own word or the system's.
pub fn bound(service: &Service) -> Vec<Address> {
    let Some(pid) = service.pid else { return vec![] };
    let says = service.says.as_deref().unwrap_or_default();
    let told: Vec<Address> = systemd::listening_in(says).filter_map(Address::parse).collect();
    if told.is_empty() { sockets::of_process(pid) } else { told }
}

/// Where the service really listens: its process is asked, then its sockets, then the settings.
pub fn addresses(service: &Service, config: &Config) -> Vec<Address> {
    let bound = bound(service);
    match bound.is_empty() {
        false => bound,
        true if service.socket.listening => service.socket.addresses.clone(),
        true => addresses_of(config),
    }
}

/// Asks the service whether it is ready, with its key if it has one.
pub fn ask_ready(addresses: &[Address], config: &Config) -> std::io::Result<HttpAnswer> {
    ask(addresses, config, "/ready")
}

/// Asks the service for one of its pages, with its key if it has one.
pub fn ask(addresses: &[Address], config: &Config, path: &str) -> std::io::Result<HttpAnswer> {
    let ask =
        HttpProbe { path, key: config.keys.first().map(|key| key.secret.expose()), ..HttpProbe::default() };
    let none = Err(std::io::Error::other("it listens nowhere"));
    addresses
        .iter()
        .fold(none, |answer, address| answer.or_else(|_| ask.send(address, Duration::from_secs(5))))
}

/// Waits until turns are served; gives where.
///
/// # Errors
/// Why they are not.
pub fn wait(world: &World, config: &Config) -> Result<(Service, Vec<Address>), String> {
    let start = Instant::now();
    let mut same = (Instant::now(), String::new());
    loop {
        let service = world.manager.service().map_err(|_| "the service manager does not answer any more")?;
        let reason = match &service.state {
            State::Failed(how) => return Err(format!("the service failed: {how}")),
            State::Running => {
                let addresses = addresses(&service, config);
                match ask_ready(&addresses, config) {
                    Ok(page) if page.status == 200 => return Ok((service, addresses)),
                    Ok(page) => why_not(&page.body),
                    Err(error) => format!("it cannot be reached: {error}"),
                }
            }
            state => format!("it is {}", state.name()),
        };
        if reason != same.1 {
            same = (Instant::now(), reason);
        }
        let reason = &same.1;
        // These two end by themselves.
        let passing = reason.contains("being looked for") || reason.contains("are starting");
        if start.elapsed() > PATIENCE || (!passing && same.0.elapsed() > SETTLED) {
            return Err(format!("the service did not become ready: {reason}"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The reason that `/ready` gives; with broken settings, every page is an error.
pub fn why_not(page: &Json) -> String {
    let reason = page["reason"].as_str().or_else(|| page["error"]["message"].as_str());
    reason.unwrap_or("it gives no reason").to_owned()
}
