//! `install` and `uninstall`: unit or plist files for people without a distribution package.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::Exit;
use super::managed::{self, Kept};
use super::output::{out, warn};
use super::service::{Manager, State, World, launchd, own_program, systemd, units};
use super::socket;
use super::unit_files::{is_ours, notes_on_login, reload, user_files, write_all};
use crate::config::{edit, load};
use crate::os::trust::{self, Doubt};
use crate::os::users::own_uid;

const SYSTEM_UNITS: &str = "/etc/systemd/system";
/// Where packages put units, and `make install`; what lies in `SYSTEM_UNITS` hides it.
const SYSTEM_PACKAGED: [&str; 3] =
    ["/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const SYSTEM_HINT: &str = "\nFor a user with a Codex login, here alice:\n  systemctl enable --now \
                           codex-api-proxy@alice.socket\nIt listens on /run/codex-api-proxy/alice.sock; TCP is a \
                           drop-in, described in codex-api-proxy@.socket.\n";
const SYSTEM_DAEMONS: &str = "/Library/LaunchDaemons";

/// `install`.
pub fn install_command() -> Command {
    Command::new("install")
        .about("Write the unit files (systemd) or plist (launchd) that run this program as a service")
        .arg(system_arg("For the whole system, as root: units that run as the user named after their @"))
        .arg(
            Arg::new("force")
                .long("force")
                .action(ArgAction::SetTrue)
                .help("Replace files that this command did not write"),
        )
}

/// `uninstall`.
pub fn uninstall_command() -> Command {
    Command::new("uninstall")
        .about("Stop the service and remove the files that install wrote; settings and login stay")
        .arg(system_arg("Those of the whole system instead, as root"))
}

fn system_arg(help: &'static str) -> Arg {
    Arg::new("system").long("system").action(ArgAction::SetTrue).help(help)
}

/// Runs `install`.
///
/// # Errors
/// How the program ends, if not well.
pub fn install(matches: &ArgMatches) -> Result<(), Exit> {
    let force = matches.get_flag("force");
    if matches.get_flag("system") {
        return install_system(force);
    }
    let world = World::look()?;
    let service = world.manager.service()?;
    if service.state == State::Masked && !force {
        return Err(world.manager.masked());
    }
    if let Some(file) = &service.file
        && !is_ours(file)
        && !force
        && !beside(&world, file)
    {
        return out(&format!(
            "Already installed by a package: {}\nStart it with: codex-api-proxy start\n",
            file.display()
        ));
    }
    let mut text = String::new();
    for file in write_all(&user_files(&world)?, force)? {
        text += &format!("Wrote {}\n", file.display());
    }
    reload(&world)?;
    // What this shell knows and the service would not find.
    let loaded = load(&world.sources)?;
    let adopted = managed::adopted(&loaded.config, &world);
    if !adopted.is_empty() {
        let kept = Kept::read(managed::path(&world.sources)?, world.sources.uid).map_err(Exit::Failure)?;
        let merged = managed::text(kept.before.as_deref(), &adopted).map_err(Exit::Failure)?;
        edit::write(&kept.path, &merged).map_err(Exit::Failure)?;
        let keys: Vec<&str> = adopted.keys().copied().collect();
        text += &format!("Saved {} in {}\n", keys.join(" and "), kept.path.display());
    }
    text += "\nStart it now:       codex-api-proxy start\n";
    text += &format!("Start it at login:  {}\n", world.manager.how_to_enable());
    text += &notes_on_login(&world.manager, true);
    out(&text)
}

/// Whether the file lies where `install` would write.
fn beside(world: &World, file: &Path) -> bool {
    match &world.manager {
        Manager::Systemd(systemd) => systemd.unit_folder().as_deref() == file.parent(),
        Manager::Launchd(launchd) => launchd.plist == file,
        Manager::None(_) => false,
    }
}

/// The system's template that a package brought, if it runs this very program.
fn packaged_template(wanted: &[units::File]) -> Option<PathBuf> {
    let (name, text) = wanted.first()?;
    let starts = |text: &str| text.lines().find(|line| line.starts_with("ExecStart=")).map(str::to_owned);
    let files = SYSTEM_PACKAGED.iter().map(|folder| Path::new(folder).join(name));
    files.into_iter().find(|file| std::fs::read_to_string(file).is_ok_and(|old| starts(&old) == starts(text)))
}

fn install_system(force: bool) -> Result<(), Exit> {
    if own_uid() != 0 {
        return Err(Exit::Failure(
            "install --system writes files of root; run it with sudo, or install for yourself: codex-api-proxy \
             install"
                .into(),
        ));
    }
    let program = own_program()?;
    let mut text = String::new();
    let refused = |why: String| {
        Exit::Failure(format!(
            "{} is not installed for the system: {why}. All users would run it; copy it to a folder of root's, such as \
             /usr/local/bin, and run it from there",
            program.display()
        ))
    };
    for doubt in trust::program(&program, 0).map_err(|doubt| refused(doubt.to_string()))? {
        match doubt {
            Doubt::Foreign { .. } => warn(&[doubt.to_string()]),
            doubt => return Err(refused(doubt.to_string())),
        }
    }
    if cfg!(target_os = "macos") {
        let user = std::env::var("SUDO_USER").unwrap_or_default();
        if user.is_empty() {
            return Err(Exit::Failure(
                "run it with sudo, as the user whose Codex login is to be used".into(),
            ));
        }
        let home = PathBuf::from("/Users").join(&user);
        let (name, plist) = units::daemon(&program, &home, &user, "127.0.0.1", 8765);
        let path = Path::new(SYSTEM_DAEMONS).join(name);
        for file in write_all(&[(path.clone(), plist)], force)? {
            text += &format!("Wrote {}\n", file.display());
        }
        text += &format!("\nStart it: sudo launchctl bootstrap system {}\n", path.display());
        return out(&text);
    }
    let wanted = units::system(&program);
    if let Some(file) = packaged_template(&wanted)
        && !force
    {
        return out(&format!("Already installed by a package: {}\n{SYSTEM_HINT}", file.display()));
    }
    let place = |(name, text): units::File| (Path::new(SYSTEM_UNITS).join(name), text);
    for file in write_all(&wanted.into_iter().map(place).collect::<Vec<_>>(), force)? {
        text += &format!("Wrote {}\n", file.display());
    }
    systemd::control_system(&["daemon-reload"]).map_err(Exit::Failure)?;
    text += SYSTEM_HINT;
    out(&text)
}

/// Runs `uninstall`.
///
/// # Errors
/// How the program ends, if not well.
pub fn uninstall(matches: &ArgMatches) -> Result<(), Exit> {
    if matches.get_flag("system") {
        return uninstall_system();
    }
    let world = World::look()?;
    let service = world.manager.service()?;
    let files: Vec<PathBuf> = user_files(&world)?.into_iter().map(|(path, _)| path).collect();
    let ours: Vec<&PathBuf> = files.iter().filter(|path| is_ours(path)).collect();
    if ours.is_empty() {
        return out(&match &service.file {
            Some(file) if service.state == State::Masked => format!(
                "The service is masked by {}; nothing was removed. To end that: {}\n",
                file.display(),
                world.manager.how_to_unmask()
            ),
            Some(file) => format!(
                "{} belongs to a package or was written by hand; nothing was removed. Stop the service with: \
                 codex-api-proxy stop\n",
                file.display()
            ),
            None => "Nothing of it is installed here.\n".into(),
        });
    }
    world.manager.stop(&service).map_err(Exit::Failure)?;
    if let Manager::Systemd(systemd) = &world.manager {
        // Links of `enable` would be left behind, leading nowhere.
        systemd.control(&["disable", systemd::SERVICE, systemd::SOCKET]).map_err(Exit::Failure)?;
    }
    let mut text = String::new();
    for path in ours {
        std::fs::remove_file(path)
            .map_err(|error| Exit::Failure(format!("{} cannot be removed: {error}", path.display())))?;
        text += &format!("Removed {}\n", path.display());
    }
    if let Some(socket) = files.iter().find(|path| path.ends_with(systemd::SOCKET)) {
        let drop_in = socket::drop_in(socket.parent().unwrap_or(Path::new("/")));
        if std::fs::remove_file(&drop_in).is_ok() {
            text += &format!("Removed {}\n", drop_in.display());
        }
        // Left behind by a drop-in that was put back, too. Others may have drop-ins there.
        _ = drop_in.parent().map(std::fs::remove_dir);
    }
    reload(&world)?;
    let folder = world.sources.user_dir.as_deref().map_or(String::new(), |path| path.display().to_string());
    text += &format!("\nKept: settings in {folder}, state in ~/.codex-api-proxy, your Codex login.\n");
    out(&text)
}

fn uninstall_system() -> Result<(), Exit> {
    if own_uid() != 0 {
        return Err(Exit::Failure("uninstall --system removes files of root; run it with sudo".into()));
    }
    let mac = cfg!(target_os = "macos");
    let folder = Path::new(if mac { SYSTEM_DAEMONS } else { SYSTEM_UNITS });
    let names: &[&str] = if mac { &[launchd::DAEMON_FILE] } else { &systemd::TEMPLATES };
    let paths: Vec<PathBuf> =
        names.iter().map(|name| folder.join(name)).filter(|path| is_ours(path)).collect();
    if paths.is_empty() {
        return out("Nothing of it is installed for the whole system.\n");
    }
    if mac {
        launchd::remove_daemon().map_err(Exit::Failure)?;
    } else {
        // Instances would go on without their units, and links of `enable` would lead nowhere.
        let [service, socket] = systemd::TEMPLATES;
        for arguments in
            [["stop", "codex-api-proxy@*.socket", "codex-api-proxy@*.service"], ["disable", socket, service]]
        {
            systemd::control_system(&arguments).map_err(Exit::Failure)?;
        }
    }
    let mut text = String::new();
    for path in paths {
        std::fs::remove_file(&path)
            .map_err(|error| Exit::Failure(format!("{} cannot be removed: {error}", path.display())))?;
        text += &format!("Removed {}\n", path.display());
    }
    if !mac {
        systemd::control_system(&["daemon-reload"]).map_err(Exit::Failure)?;
    }
    text += "\nKept: settings in /etc/codex-api-proxy, keys in /etc/credstore, state in /var/lib/codex-api-proxy.\n";
    out(&text)
}
