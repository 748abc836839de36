//! The service in a booted systemd: real units, a real user manager, the real journal and the real
//! Codex CLI. One boot runs every check of `tests/tools/systemd_checks`.

use std::path::Path;
use std::process::Command;

use crate::support::boot::{Machine, TESTS};
use crate::support::{Scratch, example, require_codex, skipped};

#[test]
fn the_service_keeps_its_promises_under_systemd() {
    if !cfg!(target_os = "linux") {
        return skipped("systemd is for Linux");
    }
    let Some(codex) = require_codex() else { return };
    let scratch = Scratch::new();
    let machine = Machine::new(&scratch, &codex, &example("scripted-upstream"), &["systemd_checks"]);
    let installed = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install.sh"))
        .env("DESTDIR", machine.layer())
        .env("PREFIX", "/usr")
        .env("BIN", env!("CARGO_BIN_EXE_codex-api-proxy"))
        .status();
    assert!(installed.expect("packaging/install.sh runs").success());
    let repeat = std::env::var("BOOT_REPEAT").unwrap_or_else(|_| "1".into());
    let (repeat, checks) = (format!("BOOT_REPEAT={repeat}"), format!("{TESTS}/systemd_checks"));
    let wanted = std::env::var("BOOT_CHECKS").unwrap_or_default();
    let mut command = vec!["env", &repeat, "python3", &checks];
    command.extend(wanted.split_whitespace());
    machine.run(&command);
}
