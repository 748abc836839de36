//! Where clients are pointed: the server that runs, else the one that the settings describe, and what it
//! wants of them.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::exit::Exit;
use super::super::foreground::Foreground;
use super::super::probe::HttpProbe;
use super::super::readiness::{addresses, addresses_of};
use super::super::service::{Address, Manager, World};
use crate::clients::{KEY_VARIABLE, KeyWords, Place};
use crate::config::{Config, Loaded, Secret, load};

/// For each part of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The key that callers present.
#[derive(Debug)]
pub struct Key {
    /// What is presented.
    pub secret: Secret,
    /// How a shell comes by it.
    pub words: KeyWords,
}

/// A server, and what clients have to know of it.
#[derive(Debug)]
pub struct Target {
    /// Where it is reached from this machine.
    pub address: SocketAddr,
    /// Its key, if it has one and it is known.
    pub key: Option<Key>,
    /// The engine in force.
    pub engine: String,
    /// The profile in force.
    pub profile: String,
    /// The command that changes settings there.
    pub verb: &'static str,
    /// Whether it listens elsewhere than the settings say, and was found by its process.
    pub elsewhere: bool,
    /// Why no client will be answered there, if so.
    pub trouble: Option<String>,
}

impl Target {
    /// Looks for it.
    ///
    /// # Errors
    /// The settings are broken, or give no address that a client could be told.
    pub fn look() -> Result<Target, Exit> {
        let world = World::look()?;
        let loaded = load(&world.sources)?;
        let config = &loaded.config;
        let service = match &world.manager {
            Manager::None(_) => None,
            manager => Some(manager.service()?),
        };
        let mut elsewhere = false;
        let (places, verb, runs) = match &service {
            Some(service) if service.state.is_up() => (addresses(service, config), "restart", true),
            // Its socket would start it: it is not asked.
            Some(service) if service.socket.listening => (addresses(service, config), "restart", false),
            _ => match by_hand(config) {
                Some(server) => {
                    elsewhere = server.ready.is_none();
                    (vec![server.address], "serve", true)
                }
                None => {
                    let verb = if service.is_some() { "start" } else { "serve" };
                    let mut target = Target::of(&addresses_of(config), verb, &loaded)?;
                    let address = target.address;
                    target.trouble =
                        Some(format!("nothing listens on {address}; start it with: codex-api-proxy {verb}"));
                    return Ok(target);
                }
            },
        };
        let mut target = Target { elsewhere, ..Target::of(&places, verb, &loaded)? };
        if runs {
            target.ask();
        }
        Ok(target)
    }

    /// What the client's text is made of; `proxied`: this shell sends requests through a proxy.
    pub fn place(&self, proxied: bool) -> Place {
        Place {
            authority: self.address.to_string(),
            key: self.key.as_ref().map(|key| key.words.clone()),
            unproxied: proxied.then(|| self.address.ip().to_string()),
        }
    }

    fn of(places: &[Address], verb: &'static str, loaded: &Loaded) -> Result<Target, Exit> {
        let config = &loaded.config;
        let Some(address) = places.iter().find_map(Address::reachable).filter(|address| address.port() != 0)
        else {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            return Err(Exit::Failure(format!(
                "no TCP address to point a client at: the server listens on {}",
                if places.is_empty() { "nothing".into() } else { places.join(", ") }
            )));
        };
        Ok(Target {
            address,
            key: key(loaded, std::env::var(KEY_VARIABLE).ok()),
            engine: config.engine.name().into(),
            profile: config.profile().name().into(),
            verb,
            elsewhere: false,
            trouble: None,
        })
    }

    /// Asks the running server, whose settings may be others than the files say.
    fn ask(&mut self) {
        let key = self.key.as_ref().map(|key| key.secret.expose());
        let address = self.address;
        match (HttpProbe { path: "/ready", key, body: None }).send(&Address::Tcp(address), PATIENCE) {
            Err(error) => self.trouble = Some(format!("{address} does not answer: {error}")),
            Ok(page) => match (page.body["engine"].as_str(), page.body["profile"].as_str()) {
                (Some(engine), Some(profile)) => {
                    (self.engine, self.profile) = (engine.into(), profile.into());
                }
                _ if page.status == 200 || page.status == 503 => {
                    self.trouble = Some(match self.key {
                        None => format!(
                            "{address} wants a key, and none is known here; have it in {KEY_VARIABLE}"
                        ),
                        Some(Key { words: KeyWords { ref from, .. }, .. }) => {
                            format!(
                                "{address} does not take the key of {from}; have its key in {KEY_VARIABLE}"
                            )
                        }
                    });
                }
                _ => self.trouble = Some(format!("{address} answers with status {}", page.status)),
            },
        }
    }
}

