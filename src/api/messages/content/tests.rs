use super::*;
use crate::turn::Image;
use serde_json::{Value, json};

const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

fn read(system: Value, messages: Value) -> Result<Conversation, Failure> {
    let body = json!({"system": system, "messages": messages}).to_string();
    let wanted = Wanted::default();
    let fields = Fields::body(&body, &wanted).unwrap();
    decode(&fields, fields.array("messages").unwrap().unwrap(), true, false, &wanted)
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

fn said(role: Role, parts: &[&str]) -> Item {
    Item::message(role, parts.iter().map(|part| text(part)).collect())
}

fn result(call_id: &str, content: Vec<Part>) -> Item {
    Item::ToolResult { call_id: call_id.into(), content }
}

#[test]
fn a_conversation_becomes_items_in_its_order() {
    let signature = thinking::sign(&crate::turn::Thought {
        id: "rs_1".into(),
        summary: vec![],
        encrypted: Some("secret".into()),
    });
    let all = read(
        json!([{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": ""}]),
        json!([
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": signature},
                {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Let me see.", "citations": null},
                {"type": "text", "text": ""},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"b": 1.50, "a": 2},
                    "caller": {"type": "direct"}},
                {"type": "tool_use", "id": "other", "name": "look", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "before"},
                {"type": "tool_result", "tool_use_id": "other", "is_error": true, "content": "gone"},
                {"type": "text", "text": "between"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                ]},
            ]},
            {"role": "system", "content": "Go on."},
            {"role": "user", "content": [
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "doc"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "doc 2"}]}},
            ]},
            {"role": "user", "content": "again"},
            {"role": "assistant", "content": "prefill"},
        ]),
    )
    .unwrap();
    let image = || Part::from(Image { media_type: "image/png".into(), base64: PNG.into() });
    let reasoning = Item::Reasoning { encrypted: "secret".into(), summary: ["hm".into()].into() };
    let (system, message, block) = (Origin::System, Origin::Message, Origin::Block);
    let expect = [
        (said(Role::Developer, &["Be brief."]), system),
        (said(Role::User, &["one"]), message(0)),
        (reasoning, block(1, 0)),
        (said(Role::Assistant, &["Let me see."]), block(1, 4)),
        (Item::from(ToolCall::function("call_1", "look", r#"{"b":1.5,"a":2}"#)), block(1, 6)),
        (Item::from(ToolCall::function("other", "look", "{}")), block(1, 7)),
        (said(Role::User, &["before"]), message(2)),
        (result("other", vec![text("[the tool failed]\ngone")]), block(2, 1)),
        (Item::message(Role::User, vec![text("between"), image()]), message(2)),
        (result("call_1", vec![text("a"), image()]), block(2, 4)),
        (said(Role::Developer, &["Go on."]), message(3)),
        (said(Role::User, &["doc", "doc 2"]), message(4)),
        (said(Role::User, &["again"]), message(5)),
        (said(Role::Assistant, &["prefill"]), message(6)),
    ];
    let read: Vec<(Item, Origin)> = all.items.into_iter().zip(all.origins).collect();
    for (index, expected) in expect.iter().enumerate() {
        // serde_json's map sorts the keys of the test itself.
        let found = match &read[index].0 {
            Item::ToolCall(call) if call.id == "call_1" => {
                assert!(call.arguments.contains("\"b\":1.5"), "{call:?}");
                (expected.0.clone(), read[index].1)
            }
            _ => read[index].clone(),
        };
        assert_eq!(found, *expected, "{index}");
    }
    assert_eq!(read.len(), expect.len());
    let signatures = ["messages[1].content[1].signature", "messages[1].content[2].signature"];
    assert_eq!(all.ignored, [&signatures[..], &["messages[1].content[3].data"]].concat());
}

#[test]
fn results_may_be_empty_and_tell_that_they_failed() {
    for (block, expect) in [
        (json!({}), vec![]),
        (json!({"content": null}), vec![]),
        (json!({"content": ""}), vec![text("")]),
        (json!({"content": "x", "is_error": false}), vec![text("x")]),
        (json!({"is_error": true}), vec![text("[the tool failed]")]),
        (json!({"content": [], "is_error": true}), vec![text("[the tool failed]")]),
        (
            json!({"content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}]}),
            vec![text("d")],
        ),
    ] {
        let mut result = json!({"type": "tool_result", "tool_use_id": "toolu_1"});
        result.as_object_mut().unwrap().extend(block.as_object().unwrap().clone());
        let call = json!([{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]);
        let messages = json!([{"role": "assistant", "content": call}, {"role": "user", "content": [result]}]);
        let all = read(Value::Null, messages).unwrap();
        assert_eq!(all.items[1], super::tests::result("call_1", expect), "{block}");
    }
}

#[test]
fn the_line_that_changes_with_each_request_is_left_out() {
    let line = "x-anthropic-billing-header: cc_version=2.1.197.abc; cch=00000;";
    for (system, expect) in [
        (json!([{"type": "text", "text": line}, {"type": "text", "text": "Be."}]), &["Be."][..]),
        (json!(format!("{line}\nBe.\n")), &["Be.\n"]),
        (json!(line), &[]),
        (json!(""), &[]),
        (json!([]), &[]),
        (json!([{"type": "text", "text": "Be."}, {"type": "text", "text": line}]), &["Be.", line]),
        (json!(format!("Be. {line}")), &[&*format!("Be. {line}")]),
    ] {
        let all = read(system.clone(), json!([{"role": "user", "content": "x"}])).unwrap();
        let head = (!expect.is_empty()).then(|| said(Role::Developer, expect));
        assert_eq!(all.items[..all.items.len() - 1], head.into_iter().collect::<Vec<_>>(), "{system}");
    }
}

#[test]
fn what_cannot_be_carried_is_refused_by_its_path() {
    let user = |block: Value| json!([{"role": "user", "content": [block]}]);
    let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]});
    let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1"}]});
    let two = || {
        json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": "1", "name": "f", "input": {}},
            {"type": "tool_use", "id": "2", "name": "f", "input": {}}]})
    };
    let answer = |id: &str| json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id}]});
    for (messages, path) in [
        (json!([{"content": "x"}]), "messages[0].role"),
        (json!([{"role": "tool", "content": "x"}]), "messages[0].role"),
        (json!([{"role": "user"}]), "messages[0].content"),
        (json!([{"role": "user", "content": []}]), "messages[0].content"),
        (json!([{"role": "user", "content": 1}]), "messages[0].content"),
        (json!([{"role": "system", "content": [{"type": "image"}]}]), "!messages[0].content[0].type"),
        (json!([{"role": "assistant", "content": ""}]), "messages"),
        (user(json!("x")), "messages[0].content[0]"),
        (user(json!({"type": "text"})), "messages[0].content[0].text"),
        (user(json!({"type": "text", "text": 1})), "messages[0].content[0].text"),
        (
            user(json!({"type": "image", "source": {"type": "url", "url": "https://x"}})),
            "messages[0].content[0].source.type",
        ),
        (
            user(
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}),
            ),
            "messages[0].content[0].source.data",
        ),
        (
            user(
                json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}),
            ),
            "!messages[0].content[0].source.type",
        ),
        (user(json!({"type": "search_result"})), "!messages[0].content[0].type"),
        (user(json!({"type": "container_upload"})), "!messages[0].content[0].type"),
        (user(json!({"type": "tool_result", "tool_use_id": "x"})), "messages[0].content[0].tool_use_id"),
        (
            json!([{"role": "assistant", "content": [{"type": "server_tool_use"}]}]),
            "!messages[0].content[0].type",
        ),
        (
            json!([call, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                {"type": "tool_reference"}]}]}]),
            "!messages[1].content[0].content[0].type",
        ),
        (json!([call, result, result]), "messages[2].content[0].tool_use_id"),
        (json!([call, call]), "messages[1].content[0].id"),
        (json!([two(), answer("1")]), "messages"),
        (json!([two(), answer("2")]), "messages"),
        (json!([call, {"role": "user", "content": "x"}]), "messages"),
        (
            json!([call, {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]),
            "messages[2]",
        ),
        (
            json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": "{}"}]}]),
            "messages[0].content[0].input",
        ),
    ] {
        let found = match read(Value::Null, messages.clone()) {
            Err(Failure::BadRequest { at: Some(At::Field(path)), .. }) => path,
            Err(Failure::BadImage { at: At::Field(path), .. }) => path,
            Err(Failure::Unsupported { at: At::Field(path), .. }) => format!("!{path}"),
            other => panic!("{messages}: {other:?}"),
        };
        assert_eq!(found, path, "{messages}");
    }
    // One result after the other, in messages of their own, is fine.
    assert_eq!(read(Value::Null, json!([two(), answer("2"), answer("1")])).unwrap().items.len(), 4);
    // Calls at the very end may be waited for by nobody.
    for messages in
        [json!([call]), json!([call, result, two()]), json!([{"role": "user", "content": "x"}, two()])]
    {
        assert!(read(Value::Null, messages.clone()).is_ok(), "{messages}");
    }
}

#[test]
fn the_header_that_names_what_has_no_effect_stays_short() {
    let thoughts: Vec<Value> =
        (0..1000).map(|_| json!({"type": "thinking", "thinking": "", "signature": "x"})).collect();
    let all = read(
        Value::Null,
        json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": thoughts}]),
    );
    let ignored = all.unwrap().ignored;
    assert_eq!((ignored.len(), &*ignored[16]), (17, "messages[].content[].signature"));
}
