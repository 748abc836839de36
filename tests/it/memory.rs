//! What large requests cost in memory: twice their payload at most while they are served, nothing
//! afterwards.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::proxy::Proxy;
use crate::support::{Setup, user, wait};

/// How many requests come at a time.
const AT_ONCE: usize = 6;

/// About how long each is, in bytes.
const EACH: usize = 4 << 20;

/// What the program may take besides, in kilobytes: threads, tables, what of a body is there twice while a
/// conversation is made of it, an item that is on its way to each worker, what its allocator is left with.
const BESIDES: u64 = 12 << 10;

/// A line of `/proc/PID/status`, in kilobytes.
fn kilobytes(proxy: &Proxy, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A picture of one pixel with a note of so many bytes.
fn picture(bytes: usize) -> String {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8], data: &[u8]| {
        let mut sum = crc32fast::Hasher::new();
        sum.update(name);
        sum.update(data);
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(name);
        png.extend(data);
        png.extend(sum.finalize().to_be_bytes());
    };
    chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]);
    chunk(b"tEXt", &vec![b'x'; bytes]);
    chunk(b"IEND", &[]);
    STANDARD.encode(png)
}

/// A kind of request, its body, and whether `codex exec` takes it.
type Case = (&'static str, Value, bool);

fn cases() -> Vec<Case> {
    let text = |bytes: usize| "All work and no play. ".repeat(bytes / 22);
    let many = |each: usize| {
        let messages: Vec<Value> = (0..EACH / (each + 40)).map(|_| user(text(each))).collect();
        json!({ "messages": messages })
    };
    let url = format!("data:image/png;base64,{}", picture(EACH / 4 * 3));
    let image =
        json!([{ "type": "text", "text": "?" }, { "type": "image_url", "image_url": { "url": url } }]);
    let tool = |number: usize| {
        let parameters = json!({ "type": "object", "description": text(EACH / 64), "properties": {} });
        json!({ "type": "function", "function": { "name": format!("f{number}"), "parameters": parameters } })
    };
    let tools: Vec<Value> = (0..64).map(tool).collect();
    let lines = "line\n".repeat(EACH / 6);
    let escapes = "\u{1}\"".repeat(EACH / 8);
    vec![
        ("many messages", many(900), true),
        ("many short messages", many(100), true),
        ("one message", json!({ "messages": [user(text(EACH))] }), true),
        ("one framed message", json!({ "messages": [user("x"), user(text(EACH))] }), true),
        ("one message of many lines", json!({ "messages": [user("x"), user(lines)] }), true),
        ("escapes", json!({ "messages": [user("x"), user(escapes)] }), true),
        ("an image", json!({ "messages": [user(image)] }), true),
        ("tools", json!({ "messages": [user("x")], "tools": tools }), false),
    ]
}

/// Sends the same request several times at once, and says what the program took meanwhile.
fn costs(engine: &str, (what, body, exec): &Case) {
    let (setup, _fake) = Setup::fake("");
    let setup = match engine {
        "exec" => setup.set("max_concurrency", AT_ONCE),
        _ => setup.set("workers", 2).set("turns_per_worker", AT_ONCE / 2).set("parked_seconds", 1),
    };
    let proxy = setup.set("engine", engine).start();
    // What comes with the first turn stays.
    assert_eq!(proxy.ask("Reply with exactly: pong").send().answer(), "pong");
    let taken = engine != "exec" || *exec;
    let idle = kilobytes(&proxy, "VmRSS");
    let body = body.to_string();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut body: Value = serde_json::from_str(&body).unwrap();
                body["model"] = "codex-local".into();
                let reply = proxy.chat(body).send();
                assert_eq!(reply.status, if taken { 200 } else { 400 }, "{what}: {}", reply.text());
            });
        }
    });
    let payload = (AT_ONCE * body.len()) as u64 >> 10;
    let peak = kilobytes(&proxy, "VmHWM") - idle;
    println!("{engine}, {what}: {payload} kB cost {peak} kB, {:.2} times", peak as f64 / payload as f64);
    assert!(peak <= 2 * payload + BESIDES, "{engine}, {what}: {payload} kB cost {peak} kB");
    wait::until("all is given back", || kilobytes(&proxy, "VmRSS") <= idle + BESIDES);
    wait::until("nothing is counted", || proxy.metrics()["buffered_bytes"] == 0);
}

fn each_costs_twice_its_payload_at_most(engine: &str) {
    for case in cases() {
        costs(engine, &case);
    }
}

#[test]
fn large_requests_to_exec_cost_twice_their_payload_at_most() {
    each_costs_twice_its_payload_at_most("exec");
}

#[test]
fn large_requests_to_workers_cost_twice_their_payload_at_most() {
    each_costs_twice_its_payload_at_most("app-server");
}
