//! The verbs as a person types them, against a service manager of sorts.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::fake_codex::FakeCodex;
use crate::support::fake_systemd::FakeSystemd;
use crate::support::{Reply, Setup, real};

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn says(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        for part in parts {
            assert!(
                self.out.contains(part) || self.err.contains(part),
                "{part:?} in {}{}",
                self.out,
                self.err
            );
        }
    }
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

struct Machine {
    // First, so that it is dropped while the folder with its notes is still there.
    systemd: FakeSystemd,
    setup: Setup,
    codex: FakeCodex,
}

impl Machine {
    fn new() -> Machine {
        let (setup, codex) = Setup::fake("start\nanswer pong\ndone");
        let (setup, systemd) = FakeSystemd::install(setup);
        Machine { systemd, setup, codex }
    }

    fn run(&self, line: &str) -> Ran {
        run(&self.setup, line)
    }

    /// `start` with this machine's Codex on that port.
    fn start(&self, port: u16, more: &str) -> Ran {
        self.run(&format!("start --codex-bin {} --port {port} {more}", self.codex.path().display()))
    }

    fn managed(&self) -> PathBuf {
        self.setup.scratch().path().join("config/codex-api-proxy/config.d/50-start.toml")
    }

    fn saved(&self) -> String {
        std::fs::read_to_string(self.managed()).unwrap_or_default()
    }
}

