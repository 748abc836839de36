//! One start or restart: the settings are saved, the service comes up, or everything is as it was.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::exit::Exit;
use super::given::Given;
use super::managed::{self, Kept};
use super::output::{out, warn};
use super::probe::Holder;
use super::readiness::{self, addresses_of, bound};
use super::service::{Address, Service, Socket, State, World};
use super::{check, socket, unit_files};
use crate::config::{Config, Loaded, edit, load, render};

/// One start or restart.
pub struct Launch {
    world: World,
    /// How the service was before.
    service: Service,
    restart: bool,
}

/// What has to be put back if the service does not come up.
struct Undo {
    /// Files as they were; the first is the one with the saved settings.
    files: Vec<Kept>,
    /// Whether the service or its sockets were touched.
    disturbed: bool,
    /// Whether the sockets listen elsewhere than before.
    moved: bool,
}

impl Launch {
    /// A start, or a restart of what runs.
    ///
    /// # Errors
    /// It must not be started.
    pub fn new(world: World, service: Service, restart: bool) -> Result<Launch, Exit> {
        match service.state {
            State::Masked => Err(world.manager.masked()),
            _ => Ok(Launch { world, service, restart }),
        }
    }

    /// Writes the settings (merged into `before` if given), starts, waits, tells.
    ///
    /// # Errors
    /// Why it did not come up; everything is as before then.
    pub fn run(self, given: Given, before: Option<&str>) -> Result<(), Exit> {
        let uid = self.world.sources.uid;
        let file = Kept::read(managed::path(&self.world.sources)?, uid).map_err(Exit::Failure)?;
        let mut undo = Undo { files: vec![file], disturbed: false, moved: false };
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match self.launch(&given, before, &mut undo) {
            Ok(told) => out(&told),
            Err(exit) => Err(self.undo(exit, &undo, began)),
        }
    }

    fn launch(&self, given: &Given, before: Option<&str>, undo: &mut Undo) -> Result<String, Exit> {
        let world = &self.world;
        let path = undo.files[0].path.clone();
        let write = |given: &Given, before: Option<&str>| {
            let text = managed::text(before, given)
                .map_err(|why| Exit::Config(format!("{}: {why}", path.display())))?;
            edit::write(&path, &text).map_err(Exit::Failure)?;
            Ok::<String, Exit>(text)
        };
        let text = write(given, before)?;
        let mut loaded = load(&world.sources)?;
        let adopted = managed::adopted(&loaded.config, world);
        if !adopted.is_empty() {
            write(&adopted, Some(&text))?;
            loaded = load(&world.sources)?;
        }
        warn(&loaded.warnings);
        // What the service would refuse is not tried on one that runs.
        check::settings(&loaded.config)?;

        let mut told = unit_files::ensure(world, &self.service)?;
        let addressed = ["host", "port"].iter().any(|key| given.contains_key(key));
        let socket = world.manager.service()?.socket;
        // A socket that stays where it is makes `port` meaningless.
        if !socket.listening || addressed {
            address_is_free(&loaded.config, &self.held(&socket))?;
        }
        undo.disturbed = true;
        if let Some(file) = socket::keep_in_step(world, &socket, &loaded.config, addressed)? {
            undo.files.push(file);
            undo.moved = true;
            socket::apply(world, true).map_err(Exit::Failure)?;
        }
        undo.moved |= socket::resume(world)?;
        // One that was started too often would be refused for a while.
        world.manager.forget_failure().map_err(Exit::Failure)?;
        if self.restart {
            eprintln!("Restarting; running turns may end first ...");
        }
        let started = if self.restart { world.manager.restart() } else { world.manager.start() };
        started.map_err(Exit::Failure)?;
        let (service, addresses) = readiness::wait(world, &loaded.config).map_err(Exit::Failure)?;
        told.extend(self.tell(&path, &loaded, &service, &addresses));
        Ok(told.join("\n") + "\n")
    }

