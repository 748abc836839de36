use super::*;
use crate::api::remembered::Remembered;
use crate::api::responses::object::{State, Status};
use crate::config::EngineKind;
use crate::turn::{Format, Item, Part, Role, Saying, Tool, ToolCall, ToolChoice};
use serde_json::{Value, json};

fn decode(body: &Value) -> Result<ResponsesRequest, Failure> {
    decode_with(body, &Remembered::new(0).of(&Caller::Unknown))
}

fn decode_with(body: &Value, remembered: &CallersItems) -> Result<ResponsesRequest, Failure> {
    let config = Config { engine: EngineKind::AppServer, ..Config::default() };
    super::decode(&body.to_string(), remembered, &Wanted::default(), &config)
}

fn with(extra: Value) -> Value {
    let mut body = json!({"model": "codex-local", "input": "hi"});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn read(extra: Value) -> ResponsesRequest {
    decode(&with(extra)).unwrap()
}

fn items(input: Value) -> Vec<Item> {
    read(json!({ "input": input })).request.turn.conversation.to_vec()
}

fn refused(extra: Value) -> (String, String) {
    match decode(&with(extra)).unwrap_err() {
        Failure::BadRequest { at: Some(At::Field(path)), message } => (path, message),
        Failure::Unsupported { at: At::Field(path), message } => (format!("!{path}"), message),
        other => panic!("{other:?}"),
    }
}

fn said(role: Role, text: &str) -> Item {
    Item::message(role, vec![Part::Text(text.into())])
}

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name})
}

fn ignored(extra: Value) -> Vec<String> {
    read(extra).request.ignored
}

#[test]
fn input_is_a_conversation() {
    assert_eq!(items(json!("hi")), [said(Role::User, "hi")]);
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "namespace": "n",
        "arguments": "{}", "status": "completed"});
    let custom = json!({"type": "custom_tool_call", "call_id": "b", "name": "c", "input": "ls"});
    let said_final = json!({"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
        "phase": "final_answer", "content": [{"type": "output_text", "text": "x", "annotations": []},
            {"type": "refusal", "refusal": "no"}]});
    let found = items(json!([
        {"role": "system", "content": "s"},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "d"}]},
        {"role": "user", "content": [{"type": "text", "text": "u"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "E", "content": null},
        {"type": "reasoning", "id": "rs_2", "summary": []},
        {"role": "assistant", "content": []},
        call, custom,
        {"type": "custom_tool_call_output", "call_id": "b", "output": "1"},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "2"}]},
        said_final,
    ]));
    let result = |id: &str, text: &str| Item::ToolResult {
        call_id: id.into(),
        content: vec![Part::Text(text.into())],
    };
    let expect = [
        said(Role::System, "s"),
        said(Role::Developer, "d"),
        said(Role::User, "u"),
        Item::Reasoning { encrypted: "E".into(), summary: ["hm".into()].into() },
        Item::from(ToolCall::function("a", "f", "{}").within("n")),
        Item::from(ToolCall::custom("b", "c", "ls")),
        result("b", "1"),
        result("a", "2"),
        Item::Message {
            role: Role::Assistant,
            content: vec![Part::Text("x".into()), Part::Text("no".into())],
            phase: Some(Saying::Final),
        },
    ];
    assert_eq!(found, expect);
    // A call at the end is nobody's to answer.
    assert_eq!(items(json!([{"role": "user", "content": "x"}, call])).len(), 2);
}

#[test]
fn instructions_come_first_and_each_item_knows_its_field() {
    let asked = read(json!({"instructions": "be brief", "input": [
        {"type": "reasoning", "summary": []},
        {"role": "user", "content": "x"},
    ]}));
    let expect = [said(Role::Developer, "be brief"), said(Role::User, "x")];
    assert_eq!(*asked.request.turn.conversation, expect);
    let paths: Vec<String> = asked.answered.origins.iter().map(|origin| origin.path()).collect();
    assert_eq!(paths, ["instructions", "input[1]"]);
}

