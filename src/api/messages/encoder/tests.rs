use super::*;
use crate::turn::{Saying, Thought, ToolCall};
use serde_json::{Value, json};

const USAGE: Usage = Usage { input: 10, cached_input: 4, output: 5, reasoning_output: 2 };

fn encoder(blocks: bool, text: bool) -> MessagesEncoder {
    let shown = Shown { blocks, text };
    let heading =
        Heading { unique: "1".into(), request_id: "req_1".into(), created: 7, ..Heading::default() };
    MessagesEncoder {
        reply: Reply { heading, model: "m".into() },
        shown,
        origins: vec![Origin::System, Origin::Message(0), Origin::Block(1, 2)],
        tool_origins: vec![3],
        format: "output_format",
        blocks: Blocks::new(shown),
        index: 0,
    }
}

/// The events, each checked to be framed with its name.
fn events(out: &mut Frames) -> Vec<Value> {
    std::iter::from_fn(|| out.pop())
        .map(|frame| {
            let text = std::str::from_utf8(&frame).unwrap();
            let (name, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
            assert_eq!(data["type"], name);
            data
        })
        .collect()
}

fn usage(input: u64, cached: u64, output: u64, thinking: u64) -> Value {
    json!({
        "input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
        "output_tokens": output, "output_tokens_details": {"thinking_tokens": thinking}, "cache_creation": null,
        "server_tool_use": null, "inference_geo": null, "speed": null, "service_tier": "standard",
    })
}

fn message(content: Value, stop_reason: Value, stop_sequence: Value, usage: Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
        "stop_reason": stop_reason, "stop_sequence": stop_sequence, "stop_details": null, "container": null,
        "usage": usage,
    })
}

fn message_piece() -> Piece {
    Piece::Message { id: "m".into(), phase: Some(Saying::Commentary) }
}

fn say(text: &str) -> Piece {
    Piece::Text(text.into())
}

fn thought() -> Piece {
    Piece::Thought(Thought {
        id: "rs".into(),
        summary: vec!["a".into(), "b".into()],
        encrypted: Some("e".into()),
    })
}

/// What a stream has between its start and its end, in short: `+text`, a delta's text, `-`.
fn stream(encoder: &mut MessagesEncoder, pieces: Vec<Piece>) -> Vec<String> {
    let mut out = Frames::default();
    pieces.into_iter().for_each(|piece| encoder.piece(0, piece, &mut out));
    events(&mut out)
        .iter()
        .map(|event| {
            let at = event["index"].as_u64().unwrap();
            match event["type"].as_str().unwrap() {
                "content_block_start" => format!("{at}+{}", event["content_block"]["type"].as_str().unwrap()),
                "content_block_stop" => format!("{at}-"),
                _ => {
                    let delta = &event["delta"];
                    let kind = delta["type"].as_str().unwrap().trim_end_matches("_delta");
                    let key = if kind == "input_json" { "partial_json" } else { kind };
                    format!("{at}{kind}={}", delta[key].as_str().unwrap())
                }
            }
        })
        .collect()
}

const SIGNED: &str = "codex1.cnMKZQ==";

#[test]
fn a_stream_has_anthropics_events() {
    let mut encoder = encoder(true, true);
    let mut out = Frames::default();
    encoder.open(&mut out);
    let start = message(json!([]), Value::Null, Value::Null, usage(0, 0, 0, 0));
    assert_eq!(
        events(&mut out),
        [json!({"type": "message_start", "message": start}), json!({"type": "ping"})]
    );
    encoder.piece(0, say("a"), &mut out);
    encoder.piece(0, Piece::ToolCall(ToolCall::function("call_9", "f", "{\"a\": 1}")), &mut out);
    encoder.piece(0, Piece::Finish(Finish::ToolCalls), &mut out);
    encoder.keep_alive(&mut out);
    encoder.close(Some(USAGE), &mut out);
    let ended =
        json!({"stop_reason": "tool_use", "stop_sequence": null, "stop_details": null, "container": null});
    assert_eq!(
        events(&mut out),
        [
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": []}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1,
                "content_block": {"type": "tool_use", "id": "toolu_9", "name": "f", "input": {}, "caller": {"type": "direct"}}}),
            json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "{\"a\": 1}"}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "ping"}),
            json!({"type": "message_delta", "delta": ended, "usage": usage(6, 4, 5, 2)}),
            json!({"type": "message_stop"}),
        ]
    );
}

