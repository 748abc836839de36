//! Whatever is sent, the answer is the right status in the right envelope, and nothing is spawned.

use serde_json::{Value, json};

use crate::chat::PNG;
use crate::support::fake_codex::FakeCodex;
use crate::support::proxy::Proxy;
use crate::support::{Response, Setup, user};

pub fn start(setup: impl FnOnce(Setup) -> Setup) -> (Proxy, FakeCodex) {
    let (base, fake) = Setup::fake("start\nanswer pong\ndone");
    (setup(base).start(), fake)
}

/// Nothing was spawned, no place is taken, and the server still answers.
pub fn unharmed(proxy: &Proxy, fake: &FakeCodex) {
    assert_eq!(fake.turns().len(), 0, "nothing was spawned");
    let metrics = proxy.metrics();
    assert_eq!(
        (&metrics["turns_running"], &metrics["turns_queued"], &metrics["requests_in_flight"]),
        (&json!(0), &json!(0), &json!(0)),
        "{metrics}"
    );
    assert_eq!(proxy.ask("hi").send().answer(), "pong");
}

fn post(proxy: &Proxy, body: impl Into<Vec<u8>>) -> Response {
    proxy.call("POST", "/v1/chat/completions").header("content-type", "application/json").body(body).send()
}

#[test]
fn each_wrong_field_is_named() {
    let (proxy, fake) = start(|setup| setup);
    let hi = || user("hi");
    // A field on top of a good request; `messages` and `model` replace the good ones.
    let part = |part: Value| json!([{ "role": "user", "content": [part] }]);
    let image = |url: &str| json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": url } }] }]);
    let rows: Vec<(&str, Value, &str)> = vec![
        ("model", json!(null), "model"),
        ("model", json!(7), "model"),
        ("model", json!(""), "model"),
        ("model", json!("-m"), "model"),
        ("model", json!("a b"), "model"),
        ("model", json!("a\u{0}b"), "model"),
        ("model", json!("m".repeat(129)), "model"),
        ("messages", json!(null), "messages"),
        ("messages", json!([]), "messages"),
        ("messages", json!({}), "messages"),
        ("messages", json!("hi"), "messages"),
        ("messages", json!(["hi"]), "messages[0]"),
        ("messages", json!([hi(), null]), "messages[1]"),
        ("messages", json!([hi(), { "content": "x" }]), "messages[1].role"),
        ("messages", json!([{ "role": "wizard", "content": "x" }]), "messages[0].role"),
        ("messages", json!([{ "role": 7, "content": "x" }]), "messages[0].role"),
        ("messages", json!([{ "role": "user" }]), "messages[0].content"),
        ("messages", json!([{ "role": "user", "content": null }]), "messages[0].content"),
        ("messages", json!([{ "role": "user", "content": 7 }]), "messages[0].content"),
        ("messages", json!([{ "role": "user", "content": { "text": "x" } }]), "messages[0].content"),
        ("messages", part(json!("x")), "messages[0].content[0]"),
        ("messages", part(json!({ "text": "x" })), "messages[0].content[0].type"),
        ("messages", part(json!({ "type": "hologram" })), "messages[0].content[0].type"),
        ("messages", part(json!({ "type": "text", "text": 7 })), "messages[0].content[0].text"),
        (
            "messages",
            part(json!({ "type": "image_url", "image_url": 7 })),
            "messages[0].content[0].image_url",
        ),
        ("messages", image("https://example.com/x.png"), "messages[0].content[0].image_url.url"),
        ("messages", image("file:///etc/passwd"), "messages[0].content[0].image_url.url"),
        ("messages", image("data:image/png;base64,%%%"), "messages[0].content[0].image_url.url"),
        ("messages", image("data:text/html;base64,PGI+"), "messages[0].content[0].image_url.url"),
        ("messages", image(&PNG[..PNG.len() - 3]), "messages[0].content[0].image_url.url"),
        ("stream", json!("yes"), "stream"),
        ("stream_options", json!(7), "stream_options"),
        ("stream_options", json!({ "include_usage": "yes" }), "stream_options.include_usage"),
        ("n", json!(0), "n"),
        ("n", json!(9), "n"),
        ("n", json!(-1), "n"),
        ("n", json!(1.5), "n"),
        ("n", json!("2"), "n"),
        ("stop", json!(7), "stop"),
        ("stop", json!([7]), "stop[0]"),
        ("stop", json!(["a", "b", "c", "d", "e"]), "stop"),
        ("stop", json!("x".repeat(1025)), "stop"),
        ("stop", json!(["a", "x".repeat(1025)]), "stop[1]"),
        ("response_format", json!("json"), "response_format"),
        ("response_format", json!({ "type": "xml" }), "response_format.type"),
        ("response_format", json!({ "type": "json_schema" }), "response_format.json_schema"),
        (
            "response_format",
            json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": 7 } }),
            "response_format.json_schema.schema",
        ),
        ("reasoning_effort", json!("turbo"), "reasoning_effort"),
        ("reasoning_effort", json!(7), "reasoning_effort"),
        ("verbosity", json!("loud"), "verbosity"),
        ("service_tier", json!("gold"), "service_tier"),
        ("metadata", json!("x"), "metadata"),
        ("metadata", json!({ "cwd": 7 }), "metadata.cwd"),
        ("temperature", json!("hot"), "temperature"),
        ("top_p", json!([]), "top_p"),
        ("max_tokens", json!("10"), "max_tokens"),
        ("max_completion_tokens", json!(1.5), "max_completion_tokens"),
        ("seed", json!("x"), "seed"),
        ("user", json!(7), "user"),
        ("store", json!("x"), "store"),
        ("logit_bias", json!([]), "logit_bias"),
    ];
    let mut wrong = vec![];
    for (field, value, param) in rows {
        let mut body = json!({ "model": "codex-local", "messages": [hi()] });
        body["stream"] = json!(field == "stream_options");
        body[field] = value.clone();
        let answer = post(&proxy, body.to_string());
        let error = answer.json()["error"].clone();
        if (answer.status, error["type"].as_str(), error["param"].as_str())
            != (400, Some("invalid_request_error"), Some(param))
        {
            wrong.push(format!("{field}: {value} -> {} {error}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    unharmed(&proxy, &fake);
}

#[test]
fn what_this_engine_cannot_do_is_said() {
    let (proxy, fake) = start(|setup| setup);
    let tool =
        json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }]);
    let audio = json!([{ "role": "user", "content": [{ "type": "input_audio", "input_audio": { "data": "", "format": "wav" } }] }]);
    let file = json!([{ "role": "user", "content": [{ "type": "file", "file": { "file_id": "x" } }] }]);
    for (field, value) in [
        ("tools", tool.clone()),
        ("logprobs", json!(true)),
        ("modalities", json!(["text", "audio"])),
        ("functions", json!([{ "name": "f" }])),
        ("messages", audio),
        ("messages", file),
    ] {
        let mut body = json!({ "model": "codex-local", "messages": [user("hi")] });
        body[field] = value;
        let answer = post(&proxy, body.to_string());
        let message = answer.error(400, "invalid_request_error", "unsupported_parameter");
        assert!(answer.json()["error"]["param"].as_str().unwrap().starts_with(field), "{message}");
        if field == "tools" {
            assert!(message.contains("engine") && message.contains("app-server"), "{message}");
        }
    }
    // No tools asked for is no tools.
    for extra in [json!({ "tools": [] }), json!({ "tools": tool, "tool_choice": "none" })] {
        let mut body = json!({ "messages": [user("hi")] });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        assert_eq!(proxy.chat(body).send().answer(), "pong");
    }
    assert_eq!(fake.turns().len(), 2);
}

#[test]
fn what_is_no_json_object_is_said() {
    let (proxy, fake) = start(|setup| setup);
    let deep = |open: &str, close: &str| {
        format!("{{\"model\":\"x\",\"messages\":{}{}}}", open.repeat(100_000), close.repeat(100_000))
    };
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "no",
        "[]",
        "null",
        "7",
        "{",
        "{\"model\":\"x\"",
        "{} {}",
        "{\"model\":\"x\",\"messages\":[{]}",
    ]
    .iter()
    .map(|body| body.as_bytes().to_vec())
    .collect();
    bodies.push(deep("[", "]").into());
    bodies.push(deep("{\"a\":", "}").into());
    bodies.push(b"{\"model\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}".to_vec());
    bodies.push(b"\x00\x01\x02".to_vec());
    for body in bodies {
        let answer = post(&proxy, body.clone());
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        answer.error(400, "invalid_request_error", answer.json()["error"]["code"].as_str().unwrap());
    }
    unharmed(&proxy, &fake);
}

