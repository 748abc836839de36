//! `start`: saves the given settings, has the service manager start the service, and waits until it
//! is ready; what does not come up leaves everything as it was.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value as Json;

use super::managed::{self, Kept};
use super::probe::{Answer, Ask, Holder};
use super::service::{Address, Service, State, World, sockets};
use super::{Exit, install, out, serve, socket, warn};
use crate::config::schema::replaced_notices;
use crate::config::{Config, Loaded, edit, layers, load, render};
use crate::os::systemd;

/// How long the service may take from the manager's "started" to answering turns.
const PATIENCE: Duration = Duration::from_secs(60);

/// A reason given for so long is not about to go away by itself.
const SETTLED: Duration = Duration::from_secs(4);

/// How often it is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// `start`, without the settings.
pub fn command() -> Command {
    Command::new("start")
        .about("Start the service in the background with these settings, and remember them")
        .after_help(
            "The settings given here (flags, and CODEX_PROXY_* variables of this shell) are saved as the whole of one \
             file, config.d/50-start.toml in your config folder; restart uses them again. Settings to keep for good: \
             codex-api-proxy config set.\n\nExamples:\n  codex-api-proxy start\n  codex-api-proxy start --host 0.0.0.0 \
             --api-key-file ~/keys\n  codex-api-proxy start --fast --engine app-server --workers 4\n  codex-api-proxy \
             start --proxy http://127.0.0.1:8118 --port 9000",
        )
        .arg(
            Arg::new("foreground")
                .long("foreground")
                .action(ArgAction::SetTrue)
                .help("Run in the foreground instead, saving nothing: the same as serve"),
        )
}

/// Runs it.
///
/// # Errors
/// How the program ends, if not well.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    warn(&replaced_notices(matches));
    let world = World::look()?;
    let service = world.manager.service()?;
    if let State::Running | State::Starting = service.state {
        return out(&format!(
            "codex-api-proxy is already {}{}; nothing was changed.\nTo apply settings: codex-api-proxy restart \
             [settings]\n",
            service.state.name(),
            process(&service)
        ));
    }
    let given = given(matches)?;
    Launch::new(world, service, false)?.run(given, None)
}

/// ` (process 123, since …)`.
fn process(service: &Service) -> String {
    match (service.pid, &service.since) {
        (Some(pid), Some(since)) => format!(" (process {pid}, since {since})"),
        (Some(pid), None) => format!(" (process {pid})"),
        _ => String::new(),
    }
}

/// Settings by their keys.
pub type Given = std::collections::BTreeMap<&'static str, figment::value::Value>;

/// What the flags and this shell's variables set.
///
/// # Errors
/// What is wrong with them.
pub fn given(matches: &ArgMatches) -> Result<Given, Exit> {
    let sources = super::sources(matches)?;
    if sources.config_file.is_some() {
        return Err(Exit::Usage(
            "--config is for serve and start --foreground: the service reads the files that `codex-api-proxy \
             config path` lists"
                .into(),
        ));
    }
    if sources.env.iter().any(|(name, value)| name == "CODEX_PROXY_CONFIG" && !value.is_empty()) {
        warn(&["CODEX_PROXY_CONFIG is not passed on: the service reads the files of `config path`".into()]);
    }
    if sources.flags.iter().any(|(key, _)| *key == "api_key") {
        warn(&[
            "--api-key: other users can see the command line while it runs; CODEX_PROXY_API_KEY is not seen"
                .into(),
        ]);
    }
    let (given, warnings) = layers::given(&sources)?;
    warn(&warnings);
    Ok(given)
}

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
        serve::check(&loaded.config)?;

        let mut told = install::ensure(world, &self.service)?;
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
        let (service, ready) = wait(world, &loaded.config).map_err(Exit::Failure)?;
        told.extend(self.tell(&path, &loaded, &service, &ready));
        Ok(told.join("\n") + "\n")
    }

    /// Where the service and its sockets listen now.
    fn held(&self, socket: &super::service::Socket) -> Vec<Address> {
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
            let held = Service { socket: super::service::Socket::default(), ..now.clone() };
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

    fn tell(&self, path: &std::path::Path, loaded: &Loaded, service: &Service, ready: &Ready) -> Vec<String> {
        let mut lines = vec![
            format!("Settings saved in {}", path.display()),
            "Settings in force, and where each comes from:".into(),
        ];
        lines.extend(render::show(loaded).lines().map(|line| format!("  {line}")));
        let verb = if self.restart { "was restarted and is" } else { "is" };
        lines.push(String::new());
        lines.push(format!("codex-api-proxy {verb} running{}.", process(service)));
        for address in &ready.addresses {
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
        let linger = install::notes_on_login(&self.world.manager, false);
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

/// Where the settings want it to listen.
pub fn addresses_of(config: &Config) -> Vec<Address> {
    let host = config.host.trim_matches(['[', ']']);
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, config.port));
    found.map_or_else(|_| vec![], |found| found.map(Address::Tcp).collect())
}

/// A service that answers.
pub struct Ready {
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Its page.
    pub page: Answer,
}

/// Where the service's process listens, by its own word or the system's.
fn bound(service: &Service) -> Vec<Address> {
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
pub fn ask_ready(addresses: &[Address], config: &Config) -> std::io::Result<Answer> {
    let ask =
        Ask { path: "/ready", key: config.keys.first().map(|key| key.secret.expose()), ..Ask::default() };
    let none = Err(std::io::Error::other("it listens nowhere"));
    addresses
        .iter()
        .fold(none, |answer, address| answer.or_else(|_| ask.send(address, Duration::from_secs(5))))
}

/// Waits until turns are served.
fn wait(world: &World, config: &Config) -> Result<(Service, Ready), String> {
    let start = Instant::now();
    let mut same = (Instant::now(), String::new());
    loop {
        let service = world.manager.service().map_err(|_| "the service manager does not answer any more")?;
        let reason = match &service.state {
            State::Failed(how) => return Err(format!("the service failed: {how}")),
            State::Running => {
                let addresses = addresses(&service, config);
                match ask_ready(&addresses, config) {
                    Ok(page) if page.status == 200 => return Ok((service, Ready { addresses, page })),
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
