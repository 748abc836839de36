use super::*;
use crate::api::dialect::{Dialect, RequestParts, Wanted};
use crate::api::openai::told::read;
use crate::api::remembered::Remembered;
use crate::config::Config;
use crate::turn::{Caller, Finish, Saying, Thought};
use serde_json::{Value, json};

fn encoder(body: &Value) -> Box<dyn Encoder> {
    let parts = RequestParts {
        body: &body.to_string(),
        headers: &http::HeaderMap::new(),
        query: None,
        heading: Heading { unique: "1".into(), ..Heading::default() },
        wanted: &Wanted::default(),
        remembered: &Remembered::new(0).of(&Caller::Unknown),
    };
    crate::api::chat::CHAT.decode(&parts, &Config::default()).unwrap().encoder
}

fn message(commentary: bool) -> Piece {
    Piece::Message { id: "m".into(), phase: commentary.then_some(Saying::Commentary) }
}

fn pieces() -> Vec<Piece> {
    let text = |text: &str| Piece::Text(text.into());
    let reasoning = |text: &str| Piece::Reasoning(text.into());
    vec![
        Piece::ReasoningPart { item: "r".into() },
        reasoning("a"),
        Piece::ReasoningPart { item: "r".into() },
        reasoning("b"),
        Piece::Thought(Thought { summary: vec!["a".into(), "b".into()], ..Thought::default() }),
        message(true),
        text("looking"),
        message(false),
        text("x"),
        text("y"),
        message(false),
        message(false),
        text("z"),
        Piece::Finish(Finish::Stop),
    ]
}

#[test]
fn pieces_of_text_and_of_reasoning_are_joined_by_a_blank_line() {
    let mut encoder = encoder(&json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}));
    let mut out = Frames::default();
    encoder.open(&mut out);
    pieces().into_iter().for_each(|piece| encoder.piece(0, piece, &mut out));
    encoder.close(None, &mut out);
    assert_eq!(out.check(), Ok(()));
    let events = read(&mut out);
    let said = |key: &str| -> String {
        events.iter().filter_map(|event| event["choices"][0]["delta"][key].as_str()).collect()
    };
    assert_eq!((said("role").as_str(), said("content").as_str()), ("assistant", "xy\n\nz"));
    assert_eq!(said("reasoning_content"), "a\n\nb\n\nlooking");
    assert_eq!(events.last(), Some(&json!("[DONE]")));

    let body: Value = serde_json::from_slice(&encoder.whole(vec![pieces()], None).unwrap()).unwrap();
    let message = &body["choices"][0]["message"];
    assert_eq!(
        (&message["content"], &message["reasoning_content"]),
        (&json!("xy\n\nz"), &json!("a\n\nb\n\nlooking"))
    );
    assert_eq!(body["id"], "chatcmpl-1");
}

#[test]
fn an_item_is_named_by_the_message_it_was_made_of() {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let encoder = encoder(&json!({"model": "m", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "let me see", "tool_calls": [call("1"), call("2")]},
        {"role": "tool", "tool_call_id": "1", "content": "a"},
        {"role": "tool", "tool_call_id": "2", "content": "b"},
        {"role": "assistant", "content": "", "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "c"},
    ]}));
    let paths: Vec<String> = (0..9).map(|item| encoder.path(&At::Item(item))).collect();
    let expect = [0, 1, 1, 1, 2, 3, 4, 5].map(|message| format!("messages[{message}]"));
    assert_eq!(paths[..8], expect);
    assert_eq!(paths[8], "messages");
    for (at, path) in [
        (At::Field("n".into()), "n"),
        (At::Model, "model"),
        (At::Conversation, "messages"),
        (At::Tools, "tools"),
        (At::Tool(1), "tools[1].function.parameters"),
        (At::Schema, "response_format.json_schema.schema"),
        (At::Workdir, "metadata.cwd"),
    ] {
        assert_eq!(encoder.path(&at), path);
    }
}
