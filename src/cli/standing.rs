//! What the server that runs says of what it does and what is left: `GET /usage`, once or as it changes.

use std::io::{self, BufRead, BufReader};
use std::time::Duration;

use serde_json::Value as Json;

use super::foreground::Foreground;
use super::probe::HttpProbe;
use super::readiness::{addresses, ask};
use super::service::{Address, Manager, Service, World};
use crate::config::{Config, load};

/// The longest silence of the stream: its keep-alive is at most a day, by default 15 s.
const SILENCE: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Where the server answers that the settings are about: the service, else one started by hand, if its
/// process is this user's. Any other might only pretend, and is not shown the key.
pub fn places(service: Option<&Service>, servers: &[Foreground], config: &Config) -> Vec<Address> {
    match service.filter(|service| service.state.is_up()) {
        Some(service) => addresses(service, config),
        None => {
            let ours = servers.iter().find(|server| server.pid.is_some() && server.ready.is_some());
            ours.map(|server| server.address.clone()).into_iter().collect()
        }
    }
}

/// What it says now; `None` if nobody runs or it does not say.
pub fn usage(places: &[Address], config: &Config) -> Option<Json> {
    let page = ask(places, config, "/usage").ok()?;
    (page.status == 200).then_some(page.body)
}

/// The same of whichever server runs.
pub fn usage_of(world: &World) -> Option<Json> {
    let config = load(&world.sources).ok()?.config;
    let service = match &world.manager {
        Manager::None(_) => None,
        manager => manager.service().ok(),
    };
    let servers = Foreground::all(service.as_ref().and_then(|service| service.pid), &config);
    usage(&places(service.as_ref(), &servers, &config), &config)
}

/// What it says whenever that changes, until it ends the stream.
///
/// # Errors
/// There is no such stream.
pub fn follow(places: &[Address], config: &Config) -> io::Result<impl Iterator<Item = Json> + use<>> {
    let key = config.keys.first().map(|key| key.secret.expose());
    let probe = HttpProbe { path: "/events", key, ..HttpProbe::default() };
    let mut opened = Err(io::Error::other("it listens nowhere"));
    for place in places {
        opened = opened.or_else(|_| probe.open(place, SILENCE));
    }
    Ok(documents(BufReader::new(opened?)))
}

fn documents(stream: impl BufRead) -> impl Iterator<Item = Json> {
    let lines = stream.lines().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_documents_and_all_else_is_passed_over() {
        let stream =
            "event: usage\ndata: {\"now\":1}\n\n: keep-alive\n\ndata: {broken\n\ndata: {\"now\":2}\n";
        let told: Vec<Json> = documents(stream.as_bytes()).collect();
        assert_eq!(told, [serde_json::json!({ "now": 1 }), serde_json::json!({ "now": 2 })]);
    }
}
