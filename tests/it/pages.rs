//! Everything that is read and not asked: models, health, readiness, metrics.

use serde_json::json;

use crate::support::{real, user};

#[test]
fn models_are_listed_with_ours_first() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.flag("model-aliases", "gpt-4o=gpt-5.5").start();
    let list = proxy.get("/v1/models").send();
    assert_eq!(list.status, 200);
    let list = list.json();
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(&ids[..2], ["codex-local", "gpt-4o"]);
    assert!(ids.contains(&"gpt-5.5"), "the CLI's own list: {ids:?}");
    for id in ids {
        let model = proxy.get(&format!("/v1/models/{id}")).send().json();
        assert_eq!((&model["id"], &model["object"]), (&json!(id), &json!("model")));
        assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
        // What `connect` tells clients is true of every model of this CLI.
        assert!(model["context_window"].as_u64() >= Some(272_000), "{model}");
        assert_eq!(model["context_window"], model["max_model_len"]);
        let path = format!("/v1/models/{id}");
        let theirs = proxy.get(&path).header("anthropic-version", "2023-06-01").send().json();
        assert_eq!(theirs["max_input_tokens"], model["context_window"], "{theirs}");
    }
    proxy.get("/v1/models/no-such").send().error(404, "invalid_request_error", "model_not_found");
}

#[test]
fn the_document_of_the_api_is_open_and_its_routes_are_there() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.env("CODEX_PROXY_API_KEY", "k").start();
    let answer = proxy.get("/openapi.json").send();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, item) in document["paths"].as_object().unwrap() {
        // What needs the key says so, and only that.
        let open = item["get"].is_object() && item["get"]["security"].is_null();
        let plain = path.replace(['{', '}'], "");
        let status = proxy.call(if item["get"].is_object() { "GET" } else { "POST" }, &plain).send().status;
        assert_eq!(status == 401, !open, "{path}: {status}");
    }
    proxy.call("POST", "/openapi.json").send().error(405, "invalid_request_error", "method_not_allowed");
}

#[test]
fn routes_are_tolerant_and_head_works() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.start();
    for path in [
        "/v1/models",
        "/v1/models/",
        "//v1//models",
        "/models",
        "/health",
        "/health/",
        "/ready",
        "/metrics",
        "/metrics/prometheus",
        "/",
        "/openapi.json",
        "/v1/models/codex-local",
    ] {
        let get = proxy.get(path).send();
        assert_eq!(get.status, 200, "{path}");
        let head = proxy.call("HEAD", path).send();
        assert_eq!((head.status, head.header("content-type")), (200, get.header("content-type")), "{path}");
    }
    for path in ["/v1/chat/completions/", "/chat/completions", "//v1/chat/completions"] {
        let body = json!({ "model": "codex-local", "messages": [user("Reply with exactly: pong")] });
        assert_eq!(proxy.call("POST", path).json(&body).send().answer(), "pong");
    }
}

#[test]
fn what_it_says_about_itself() {
    let Some((setup, _upstream)) = real() else { return };
    let proxy = setup.start();
    let health = proxy.get("/health").send().json();
    assert_eq!((&health["status"], &health["codex_available"]), (&json!("ok"), &json!(true)), "{health}");
    assert!(
        health["version"].is_string()
            && health["uptime_seconds"].is_number()
            && health["codex_bin"].is_string()
    );
    let ready = proxy.get("/ready").send().json();
    assert_eq!(
        (&ready["status"], &ready["engine"], &ready["app_server_pool_started"]),
        (&json!("ready"), &json!("exec"), &json!(false)),
        "{ready}"
    );
    assert!(ready["codex_version"].as_str().unwrap().contains("0.1"), "{ready}");
    proxy.ask("Reply with exactly: pong").send().answer();
    proxy.chat(json!({ "messages": [] })).send();
    let metrics = proxy.metrics();
    assert_eq!((&metrics["requests_ok"], &metrics["requests_error"]), (&json!(1), &json!(1)), "{metrics}");
    assert_eq!(metrics["errors_by_status"]["400"], 1, "{metrics}");
    assert_eq!((&metrics["engine"], &metrics["app_server_pool_started"]), (&json!("exec"), &json!(false)));
    let text = proxy.get("/metrics/prometheus").send().text();
    assert!(text.lines().any(|line| line.starts_with("# TYPE ")), "{text}");
    assert_eq!(
        proxy.get("/metrics").header("accept", "text/plain;version=0.0.4").send().text().lines().next(),
        text.lines().next()
    );
}