#[test]
fn blocks_follow_each_other_and_never_overlap() {
    let part = || Piece::ReasoningPart { item: "r".into() };
    let think = |text: &str| Piece::Reasoning(text.into());
    let call = || Piece::ToolCall(ToolCall::function("x", "f", "{}"));
    let finish = || Piece::Finish(Finish::Stop);
    for (blocks, text, pieces, expect) in [
        (true, true, vec![say("a"), say("b"), finish()], &["0+text", "0text=a", "0text=b", "0-"][..]),
        (
            true,
            true,
            vec![
                part(),
                think("a"),
                think("b"),
                part(),
                think("c"),
                thought(),
                message_piece(),
                say("x"),
                finish(),
            ],
            &[
                "0+thinking",
                "0thinking=a",
                "0thinking=b",
                "0thinking=\n\nc",
                "0signature=codex1.cnMKZQ==",
                "0-",
                "1+text",
                "1text=x",
                "1-",
            ],
        ),
        // Told at its end only.
        (
            true,
            true,
            vec![thought(), say("x"), finish()],
            &[
                "0+thinking",
                "0thinking=a\n\nb",
                "0signature=codex1.cnMKZQ==",
                "0-",
                "1+text",
                "1text=x",
                "1-",
            ],
        ),
        // Its end comes late: the signature alone.
        (
            true,
            true,
            vec![part(), think("a"), say("x"), thought(), finish()],
            &[
                "0+thinking",
                "0thinking=a",
                "0-",
                "1+text",
                "1text=x",
                "1-",
                "2+thinking",
                "2signature=codex1.cnMKZQ==",
                "2-",
            ],
        ),
        (
            true,
            false,
            vec![part(), think("a"), thought(), finish()],
            &["0+thinking", "0signature=codex1.cnMKZQ==", "0-"],
        ),
        (false, false, vec![part(), think("a"), thought(), say("x"), finish()], &["0+text", "0text=x", "0-"]),
        // Without encrypted content there is no signature.
        (
            true,
            true,
            vec![think("a"), say("x"), finish()],
            &["0+thinking", "0thinking=a", "0-", "1+text", "1text=x", "1-"],
        ),
        (
            false,
            false,
            vec![message_piece(), say("a"), message_piece(), say("b"), call(), call(), say("c"), finish()],
            &[
                "0+text",
                "0text=a",
                "0-",
                "1+text",
                "1text=b",
                "1-",
                "2+tool_use",
                "2input_json={}",
                "2-",
                "3+tool_use",
                "3input_json={}",
                "3-",
                "4+text",
                "4text=c",
                "4-",
            ],
        ),
        (true, true, vec![message_piece(), finish()], &[]),
    ] {
        assert_eq!(stream(&mut encoder(blocks, text), pieces.clone()), expect, "{pieces:?}");
    }
    assert_eq!(super::super::thinking::encrypted(SIGNED).as_deref(), Some("e"));
}

#[test]
fn a_whole_message_has_the_same_content() {
    let pieces = vec![
        Piece::Reasoning("hm".into()),
        thought(),
        say("a"),
        message_piece(),
        say("b"),
        Piece::ToolCall(ToolCall::function("call_9", "f", " {\"b\": 1.50, \"a\": 2} ")),
        Piece::Finish(Finish::ToolCalls),
    ];
    let body = encoder(true, true).whole(vec![pieces], Some(USAGE)).unwrap();
    assert!(std::str::from_utf8(&body).unwrap().contains("{\"b\": 1.50, \"a\": 2}"));
    let content = json!([
        {"type": "thinking", "thinking": "hm", "signature": SIGNED},
        {"type": "text", "text": "a", "citations": []},
        {"type": "text", "text": "b", "citations": []},
        {"type": "tool_use", "id": "toolu_9", "name": "f", "input": {"b": 1.50, "a": 2}, "caller": {"type": "direct"}},
    ]);
    let expect = message(content, json!("tool_use"), Value::Null, usage(6, 4, 5, 2));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expect);
}

#[test]
fn why_it_ended_is_told() {
    for (pieces, reason, sequence) in [
        (vec![Piece::Finish(Finish::Stop)], "end_turn", Value::Null),
        (vec![Piece::Finish(Finish::Length)], "max_tokens", Value::Null),
        (vec![Piece::Stopped("END".into()), Piece::Finish(Finish::Stop)], "stop_sequence", json!("END")),
    ] {
        let body = encoder(false, false).whole(vec![pieces.clone()], None).unwrap();
        let expect = message(json!([]), json!(reason), sequence.clone(), usage(0, 0, 0, 0));
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expect);
        let mut streamed = encoder(false, false);
        let mut out = Frames::default();
        pieces.into_iter().for_each(|piece| streamed.piece(0, piece, &mut out));
        streamed.close(None, &mut out);
        let delta = &events(&mut out)[0]["delta"];
        assert_eq!((&delta["stop_reason"], &delta["stop_sequence"]), (&json!(reason), &sequence));
    }
    let half = encoder(false, false).whole(vec![vec![say("half")]], None);
    assert!(matches!(half, Err(Failure::Internal { .. })));
}

#[test]
fn a_stream_that_fails_ends_with_an_error_event() {
    let mut out = Frames::default();
    encoder(false, false).fail(&crate::api::error::answer(&Failure::NoAnswer), &mut out);
    let error = json!({"type": "api_error", "message": "The turn completed without an answer.",
        "details": {"error_code": "no_answer"}});
    assert_eq!(events(&mut out), [json!({"type": "error", "error": error, "request_id": "req_1"})]);
}

#[test]
fn parts_of_a_request_have_this_formats_names() {
    let encoder = encoder(false, false);
    for (at, path) in [
        (At::Item(0), "system"),
        (At::Item(1), "messages[0]"),
        (At::Item(2), "messages[1].content[2]"),
        (At::Item(9), "messages"),
        (At::Tool(0), "tools[3].input_schema"),
        (At::Schema, "output_format.schema"),
        (At::Workdir, "metadata.cwd"),
    ] {
        assert_eq!(encoder.path(&at), path);
    }
}
