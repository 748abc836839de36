//! The packages: built from the release program as `make deb` and `make rpm` build them, clean in the
//! eyes of the distributions' own checkers, and installed, used, upgraded and removed in a booted
//! systemd (`tests/tools/package_checks`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::boot::{Machine, TESTS};
use crate::support::{Scratch, example, require_codex, skipped};

/// The version that is upgraded from.
const OLDER: &str = "0.0.9";

/// A program that must be there, or why the test is skipped.
fn missing(tools: &[&str]) -> bool {
    for tool in tools {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|folder| folder.join(tool).exists());
        if !found {
            skipped(&format!("{tool} is not installed; `make test-tools` gets it where it can"));
            return true;
        }
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/codex-api-proxy");
    if !program.exists() {
        skipped("there is no release program to pack: make build");
        return true;
    }
    false
}

/// Runs a command in the sources; gives what it printed.
fn run(command: &mut Command) -> String {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Builds the package with `packaging/KIND.sh`, of the version of the sources or another one.
fn package(kind: &str, scratch: &Scratch, version: Option<&str>) -> PathBuf {
    let mut command = Command::new(format!("packaging/{kind}.sh"));
    command.env("OUT", scratch.dir(version.unwrap_or("current")));
    if let Some(version) = version {
        command.env("PACKAGE_VERSION", version);
    }
    let said = run(&mut command);
    let path = PathBuf::from(said.lines().last().expect("the path of the package"));
    assert!(path.exists(), "{said}");
    path
}

/// Installs, uses, upgrades and removes packages of that kind in a booted systemd.
fn lives_in_a_booted_systemd(kind: &str, tools: &[&str]) {
    if !cfg!(target_os = "linux") {
        return skipped("these packages are for Linux");
    }
    let Some(codex) = require_codex() else { return };
    if missing(tools) {
        return;
    }
    let scratch = Scratch::new();
    let older = package(kind, &scratch, Some(OLDER));
    let newer = package(kind, &scratch, None);
    let machine =
        Machine::new(&scratch, &codex, &example("scripted-upstream"), &["systemd_checks", "package_checks"]);
    let place = |version: &str| format!("/opt/packages/{version}.{kind}");
    machine.copy(&older, &place("older"));
    machine.copy(&newer, &place("newer"));
    let checks = format!("PYTHONPATH={TESTS}/systemd_checks");
    let program = format!("{TESTS}/package_checks");
    machine.run(&["env", &checks, "python3", &program, kind, &place("older"), &place("newer")]);
}

/// Every file below a folder, by its path from there.
fn files(root: &Path) -> Vec<String> {
    let said = run(Command::new("find").arg(root).args(["!", "-type", "d", "-printf", "%P\\n"]));
    let mut files: Vec<String> = said.lines().map(str::to_owned).collect();
    files.sort();
    files
}

#[test]
fn what_is_installed_by_hand_can_be_removed_by_hand() {
    let scratch = Scratch::new();
    let root = scratch.dir("root");
    let script = |arguments: &[&str]| {
        let mut command = Command::new("packaging/install.sh");
        command.args(arguments).env("DESTDIR", &root).env("PREFIX", "/opt/proxy");
        run(command.env("BIN", env!("CARGO_BIN_EXE_codex-api-proxy")))
    };
    script(&[]);
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let service = read("opt/proxy/lib/systemd/user/codex-api-proxy.service");
    assert!(service.contains("\nExecStart=/opt/proxy/bin/codex-api-proxy serve\n"), "{service}");
    assert!(service.contains("=file:///opt/proxy/share/doc/codex-api-proxy/README.md\n"), "{service}");
    assert!(!files(&root).iter().any(|file| read_is(&root.join(file), "/usr/bin/codex-api-proxy")));
    let config = root.join("etc/codex-api-proxy/config.toml");
    assert_eq!(read("etc/codex-api-proxy/config.toml"), include_str!("../../etc/codex-api-proxy.toml"));

    script(&["--uninstall"]);
    assert_eq!(files(&root), Vec::<String>::new());

    script(&[]);
    std::fs::write(&config, "port = 9000\n").unwrap();
    assert!(script(&["--uninstall"]).contains("kept, because it was edited: "));
    assert_eq!(files(&root), ["etc/codex-api-proxy/config.toml"]);
}

#[test]
fn the_archive_of_a_release_installs_itself() {
    let scratch = Scratch::new();
    let mut pack = Command::new("packaging/tarball.sh");
    let said = run(pack.env("OUT", scratch.dir("out")).env("BIN", env!("CARGO_BIN_EXE_codex-api-proxy")));
    let archive = said.trim_end();
    run(Command::new("tar").args(["-xzf", archive, "-C"]).arg(scratch.dir("unpacked")));
    // `cargo binstall` looks for the program in a folder of the archive's name.
    let folder = Path::new(archive).file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz");
    let version = env!("CARGO_PKG_VERSION");
    assert!(folder.starts_with(&format!("codex-api-proxy-{version}-")), "{folder}");
    let unpacked = scratch.path().join("unpacked").join(folder);
    assert_eq!(
        run(Command::new(unpacked.join("codex-api-proxy")).arg("--version")),
        format!("codex-api-proxy {version}\n")
    );
    let root = scratch.dir("root");
    run(Command::new(unpacked.join("install.sh")).env("DESTDIR", &root));
    let sources = scratch.dir("sources");
    let mut install = Command::new("packaging/install.sh");
    install.env("DESTDIR", &sources).env("BIN", env!("CARGO_BIN_EXE_codex-api-proxy"));
    run(&mut install);
    let mut expect = files(&sources);
    expect.push("usr/local/share/doc/codex-api-proxy/crates.txt".into());
    expect.sort();
    assert_eq!(files(&root), expect);
    run(Command::new(unpacked.join("install.sh")).arg("--uninstall").env("DESTDIR", &root));
    assert_eq!(files(&root), Vec::<String>::new());
}

/// Whether a text names something; programs are no texts.
fn read_is(path: &Path, name: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(name))
}

