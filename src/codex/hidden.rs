//! What stays unreadable for tools even where the working directory lies above it: all that this
//! program and Codex itself read or write, by canonical path.

use std::path::{Path, PathBuf};

use crate::config::Config;

use super::Home;

/// The working directory of the probe.
///
/// Blocking: looks at the disk.
pub fn probe(config: &Config) -> PathBuf {
    real(&config.state_dir).join("probe")
}

/// The paths to hide. `needed` is what the sandbox must be able to read: Codex's own folder.
///
/// Codex hides a folder with everything in it, so one that holds a root or `needed` is hidden entry by
/// entry, as they are now.
///
/// Blocking: looks at the disk.
pub fn paths(config: &Config, home: &Home, needed: &Path) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = config.allowed_roots.iter().map(|root| real(root)).collect();
    kept.extend([real(&config.default_cwd), real(needed), probe(config)]);

    let homes = [&home.path, &home.login];
    // A login is often a link into a folder of settings kept elsewhere.
    let logins = homes.map(|home| home.join("auth.json"));
    let all = homes.into_iter().chain(&logins).chain([&config.state_dir]).chain(&config.read_from);
    let mut found = Vec::new();
    for path in all {
        let path = real(path);
        // Settings are often links into a folder kept elsewhere; one that holds a root is not hidden for that.
        if path.is_dir() {
            let links = entries(&path).into_iter().filter(|entry| entry.is_symlink());
            let targets = links.map(|link| real(&link));
            found.extend(targets.filter(|target| !kept.iter().any(|kept| kept.starts_with(target))));
        }
        hide(&path, &kept, true, &mut found);
    }
    found.retain(|path| path.exists());
    found.sort();
    found.dedup();
    // Sorted, a folder comes before what is in it.
    let mut hidden: Vec<PathBuf> = Vec::new();
    for path in found {
        if !hidden.iter().any(|above| path.starts_with(above)) {
            hidden.push(path);
        }
    }
    hidden
}

fn hide(path: &Path, kept: &[PathBuf], named: bool, found: &mut Vec<PathBuf>) {
    // A root that is itself such a folder: what is in it now is none of the workspace's.
    if !named && kept.iter().any(|kept| kept == path) {
        return;
    }
    if kept.iter().any(|kept| kept.starts_with(path)) && path.is_dir() {
        for entry in entries(path) {
            hide(&entry, kept, false, found);
        }
    } else {
        found.push(path.to_path_buf());
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder);
    read.map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// The paths and patterns by which Codex's permission profile hides `path`: it reads `*`, `?` and `[` as
/// a pattern, which matches files only, and no line break at all.
pub fn rules(path: &Path) -> Vec<String> {
    let text = path.to_string_lossy();
    let special = |c: char| "*?[".contains(c) || c.is_control() || c == char::REPLACEMENT_CHARACTER;
    if !text.contains(special) {
        return vec![text.into_owned()];
    }
    let mut pattern = String::new();
    for c in text.chars() {
        match c {
            '*' | '?' | '[' => pattern.extend(['[', c, ']']),
            c if special(c) => pattern.push('?'),
            c => pattern.push(c),
        }
    }
    vec![format!("{pattern}/**"), pattern]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A home with everything in its usual place; `roots` are below it.
    fn hidden(roots: &[&str], change: impl Fn(&Path, &mut Config, &mut Home)) -> Vec<String> {
        let base = tempfile::tempdir().unwrap();
        let at = base.path().canonicalize().unwrap();
        for file in [
            ".codex/auth.json",
            ".codex/packages/codex/bin/codex",
            ".codex/sessions/x",
            ".config/codex-api-proxy/config.toml",
            "dotfiles/auth.json",
            "dotfiles/config.toml",
            "state/codex-home/auth.json",
            "state/tmp/turn/schema.json",
            "state/workspace/file",
            "state/models.json",
            "state/probe/inside",
            "work/keys",
        ] {
            std::fs::create_dir_all(at.join(file).parent().unwrap()).unwrap();
            std::fs::write(at.join(file), "").unwrap();
        }
        let mut config = Config {
            state_dir: at.join("state"),
            default_cwd: at.join("state/workspace"),
            allowed_roots: roots.iter().map(|root| at.join(root)).collect(),
            read_from: vec![at.join(".config/codex-api-proxy"), at.join("nowhere")],
            ..Config::default()
        };
        let mut home = Home { path: at.join("state/codex-home"), login: at.join(".codex"), has_auth: true };
        change(&at, &mut config, &mut home);
        let paths = paths(&config, &home, &at.join(".codex/packages/codex/bin/codex"));
        paths.iter().map(|path| path.strip_prefix(&at).unwrap().to_str().unwrap().to_owned()).collect()
    }

    const USUAL: [&str; 6] = [
        ".codex/auth.json",
        ".codex/sessions",
        ".config/codex-api-proxy",
        "state/codex-home",
        "state/models.json",
        "state/tmp",
    ];

    #[test]
    fn all_but_the_working_directories_and_codex_itself_is_hidden() {
        for roots in [&["state/workspace"][..], &[""], &["work", ".config"]] {
            assert_eq!(hidden(roots, |_, _, _| {}), USUAL, "{roots:?}");
        }
        let shared = hidden(&[""], |_, _, home| home.path.clone_from(&home.login));
        assert_eq!(shared, USUAL);
        // Even where the state folder or a home is itself a root.
        assert_eq!(hidden(&["state", ".codex"], |_, _, _| {}), USUAL);
    }

    #[test]
    fn what_a_link_stands_for_is_hidden() {
        let found = hidden(&[""], |at, config, _| {
            std::fs::remove_file(at.join(".codex/auth.json")).unwrap();
            symlink("../dotfiles/auth.json", at.join(".codex/auth.json")).unwrap();
            symlink(at.join("dotfiles/config.toml"), at.join(".config/codex-api-proxy/more.toml")).unwrap();
            // Holds a root: hiding it would hide the work.
            symlink(at.join("state"), at.join(".codex/all")).unwrap();
            symlink(at.join("work"), at.join("link")).unwrap();
            config.read_from.push(at.join("link/keys"));
        });
        for target in ["dotfiles/auth.json", "dotfiles/config.toml", "work/keys", "state/codex-home"] {
            assert!(found.iter().any(|path| path == target), "{target}: {found:?}");
        }
        assert!(
            !found.iter().any(|path| path == "state" || path.starts_with("state/workspace")),
            "{found:?}"
        );
    }

    #[test]
    fn what_codex_reads_as_a_pattern_is_written_as_one() {
        for (path, expect) in [
            ("/a/b c{d}\\$~", &["/a/b c{d}\\$~"][..]),
            ("/a[b]*?", &["/a[[]b][*][?]/**", "/a[[]b][*][?]"]),
            ("/a\nb", &["/a?b/**", "/a?b"]),
        ] {
            assert_eq!(rules(Path::new(path)), expect, "{path:?}");
        }
    }
}