#[test]
fn working_folders_outside_are_refused_without_a_hint() {
    let (base, fake) = Setup::fake("start\nanswer pong\ndone");
    let root = base.workspace();
    let outside = base.scratch().dir("outside");
    std::fs::create_dir_all(root.join("inside")).unwrap();
    std::fs::create_dir_all(root.with_file_name("workspace-sibling")).unwrap();
    std::fs::write(root.join("file"), "").unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    let proxy = base.start();
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let mut messages = std::collections::BTreeSet::new();
    for cwd in [
        text(outside.clone()),
        text(root.join("..")),
        text(root.join("inside/../../..")),
        text(root.with_file_name("workspace-sibling")),
        text(root.join("link")),
        text(root.join("link/..")),
        text(root.join("file")),
        text(root.join("missing")),
        "/".into(),
        "/nonexistent".into(),
        "..".into(),
    ] {
        let answer = proxy.chat(json!({ "messages": [user("hi")], "metadata": { "cwd": cwd } })).send();
        messages.insert(answer.error(400, "invalid_request_error", "invalid_value"));
        assert_eq!(answer.json()["error"]["param"], "metadata.cwd", "{cwd}");
    }
    assert_eq!(messages.len(), 1, "there and not there read the same: {messages:?}");
    for cwd in ["a\u{0}b", "~", "~root/x", ""] {
        let answer = proxy.chat(json!({ "messages": [user("hi")], "metadata": { "cwd": cwd } })).send();
        answer.error(400, "invalid_request_error", "invalid_value");
    }
    assert_eq!(fake.turns().len(), 0);
    for cwd in [text(root.clone()), text(root.join("inside")), "inside".into()] {
        assert_eq!(
            proxy.chat(json!({ "messages": [user("hi")], "metadata": { "cwd": cwd } })).send().answer(),
            "pong"
        );
    }
    assert_eq!(fake.turns()[2]["cwd"], text(root.join("inside")));
}