    /// Where the service and its sockets listen now.
    fn held(&self, socket: &Socket) -> Vec<Address> {
        let mut held = bound(&self.service);
        held.extend(socket.addresses.iter().filter(|_| socket.listening).cloned());
        held
    }

    /// Puts everything back and adds to the reason what the log and the service say.
    fn undo(&self, exit: Exit, undo: &Undo, began: Duration) -> Exit {
        let manager = &self.world.manager;
        let (Exit::Failure(why) | Exit::Config(why) | Exit::Usage(why)) = &exit else { return exit };
        let mut text = why.clone();
        let started = manager.service().ok().filter(|now| now.state != self.service.state || self.restart);
        if started.is_some() && undo.disturbed {
            text += "\nIts last log lines:\n";
            for line in manager.last_lines(Some(began)).lines() {
                text += &format!("  {line}\n");
            }
            text.truncate(text.trim_end().len());
        }
        if let (Some(now), false, true) = (&started, self.restart, undo.disturbed) {
            // A restart policy would try again and again.
            let held = Service { socket: Socket::default(), ..now.clone() };
            if let Err(error) = manager.stop(&held).and_then(|()| manager.forget_failure()) {
                text += &format!("\n{error}");
            }
        }
        for file in &undo.files {
            if let Err(error) = file.put_back() {
                text += &format!("\n{error}");
            }
        }
        if undo.moved
            && let Err(error) = socket::apply(&self.world, self.service.socket.listening)
        {
            text += &format!("\n{error}");
        }
        let was = matches!(self.service.state, State::Running | State::Starting);
        if self.restart && was && undo.disturbed {
            text += match manager.restart() {
                Ok(()) => "\n\nThe previous settings are back, and the service was started with them.",
                Err(_) => {
                    "\n\nThe previous settings are back, but the service does not start with them either."
                }
            };
        } else {
            text += match undo.files[0].before {
                Some(_) => "\n\nThe previously saved settings are back in place.",
                None => "\n\nNo settings were saved.",
            };
        }
        match exit {
            Exit::Config(_) => Exit::Config(text),
            Exit::Usage(_) => Exit::Usage(text),
            _ => Exit::Failure(text),
        }
    }

    fn tell(
        &self,
        path: &std::path::Path,
        loaded: &Loaded,
        service: &Service,
        addresses: &[Address],
    ) -> Vec<String> {
        let mut lines = vec![
            format!("Settings saved in {}", path.display()),
            "Settings in force, and where each comes from:".into(),
        ];
        lines.extend(render::show(loaded).lines().map(|line| format!("  {line}")));
        let verb = if self.restart { "was restarted and is" } else { "is" };
        lines.push(String::new());
        lines.push(format!("codex-api-proxy {verb} running{}.", service.process()));
        for address in addresses {
            lines.push(match address.url() {
                Some(url) => format!("  URL: {url}"),
                None => format!("  And {address}"),
            });
        }
        lines.push("Stop it with: codex-api-proxy stop".into());
        if !service.enabled && !service.socket.enabled {
            lines.push(format!(
                "It is not started at login. To have that: {}",
                self.world.manager.how_to_enable()
            ));
        }
        let linger = unit_files::notes_on_login(&self.world.manager, false);
        lines.extend(linger.lines().map(str::to_owned));
        lines
    }
}

/// An address that cannot be had is found out before anything is started or stopped.
fn address_is_free(config: &Config, ours: &[Address]) -> Result<(), Exit> {
    let Err(why) = crate::os::listen::bind(&config.host, config.port) else { return Ok(()) };
    if !why.contains("in use") {
        return Err(Exit::Failure(why));
    }
    let port = |address: &Address| matches!(address, Address::Tcp(address) if address.port() == config.port);
    if ours.iter().any(port) {
        return Ok(());
    }
    let address = addresses_of(config).into_iter().find_map(|address| address.reachable());
    Err(Exit::Failure(address.map_or(why, |address| Holder::of(address).explain(address))))
}
