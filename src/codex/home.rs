//! The isolated `CODEX_HOME`: a folder of ours that holds a link to the login and nothing else of
//! the user's, so that no config, MCP server, skill, rule or AGENTS.md of theirs reaches Codex.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::os::trust;
use crate::turn::Failure;
use crate::turn::failure::Folder;

use super::{databases, folders};

/// Says that a folder is ours to tidy.
pub const MARKER: &str = ".codex-api-proxy";

const MARKER_TEXT: &str =
    "This CODEX_HOME belongs to codex-api-proxy. At each start it removes configuration found here.\n";

/// What would change what Codex does or tells the model, removed from a marked home.
/// `AGENTS*.md` and skills other than `.system` are matched below.
const REMOVED: &[&str] = &["config.toml", "prompts", "rules", "hooks", "hooks.json", "plugins", "agents"];

/// Where Codex runs and where its login comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The `CODEX_HOME` given to Codex.
    pub path: PathBuf,
    /// The user's own `CODEX_HOME`, where the login lives.
    pub login: PathBuf,
    /// Whether an `auth.json` is there (as our link, or Codex's own file).
    pub has_auth: bool,
}

/// Makes `path` an isolated home whose login is `login`'s `auth.json`.
///
/// Blocking: works on the disk.
///
/// # Errors
/// [`Failure::HomeRefused`] when the folder is not safely ours; nothing is overwritten then.
pub fn prepare(path: &Path, login: &Path, uid: u32) -> Result<Home, Failure> {
    let refused = |why: String| Failure::HomeRefused {
        detail: format!("isolated CODEX_HOME {} (setting app_server_codex_home): {why}", path.display()),
    };

    if same_folder(path, login) {
        return Err(refused(
            "it is the user's own CODEX_HOME; choose another folder, or isolation = \"shared\"".into(),
        ));
    }
    trust::make_folder(path, uid).map_err(|doubt| match folders::refused(Folder::Home, path, doubt) {
        Failure::StateRefused { detail, .. } => Failure::HomeRefused { detail },
        failure => failure,
    })?;
    let owner = fs::symlink_metadata(path).map(|meta| meta.uid());
    if owner.as_ref().ok() != Some(&uid) {
        return Err(refused(format!("it belongs to user {}, not to user {uid}", owner.unwrap_or_default())));
    }
    claim(path, uid, &refused)?;
    tidy(path, uid).map_err(|error| folders::not_writable(Folder::Home, path, &error))?;
    let has_auth = link_login(path, login, uid, &refused)?;
    Ok(Home { path: path.to_path_buf(), login: login.to_path_buf(), has_auth })
}

fn same_folder(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    real(a) == real(b)
}

/// Accepts an empty folder (and marks it) or one with our marker.
fn claim(path: &Path, uid: u32, refused: &dyn Fn(String) -> Failure) -> Result<(), Failure> {
    let marker = path.join(MARKER);
    match fs::symlink_metadata(&marker) {
        Ok(meta) if meta.is_file() && meta.uid() == uid => return Ok(()),
        Ok(_) => return Err(refused(format!("{MARKER} in it is not a file of ours"))),
        Err(_) => {}
    }
    let mut entries = fs::read_dir(path).map_err(|error| refused(format!("cannot list it: {error}")))?;
    if entries.next().is_some() {
        return Err(refused(format!("it holds files but not our marker {MARKER}; choose an empty folder")));
    }
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&marker)
        .and_then(|mut file| file.write_all(MARKER_TEXT.as_bytes()));
    written.map_err(|error| {
        // Half a marker would be taken for a whole one.
        let _ = fs::remove_file(&marker);
        folders::not_writable(Folder::Home, &marker, &error)
    })
}

/// Removes what would configure Codex, logs that are written elsewhere now, and whatever is not ours: it was put there while others could.
fn tidy(path: &Path, uid: u32) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let agents =
            text.to_ascii_lowercase().starts_with("agents") && text.to_ascii_lowercase().ends_with(".md");
        let old_log = databases::is_old_log(&text);
        // `--profile NAME` layers `NAME.config.toml`.
        let foreign = ![uid, 0].contains(&entry.metadata()?.uid());
        if foreign || REMOVED.contains(&text.as_ref()) || agents || old_log || text.ends_with(".config.toml")
        {
            remove(&entry.path())?;
        } else if name == OsStr::new("skills") && entry.file_type()?.is_dir() {
            for skill in fs::read_dir(entry.path())? {
                let skill = skill?;
                if skill.file_name() != OsStr::new(".system") {
                    remove(&skill.path())?;
                }
            }
        } else if name == OsStr::new("skills") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, a link (not what it points to) or a folder.
fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Puts the link to the login in place, or keeps a login made in the isolated home itself.
/// Returns whether there is a login file.
fn link_login(
    path: &Path,
    login: &Path,
    uid: u32,
    refused: &dyn Fn(String) -> Failure,
) -> Result<bool, Failure> {
    let (ours, theirs) = (path.join("auth.json"), login.join("auth.json"));
    match fs::symlink_metadata(&ours) {
        Ok(meta) if meta.is_symlink() && meta.uid() == uid => {
            let target = fs::read_link(&ours)
                .map_err(|error| refused(format!("cannot read its auth.json link: {error}")))?;
            if target != theirs {
                return Err(refused(format!(
                    "its auth.json links to {} and not to the login at {}; remove the link, or set login_home",
                    target.display(),
                    theirs.display()
                )));
            }
            Ok(theirs.is_file())
        }
        // `CODEX_HOME=… codex login` was run for this home: Codex's own file, kept by Codex.
        Ok(meta) if meta.is_file() && meta.uid() == uid && meta.mode() & 0o077 == 0 => Ok(true),
        Ok(_) => Err(refused("its auth.json is neither our link nor a private file of Codex".into())),
        Err(_) if theirs.is_file() => {
            symlink(&theirs, &ours).map_err(|error| folders::not_writable(Folder::Home, &ours, &error))?;
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Place {
        _base: tempfile::TempDir,
        home: PathBuf,
        login: PathBuf,
    }

    fn place() -> Place {
        let base = tempfile::tempdir().unwrap();
        let real = base.path().canonicalize().unwrap();
        let place = Place { _base: base, home: real.join("state/codex-home"), login: real.join("user") };
        fs::create_dir(&place.login).unwrap();
        fs::write(place.login.join("auth.json"), "{}").unwrap();
        place
    }

    impl Place {
        fn prepare(&self) -> Result<Home, String> {
            prepare(&self.home, &self.login, crate::os::users::own_uid())
                .map_err(|failure| failure.detail().unwrap().to_owned())
        }

        fn refused(&self, why: &str) {
            let message = self.prepare().unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn a_fresh_home_is_private_marked_and_linked() {
        let place = place();
        let home = place.prepare().unwrap();
        assert!(home.has_auth);
        assert_eq!(fs::metadata(&place.home).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_link(place.home.join("auth.json")).unwrap(), place.login.join("auth.json"));
        assert_eq!(place.prepare().unwrap(), home);
    }

    #[test]
    fn configuration_is_removed_and_state_kept() {
        let place = place();
        place.prepare().unwrap();
        let inside = |name: &str| place.home.join(name);
        fs::create_dir_all(inside("skills/.system/a")).unwrap();
        fs::create_dir_all(inside("skills/foreign")).unwrap();
        fs::create_dir_all(inside("prompts")).unwrap();
        for name in [
            "config.toml",
            "work.config.toml",
            "AGENTS.md",
            "AGENTS.override.md",
            "state_5.sqlite",
            "logs_2.sqlite",
            "logs_2.sqlite-wal",
            "prompts/x",
        ] {
            fs::write(inside(name), "").unwrap();
        }
        // A link is removed, what it points to is not.
        symlink(&place.login, inside("rules")).unwrap();
        place.prepare().unwrap();
        let mut left: Vec<String> = fs::read_dir(&place.home)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [MARKER, "auth.json", "skills", "state_5.sqlite"]);
        assert!(inside("skills/.system/a").exists() && !inside("skills/foreign").exists());
        assert!(place.login.join("auth.json").exists());
    }

    #[test]
    fn what_is_not_safely_ours_is_refused_and_left_alone() {
        let full = place();
        fs::create_dir_all(&full.home).unwrap();
        fs::write(full.home.join("config.toml"), "x").unwrap();
        full.refused("not our marker");
        assert_eq!(fs::read_to_string(full.home.join("config.toml")).unwrap(), "x");

        let open = place();
        fs::create_dir_all(&open.home).unwrap();
        fs::set_permissions(&open.home, fs::Permissions::from_mode(0o770)).unwrap();
        open.refused("(mode 0770); run chmod go-w");

        let link = place();
        fs::create_dir_all(link.home.parent().unwrap()).unwrap();
        symlink(&link.login, &link.home).unwrap();
        link.refused("own CODEX_HOME");

        let elsewhere = place();
        fs::create_dir_all(elsewhere.home.parent().unwrap().join("real")).unwrap();
        symlink("real", &elsewhere.home).unwrap();
        elsewhere.refused("not a folder (a link is not followed)");

        let own = place();
        let message = prepare(&own.login, &own.login, crate::os::users::own_uid()).unwrap_err();
        assert!(message.detail().unwrap().contains("own CODEX_HOME"));

        let other = place();
        other.prepare().unwrap();
        fs::remove_file(other.home.join("auth.json")).unwrap();
        symlink("/etc/hostname", other.home.join("auth.json")).unwrap();
        other.refused("links to /etc/hostname");
        assert!(
            prepare(&place().home, &place().login, u32::MAX)
                .unwrap_err()
                .detail()
                .unwrap()
                .contains("belongs to user")
        );
    }

    #[test]
    fn a_login_made_in_the_isolated_home_is_kept() {
        let place = place();
        fs::remove_file(place.login.join("auth.json")).unwrap();
        assert!(!place.prepare().unwrap().has_auth);
        let auth = place.home.join("auth.json");
        fs::write(&auth, "{}").unwrap();
        fs::set_permissions(&auth, fs::Permissions::from_mode(0o644)).unwrap();
        place.refused("neither our link nor a private file");
        fs::set_permissions(&auth, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(place.prepare().unwrap().has_auth);
        assert!(fs::symlink_metadata(&auth).unwrap().is_file());
    }
}
