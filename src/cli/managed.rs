//! The one settings file that `start` and `restart` write, and the other files they may have to
//! put back when the service does not come up.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use figment::value::Value;

use super::exit::Exit;
use super::service::World;
use crate::codex::locate;
use crate::config::{Config, Sources, edit};

/// Above the settings in the managed file.
const HEADER: &str = "\
# Written by `codex-api-proxy start` and `restart`; `start` replaces all of it.
# Settings to keep belong into config.toml: codex-api-proxy config set KEY VALUE
";

/// A file as it was before it was written, so that it can be put back.
#[derive(Debug)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// Its text; `None` if it was not there.
    pub before: Option<String>,
}

impl Kept {
    /// Reads a file that may be replaced.
    ///
    /// # Errors
    /// It cannot be read, is a link, or is not ours.
    pub fn read(path: PathBuf, uid: u32) -> Result<Kept, String> {
        let before = edit::read(&path, uid)?;
        Ok(Kept { path, before })
    }

    /// Makes it as it was, if it is not.
    ///
    /// # Errors
    /// What the system said.
    pub fn put_back(&self) -> Result<(), String> {
        if std::fs::read_to_string(&self.path).ok() == self.before {
            return Ok(());
        }
        match &self.before {
            Some(text) => edit::write(&self.path, text),
            None => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(format!("{} cannot be removed: {error}", self.path.display()))
                }
                _ => Ok(()),
            },
        }
    }
}

/// Where the settings of `start` are saved.
///
/// # Errors
/// The user has no config folder.
pub fn path(sources: &Sources) -> Result<PathBuf, Exit> {
    let none =
        || Exit::Failure("there is no user config folder: neither XDG_CONFIG_HOME nor HOME is set".into());
    Ok(sources.user_dir.as_ref().ok_or_else(none)?.join("config.d/50-start.toml"))
}

/// The file's text with these settings, replacing those of the same name in `before`.
///
/// # Errors
/// If `before` is not TOML.
pub fn text(before: Option<&str>, given: &BTreeMap<&'static str, Value>) -> Result<String, String> {
    let before = before.unwrap_or_default();
    let before = before.strip_prefix(HEADER).unwrap_or(before);
    Ok(format!("{HEADER}{}", edit::merge(before, given)?))
}

/// What the service would not find by itself although this shell does: the program's absolute
/// path, and a login that is not in `~/.codex`.
pub fn adopted(config: &Config, world: &World) -> BTreeMap<&'static str, Value> {
    let ours = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = world.sources.home.as_deref();
    let mut found = BTreeMap::new();
    let paths = (ours("PATH"), world.variable("PATH"));
    if let Some(program) = program_to_save(config, paths.0.as_deref(), paths.1.map(AsRef::as_ref), home) {
        found.insert("codex_bin", program.to_string_lossy().into_owned().into());
    }
    let theirs = world.variable("CODEX_HOME").map(PathBuf::from);
    let login = login_to_save(ours("CODEX_HOME").map(PathBuf::from), theirs, home);
    if let (Some(login), None) = (login, &config.login_home) {
        found.insert("login_home", login.to_string_lossy().into_owned().into());
    }
    found
}

fn program_to_save(
    config: &Config,
    ours: Option<&OsStr>,
    theirs: Option<&OsStr>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    if config.codex_bin.contains('/') {
        return None;
    }
    let found = locate::installed(config, ours, home)?;
    (locate::installed(config, theirs, home).as_ref() != Some(&found)).then_some(found)
}

fn login_to_save(ours: Option<PathBuf>, theirs: Option<PathBuf>, home: Option<&Path>) -> Option<PathBuf> {
    let ours = std::path::absolute(ours?).ok()?;
    let theirs = theirs.or_else(|| home.map(|home| home.join(".codex")));
    (theirs.as_ref() != Some(&ours)).then_some(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn restart_merges_and_start_replaces() {
        let one = BTreeMap::from([("port", Value::from(1u64)), ("codex_configs", vec!["a=1"].into())]);
        let two = BTreeMap::from([("codex_configs", Value::from(vec!["b=2"]))]);
        let first = text(None, &one).unwrap();
        assert_eq!(first, format!("{HEADER}codex_configs = [\"a=1\"]\nport = 1\n"));
        let merged = text(Some(&first), &two).unwrap();
        assert_eq!(merged, format!("{HEADER}codex_configs = [\"b=2\"]\nport = 1\n"));
        assert_eq!(text(None, &two).unwrap(), format!("{HEADER}codex_configs = [\"b=2\"]\n"));
        assert_eq!(text(None, &BTreeMap::new()).unwrap(), HEADER);
        assert_eq!(text(Some(HEADER), &BTreeMap::new()).unwrap(), HEADER);
        assert!(text(Some("port ="), &one).is_err());
    }

    #[test]
    fn a_program_is_saved_only_where_the_service_would_not_find_it() {
        let base = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = base.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("codex"), "").unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(folder.join("codex"), mode).unwrap();
            folder
        };
        let (shell, service, usual) = (folder("shell"), folder("service"), folder("home/.local/bin"));
        let nowhere = base.path().join("nowhere");
        let home = base.path().join("home");
        for (bin, ours, theirs, expect) in [
            ("codex", &shell, &service, Some(&shell)),
            ("codex", &shell, &shell, None),
            ("codex", &shell, &nowhere, Some(&shell)),
            // Found without PATH's help by both.
            ("codex", &nowhere, &nowhere, None),
            ("codex", &usual, &nowhere, None),
            ("/some/codex", &shell, &service, None),
            ("other", &shell, &service, None),
        ] {
            let config = Config {
                codex_bin: bin.into(),
                default_cwd: base.path().join("workspace"),
                ..Config::default()
            };
            let saved =
                program_to_save(&config, Some(ours.as_os_str()), Some(theirs.as_os_str()), Some(&home));
            assert_eq!(saved, expect.map(|folder| folder.join("codex")), "{bin} {ours:?} {theirs:?}");
        }
    }

    #[test]
    fn only_an_unusual_login_is_saved() {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        for (ours, theirs, expect) in [
            ("", "", ""),
            ("/home/me/.codex", "", ""),
            ("/srv/codex", "", "/srv/codex"),
            ("/srv/codex", "/srv/codex", ""),
            ("/home/me/.codex", "/srv/codex", "/home/me/.codex"),
        ] {
            let saved = login_to_save(path(ours), path(theirs), Some(Path::new("/home/me")));
            assert_eq!(saved, path(expect), "{ours} {theirs}");
        }
    }
}
