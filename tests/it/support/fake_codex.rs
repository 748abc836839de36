//! A Codex CLI that does what the real one will not do on demand.
//!
//! The program is the example `fake-codex`. Each fake is a link to it under a name of its own, with its
//! script beside it (`NAME.script`) and a record of how it was called (`NAME.calls`). What a
//! script may say is described in `tests/tools/fake_codex/main.rs`.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One scripted fake.
pub struct FakeCodex {
    path: PathBuf,
}

impl FakeCodex {
    /// Puts a fake with this script into `folder`.
    pub fn new(folder: &Path, script: &str) -> FakeCodex {
        let path = folder.join("codex");
        let program = example("fake-codex");
        let _ = std::fs::remove_file(&path);
        std::fs::hard_link(&program, &path)
            .or_else(|_| std::fs::copy(&program, &path).map(drop))
            .unwrap_or_else(|error| panic!("{} to {}: {error}", program.display(), path.display()));
        let fake = FakeCodex { path };
        fake.script(script);
        fake
    }

    /// Replaces the script, for the calls from now on.
    pub fn script(&self, script: &str) {
        std::fs::write(self.path.with_extension("script"), script).expect("write a script");
    }

    /// The program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every call so far that ran a turn: `args`, `env`, `cwd`, `pid` and, once read, `stdin`.
    pub fn turns(&self) -> Vec<Value> {
        self.calls()
            .into_iter()
            .filter(|call| call["verb"] == "exec" || call["verb"] == "app-server")
            .collect()
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Value> {
        let bytes = std::fs::read(self.path.with_extension("calls")).unwrap_or_default();
        // A record that is being written may be seen in part; it counts once its line has ended.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines = bytes[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("a record is JSON")).collect()
    }
}

/// A program of `[[example]]`, which `cargo test` builds beside the tests.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --examples` (or `cargo test` whole)",
        path.display()
    );
    path
}
