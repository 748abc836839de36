//! Finding the Codex CLI: on PATH, in the usual folders of its installers, and behind npm's wrapper.
//! What other wrappers start is found by starting them: [`super::confine`].

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::os::trust::{self, Doubt};
use crate::os::users::own_uid;

use super::environment;

/// Where the usual installers put `codex`, tried after PATH because a service's PATH is not the
/// shell's. `*` stands for any one folder; the last match wins (the newest nvm version).
const USUAL: &[&str] = &[
    "~/.local/bin",
    "~/.npm-global/bin",
    "~/.nvm/versions/node/*/bin",
    "~/.local/share/fnm/node-versions/*/installation/bin",
    "~/.volta/bin",
    "~/.asdf/shims",
    "~/.local/share/mise/shims",
    "~/.nodenv/shims",
    "~/n/bin",
    "~/.yarn/bin",
    "~/.local/share/pnpm",
    "~/Library/pnpm",
    "~/.bun/bin",
    "~/.cargo/bin",
    "~/.nix-profile/bin",
    "/run/current-system/sw/bin",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/usr/local/bin",
];

/// The program `codex_bin` names, after following npm's Node wrapper to the native one, which is
/// preferred because the wrapper stays as the parent, costs a Node start and only forwards signals.
///
/// Blocking: looks at the disk.
pub fn find(config: &Config, path: Option<&OsStr>, home: Option<&Path>) -> Option<PathBuf> {
    let found = installed(config, path, home)?;
    Some(native_behind(&found).unwrap_or(found))
}

/// The program `codex_bin` names as it is installed: the wrapper, where npm put one in front. A bare
/// name is not looked for in the folders of `path` that a workspace chooses.
///
/// Blocking: looks at the disk.
pub fn installed(config: &Config, path: Option<&OsStr>, home: Option<&Path>) -> Option<PathBuf> {
    let path = path.and_then(|path| environment::search_path(path, config, home).kept);
    named(&config.codex_bin, path.as_deref(), home)
}

/// The executable `bin` names: a path is taken as it is; a bare name is looked for on `path`, then in
/// the usual folders below `home`.
///
/// Blocking: looks at the disk.
pub fn named(bin: &str, path: Option<&OsStr>, home: Option<&Path>) -> Option<PathBuf> {
    if bin.contains('/') {
        return Some(PathBuf::from(bin)).filter(|file| executable(file));
    }
    let on_path = path.into_iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute());
    let usual = USUAL.iter().flat_map(|pattern| folders(pattern, home));
    on_path.chain(usual).map(|folder| folder.join(bin)).find(|file| executable(file))
}

/// Every program on `path` that a bare `codex_bin` could name, as installed and in that order; of those
/// that are the same in the end the first.
///
/// Blocking: looks at the disk.
pub fn on_path(config: &Config, path: &OsStr, home: Option<&Path>) -> Vec<PathBuf> {
    let kept = environment::search_path(path, config, home).kept.unwrap_or_default();
    let mut found: Vec<PathBuf> = vec![];
    for file in std::env::split_paths(&kept).map(|folder| folder.join(&config.codex_bin)) {
        if executable(&file) && !found.iter().any(|known| same(known, &file)) {
            found.push(file);
        }
    }
    found
}

/// Whether both are one program in the end, links and npm's wrappers followed.
///
/// Blocking: looks at the disk.
pub fn same(one: &Path, other: &Path) -> bool {
    let behind = |path: &Path| native_behind(path).or_else(|| path.canonicalize().ok());
    behind(one).is_some_and(|one| behind(other) == Some(one))
}

fn executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn folders(pattern: &str, home: Option<&Path>) -> Vec<PathBuf> {
    let full = match pattern.strip_prefix("~/") {
        Some(rest) => match home {
            Some(home) => home.join(rest),
            None => return Vec::new(),
        },
        None => PathBuf::from(pattern),
    };
    let Some(star) = full.iter().position(|part| part == "*") else { return vec![full] };
    let before: PathBuf = full.iter().take(star).collect();
    let after: PathBuf = full.iter().skip(star + 1).collect();
    let mut matches: Vec<PathBuf> = std::fs::read_dir(before)
        .map(|entries| entries.flatten().map(|entry| entry.path().join(&after)).collect())
        .unwrap_or_default();
    matches.sort_by_key(|path| std::cmp::Reverse(version_key(path)));
    matches
}

/// Orders `v9.1.0` before `v20.3.1`.
fn version_key(path: &Path) -> Vec<u64> {
    let text = path.to_string_lossy();
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The native program that the npm package's `bin/codex.js` would start.
fn native_behind(wrapper: &Path) -> Option<PathBuf> {
    let script = wrapper.canonicalize().ok()?;
    if script.extension() != Some(OsStr::new("js")) {
        return None;
    }
    let package = script.parent()?.parent()?;
    let scope = package.parent()?;
    // Newer packages keep the program in a package of its own for each platform, nested or beside.
    let mut roots = vec![package.join("vendor")];
    for beside in [package.join("node_modules/@openai"), scope.to_path_buf()] {
        let platform = std::fs::read_dir(beside).into_iter().flatten().flatten();
        roots.extend(
            platform
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("codex-"))
                .map(|entry| entry.path().join("vendor")),
        );
    }
    let triples = roots.iter().flat_map(|root| std::fs::read_dir(root).into_iter().flatten().flatten());
    triples
        .filter(|triple| triple.file_name().to_string_lossy().starts_with(std::env::consts::ARCH))
        .flat_map(|triple| [triple.path().join("bin/codex"), triple.path().join("codex/codex")])
        .find(|file| executable(file))
}

