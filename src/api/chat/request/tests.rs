use super::*;
use crate::api::models::upstream;
use crate::config::EngineKind;
use crate::config::choices::ProfileChoice;
use crate::turn::{Tool, ToolChoice, ToolKind};
use serde_json::{Value, json};

fn with(extra: Value) -> Value {
    let mut body = json!({"model": "codex-local", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn decode(body: &str, config: &Config) -> Result<GenerationRequest, Failure> {
    super::decode(body, &Wanted::default(), config).map(|asked| asked.request)
}

fn read(extra: Value) -> Result<GenerationRequest, Failure> {
    decode(&with(extra).to_string(), &Config::default())
}

fn app_server(extra: Value) -> Result<GenerationRequest, Failure> {
    let config = Config { engine: EngineKind::AppServer, ..Config::default() };
    decode(&with(extra).to_string(), &config)
}

fn refused(result: Result<GenerationRequest, Failure>) -> (String, String) {
    match result.unwrap_err() {
        Failure::BadRequest { at: None, message } => (String::new(), message),
        Failure::BadRequest { at: Some(At::Field(path)), message } => (path, message),
        Failure::Unsupported { at: At::Field(path), message } => (format!("!{path}"), message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bodies_that_are_no_request_are_refused() {
    for (body, message) in [
        ("", "The request body is not valid JSON: EOF while parsing a value at line 1 column 0."),
        ("{", "The request body is not valid JSON: EOF while parsing an object at line 1 column 1."),
        ("[]", "The request body must be a JSON object, not an array."),
        ("null", "The request body must be a JSON object, not null."),
    ] {
        assert_eq!(refused(decode(body, &Config::default())), (String::new(), message.to_owned()));
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    assert!(refused(decode(&deep, &Config::default())).1.contains("recursion limit"));
}

#[test]
fn wrong_values_name_their_field() {
    for (extra, param, message) in [
        (json!({"model": null}), "model", "model is required."),
        (json!({"model": 1}), "model", "model must be a string, not a number."),
        (
            json!({"model": ""}),
            "model",
            "model must begin with a letter or digit and have at most 128 letters, digits and . _ : / -.",
        ),
        (
            json!({"model": "-x"}),
            "model",
            "model must begin with a letter or digit and have at most 128 letters, digits and . _ : / -.",
        ),
        (
            json!({"model": "a b"}),
            "model",
            "model must begin with a letter or digit and have at most 128 letters, digits and . _ : / -.",
        ),
        (
            json!({"model": "a".repeat(129)}),
            "model",
            "model must begin with a letter or digit and have at most 128 letters, digits and . _ : / -.",
        ),
        (json!({"messages": null}), "messages", "messages is required."),
        (json!({"messages": "x"}), "messages", "messages must be an array, not a string."),
        (json!({"messages": []}), "messages", "messages must not be empty."),
        (json!({"stream": "yes"}), "stream", "stream must be a boolean, not a string."),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
            "stream_options is only allowed when stream is true.",
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
            "stream_options.include_usage must be a boolean, not a number.",
        ),
        (json!({"n": 0}), "n", "n must be between 1 and 8."),
        (json!({"n": 9}), "n", "n must be between 1 and 8."),
        (json!({"n": 1.5}), "n", "n must be a whole number, not 1.5."),
        (json!({"stop": 1}), "stop", "stop must be a string or an array of strings, not a number."),
        (json!({"stop": ["a", 1]}), "stop[1]", "stop[1] must be a string, not a number."),
        (json!({"stop": ["1", "2", "3", "4", "5"]}), "stop", "stop must have at most 4 strings."),
        (json!({"stop": ""}), "stop", "stop must not have an empty string."),
        (json!({"stop": ["a", ""]}), "stop", "stop must not have an empty string."),
        (json!({"stop": "x".repeat(1025)}), "stop", "stop must have at most 1024 bytes."),
        (json!({"stop": ["a", "é".repeat(513)]}), "stop[1]", "stop[1] must have at most 1024 bytes."),
        (json!({"metadata": []}), "metadata", "metadata must be an object, not an array."),
        (json!({"metadata": {"cwd": 1}}), "metadata.cwd", "metadata.cwd must be a string, not a number."),
        (
            json!({"reasoning_effort": "huge"}),
            "reasoning_effort",
            "reasoning_effort must be one of none, minimal, low, medium, high, xhigh, max, ultra.",
        ),
        (json!({"verbosity": "huge"}), "verbosity", "verbosity must be one of low, medium, high."),
        (json!({"service_tier": 1}), "service_tier", "service_tier must be a string, not a number."),
        (json!({"temperature": "hot"}), "temperature", "temperature must be a number, not a string."),
        (json!({"temperature": 2.1}), "temperature", "temperature must be between 0 and 2."),
        (json!({"top_p": -0.1}), "top_p", "top_p must be between 0 and 1."),
        (json!({"max_tokens": 0}), "max_tokens", "max_tokens must be at least 1."),
        (json!({"seed": 0.5}), "seed", "seed must be a whole number, not 0.5."),
        (json!({"n": "1"}), "n", "n must be an integer, not a string."),
        (json!({"n": -1}), "n", "n must be between 1 and 8."),
        (json!({"n": 9.0}), "n", "n must be between 1 and 8."),
        (json!({"n": u64::MAX}), "n", "n must be between 1 and 8."),
        (json!({"n": 1e300}), "n", "n must be between 1 and 8."),
        (json!({"max_tokens": -1e300}), "max_tokens", "max_tokens must be at least 1."),
        (json!({"top_logprobs": 20.5}), "top_logprobs", "top_logprobs must be a whole number, not 20.5."),
        (json!({"store": "no"}), "store", "store must be a boolean, not a string."),
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format.type",
            "response_format.type must be one of text, json_object, json_schema.",
        ),
        (json!({"response_format": {}}), "response_format.type", "response_format.type is required."),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
            "response_format.json_schema is required.",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
            "response_format.json_schema.schema",
            "response_format.json_schema.schema is required.",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": 1}}}}),
            "response_format.json_schema.schema",
            "response_format.json_schema.schema is not a JSON Schema that answers can be checked against: at /type: 1 is not valid under any of the schemas listed in the 'anyOf' keyword.",
        ),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type", "tools[0].type must be function."),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "tools[0].function.name",
            "tools[0].function.name must be 1 to 64 letters, digits, dots, underscores or hyphens.",
        ),
        (json!({"tool_choice": "required"}), "tool_choice", "tool_choice needs tools."),
        (
            json!({"tool_choice": "any"}),
            "tool_choice",
            "tool_choice must be none, auto, required, a function of tools or allowed_tools.",
        ),
        (
            json!({"logprobs": true}),
            "!logprobs",
            "logprobs is not supported: Codex reports no probabilities.",
        ),
        (
            json!({"modalities": ["text", "audio"]}),
            "!modalities",
            "Only the modality text is supported: Codex answers in text.",
        ),
        (json!({"audio": {}}), "!audio", "audio is not supported: Codex answers in text."),
        (
            json!({"functions": []}),
            "!functions",
            "functions is the older form of tools and not supported: use tools.",
        ),
    ] {
        assert_eq!(refused(read(extra.clone())), (param.to_owned(), message.to_owned()), "{extra}");
    }
}

#[test]
fn limits_hold_at_their_edge() {
    assert_eq!(read(json!({"n": 8})).unwrap().n, 8);
    let longest = ["x", "y", "z"].map(|c| c.repeat(1024)).into_iter().chain(["é".repeat(512)]);
    assert_eq!(read(json!({"stop": longest.collect::<Vec<_>>()})).unwrap().stop.count(), 4);
    assert!(read(json!({"model": "a".repeat(128)})).is_ok());
    assert!(
        read(json!({"temperature": 2, "top_p": 0, "presence_penalty": -2, "frequency_penalty": 2.0})).is_ok()
    );
    assert!(read(json!({"max_tokens": i64::MAX, "seed": i64::MIN})).is_ok());
}

#[test]
fn what_has_no_effect_is_named() {
    let extra = json!({
        "temperature": 1, "user": "u", "seed": 1, "store": false, "logit_bias": {}, "max_tokens": null,
        "unknown": {"x": 1}, "parallel_tool_calls": false, "metadata": {"cwd": "/x", "other": 1},
    });
    assert_eq!(read(extra.clone()).unwrap().ignored, ["logit_bias", "seed", "store", "temperature", "user"]);
    let lean = Config { profile: ProfileChoice::Model, ..Config::default() };
    let ask = decode(&with(extra).to_string(), &lean).unwrap();
    assert_eq!(ask.ignored, ["logit_bias", "metadata.cwd", "seed", "store", "temperature", "user"]);
}

#[test]
fn tools_need_the_app_server_engine() {
    let tools =
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]});
    let (param, message) = refused(read(tools.clone()));
    assert_eq!(param, "!tools");
    assert_eq!(
        message,
        "Function tools need the app-server engine: set engine = \"app-server\" (agents best with profile = \"model\")."
    );
    let mut none = tools.clone();
    none["tool_choice"] = json!("none");
    assert!(read(none).unwrap().turn.tools.is_empty());
    assert!(read(json!({"tools": []})).is_ok());

    let ask = app_server(tools.clone()).unwrap();
    let expect = Tool::function("f", "", r#"{"type":"object"}"#.into());
    assert_eq!((&*ask.turn.tools, ask.turn.tool_choice), (&[expect][..], ToolChoice::Auto));
    let mut named = tools.clone();
    named["tool_choice"] = json!({"type": "function", "function": {"name": "f"}});
    named["parallel_tool_calls"] = json!(false);
    let ask = app_server(named.clone()).unwrap();
    assert_eq!(
        (ask.turn.tool_choice, ask.ignored),
        (ToolChoice::Named("f".into()), vec!["parallel_tool_calls".to_owned()])
    );
    named["tool_choice"]["function"]["name"] = json!("g");
    assert_eq!(refused(app_server(named)).0, "tool_choice.function.name");
}

#[test]
fn aliases_lead_to_models() {
    let config = |aliases: &[(&str, &str)]| Config {
        model_aliases: aliases.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        ..Config::default()
    };
    for (aliases, model, expect) in [
        (&[][..], "codex-local", None),
        (&[], "gpt-5.5", Some("gpt-5.5")),
        (&[("gpt-4o", "gpt-5.5")], "gpt-4o", Some("gpt-5.5")),
        (&[("gpt-4o", "codex-local")], "gpt-4o", None),
        (&[("*", "codex-local")], "anything", None),
        (&[("*", "gpt-5.5")], "anything", Some("gpt-5.5")),
        (&[("*", "gpt-5.5")], "codex-local", None),
        (&[("codex-local", "gpt-6-sol")], "codex-local", Some("gpt-6-sol")),
    ] {
        assert_eq!(upstream(model, &config(aliases)).as_deref(), expect, "{aliases:?} {model}");
    }
}

#[test]
fn schemas_travel_as_written() {
    let schema = r#"{ "type" : "object",
        "properties": {"reasoning": {"z": 1.50, "a": "\u00e9 { "}, "answer": {"const": 12345678901234567890123}} }"#;
    let sent = r#"{"type":"object","properties":{"reasoning":{"z":1.50,"a":"\u00e9 { "},"answer":{"const":12345678901234567890123}}}"#;
    let body = format!(
        r#"{{"tools": [], "model": "m", "messages": [{{"role": "user", "content": "x"}}],
            "tools": [{{"type": "function", "function": {{"name": "f"}}}},
                {{"type": "function", "function": {{"parameters": {{}}, "name": "g", "parameters": {schema}}}}}],
            "response_format": {{"type": "json_schema", "json_schema": {{"name": "n", "strict": true, "schema": {schema}}}}}}}"#
    );
    let config = Config { engine: EngineKind::AppServer, ..Config::default() };
    let turn = decode(&body, &config).unwrap().turn;
    assert_eq!(turn.output, Output::JsonSchema(sent.into()));
    let parameters: Vec<&str> = turn
        .tools
        .iter()
        .map(|tool| match &tool.kind {
            ToolKind::Function { parameters, .. } => parameters.as_str(),
            ToolKind::Custom { .. } => panic!("a function was offered"),
        })
        .collect();
    assert_eq!(parameters, [r#"{"type":"object","properties":{}}"#, sent]);
}

#[test]
fn whole_numbers_may_be_written_in_any_way() {
    let all = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":1.0,"seed":18446744073709551615,
        "max_tokens":1e3,"max_completion_tokens":12345678901234567890123,"top_logprobs":0.0}"#;
    let asked = decode(all, &Config::default()).unwrap();
    assert_eq!(asked.n, 1);
    let least = all.replace("18446744073709551615", "-9223372036854775809");
    assert!(decode(&least, &Config::default()).is_ok());
}

