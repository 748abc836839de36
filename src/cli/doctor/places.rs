//! Where `codex` is for the service, and where for the shell.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::report::Finding;
use crate::codex::locate;
use crate::config::Config;

/// Both search paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    pub service: Option<&'a OsStr>,
    pub shell: Option<&'a OsStr>,
    pub home: Option<&'a Path>,
}

impl Search<'_> {
    fn by_service(&self, config: &Config) -> Option<PathBuf> {
        locate::installed(config, self.service, self.home)
    }

    /// What only the shell finds.
    fn by_shell(&self, config: &Config) -> Option<PathBuf> {
        locate::installed(config, self.shell, self.home)
    }
}

/// No `codex` for the service.
pub(super) fn missing(config: &Config, search: &Search) -> Finding {
    let named = config.codex_bin.contains('/');
    let text = format!(
        "codex_bin = {} is not found on the service's PATH nor in the usual folders",
        config.codex_bin
    );
    let text =
        if named { format!("codex_bin = {} is no program that can be run", config.codex_bin) } else { text };
    let bare = Config { codex_bin: "codex".into(), ..config.clone() };
    match search.by_shell(if named { &bare } else { config }) {
        Some(found) => Finding::broken("codex", format!("{text}; your shell finds {}", found.display()))
            .fix(format!("codex-api-proxy restart --codex-bin {} saves it", found.display())),
        None => Finding::broken("codex", text)
            .fix("npm install -g @openai/codex")
            .fix("or name it: codex-api-proxy config set codex_bin /path/to/codex"),
    }
}

/// What of the choice may surprise: others that the shell or the PATH has, and a folder that will not stay.
pub(super) fn surprises(config: &Config, search: &Search) -> Vec<Finding> {
    let mut findings = vec![];
    let Some(chosen) = search.by_service(config) else { return findings };
    let named = config.codex_bin.contains('/');
    if !named {
        let shells = search.by_shell(config).filter(|shells| !same(shells, &chosen));
        if let Some(shells) = &shells {
            let text = format!("your shell's is another one than the service's: {}", shells.display());
            let fix = format!("to use that one: codex-api-proxy restart --codex-bin {}", shells.display());
            findings.push(Finding::mind("codex", text).fix(fix));
        }
        let paths = [search.service, search.shell].into_iter().flatten();
        let mut others: Vec<PathBuf> = vec![];
        for other in paths.flat_map(|path| locate::on_path(config, path, search.home)) {
            let known = shells.iter().chain([&chosen]).chain(&others).any(|known| same(known, &other));
            if !known {
                others.push(other);
            }
        }
        if !others.is_empty() {
            let others: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
            let text = format!("further ones, which are not used, are on PATH: {}", others.join(", "));
            findings.push(Finding::mind("codex", text).fix("uninstall those that you do not use"));
        }
    }
    findings.extend(passing(&chosen).and_then(|manager| will_vanish(config, search, &chosen, manager)));
    findings
}

/// One in the folder of one version, where nothing else would be found after it is gone.
fn will_vanish(config: &Config, search: &Search, chosen: &Path, manager: &str) -> Option<Finding> {
    let named = config.codex_bin.contains('/');
    // A bare name finds the newest.
    let stays = locate::named("codex", None, search.home);
    if !named && stays.is_some() {
        return None;
    }
    let text = format!("{} is in a folder of {manager} that an upgrade takes away", chosen.display());
    let again = "codex-api-proxy restart --codex-bin \"$(command -v codex)\"";
    Some(Finding::mind("codex", text).fix(match stays {
        Some(_) => "let the newest be found: codex-api-proxy restart --codex-bin codex".to_owned(),
        None => format!("after each upgrade: {again}"),
    }))
}

/// The same in the end; what a version manager's shim leads to, only that knows.
fn same(one: &Path, other: &Path) -> bool {
    let is_shim = |path: &Path| {
        let folder = path.parent().unwrap_or(path);
        folder.ends_with("shims") || folder.ends_with(".volta/bin")
    };
    is_shim(one) || is_shim(other) || locate::same(one, other)
}