#[test]
fn wrong_input_names_its_field() {
    let user = json!({"role": "user", "content": "x"});
    let call = json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "a", "output": "1"});
    let other = json!({"type": "custom_tool_call_output", "call_id": "a", "output": "1"});
    let part = |part: Value| json!([{"role": "user", "content": [part]}]);
    for (input, path, message) in [
        (json!(null), "input", "input is required."),
        (json!(1), "input", "input must be a string or an array of items, not a number."),
        (json!([]), "input", "input must have at least one message."),
        (json!([{"type": "reasoning"}]), "input", "input must have at least one message."),
        (json!(["x"]), "input[0]", "input[0] must be an object, not a string."),
        (json!([{}]), "input[0].type", "input[0].type is required."),
        (
            json!([{"role": "x", "content": ""}]),
            "input[0].role",
            "input[0].role must be one of user, assistant, system, developer.",
        ),
        (json!([{"role": "user"}]), "input[0].content", "input[0].content is required."),
        (
            json!([{"role": "user", "content": []}]),
            "input[0].content",
            "input[0].content must not be an empty array.",
        ),
        (
            part(json!({"type": "input_text"})),
            "input[0].content[0].text",
            "input[0].content[0].text is required.",
        ),
        (
            part(json!({"type": "x"})),
            "input[0].content[0].type",
            "input[0].content[0].type must be input_text, output_text or input_image.",
        ),
        (
            part(json!({"type": "input_image", "image_url": "http://x/"})),
            "input[0].content[0].image_url",
            "input[0].content[0].image_url must be a data: URL with the image itself: this server fetches nothing.",
        ),
        (json!([user, output]), "input[1].call_id", "input[1].call_id names no call before it."),
        (
            json!([call, output, output]),
            "input[2].call_id",
            "input[2].call_id names a call that has a result already.",
        ),
        (json!([call, other]), "input[1].call_id", "input[1].call_id names a call of the other kind."),
        (json!([call, call]), "input[1].call_id", "input[1].call_id is used by two calls."),
        (
            json!([user, call, user]),
            "input[1]",
            "The call \"a\" has no result: an output with its call_id must follow.",
        ),
        (
            json!([{"type": "nonsense"}]),
            "input[0].type",
            "input[0].type must be message, function_call, \
            function_call_output, custom_tool_call, custom_tool_call_output, reasoning, item_reference or additional_tools.",
        ),
    ] {
        assert_eq!(refused(json!({ "input": input })), (path.to_owned(), message.to_owned()), "{input}");
    }
    for (input, path, word) in [
        (part(json!({"type": "input_file"})), "!input[0].content[0].type", "input_file"),
        (part(json!({"type": "input_image", "file_id": "f"})), "!input[0].content[0].file_id", "data: URL"),
        (json!([{"type": "web_search_call"}]), "!input[0].type", "web_search_call"),
        (json!([{"type": "compaction"}]), "!input[0].type", "compaction"),
    ] {
        let (found, message) = refused(json!({ "input": input }));
        assert!(found == path && message.contains(word), "{found}: {message}");
    }
}

#[test]
fn what_needs_a_memory_or_probabilities_is_refused() {
    for (extra, path) in [
        (json!({"previous_response_id": "resp_1"}), "!previous_response_id"),
        (json!({"conversation": {"id": "c"}}), "!conversation"),
        (json!({"prompt": {"id": "p"}}), "!prompt"),
        (json!({"background": true}), "!background"),
        (json!({"top_logprobs": 1}), "!top_logprobs"),
        (json!({"include": ["message.output_text.logprobs"]}), "!include[0]"),
        (json!({"background": 1}), "background"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"include": [1]}), "include[0]"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"truncation": "some"}), "truncation"),
        (json!({"text": {"verbosity": "loud"}}), "text.verbosity"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema", "name": "n"}}}), "text.format.schema"),
        (json!({"reasoning": {"effort": "turbo"}}), "reasoning.effort"),
        (json!({"reasoning": {"summary": "long"}}), "reasoning.summary"),
        (json!({"service_tier": "gold"}), "service_tier"),
        (json!({"stream_options": 1}), "stream_options"),
        (json!({"metadata": []}), "metadata"),
    ] {
        assert_eq!(refused(extra.clone()).0, path, "{extra}");
    }
    read(json!({"previous_response_id": null, "background": false, "top_logprobs": 0, "store": true}));
}

