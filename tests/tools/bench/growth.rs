//! Whether what a request costs grows with it and no faster: CPU at N and at 2N for every list and
//! string of a request. Twice is linear; what is refused costs next to nothing.

use std::fmt::Write as _;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::client::Client;
use crate::{Bench, cpu_seconds};

/// How often each request is sent.
const ROUNDS: usize = 8;

/// A field, how many of it there are at N, and the request with so many.
type Field = (&'static str, usize, fn(usize) -> String);

const FIELDS: &[Field] = &[
    ("messages", 20_000, |n| list(n, |_| r#"{"role":"user","content":"x"}"#.into())),
    ("a message's text", 2_000_000, |n| list(1, |_| said(&"x".repeat(n)))),
    ("a message's text with escapes", 1_000_000, |n| list(1, |_| said(&"\\n".repeat(n)))),
    ("lines like a header", 100_000, |n| list(2, |_| said(&"[user]\\n".repeat(n)))),
    ("brackets", 1_000_000, |n| list(2, |_| said(&"[".repeat(n)))),
    ("parts", 20_000, |n| list(1, |_| parts(n, r#"{"type":"text","text":"x"}"#))),
    ("images", 5_000, |n| list(1, |_| parts(n, &picture(0)))),
    ("an image", 2_000_000, |n| list(1, |_| parts(1, &picture(n)))),
    ("tool calls and results", 10_000, |n| {
        let calls = join(n, |i| call(&format!("c{i}"), "f"));
        let results = join(n, |i| format!(r#"{{"role":"tool","tool_call_id":"c{i}","content":"x"}}"#));
        with(&format!(r#"{{"role":"assistant","tool_calls":[{calls}]}},{results}"#), "")
    }),
    ("results in the other order", 10_000, |n| {
        let calls = join(n, |i| call(&format!("c{i}"), "f"));
        let results =
            join(n, |i| format!(r#"{{"role":"tool","tool_call_id":"c{}","content":"x"}}"#, n - 1 - i));
        with(&format!(r#"{{"role":"assistant","tool_calls":[{calls}]}},{results}"#), "")
    }),
    ("names of called functions", 5_000, |n| {
        let pairs = join(n, |i| {
            format!(
                r#"{{"role":"assistant","tool_calls":[{}]}},{{"role":"tool","tool_call_id":"c{i}","content":"x"}}"#,
                call(&format!("c{i}"), &format!("a.{i}"))
            )
        });
        with(&pairs, "")
    }),
    ("arguments", 1_000_000, |n| {
        let call = call("c", "f").replace("{}", &"x".repeat(n));
        let result = r#"{"role":"tool","tool_call_id":"c","content":"x"}"#;
        with(&format!(r#"{{"role":"assistant","tool_calls":[{call}]}},{result}"#), "")
    }),
    ("tools", 64, |n| {
        with(&said("x"), &format!(r#","tools":[{}]"#, join(n, |i| tool(&format!("f{i}"), "{}"))))
    }),
    ("a schema's properties", 10_000, |n| {
        let properties = join(n, |i| format!(r#""p{i}":{{"type":"string"}}"#));
        with(
            &said("x"),
            &format!(r#","tools":[{}]"#, tool("f", &format!(r#"{{"properties":{{{properties}}}}}"#))),
        )
    }),
    ("a schema's enum", 20_000, |n| schema(&format!(r#"{{"enum":[{}]}}"#, join(n, |i| format!("\"e{i}\""))))),
    ("a schema's blanks", 1_000_000, |n| schema(&format!("{{{}}}", " ".repeat(n)))),
    ("stop strings", 2, |n| {
        let stops = join(n, |i| format!("\"{}{i}\"", "ab".repeat(400)));
        with(&said("x"), &format!(r#","stop":[{stops}]"#))
    }),
    ("a stop string", 500, |n| with(&said("x"), &format!(r#","stop":"{}""#, "a".repeat(n)))),
    ("metadata", 20_000, |n| {
        with(&said("x"), &format!(r#","metadata":{{{}}}"#, join(n, |i| format!("\"k{i}\":\"v\""))))
    }),
    ("unknown fields", 20_000, |n| with(&said("x"), &format!(",{}", join(n, |i| format!("\"k{i}\":1"))))),
    ("the same field", 20_000, |n| with(&said("x"), &format!(",{}", join(n, |_| "\"seed\":1".into())))),
    ("names with escapes", 20_000, |n| {
        with(&said("x"), &format!(",{}", join(n, |i| format!("\"\\u0061{i}\":1"))))
    }),
    ("depth", 60, |n| with(&said("x"), &format!(r#","x":{}1{}"#, "[".repeat(n), "]".repeat(n)))),
    ("depth, again and again", 50_000, |n| {
        list(n / 50, |_| {
            format!(r#"{{"role":"user","content":"x","x":{}1{}}}"#, "[".repeat(50), "]".repeat(50))
        })
    }),
];

/// A part that is a whole picture: one pixel, and so many bytes of a comment.
fn picture(comment: usize) -> String {
    const PIXEL: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
    /// Where its first chunk, the header, ends.
    const HEADER_END: usize = 33;
    let mut png = STANDARD.decode(PIXEL).expect("it is base64");
    if comment > 0 {
        let named = [b"tEXtComment\0", "x".repeat(comment).as_bytes()].concat();
        let length = u32::try_from(named.len() - 4).expect("a chunk has less than 4 GB").to_be_bytes();
        let sum = crc32fast::hash(&named).to_be_bytes();
        png.splice(HEADER_END..HEADER_END, [&length, &*named, &sum].concat());
    }
    let data = STANDARD.encode(png);
    format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}"#)
}

fn join(count: usize, item: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for index in 0..count {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{}", item(index));
    }
    text
}

fn with(messages: &str, more: &str) -> String {
    format!(r#"{{"model":"codex-local","messages":[{messages}]{more}}}"#)
}

fn list(count: usize, message: impl Fn(usize) -> String) -> String {
    with(&join(count, message), "")
}

fn said(text: &str) -> String {
    format!(r#"{{"role":"user","content":"{text}"}}"#)
}

fn parts(count: usize, part: &str) -> String {
    format!(r#"{{"role":"user","content":[{}]}}"#, join(count, |_| part.to_owned()))
}

fn call(id: &str, name: &str) -> String {
    format!(r#"{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{{}}"}}}}"#)
}

fn tool(name: &str, schema: &str) -> String {
    format!(r#"{{"type":"function","function":{{"name":"{name}","parameters":{schema}}}}}"#)
}

fn schema(schema: &str) -> String {
    let format = format!(
        r#","response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{schema}}}}}"#
    );
    with(&said("x"), &format)
}

/// Measures and prints.
pub async fn run(bench: &Bench) {
    for engine in ["app-server", "exec"] {
        println!(
            "\n{:<34} {:>8} {:>7} {:>10} {:>10} {:>7}",
            format!("CPU per request, {engine}"),
            "N",
            "status",
            "N (ms)",
            "2N (ms)",
            "ratio"
        );
        let engine = format!("--engine={engine}");
        let (mut proxy, address) = bench.serve(&bench.fake, &[&engine]).await;
        let pid = proxy.id().unwrap();
        for (name, n, body) in FIELDS {
            let once = cost(address, pid, &body(*n), "").await;
            let twice = cost(address, pid, &body(2 * n), "").await;
            line(name, *n, once, twice);
        }
        let headers = |n| join(n, |i| format!("x-h{i}: v\r\n")).replace(',', "");
        let once = cost(address, pid, &with(&said("x"), ""), &headers(40)).await;
        line("headers", 40, once, cost(address, pid, &with(&said("x"), ""), &headers(80)).await);
        let long = |n| format!("x-h: {}\r\n", "v".repeat(n));
        let once = cost(address, pid, &with(&said("x"), ""), &long(15_000)).await;
        line("a header", 15_000, once, cost(address, pid, &with(&said("x"), ""), &long(30_000)).await);
        proxy.kill().await.unwrap();
    }
}

/// The milliseconds of CPU a request costs, and its status.
async fn cost(address: SocketAddr, pid: u32, body: &str, headers: &str) -> (f64, u16) {
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let (before, mut status) = (cpu_seconds(pid), 0);
    for _ in 0..ROUNDS {
        status = Client::connect(address).await.unwrap().exchange(&request).await;
    }
    ((cpu_seconds(pid) - before) * 1000.0 / ROUNDS as f64, status)
}

fn line(name: &str, n: usize, once: (f64, u16), twice: (f64, u16)) {
    // A tick is 10 ms: what is less than that a request says nothing of growth.
    let ratio = if once.0 < 2.0 { "-".into() } else { format!("{:.2}", twice.0 / once.0) };
    let status = if once.1 == twice.1 { once.1.to_string() } else { format!("{}/{}", once.1, twice.1) };
    println!("{name:<34} {n:>8} {status:>7} {:>10.1} {:>10.1} {ratio:>7}", once.0, twice.0);
}