/// The version manager in whose folder of one version that is.
fn passing(path: &Path) -> Option<&'static str> {
    let parts: Vec<&str> = path.iter().filter_map(OsStr::to_str).collect();
    let is_version = |part: &str| part.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    let after = |folders: &[&str], then: fn(&str) -> bool| {
        let at = parts.windows(folders.len()).position(|part| part == folders);
        at.and_then(|at| parts.get(at + folders.len())).is_some_and(|part| then(part))
    };
    // What stands between `installs` and the version is the tool.
    let installs = |manager: &str| {
        let at = parts.windows(2).position(|part| part == [manager, "installs"]);
        at.and_then(|at| parts.get(at + 3)).is_some_and(|part| is_version(part))
    };
    match () {
        () if after(&[".nvm", "versions", "node"], |_| true) => Some("nvm"),
        () if after(&["fnm", "node-versions"], |_| true) => Some("fnm"),
        () if after(&["fnm_multishells"], |_| true) => Some("fnm (of one shell)"),
        () if installs(".asdf") => Some("asdf"),
        () if installs("mise") => Some("mise"),
        () if after(&[".nodenv", "versions"], |_| true) => Some("nodenv"),
        () if after(&[".volta", "tools"], |_| true) => Some("volta"),
        () if after(&["n", "versions"], |_| true) => Some("n"),
        () if after(&["Cellar"], |_| true) || after(&["Caskroom"], |_| true) => Some("Homebrew"),
        () if path.starts_with("/nix/store") => Some("Nix"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::report::Verdict;
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(programs: &[&str]) -> Machine {
            let machine = Machine(tempfile::tempdir().unwrap());
            for program in programs {
                let path = machine.path(program);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            machine
        }

        fn path(&self, below: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(below)
        }

        /// The texts and first fixes, with this machine's folder left out.
        fn look(&self, bin: &str, service: &[&str], shell: &[&str]) -> Vec<String> {
            let join =
                |folders: &[&str]| std::env::join_paths(folders.iter().map(|name| self.path(name))).unwrap();
            let (service, shell) = (join(service), join(shell));
            let home = self.path("home");
            let search = Search { service: Some(&service), shell: Some(&shell), home: Some(&home) };
            let bin = if bin.contains('/') { self.path(bin).display().to_string() } else { bin.to_owned() };
            let config = Config { codex_bin: bin, default_cwd: "/nonexistent".into(), ..Config::default() };
            let found = match search.by_service(&config) {
                Some(_) => surprises(&config, &search),
                None => vec![missing(&config, &search)],
            };
            let base = self.path("").display().to_string();
            let show =
                |finding: &Finding| format!("{} -> {}", finding.text, finding.fixes[0]).replace(&base, "");
            let verdicts = if search.by_service(&config).is_some() { Verdict::Mind } else { Verdict::Broken };
            assert!(found.iter().all(|finding| finding.verdict == verdicts), "{found:?}");
            found.iter().map(show).collect()
        }
    }

    #[test]
    fn one_program_is_no_surprise() {
        let machine = Machine::new(&["a/codex", "home/.nvm/versions/node/v20.0.0/bin/codex"]);
        symlink(machine.path("a"), machine.path("b")).unwrap();
        for (service, shell) in [(&["a"][..], &["b", "a"][..]), (&["none"], &["none"])] {
            assert_eq!(machine.look("codex", service, shell), [""; 0], "{service:?} {shell:?}");
        }
    }

    #[test]
    fn what_the_shell_finds_is_told() {
        let machine = Machine::new(&["a/codex-x", "b/codex-x", "c/codex-x", "d/shims/codex-x", "a/codex"]);
        for (bin, service, shell, expect) in [
            (
                "codex-x",
                &[][..],
                &["a"][..],
                vec![
                    "codex_bin = codex-x is not found on the service's PATH nor in the usual folders; your shell finds \
                     a/codex-x -> codex-api-proxy restart --codex-bin a/codex-x saves it",
                ],
            ),
            (
                "gone/codex",
                &[],
                &["a"],
                vec![
                    "codex_bin = gone/codex is no program that can be run; your shell finds a/codex -> \
                     codex-api-proxy restart --codex-bin a/codex saves it",
                ],
            ),
            (
                "codex-x",
                &[],
                &[],
                vec![
                    "codex_bin = codex-x is not found on the service's PATH nor in the usual folders -> npm install -g \
                     @openai/codex",
                ],
            ),
            (
                "codex-x",
                &["a"],
                &["b", "a"],
                vec![
                    "your shell's is another one than the service's: b/codex-x -> to use that one: codex-api-proxy \
                     restart --codex-bin b/codex-x",
                ],
            ),
            (
                "codex-x",
                &["a", "b"],
                &["a", "c"],
                vec![
                    "further ones, which are not used, are on PATH: b/codex-x, c/codex-x -> uninstall those that you do \
                     not use",
                ],
            ),
            // Where a shim leads, only the version manager knows.
            ("codex-x", &["a"], &["d/shims", "a"], vec![]),
            // Named, so meant.
            ("b/codex-x", &["a"], &["a"], vec![]),
        ] {
            assert_eq!(machine.look(bin, service, shell), expect, "{bin} {service:?} {shell:?}");
        }
    }

    #[test]
    fn a_folder_of_one_version_is_told() {
        let nvm = "home/.nvm/versions/node/v20.0.0/bin";
        let asdf = "home/.asdf/installs/nodejs/20.1.0/bin";
        let machine = Machine::new(&[&format!("{nvm}/codex")]);
        let other = Machine::new(&[&format!("{asdf}/codex-x")]);
        let vanishes = "is in a folder of";
        let found = machine.look(&format!("{nvm}/codex"), &[], &[]);
        let expect = "let the newest be found: codex-api-proxy restart --codex-bin codex";
        assert_eq!(found, [format!("{nvm}/codex {vanishes} nvm that an upgrade takes away -> {expect}")]);
        // By its bare name the next one is found, too.
        assert_eq!(machine.look("codex", &[nvm], &[nvm]), [""; 0]);
        if locate::named("codex", None, None).is_none() {
            let again = "after each upgrade: codex-api-proxy restart --codex-bin \"$(command -v codex)\"";
            let expect = [format!("{asdf}/codex-x {vanishes} asdf that an upgrade takes away -> {again}")];
            assert_eq!(other.look(&format!("{asdf}/codex-x"), &[], &[]), expect);
            assert_eq!(other.look("codex-x", &[asdf], &[asdf]), expect);
        }
        for (path, manager) in [
            ("/h/.local/share/fnm/node-versions/v20/installation/bin/codex", Some("fnm")),
            ("/run/user/1/fnm_multishells/1_2/bin/codex", Some("fnm (of one shell)")),
            ("/h/.local/share/mise/installs/node/20.1.0/bin/codex", Some("mise")),
            ("/h/.local/share/mise/installs/node/latest/bin/codex", None),
            ("/h/.local/share/mise/shims/codex", None),
            ("/h/.nodenv/versions/20/bin/codex", Some("nodenv")),
            ("/h/.volta/tools/image/node/20/bin/codex", Some("volta")),
            ("/h/.volta/bin/codex", None),
            ("/h/n/bin/codex", None),
            ("/usr/local/n/versions/node/20/bin/codex", Some("n")),
            ("/opt/homebrew/Cellar/codex/0.1/bin/codex", Some("Homebrew")),
            ("/opt/homebrew/bin/codex", None),
            ("/nix/store/abc-codex/bin/codex", Some("Nix")),
            ("/usr/bin/codex", None),
        ] {
            assert_eq!(passing(Path::new(path)), manager, "{path}");
        }
    }
}