#[test]
fn a_version_is_set_everywhere_or_nowhere() {
    let scratch = Scratch::new();
    let root = scratch.dir("sources");
    for name in ["Cargo.toml", "Cargo.lock", "packaging"] {
        run(Command::new("cp").arg("-r").arg(name).arg(&root));
    }
    // Not our own: right after a release nothing in it is unreleased.
    let old = "## [0.0.1] - 2020-01-01\n\n- Old.\n";
    let changelog = format!("# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Something new.\n\n{old}");
    std::fs::write(root.join("CHANGELOG.md"), changelog).unwrap();
    for name in ["src", "tests"] {
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        std::os::unix::fs::symlink(whole, root.join(name)).unwrap();
    }
    let call = |script: &str, arguments: &[&str]| {
        let output = Command::new(root.join("packaging").join(script)).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let texts = || {
        ["Cargo.toml", "Cargo.lock", "CHANGELOG.md", "packaging/arch/PKGBUILD"]
            .map(|name| std::fs::read_to_string(root.join(name)).unwrap())
    };
    let before = texts();
    for wrong in ["", "1.2", "v1.2.3", "01.2.3", "1.2.3-rc1", "1.2.3\n1.2.4"] {
        let (code, errors) = call("set-version.sh", &[wrong]);
        assert_eq!(code, Some(64), "{wrong}: {errors}");
        assert_eq!(texts(), before, "{wrong}");
    }
    assert_eq!(call("agree.sh", &[]), (Some(0), String::new()));
    assert_eq!(call("set-version.sh", &["9.8.7", "2030-01-02"]), (Some(0), String::new()));
    assert_eq!(call("agree.sh", &["--released"]), (Some(0), String::new()));
    let [.., changelog, _] = texts();
    let section = "## [9.8.7] - 2030-01-02\n\n### Added\n\n- Something new.\n\n";
    assert_eq!(changelog, format!("# Changelog\n\n## [Unreleased]\n\n{section}{old}"));
    run(Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version=1", "--manifest-path"])
        .arg(root.join("Cargo.toml")));
    // Twice is once.
    let set = texts();
    assert_eq!(call("set-version.sh", &["9.8.7"]), (Some(0), String::new()));
    assert_eq!(texts(), set);
    // A version without anything new is none.
    assert_eq!(call("set-version.sh", &["9.8.8"]), (Some(0), String::new()));
    assert_eq!(
        call("agree.sh", &["--released"]),
        (Some(1), "CHANGELOG.md has nothing of version 9.8.8\n".into())
    );
    assert_eq!(call("set-version.sh", &["9.8.7"]), (Some(0), String::new()));
    // And what disagrees is named.
    std::fs::write(root.join("packaging/arch/PKGBUILD"), "pkgver=1.0.0\n").unwrap();
    let (code, errors) = call("agree.sh", &[]);
    assert_eq!(code, Some(1));
    assert_eq!(errors, "packaging/arch/PKGBUILD says version 1.0.0, Cargo.toml says 9.8.7\n");
}

#[test]
fn the_debian_package_lives_well() {
    lives_in_a_booted_systemd("deb", &["dh", "dpkg-buildpackage"]);
}

#[test]
fn the_rpm_lives_well() {
    lives_in_a_booted_systemd("rpm", &["rpmbuild"]);
}

#[test]
fn the_packages_please_their_checkers() {
    if missing(&["dh", "dpkg-buildpackage", "lintian", "rpmbuild", "rpmlint", "mandoc", "systemd-analyze"]) {
        return;
    }
    let scratch = Scratch::new();
    let deb = package("deb", &scratch, None);
    let rpm = package("rpm", &scratch, None);
    println!("{}", run(Command::new("packaging/check.sh").arg(deb).arg(rpm)));
}
