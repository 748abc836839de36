use super::*;
use crate::turn::Image;
use serde_json::{Value, json};

const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

fn read(messages: Value) -> Result<Vec<Item>, (String, String)> {
    let (text, wanted) = (messages.to_string(), Wanted::default());
    let list = Raw::check(&text, &wanted).unwrap().items().unwrap();
    let read = decode(list, &wanted).map(|read| read.items);
    read.map_err(|failure| match failure {
        Failure::BadRequest { at: Some(At::Field(path)), message } => (path, message),
        Failure::Unsupported { at: At::Field(path), message } => (path, message),
        other => panic!("{other:?}"),
    })
}

fn text(role: Role, text: &str) -> Item {
    Item::message(role, vec![Part::Text(text.into())])
}

#[test]
fn every_role_and_form_is_carried() {
    let call = |id: &str, name: &str| Item::from(ToolCall::function(id, name, "{\"a\": 1}"));
    let result = |id: &str, text: &str| Item::ToolResult {
        call_id: id.into(),
        content: vec![Part::Text(text.into())],
    };
    let wire_call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
    let items = read(json!([
        {"role": "system", "content": "s"},
        {"role": "developer", "content": [{"type": "text", "text": "d"}]},
        {"role": "user", "content": [
            {"type": "input_text", "text": "u"},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{PNG}"), "detail": "low"}},
            {"type": "image_url", "image_url": format!("DATA:image/JPG;base64,{PNG}")},
            {"type": "input_image", "image_url": format!("data:image/webp;base64,{PNG}")}], "name": "ann"},
        {"role": "assistant", "content": null, "tool_calls": [wire_call("1"), wire_call("2")]},
        {"role": "tool", "tool_call_id": "2", "content": "two"},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "one"}]},
        {"role": "assistant", "content": "", "function_call": {"name": "g", "arguments": "{\"a\": 1}"}},
        {"role": "function", "name": "g", "content": "three"},
        {"role": "assistant", "refusal": "no"},
        {"role": "user", "content": ""},
    ]));
    let image = || Part::from(Image { media_type: "image/png".into(), base64: PNG.into() });
    let user = vec![Part::Text("u".into()), image(), image(), image()];
    let expect = vec![
        text(Role::System, "s"),
        text(Role::Developer, "d"),
        Item::message(Role::User, user),
        call("1", "f"),
        call("2", "f"),
        result("2", "two"),
        result("1", "one"),
        call("call_function_6", "g"),
        result("call_function_6", "three"),
        text(Role::Assistant, "no"),
        text(Role::User, ""),
    ];
    assert_eq!(items, Ok(expect));
}

