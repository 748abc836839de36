//! Settings as a person meets them: the commands, the messages, the exit statuses.

use std::process::Output;

use crate::support::Setup;

pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn run(setup: &Setup, arguments: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = setup.command(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

#[test]
fn a_wrong_file_is_refused_whole_and_named() {
    let (setup, _fake) = Setup::fake("");
    let file = setup.scratch().write(
        "config/codex-api-proxy/config.toml",
        "max_que_size = 3\nport = \"many\"\nengine = \"steam\"\n",
    );
    for command in [&["config", "check"][..], &["serve", "--port=0"]] {
        let ran = run(&setup, command);
        assert_eq!(ran.code, Some(78), "{}", ran.err);
        let text = ran.err + &ran.out;
        for part in [file.to_str().unwrap(), "max_que_size", "max_queue_size", "port", "engine", "app-server"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn every_layer_is_named_and_the_later_one_wins() {
    let (setup, _fake) = Setup::fake("");
    setup.scratch().write(
        "config/codex-api-proxy/config.toml",
        "port = 1001\nmax_queue_size = 11\ntimeout_seconds = 12.5\n",
    );
    let drop_in =
        setup.scratch().write("config/codex-api-proxy/config.d/50-more.toml", "max_queue_size = 22\n");
    let setup = setup
        .env("CODEX_PROXY_PORT", "1002")
        .env("CODEX_PROXY_API_KEY", "s3cret")
        .env("CODEX_PROXY_MODEL", "");
    let ran = run(&setup, &["config", "show"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let row = |key: &str| {
        ran.out
            .lines()
            .find(|line| line.split_whitespace().next() == Some(key))
            .unwrap_or_else(|| panic!("{key} in {}", ran.out))
    };
    assert!(row("port").contains("1002") && row("port").contains("CODEX_PROXY_PORT"), "{}", row("port"));
    assert!(
        row("max_queue_size").contains("22") && row("max_queue_size").contains(drop_in.to_str().unwrap())
    );
    assert!(row("timeout_seconds").contains("12.5"), "{}", row("timeout_seconds"));
    assert!(!ran.out.contains("s3cret") && row("api_key").contains("***"), "{}", row("api_key"));
    let json = run(&setup, &["config", "show", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert!(!json.to_string().contains("s3cret"));
}

#[test]
fn wrong_usage_is_64_and_names_the_nearest() {
    let (setup, _fake) = Setup::fake("");
    for (arguments, part) in [
        (&["serve", "--max-que-size=3"][..], "--max-queue-size"),
        (&["sevre"], "serve"),
        (&["serve", "--ephemeral=maybe"], "ephemeral"),
    ] {
        let ran = run(&setup, arguments);
        assert!(matches!(ran.code, Some(64 | 78)), "{arguments:?}: {:?} {}", ran.code, ran.err);
        assert!(ran.err.contains(part), "{}", ran.err);
    }
    let ran = run(&setup.env("CODEX_PROXY_MAX_QUE_SIZE", "3"), &["config", "check"]);
    assert_eq!(ran.code, Some(0), "an unknown variable is only warned about: {}", ran.err);
    assert!((ran.err + &ran.out).contains("CODEX_PROXY_MAX_QUE_SIZE"));
}

#[test]
fn set_and_unset_keep_the_comments() {
    let (setup, _fake) = Setup::fake("");
    let file = setup.scratch().write("config/codex-api-proxy/config.toml", "# mine\nport = 1001 # why\n");
    assert_eq!(run(&setup, &["config", "set", "max_queue_size", "7"]).code, Some(0));
    assert_eq!(run(&setup, &["config", "set", "port", "1002"]).code, Some(0));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("# mine") && text.contains("port = 1002 # why") && text.contains("max_queue_size = 7"),
        "{text}"
    );
    let ran = run(&setup, &["config", "set", "max_queue_size", "many"]);
    assert!(ran.code != Some(0) && ran.err.contains("max_queue_size"), "{}", ran.err);
    assert_eq!(run(&setup, &["config", "unset", "port"]).code, Some(0));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("port ="), "{text}");
}

#[test]
fn set_writes_nothing_that_the_check_refuses() {
    let (setup, _fake) = Setup::fake("");
    let file = setup.scratch().write("config/codex-api-proxy/config.toml", "port = 1001\n");
    let text = || std::fs::read_to_string(&file).unwrap();
    let set = |words: &[&str]| run(&setup, &[&["config", "set"], words].concat());
    // As the shell hands on the help's own example.
    let (src, data) = (setup.scratch().path().join("src"), setup.scratch().path().join("data"));
    let (src, data) = (src.to_str().unwrap(), data.to_str().unwrap());
    let ran = set(&["allowed_roots", src, data]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(run(&setup, &["config", "check"]).code, Some(0));
    let shown: serde_json::Value =
        serde_json::from_str(&run(&setup, &["config", "show", "--json"]).out).unwrap();
    assert_eq!(shown["settings"]["default_cwd"]["value"], src, "{shown}");

    let below_a_file = file.join("x");
    let below_a_file = below_a_file.to_str().unwrap();
    let before = text();
    let mend = "add it to these, or set default_cwd to a folder inside one of them";
    for (words, parts) in [
        (&["default_cwd", "/srv"][..], &["default_cwd /srv must be inside allowed_roots", mend][..]),
        (&["max_buffered_bytes", "1"], &["must be at least max_body_bytes"]),
        (&["api_key_file", "/no/such/keys"], &["api_key_file /no/such/keys does not exist"]),
        (&["allowed_users", "nobody-of-that-name"], &["there is no user `nobody-of-that-name`"]),
        (&["allowed_roots", below_a_file], &["cannot create default_cwd", "config.toml is not a folder"]),
    ] {
        let ran = set(words);
        assert_eq!(ran.code, Some(78), "{words:?}: {} {}", ran.out, ran.err);
        for part in parts.iter().chain(&[&*format!("{} is left as it was", words[0])]) {
            assert!(ran.err.contains(part), "{part} in {}", ran.err);
        }
        assert_eq!(text(), before, "{words:?}");
    }
    // What was refused already is said, and mended by what mends it.
    setup.scratch().write(
        "config/codex-api-proxy/config.toml",
        "max_buffered_bytes = 10\nmax_body_bytes = 20\nport = 1\n",
    );
    assert_eq!(set(&["port", "2"]).code, Some(78));
    assert_eq!(set(&["max_body_bytes", "10"]).code, Some(0));
    let before = text();
    let ran = run(&setup, &["config", "unset", "max_body_bytes"]);
    assert_eq!((ran.code, text()), (Some(78), before), "{}", ran.err);
    assert!(ran.err.contains("max_body_bytes is left as it was"), "{}", ran.err);
}

#[test]
fn settings_of_both_engines_reach_codex() {
    let (setup, fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup
        .flag("codex-config", r#"model_verbosity="low""#)
        .set("model", "gpt-5.5")
        .set("proxy", "http://user:pa55@127.0.0.1:8118")
        .set("pass_env", "MY_TOKEN")
        .env("MY_TOKEN", "passed")
        .env("OTHER_TOKEN", "not passed")
        .start();
    proxy.ask("hi").send().answer();
    let turn = &fake.turns()[0];
    let arguments: Vec<&str> =
        turn["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    for word in [
        "exec",
        "--json",
        "--skip-git-repo-check",
        "--ignore-user-config",
        "--ignore-rules",
        "--ephemeral",
        r#"model_verbosity="low""#,
        "gpt-5.5",
    ] {
        assert!(arguments.iter().any(|argument| argument.contains(word)), "{word} in {arguments:?}");
    }
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"] {
        assert_eq!(turn["env"][name], "http://user:pa55@127.0.0.1:8118", "{name}");
    }
    assert_eq!((&turn["env"]["MY_TOKEN"], turn["env"].get("OTHER_TOKEN")), (&"passed".into(), None));
    assert!(!proxy.log().contains("pa55"), "no password in the log");
    // Nothing of the environment but what is named.
    let allowed = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CODEX_CA_CERTIFICATE",
        "CODEX_HOME",
        "CODEX_API_KEY",
        // Fixed by us, for Codex itself alone: no repository of the workspace is its own.
        "GIT_DIR",
        "RUST_LOG",
        "MY_TOKEN",
    ];
    for name in turn["env"].as_object().unwrap().keys() {
        let known = allowed.contains(&name.as_str())
            || name.starts_with("LC_")
            || name.to_lowercase().ends_with("_proxy");
        assert!(known, "{name} is handed to Codex");
    }
}

#[test]
fn the_operators_weakening_is_named() {
    let (setup, fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy = setup.flag("codex-config", r#"sandbox_mode="danger-full-access""#).start();
    assert!(proxy.log().contains("sandbox_mode"), "{}", proxy.log());
    proxy.ask("hi").send().answer();
    assert!(fake.turns()[0]["args"].to_string().contains("danger-full-access"), "the operator's word wins");
}

#[test]
fn a_foreign_folder_is_never_taken_for_the_isolated_home() {
    let (setup, fake) = Setup::fake("start\nanswer pong\ndone");
    let home = setup.scratch().dir("precious");
    setup.scratch().write("precious/notes.txt", "mine");
    let proxy = setup.set("app_server_codex_home", home.display()).start_unready();
    let message = proxy.ask("hi").send().error(503, "server_error", "misconfigured");
    assert!(!message.contains("precious"), "no host path: {message}");
    assert_eq!(std::fs::read_to_string(home.join("notes.txt")).unwrap(), "mine");
    assert_eq!((std::fs::read_dir(&home).unwrap().count(), fake.turns().len()), (1, 0));
}