#[test]
fn bodies_have_a_type_a_size_and_an_encoding() {
    let (proxy, fake) = start(|setup| setup.set("max_body_bytes", 10_000));
    let chat = || proxy.call("POST", "/v1/chat/completions");
    let good = json!({ "model": "codex-local", "messages": [user("hi")] }).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        chat().header("content-type", kind).body(good.clone()).send().error(
            415,
            "invalid_request_error",
            "unsupported_media_type",
        );
    }
    for encoding in ["br", "compress", "gzip, br", "rot13"] {
        let answer = chat()
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(good.clone())
            .send();
        answer.error(415, "invalid_request_error", "unsupported_media_type");
    }
    // Sixteen kilobytes of zeros in forty bytes, and a broken stream.
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let answer = chat()
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(bomb)
        .send();
    assert_eq!(answer.status, 400, "{}", answer.text());
    // At the limit, and one past it.
    let padded = |size: usize| format!("{}{}", good, " ".repeat(size - good.len()));
    let too_large = post(&proxy, padded(10_001));
    too_large.error(413, "invalid_request_error", "request_too_large");
    let chunked = |body: &str| {
        let body = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        chat()
            .header("content-type", "application/json")
            .header("transfer-encoding", "chunked")
            .body(body)
            .send()
    };
    chunked(&padded(10_001)).error(413, "invalid_request_error", "request_too_large");
    unharmed(&proxy, &fake);
    assert_eq!(post(&proxy, padded(10_000)).answer(), "pong");
    assert_eq!(chunked(&padded(10_000)).answer(), "pong");
    let expecting =
        chat().header("content-type", "application/json; charset=utf-8").header("expect", "100-continue");
    assert_eq!(expecting.body(good).send().answer(), "pong");
}

#[test]
fn packed_bodies_are_unpacked_only_so_far() {
    let (proxy, fake) = start(|setup| setup.set("max_body_bytes", 100_000));
    let send = |encoding: &str, body: Vec<u8>| {
        proxy
            .call("POST", "/v1/chat/completions")
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(body)
            .send()
    };
    let good = json!({ "model": "codex-local", "messages": [user("hi")] }).to_string();
    let bomb = format!("{good}{}", " ".repeat(50 << 20));
    for (encoding, pack) in [("gzip", "gzip"), ("x-gzip", "gzip")] {
        let Some(packed) = packed(pack, &bomb) else { return };
        assert!(packed.len() < 100_000);
        send(encoding, packed).error(413, "invalid_request_error", "request_too_large");
    }
    unharmed(&proxy, &fake);
    assert_eq!(send("gzip", packed("gzip", &good).unwrap()).answer(), "pong");
}

/// The text packed by a program of the system, if it has one.
fn packed(program: &str, text: &str) -> Option<Vec<u8>> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        crate::support::proxy::skipped(&format!("no program `{program}`"));
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(text.as_bytes()).unwrap());
        Some(child.wait_with_output().unwrap().stdout)
    })
}

#[test]
fn ten_megabytes_of_prompt_are_fine() {
    let (proxy, fake) = start(|setup| setup);
    let text = "long ".repeat(2 << 20);
    assert_eq!(proxy.ask(&text).send().answer(), "pong");
    let stdin = fake.calls().into_iter().find_map(|call| call["stdin"].as_str().map(str::to_owned)).unwrap();
    assert!(stdin == text);
}