#[test]
fn errors_name_the_field() {
    let image =
        |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let url = "messages[0].content[0].image_url.url";
    for (messages, param, message) in [
        (json!(["x"]), "messages[0]", "messages[0] must be an object, not a string."),
        (json!([{"content": "x"}]), "messages[0].role", "messages[0].role is required."),
        (json!([{"role": 1}]), "messages[0].role", "messages[0].role must be a string, not a number."),
        (
            json!([{"role": "bot", "content": "x"}]),
            "messages[0].role",
            "messages[0].role must be one of system, developer, user, assistant, tool, function.",
        ),
        (json!([{"role": "user"}]), "messages[0].content", "messages[0].content is required."),
        (
            json!([{"role": "user", "content": null}]),
            "messages[0].content",
            "messages[0].content is required.",
        ),
        (
            json!([{"role": "assistant", "content": null}]),
            "messages[0].content",
            "messages[0].content is required.",
        ),
        (
            json!([{"role": "user", "content": 1}]),
            "messages[0].content",
            "messages[0].content must be a string or an array of parts, not a number.",
        ),
        (
            json!([{"role": "user", "content": []}]),
            "messages[0].content",
            "messages[0].content must not be an empty array.",
        ),
        (
            json!([{"role": "user", "content": [1]}]),
            "messages[0].content[0]",
            "messages[0].content[0] must be an object, not a number.",
        ),
        (
            json!([{"role": "user", "content": [{"type": "text"}]}]),
            "messages[0].content[0].text",
            "messages[0].content[0].text is required.",
        ),
        (
            json!([{"role": "user", "content": [{"type": "video"}]}]),
            "messages[0].content[0].type",
            "messages[0].content[0].type must be text or image_url.",
        ),
        (
            json!([{"role": "user", "content": [{"type": "input_audio"}]}]),
            "messages[0].content[0].type",
            "Content parts of type input_audio are not supported: Codex takes text and images.",
        ),
        (
            json!([{"role": "system", "content": [{"type": "image_url", "image_url": "x"}]}]),
            "messages[0].content[0].type",
            "messages[0].content[0].type may be an image in user messages only.",
        ),
        (
            image("https://example.com/a.png"),
            url,
            "messages[0].content[0].image_url.url must be a data: URL with the image itself: this server fetches nothing.",
        ),
        (
            image("file:///etc/passwd"),
            url,
            "messages[0].content[0].image_url.url must be a data: URL with the image itself: this server fetches nothing.",
        ),
        (
            image("data:image/png;base64"),
            url,
            "messages[0].content[0].image_url.url is not a data: URL: it has no comma.",
        ),
        (image("data:image/png,x"), url, "messages[0].content[0].image_url.url must be encoded in base64."),
        (
            image("data:image/bmp;base64,aGk="),
            url,
            "messages[0].content[0].image_url.url must be of type image/png, image/jpeg, image/gif, image/webp.",
        ),
        (image("data:image/png;base64,"), url, "messages[0].content[0].image_url.url has no image data."),
        (image("data:image/png;base64,a!"), url, "messages[0].content[0].image_url.url is not valid base64."),
        (
            json!([{"role": "tool", "content": "x"}]),
            "messages[0].tool_call_id",
            "messages[0].tool_call_id is required.",
        ),
        (
            json!([{"role": "tool", "tool_call_id": "1", "content": "x"}]),
            "messages[0].tool_call_id",
            "messages[0].tool_call_id names no tool call of the preceding assistant message.",
        ),
        (
            json!([{"role": "function", "name": "f", "content": "x"}]),
            "messages[0].name",
            "messages[0].name names no function call of the preceding assistant message.",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [call]}]),
            "messages[0]",
            "The tool call \"1\" has no result: a tool message with its tool_call_id must follow.",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "x"}]),
            "messages[1].role",
            "messages[1].role must be tool: the tool call \"1\" has no result yet.",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [call, call]}]),
            "messages[0].tool_calls[1].id",
            "messages[0].tool_calls[1].id is used by two tool calls.",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [{"id": "call_function_0", "function": {"name": "f", "arguments": "{}"}}],
                "function_call": {"name": "f", "arguments": "{}"}}]),
            "messages[0].function_call.name",
            "messages[0].function_call.name gives the call an id that a tool call beside it has.",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}]),
            "messages[0].tool_calls[0].type",
            "messages[0].tool_calls[0].type must be function.",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}]),
            "messages[0].tool_calls[0].function.arguments",
            "messages[0].tool_calls[0].function.arguments is required.",
        ),
        (
            json!([{"role": "assistant", "tool_calls": {}}]),
            "messages[0].tool_calls",
            "messages[0].tool_calls must be an array, not an object.",
        ),
    ] {
        assert_eq!(read(messages.clone()), Err((param.to_owned(), message.to_owned())), "{messages}");
    }
}

/// Looked for one by one, these would take minutes.
#[test]
fn a_history_of_very_many_calls_is_read() {
    const COUNT: usize = 40_000;
    let function = |name: &str| json!({"name": name, "arguments": "{}"});
    let calls: Vec<Value> = (0..COUNT)
        .map(|n| json!({"id": format!("c{n}"), "function": function(if n % 2 == 0 { "f" } else { "g" })}))
        .collect();
    let mut messages = vec![json!({"role": "assistant", "tool_calls": calls})];
    // By id the even ones, last first; by name the others, which finds the first of each.
    messages.extend(
        (0..COUNT)
            .rev()
            .step_by(2)
            .map(|n| json!({"role": "tool", "tool_call_id": format!("c{}", n - 1), "content": "x"})),
    );
    messages.extend((0..COUNT / 2).map(|_| json!({"role": "function", "name": "g", "content": "y"})));
    let items = read(Value::Array(messages.clone())).unwrap();
    let ids: Vec<&str> = items
        .iter()
        .filter_map(|item| match item {
            Item::ToolResult { call_id, .. } => Some(&**call_id),
            _ => None,
        })
        .collect();
    assert_eq!((ids.len(), ids[0], ids[COUNT / 2], ids[COUNT - 1]), (COUNT, "c39998", "c1", "c39999"));
    messages.pop();
    let error = read(Value::Array(messages)).unwrap_err();
    assert!(error.1.contains("\"c39999\""), "{}", error.1);
}