#[test]
fn what_has_no_effect_is_named() {
    for (extra, expect) in [
        (json!({"store": true, "stream": false, "truncation": "disabled"}), &[][..]),
        (json!({"store": false, "prompt_cache_key": "k"}), &[]),
        (
            json!({"temperature": 1, "max_output_tokens": 9, "truncation": "auto", "client_metadata": {}}),
            &["client_metadata", "max_output_tokens", "temperature", "truncation"],
        ),
        (json!({"metadata": {"a": "b"}, "novelty": 1}), &["metadata", "novelty"]),
        (json!({"metadata": {"cwd": "/x"}}), &["metadata.cwd"]),
        (json!({"include": ["reasoning.encrypted_content", "file_search_call.results"]}), &["include[1]"]),
        (json!({"parallel_tool_calls": false}), &[]),
        (json!({"parallel_tool_calls": false, "tools": [function("f")]}), &["parallel_tool_calls"]),
        (
            json!({"tools": [{"type": "function", "name": "f", "strict": true}, {"type": "web_search_preview"}]}),
            &["tools[0].strict", "tools[1].web_search_preview"],
        ),
    ] {
        assert_eq!(ignored(extra.clone()), expect, "{extra}");
    }
}

#[test]
fn tools_of_every_kind_are_offered() {
    let grammar = json!({"type": "grammar", "syntax": "lark", "definition": "start: /x/"});
    let asked = read(json!({
        "input": [
            {"type": "additional_tools", "role": "developer", "tools": [function("late")]},
            {"role": "user", "content": "x"},
        ],
        "tools": [
            {"type": "function", "name": "f", "description": null, "parameters": null},
            {"type": "custom", "name": "patch", "description": "d", "format": grammar},
            {"type": "namespace", "name": "n", "description": "x", "tools": [
                {"type": "function", "name": "f"}, {"type": "custom", "name": "c"},
            ]},
        ],
    }));
    let none = r#"{"type":"object","properties":{}}"#;
    let format = Format::Grammar { syntax: "lark".into(), definition: "start: /x/".into() };
    let expect = [
        Tool::function("f", "", none.into()),
        Tool::custom("patch", "d", format),
        Tool::function("f", "", none.into()).within("n"),
        Tool::custom("c", "", Format::Text).within("n"),
        Tool::function("late", "", none.into()),
    ];
    assert_eq!(*asked.request.turn.tools, expect);
    let places = ["tools[0]", "tools[1]", "tools[2].tools[0]", "tools[2].tools[1]", "input[0].tools[0]"];
    assert_eq!(asked.answered.tools, places);
}

#[test]
fn wrong_tools_name_their_field() {
    for (tools, path) in [
        (json!([{"name": "f"}]), "tools[0].type"),
        (json!([{"type": "gadget"}]), "tools[0].type"),
        (json!([{"type": "function"}]), "tools[0].name"),
        (json!([function("a b")]), "tools[0].name"),
        (json!([function(&"x".repeat(65))]), "tools[0].name"),
        (json!([function("f"), function("f")]), "tools[1].name"),
        (json!([{"type": "function", "name": "f", "parameters": 1}]), "tools[0].parameters"),
        (json!([{"type": "custom", "name": "f", "format": {"type": "x"}}]), "tools[0].format.type"),
        (
            json!([{"type": "custom", "name": "f", "format": {"type": "grammar", "syntax": "x"}}]),
            "tools[0].format.syntax",
        ),
        (json!([{"type": "namespace", "name": "n"}]), "tools[0].tools"),
        (
            json!([{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}]),
            "tools[0].tools[0].type",
        ),
        (
            json!([function("n__f"), {"type": "namespace", "name": "n", "tools": [function("f")]}]),
            "tools[1].tools[0].name",
        ),
        (json!([{"type": "web_search"}]), "!tools[0]"),
    ] {
        assert_eq!(refused(json!({ "tools": tools })).0, path, "{tools}");
    }
    let message = "tools[0]: hosted tools (`web_search`) are not available here; offer a function instead.";
    assert_eq!(refused(json!({"tools": [{"type": "web_search"}]})).1, message);
    read(json!({"tools": [function(&"x".repeat(64))]}));
    read(json!({"tools": [{"type": "web_search"}], "tool_choice": "none"}));
}

