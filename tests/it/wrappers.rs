//! Codex behind a wrapper: what its tools read stays confined, and where it cannot be, `agent_reads` decides.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Reply, Scratch, Setup, Upstream, require_codex, wait};

fn executable(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let path = scratch.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The npm package's wrapper, where the tests' Codex came with one.
fn npm_wrapper(native: &Path) -> Option<PathBuf> {
    let modules = native.ancestors().find(|folder| folder.ends_with("node_modules"))?;
    Some(modules.join("@openai/codex/bin/codex.js")).filter(|script| script.exists())
}

/// The model reads what it may and not what it may not, in either engine.
fn reads_are_confined(native: &Path, what: &str, install: impl Fn(&Scratch) -> PathBuf) {
    for engine in ["exec", "app-server"] {
        let upstream = Upstream::start();
        let setup = Setup::real(native, &upstream).set("engine", engine).set("profile", "agent");
        let bin = install(setup.scratch());
        let setup = setup.set("agent_reads", "workspace").flag("codex-bin", bin.to_str().unwrap());
        let setup = setup.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        let secret = setup.scratch().write("home/.ssh/id", "LEAK-key");
        std::fs::write(setup.workspace().join("note.txt"), "this may be read").unwrap();
        let command = format!("cat note.txt '{}'; cat $CODEX_HOME/auth.json; echo end", secret.display());
        upstream.when(
            "look around",
            [Reply::call("exec_command", &json!({ "cmd": command }).to_string()), Reply::text("done")],
        );
        let proxy = setup.start();
        assert_eq!(proxy.get("/ready").send().json()["agent_reads"], "workspace", "{what}");
        let body = json!({ "model": "gpt-5.5", "messages": [crate::support::user("look around")] });
        assert_eq!(proxy.chat(body).send().answer(), "done", "{what}");
        let outputs = upstream.requests().pop().unwrap().tool_outputs();
        let [output] = outputs.as_slice() else { panic!("{what}: {outputs:?}") };
        assert!(output.contains("this may be read") && output.contains("end"), "{what}: {output}");
        assert!(!output.contains("LEAK"), "{what}: {output}");
    }
}

#[test]
fn reads_stay_confined_behind_a_script() {
    let Some(native) = require_codex() else { return };
    for (what, script) in [
        ("that becomes it", format!("#!/bin/sh\nexec '{}' \"$@\"\n", native.display())),
        ("that waits for it", format!("#!/bin/sh\n'{}' \"$@\"\nexit $?\n", native.display())),
        // As Nix writes them.
        ("under another name", format!("#!/bin/bash\nexec -a \"$0\" '{}' \"$@\"\n", native.display())),
        // Something that was started later than Codex, and is not it.
        ("with a helper", format!("#!/bin/bash\nexec '{}' \"$@\" 2> >(exec cat >&2)\n", native.display())),
    ] {
        reads_are_confined(&native, what, |scratch| executable(scratch, "home/bin/my-codex", &script));
    }
}

#[test]
fn reads_stay_confined_behind_a_link() {
    let Some(native) = require_codex() else { return };
    let install = |scratch: &Scratch| {
        let link = scratch.dir("home/bin").join("codex");
        symlink(&native, &link).unwrap();
        link
    };
    reads_are_confined(&native, "a link", install);
}

#[test]
fn reads_stay_confined_behind_npms_wrapper_behind_a_script() {
    let Some(native) = require_codex() else { return };
    let Some(wrapper) = npm_wrapper(&native) else { return };
    let script = format!("#!/bin/sh\nexec node '{}' \"$@\"\n", wrapper.display());
    reads_are_confined(&native, "npm", |scratch| executable(scratch, "home/bin/codex", &script));
}

/// A version manager's shim, which only the service's own list of folders finds: it looks up where the
/// chosen version lies, below the home.
#[test]
fn reads_stay_confined_behind_a_shim_of_a_version_manager() {
    let Some(native) = require_codex() else { return };
    let install = |scratch: &Scratch| {
        let folder = "home/.local/share/mise/installs/npm-openai-codex/1.0/vendor";
        let triple = native.parent().and_then(Path::parent).unwrap();
        let copied =
            Command::new("cp").arg("-rl").arg(triple).arg(scratch.dir(folder).join("triple")).status();
        assert!(copied.unwrap().success());
        scratch.write("home/.tool-versions", "codex 1.0\n");
        let shim = "#!/bin/sh\nversion=$(sed -n 's/^codex //p' \"$HOME/.tool-versions\")\n\
                    exec \"$HOME/.local/share/mise/installs/npm-openai-codex/$version/vendor/triple/bin/codex\" \"$@\"\n";
        executable(scratch, "home/.local/share/mise/shims/codex-of-mise", shim);
        PathBuf::from("codex-of-mise")
    };
    reads_are_confined(&native, "a shim", install);
}

#[test]
fn where_reads_cannot_be_confined_the_setting_decides() {
    for engine in ["exec", "app-server"] {
        let answers = "sandbox 1\nstart\nanswer pong\ndone";
        let (setup, _fake) = Setup::fake(answers);
        let proxy = setup
            .set("engine", engine)
            .set("profile", "agent")
            .set("agent_reads", "workspace")
            .start_unready();
        let message = proxy.ask("hi").send().error(503, "server_error", "reads_not_confined");
        assert!(message.contains("`agent_reads`") && message.contains("`auto`"), "{message}");
        let ready = proxy.get("/ready").send();
        assert_eq!((ready.status, &ready.json()["agent_reads"]), (503, &json!(null)));
        assert_eq!(ready.json()["reason"], message);
        assert!(proxy.log().contains("agent_reads = \"workspace\" cannot be kept"), "{}", proxy.log());

        let (setup, _fake) = Setup::fake(answers);
        let proxy = setup.set("engine", engine).set("profile", "agent").start();
        assert_eq!(proxy.get("/ready").send().json()["agent_reads"], "host");
        assert_eq!(proxy.ask("hi").send().answer(), "pong");
        assert!(proxy.log().contains("may read every file"), "{}", proxy.log());
    }
}

/// The operator's own sandbox settings are not what was asked for by name.
#[test]
fn overrides_of_the_sandbox_do_not_go_with_the_requirement() {
    let (setup, _fake) = Setup::fake("start\nanswer pong\ndone");
    let setup = setup.set("agent_reads", "workspace").flag("codex-config", "sandbox_mode=\"read-only\"");
    let proxy = setup.start_unready();
    proxy.ask("hi").send().error(503, "server_error", "reads_not_confined");
    wait::until("the log says why", || {
        proxy.log().contains("codex_configs decide what tools may do (sandbox_mode)")
    });
}
