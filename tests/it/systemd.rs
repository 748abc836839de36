//! The service in a booted systemd: real units, a real user manager, the real journal and the real
//! Codex CLI. One boot runs every check of `tests/tools/systemd_checks`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Scratch, require_codex, skipped};

/// What `boot-systemd.sh` exits with where nothing can be booted.
const CANNOT_BOOT: i32 = 97;

/// The files a package would install, as a tree to lay over the machine's own.
fn installed(scratch: &Scratch, upstream: &Path) -> PathBuf {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let root = scratch.dir("layer");
    let copy = |from: &Path, to: &str| {
        let to = root.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    copy(Path::new(env!("CARGO_BIN_EXE_codex-api-proxy")), "usr/bin/codex-api-proxy");
    copy(upstream, "usr/lib/codex-api-proxy-tests/scripted-upstream");
    let checks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/systemd_checks");
    for file in std::fs::read_dir(checks).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "py") {
            let name = file.file_name().unwrap().to_str().unwrap();
            copy(&file, &format!("usr/lib/codex-api-proxy-tests/checks/{name}"));
        }
    }
    copy(&units.join("codex-api-proxy.catalog"), "usr/lib/systemd/catalog/codex-api-proxy.catalog");
    for unit in [
        "user/codex-api-proxy.service",
        "user/codex-api-proxy.socket",
        "user/codex-api-proxy.service.d/hardening.conf.example",
        "system/codex-api-proxy@.service",
        "system/codex-api-proxy@.socket",
    ] {
        copy(&units.join(unit), &format!("usr/lib/systemd/{unit}"));
    }
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"), "usr/share/doc/codex-api-proxy/README.md");
    root
}

#[test]
fn the_service_keeps_its_promises_under_systemd() {
    if !cfg!(target_os = "linux") {
        return skipped("systemd is for Linux");
    }
    let Some(codex) = require_codex() else { return };
    let scratch = Scratch::new();
    let layer = installed(&scratch, &crate::support::example("scripted-upstream"));
    // The folder that holds `bin/codex` and what comes with it.
    let vendor = codex.parent().and_then(Path::parent).unwrap().canonicalize().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/boot-systemd.sh");
    let repeat = std::env::var("BOOT_REPEAT").unwrap_or_else(|_| "1".into());
    let output = Command::new(script)
        .arg("--layer")
        .arg(&layer)
        .arg("--bind")
        .arg(format!("{}:/opt/codex", vendor.display()))
        .args(["--time", "1800", "--", "env"])
        .arg(format!("BOOT_REPEAT={repeat}"))
        .args(["python3", "/usr/lib/codex-api-proxy-tests/checks"])
        .args(std::env::var("BOOT_CHECKS").unwrap_or_default().split_whitespace())
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    if output.status.code() == Some(CANNOT_BOOT) {
        return skipped(errors.lines().last().unwrap_or("no systemd could be booted"));
    }
    assert!(output.status.success(), "{errors}");
    assert!(said.lines().any(|line| line.starts_with("ok ")), "no check was run: {errors}");
}
