//! A machine with a real systemd of its own, booted for one command; see `tests/tools/boot-systemd.sh`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::proxy::{Scratch, skipped};

/// What `boot-systemd.sh` exits with where nothing can be booted.
const CANNOT_BOOT: i32 = 97;

/// Where the tests' own files lie in the machine.
pub const TESTS: &str = "/usr/lib/codex-api-proxy-tests";

/// The machine, before it is booted: this one's files under a layer of its own.
pub struct Machine {
    layer: PathBuf,
    codex: PathBuf,
}

impl Machine {
    /// With the real Codex CLI in `/opt/codex`, the scripted upstream, and the checks written in
    /// Python in these folders of `tests/tools`.
    pub fn new(scratch: &Scratch, codex: &Path, upstream: &Path, checks: &[&str]) -> Machine {
        // The folder that holds `bin/codex` and what comes with it.
        let codex = codex.parent().and_then(Path::parent).unwrap().canonicalize().unwrap();
        let machine = Machine { layer: scratch.dir("layer"), codex };
        machine.copy(upstream, &format!("{TESTS}/scripted-upstream"));
        for folder in checks {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(folder);
            for file in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
                if file.extension().is_some_and(|extension| extension == "py") {
                    let name = file.file_name().unwrap().to_str().unwrap();
                    machine.copy(&file, &format!("{TESTS}/{folder}/{name}"));
                }
            }
        }
        machine
    }

    /// The folder whose files are laid over the machine's own.
    pub fn layer(&self) -> &Path {
        &self.layer
    }

    /// Puts a file into the machine, with its mode.
    pub fn copy(&self, from: &Path, to: &str) {
        let to = self.layer.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }

    /// Boots it and runs checks in it, which print a line `ok NAME` for each. Where nothing can be
    /// booted it says that the test is skipped.
    ///
    /// # Panics
    /// If any check fails, or none was run.
    pub fn run(&self, command: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/boot-systemd.sh");
        let output = Command::new(script)
            .arg("--layer")
            .arg(&self.layer)
            .arg("--bind")
            .arg(format!("{}:/opt/codex", self.codex.display()))
            .args(["--time", "1800", "--"])
            .args(command)
            .output()
            .unwrap();
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{said}");
        if output.status.code() == Some(CANNOT_BOOT) {
            return skipped(errors.lines().last().unwrap_or("no systemd could be booted"));
        }
        assert!(output.status.success(), "{errors}");
        assert!(said.lines().any(|line| line.starts_with("ok ")), "no check was run: {errors}");
    }
}
