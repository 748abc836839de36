//! Wrong routes, wrong callers, and bytes that are no HTTP: refused at the door.

use crate::bad_input::{start, unharmed};

#[test]
fn unknown_routes_and_methods() {
    let (proxy, fake) = start(|setup| setup);
    for path in [
        "/v1/responses/resp_1",
        "/v2/chat/completions",
        "/v1/chat",
        "/etc/passwd",
        "/v1/../health",
        "/%2e%2e/health",
        "/health/x",
    ] {
        for method in ["GET", "POST"] {
            proxy.call(method, path).send().error(404, "invalid_request_error", "not_found");
        }
    }
    // What such services have and a Codex plan has not: the message says so.
    for path in [
        "/v1/embeddings",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/moderations",
        "/v1/batches",
        "/v1/fine_tuning/jobs",
        "/v1/assistants",
        "/v1/threads/thread_1/runs",
        "/v1/vector_stores/",
        "/embeddings",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let message = proxy.call(method, path).send().error(404, "invalid_request_error", "not_found");
            assert!(message.starts_with("A Codex plan "), "{method} {path}: {message}");
        }
    }
    for (method, path, allow) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/health", "GET"),
        ("TRACE", "/metrics", "GET"),
        ("BREW", "/", "GET"),
    ] {
        let answer = proxy.call(method, path).send();
        answer.error(405, "invalid_request_error", "method_not_allowed");
        assert!(
            answer.header("allow").unwrap().split(", ").any(|name| name == allow),
            "{method} {path}: {:?}",
            answer.headers
        );
    }
    // A target without any path.
    proxy.call("CONNECT", "localhost:80").send().error(405, "invalid_request_error", "method_not_allowed");
    unharmed(&proxy, &fake);
}

#[test]
fn web_pages_and_forwarded_strangers_are_refused() {
    let (proxy, fake) = start(|setup| {
        setup.set("allowed_hosts", "proxy.example").set("allowed_origins", "http://localhost:3000")
    });
    let ask = || proxy.ask("hi");
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "proxy.example.evil"]
    {
        let answer = ask().header("host", host).send();
        let message = answer.error(403, "permission_error", "host_not_allowed");
        assert!(message.contains("allowed_hosts"), "{message}");
        // The open routes too: a rebound name must read nothing.
        proxy.get("/health").header("host", host).send().error(403, "permission_error", "host_not_allowed");
    }
    // The names by which containers know this machine, in every format.
    for host in ["host.docker.internal", "host.containers.internal"] {
        for path in
            ["chat/completions", "completions", "responses", "messages", "messages/count_tokens", "models"]
        {
            let method = if path == "models" { "GET" } else { "POST" };
            let refused =
                proxy.call(method, &format!("/v1/{path}")).header("host", format!("{host}:8765")).send();
            let message = refused.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
            let expect = format!(
                "The host name `{host}` is not one of this server's. Add it to `allowed_hosts` to allow it."
            );
            assert_eq!((refused.status, message), (403, expect), "{path}");
        }
    }
    assert_eq!(ask().header("host", "").send().status, 400, "no Host");
    assert_eq!(ask().header("host", "evil.example@localhost").send().status, 400, "no host name");
    assert_eq!(ask().header("host", "localhost").header("host", "localhost").send().status, 400, "two Hosts");
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:3001"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let message = ask().header(name, value).send().error(403, "permission_error", "origin_not_allowed");
        assert!(message.contains("allowed_origins"), "{message}");
    }
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"]
    {
        ask().header(name, "1.2.3.4").send().error(403, "permission_error", "forwarded_not_allowed");
    }
    unharmed(&proxy, &fake);
    for host in ["localhost", "127.0.0.1:1", "[::1]:8765", "PROXY.example:443", "LOCALHOST:9"] {
        assert_eq!(ask().header("host", host).send().answer(), "pong", "{host}");
    }
    let allowed = ask().header("origin", "http://localhost:3000").send();
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (200, Some("http://localhost:3000"))
    );
    let preflight = proxy
        .call("OPTIONS", "/v1/chat/completions")
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization, content-type, x-stainless-os")
        .send();
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("authorization, content-type, x-stainless-os")
    );
    assert_eq!(
        ask().header("authorization", "Bearer whatever").send().answer(),
        "pong",
        "no key configured: ignored"
    );
}

#[test]
fn what_is_not_http_ends_politely() {
    use crate::support::client::Connection;
    let (proxy, fake) = start(|setup| setup);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: -1\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}",
    ] {
        let mut connection = Connection::open(proxy.address());
        connection.send(bytes);
        connection.finish_sending();
        let answer = String::from_utf8_lossy(&connection.rest()).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or("closed").to_owned();
        // 403 where the caller, having half closed, can no longer be looked up.
        assert!(["closed", "400", "403", "505"].contains(&status.as_str()), "{answer}");
        assert!(status == "closed" || answer.contains(r#"{"error":{"#), "{answer}");
    }
    // A head that is too large, one header after the other.
    let mut connection = Connection::open(proxy.address());
    connection.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n");
    for number in 0..2000 {
        connection.send(format!("x-{number}: {}\r\n", "y".repeat(1000)).as_bytes());
    }
    let answer = String::from_utf8_lossy(&connection.rest()).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    unharmed(&proxy, &fake);
}