#[test]
fn allowed_tools_alone_are_offered() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let body = |choice: Value| {
        let mut body = with(json!({"tools": [tool("a"), tool("b"), tool("c")]}));
        body["tool_choice"] = choice;
        let config = Config { engine: EngineKind::AppServer, ..Config::default() };
        super::decode(&body.to_string(), &Wanted::default(), &config)
    };
    let some = |mode: &str, names: &[&str]| {
        let tools: Vec<Value> = names.iter().map(|name| tool(name)).collect();
        json!({"mode": mode, "tools": tools})
    };
    let nested = |inner: Value| json!({"type": "allowed_tools", "allowed_tools": inner});
    for (mode, expect) in [("auto", ToolChoice::Auto), ("required", ToolChoice::Required)] {
        let mut flat = some(mode, &["c", "b", "c"]);
        flat["type"] = json!("allowed_tools");
        for choice in [nested(some(mode, &["c", "b"])), flat] {
            let asked = body(choice).unwrap();
            let names: Vec<_> = asked.request.turn.tools.iter().map(|tool| tool.name.clone()).collect();
            assert_eq!(
                (&names[..], &asked.tool_origins[..]),
                (&["b".to_owned(), "c".to_owned()][..], &[1, 2][..])
            );
            assert_eq!(asked.request.turn.tool_choice, expect);
        }
    }
    for (choice, field) in [
        (nested(some("auto", &["d"])), "tool_choice.allowed_tools.tools[0].function.name"),
        (nested(some("auto", &[])), "tool_choice.allowed_tools.tools"),
        (nested(some("none", &["a"])), "tool_choice.allowed_tools.mode"),
        (nested(json!({"tools": [tool("a")]})), "tool_choice.allowed_tools.mode"),
        (nested(json!({"mode": "auto"})), "tool_choice.allowed_tools.tools"),
        (
            nested(json!({"mode": "auto", "tools": [{"type": "mcp"}]})),
            "tool_choice.allowed_tools.tools[0].type",
        ),
        (json!({"type": "any"}), "tool_choice.type"),
    ] {
        assert_eq!(refused(body(choice.clone()).map(|asked| asked.request)).0, field, "{choice}");
    }
}
