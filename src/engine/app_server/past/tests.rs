use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use super::*;
use crate::turn::{Caller, Effort, Output, Saying, Summary, Tool, ToolChoice, Workdir};

fn message(role: Role, text: &str) -> Item {
    Item::message(role, vec![Part::Text(text.into())])
}

fn user(text: &str) -> Item {
    message(Role::User, text)
}

fn model(text: &str) -> Item {
    message(Role::Assistant, text)
}

fn call(id: &str, arguments: &str) -> Item {
    Item::from(tool_call(id, arguments))
}

fn tool_call(id: &str, arguments: &str) -> ToolCall {
    ToolCall::function(id, "f", arguments)
}

fn result(id: &str) -> Item {
    Item::ToolResult { call_id: id.into(), content: vec![Part::Text("3C".into())] }
}

fn turn(items: &[Item]) -> Turn {
    let workdir = Workdir::resolve(None, &std::env::temp_dir(), &[]).unwrap();
    let tools = Arc::new([Tool::function("f", "", "{}".into())]);
    Turn { caller: Caller::User(1), tools, ..Turn::new(items, workdir) }
}

fn said(events: &[Event]) -> Told {
    let mut said = Told::default();
    events.iter().for_each(|event| said.note(event));
    said
}

/// Whether `next` goes on from there, digest and comparison alike.
fn goes(past: &Past, next: &Turn) -> bool {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let Some((at, digest)) = goes_on(next, &hasher) else { return false };
    let compared = past.continues(next, at);
    assert!(!compared || digest == past.digest(&hasher), "what is the same has the same digest");
    compared
}

#[test]
fn a_conversation_goes_on_only_from_what_was_said() {
    let asked = [message(Role::System, "s"), user("a"), model("b"), user("c")];
    let past = Past::new(turn(&asked), said(&[Event::Text("d".into()), Event::Text("e".into())]));
    let next = |rest: &[Item]| turn(&[&asked[..], rest].concat());
    assert!(goes(&past, &next(&[model("de"), user("f")])));
    assert!(goes(&past, &next(&[model("de"), message(Role::Developer, "x"), user("f")])));
    let empty = Item::message(Role::Assistant, vec![]);
    assert!(goes(&past, &next(&[empty, model("de"), user("f")])), "nothing was said in one of them");
    for (what, rest) in [
        ("nothing new", vec![model("de")]),
        ("other words", vec![model("d"), user("f")]),
        ("more words", vec![model("de"), model("f"), user("g")]),
        ("no words", vec![user("f")]),
        ("a result nobody asked for", vec![model("de"), result("1")]),
        ("a call nobody made", vec![model("de"), call("1", "{}"), result("1")]),
    ] {
        assert!(!goes(&past, &next(&rest)), "{what}");
    }
    let end = [model("de"), user("f")];
    for index in 0..asked.len() {
        let mut edited = asked.to_vec();
        edited[index] = user("edited");
        assert!(!goes(&past, &turn(&[&edited[..], &end].concat())), "item {index}");
        edited.remove(index);
        assert!(!goes(&past, &turn(&[&edited[..], &end].concat())), "without item {index}");
    }
    // Another role, the same words.
    let mut edited = asked.to_vec();
    edited[0] = message(Role::Developer, "s");
    assert!(!goes(&past, &turn(&[&edited[..], &end].concat())));
}

#[test]
fn everything_that_is_asked_must_be_the_same() {
    let asked = turn(&[user("a")]);
    let past = Past::new(asked.clone(), said(&[Event::Text("b".into())]));
    let next = turn(&[user("a"), model("b"), user("c")]);
    assert!(goes(&past, &next));
    for (what, other) in [
        ("caller", Turn { caller: Caller::User(2), ..next.clone() }),
        ("name", Turn { client_name: Some("x".into()), ..next.clone() }),
        ("model", Turn { model: Some("m".into()), ..next.clone() }),
        ("output", Turn { output: Output::JsonObject, ..next.clone() }),
        ("effort", Turn { effort: Some(Effort::Low), ..next.clone() }),
        ("verbosity", Turn { verbosity: Some(crate::turn::Verbosity::Low), ..next.clone() }),
        ("tier", Turn { service_tier: Some(crate::turn::ServiceTier::Flex), ..next.clone() }),
        ("tools", Turn { tools: Arc::new([]), ..next.clone() }),
        ("summary", Turn { reasoning: Summary::Auto, ..next.clone() }),
        ("thoughts", Turn { want_encrypted: true, ..next.clone() }),
        ("choice", Turn { tool_choice: ToolChoice::Required, ..next.clone() }),
    ] {
        assert!(!goes(&past, &other), "{what}");
    }
}

