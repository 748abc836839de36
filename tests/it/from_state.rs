//! `config init --from-state`: what the Python program saved becomes settings that hold.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{Ran, run};
use crate::support::Setup;

/// A state file of `tests/data/state`, as the user of this test would have it.
fn state(setup: &Setup, name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/state").join(name);
    let home = setup.scratch().dir("home").display().to_string();
    let text = std::fs::read_to_string(data).unwrap().replace("/home/me", &home);
    setup.scratch().write(&format!("old/{name}"), &text)
}

fn file(setup: &Setup) -> PathBuf {
    setup.scratch().path().join("config/codex-api-proxy/config.toml")
}

fn init(setup: &Setup, state: &Path) -> Ran {
    run(setup, &["config", "init", "--from-state", state.to_str().unwrap()])
}

/// Converts a state file, sees that the result holds, and gives the settings that are not at their
/// default, and what was said.
fn converted(setup: &Setup, name: &str) -> (Vec<(String, Value)>, Ran) {
    let ran = init(setup, &state(setup, name));
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let path = file(setup);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let checked = run(setup, &["config", "check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    let shown: Value = serde_json::from_str(&run(setup, &["config", "show", "--json"]).out).unwrap();
    let settings = shown["settings"].as_object().unwrap();
    let ours = settings.iter().filter(|(_, setting)| setting["origin"]["path"] == path.to_str().unwrap());
    (ours.map(|(key, setting)| (key.clone(), setting["value"].clone())).collect(), ran)
}

#[test]
fn every_setting_is_taken_and_no_secret_is_printed() {
    let (setup, _codex) = Setup::fake("");
    let (set, ran) = converted(&setup, "full.json");
    let home = setup.scratch().dir("home").display().to_string();
    let text = std::fs::read_to_string(file(&setup)).unwrap();
    let set: serde_json::Map<_, _> = set.into_iter().collect();
    for (key, value) in [
        ("host", "0.0.0.0".into()),
        ("port", 9000.into()),
        ("api_key", "***".into()),
        ("codex_bin", "/opt/codex/bin/codex".into()),
        ("model", "gpt-5.5".into()),
        ("ephemeral", false.into()),
        ("engine", "app-server".into()),
        ("workers", 4.into()),
        ("max_queue_size", 10.into()),
        ("queue_timeout_seconds", 12.5.into()),
        ("app_server_codex_home", format!("{home}/isolated").into()),
        ("default_cwd", format!("{home}/src/site").into()),
        ("allowed_roots", vec![format!("{home}/src"), "/srv/data".into()].into()),
        ("timeout_seconds", 600.into()),
        ("max_concurrency", 2.into()),
        ("log_level", Value::from("debug")),
    ] {
        assert_eq!(set.get(key), Some(&value), "{key}");
    }
    assert_eq!(set.len(), 18, "proxy and codex_configs too: {set:?}");
    for line in [
        "# TCP port to listen on, where 0 takes any free one.\n# port = 8765\nport = 9000\n",
        "api_key = \"local-secret\"\n",
        "proxy = \"http://me:pa55word@127.0.0.1:8118\"\n",
        "experimental_bearer_token",
        "# max_connections = 1024\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    for part in [
        "Taken from",
        "  port = 9000\n",
        "  api_key = \"***\"\n",
        "pid_file: the service manager",
        "kill $(cat '",
        "log_file: the log is in the journal",
        "codex-api-proxy doctor",
    ] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    for secret in ["local-secret", "pa55word", "t0ken"] {
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{}{}", ran.out, ran.err);
    }
}

#[test]
fn defaults_stay_defaults() {
    let (setup, _codex) = Setup::fake("");
    let (set, ran) = converted(&setup, "defaults.json");
    assert_eq!(set, []);
    let example = run(&setup, &["generate", "config"]).out;
    assert_eq!(std::fs::read_to_string(file(&setup)).unwrap(), example);
    assert!(
        ran.out.contains("At their default, so not set:\n  host, port, api_key, codex_bin"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("Taken from"), "{}", ran.out);

    let (setup, _codex) = Setup::fake("");
    let (set, ran) = converted(&setup, "minimal.json");
    assert_eq!(set, [("port".to_owned(), 8800.into())]);
    assert!(!ran.out.contains("At their default") && !ran.out.contains("Worth knowing"), "{}", ran.out);
}

#[test]
fn what_would_mean_something_else_here_is_left_out_and_said() {
    let (setup, _codex) = Setup::fake("");
    let home = setup.scratch().dir("home").display().to_string();
    let (set, ran) = converted(&setup, "odd.json");
    let set: serde_json::Map<_, _> = set.into_iter().collect();
    let roots = vec!["/srv/data".to_owned(), format!("{home}/.codex-api-proxy/workspace")];
    assert_eq!(Value::from(set), serde_json::json!({ "fast": true, "allowed_roots": roots }));
    for part in [
        "codex_bin: \"./node_modules/.bin/codex\" left out: nobody knows",
        "codex_configs: model_reasoning_effort=\"low\" is what fast = true stands for",
        "max_queue_size: 3 left out: with engine = exec it had no effect there",
        "queue_timeout_seconds: 5 left out: with engine = exec",
        "app_server_codex_home: \"codex-home\" left out",
        &format!("default_cwd: {home} left out: Codex could read your whole home directory"),
        &format!("allowed_roots: {home}/.codex-api-proxy/workspace added"),
        "version: unknown, left out",
        "started_at: unknown, left out",
    ] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }

    let (setup, _codex) = Setup::fake("");
    let (set, ran) = converted(&setup, "relative.json");
    assert_eq!(set, [("log_level".to_owned(), "warn".into())]);
    assert!(
        ran.out.contains("default_cwd: \".\" left out")
            && ran.out.contains("allowed_roots: [\".\",\"/srv/data\"] left out"),
        "{}",
        ran.out
    );
}

#[test]
fn what_is_no_state_file_is_refused_and_nothing_is_written() {
    let (setup, _codex) = Setup::fake("");
    for (name, parts) in [
        ("cut.json", &["no JSON", "not a state file"][..]),
        ("list.json", &["no JSON object", "not a state file"]),
        ("foreign.json", &["no setting in it"]),
        (
            "wrong-types.json",
            &[
                "port must be a whole number from 0 to 65535, not `\"many\"`",
                "workers must be a whole number from 1 to 256, not `0`",
                "timeout_seconds must be a number of seconds",
                "engine must be one of exec, app-server, not `steam`",
                "ephemeral must be",
                "api_key must be text in quotes (the value is not shown)",
                "codex_configs must be",
                "allowed_roots must be",
                "model must be",
            ],
        ),
    ] {
        let path = state(&setup, name);
        let ran = init(&setup, &path);
        assert_eq!(ran.code, Some(78), "{name}: {}", ran.err);
        for part in parts {
            assert!(ran.err.contains(part), "{part} in {}", ran.err);
        }
        let lines: Vec<&str> = ran.err.lines().collect();
        let named = format!("error: {}: ", path.display());
        assert!(lines.iter().all(|line| line.starts_with(&named)), "{}", ran.err);
        assert!(name != "wrong-types.json" || lines.len() == parts.len(), "{}", ran.err);
        assert!(!ran.err.contains("hunter2") && !file(&setup).exists());
    }
    let ran = init(&setup, Path::new("/no/such/state.json"));
    assert!(ran.code == Some(1) && ran.err.contains("/no/such/state.json: does not exist"), "{}", ran.err);
}

#[test]
fn an_existing_file_and_the_old_home_are_left_alone() {
    let (setup, _codex) = Setup::fake("");
    let mine = setup.scratch().write("config/codex-api-proxy/config.toml", "# mine\n");
    let old = state(&setup, "minimal.json");
    let ran = init(&setup, &old);
    assert!(ran.code == Some(1) && ran.err.contains("exists already; --force replaces it"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "# mine\n");

    // A later layer, and the isolated home that the Python program filled.
    setup.scratch().write("config/codex-api-proxy/config.d/50-start.toml", "port = 1234\n");
    let isolated = setup.scratch().write("home/.codex-api-proxy/codex-home/history.jsonl", "");
    let ran = run(&setup, &["config", "init", "--force", "--from-state", old.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(std::fs::read_to_string(&mine).unwrap().contains("\nport = 8800\n"));
    for part in ["port is set by", "50-start.toml", "move it away: mv"] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
    assert!(isolated.exists());
}
