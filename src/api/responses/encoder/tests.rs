use super::super::said::Wanted;
use super::*;
use crate::api::error;
use crate::api::remembered::Remembered;
use crate::turn::{Caller, Item, Part, Role, Saying, Thought, ToolCall};
use serde_json::{Value, json};

const USAGE: Usage = Usage { input: 10, cached_input: 4, output: 5, reasoning_output: 2 };

fn encoder(encrypted: bool) -> ResponsesEncoder {
    let wanted = Wanted { encrypted, summaries: true };
    let asked = Answered { model: "m".into(), wanted, ..Answered::default() };
    let heading = Heading { unique: "1".into(), created: 7, ..Heading::default() };
    ResponsesEncoder::new(asked, heading, Remembered::new(0).of(&Caller::Unknown), || 9)
}

fn frames(out: &mut Frames) -> Vec<Value> {
    let mut events = Vec::new();
    while let Some(frame) = out.pop() {
        let text = std::str::from_utf8(&frame).unwrap();
        let (name, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(events.len())));
        events.push(event);
    }
    events
}

fn streamed(encrypted: bool, pieces: &[Piece]) -> Vec<Value> {
    let (mut encoder, mut out) = (encoder(encrypted), Frames::default());
    encoder.open(&mut out);
    pieces.iter().for_each(|piece| encoder.piece(0, piece.clone(), &mut out));
    encoder.close(Some(USAGE), &mut out);
    let events = frames(&mut out);
    let last = events.last().unwrap()["response"].clone();
    // Item by item, what was streamed is what the response has; and a whole response is the same.
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    let done: Vec<&Value> = done.map(|event| &event["item"]).collect();
    assert_eq!(last["output"].as_array().unwrap().iter().collect::<Vec<_>>(), done);
    let whole = self::encoder(encrypted).whole(vec![pieces.to_vec()], Some(USAGE)).unwrap();
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(nameless(whole), nameless(last));
    events
}

/// Without the ids, which are new for each.
fn nameless(mut response: Value) -> Value {
    for item in response["output"].as_array_mut().unwrap() {
        item["id"] = json!(null);
    }
    response
}

fn short(events: &[Value]) -> Vec<String> {
    let word = |event: &Value| {
        let name = event["type"].as_str().unwrap().trim_start_matches("response.").to_owned();
        match event["output_index"].as_u64() {
            Some(index) => format!("{index} {name}"),
            None => name,
        }
    };
    events.iter().map(word).collect()
}

fn text(text: &str) -> Piece {
    Piece::Text(text.into())
}

fn message(commentary: bool) -> Piece {
    Piece::Message { id: "up".into(), phase: commentary.then_some(Saying::Commentary) }
}

fn think(text: &str) -> Piece {
    Piece::Reasoning(text.into())
}

fn thought(summary: &[&str], encrypted: Option<&str>) -> Piece {
    let summary = summary.iter().map(|&part| part.into()).collect();
    Piece::Thought(Thought { id: "up".into(), summary, encrypted: encrypted.map(Into::into) })
}

const STOP: Piece = Piece::Finish(Finish::Stop);