#[test]
fn tool_choice_says_which() {
    let tools = json!([
        function("f"), {"type": "custom", "name": "c"}, {"type": "mcp"},
        {"type": "namespace", "name": "n", "tools": [function("g")]},
    ]);
    let chosen = |choice: Value| {
        let turn = read(json!({"tools": tools, "tool_choice": choice})).request.turn;
        let names: Vec<String> = turn.tools.iter().map(|tool| tool.full_name().into_owned()).collect();
        (turn.tool_choice, names.join(" "))
    };
    let named = |name: &str| ToolChoice::Named(name.into());
    let allowed = |mode: &str, tools: Value| json!({"type": "allowed_tools", "mode": mode, "tools": tools});
    for (choice, expect, names) in [
        (json!(null), ToolChoice::Auto, "f c n__g"),
        (json!("auto"), ToolChoice::Auto, "f c n__g"),
        (json!("none"), ToolChoice::Auto, ""),
        (json!("required"), ToolChoice::Required, "f c n__g"),
        (function("f"), named("f"), "f c n__g"),
        (function("n__g"), named("n__g"), "f c n__g"),
        (json!({"type": "function", "name": "g", "namespace": "n"}), named("n__g"), "f c n__g"),
        (json!({"type": "custom", "name": "c"}), named("c"), "f c n__g"),
        (allowed("auto", json!([function("f"), {"type": "mcp"}])), ToolChoice::Auto, "f"),
        (allowed("required", json!([{"type": "custom", "name": "c"}])), ToolChoice::Required, "c"),
    ] {
        assert_eq!(chosen(choice.clone()), (expect, names.to_owned()), "{choice}");
    }
    for (choice, path) in [
        (json!("some"), "tool_choice"),
        (json!(1), "tool_choice"),
        (json!({"type": "x"}), "tool_choice.type"),
        (function("g"), "tool_choice.name"),
        (function("c"), "tool_choice.type"),
        (json!({"type": "web_search_preview"}), "!tool_choice"),
        (allowed("auto", json!([])), "tool_choice.tools"),
        (allowed("some", json!([function("f")])), "tool_choice.mode"),
        (allowed("auto", json!([{"type": "mcp"}])), "!tool_choice.tools[0]"),
        (allowed("auto", json!([function("x")])), "tool_choice.tools[0].name"),
    ] {
        assert_eq!(refused(json!({"tools": tools, "tool_choice": choice})).0, path, "{choice}");
    }
    assert_eq!(refused(json!({"tool_choice": "required"})).1, "tool_choice needs tools.");
}

#[test]
fn wishes_reach_the_turn() {
    let schema = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
    let turn = read(json!({
        "text": {"format": {"type": "json_schema", "name": "n", "strict": true, "schema": schema}, "verbosity": "low"},
        "reasoning": {"effort": "high", "summary": "detailed", "context": "x", "generate_summary": "auto"},
        "include": ["reasoning.encrypted_content"], "service_tier": "priority", "prompt_cache_key": "mine",
    }));
    let turn = turn.request.turn;
    assert!(matches!(turn.output, Output::JsonSchema(_)));
    assert_eq!((turn.effort, turn.verbosity), (Some(Effort::High), Some(Verbosity::Low)));
    assert_eq!((turn.reasoning, turn.want_encrypted), (Summary::Detailed, true));
    assert_eq!((turn.service_tier, turn.client_name.as_deref()), (Some(ServiceTier::Priority), Some("mine")));
    let plain = read(json!({})).request.turn;
    assert_eq!((plain.reasoning, plain.want_encrypted, plain.output), (Summary::None, false, Output::Text));
}

