//! `/v1/responses`: an id stands for what was answered under it, for a while, and for its caller alone.

use serde_json::{Value, json};

use crate::support::client::Call;
use crate::support::{Proxy, Reply, real, user, wait};

const CONFIG: &str = "config/codex-api-proxy/config.toml";

fn post(proxy: &Proxy, input: Value) -> Call {
    let tool =
        json!({"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}});
    let body = json!({"model": "codex-local", "input": input, "tools": [tool]});
    proxy.call("POST", "/v1/responses").json(&body)
}

fn refer(item: &Value) -> Value {
    json!({"type": "item_reference", "id": item["id"]})
}

/// The conversation as the Vercel AI SDK sends it if not told otherwise.
#[test]
fn a_tool_loop_goes_on_by_references() {
    let Some((setup, upstream)) = real() else { return };
    let proxy = setup.set("engine", "app-server").start();
    upstream.reply(Reply::nothing().then_phase("commentary", "I look.").then_call("look", "{}"));
    let first = post(&proxy, json!([user("look")])).send().json();
    let [said, call] = &first["output"].as_array().unwrap()[..] else { panic!("{first}") };
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "a thing"});
    let history = json!([user("look"), refer(said), refer(call), output]);

    upstream.reply(Reply::text("A thing."));
    let mut body = json!({"model": "codex-local", "input": history, "stream": true});
    body["tools"] = first["tools"].clone();
    let mut stream = proxy.call("POST", "/v1/responses").json(&body).open();
    let mut second = Value::Null;
    while let Some((_, data)) = stream.named() {
        second = serde_json::from_str(&data).unwrap();
    }
    assert_eq!(second["type"], "response.completed");
    let answer = &second["response"]["output"][0];
    assert_eq!(answer["content"][0]["text"], "A thing.");
    let request = upstream.requests().pop().unwrap();
    assert_eq!(request.tool_outputs(), ["a thing"]);
    assert_eq!(request.last_text("assistant"), "I look.");
    let calls = request.items().iter().filter(|item| item["type"] == "function_call").count();
    assert_eq!(calls, 1, "{request:?}");

    // What was streamed is known as well; an unknown thought is not missed.
    let thought = json!({"type": "item_reference", "id": "rs_00000000000000000000000000000000"});
    let mut history = history.as_array().unwrap().clone();
    history.extend([thought, refer(answer), user("and?")]);
    upstream.reply(Reply::text("No more."));
    let third = post(&proxy, json!(history)).send();
    assert_eq!(third.json()["output"][0]["content"][0]["text"], "No more.");
    assert_eq!(upstream.requests().pop().unwrap().last_text("assistant"), "A thing.");

    // And it is counted as what it stands for.
    let body = json!({"input": [{"type": "item_reference", "id": answer["id"]}]});
    let counted = proxy.call("POST", "/v1/responses/input_tokens").json(&body).send();
    assert_eq!(counted.header("x-codex-proxy-estimated"), Some("input_tokens"));
    assert_eq!(counted.json(), json!({"object": "response.input_tokens", "input_tokens": 2}));
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn an_id_is_known_to_its_caller_alone_and_until_a_reload_forbids_it() {
    let Some((setup, upstream)) = real() else { return };
    let keys = setup.scratch().write("keys", "ann key-of-ann\nbob key-of-bob\n");
    let setup = setup.set("api_key_file", keys.display());
    setup.scratch().write(CONFIG, "");
    let proxy = setup.start();
    let send = |key: &str, input: &Value| {
        let body = json!({"model": "codex-local", "input": input});
        proxy.call("POST", "/v1/responses").key(key).json(&body).send()
    };
    upstream.reply(Reply::text("pong"));
    let first = send("key-of-ann", &json!("ping")).json();
    let again = json!([user("ping"), refer(&first["output"][0]), user("again")]);
    upstream.reply(Reply::text("pong again"));
    assert_eq!(send("key-of-ann", &again).json()["output"][0]["content"][0]["text"], "pong again");
    assert!(upstream.requests().pop().unwrap().text().contains("pong"));
    let unknown = json!({
        "message": "There is no item with this id. Items are kept for a short while only; send the item \
                    itself (AI SDK: `providerOptions.openai.store = false`).",
        "type": "invalid_request_error", "param": "input[1].id", "code": "not_found",
    });
    let refused = send("key-of-bob", &again);
    assert_eq!((refused.status, &refused.json()["error"]), (404, &unknown));

    let ready = || proxy.get("/ready").key("key-of-ann").send().json()["remembered_items"].clone();
    assert!(ready()["bytes"].as_u64().unwrap() > 0);
    assert_eq!((&ready()["response_items_bytes"], &ready()["seconds"]), (&json!(8_388_608), &json!(3600)));
    proxy.scratch().write(CONFIG, "response_items_bytes = 0\n");
    proxy.signal("HUP");
    wait::until("nothing is remembered", || ready()["response_items_bytes"] == 0);
    assert_eq!(ready()["bytes"], 0);
    let refused = send("key-of-ann", &again);
    assert_eq!((refused.status, &refused.json()["error"]), (404, &unknown));
}
