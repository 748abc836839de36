use serde_json::{Value, json};

use super::*;
use crate::engine::app_server::tool_names::{Names, Taken};
use crate::turn::{Image, Item, Output, Part, Role, Tool, ToolCall, ToolChoice, Turn, Workdir};

fn text(text: &str) -> Vec<Part> {
    vec![Part::Text(text.into())]
}

fn turn(conversation: Vec<Item>) -> Turn {
    let here = std::env::temp_dir();
    Turn::new(conversation, Workdir::resolve(None, &here, &[]).unwrap())
}

fn injected(turn: &Turn, at: usize, names: Names, hint: Option<String>, at_head: bool) -> Value {
    let conversation = turn.conversation.clone();
    let (thread_id, names) = ("T".into(), names.into());
    let (tools, custom, namespace) = Default::default();
    let items = InjectItems { thread_id, conversation, at, names, namespace, tools, custom, hint, at_head };
    let written: Vec<u8> = items.pieces().flatten().collect();
    serde_json::from_slice(&written).unwrap()
}

#[test]
fn what_is_new_is_handed_over_alone() {
    let turn = turn(["a", "b", "c"].map(|said| Item::message(Role::User, text(said))).into());
    let texts = |at| {
        let got = injected(&turn, at, Names::default(), None, false);
        let items = got["items"].as_array().unwrap().iter();
        items.map(|item| item["content"][0]["text"].as_str().unwrap().to_owned()).collect::<String>()
    };
    assert_eq!([0, 1, 2, 3, 4].map(texts), ["abc", "bc", "c", "", ""]);
}

#[test]
fn a_functions_result_is_answered_in_parts() {
    let image = Image { media_type: "image/png".into(), base64: "AAAA".into() };
    for (content, expect) in [
        (vec![], json!([{"type": "inputText", "text": ""}])),
        (
            vec![Part::Text("a\"".into()), image.into()],
            json!([
                {"type": "inputText", "text": "a\""},
                {"type": "inputImage", "imageUrl": "data:image/png;base64,AAAA"},
            ]),
        ),
    ] {
        let got: Value = serde_json::from_str(&format!("{{{}}}", tool_result(&content))).unwrap();
        assert_eq!(got, json!({"result": {"contentItems": expect, "success": true}}));
    }
}

#[test]
fn a_conversation_becomes_items_one_to_one() {
    let image = Image { media_type: "image/png".into(), base64: "AAAA".into() };
    let turn = turn(vec![
        Item::message(Role::System, text("be brief")),
        Item::message(Role::User, vec![Part::Text("look".into()), image.into()]),
        Item::from(ToolCall::function("c1", "exec_command", "{\"a\": 1}")),
        Item::ToolResult { call_id: "c1".into(), content: text("3C") },
        Item::ToolResult {
            call_id: "c2".into(),
            content: vec![Part::Text("a".into()), Part::Text("b".into())],
        },
        Item::ToolResult { call_id: "c3".into(), content: vec![] },
        Item::message(Role::Assistant, text("it is 3C")),
        Item::message(Role::Developer, text("go on")),
    ]);
    let names = Names::new(&turn.tools, &turn.conversation, Taken::ByFunctions);
    let got = injected(&turn, 0, names, None, false);
    assert_eq!(
        got,
        json!({"threadId": "T", "items": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be brief"}]},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
            {"type": "function_call", "call_id": "c1", "name": "client_exec_command", "arguments": "{\"a\": 1}"},
            {"type": "function_call_output", "call_id": "c1", "output": "3C"},
            {"type": "function_call_output", "call_id": "c2", "output": [
                {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "function_call_output", "call_id": "c3", "output": ""},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "it is 3C"}]},
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "go on"}]},
        ]})
    );
}

#[test]
fn what_no_field_carries_is_said_at_one_end() {
    let mut turn = turn(vec![Item::message(Role::User, text("x"))]);
    let names = Names::default();
    let mut check = |choice: ToolChoice, output: Output, expect: Option<&str>| {
        turn.tool_choice = choice;
        turn.output = output;
        let hint = hint(&turn, &names);
        assert_eq!(hint.is_some(), expect.is_some());
        assert!(hint.as_deref().unwrap_or_default().contains(expect.unwrap_or_default()), "{hint:?}");
        for at_head in [false, true] {
            let got = &injected(&turn, 0, Names::default(), hint.clone(), at_head)["items"];
            assert_eq!(got.as_array().unwrap().len(), if hint.is_some() { 2 } else { 1 });
            if hint.is_some() {
                assert_eq!(got[usize::from(!at_head)]["role"], "developer");
            }
        }
    };
    check(ToolChoice::Auto, Output::Text, None);
    check(ToolChoice::Required, Output::Text, Some("one or more"));
    check(ToolChoice::Named("f".into()), Output::Text, Some("`f`"));
    check(ToolChoice::Auto, Output::JsonObject, Some("JSON object"));
}

#[test]
fn tools_keep_their_schema_text() {
    let tools = [Tool::function("a.b", "d", r#"{"b":1,"a":2.50}"#.into())];
    let names = Names::new(&tools, &[], Taken::ByFunctions);
    let got = serde_json::to_string(&DynamicTool::all(&tools, &names).unwrap()).unwrap();
    assert_eq!(
        got,
        r#"[{"type":"function","name":"client_a_b","description":"d","inputSchema":{"b":1,"a":2.50}}]"#
    );
    let broken = [Tool::function("a", "", "{".into())];
    assert!(DynamicTool::all(&broken, &names).is_err());
}

#[test]
fn the_version_is_read_from_the_greeting() {
    let version = |agent: &str| {
        let greeting: Initialized = serde_json::from_value(json!({ "userAgent": agent })).unwrap();
        greeting.version().map(str::to_owned)
    };
    assert_eq!(version("m/0.169.0 (Debian 12.0.0; x86_64)").as_deref(), Some("0.169.0"));
    assert_eq!(version("m/0.170.0-alpha.1").as_deref(), Some("0.170.0-alpha.1"));
    assert_eq!(version("whatever"), None);
    assert_eq!(version("a/b"), None);
}

#[test]
fn every_refusal_is_json_and_approves_nothing() {
    for method in [
        "item/commandExecution/requestApproval",
        "item/fileChange/requestApproval",
        "execCommandApproval",
        "applyPatchApproval",
        "item/tool/requestUserInput",
        "mcpServer/elicitation/request",
        "item/permissions/requestApproval",
        "account/chatgptAuthTokens/refresh",
        "item/tool/call",
        "something/new",
    ] {
        let answer = refusal(method);
        serde_json::from_str::<Value>(&format!("{{{answer}}}")).unwrap();
        assert!(!answer.contains("accept") && !answer.contains("approved"), "{method}");
    }
}