/// The response to that request.
fn repeated(extra: Value) -> Value {
    let echo = read(extra).answered.echo;
    let state =
        State { status: Status::Completed, completed_at: None, output: &[], usage: None, error: None };
    serde_json::to_value(echo.response("resp_1", 0, "m", state)).unwrap()
}

#[test]
fn tools_and_format_are_repeated_in_full() {
    let body = json!({
        "tools": [
            {"type": "function", "name": "f"},
            {"type": "function", "name": "g", "description": "d", "parameters": {"type": "object"}, "strict": true},
            {"strict": null, "name": "h", "type": "function"},
            {"type": "custom", "name": "c"},
        ],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    });
    let response = repeated(body);
    assert_eq!(
        response["tools"],
        json!([
            {"type": "function", "name": "f", "description": null, "parameters": null, "strict": false},
            {"type": "function", "name": "g", "description": "d", "parameters": {"type": "object"}, "strict": true},
            {"type": "function", "name": "h", "description": null, "parameters": null, "strict": null},
            {"type": "custom", "name": "c"},
        ])
    );
    let format = json!({"type": "json_schema", "name": "n", "schema": {"type": "object"}, "description": null,
        "strict": false});
    assert_eq!(response["text"]["format"], format);
    assert_eq!(
        repeated(json!({"text": {"format": {"type": "json_object"}}}))["text"]["format"],
        json!({"type": "json_object"})
    );
    assert_eq!(repeated(json!({"tools": []}))["tools"], json!([]));
}

#[test]
fn what_codex_does_not_send_is_told_as_the_upstream_has_it() {
    for (sent, tier) in [
        (json!({}), "auto"),
        (json!({"temperature": 0.2, "top_p": 0.5, "service_tier": "priority"}), "priority"),
    ] {
        let response = repeated(sent);
        let told = ["temperature", "top_p", "presence_penalty", "frequency_penalty", "service_tier"]
            .map(|name| response[name].clone());
        assert_eq!(told, [json!(1.0), json!(1.0), json!(0.0), json!(0.0), json!(tier)]);
    }
}

