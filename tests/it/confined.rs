//! What a workspace brings along runs nowhere but in the sandbox, and what this program and Codex keep for
//! themselves is not read in it, wherever the working directory lies.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Reply, Scratch, Setup, Upstream, real, skipped, user};

fn git(folder: &Path, arguments: &[&str]) {
    let identity =
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"];
    let mut command = Command::new("git");
    command.current_dir(folder).args(identity).args(arguments);
    // A repository made in a hook of the clone's own git would otherwise be that one.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let output = command.output().expect("run git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Workspaces that bring everything that some program runs by itself: what runs leaves a mark.
struct Hostile {
    marks: PathBuf,
    root: String,
    cwds: Vec<PathBuf>,
}

/// Keys of git's whose value is a program.
const GIT_PROGRAMS: &[&str] = &[
    "filter.evil.process",
    "filter.evil.clean",
    "filter.evil.smudge",
    "merge.evil.driver",
    "diff.evil.command",
    "diff.evil.textconv",
    "diff.external",
    "core.fsmonitor",
    "core.sshCommand",
    "core.gitProxy",
    "core.pager",
    "core.editor",
    "core.askPass",
    "sequence.editor",
    "credential.helper",
    "gpg.program",
    "pager.status",
    "uploadpack.packObjectsHook",
];

impl Hostile {
    fn new(scratch: &Scratch) -> Hostile {
        let marks = scratch.dir("marks");
        let work = scratch.dir("work");
        let (plain, outer) = (scratch.dir("work/plain"), scratch.dir("work/outer"));
        let (linked, inner) = (work.join("linked"), outer.join("inner"));
        for folder in [&plain, &outer] {
            fill(folder, &marks);
        }
        let below = scratch.dir("work/plain/below");
        git(&plain, &["worktree", "add", "-q", "../linked"]);
        git(&outer, &["submodule", "--quiet", "add", plain.to_str().unwrap(), "inner"]);
        for folder in [&plain, &outer, &inner] {
            arm(folder, &marks);
        }
        // Changed without changing the size: git has to read it, through its filters.
        for folder in [&plain, &linked, &outer, &inner] {
            std::fs::write(folder.join("tracked.txt"), "two").unwrap();
        }
        Hostile { marks, root: work.display().to_string(), cwds: vec![plain, below, linked, inner, outer] }
    }

    fn ran(&self) -> Vec<String> {
        let marks = std::fs::read_dir(&self.marks).unwrap().flatten();
        marks.map(|mark| mark.file_name().into_string().unwrap()).collect()
    }
}

/// A repository with one commit, and beside it what shells, direnv and Codex look for.
fn fill(folder: &Path, marks: &Path) {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let mark = |name: &str| format!("touch '{}/{name}'", marks.display());
    git(folder, &["init", "-q"]);
    write("tracked.txt", "one".into());
    write(".gitattributes", "* filter=evil diff=evil merge=evil\n".into());
    for name in [".envrc", ".bashrc", ".profile", ".bash_profile", ".zshenv", ".zshrc"] {
        write(name, mark(&format!("rc{name}")) + "\n");
    }
    for name in ["git", "bash", "sh", "bwrap", "rg", "getconf", "lsb_release", "codex", "node"] {
        write(name, format!("#!/bin/sh\n{}\nexit 1\n", mark(&format!("path-{name}"))));
        write(&format!("bin/{name}"), format!("#!/bin/sh\n{}\nexit 1\n", mark(&format!("path-bin-{name}"))));
    }
    let config = format!(
        "notify = [\"touch\", \"{0}/notify\"]\n[mcp_servers.evil]\ncommand = \"touch\"\nargs = [\"{0}/mcp\"]\n\
         [features]\nhooks = true\n",
        marks.display()
    );
    write(".codex/config.toml", config);
    let hook = |event: &str| json!([{ "hooks": [{ "type": "command", "command": mark(&format!("codex-hook-{event}")) }] }]);
    let events = ["SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop"];
    let hooks: serde_json::Map<_, _> =
        events.into_iter().map(|event| (event.to_owned(), hook(event))).collect();
    write(".codex/hooks.json", json!({ "hooks": hooks }).to_string());
    git(folder, &["add", "tracked.txt", ".gitattributes"]);
    git(folder, &["commit", "-q", "-m", "the first commit"]);
}

/// Names programs in the configuration of the repository at `folder`.
fn arm(folder: &Path, marks: &Path) {
    git(folder, &["remote", "add", "evil", "ssh://host/repository"]);
    let program = |name: &str| {
        let path = folder.join("evil").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mark = name.replace('/', "-");
        std::fs::write(&path, format!("#!/bin/sh\ntouch '{}/{mark}'\nexit 1\n", marks.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    for key in GIT_PROGRAMS {
        git(folder, &["config", key, &program(key)]);
    }
    for hook in ["post-index-change", "post-checkout", "reference-transaction", "fsmonitor-watchman"] {
        program(&format!("hooks/{hook}"));
    }
    let hooks = folder.join("evil/hooks");
    git(folder, &["config", "core.hooksPath", hooks.to_str().unwrap()]);
}

fn nothing_of_the_workspace_runs(setup: Setup, upstream: &Upstream, agent: bool) {
    if Command::new("git").arg("--version").output().is_err() {
        return skipped("no git");
    }
    let hostile = Hostile::new(setup.scratch());
    let path = std::env::var("PATH").unwrap();
    let bin = hostile.cwds[0].join("bin").display().to_string();
    let roots = format!("{}:{}", hostile.root, setup.workspace().display());
    let proxy =
        setup.env("PATH", &format!(".:{bin}::{path}")).env("CODEX_PROXY_ALLOWED_ROOTS", &roots).start();
    for cwd in &hostile.cwds {
        if agent {
            let command = r#"{"cmd":"echo [$GIT_DIR]; git log --oneline 2>&1"}"#;
            upstream.reply(Reply::call("exec_command", command));
        }
        upstream.reply(Reply::text("done"));
        let body = json!({ "model": "gpt-5.5", "messages": [user("look")], "metadata": { "cwd": cwd } });
        assert_eq!(proxy.chat(body).send().answer(), "done");
        if agent {
            let output = upstream.requests().last().unwrap().tool_outputs().pop().unwrap();
            assert!(output.contains("[]"), "{output}");
            // Of the others the repository lies elsewhere, where reads are not allowed.
            if cwd.join(".git").is_dir() {
                assert!(output.contains("the first commit"), "{output}");
            }
        }
        assert_eq!(hostile.ran(), [""; 0], "ran outside the sandbox in {}", cwd.display());
    }
}

#[test]
fn a_workspace_runs_nothing_outside_the_sandbox() {
    let Some((setup, upstream)) = real() else { return };
    nothing_of_the_workspace_runs(setup, &upstream, true);
}

#[test]
fn a_workspace_runs_nothing_for_a_plain_model() {
    let Some((setup, upstream)) = real() else { return };
    nothing_of_the_workspace_runs(setup.set("profile", "model"), &upstream, false);
}

#[test]
fn a_workspace_runs_nothing_in_an_app_server() {
    let Some((setup, upstream)) = real() else { return };
    let setup = setup.set("engine", "app-server").set("profile", "agent");
    nothing_of_the_workspace_runs(setup, &upstream, true);
}

#[test]
fn a_workspace_runs_nothing_for_a_plain_model_in_an_app_server() {
    let Some((setup, upstream)) = real() else { return };
    nothing_of_the_workspace_runs(
        setup.set("engine", "app-server").set("profile", "model"),
        &upstream,
        false,
    );
}

/// Where the operator lets tools inherit everything, they still go without what is for Codex's git.
#[test]
fn a_workspace_runs_nothing_where_tools_inherit_everything() {
    for policy in [
        r#"shell_environment_policy.inherit="all""#,
        r#"shell_environment_policy={inherit="all"}"#,
        r#"shell_environment_policy={inherit="all",exclude=["X"]}"#,
    ] {
        let Some((setup, upstream)) = real() else { return };
        nothing_of_the_workspace_runs(setup.flag("codex-config", policy), &upstream, true);
    }
}

/// A model looks into everything below a home that is itself the working directory.
fn a_model_looks_everywhere(setup: Setup, upstream: &Upstream, change: impl Fn(&Scratch)) {
    let scratch = setup.scratch();
    let home = setup.home();
    scratch.write("home/.codex/sessions/x.jsonl", "LEAK-session");
    scratch.write("home/.codex/config.toml", "# LEAK-codex-config\n");
    scratch.write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-LEAK-login"}"#);
    scratch.write("home/.config/codex-api-proxy/config.toml", "api_key = \"LEAK-key\"\n");
    scratch.write("home/dotfiles/extra.toml", "# LEAK-extra\n");
    std::os::unix::fs::symlink(
        home.join("dotfiles/extra.toml"),
        home.join(".config/codex-api-proxy/extra-link.toml"),
    )
    .unwrap();
    let keys = scratch.write("home/elsewhere/keys", "LEAK-keyfile\n");
    let given = scratch.write("home/given/settings.toml", "# LEAK-given\n");
    scratch.write("home/given/credentials/api-key", "LEAK-credential\n");
    scratch.write("home/note.txt", "this may be read");
    scratch.write("home/.codex-api-proxy/tmp/turn-of-another/schema.json", "LEAK-schema");
    scratch.write("home/.codex-api-proxy/workspace/note.txt", "and this");
    change(scratch);
    for secret in [&keys, &given] {
        std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let png = [&b"\x89PNG\r\n\x1a\n"[..], b"not really"].concat();
    std::fs::write(home.join(".codex/picture.png"), png).unwrap();
    let picture = json!({ "path": home.join(".codex/picture.png") }).to_string();
    let home_text = home.display().to_string();
    let commands = [
        "cat note.txt .codex-api-proxy/workspace/note.txt".to_owned(),
        "grep -rsI LEAK . | head -c 3000".into(),
        format!("cd / && grep -rsI LEAK '{home_text}' | head -c 3000"),
        "find . -type f -exec cat {} + 2>/dev/null | grep LEAK".into(),
        "find -L . -type f -exec cat {} + 2>/dev/null | grep LEAK".into(),
        "cat $CODEX_HOME/auth.json .codex-api-proxy/codex-home/auth.json .codex/auth.json".into(),
        "ln -s .codex/auth.json x; chmod -R 777 .codex; umount .codex; cat .codex/auth.json".into(),
        "unshare -rm sh -c 'umount .codex; cat .codex/*'; cat /proc/*/root/$PWD/.codex/auth.json".into(),
    ];
    let call = |command: &String| Reply::call("exec_command", &json!({ "cmd": command }).to_string());
    upstream.when(
        "look everywhere",
        commands.iter().map(call).chain([Reply::call("view_image", &picture), Reply::text("done")]),
    );
    let proxy = setup
        .env("XDG_CONFIG_HOME", &format!("{home_text}/.config"))
        .env("CREDENTIALS_DIRECTORY", &format!("{home_text}/given/credentials"))
        .env("CODEX_PROXY_CONFIG", &given.display().to_string())
        .set("api_key_file", keys.display())
        .flag("allowed-root", &home_text)
        .start();
    let body =
        json!({ "model": "gpt-5.5", "messages": [user("look everywhere")], "metadata": { "cwd": home } });
    assert_eq!(proxy.chat(body).key("LEAK-keyfile").send().answer(), "done");
    let request = upstream.requests().pop().unwrap();
    let outputs = request.tool_outputs();
    assert_eq!(outputs.len(), commands.len() + 1);
    assert!(outputs[0].contains("this may be read") && outputs[0].contains("and this"), "{}", outputs[0]);
    for (command, output) in commands.iter().zip(&outputs) {
        assert!(!output.contains("LEAK"), "{command}: {output}");
    }
    assert!(request.images().is_empty(), "a picture was shown");
}

#[test]
fn what_lies_below_the_working_directory_stays_secret() {
    let Some((setup, upstream)) = real() else { return };
    a_model_looks_everywhere(setup, &upstream, |_| {});
}

#[test]
fn what_lies_below_the_working_directory_stays_secret_in_an_app_server() {
    let Some((setup, upstream)) = real() else { return };
    let setup = setup.set("engine", "app-server").set("profile", "agent");
    a_model_looks_everywhere(setup, &upstream, |_| {});
}

#[test]
fn a_login_that_is_a_link_or_made_in_the_isolated_home_stays_secret() {
    for made in ["linked", "isolated"] {
        let Some((setup, upstream)) = real() else { return };
        a_model_looks_everywhere(setup, &upstream, |scratch| {
            let at = |name: &str| scratch.path().join(name);
            let login = at("home/.codex/auth.json");
            let own = scratch.dir("home/.codex-api-proxy/codex-home");
            let kept = if made == "linked" { at("home/dotfiles/auth.json") } else { own.join("auth.json") };
            std::fs::rename(&login, &kept).unwrap();
            std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o600)).unwrap();
            if made == "linked" {
                std::os::unix::fs::symlink("../dotfiles/auth.json", &login).unwrap();
            } else {
                scratch.write("home/.codex-api-proxy/codex-home/.codex-api-proxy", "");
                for folder in [own.parent().unwrap(), &own] {
                    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
                }
            }
        });
    }
}

#[test]
fn the_users_own_home_stays_secret_where_it_is_shared() {
    let Some((setup, upstream)) = real() else { return };
    a_model_looks_everywhere(setup.set("isolation", "shared"), &upstream, |_| {});
}

/// Where a folder's name reads as a pattern, or as none.
#[test]
fn an_odd_name_hides_nothing_less() {
    for name in ["[a] *?", "two\nlines", "quo\"te\\'s"] {
        let Some((setup, upstream)) = real() else { return };
        let login = setup.scratch().dir(&format!("home/{name}"));
        std::fs::write(login.join("auth.json"), "{\"OPENAI_API_KEY\":\"sk-LEAK-odd\"}").unwrap();
        a_model_looks_everywhere(setup.set("login_home", login.display()), &upstream, |scratch| {
            // Another login of the user's that is none of this program's.
            std::fs::remove_dir_all(scratch.path().join("home/.codex")).unwrap();
            scratch.dir("home/.codex");
        });
    }
}