fn run(setup: &Setup, line: &str) -> Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = setup.command(&words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_life_from_install_to_uninstall() {
    let machine = Machine::new();
    let port = free_port();
    machine.run("status").says(4, &["not installed", "codex-api-proxy start"]);
    machine.run("stop").says(0, &["nothing to stop"]);

    let started =
        machine.start(port, "--api-key s3cret --fast --codex-config a=1 --codex-config b=2 --pid-file x");
    let url = format!("http://127.0.0.1:{port}/v1");
    started.says(
        0,
        &["50-start.toml", &url, "running (process", "***", "systemctl --user enable", "enable-linger"],
    );
    started.says(0, &["--pid-file has no effect"]);
    assert!(!started.out.contains("s3cret") && !started.err.contains("s3cret"), "{}", started.out);
    assert_eq!(machine.managed().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let saved = machine.saved();
    for line in
        [format!("port = {port}"), "api_key = \"s3cret\"".into(), "codex_configs = [\"a=1\", \"b=2\"]".into()]
    {
        assert!(saved.contains(&line), "{line} in {saved}");
    }
    assert_eq!(machine.systemd.calls(), ["--user daemon-reload", "--user start codex-api-proxy.service"]);

    machine.start(port, "--port 1").says(0, &["already running", "nothing was changed", "restart"]);
    assert_eq!(machine.saved(), saved, "nothing was changed");

    machine.run("status").says(
        0,
        &[
            "running",
            &url,
            "ready      yes",
            "0 running, 0 queued",
            "no input tokens",
            "today      0 requests",
            "hint       to point a client here",
        ],
    );
    let shown = machine.run("status --verbose --json");
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!((&shown["ready"], &shown["urls"][0]), (&true.into(), &url.as_str().into()), "{shown}");
    assert_eq!(shown["listening"][0], format!("127.0.0.1:{port}"));
    assert_eq!(shown["settings"]["fast"]["value"], true);

    machine.run("restart --codex-config c=3").says(0, &["was restarted and is running", &url]);
    let saved = machine.saved();
    assert!(saved.contains("codex_configs = [\"c=3\"]") && saved.contains("fast = true"), "{saved}");
    machine.run("logs -f -- -o json").says(0, &["listening on"]);
    assert!(machine.systemd.all_calls().contains("journalctl --user -u codex-api-proxy -f -o json"));

    machine.run("stop --pid-file x").says(0, &["is stopped", "--pid-file has no effect"]);
    assert!(!machine.systemd.runs());
    machine.run("stop").says(0, &["is not running"]);
    machine.run("status").says(3, &["stopped", "codex-api-proxy start"]);
    machine.run("restart").says(0, &["was not running", &url]);
    machine.run("uninstall").says(0, &["Removed", "codex-api-proxy.service", "Kept"]);
    assert!(!machine.systemd.runs());
    machine.run("status").says(4, &[]);
}

#[test]
fn what_does_not_come_up_leaves_everything_as_it_was() {
    let machine = Machine::new();
    let port = free_port();
    let failed = machine.run(&format!("start --port {port} --codex-bin /no/such/codex"));
    failed.says(1, &["did not become ready", "last log lines", "No settings were saved"]);
    assert!(!machine.managed().exists() && !machine.systemd.runs());

    machine.start(port, "").says(0, &[]);
    let good = machine.saved();
    let failed = machine.run("restart --codex-bin /no/such/codex");
    failed.says(1, &["did not become ready", "The previous settings are back, and the service was started"]);
    assert_eq!(machine.saved(), good);
    machine.run("status").says(0, &["ready      yes"]);
    machine.run("stop").says(0, &[]);

    machine.systemd.set("refuses", "");
    machine
        .start(port, "--fast")
        .says(1, &["Job for codex-api-proxy.service failed", "previously saved settings are back"]);
    assert_eq!(machine.saved(), good);
    machine.setup.scratch().write("config/codex-api-proxy/config.toml", "prot = 1\n");
    machine.start(port, "").says(78, &["prot", "config.toml"]);
    assert_eq!(machine.saved(), good);
    // Settings that cannot be saved: said once, and nothing to put back.
    let folder = machine.managed().with_file_name("");
    std::fs::remove_file(machine.managed()).unwrap();
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(folder.parent().unwrap().join("config.d"), "").unwrap();
    let refused = machine.start(port, "");
    refused.says(1, &["50-start.toml", "Not a directory"]);
    assert_eq!(refused.err.matches("Not a directory").count(), 1, "{}", refused.err);
}

#[test]
fn wrong_words_are_refused_before_anything_is_written() {
    let machine = Machine::new();
    for (line, code, part) in [
        ("start --port many", 64, "--port"),
        ("start --prot 1", 64, "--port"),
        ("start --config x.toml", 64, "--config is for serve"),
        ("restart --workers 0", 64, "--workers"),
    ] {
        machine.run(line).says(code, &[part]);
        assert!(!machine.managed().exists(), "{line}");
    }
    assert_eq!(machine.systemd.calls().len(), 0);
}

#[test]
fn units_that_cannot_start_are_explained() {
    let machine = Machine::new();
    machine.systemd.set("state", "LoadState=masked\nActiveState=inactive\n");
    machine.run("start").says(1, &["masked", "systemctl --user unmask"]);
    machine.run("status").says(3, &["masked", "unmask"]);
    machine.systemd.set("log", "settings: port must be a number\n");
    machine
        .systemd
        .set("state", "LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=78\n");
    machine
        .run("status")
        .says(3, &["failed", "settings are wrong", "port must be a number", "codex-api-proxy start"]);
    machine.run("doctor").says(1, &["FAIL  service", "settings are wrong"]);
}

#[test]
fn doctor_answers_programs_in_one_document() {
    let Machine { systemd, setup, codex } = Machine::new();
    // Named for the service, and gone; this shell has another.
    let folder = codex.path().parent().unwrap().display().to_string();
    let path = format!("{}:{folder}:/usr/bin:/bin", setup.scratch().dir("manager").display());
    let machine = Machine { systemd, setup: setup.env("PATH", &path), codex };
    let run = |line: &str| {
        let ran = machine.run(line);
        let document: Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
        (ran.code, document)
    };
    let of = |document: &Value, subject: &str| {
        let findings = document["findings"].as_array().unwrap().iter();
        findings.filter(|finding| finding["subject"] == subject).cloned().collect::<Vec<_>>()
    };
    machine.run(&format!("config set port {}", free_port())).says(0, &[]);
    machine.run("config set codex_bin /gone/codex").says(0, &[]);
    let (code, document) = run("doctor --json");
    assert_eq!((code, &document["ok"]), (Some(1), &json!(false)), "{document}");
    let text =
        format!("codex_bin = /gone/codex is no program that can be run; your shell finds {folder}/codex");
    let fix = format!("codex-api-proxy restart --codex-bin {folder}/codex saves it");
    let expect = json!({ "verdict": "broken", "subject": "codex", "text": text, "fixes": [fix] });
    assert_eq!(of(&document, "codex"), [expect]);
    let lingering = &of(&document, "lingering")[0];
    assert_eq!(
        (&lingering["verdict"], &lingering["fixes"]),
        (&json!("mind"), &json!(["loginctl enable-linger"]))
    );
    // Mended, nothing is broken, and --live adds to the same document.
    machine.run(&format!("config set codex_bin {folder}/codex")).says(0, &[]);
    let (code, document) = run("doctor --json --live");
    let broken = document["findings"].as_array().unwrap().iter().filter(|one| one["verdict"] == "broken");
    assert_eq!(
        (code == Some(0), &document["ok"]),
        (broken.count() == 0, &json!(code == Some(0))),
        "{document}"
    );
    assert_eq!(of(&document, "live").len(), 1, "{document}");
}

#[test]
fn an_empty_journal_is_none() {
    let (setup, _codex) = Setup::fake("");
    let script = "#!/bin/sh\ncase \"$*\" in *--header*) echo 'No journal files were found.' >&2 ;; esac\n";
    let program = setup.scratch().write("viewer/journalctl", script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let setup = setup.env("PATH", program.parent().unwrap().to_str().unwrap());
    for line in ["usage", "usage --json", "usage --since 7d --by day"] {
        let ran = run(&setup, line);
        ran.says(1, &["There is no journal on this machine", "/metrics"]);
        assert_eq!(ran.out, "", "{line}");
    }
}

/// A server that answers every request so, until the test ends.
fn server(body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let asked = stream.read(&mut head).unwrap_or(0);
            let found = head[..asked].starts_with(b"GET /health");
            let (status, body) = if found { ("200 OK", body) } else { ("404 Not Found", "{}") };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    port
}

#[test]
fn whoever_holds_the_port_is_named() {
    let machine = Machine::new();
    let python = server(r#"{"status":"ok","codex_available":true,"codex_bin":"codex"}"#);
    machine.start(python, "").says(1, &["Python program", "codex-api-proxy stop", "No settings were saved"]);
    let other = server(r#"{"status":"ok"}"#);
    let pid = std::process::id().to_string();
    machine.start(other, "").says(1, &["another program", &pid, "--port"]);
    assert!(!machine.systemd.calls().iter().any(|call| call.contains("start codex")), "nothing was started");
    // A service that runs is not disturbed by the wish for a port that is not to be had.
    machine.start(free_port(), "").says(0, &["is running"]);
    let (saved, calls) = (machine.saved(), machine.systemd.calls());
    let refused = machine.run(&format!("restart --port {other}"));
    refused.says(1, &["another program", &pid, "previously saved settings are back"]);
    assert_eq!((machine.saved(), machine.systemd.calls()), (saved, calls));
}

#[test]
fn what_only_this_shell_knows_is_saved() {
    let machine = Machine::new();
    let port = free_port();
    let path = std::env::var("PATH").unwrap();
    let folder = machine.codex.path().parent().unwrap().display().to_string();
    let manager = machine.setup.scratch().dir("manager").display().to_string();
    let login = machine.setup.scratch().dir("my-login").display().to_string();
    let Machine { systemd, setup, codex } = machine;
    let setup = setup
        .env("PATH", &format!("{manager}:{folder}:{path}"))
        .env("CODEX_HOME", &login)
        .env("CODEX_PROXY_PORT", &port.to_string())
        .env("CODEX_PROXY_MAX_QUEUE_SIZE", "7")
        .env("CODEX_PROXY_MAX_QUEUE_SIZES", "7");
    let machine = Machine { systemd, setup, codex };
    let started = machine.run("start --max-queue-size 8");
    started
        .says(0, &[&format!("{port}/v1"), "CODEX_PROXY_MAX_QUEUE_SIZES is not a setting and has no effect"]);
    let saved = machine.saved();
    for line in [
        format!("codex_bin = \"{folder}/codex\""),
        format!("login_home = \"{login}\""),
        format!("port = {port}"),
        "max_queue_size = 8".into(),
    ] {
        assert!(saved.contains(&line), "{line} in {saved}");
    }
}

#[test]
fn the_socket_unit_follows_host_and_port() {
    let machine = Machine::new();
    let (old, new) = (free_port(), free_port());
    let socket = format!(
        "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\nListen=127.0.0.1:{old} (Stream)\nListen=/run/x.sock (Stream)\n"
    );
    machine.systemd.set("socket", &socket);
    machine.start(new, "").says(0, &["running"]);
    let drop_in =
        machine.setup.scratch().path().join("config/systemd/user/codex-api-proxy.socket.d/50-start.conf");
    let text = std::fs::read_to_string(drop_in).unwrap();
    assert!(
        text.ends_with(&format!(
            "[Socket]\nListenStream=\nListenStream=127.0.0.1:{new}\nListenStream=/run/x.sock\n"
        )),
        "{text}"
    );
    let calls = machine.systemd.calls();
    let expect = ["--user daemon-reload", "--user stop codex-api-proxy.socket codex-api-proxy.service"];
    assert!(calls.windows(2).any(|pair| pair == expect), "{calls:?}");
    machine.run("status").says(0, &["codex-api-proxy.socket listens on", "have no effect"]);
}

#[test]
fn without_a_service_manager_serve_is_named() {
    let (setup, _codex) = Setup::fake("");
    let empty = setup.scratch().dir("empty");
    let setup = setup.env("PATH", empty.to_str().unwrap()).env("CODEX_PROXY_PORT", &free_port().to_string());
    for (line, code) in
        [("start", 1), ("restart", 1), ("stop", 1), ("logs", 1), ("install", 1), ("status", 4)]
    {
        run(&setup, line).says(code, &["no systemctl on PATH", "codex-api-proxy serve"]);
    }
    run(&setup, "usage").says(1, &["no journalctl on PATH"]);
    run(&setup, "doctor").says(1, &["no systemctl on PATH", "FAIL  codex", "npm install -g @openai/codex"]);
}

#[test]
fn a_server_in_the_foreground_is_named() {
    let (setup, _codex) = Setup::fake("");
    let empty = setup.scratch().dir("empty");
    let proxy = setup.start();
    let (pid, address) = (proxy.pid(), proxy.address());
    let parts = [
        format!("serve runs on {address}, process {pid}, and is ready"),
        format!("curl http://{address}/ready; to end it: kill {pid}"),
    ];
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let port = address.port().to_string();
    // Beside a service that is not installed, and where there can be none.
    let machine = Machine::new();
    machine.run(&format!("config set port {port}")).says(0, &[]);
    machine.run("status").says(4, &parts);
    let shown = machine.run("status --json").json();
    let expect = json!({ "pid": pid, "address": address.to_string(), "ready": true, "reason": null });
    assert_eq!((&shown["state"], &shown["servers"][0]), (&json!("not installed"), &expect));
    let looked = machine.run("doctor");
    assert!(looked.out.contains(&format!("held by codex-api-proxy serve (process {pid}")), "{}", looked.out);
    let (bare, _codex) = Setup::fake("");
    let bare = bare.env("PATH", empty.to_str().unwrap()).env("CODEX_PROXY_PORT", &port);
    run(&bare, "status").says(4, &["no systemctl on PATH"]);
    run(&bare, "status").says(4, &parts);
    assert_eq!(run(&bare, "status --json").json()["servers"][0], expect);
}

#[test]
fn packages_get_their_files_from_the_program() {
    let (setup, _codex) = Setup::fake("");
    let units = run(&setup, "generate units");
    units.says(0, &["#### systemd/user/codex-api-proxy.service", "ExecStart=/usr/bin/codex-api-proxy serve"]);
    let folder = setup.scratch().dir("package");
    run(&setup, &format!("generate units --output {}", folder.display())).says(0, &["launchd/"]);
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("systemd/user/codex-api-proxy.socket");
    let written = folder.join("systemd/user/codex-api-proxy.socket");
    assert_eq!(std::fs::read(written).unwrap(), std::fs::read(shipped).unwrap());
}

#[test]
fn files_of_others_are_left_alone() {
    let machine = Machine::new();
    let unit =
        machine.setup.scratch().write("config/systemd/user/codex-api-proxy.service", "# mine\n[Service]\n");
    machine.run("install").says(1, &["was not written by this program", "--force"]);
    machine.run("uninstall").says(0, &["nothing was removed"]);
    assert!(unit.exists());
    machine.run("install --force").says(0, &["Wrote", "Start it now", "enable-linger"]);
    machine.run("uninstall").says(0, &["Removed"]);
    assert!(!unit.exists());
}

#[test]
fn doctor_looks_at_everything_and_asks_the_real_codex() {
    let Some((setup, upstream)) = real() else { return };
    let (setup, _systemd) = FakeSystemd::install(setup);
    upstream.reply(Reply::text("pong").usage(1500, 0, 5, 0));
    upstream.reply(Reply::text("pong").usage(1600, 1408, 5, 0));
    let flags = setup.flags();
    let mut arguments = vec!["doctor", "--live"];
    let port = format!("--port={}", free_port());
    arguments.push(&port);
    arguments.extend(flags.iter().map(String::as_str));
    let output = setup.command(&arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "ok    settings",
        "ok    codex",
        "ok    version     0.",
        "ok    login       not needed",
        "ok    isolation   strict",
        " reads ",
        "is free",
        "warn  service     not installed",
        "warn  lingering",
        "ok    live        exec answered \"pong\"",
        "ok    cache       1408 of the second turn's 1600 input tokens were cached; the two turns took 3100 input \
         tokens (1408 cached) and 10 output tokens of your quota",
        "All that a turn needs is there.",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(output.status.success() && !text.contains('\x1b'), "{text}");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2, "two turns were spent");
    assert_eq!(requests[0].header("session-id"), requests[1].header("session-id"), "one conversation");
    upstream.reply(Reply::failed("server_error", "The model is asleep in /etc/x."));
    let output = setup.command(&arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("exec gave no answer: Codex failed to answer: "), "{text}");
    assert!(text.contains("The model is asleep in ***."), "{text}");
}

#[test]
fn doctor_tries_functions_as_an_item_where_workers_run() {
    for (last, part) in [
        (
            Reply::call("ping", "{}"),
            "ok    items       functions arrive as an item (tool_transport = \"items\")",
        ),
        (Reply::text("pong"), "warn  items       the model did not call a function that came as an item"),
        (
            Reply::status(400, json!({ "message": "Unknown item type.", "type": "invalid_request_error" })),
            "warn  items       a function as an item got no answer: ",
        ),
    ] {
        let Some((setup, upstream)) = real() else { return };
        let (setup, _systemd) = FakeSystemd::install(setup.set("engine", "app-server"));
        upstream.reply(Reply::text("pong").usage(1500, 0, 5, 0));
        upstream.reply(Reply::text("pong").usage(1600, 1408, 5, 0));
        upstream.reply(last);
        let flags = setup.flags();
        let port = format!("--port={}", free_port());
        let mut arguments = vec!["doctor", "--live", &port];
        arguments.extend(flags.iter().map(String::as_str));
        let output = setup.command(&arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(part), "{part:?} in {text}");
        let asked = upstream.requests();
        assert_eq!(asked.len(), 3);
        assert_eq!(asked[2].items()[0]["type"], "additional_tools", "{:?}", asked[2].items());
        assert!(asked[2].text().contains("ping"));
    }
}