#[test]
fn an_id_stands_for_what_was_answered_under_it() {
    let store = Remembered::new(1 << 20);
    let (mine, others) = (store.of(&Caller::User(1)), store.of(&Caller::User(2)));
    let call = ToolCall::function("call_1", "f", "{}").within("n");
    mine.keep([
        ("msg_1".to_owned(), said(Role::Assistant, "x")),
        ("fc_1".to_owned(), call.clone().into()),
        ("rs_1".to_owned(), Item::Reasoning { encrypted: "E".into(), summary: [].into() }),
    ]);
    let reference = |id: &str| json!({"type": "item_reference", "id": id});
    let output = json!({"type": "function_call_output", "call_id": "call_1", "output": "1"});
    let user = json!({"role": "user", "content": "u"});
    let ask = |input: &Value, items: &CallersItems| decode_with(&with(json!({"input": input})), items);
    let input =
        json!([user, reference("rs_1"), {"id": "msg_1"}, reference("fc_1"), output, reference("rs_9")]);
    let read = ask(&input, &mine).unwrap();
    let expect = [
        said(Role::User, "u"),
        Item::Reasoning { encrypted: "E".into(), summary: [].into() },
        said(Role::Assistant, "x"),
        call.into(),
        Item::ToolResult { call_id: "call_1".into(), content: vec![Part::Text("1".into())] },
    ];
    assert_eq!(*read.request.turn.conversation, expect);
    let places: Vec<String> = read.answered.origins.iter().map(|origin| origin.path()).collect();
    assert_eq!(places, ["input[0]", "input[1]", "input[2]", "input[3]", "input[4]"]);

    for (input, items) in
        [(json!([user, reference("msg_2")]), &mine), (json!([user, reference("msg_1")]), &others)]
    {
        let Err(Failure::NotFound { at, message }) = ask(&input, items) else { panic!("{input}") };
        assert_eq!(at, Some(At::Field("input[1].id".into())));
        assert_eq!(
            message,
            "There is no item with this id. Items are kept for a short while only; send the item itself (AI \
             SDK: `providerOptions.openai.store = false`)."
        );
    }
    let dropped = ask(&json!([user, reference("rs_1")]), &others).unwrap();
    assert_eq!(*dropped.request.turn.conversation, [said(Role::User, "u")]);
    let whole = json!({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"});
    for (input, path, message) in [
        (
            json!([user, reference("msg_1"), reference("msg_1")]),
            "input[2].id",
            "input[2].id is used by two items.",
        ),
        (json!([whole, reference("fc_1")]), "input[1].id", "input[1].id names a call that is there already."),
        (json!([user, {"type": "item_reference"}]), "input[1].id", "input[1].id is required."),
        (
            json!([user, reference("fc_1"), user]),
            "input[1]",
            "The call \"call_1\" has no result: an output with its call_id must follow.",
        ),
    ] {
        match ask(&input, &mine).unwrap_err() {
            Failure::BadRequest { at: Some(At::Field(at)), message: said } => {
                assert_eq!((&*at, &*said), (path, message))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn tokens_are_estimated_as_for_any_format() {
    let store = Remembered::new(1 << 20).of(&Caller::Unknown);
    store.keep([("msg_1".to_owned(), said(Role::Assistant, "12345678"))]);
    let count = |body: Value| {
        let body = body.to_string();
        let asked = Asked { body: &body, wanted: &Wanted::default(), remembered: &store };
        super::count(&asked, &Config::default())
    };
    let tokens = |number: usize| json!({"object": "response.input_tokens", "input_tokens": number});
    assert_eq!(count(json!({"input": "1234"})).unwrap(), tokens(1));
    assert_eq!(count(json!({"model": "m", "input": "12345", "instructions": "123"})).unwrap(), tokens(2));
    assert_eq!(count(json!({"input": [{"type": "item_reference", "id": "msg_1"}]})).unwrap(), tokens(2));
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}});
    assert_eq!(
        count(json!({"input": "1", "tools": [tool]})).unwrap(),
        tokens((1 + 1 + 17_usize).div_ceil(4))
    );
    for body in [
        json!({"model": "m"}),
        json!({"model": "", "input": "x"}),
        json!({"input": "x", "previous_response_id": "r"}),
    ] {
        count(body).unwrap_err();
    }
}

#[test]
fn a_list_of_tools_has_128_at_most() {
    let many = |most: usize| (0..most).map(|number| function(&format!("f{number}"))).collect::<Vec<_>>();
    let space = |most| json!([{"type": "namespace", "name": "n", "tools": many(most)}]);
    let more =
        |most| json!([{"type": "additional_tools", "tools": many(most)}, {"role": "user", "content": "x"}]);
    assert_eq!(read(json!({"tools": many(128)})).request.turn.tools.len(), 128);
    assert_eq!(read(json!({"tools": space(128)})).request.turn.tools.len(), 128);
    assert_eq!(read(json!({"input": more(128)})).request.turn.tools.len(), 128);
    for (body, path) in [
        (json!({"tools": many(129)}), "tools"),
        (json!({"tools": space(129)}), "tools[0].tools"),
        (json!({"input": more(129)}), "input[0].tools"),
    ] {
        let message = format!("{path} must not have more than 128 entries.");
        assert_eq!(refused(body), (path.to_owned(), message));
    }
}
