//! Keys: who has one may ask, who has none learns only that the server lives.

use serde_json::json;

use crate::support::Setup;

#[test]
fn a_key_is_required_and_any_of_them_will_do() {
    let (setup, fake) = Setup::fake("start\nanswer pong\ndone");
    let file = setup.scratch().write("keys", "# ours\nfile-key-1\n\n  file-key-2  \n");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let proxy = setup.env("CODEX_PROXY_API_KEY", "env-key").set("api_key_file", file.display()).start();
    for call in [proxy.ask("hi"), proxy.get("/v1/models"), proxy.get("/v1/models/codex-local")] {
        let answer = call.send();
        answer.error(401, "invalid_request_error", "invalid_api_key");
    }
    for wrong in ["env-ke", "env-key2", "", "file-key-3", "# ours", "ENV-KEY"] {
        let message =
            proxy.ask("hi").key(wrong).send().error(401, "invalid_request_error", "invalid_api_key");
        assert!(!message.contains("env-key"), "{message}");
    }
    proxy.ask("hi").header("authorization", "Basic env-key").send().error(
        401,
        "invalid_request_error",
        "invalid_api_key",
    );
    assert_eq!(fake.turns().len(), 0);
    for right in ["env-key", "file-key-1", "file-key-2"] {
        assert_eq!(proxy.ask("hi").key(right).send().answer(), "pong");
    }
    assert_eq!(proxy.ask("hi").header("authorization", "bearer env-key").send().answer(), "pong");
    // The key is checked before the body is looked at, and after route and method.
    proxy.call("POST", "/v1/chat/completions").body("nonsense").send().error(
        401,
        "invalid_request_error",
        "invalid_api_key",
    );
    proxy.get("/v1/nothing").send().error(404, "invalid_request_error", "not_found");
    proxy.get("/v1/chat/completions").send().error(405, "invalid_request_error", "method_not_allowed");
    assert!(!proxy.log().contains("env-key") && !proxy.log().contains("file-key"), "no key in the log");
}

#[test]
fn without_the_key_the_open_routes_say_little() {
    let (setup, _fake) = Setup::fake("");
    let proxy = setup.env("CODEX_PROXY_API_KEY", "env-key").start();
    for path in ["/health", "/ready", "/metrics"] {
        let answer = proxy.get(path).send();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let body = answer.json();
        assert!(body["status"].is_string(), "{body}");
        for key in ["codex_bin", "login", "codex_version", "tokens", "requests_total", "isolation"] {
            assert_eq!(body.get(key), None, "{path}: {body}");
        }
        let full = proxy.get(path).key("env-key").send().json();
        assert!(full.as_object().unwrap().len() > body.as_object().unwrap().len(), "{path}: {full}");
    }
    assert_eq!(proxy.get("/ready").key("env-key").send().json()["engine"], json!("exec"));
}

#[test]
fn codex_never_sees_the_key() {
    let (setup, fake) = Setup::fake("start\nanswer pong\ndone");
    let proxy =
        setup.env("CODEX_PROXY_API_KEY", "env-key").env("AWS_SECRET_ACCESS_KEY", "aws-secret").start();
    proxy.ask("hi").key("env-key").send().answer();
    for call in fake.calls() {
        let text = call.to_string();
        assert!(!text.contains("env-key") && !text.contains("aws-secret"), "{text}");
    }
    assert!(!fake.turns().is_empty());
}

#[test]
fn an_empty_key_file_is_refused() {
    let (setup, _fake) = Setup::fake("");
    let file = setup.scratch().write("keys", "# none yet\n\n");
    let flag = format!("--api-key-file={}", file.display());
    let output = setup.command(&["serve", "--port=0", &flag]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("api_key_file") && text.contains(file.to_str().unwrap()), "{text}");
}
