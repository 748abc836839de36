//! The folders of ours that Codex works in or reads from, made and looked at before each survey:
//! nobody else may be able to replace them or to put anything into them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, Isolation};
use crate::os::trust::{self, Doubt};
use crate::os::users::own_uid;
use crate::turn::Failure;
use crate::turn::failure::Folder;

use super::databases;
use super::home::{self, Home};
use super::survey::off_runtime;

/// What is written to see that a folder takes something: a file system that is full takes an empty file.
const PROBE: [u8; 4096] = [0; 4096];

/// Creates our folders and prepares the home whose login is `login`'s. Blocking.
///
/// # Errors
/// [`Failure::StateRefused`] and [`Failure::HomeRefused`] for a folder that is not safely ours,
/// [`Failure::StateNotWritable`] for one that takes nothing.
pub(super) fn prepare(config: &Config, login: &Path) -> Result<Home, Failure> {
    let tmp = config.state_dir.join("tmp");
    // Made now: what is not there yet when the survey looks, tools are not kept from reading.
    let databases = config.state_dir.join(databases::NAME);
    for path in [&config.state_dir, &tmp, &databases] {
        trust::make_folder(path, own_uid()).map_err(|doubt| refused(Folder::State, path, doubt))?;
    }
    takes_something(Folder::State, &tmp)?;
    if is_own_workspace(config) {
        let path = &config.default_cwd;
        trust::make_folder(path, own_uid()).map_err(|doubt| refused(Folder::Workspace, path, doubt))?;
    } else {
        create(&config.default_cwd)?;
    }
    match config.isolation {
        Isolation::Strict => {
            let home = home::prepare(&config.app_server_codex_home, login, own_uid())?;
            takes_something(Folder::Home, &home.path)?;
            Ok(home)
        }
        Isolation::Shared => {
            tracing::warn!(
                "isolation = \"shared\": codex uses your own CODEX_HOME with its skills and AGENTS.md"
            );
            create(login)?;
            let has_auth = login.join("auth.json").is_file();
            Ok(Home { path: login.to_path_buf(), login: login.to_path_buf(), has_auth })
        }
    }
}

/// Whether the workspace is the one below the state folder, and not one that the user named.
fn is_own_workspace(config: &Config) -> bool {
    config.default_cwd.starts_with(&config.state_dir)
}

fn create(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| Failure::Internal {
        detail: format!("cannot create the folder {}: {error}", path.display()),
    })
}

/// What a doubt about one of our folders means to a request.
pub(super) fn refused(folder: Folder, path: &Path, doubt: Doubt) -> Failure {
    match doubt {
        Doubt::Io(at, error) => not_writable(folder, &at, &error),
        doubt => Failure::StateRefused { folder, detail: format!("{folder} {}: {doubt}", path.display()) },
    }
}

/// That a folder of ours takes nothing.
pub fn not_writable(folder: Folder, path: &Path, error: &std::io::Error) -> Failure {
    Failure::StateNotWritable {
        folder,
        detail: format!("{folder}: cannot write to {}: {error}", path.display()),
    }
}

/// Writes a little file into a folder and removes it: neither modes nor free blocks tell of quotas
/// and of mounts that are read-only. Blocking.
///
/// # Errors
/// [`Failure::StateNotWritable`].
pub fn takes_something(folder: Folder, path: &Path) -> Result<(), Failure> {
    let probe = path.join(format!(".codex-api-proxy-probe.{}", std::process::id()));
    // A process of the same number may have died before it removed its own.
    let _ = fs::remove_file(&probe);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&probe)
        .and_then(|mut file| file.write_all(&PROBE));
    // What was not written needs no removing.
    let _ = fs::remove_file(&probe);
    written.map_err(|error| not_writable(folder, path, &error))
}

