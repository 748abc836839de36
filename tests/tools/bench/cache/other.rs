//! A conversation of chat messages in the words of the other formats, and their answers in its words.

use serde_json::{Value, json};

/// What `/v1/responses` takes.
pub fn response_request(messages: &[Value], tools: &Value) -> Value {
    let input: Vec<Value> = messages.iter().flat_map(items).collect();
    let tool = |tool: &Value| {
        let mut function = tool["function"].clone();
        function["type"] = json!("function");
        function
    };
    let tools: Vec<Value> = tools.as_array().into_iter().flatten().map(tool).collect();
    json!({ "input": input, "tools": tools })
}

fn items(message: &Value) -> Vec<Value> {
    if message["role"] == "tool" {
        let (id, output) = (&message["tool_call_id"], &message["content"]);
        return vec![json!({ "type": "function_call_output", "call_id": id, "output": output })];
    }
    let said = message["content"].is_string();
    let said = said.then(|| json!({ "role": message["role"], "content": message["content"] }));
    let call = |call: &Value| {
        let function = &call["function"];
        json!({ "type": "function_call", "call_id": call["id"], "name": function["name"], "arguments": function["arguments"] })
    };
    said.into_iter().chain(message["tool_calls"].as_array().into_iter().flatten().map(call)).collect()
}

/// The message in a response.
pub fn response(answer: &str) -> Value {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let (mut text, mut calls) = (String::new(), vec![]);
    for item in answer["output"].as_array().unwrap() {
        match item["type"].as_str() {
            Some("message") => text += item["content"][0]["text"].as_str().unwrap(),
            Some("function_call") => {
                calls.push(call(&item["call_id"], &item["name"], item["arguments"].as_str().unwrap()))
            }
            _ => {}
        }
    }
    said(text, calls)
}

/// What `/v1/messages` takes.
pub fn message_request(messages: &[Value], tools: &Value) -> Value {
    let tool = |tool: &Value| {
        let function = &tool["function"];
        json!({ "name": function["name"], "description": function["description"], "input_schema": function["parameters"] })
    };
    let tools: Vec<Value> = tools.as_array().into_iter().flatten().map(tool).collect();
    let system: String = messages
        .iter()
        .filter(|message| message["role"] == "system")
        .filter_map(|message| message["content"].as_str())
        .collect();
    let rest: Vec<Value> = messages.iter().filter(|message| message["role"] != "system").map(turn).collect();
    json!({ "system": system, "messages": rest, "tools": tools, "max_tokens": 4096 })
}

fn turn(message: &Value) -> Value {
    if message["role"] == "tool" {
        let result = json!({ "type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"] });
        return json!({ "role": "user", "content": [result] });
    }
    let Some(calls) = message["tool_calls"].as_array() else { return message.clone() };
    let call = |call: &Value| {
        let input: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        json!({ "type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": input })
    };
    json!({ "role": "assistant", "content": calls.iter().map(call).collect::<Vec<_>>() })
}

/// The message in a message.
pub fn message(answer: &str) -> Value {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let (mut text, mut calls) = (String::new(), vec![]);
    for block in answer["content"].as_array().unwrap() {
        match block["type"].as_str() {
            Some("text") => text += block["text"].as_str().unwrap(),
            Some("tool_use") => calls.push(call(&block["id"], &block["name"], &block["input"].to_string())),
            _ => {}
        }
    }
    said(text, calls)
}

fn call(id: &Value, name: &Value, arguments: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

fn said(text: String, calls: Vec<Value>) -> Value {
    if calls.is_empty() {
        json!({ "role": "assistant", "content": text })
    } else {
        json!({ "role": "assistant", "content": null, "tool_calls": calls })
    }
}
