//! Everything the loader looks at, as plain values, so that a test can give it a world of its own.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::schema::{Base, PREFIX};

/// The name of our folder below `/etc` and the user's config folder.
const FOLDER: &str = "codex-api-proxy";

/// Where settings come from. A reload keeps it and loads again.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `/etc/codex-api-proxy`; `None` = no such layer.
    pub etc_dir: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME/codex-api-proxy`, else `~/.config/codex-api-proxy`.
    pub user_dir: Option<PathBuf>,
    /// `--config FILE`; the variable `CODEX_PROXY_CONFIG` stands in for it.
    pub config_file: Option<PathBuf>,
    /// The environment; only `CODEX_PROXY_*` matters.
    pub env: Vec<(OsString, OsString)>,
    /// `$CREDENTIALS_DIRECTORY` of systemd.
    pub credentials_dir: Option<PathBuf>,
    /// Key and every value of the flags given; see `flags::flags`.
    pub flags: Vec<(&'static str, Vec<String>)>,
    /// The home directory, for `~`.
    pub home: Option<PathBuf>,
    /// The first folder of `$STATE_DIRECTORY` of systemd.
    pub state_directory: Option<PathBuf>,
    /// What relative paths of variables and flags start from.
    pub cwd: PathBuf,
    /// Files of others than root and this user are refused.
    pub uid: u32,
    /// A settings file as it is about to be written: read instead of what is there.
    pub draft: Option<(PathBuf, String)>,
}

impl Sources {
    /// What this process sees, and the flags it was given.
    ///
    /// # Errors
    /// If the working directory is gone or the system refuses a pipe.
    pub fn from_process(
        flags: Vec<(&'static str, Vec<String>)>,
        config_file: Option<PathBuf>,
    ) -> std::io::Result<Sources> {
        let environment: Vec<_> = std::env::vars_os().collect();
        let sources = Sources::of_environment(&environment)?;
        Ok(Sources { config_file, flags, cwd: std::env::current_dir()?, ..sources })
    }

    /// What a process of this user sees that has these variables and no flags, started at home.
    ///
    /// # Errors
    /// If the system refuses a pipe.
    pub fn of_environment(variables: &[(OsString, OsString)]) -> std::io::Result<Sources> {
        let find = |name: &str| variables.iter().find(|(key, value)| key == name && !value.is_empty());
        let folder = |name: &str| find(name).map(|(_, value)| PathBuf::from(value));
        let home = folder("HOME").or_else(std::env::home_dir).filter(|home| home.is_absolute());
        // The XDG specification tells to ignore relative paths.
        let config_home = folder("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let config_home = config_home.or_else(|| home.as_ref().map(|home| home.join(".config")));
        let state = find("STATE_DIRECTORY").and_then(|(_, all)| std::env::split_paths(all).next());
        Ok(Sources {
            etc_dir: Some(Path::new("/etc").join(FOLDER)),
            user_dir: config_home.map(|path| path.join(FOLDER)),
            config_file: None,
            env: variables.iter().filter(|(name, _)| is_ours(name)).cloned().collect(),
            credentials_dir: folder("CREDENTIALS_DIRECTORY"),
            flags: vec![],
            cwd: home.clone().unwrap_or_else(|| "/".into()),
            home,
            state_directory: state,
            uid: effective_uid()?,
            draft: None,
        })
    }

    /// `$STATE_DIRECTORY`, else `~/.codex-api-proxy`.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".codex-api-proxy"));
        self.state_directory.clone().or_else(home)
    }

    /// What paths are relative to in variables and flags.
    pub(super) fn here(&self) -> Base<'_> {
        Base { home: self.home.as_deref(), folder: &self.cwd }
    }

    /// The user's own settings file, the one that `config set` edits.
    pub fn user_file(&self) -> Option<PathBuf> {
        self.user_dir.as_ref().map(|folder| folder.join("config.toml"))
    }
}

/// Whether a variable's name begins with `CODEX_PROXY_`.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// The effective uid, without calling into libc: a new pipe belongs to its maker.
fn effective_uid() -> std::io::Result<u32> {
    let (reader, _) = std::io::pipe()?;
    Ok(std::fs::File::from(OwnedFd::from(reader)).metadata()?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_is_that_of_the_files_we_make() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(effective_uid().unwrap(), file.metadata().unwrap().uid());
    }

    #[test]
    fn state_is_where_systemd_says_or_at_home() {
        let mut sources = Sources { home: Some("/home/me".into()), ..Sources::default() };
        assert_eq!(sources.state_dir(), Some("/home/me/.codex-api-proxy".into()));
        sources.state_directory = Some("/var/lib/x".into());
        assert_eq!(sources.state_dir(), Some("/var/lib/x".into()));
        assert_eq!(Sources::default().state_dir(), None);
    }
}
