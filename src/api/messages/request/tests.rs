use super::*;
use crate::config::EngineKind;
use crate::turn::{Effort, ToolChoice};
use serde_json::{Value, json};

fn app_server() -> Config {
    Config { engine: EngineKind::AppServer, ..Config::default() }
}

fn read_under(extra: Value, config: &Config) -> Result<MessagesRequest, Failure> {
    let mut body =
        json!({"model": "codex-local", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    decode(&body.to_string(), &Wanted::default(), config)
}

fn read(extra: Value) -> Result<MessagesRequest, Failure> {
    read_under(extra, &app_server())
}

fn refused(result: Result<MessagesRequest, Failure>) -> (String, String) {
    match result.unwrap_err() {
        Failure::BadRequest { at: Some(At::Field(path)), message } => (path, message),
        Failure::Unsupported { at: At::Field(path), message } => (format!("!{path}"), message),
        other => panic!("{other:?}"),
    }
}

fn function(name: &str) -> Value {
    json!({"name": name, "description": "d", "input_schema": {"type": "object"}})
}

#[test]
fn wrong_values_name_their_field() {
    let search = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 8});
    for (extra, path) in [
        (json!({"model": null}), "model"),
        (json!({"model": "-x"}), "model"),
        (json!({"model": "a[2m]"}), "model"),
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": "1"}), "max_tokens"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "x"}), "messages"),
        (json!({"system": 1}), "system"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"top_k": -1}), "top_k"),
        (json!({"stop_sequences": "END"}), "stop_sequences"),
        (json!({"stop_sequences": ["1", "2", "3", "4", "5"]}), "stop_sequences"),
        (json!({"stop_sequences": ["1", 2]}), "stop_sequences[1]"),
        (json!({"thread": {"type": "create"}}), "!thread"),
        (
            json!({"thread": {"type": "continue", "previous_message_id": "msg_1"}, "messages": null}),
            "!thread",
        ),
        (json!({"container": "c"}), "!container"),
        (json!({"fallbacks": []}), "!fallbacks"),
        (json!({"compaction": {}}), "!compaction"),
        (json!({"billing_policy": "user_profile"}), "billing_policy"),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "on"}}), "thinking.type"),
        (json!({"thinking": {"type": "adaptive", "display": 1}}), "thinking.display"),
        (json!({"output_config": {"effort": "minimal"}}), "output_config.effort"),
        (json!({"output_config": {"format": {"type": "json_schema"}}}), "output_config.format.schema"),
        (json!({"output_format": {"type": "xml"}}), "output_format.type"),
        (
            json!({"output_format": {"type": "json_schema", "schema": {"type": "objekt"}}}),
            "output_format.schema",
        ),
        (json!({"tools": [{"name": "f"}]}), "tools[0].input_schema"),
        (json!({"tools": [{"name": "f g", "input_schema": {}}]}), "tools[0].name"),
        (json!({"tools": [{"name": "f".repeat(129), "input_schema": {}}]}), "tools[0].name"),
        (json!({"tools": [function("f"), function("f")]}), "tools[1].name"),
        (json!({"tools": [function("f"), {"type": "future_20300101", "name": "x"}]}), "tools[1].type"),
        (json!({"tools": [search]}), "!tools[0]"),
        (json!({"mcp_servers": [{"type": "url"}]}), "!mcp_servers"),
        (
            json!({"tools": [function("f"), search], "tool_choice": {"type": "tool", "name": "web_search"}}),
            "!tools[1]",
        ),
        (json!({"tools": [function("f")], "tool_choice": {"type": "tool", "name": "g"}}), "tool_choice.name"),
        (json!({"tools": [function("f")], "tool_choice": {"type": "required"}}), "tool_choice.type"),
        (json!({"tools": [function("f")], "tool_choice": "auto"}), "tool_choice"),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
        (json!({"metadata": {"user_id": 1}}), "metadata.user_id"),
        (json!({"context_management": {"edits": [{}]}}), "context_management.edits[0].type"),
    ] {
        assert_eq!(refused(read(extra.clone())).0, path, "{extra}");
    }
    let (_, message) = refused(read(json!({"tools": [search]})));
    let expect = "`tools[0]`: hosted tools (`web_search`) are not available here; offer a function instead.";
    assert_eq!(message, expect);
    let exec = read_under(json!({"tools": [function("f")]}), &Config::default());
    assert!(refused(exec).1.contains("engine = \"app-server\""));
}