#[test]
fn open_calls_need_exactly_their_results_first() {
    let asked = [user("a")];
    let events = [
        Event::Text("let me see".into()),
        Event::ToolCall(tool_call("1", "{\"a\": 1}")),
        Event::ToolCall(tool_call("2", "{}")),
    ];
    let past = Past::new(turn(&asked), said(&events));
    let next = |rest: &[Item]| {
        let words = [model("let me see"), call("1", "{\"a\":1}"), call("2", "{}")];
        turn(&[&asked[..], &words, rest].concat())
    };
    assert!(goes(&past, &next(&[result("1"), result("2")])));
    assert!(goes(&past, &next(&[result("2"), result("1"), user("and?")])));
    for (what, rest) in [
        ("one is missing", vec![result("1")]),
        ("one twice", vec![result("1"), result("2"), result("2")]),
        ("one more", vec![result("1"), result("2"), result("3")]),
        ("something before", vec![user("x"), result("1"), result("2")]),
        ("something between", vec![result("1"), user("x"), result("2")]),
        ("only words", vec![user("x")]),
    ] {
        assert!(!goes(&past, &next(&rest)), "{what}");
    }
    for (what, words) in [
        ("arguments", [call("1", "{\"a\":2}"), call("2", "{}")]),
        ("order", [call("2", "{}"), call("1", "{\"a\":1}")]),
        ("id", [call("9", "{\"a\":1}"), call("2", "{}")]),
    ] {
        let rest = [result("1"), result("2")];
        let other = turn(&[&asked[..], &[model("let me see")], &words, &rest].concat());
        assert!(!goes(&past, &other), "{what}");
    }
}

#[test]
fn formats_may_join_messages_and_leave_progress_out() {
    let events = [
        Event::Message { id: "1".into(), phase: Some(Saying::Commentary) },
        Event::Text("looking".into()),
        Event::Message { id: "2".into(), phase: None },
        Event::Text("a".into()),
        Event::Message { id: "3".into(), phase: None },
        Event::Text("b".into()),
    ];
    let past = Past::new(turn(&[user("q")]), said(&events));
    for (words, same) in [
        (vec![model("a\n\nb")], true),
        (vec![model("a"), model("b")], true),
        (vec![model("looking"), model("a"), model("b")], true),
        (vec![model("looking"), model("a")], false),
        (vec![model("ab")], false),
    ] {
        let next = turn(&[&[user("q")], &words[..], &[user("next")]].concat());
        assert_eq!(goes(&past, &next), same, "{words:?}");
    }
}

#[test]
fn thoughts_that_come_back_must_be_those_that_were_told() {
    let thought = |text: &str| {
        let encrypted = Some(text.to_owned());
        Event::Thought(crate::turn::Thought { id: String::new(), summary: [].into(), encrypted })
    };
    let back = |text: &str| Item::Reasoning { encrypted: text.into(), summary: [].into() };
    let past = Past::new(turn(&[user("q")]), said(&[thought("x"), Event::Text("a".into())]));
    for (words, same) in [
        (vec![back("x"), model("a")], true),
        (vec![model("a")], true),
        (vec![back("y"), model("a")], false),
        (vec![back("x"), back("y"), model("a")], false),
    ] {
        let next = turn(&[&[user("q")], &words[..], &[user("next")]].concat());
        assert_eq!(goes(&past, &next), same, "{words:?}");
    }
}

#[test]
fn arguments_are_the_same_when_a_client_writes_out_what_is_off() {
    for (model, client, same) in [
        (r#"{"a": 1}"#, r#"{"a":1,"all":false}"#, true),
        (r#"{"a":{"b":[{}]}}"#, r#"{"a":{"b":[{"c":null}]},"d":null}"#, true),
        (r#"{"a":1}"#, r#"{"a":1,"all":true}"#, false),
        (r#"{"a":1}"#, r#"{"a":1,"all":""}"#, false),
        (r#"{"a":1}"#, r#"{"a":1,"all":0}"#, false),
        (r#"{"a":1,"all":false}"#, r#"{"a":1}"#, false),
        (r#"{"a":null}"#, r#"{"a":false}"#, false),
        (r#"{"a":[1]}"#, r#"{"a":[1,null]}"#, false),
        ("{", "{", false),
    ] {
        assert_eq!(super::same_json(model, client), same, "{model} {client}");
    }
}
