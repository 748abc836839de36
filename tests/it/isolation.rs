//! Nothing of the user's own Codex leaks in, and nothing of the host leaks out.

use std::path::Path;

use crate::support::{Reply, Response, Setup, Upstream, real, wait};

/// A home that would betray itself in the prompt, in a file, or by a program it starts.
fn hostile_home(setup: &Setup) -> std::path::PathBuf {
    let scratch = setup.scratch();
    let mark = scratch.path().join("mcp-was-started");
    let config = format!(
        "model = \"LEAK-model\"\ndeveloper_instructions = \"LEAK-developer\"\ninstructions = \"LEAK-instructions\"\n\
         [mcp_servers.evil]\ncommand = \"touch\"\nargs = [\"{}\"]\n",
        mark.display()
    );
    scratch.write("home/.codex/config.toml", &config);
    scratch.write("home/.codex/AGENTS.md", "LEAK-home-agents");
    scratch.write("home/.codex/prompts/evil.md", "LEAK-prompt");
    for folder in ["home/.codex/skills/evil", "home/.agents/skills/evil"] {
        scratch.write(
            &format!("{folder}/SKILL.md"),
            "---\nname: LEAK-skill\ndescription: LEAK-skill-description\n---\nLEAK-skill-body\n",
        );
    }
    scratch.write("home/AGENTS.md", "LEAK-parent-agents");
    scratch.write("home/.codex-api-proxy/workspace/AGENTS.md", "LEAK-workspace-agents");
    scratch.write(
        "home/.codex-api-proxy/workspace/.codex/config.toml",
        "developer_instructions = \"LEAK-project\"\n",
    );
    scratch.write("home/.codex-api-proxy/workspace/.git/HEAD", "ref: refs/heads/main\n");
    mark
}

fn assert_nothing_leaked(upstream: &Upstream, mark: &Path) {
    assert!(!upstream.requests().is_empty());
    for request in upstream.requests() {
        let text = request.text();
        if let Some(at) = text.find("LEAK") {
            panic!("leaked: …{}…", &text[at.saturating_sub(100)..(at + 100).min(text.len())]);
        }
    }
    assert!(!mark.exists(), "the MCP server of the user's configuration was started");
}

#[test]
fn a_hostile_home_and_workspace_leak_nothing() {
    let Some((setup, upstream)) = real() else { return };
    nothing_leaks(setup, &upstream);
}

#[test]
fn a_hostile_home_and_workspace_leak_nothing_to_an_app_server_agent() {
    let Some((setup, upstream)) = real() else { return };
    nothing_leaks(setup.set("engine", "app-server").set("profile", "agent"), &upstream);
}

#[test]
fn a_hostile_home_and_workspace_leak_nothing_to_a_plain_model() {
    let Some((setup, upstream)) = real() else { return };
    nothing_leaks(setup.set("engine", "app-server").set("profile", "model"), &upstream);
}

fn nothing_leaks(setup: Setup, upstream: &Upstream) {
    let mark = hostile_home(&setup);
    let proxy = setup.start();
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
    assert_nothing_leaked(upstream, &mark);
}