/// Why programs are not run: every user of the machine could change one of them, or where its path
/// leads. That a group or another user could is for `doctor` to warn of.
///
/// Blocking: looks at the disk.
pub fn open_to_all<'a>(programs: impl IntoIterator<Item = &'a Path>) -> Option<String> {
    let doubts = programs.into_iter().filter_map(|program| trust::program(program, own_uid()).ok());
    doubts.flatten().find(Doubt::is_open_to_all).map(|doubt| doubt.to_string())
}

/// What Codex's own sandbox must be able to read so that its helpers start: the vendor folder of
/// an npm install, else the program itself, by its true path: Codex starts itself by that one, and a
/// link from a folder that is readable anyway to one that is not would make its sandbox fail.
///
/// Blocking: looks at the disk.
pub fn vendor(program: &Path) -> PathBuf {
    let program = &program.canonicalize().unwrap_or_else(|_| program.to_path_buf());
    let triple = program.parent().and_then(Path::parent);
    let is_vendors = |triple: &&Path| triple.parent().and_then(Path::file_name) == Some(OsStr::new("vendor"));
    triple.filter(is_vendors).unwrap_or(program).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn config(bin: &str) -> Config {
        Config { codex_bin: bin.into(), default_cwd: "/nonexistent/cwd".into(), ..Config::default() }
    }

    #[test]
    fn path_comes_before_the_usual_folders() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let find = |path: &str| find(&config("codex"), Some(OsStr::new(path)), Some(&home));
        program(&home.join(".nvm/versions/node/v9.0.0/bin/codex"));
        program(&home.join(".nvm/versions/node/v20.1.0/bin/codex"));
        assert_eq!(find("/nonexistent"), Some(home.join(".nvm/versions/node/v20.1.0/bin/codex")));
        program(&home.join(".local/bin/codex"));
        assert_eq!(find("relative:/nonexistent"), Some(home.join(".local/bin/codex")));
        program(&home.join("bin/codex"));
        assert_eq!(find(home.join("bin").to_str().unwrap()), Some(home.join("bin/codex")));
    }

    #[test]
    fn the_folders_of_version_managers_are_usual() {
        for folder in [
            ".asdf/shims",
            ".local/share/mise/shims",
            ".nodenv/shims",
            "n/bin",
            ".yarn/bin",
            ".nix-profile/bin",
            ".volta/bin",
            ".bun/bin",
        ] {
            let home = tempfile::tempdir().unwrap();
            program(&home.path().join(folder).join("codex-test"));
            let found = named("codex-test", None, Some(home.path()));
            assert_eq!(found, Some(home.path().join(folder).join("codex-test")));
        }
        assert_eq!(folders("/run/current-system/sw/bin", None), [Path::new("/run/current-system/sw/bin")]);
        assert!(USUAL.contains(&"/run/current-system/sw/bin"));
    }

    #[test]
    fn a_workspace_brings_no_codex() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        for file in ["inside/bin/codex", "tools/codex"] {
            program(&base.join(file));
        }
        let config = Config { allowed_roots: vec![base.join("inside")], ..config("codex") };
        let look = |folders: &[&str]| {
            let path = std::env::join_paths(folders.iter().map(|folder| base.join(folder))).unwrap();
            let both = [installed(&config, Some(&path), None), find(&config, Some(&path), None)];
            assert_eq!(both[0], both[1]);
            both[0].clone()
        };
        assert_eq!(look(&["inside/bin", "tools"]), Some(base.join("tools/codex")));
        assert_eq!(look(&["tools/../inside/bin", "tools"]), Some(base.join("tools/codex")));
        // By name it is the operator's own choice.
        let inside = base.join("inside/bin/codex");
        let config = Config { codex_bin: inside.to_str().unwrap().into(), ..config.clone() };
        assert_eq!(installed(&config, None, None), Some(inside));
    }

    #[test]
    fn a_file_that_cannot_run_is_not_found() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("codex");
        std::fs::write(&file, "").unwrap();
        assert_eq!(named(file.to_str().unwrap(), None, None), None);
        assert_eq!(named(home.path().to_str().unwrap(), None, None), None);
    }

    #[test]
    fn the_native_program_behind_npms_wrapper_is_used() {
        let arch = std::env::consts::ARCH;
        for native in [
            format!(
                "lib/node_modules/@openai/codex/node_modules/@openai/codex-linux-x64/vendor/{arch}-x/bin/codex"
            ),
            format!("lib/node_modules/@openai/codex-linux-x64/vendor/{arch}-x/bin/codex"),
            format!("lib/node_modules/@openai/codex/vendor/{arch}-x/codex/codex"),
        ] {
            let base = tempfile::tempdir().unwrap();
            let base = base.path().canonicalize().unwrap();
            program(&base.join("lib/node_modules/@openai/codex/bin/codex.js"));
            program(&base.join(&native));
            std::fs::create_dir(base.join("bin")).unwrap();
            std::os::unix::fs::symlink(
                "../lib/node_modules/@openai/codex/bin/codex.js",
                base.join("bin/codex"),
            )
            .unwrap();
            let link = config(base.join("bin/codex").to_str().unwrap());
            assert_eq!(find(&link, None, None), Some(base.join(&native)));
        }
    }

    #[test]
    fn the_vendor_folder_is_granted_only_where_there_is_one() {
        assert_eq!(vendor(Path::new("/x/vendor/triple/bin/codex")), Path::new("/x/vendor/triple"));
        assert_eq!(vendor(Path::new("/usr/bin/codex")), Path::new("/usr/bin/codex"));
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        program(&base.join("opt/codex"));
        std::os::unix::fs::symlink("opt/codex", base.join("codex")).unwrap();
        assert_eq!(vendor(&base.join("codex")), base.join("opt/codex"));
    }
}