#[test]
fn calls_are_answered_by_id_and_by_name_in_any_order() {
    let call = |id: &str, name: &str| json!({"id": id, "function": {"name": name, "arguments": "{}"}});
    let by_id = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": id});
    let by_name = |name: &str| json!({"role": "function", "name": name, "content": name});
    let calls = json!({"role": "assistant", "tool_calls": [call("1", "f"), call("2", "f"), call("3", "f"), call("4", "g")]});
    let results = |messages: &[Value]| {
        let items = read(messages.iter().cloned().collect())?;
        Ok(items
            .into_iter()
            .filter_map(|item| match item {
                Item::ToolResult { call_id, .. } => Some(call_id),
                _ => None,
            })
            .collect::<Vec<_>>()
            .join(" "))
    };
    let unknown = |param: &str| Err((param.to_owned(), ()));
    for (answers, expect) in [
        (vec![by_name("f"), by_name("f"), by_name("f"), by_name("g")], Ok("1 2 3 4")),
        (vec![by_id("1"), by_name("f"), by_id("4"), by_name("f")], Ok("1 2 4 3")),
        (vec![by_id("2"), by_name("f"), by_name("f"), by_id("4")], Ok("2 1 3 4")),
        (vec![by_id("2"), by_id("2")], unknown("messages[2].tool_call_id")),
        (vec![by_name("f"), by_id("1")], unknown("messages[2].tool_call_id")),
        (vec![by_id("4"), by_name("g")], unknown("messages[2].name")),
        // The ids are free again for the next message.
        (
            vec![
                by_name("g"),
                by_id("3"),
                by_id("2"),
                by_id("1"),
                calls.clone(),
                by_name("g"),
                by_name("f"),
                by_name("f"),
                by_name("f"),
            ],
            Ok("4 3 2 1 4 1 2 3"),
        ),
    ] {
        let messages: Vec<Value> = std::iter::once(calls.clone()).chain(answers).collect();
        let got = results(&messages);
        assert_eq!(
            got.as_deref().map_err(|(param, _): &(String, String)| (param.clone(), ())),
            expect,
            "{messages:?}"
        );
    }
}

#[test]
fn what_codex_has_no_path_for_is_told() {
    let url = format!("data:image/png;base64,{PNG}");
    let image = |detail: Value| json!([{"type": "image_url", "image_url": {"url": url, "detail": detail}}]);
    let detail = "messages[].content[].image_url.detail";
    for (messages, expect) in [
        (json!([{"role": "user", "content": "x", "name": null}, {"role": "user", "content": "y"}]), vec![]),
        (
            json!([{"role": "user", "content": "x", "name": "a"}, {"role": "user", "content": "y", "name": "b"}]),
            vec!["messages[].name"],
        ),
        (json!([{"role": "system", "content": "x", "name": "a"}]), vec!["messages[].name"]),
        (json!([{"role": "developer", "content": "x", "name": "a"}]), vec!["messages[].name"]),
        (json!([{"role": "assistant", "content": "x", "name": "a"}]), vec!["messages[].name"]),
        (json!([{"role": "user", "content": image(json!("auto"))}]), vec![]),
        (json!([{"role": "user", "content": image(Value::Null)}]), vec![]),
        (json!([{"role": "user", "content": image(json!("high"))}]), vec![detail]),
        (
            json!([{"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "low"}]}]),
            vec!["messages[].content[].detail"],
        ),
    ] {
        let (text, wanted) = (messages.to_string(), Wanted::default());
        let list = Raw::check(&text, &wanted).unwrap().items().unwrap();
        let ignored = decode(list, &wanted).unwrap().ignored;
        assert_eq!(ignored.into_iter().collect::<Vec<_>>(), expect, "{messages}");
    }
}
