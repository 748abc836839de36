//! `tool_transport = items`: tools reach the upstream as they came, and are called in their own kind.

use serde_json::{Value, json};

use crate::support::{Proxy, Reply, Setup, Upstream, real, user};

/// Much that functions of Codex would lose, in an order of its own.
const SCHEMA: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"z":{"type":"string","pattern":"^a+$","minLength":1,"default":"a"},"a":{"type":"number","exclusiveMinimum":0.5,"const":2}},"required":["z","a"],"additionalProperties":false}"#;

fn on() -> Option<(Setup, Upstream)> {
    let (setup, upstream) = real()?;
    Some((setup.set("engine", "app-server").set("tool_transport", "items"), upstream))
}

fn tools() -> Value {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    json!([
        {"type": "function", "name": "mcp__x__look", "description": "Looks.", "strict": true, "parameters": schema},
        {"type": "custom", "name": "apply_patch", "description": "Edits.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}},
        {"type": "namespace", "name": "multi", "description": "", "tools": [{"type": "custom", "name": "exec"}]},
    ])
}

fn ask(proxy: &Proxy, input: &Value) -> Value {
    // As text, so that the schema keeps its order.
    let tools =
        tools().to_string().replace(&serde_json::from_str::<Value>(SCHEMA).unwrap().to_string(), SCHEMA);
    let body = format!(r#"{{"model":"codex-local","input":{input},"tools":{tools}}}"#);
    let answer =
        proxy.call("POST", "/v1/responses").header("content-type", "application/json").body(body).send();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-codex-proxy-ignored"), None);
    answer.json()
}

fn done(index: usize, item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

#[test]
fn schemas_go_out_unaltered_and_calls_come_back_in_their_kind() {
    let Some((setup, upstream)) = on() else { return };
    let proxy = setup.start();
    let call = |id: &str, kind: &str, name: &str, key: &str, said: &str| json!({"type": kind, "id": format!("i_{id}"), "call_id": id, "name": name, key: said, "status": "completed"});
    upstream.reply(
        Reply::nothing()
            .then_event(done(
                0,
                call("c1", "custom_tool_call", "apply_patch", "input", "*** Begin {\"input\":1}"),
            ))
            .then_event(done(1, call("c2", "function_call", "mcp__x__look", "arguments", "{\"z\": \"a\"}")))
            .then_event(done(2, call("c3", "custom_tool_call", "multi__exec", "input", "ls"))),
    );
    let first = ask(&proxy, &json!([user("do it")]));
    let output = first["output"].as_array().unwrap().clone();
    let known = |item: &Value| {
        let word = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
        ["type", "call_id", "name", "namespace", "input", "arguments"].map(word).join(" ")
    };
    assert_eq!(
        output.iter().map(known).collect::<Vec<_>>(),
        [
            "custom_tool_call c1 apply_patch - *** Begin {\"input\":1} -",
            "function_call c2 mcp__x__look - - {\"z\": \"a\"}",
            "custom_tool_call c3 exec multi ls -",
        ]
    );
    let request = &upstream.requests()[0];
    assert!(request.raw.contains(SCHEMA), "{}", request.raw);
    let offered = request.items().iter().find(|item| item["type"] == "additional_tools").unwrap();
    let mut expect = tools();
    expect[2] =
        json!({"type": "custom", "name": "multi__exec", "description": "", "format": {"type": "text"}});
    assert_eq!(offered["tools"], expect);

    let results = output.iter().map(|call| {
        let kind = call["type"].as_str().unwrap().to_owned() + "_output";
        json!({"type": kind, "call_id": call["call_id"], "output": format!("did {}", call["call_id"])})
    });
    let input: Vec<Value> = [user("do it")].into_iter().chain(output.clone()).chain(results).collect();
    upstream.reply(Reply::text("All done."));
    let second = ask(&proxy, &json!(input));
    assert_eq!(second["output"][0]["content"][0]["text"], "All done.");
    let request = upstream.requests().pop().unwrap();
    let carried: Vec<&Value> = request.items().iter().filter(|item| item["call_id"].is_string()).collect();
    let kinds: Vec<&str> = carried.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "custom_tool_call",
            "function_call",
            "custom_tool_call",
            "custom_tool_call_output",
            "function_call_output",
            "custom_tool_call_output"
        ]
    );
    assert_eq!(carried[0]["input"], "*** Begin {\"input\":1}");
    assert_eq!(carried[2]["name"], "multi__exec");
}