#[test]
fn what_has_no_effect_is_named_by_its_path() {
    let all = read(json!({
        "temperature": 1, "top_p": 0.5, "top_k": 5, "service_tier": "standard_only", "future_field": {}, "bad\nname": 1,
        "cache_control": {"type": "ephemeral"}, "diagnostics": {}, "metadata": {"user_id": "u", "cwd": "/"},
        "tools": [
            function("f"), {"type": "web_search_20250305", "name": "web_search"},
            {"type": "custom", "name": "g", "input_schema": {}, "defer_loading": true, "strict": true},
            {"type": "bash_20250124", "name": "bash"},
        ],
        "mcp_servers": [{"type": "url"}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]},
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "thinking", "signature": ""}]}],
    }))
    .unwrap();
    let mut ignored = all.request.ignored;
    ignored.sort();
    assert_eq!(
        ignored,
        [
            "context_management.edits[1]",
            "diagnostics",
            "future_field",
            "max_tokens",
            "mcp_servers",
            "messages[1].content[0].signature",
            "metadata.cwd",
            "service_tier",
            "temperature",
            "tool_choice.disable_parallel_tool_use",
            "tools[1].web_search",
            "tools[2].defer_loading",
            "tools[3].bash",
            "top_k",
            "top_p",
        ]
    );
    assert_eq!(all.tool_origins, [0, 2]);
    assert_eq!(all.request.wishes, Wishes { probe: false, one_call: true });
    assert_eq!(all.request.turn.client_name.as_deref(), Some("u"));
    let plain = read(json!({"service_tier": "auto"})).unwrap().request;
    assert_eq!(plain.ignored, ["max_tokens"]);
    assert!(read(json!({"max_tokens": 1})).unwrap().request.wishes.probe);
}

#[test]
fn thinking_and_effort_are_what_was_asked_for() {
    let none = Shown::default();
    let shown = Shown { blocks: true, text: true };
    let omitted = Shown { blocks: true, text: false };
    for (extra, effort, expect) in [
        (json!({}), None, none),
        (json!({"output_config": {"effort": "xhigh"}}), Some(Effort::XHigh), none),
        (json!({"thinking": {"type": "disabled"}}), Some(Effort::Low), none),
        (
            json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}),
            Some(Effort::Low),
            none,
        ),
        (json!({"thinking": {"type": "adaptive"}}), None, shown),
        (json!({"thinking": {"type": "between_tools", "display": "omitted"}}), None, omitted),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), Some(Effort::Low), shown),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2047}}), Some(Effort::Low), shown),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}), Some(Effort::Medium), shown),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 4095}}), Some(Effort::Medium), shown),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 4096}}), Some(Effort::High), shown),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 32000}, "output_config": {"effort": "low"}}),
            Some(Effort::Low),
            shown,
        ),
    ] {
        let read = read(extra.clone()).unwrap();
        assert_eq!((read.request.turn.effort, read.shown), (effort, expect), "{extra}");
        assert_eq!(read.request.turn.want_encrypted, expect.blocks);
        assert_eq!(read.request.turn.reasoning == Summary::Auto, expect.text);
    }
    let off = Config { reasoning: ReasoningOutput::Off, ..app_server() };
    assert_eq!(read_under(json!({"thinking": {"type": "adaptive"}}), &off).unwrap().shown, omitted);
}

#[test]
fn names_that_clients_ask_for_by_themselves_are_the_default_model() {
    let alias = |pairs: &[(&str, &str)]| Config {
        model_aliases: pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        ..app_server()
    };
    let none = alias(&[]);
    let mapped = alias(&[("claude-opus-4-8", "gpt-5.5"), ("x[1m]", "gpt-6")]);
    let all = alias(&[("*", "gpt-5.5")]);
    for (model, config, expect) in [
        ("claude-opus-4-8", &none, None),
        ("claude-haiku-4-5-20251001", &none, None),
        ("anthropic/claude-x", &none, None),
        ("claude-opus-4-8[1m]", &none, None),
        ("codex-local", &none, None),
        ("codex-local[1m]", &none, None),
        ("gpt-5.5", &none, Some("gpt-5.5")),
        ("gpt-5.5[1m]", &none, None),
        ("x[1m]", &mapped, Some("gpt-6")),
        ("x", &mapped, Some("x")),
        ("gpt-5.4[1m]", &all, Some("gpt-5.5")),
        ("claude-opus-4-8", &mapped, Some("gpt-5.5")),
        ("claude-opus-4-8[1m]", &mapped, Some("gpt-5.5")),
        ("claude-haiku-4-5", &mapped, None),
        ("claude-haiku-4-5", &all, Some("gpt-5.5")),
    ] {
        let read = read_under(json!({"model": model}), config).unwrap().request;
        assert_eq!((&*read.model, read.turn.model.as_deref()), (model, expect));
    }
}

#[test]
fn tools_and_formats_are_carried() {
    let tools = json!([function("f"), function("mcp__x__y")]);
    for (choice, expect, count) in [
        (json!(null), ToolChoice::Auto, 2),
        (json!({"type": "auto"}), ToolChoice::Auto, 2),
        (json!({"type": "any"}), ToolChoice::Required, 2),
        (json!({"type": "tool", "name": "f"}), ToolChoice::Named("f".into()), 2),
        (json!({"type": "none"}), ToolChoice::Auto, 0),
    ] {
        let turn = read(json!({"tools": tools, "tool_choice": choice})).unwrap().request.turn;
        assert_eq!((turn.tool_choice, turn.tools.len()), (expect, count), "{choice}");
    }
    let schema = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    for (extra, path) in [
        (json!({"output_config": {"format": format}}), "output_config.format"),
        (json!({"output_format": format}), "output_format"),
    ] {
        let read = read(extra).unwrap();
        assert!(matches!(read.request.turn.output, Output::JsonSchema(_)));
        assert_eq!(read.format, path);
    }
}