/// A server that the service manager did not start: the one at the place of the settings, else the only one.
fn by_hand(config: &Config) -> Option<Foreground> {
    let mut servers = Foreground::all(None, config);
    match servers.iter().position(|server| server.ready.is_some()) {
        Some(at) => Some(servers.swap_remove(at)),
        None if servers.len() == 1 => servers.pop(),
        None => None,
    }
}

/// The first key of the settings, else what this shell has.
fn key(loaded: &Loaded, variable: Option<String>) -> Option<Key> {
    let config = &loaded.config;
    let Some(first) = config.keys.first() else {
        let secret = Secret::new(variable.filter(|value| !value.is_empty())?);
        return Some(Key { secret, words: KeyWords::of_variable(KEY_VARIABLE.into()) });
    };
    let words = match (&config.api_key, &config.api_key_file) {
        (None, Some(file)) => KeyWords::of_file(&file.display().to_string()),
        _ => {
            let origin =
                loaded.origins.get("api_key").map_or(String::new(), |origin| format!(" of {origin}"));
            KeyWords::of_variable(format!("api_key{origin}"))
        }
    };
    Some(Key { secret: first.secret.clone(), words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn loaded(env: &[(&str, &str)]) -> Loaded {
        let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        load(&Sources { home: Some("/h".into()), cwd: "/".into(), env, ..Sources::default() }).unwrap()
    }

    #[test]
    fn the_key_is_named_by_its_place_and_never_by_itself() {
        assert!(key(&loaded(&[]), None).is_none());
        assert!(key(&loaded(&[]), Some(String::new())).is_none());
        let found = key(&loaded(&[]), Some("s3cret".into())).unwrap();
        assert_eq!((found.secret.expose(), found.words.from.as_str()), ("s3cret", KEY_VARIABLE));
        let found = key(&loaded(&[(KEY_VARIABLE, "s3cret")]), Some("other".into())).unwrap();
        assert_eq!(
            (found.secret.expose(), found.words.from.as_str(), found.words.shell.as_str()),
            ("s3cret", "api_key of environment CODEX_PROXY_API_KEY", "\"$CODEX_PROXY_API_KEY\"")
        );
    }

    #[test]
    fn a_shell_finds_the_first_key_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("it's keys");
        std::fs::write(&file, "# NAME KEY\n\n \t\n  # more\n ann\tfirst-key \nsecond-key\n").unwrap();
        let mut loaded = loaded(&[]);
        loaded.config.api_key_file = Some(file);
        let secret = Secret::new("first-key");
        loaded.config.keys = vec![crate::config::Key { name: "ann".into(), secret }];
        let found = key(&loaded, None).unwrap();
        assert!(found.words.from.starts_with("api_key_file /"), "{}", found.words.from);
        let said = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("printf %s {}", found.words.shell))
            .output();
        assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), found.secret.expose());
    }

    #[test]
    fn an_address_that_clients_cannot_be_told_is_refused() {
        let loaded = loaded(&[]);
        for (place, said) in [("127.0.0.1:0", "127.0.0.1:0"), ("/run/x.sock", "unix:/run/x.sock")] {
            let place = Address::parse(place).unwrap();
            let error = Target::of(&[place], "start", &loaded).unwrap_err().into_text();
            assert_eq!(error, format!("no TCP address to point a client at: the server listens on {said}"));
        }
        let every = Address::parse("0.0.0.0:8765").unwrap();
        let target = Target::of(&[every], "start", &loaded).unwrap();
        assert_eq!(target.address.to_string(), "127.0.0.1:8765");
        assert_eq!((target.engine.as_str(), target.profile.as_str()), ("exec", "agent"));
    }
}