/// What a failed process failed of: Codex does not say that its folder takes nothing, or says it in
/// words of its own. Gives the failure back if our folders take something.
pub async fn cause(config: &Arc<Config>, failure: Failure) -> Failure {
    if !matches!(failure, Failure::CodexExited { .. } | Failure::CodexFailed { .. }) {
        return failure;
    }
    let config = Arc::clone(config);
    let looked = off_runtime(move || {
        takes_something(Folder::State, &config.state_dir.join("tmp"))?;
        match config.isolation {
            Isolation::Strict => takes_something(Folder::Home, &config.app_server_codex_home),
            Isolation::Shared => Ok(()),
        }
    });
    match looked.await {
        Ok(Err(takes_nothing)) => takes_nothing,
        Ok(Ok(())) | Err(_) => failure,
    }
}

/// What is to be said of folders that the user named, and that are taken as they are. Blocking.
pub fn warnings(config: &Config) -> Vec<String> {
    let named = std::iter::once(("default_cwd", &config.default_cwd))
        .filter(|_| !is_own_workspace(config))
        .chain(config.allowed_roots.iter().map(|root| ("allowed_roots", root)));
    let mut seen: Vec<&PathBuf> = Vec::new();
    let mut warnings = Vec::new();
    for (setting, path) in named {
        if !seen.contains(&path) && trust::is_open_to_all(path) {
            warnings.push(format!(
                "{setting}: every user of this machine can write to {}, and so put instructions before the model",
                path.display()
            ));
        }
        seen.push(path);
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Place {
        _base: tempfile::TempDir,
        base: PathBuf,
        config: Config,
    }

    fn place() -> Place {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path().canonicalize().unwrap();
        let state = base.join("a/state");
        let config = Config {
            default_cwd: state.join("workspace"),
            allowed_roots: vec![state.join("workspace")],
            app_server_codex_home: state.join("codex-home"),
            state_dir: state,
            ..Config::default()
        };
        Place { _base: temporary, base, config }
    }

    impl Place {
        fn prepare(&self) -> Result<Home, Failure> {
            prepare(&self.config, &self.base.join("login"))
        }
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_could_change_is_refused_and_the_setting_named() {
        let place = place();
        place.prepare().unwrap();
        for (name, expect) in [
            ("a", "the state folder"),
            ("a/state", "the state folder"),
            ("a/state/tmp", "the state folder"),
            ("a/state/workspace", "default_cwd"),
            ("a/state/codex-home", "app_server_codex_home"),
        ] {
            let path = place.base.join(name);
            for bits in [0o770, 0o707] {
                mode(&path, bits);
                let failure = place.prepare().unwrap_err();
                let detail = failure.detail().unwrap().to_owned();
                let mend =
                    format!("others may write to {0} (mode {bits:04o}); run chmod go-w {0}", path.display());
                assert!(detail.contains(expect) && detail.contains(&mend), "{name} {bits:o}: {detail}");
                mode(&path, 0o700);
            }
            let moved = path.with_extension("moved");
            fs::rename(&path, &moved).unwrap();
            symlink(&moved, &path).unwrap();
            // Above ours links are followed.
            assert_eq!(place.prepare().is_ok(), name == "a", "{name} as a link");
            fs::remove_file(&path).unwrap();
            fs::write(&path, "").unwrap();
            assert!(place.prepare().is_err(), "{name} as a file");
            fs::remove_file(&path).unwrap();
            fs::rename(&moved, &path).unwrap();
            place.prepare().unwrap();
        }
    }

    #[test]
    fn folders_that_the_user_named_are_taken_with_a_warning() {
        let mut place = place();
        let named = place.base.join("named");
        fs::create_dir(&named).unwrap();
        mode(&named, 0o777);
        place.config.default_cwd = named.clone();
        place.config.allowed_roots = vec![named.clone(), place.base.clone()];
        place.prepare().unwrap();
        let warnings = warnings(&place.config);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("default_cwd: ") && warnings[0].contains(named.to_str().unwrap()));
        mode(&named, 0o775);
        assert_eq!(super::warnings(&place.config), [""; 0]);
    }
}
