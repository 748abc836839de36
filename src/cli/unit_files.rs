//! The unit or plist files of this user's service, written and seen to be up to date.

use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::service::{Manager, Service, State, World, no_manager, own_program, units};
use crate::config::load;

/// What a person must know about logging out, where the manager ends with the login.
pub fn notes_on_login(manager: &Manager, always: bool) -> String {
    match manager {
        Manager::Systemd(systemd) if systemd.lingers() == Some(true) => String::new(),
        Manager::Systemd(systemd) if always || systemd.lingers() == Some(false) => {
            "Lingering is off: the service ends when you log out, and starts only after you log in. To keep it \
             running:\n                    loginctl enable-linger\n"
                .into()
        }
        _ => String::new(),
    }
}

/// The files of this user's service, with their places.
///
/// # Errors
/// There is no manager, or no place for them.
pub fn user_files(world: &World) -> Result<Vec<(PathBuf, String)>, Exit> {
    let program = own_program()?;
    match &world.manager {
        Manager::Systemd(systemd) => {
            let none = || Exit::Failure("there is no folder for units: HOME is not set".into());
            let folder = systemd.unit_folder().ok_or_else(none)?;
            Ok(units::user(&program).into_iter().map(|(name, text)| (folder.join(name), text)).collect())
        }
        Manager::Launchd(launchd) => {
            let config = load(&world.sources)?.config;
            let home = world.sources.home.clone().unwrap_or_default();
            // The plist's log file needs its folder.
            std::fs::create_dir_all(home.join("Library/Logs"))
                .map_err(|error| Exit::Failure(format!("~/Library/Logs: {error}")))?;
            let (_, text) = units::agent(&program, &home, &config.host, config.port);
            Ok(vec![(launchd.plist.clone(), text)])
        }
        Manager::None(why) => Err(no_manager(why)),
    }
}

/// Whether this program wrote that file.
pub fn is_ours(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| units::is_ours(&text))
}

/// Writes what differs; gives the files written.
///
/// # Errors
/// One is there that this program did not write, or cannot be written.
pub fn write_all(files: &[(PathBuf, String)], force: bool) -> Result<Vec<PathBuf>, Exit> {
    for (path, _) in files {
        if path.symlink_metadata().is_ok() && !is_ours(path) && !force {
            return Err(Exit::Failure(format!(
                "{} exists and was not written by this program; --force replaces it",
                path.display()
            )));
        }
    }
    let mut written = vec![];
    for (path, text) in files {
        if std::fs::read_to_string(path).is_ok_and(|old| old == *text) {
            continue;
        }
        let failed = |error: std::io::Error| Exit::Failure(format!("{}: {error}", path.display()));
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(failed)?;
        // Not in place: the manager never reads half a file. Readable for it and for everybody.
        let new = path.with_extension("new");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)).map_err(failed)?;
        written.push(path.clone());
    }
    Ok(written)
}

/// Has the manager read the files.
///
/// # Errors
/// What it said.
pub fn reload(world: &World) -> Result<(), Exit> {
    match &world.manager {
        Manager::Systemd(systemd) => systemd.control(&["daemon-reload"]).map_err(Exit::Failure),
        _ => Ok(()),
    }
}

/// Sees to it that there is a unit, that ours runs this program, and that the manager has read it.
/// Gives a line for each thing done.
///
/// # Errors
/// Files cannot be written, or the manager refuses.
pub fn ensure(world: &World, service: &Service) -> Result<Vec<String>, Exit> {
    let ours = service.file.as_deref().is_some_and(is_ours);
    let mut written = vec![];
    if service.state == State::Missing || service.file.is_none() || ours {
        written = write_all(&user_files(world)?, false)?;
    }
    if !written.is_empty() || service.stale {
        reload(world)?;
    }
    Ok(written.into_iter().map(|path| format!("Wrote {}", path.display())).collect())
}
