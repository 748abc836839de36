//! What surrounds the service: its manager, its environment, its settings, its program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Manager, launchd};
use crate::cli::exit::Exit;
use crate::codex::locate;
use crate::config::Sources;

/// The service manager and the surroundings that it gives to the service.
pub struct World {
    /// Who starts the service.
    pub manager: Manager,
    /// The environment that the service gets; ours where there is no manager.
    pub env: Vec<(OsString, OsString)>,
    /// Where the service reads its settings.
    pub sources: Sources,
}

impl World {
    /// Finds out who is in charge here.
    ///
    /// # Errors
    /// Our own working directory is gone.
    pub fn look() -> Result<World, Exit> {
        let manager = Manager::detect();
        let env = match &manager {
            Manager::Systemd(systemd) => systemd.environment.clone(),
            Manager::Launchd(_) => launchd::environment(std::env::vars_os()),
            Manager::None(_) => std::env::vars_os().collect(),
        };
        let mut sources = Sources::of_environment(&env).map_err(|error| Exit::Failure(error.to_string()))?;
        if matches!(manager, Manager::None(_)) {
            sources.cwd = std::env::current_dir().map_err(|error| Exit::Failure(error.to_string()))?;
        }
        Ok(World { manager, env, sources })
    }

    /// A variable of the service.
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.env.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
    }
}

/// This program by the name it will keep: a link on PATH survives an upgrade, what it leads to may not.
///
/// # Errors
/// The system does not tell where this program is.
pub fn own_program() -> Result<PathBuf, Exit> {
    let exe = std::env::current_exe()
        .map_err(|error| Exit::Failure(format!("where this program is, is not known: {error}")))?;
    let on_path = locate::named("codex-api-proxy", std::env::var_os("PATH").as_deref(), None);
    let real = |path: &Path| path.canonicalize().ok();
    Ok(on_path.filter(|path| real(path).is_some() && real(path) == real(&exe)).unwrap_or(exe))
}
