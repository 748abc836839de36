//! Whether the server could run with these settings, seen before it is started.

use std::path::Path;

use super::exit::Exit;
use crate::api::gate::Rules;
use crate::config::Config;
use crate::observe::log;
use crate::os::process;

/// Sees that the server could run with these settings, and changes nothing: what `config check` and
/// the verbs want to know beforehand. Gives who may call.
///
/// # Errors
/// The setting that names what is not to be had.
pub fn settings(config: &Config) -> Result<Rules, Exit> {
    let rules = Rules::new(config).map_err(Exit::Config)?;
    log::parse_level(&config.log_level).map_err(Exit::Config)?;
    let folder = &config.default_cwd;
    can_be_made(folder)
        .map_err(|why| Exit::Config(format!("cannot create default_cwd {}: {why}", folder.display())))?;
    Ok(rules)
}

/// Sees that a folder is there or could be made.
///
/// # Errors
/// What stands in the way.
pub fn can_be_made(folder: &Path) -> Result<(), String> {
    match folder.ancestors().find(|path| path.symlink_metadata().is_ok()) {
        Some(there) if !there.is_dir() => Err(format!("{} is not a folder", there.display())),
        Some(there) if there != folder && !process::may_write(there) => {
            Err(format!("{} cannot be written", there.display()))
        }
        _ => Ok(()),
    }
}