/// Codex's databases lie in folders of ours, gone with the service; in a shared home they are the user's.
#[test]
fn codexs_own_log_does_not_stay() {
    for (engine, isolation) in
        [("exec", "strict"), ("app-server", "strict"), ("exec", "shared"), ("app-server", "shared")]
    {
        let Some((setup, _upstream)) = real() else { return };
        let scratch = setup.scratch().path().to_owned();
        // Of an earlier version.
        if isolation == "strict" {
            setup.scratch().write("home/.codex-api-proxy/codex-home/.codex-api-proxy", "");
            setup.scratch().write("home/.codex-api-proxy/codex-home/logs_2.sqlite", "old");
        }
        let mut proxy = setup.set("engine", engine).set("isolation", isolation).start();
        for _ in 0..3 {
            assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
        }
        let names = |folder: &str| {
            let entries =
                std::fs::read_dir(scratch.join("home").join(folder)).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let ours = || names(".codex-api-proxy/codex-databases");
        let logs = |folder: &str| names(folder).iter().any(|name| name.starts_with("logs_"));
        assert!(!logs(".codex-api-proxy/codex-home"), "{engine}");
        assert_eq!(logs(".codex"), isolation == "shared", "{engine}");
        match isolation {
            "strict" => {
                let folders = ours();
                assert_eq!(folders.len(), 1, "{engine}: one for all turns of exec, one for the worker");
                assert!(logs(&format!(".codex-api-proxy/codex-databases/{}", folders[0])), "{engine}");
            }
            _ => assert_eq!(ours(), [""; 0], "{engine}: in the user's own home, as ever"),
        }
        proxy.signal("TERM");
        proxy.wait_exit();
        assert_eq!(ours(), [""; 0], "{engine}");
    }
}

/// Services that share a state folder leave each other's databases alone; what one that died left
/// behind is removed by the next.
#[test]
fn databases_are_removed_if_nobody_uses_them() {
    let (setup, _fake) = Setup::fake("");
    let all = "home/.codex-api-proxy/codex-databases";
    for name in ["1-0", "1-1"] {
        setup.scratch().write(&format!("{all}/{name}/logs_2.sqlite"), "old");
    }
    for folder in ["home", "home/.codex-api-proxy", all] {
        let path = setup.scratch().dir(folder);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    let used = std::fs::File::open(setup.scratch().dir(&format!("{all}/1-1"))).unwrap();
    rustix::fs::flock(&used, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let proxy = setup.start();
    proxy.ask("hi").send().answer();
    let folder = proxy.scratch().dir(all);
    assert!(folder.join("1-1").is_dir() && !folder.join("1-0").exists());
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2, "its own and the other one's");
}

#[test]
fn what_is_put_into_the_isolated_home_is_cleared_away() {
    let Some((setup, upstream)) = real() else { return };
    let (codex, scratch) = (crate::support::require_codex().unwrap(), setup.scratch().path().to_owned());
    let home = scratch.join("home/.codex-api-proxy/codex-home");
    let proxy = setup.start();
    proxy.ask("hi").send().answer();
    assert!(home.is_dir());
    for (name, text) in [
        ("config.toml", "developer_instructions = \"LEAK\"\n"),
        ("AGENTS.md", "LEAK"),
        ("AGENTS.override.md", "LEAK"),
        ("prompts/x.md", "LEAK"),
        ("skills/evil/SKILL.md", "---\nname: LEAK\ndescription: LEAK\n---\nLEAK\n"),
    ] {
        let path = home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    // A second server on the same state: it clears the home at its start.
    let again = Setup::real(&codex, &upstream).set("app_server_codex_home", home.display()).start();
    assert_eq!(again.ask("Reply with exactly: pong").send().answer(), "pong");
    assert_nothing_leaked(&upstream, Path::new("/nonexistent"));
    assert!(!home.join("config.toml").exists() && !home.join("AGENTS.md").exists());
}

#[test]
fn a_model_that_tries_learns_no_secret() {
    let Some((setup, upstream)) = real() else { return };
    a_model_tries(setup, &upstream);
}

#[test]
fn a_model_that_tries_learns_no_secret_from_an_app_server() {
    let Some((setup, upstream)) = real() else { return };
    a_model_tries(setup.set("engine", "app-server").set("profile", "agent"), &upstream);
}

/// A model runs every command it can think of; nothing of the host comes back, nothing is written
/// and nothing is connected to.
fn a_model_tries(setup: Setup, upstream: &Upstream) {
    let scratch = setup.scratch();
    scratch.write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-LEAK-auth"}"#);
    scratch.write("home/.codex/config.toml", "# LEAK-config\n");
    scratch.write("home/.ssh/id_ed25519", "LEAK-ssh");
    scratch.write("outside.txt", "LEAK-outside");
    scratch.write("home/.codex-api-proxy/workspace/note.txt", "the workspace may be read");
    let root = scratch.path().display().to_string();
    let url = upstream.url();
    let network = url.trim_start_matches("http://").trim_end_matches("/v1").replace(':', "/");
    let commands = [
        "cat note.txt".to_owned(),
        "cat ~/.codex/auth.json".into(),
        "cat ~/.codex/config.toml".into(),
        "cat ~/.ssh/id_ed25519".into(),
        "cat $CODEX_HOME/auth.json; cat ~/.codex-api-proxy/codex-home/auth.json".into(),
        format!("cat {root}/outside.txt; cat {root}/home/.ssh/*"),
        "env; set".into(),
        "cat /proc/*/environ | tr '\\0' '\\n'".into(),
        "cat /proc/$PPID/environ /proc/self/environ /proc/1/environ".into(),
        "cat /proc/*/cmdline | tr '\\0' ' '".into(),
        "ls -la ..; cat ../codex-home/*".into(),
        "touch wrote-here; echo LEAK > ../wrote-outside; echo LEAK > ~/wrote-outside".into(),
        format!("bash -c 'exec 3<>/dev/tcp/{network} && printf LEAK-%s network'"),
    ];
    let mut replies: Vec<Reply> = commands
        .iter()
        .map(|command| Reply::call("exec_command", &serde_json::json!({ "cmd": command }).to_string()))
        .collect();
    replies.push(Reply::text("done"));
    upstream.when("try everything", replies);
    scratch.write("home/.profile", "echo LEAK-profile\n");
    scratch.write("home/.bash_profile", "echo LEAK-profile\n");
    let workspace = setup.workspace();
    let proxy = setup
        .env("CODEX_PROXY_API_KEY", "LEAK-proxy-key")
        .env("AWS_SECRET_ACCESS_KEY", "LEAK-aws")
        .env("CODEX_API_KEY", "sk-LEAK-codex-key")
        .start();
    let ask = proxy.chat(
        serde_json::json!({ "model": "gpt-5.5", "messages": [crate::support::user("try everything")] }),
    );
    assert_eq!(ask.key("LEAK-proxy-key").send().answer(), "done");
    let requests = upstream.requests();
    assert_eq!(requests.len(), commands.len() + 1);
    let outputs = requests.last().unwrap().tool_outputs();
    assert_eq!(outputs.len(), commands.len());
    assert!(outputs[0].contains("the workspace may be read"), "{}", outputs[0]);
    for (command, output) in commands.iter().zip(&outputs) {
        // The command itself may stand in a list of processes; the secrets may not.
        assert!(!output.replace("echo LEAK", "").contains("LEAK"), "{command}: {output}");
    }
    // The tools that need no shell.
    let home = proxy.scratch().path().join("home");
    let picture = serde_json::json!({ "path": home.join(".ssh/id_ed25519") }).to_string();
    let patch = "*** Begin Patch\n*** Add File: wrote-patch\n+x\n*** End Patch";
    let tries =
        [Reply::call("view_image", &picture), Reply::nothing().then_custom_call("apply_patch", patch)];
    upstream.when("go on", tries.into_iter().chain([Reply::text("done")]));
    let ask =
        proxy.chat(serde_json::json!({ "model": "gpt-5.5", "messages": [crate::support::user("go on")] }));
    assert_eq!(ask.key("LEAK-proxy-key").send().answer(), "done");
    let last = upstream.requests().pop().unwrap();
    assert!(!last.text().contains("LEAK") && last.images().is_empty(), "{}", last.text());
    for written in [
        workspace.join("wrote-here"),
        workspace.join("wrote-patch"),
        workspace.with_file_name("wrote-outside"),
        home.join("wrote-outside"),
    ] {
        assert!(!written.exists(), "{} was written", written.display());
    }
}

/// The directory the client asked for is where an agent works and reads, and no other.
#[test]
fn an_app_server_agent_works_where_it_is_told() {
    let Some((setup, upstream)) = real() else { return };
    let scratch = setup.scratch();
    scratch.write("work/here/note.txt", "the note");
    scratch.write("work/there/note.txt", "LEAK");
    scratch.write("home/.codex-api-proxy/workspace/note.txt", "the workspace");
    let roots = format!("{}:{}", scratch.dir("work").display(), setup.workspace().display());
    let here = scratch.path().join("work/here");
    let proxy = setup
        .set("engine", "app-server")
        .set("profile", "agent")
        .set("prewarm", 1)
        .env("CODEX_PROXY_ALLOWED_ROOTS", &roots)
        .start();
    for (cwd, expect) in [(Some(&here), "the note"), (None, "the workspace"), (Some(&here), "the note")] {
        upstream.reply(Reply::call("exec_command", r#"{"cmd":"pwd; cat note.txt; cat ../there/note.txt"}"#));
        upstream.reply(Reply::text("done"));
        let mut body = serde_json::json!({ "model": "gpt-5.5", "messages": [crate::support::user("look")] });
        if let Some(cwd) = cwd {
            body["metadata"] = serde_json::json!({ "cwd": cwd });
        }
        assert_eq!(proxy.chat(body).send().answer(), "done");
        let output = upstream.requests().last().unwrap().tool_outputs().pop().unwrap();
        assert!(output.contains(expect) && !output.contains("LEAK"), "{output}");
    }
}

/// The directory was checked and then replaced by a link while the request waited for its slot:
/// itself, or one above it.
#[test]
fn a_directory_swapped_while_queued_shows_nothing_else() {
    for (cwd, swapped) in [("work/c", "work/c"), ("work/a/b", "work/a")] {
        let Some((setup, upstream)) = real() else { return };
        let answer = swapped_while_queued(setup, &upstream, cwd, swapped);
        assert_eq!(answer.answer(), "done");
        let output = upstream.requests().last().unwrap().tool_outputs().pop().unwrap();
        assert!(output.contains("the note"), "{output}");
    }
}

#[test]
fn a_directory_swapped_while_queued_is_refused_by_an_app_server() {
    for (cwd, swapped) in [("work/c", "work/c"), ("work/a/b", "work/a")] {
        let Some((setup, upstream)) = real() else { return };
        let setup = setup.set("engine", "app-server").set("profile", "agent");
        let answer = swapped_while_queued(setup, &upstream, cwd, swapped);
        let message = answer.error(400, "invalid_request_error", "invalid_value");
        assert_eq!(message, "metadata.cwd was moved or replaced while the request waited.");
        assert_eq!(answer.json()["error"]["param"], "metadata.cwd");
        assert_eq!(upstream.requests().len(), 1, "nothing was asked of the upstream");
    }
}

fn swapped_while_queued(setup: Setup, upstream: &Upstream, cwd: &str, swapped: &str) -> Response {
    let scratch = setup.scratch().path().to_owned();
    for name in ["work/a/b", "work/c"] {
        setup.scratch().write(&format!("{name}/note.txt"), "the note");
    }
    setup.scratch().write("outside/note.txt", "LEAK");
    setup.scratch().write("outside/b/note.txt", "LEAK");
    let roots = format!("{}:{}", scratch.join("work").display(), setup.workspace().display());
    let proxy = setup.env("CODEX_PROXY_ALLOWED_ROOTS", &roots).start();
    upstream.when("FIRST-ONE", [Reply::hang().then_text(&["first"])]);
    let look = Reply::call("exec_command", r#"{"cmd":"pwd; cat note.txt"}"#);
    upstream.when("SECOND-ONE", [look, Reply::text("done")]);
    let body = serde_json::json!({
        "model": "gpt-5.5",
        "messages": [crate::support::user("SECOND-ONE")],
        "metadata": { "cwd": scratch.join(cwd) },
    });
    let answer = std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask("FIRST-ONE").send().answer());
        wait::until("the first runs", || upstream.requests().len() == 1);
        let second = scope.spawn(|| proxy.chat(body).send());
        wait::until("the second waits", || proxy.metrics()["turns_queued"] == 1);
        let swapped = scratch.join(swapped);
        std::fs::rename(&swapped, swapped.with_extension("moved")).unwrap();
        std::os::unix::fs::symlink(scratch.join("outside"), &swapped).unwrap();
        upstream.release();
        first.join().unwrap();
        second.join().unwrap()
    });
    assert!(upstream.requests().iter().all(|request| !request.text().contains("LEAK")));
    answer
}

#[test]
fn the_state_folder_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.start();
    proxy.ask("hi").send().answer();
    let state = proxy.scratch().path().join("home/.codex-api-proxy");
    let mut folders = vec![state];
    while let Some(folder) = folders.pop() {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && entry.file_name() != "skills" && entry.file_name() != "tmp" {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name() != "installation_id" {
                // (To that one Codex itself gives a mode of its own; the folder guards it.)
                assert_eq!(
                    entry.metadata().unwrap().permissions().mode() & 0o077,
                    0,
                    "{}",
                    entry.path().display()
                );
            }
        }
    }
}

#[test]
fn the_login_is_linked_and_never_copied() {
    let Some((setup, upstream)) = real() else { return };
    let login = setup.scratch().write("home/.codex/auth.json", r#"{"OPENAI_API_KEY":"sk-linked"}"#);
    let proxy = setup.start();
    proxy.ask("hi").send().answer();
    let link = proxy.scratch().path().join("home/.codex-api-proxy/codex-home/auth.json");
    assert_eq!(std::fs::read_link(&link).unwrap(), login);
    assert!(!proxy.log().contains("sk-linked"));
    assert!(!upstream.requests().is_empty());
}