#[test]
fn each_item_is_added_told_and_done() {
    let call = ToolCall::function("call_1", "f", "{}").within("n");
    let events = streamed(
        true,
        &[
            Piece::ReasoningPart { item: "r".into() },
            think("a"),
            think("b"),
            Piece::ReasoningPart { item: "r".into() },
            think("c"),
            thought(&["ab", "c"], Some("E")),
            message(true),
            text("first"),
            Piece::ToolCall(call),
            Piece::ToolCall(ToolCall::custom("call_2", "c", "ls")),
            message(false),
            text("x"),
            text("y"),
            STOP,
        ],
    );
    let expect = [
        "created",
        "in_progress",
        "0 output_item.added",
        "0 reasoning_summary_part.added",
        "0 reasoning_summary_text.delta",
        "0 reasoning_summary_text.delta",
        "0 reasoning_summary_text.done",
        "0 reasoning_summary_part.done",
        "0 reasoning_summary_part.added",
        "0 reasoning_summary_text.delta",
        "0 reasoning_summary_text.done",
        "0 reasoning_summary_part.done",
        "0 output_item.done",
        "1 output_item.added",
        "1 content_part.added",
        "1 output_text.delta",
        "1 output_text.done",
        "1 content_part.done",
        "1 output_item.done",
        "2 output_item.added",
        "2 function_call_arguments.delta",
        "2 function_call_arguments.done",
        "2 output_item.done",
        "3 output_item.added",
        "3 custom_tool_call_input.delta",
        "3 custom_tool_call_input.done",
        "3 output_item.done",
        "4 output_item.added",
        "4 content_part.added",
        "4 output_text.delta",
        "4 output_text.delta",
        "4 output_text.done",
        "4 content_part.done",
        "4 output_item.done",
        "completed",
    ];
    assert_eq!(short(&events), expect);
    let said = |text: &str| json!([{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]);
    let response = nameless(events.last().unwrap()["response"].clone());
    assert_eq!(
        response["output"],
        json!([
            {"id": null, "type": "reasoning", "encrypted_content": "E", "summary": [
                {"type": "summary_text", "text": "ab"}, {"type": "summary_text", "text": "c"},
            ]},
            {"id": null, "type": "message", "role": "assistant", "status": "completed", "phase": "commentary",
                "content": said("first")},
            {"id": null, "type": "function_call", "call_id": "call_1", "name": "f", "namespace": "n",
                "arguments": "{}", "status": "completed"},
            {"id": null, "type": "custom_tool_call", "call_id": "call_2", "name": "c", "input": "ls",
                "status": "completed"},
            {"id": null, "type": "message", "role": "assistant", "status": "completed", "content": said("xy")},
        ])
    );
    assert_eq!((&response["created_at"], &response["completed_at"]), (&json!(7), &json!(9)));
    // Every event of an item has its id, and what opens it has nothing of what is told later.
    for event in &events {
        if let Some(id) = event["item_id"].as_str() {
            let index = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
            assert_eq!(events.last().unwrap()["response"]["output"][index]["id"], id, "{event}");
        }
    }
    assert_eq!(events[19]["item"]["arguments"], "");
    assert_eq!(events[27]["item"]["content"], json!([]));
    assert_eq!(
        events[29],
        json!({"type": "response.output_text.delta", "sequence_number": 29, "item_id": events[29]["item_id"],
            "output_index": 4, "content_index": 0, "delta": "x", "logprobs": []})
    );
    assert_eq!(events[8]["part"], json!({"type": "summary_text", "text": ""}));
    assert_eq!((&events[11]["part"]["text"], &events[11]["summary_index"]), (&json!("c"), &json!(1)));
    assert_eq!((&events[25]["input"], &events[21]["name"]), (&json!("ls"), &json!("f")));
}

#[test]
fn reasoning_is_given_as_far_as_there_is_any() {
    let kinds = |encrypted, pieces: &[Piece]| {
        let events = streamed(encrypted, pieces);
        let output = events.last().unwrap()["response"]["output"].clone();
        output
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["type"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let silent = [thought(&[], Some("E")), text("x"), STOP];
    assert_eq!(kinds(true, &silent), ["reasoning", "message"]);
    assert_eq!(kinds(false, &silent), ["message"]);
    let two =
        [think("a"), thought(&["a"], Some("E")), think("b"), thought(&["b"], Some("F")), text("x"), STOP];
    assert_eq!(kinds(true, &two), ["reasoning", "reasoning", "message"]);
    // Its summary came with no deltas.
    let events = streamed(true, &[thought(&["a", "b"], None), text("x"), STOP]);
    assert_eq!(events.last().unwrap()["response"]["output"][0]["summary"][1]["text"], "b");
}

#[test]
fn an_empty_answer_is_a_message_without_text() {
    let events = streamed(false, &[STOP]);
    assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], "");
    assert!(!short(&events).iter().any(|name| name.ends_with("delta")));
    let events = streamed(false, &[Piece::Finish(Finish::Length)]);
    assert_eq!(events.last().unwrap()["response"]["output"], json!([]));
}

#[test]
fn the_output_limit_makes_it_incomplete() {
    let events = streamed(false, &[text("so"), Piece::Finish(Finish::Length)]);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
}

#[test]
fn a_failure_is_told_in_both_forms_and_ends_the_response() {
    for (failure, code, in_response) in [
        (Failure::ContextLength, "context_length_exceeded", "context_length_exceeded"),
        (
            Failure::UsageLimit { resets_at: None, said: Default::default() },
            "insufficient_quota",
            "insufficient_quota",
        ),
        (
            Failure::UpstreamOverloaded { detail: String::new(), said: Default::default() },
            "upstream_overloaded",
            "server_is_overloaded",
        ),
        (Failure::codex_failed("x"), "codex_failed", "server_error"),
    ] {
        let (mut encoder, mut out) = (encoder(false), Frames::default());
        encoder.open(&mut out);
        encoder.piece(0, text("ha"), &mut out);
        let reply = error::answer_to(&encoder, &failure);
        encoder.fail(&reply, &mut out);
        let events = frames(&mut out);
        let [.., error, failed] = &events[..] else { panic!() };
        let param = reply.param.as_deref();
        assert_eq!(
            *error,
            json!({"type": "error", "sequence_number": 5, "code": code, "message": reply.message, "param": param,
                "error": {"message": reply.message, "type": reply.kind, "param": param, "code": code}})
        );
        assert_eq!(failed["type"], "response.failed");
        let response = &failed["response"];
        assert_eq!((&response["status"], &response["completed_at"]), (&json!("failed"), &json!(null)));
        assert_eq!(response["error"], json!({"code": in_response, "message": reply.message}));
    }
}

#[test]
fn what_a_complete_response_said_is_remembered() {
    let pieces = |finish| {
        let thought = Thought { encrypted: Some("E".into()), ..Thought::default() };
        let call = ToolCall::custom("call_1", "c", "ls").within("n");
        [Piece::Thought(thought), message(true), text("hm"), Piece::ToolCall(call), Piece::Finish(finish)]
    };
    let store = Remembered::new(1 << 20).of(&Caller::Unknown);
    let with_store = || {
        let mut encoder = encoder(true);
        encoder.remembered = store.clone();
        encoder
    };
    let check = |response: &Value| {
        let ids = response["output"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap());
        let known: Vec<Item> = ids.map(|id| store.find(id).unwrap()).collect();
        let content = vec![Part::Text("hm".into())];
        let expect = [
            Item::Reasoning { encrypted: "E".into(), summary: [].into() },
            Item::Message { role: Role::Assistant, content, phase: Some(Saying::Commentary) },
            Item::from(ToolCall::custom("call_1", "c", "ls").within("n")),
        ];
        assert_eq!(known, expect);
    };
    let whole = with_store().whole(vec![pieces(Finish::ToolCalls).to_vec()], None).unwrap();
    check(&serde_json::from_slice(&whole).unwrap());
    let (mut encoder, mut out) = (with_store(), Frames::default());
    encoder.open(&mut out);
    pieces(Finish::Length).into_iter().for_each(|piece| encoder.piece(0, piece, &mut out));
    let open = frames(&mut out);
    let told = |event: &&Value| event["type"] == "response.output_item.done";
    let id = open.iter().find(told).unwrap()["item"]["id"].as_str().unwrap().to_owned();
    assert_eq!(store.find(&id), None, "not before the end");
    encoder.next = 0;
    encoder.close(Some(USAGE), &mut out);
    check(&frames(&mut out)[0]["response"]);
}

#[test]
fn neighbouring_thoughts_are_items_of_their_own_without_what_tells_their_end() {
    let part = |item: &str| Piece::ReasoningPart { item: item.into() };
    let pieces = [
        part("r1"),
        think("a"),
        part("r1"),
        think("b"),
        part("r2"),
        think("c"),
        Piece::Message { id: "up".into(), phase: Some(Saying::Final) },
        text("x"),
        STOP,
    ];
    let events = streamed(false, &pieces);
    let output = &events.last().unwrap()["response"]["output"];
    let texts = |item: &Value| {
        let parts = item["summary"].as_array().unwrap();
        parts.iter().map(|part| part["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((texts(&output[0]), texts(&output[1])), (vec!["a".into(), "b".into()], vec!["c".into()]));
    assert_ne!(output[0]["id"], output[1]["id"]);
    assert_eq!(output[2]["phase"], "final_answer");
}
