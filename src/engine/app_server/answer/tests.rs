use serde_json::{Value, json};

use super::*;
use crate::engine::app_server::tool_names::{Names, Taken};
use crate::engine::plan::Source;
use crate::turn::{CallKind, Event, Events, Format, Phase, Saying, Slot, Tool, backlogged_events};

struct Case {
    answer: Answer,
    events: Events,
}

fn case(tools: &[&str]) -> Case {
    offering(tools.iter().map(|name| Tool::function(*name, "", "{}".into())).collect(), false)
}

fn offering(tools: Vec<Tool>, want_encrypted: bool) -> Case {
    let (sink, events) = backlogged_events();
    let names = Arc::new(Names::new(&tools, &[], Taken::ByFunctions));
    let tools = tools.into();
    let context = TurnContext { names, tools, want_encrypted, model: Some("gpt-x".into()), lean: true };
    let plan = Plan::default();
    let settlement = Settlement::new(Arc::new(sink), Slot::new(()), Instant::now(), Arc::default());
    let mut answer = Answer::new(settlement, context, plan);
    answer.conversation_taken();
    answer.accepted(Instant::now());
    answer.called("T1");
    Case { answer, events }
}

impl Case {
    fn hear(&mut self, method: &str, params: Value) -> &mut Case {
        if method == "item/agentMessage/delta" {
            let text = |name: &str| params[name].as_str().unwrap().to_owned();
            self.answer.message_delta(&text("itemId"), text("delta"));
        } else {
            self.answer.hear(method, &params.to_string());
        }
        self
    }

    fn delta(&mut self, id: &str, delta: &str) -> &mut Case {
        self.hear("item/agentMessage/delta", json!({"threadId": "T", "itemId": id, "delta": delta}))
    }

    fn started(&mut self, id: &str, phase: Option<&str>) -> &mut Case {
        self.hear(
            "item/started",
            json!({"item": {"type": "agentMessage", "id": id, "text": "", "phase": phase}}),
        )
    }

    fn completed_item(&mut self, id: &str, text: &str) -> &mut Case {
        self.hear(
            "item/completed",
            json!({"item": {"type": "agentMessage", "id": id, "text": text, "phase": null}}),
        )
    }

    fn reasoning(&mut self, delta: &str) -> &mut Case {
        self.hear(
            "item/reasoning/summaryTextDelta",
            json!({"threadId": "T", "itemId": "r", "delta": delta, "summaryIndex": 0}),
        )
    }

    fn part(&mut self) -> &mut Case {
        self.hear("item/reasoning/summaryPartAdded", json!({"itemId": "r", "summaryIndex": 0}))
    }

    fn call(&mut self, turn: &str, id: &str, name: &str, arguments: &str) -> &mut Case {
        self.hear(
            "rawResponseItem/completed",
            json!({"turnId": turn, "item": {"type": "function_call", "call_id": id, "name": name, "arguments": arguments}}),
        )
    }

    fn response(&mut self, input: u64, output: u64) -> &mut Case {
        self.hear("rawResponse/completed", json!({"usage": {"inputTokens": input, "outputTokens": output, "cachedInputTokens": 1, "reasoningOutputTokens": 0}}))
    }

    fn retry(&mut self) -> &mut Case {
        self.hear(
            "error",
            json!({"willRetry": true, "error": {"message": "Reconnecting... 1/2", "codexErrorInfo": {"responseStreamDisconnected": {"httpStatusCode": null}}, "additionalDetails": "stream disconnected before completion: closed"}}),
        )
    }

    fn end(&mut self, status: &str, message: Option<&str>) -> &mut Case {
        let error = message.map(|message| json!({"message": message, "codexErrorInfo": "other"}));
        self.hear(
            "turn/completed",
            json!({"turn": {"id": "T1", "status": status, "error": error, "items": []}}),
        )
    }

    /// Everything reported, as one line each; phases left out.
    fn check(&mut self, stage: Stage, expect: &[&str]) {
        assert_eq!(self.answer.stage(), stage);
        assert_eq!(
            self.answer.settlement.slot.is_none(),
            stage == Stage::Over,
            "the slot goes with the last of the turn"
        );
        // The sink must be gone for the events to end where no terminal one came.
        let (sink, _events) = backlogged_events();
        self.answer.settlement.sink = Arc::new(sink);
        let mut got = Vec::new();
        let mut phases = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        while let Some(item) = runtime.block_on(self.events.next()) {
            got.push(match item {
                Ok(Event::Phase(phase, _)) => {
                    phases.push(phase);
                    continue;
                }
                Ok(Event::Text(text)) => format!("T:{text}"),
                Ok(Event::Reasoning(text)) => format!("R:{text}"),
                Ok(Event::ReasoningPart { .. }) => "P".into(),
                Ok(Event::Message { id, phase: None }) => format!("M:{id}"),
                Ok(Event::Message { id, phase: Some(Saying::Commentary) }) => format!("Commentary:{id}"),
                Ok(Event::Message { id, phase: Some(Saying::Final) }) => format!("Final:{id}"),
                Ok(Event::Thought(thought)) => {
                    format!(
                        "Thought:{} {} {}",
                        thought.id,
                        thought.summary.join("|"),
                        thought.encrypted.unwrap_or_default()
                    )
                }
                Ok(Event::ToolCall(call)) => {
                    let kind = if call.kind == CallKind::Custom { "Custom" } else { "C" };
                    let namespace = call.namespace.map(|namespace| namespace + "/").unwrap_or_default();
                    format!("{kind}:{} {namespace}{} {}", call.id, call.name, call.arguments)
                }
                Ok(Event::Done { finish, usage: None }) => format!("{finish:?}"),
                Ok(Event::Done { finish, usage: Some(usage) }) => {
                    format!("{finish:?} {}+{}", usage.input, usage.output)
                }
                Err(Failure::NoModel { model }) => format!("NoModel {model}"),
                Err(failure) => format!("{failure:?}").split([' ', '{']).next().unwrap().to_owned(),
            });
        }
        assert_eq!(got, expect);
        // The turn was accepted: its length is told once, with its end.
        let ends = phases.iter().filter(|phase| **phase == Phase::AppServerTurnComplete).count();
        assert_eq!(ends, usize::from(got.last().is_none_or(|last| last != "Internal")));
    }
}

#[test]
fn a_plain_answer_streams_and_ends() {
    case(&[])
        .started("m1", None)
        .delta("m1", "he")
        .delta("m1", "llo")
        .completed_item("m1", "hello")
        .response(11, 5)
        .end("completed", None)
        .check(Stage::Over, &["M:m1", "T:he", "T:llo", "Stop 11+5"]);
}

#[test]
fn text_without_deltas_is_not_lost_and_deltas_are_not_repeated() {
    case(&[])
        .completed_item("m1", "whole")
        .end("completed", None)
        .check(Stage::Over, &["M:m1", "T:whole", "Stop"]);
    case(&[])
        .delta("m1", "hal")
        .completed_item("m1", "half")
        .completed_item("m1", "half")
        .end("completed", None)
        .check(Stage::Over, &["M:m1", "T:hal", "T:f", "Stop"]);
    case(&[])
        .delta("m1", "xé")
        .completed_item("m1", "é")
        .end("completed", None)
        .check(Stage::Over, &["M:m1", "T:xé", "Stop"]);
}

#[test]
fn pieces_open_before_their_text() {
    case(&[])
        .part()
        .reasoning("think")
        .part()
        .reasoning("more")
        .started("m0", Some("commentary"))
        .delta("m0", "progress")
        .started("m1", Some("final_answer"))
        .delta("m1", "one")
        .started("m2", None)
        .delta("m2", "two")
        .end("completed", None)
        .check(
            Stage::Over,
            &[
                "P",
                "R:think",
                "P",
                "R:more",
                "Commentary:m0",
                "T:progress",
                "Final:m1",
                "T:one",
                "M:m2",
                "T:two",
                "Stop",
            ],
        );
}

#[test]
fn commentary_alone_is_no_answer() {
    case(&[])
        .started("m0", Some("commentary"))
        .delta("m0", "hm")
        .end("completed", None)
        .check(Stage::Over, &["Commentary:m0", "T:hm", "NoAnswer"]);
    case(&[]).end("completed", None).check(Stage::Over, &["NoAnswer"]);
}

#[test]
fn nothing_said_is_an_empty_answer_and_nothing_told_is_none() {
    // A message without text, or a response without a message.
    case(&[])
        .started("m1", None)
        .completed_item("m1", "")
        .end("completed", None)
        .check(Stage::Over, &["Stop"]);
    case(&[]).response(11, 0).end("completed", None).check(Stage::Over, &["Stop 11+0"]);
    case(&[])
        .reasoning("hm")
        .response(11, 5)
        .end("completed", None)
        .check(Stage::Over, &["P", "R:hm", "Stop 11+5"]);
    // A thread that may be kept is not.
    let mut resting = case(&[]);
    resting.answer.may_rest(true);
    resting.response(11, 0).end("completed", None).check(Stage::Over, &["Stop 11+0"]);
    // What was begun was not told; commentary promised more.
    case(&[]).started("m1", None).response(11, 5).end("completed", None).check(Stage::Over, &["NoAnswer"]);
    case(&[])
        .started("m0", Some("commentary"))
        .delta("m0", "hm")
        .hear(
            "item/completed",
            json!({"item": {"type": "agentMessage", "id": "m0", "text": "hm", "phase": "commentary"}}),
        )
        .response(11, 5)
        .end("completed", None)
        .check(Stage::Over, &["Commentary:m0", "T:hm", "NoAnswer"]);
    // It was begun again, and then said nothing.
    case(&[])
        .started("m1", None)
        .retry()
        .started("m2", None)
        .completed_item("m2", "")
        .end("completed", None)
        .check(Stage::Over, &["Stop"]);
}

#[test]
fn parallel_calls_come_in_model_order_with_exact_arguments_and_end_the_turn() {
    let mut case = case(&["get_weather", "exec_command"]);
    case.call("auto-compact-0", "old", "get_weather", "{}")
        .hear(
            "rawResponseItem/completed",
            json!({"turnId": "T1", "item": {"type": "message", "role": "user", "content": []}}),
        )
        .delta("m1", "let me see")
        .call("T1", "c1", "get_weather", "{\"city\": \"Oslo\"}")
        .call("T1", "c2", "client_exec_command", "{\"broken\"")
        .call("T1", "c3", "nope", "{}")
        .call("T1", "c4", "get_weather", "")
        .response(11, 5);
    assert_eq!(case.answer.stage(), Stage::Unwanted);
    case.delta("m2", "late").end("interrupted", None).check(
        Stage::Over,
        &[
            "M:m1",
            "T:let me see",
            "C:c1 get_weather {\"city\": \"Oslo\"}",
            "C:c2 exec_command {\"broken\"",
            "C:c4 get_weather ",
            "ToolCalls 11+5",
        ],
    );
}

#[test]
fn calls_stand_where_they_stood_among_the_texts() {
    let mut case = case(&["f"]);
    case.delta("m1", "one")
        .completed_item("m1", "one")
        .call("T1", "c1", "f", "1")
        .delta("m2", "two")
        .call("T1", "c2", "f", "2")
        .call("T1", "c3", "f", "3")
        .part()
        .reasoning("hm")
        .call("T1", "c4", "f", "4")
        .response(1, 1)
        .check(
            Stage::Unwanted,
            &[
                "M:m1",
                "T:one",
                "C:c1 f 1",
                "M:m2",
                "T:two",
                "C:c2 f 2",
                "C:c3 f 3",
                "P",
                "R:hm",
                "C:c4 f 4",
                "ToolCalls 1+1",
            ],
        );
}

#[test]
fn calls_come_back_in_their_own_kind_and_namespace() {
    let tools = vec![
        Tool::custom("exec", "", Format::Text).within("functions"),
        Tool::custom("apply_patch", "", Format::Text),
        Tool::function("x", "", "{}".into()).within("mcp__y"),
    ];
    offering(tools, false)
        .call("T1", "c1", "functions__exec", r#"{"input":"ls\n"}"#)
        .call("T1", "c2", "apply_patch", "*** Begin Patch")
        .call("T1", "c3", "client_mcp__y__x", "{}")
        .call("T1", "c4", "exec", "{}")
        .response(1, 1)
        .check(
            Stage::Unwanted,
            &[
                "Custom:c1 functions/exec ls\n",
                "Custom:c2 apply_patch *** Begin Patch",
                "C:c3 mcp__y/x {}",
                "ToolCalls 1+1",
            ],
        );
}

#[test]
fn thoughts_are_told_whole_and_only_where_wanted() {
    let thought = |id: &str, turn: &str| {
        json!({"turnId": turn, "item": {"type": "reasoning", "id": id, "encrypted_content": format!("enc-{id}"),
            "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}], "content": null}})
    };
    let play = |want: bool| {
        let mut case = offering(vec![Tool::function("f", "", "{}".into())], want);
        case.hear("rawResponseItem/completed", thought("old", "auto-compact-0"))
            .part()
            .reasoning("a")
            .part()
            .reasoning("b")
            .hear("rawResponseItem/completed", thought("r1", "T1"))
            .call("T1", "c1", "f", "1")
            .hear("rawResponseItem/completed", thought("r2", "T1"))
            .call("T1", "c2", "f", "2")
            .response(1, 1);
        case
    };
    play(false).check(Stage::Unwanted, &["P", "R:a", "P", "R:b", "C:c1 f 1", "C:c2 f 2", "ToolCalls 1+1"]);
    play(true).check(
        Stage::Unwanted,
        &[
            "P",
            "R:a",
            "P",
            "R:b",
            "Thought:r1 a|b enc-r1",
            "C:c1 f 1",
            "Thought:r2 a|b enc-r2",
            "C:c2 f 2",
            "ToolCalls 1+1",
        ],
    );
    // Held until something follows, so that what is begun again is not told twice.
    let mut again = offering(vec![], true);
    again
        .hear("rawResponseItem/completed", thought("r1", "T1"))
        .retry()
        .hear("rawResponseItem/completed", thought("r2", "T1"))
        .delta("m1", "x")
        .end("completed", None)
        .check(Stage::Over, &["Thought:r2 a|b enc-r2", "M:m1", "T:x", "Stop"]);
    let mut told = offering(vec![], true);
    told.hear("rawResponseItem/completed", thought("r1", "T1"))
        .part()
        .reasoning("b")
        .retry()
        .check(Stage::Unwanted, &["Thought:r1 a|b enc-r1", "P", "R:b", "CodexFailed"]);
    // A thought is no answer.
    offering(vec![], true)
        .hear("rawResponseItem/completed", thought("r1", "T1"))
        .end("completed", None)
        .check(Stage::Over, &["NoAnswer"]);
}

#[test]
fn an_output_limit_after_a_call_keeps_the_call() {
    case(&["f"])
        .call("T1", "c1", "f", "{}")
        .end("failed", Some("Incomplete response returned, reason: max_output_tokens"))
        .check(Stage::Over, &["C:c1 f {}", "Length"]);
}

#[test]
fn a_call_nobody_offered_does_not_end_the_turn() {
    case(&["f"])
        .call("T1", "c1", "nope", "{}")
        .response(11, 5)
        .delta("m1", "sorry")
        .response(20, 1)
        .end("completed", None)
        .check(Stage::Over, &["M:m1", "T:sorry", "Stop 31+6"]);
}

#[test]
fn a_retry_before_any_text_starts_afresh_and_after_it_is_a_failure() {
    case(&["f"])
        .call("T1", "c1", "f", "{}")
        .retry()
        .started("m2", None)
        .delta("m2", "pong")
        .end("completed", None)
        .check(Stage::Over, &["M:m2", "T:pong", "Stop"]);
    case(&[])
        .delta("m1", "po")
        .retry()
        .delta("m2", "po")
        .check(Stage::Unwanted, &["M:m1", "T:po", "CodexFailed"]);
    // Reasoning is not repeated; the answer is whole.
    case(&[])
        .reasoning("hm")
        .retry()
        .reasoning("hm")
        .delta("m2", "pong")
        .response(1, 1)
        .reasoning("next")
        .end("completed", None)
        .check(Stage::Over, &["P", "R:hm", "M:m2", "T:pong", "P", "R:next", "Stop 1+1"]);
    // Text of an earlier, finished response is not said again.
    case(&[])
        .delta("m1", "one")
        .response(1, 1)
        .retry()
        .delta("m2", "two")
        .end("completed", None)
        .check(Stage::Over, &["M:m1", "T:one", "M:m2", "T:two", "Stop 1+1"]);
}

#[test]
fn a_cut_history_is_an_error() {
    for method in ["item/started", "item/completed"] {
        case(&[])
            .hear(method, json!({"item": {"type": "contextCompaction", "id": "x"}}))
            .delta("m1", "wrong")
            .check(Stage::Unwanted, &["ContextLength"]);
    }
}

#[test]
fn ends_are_told_apart() {
    let rows: &[(&str, Option<&str>, &[&str])] = &[
        (
            "failed",
            Some("Incomplete response returned, reason: max_output_tokens"),
            &["M:m1", "T:par", "Length 1+2"],
        ),
        ("failed", Some("stream disconnected before completion: x"), &["M:m1", "T:par", "CodexFailed"]),
        (
            "failed",
            Some(r#"{"detail":"Instructions are not valid"}"#),
            &["M:m1", "T:par", "LeanRequestRefused"],
        ),
        (
            "failed",
            Some(r#"{"error":{"message":"no","code":"invalid_json_schema","type":"invalid_request_error"}}"#),
            &["M:m1", "T:par", "UpstreamRejected"],
        ),
        (
            "failed",
            Some(r#"{"error":{"message":"The model `y` does not exist","code":"model_not_found"}}"#),
            &["M:m1", "T:par", "NoModel gpt-x"],
        ),
        ("failed", None, &["M:m1", "T:par", "CodexFailed"]),
        ("interrupted", None, &["M:m1", "T:par", "CodexFailed"]),
        ("somethingNew", None, &["M:m1", "T:par", "CodexFailed"]),
    ];
    for (status, message, expect) in rows {
        case(&[])
            .delta("m1", "par")
            .hear(
                "thread/tokenUsage/updated",
                json!({"tokenUsage": {"total": {"inputTokens": 1, "outputTokens": 2}, "last": {}}}),
            )
            .end(status, *message)
            .check(Stage::Over, expect);
    }
    case(&[]).hear("turn/completed", json!({"turn": 5})).check(Stage::Over, &["CodexFailed"]);
    case(&[])
        .hear("error", json!({"willRetry": false, "error": {"message": "boom", "codexErrorInfo": "contextWindowExceeded"}}))
        .end("failed", None)
        .check(Stage::Over, &["ContextLength"]);
}

#[test]
fn a_usage_limit_without_a_time_takes_it_from_the_windows() {
    let mut case = case(&[]);
    let limits = serde_json::from_value(json!({
        "primary": {"usedPercent": 100, "windowDurationMins": 300, "resetsAt": 1234},
        "secondary": {"usedPercent": 50, "resetsAt": 9999}
    }));
    case.answer.plan.report(limits.unwrap(), Source::Turn);
    case.hear("turn/completed", json!({"turn": {"id": "T1", "status": "failed", "error": {"message": "You've hit your usage limit.", "codexErrorInfo": "usageLimitExceeded"}}}));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut last = None;
    while let Some(item) = runtime.block_on(case.events.next()) {
        last = Some(item);
    }
    assert!(matches!(last, Some(Err(Failure::UsageLimit { resets_at: Some(1234), .. }))), "{last:?}");
}

#[test]
fn a_client_that_falls_behind_ends_its_turn_and_one_that_left_too() {
    let mut slow = case(&[]);
    while slow.answer.stage() == Stage::Running {
        slow.delta("m1", &"x".repeat(100_000));
    }
    assert_eq!(slow.answer.stage(), Stage::Unwanted);
    let mut gone = case(&[]);
    let (_, events) = backlogged_events();
    gone.events = events;
    gone.delta("m1", "x");
    assert_eq!(gone.answer.stage(), Stage::Unwanted);
    assert!(gone.answer.settlement.slot.is_some());
    gone.end("interrupted", None);
    assert!(gone.answer.settlement.slot.is_none());
}

#[test]
fn a_turn_that_begins_without_its_conversation_fails() {
    for method in ["item/agentMessage/delta", "turn/started", "item/started", "rawResponse/completed"] {
        let mut case = case(&[]);
        case.answer.assembler.conversation = Conversation::Sent;
        // Echoes of the conversation may come while it is taken.
        case.hear("rawResponseItem/completed", json!({"turnId": "x", "item": {"type": "message"}}));
        assert!(!case.answer.was_early());
        case.hear(method, json!({"threadId": "T", "itemId": "m", "delta": "wrong"}));
        assert!(case.answer.was_early());
        case.answer.conversation_taken();
        case.delta("m", "more").end("completed", None).check(Stage::Over, &["CodexFailed"]);
    }
}

#[test]
fn noise_changes_nothing() {
    let mut case = case(&[]);
    for method in [
        "error",
        "item/started",
        "item/completed",
        "rawResponseItem/completed",
        "rawResponse/completed",
        "thread/tokenUsage/updated",
        "turn/started",
        "item/reasoning/summaryTextDelta",
        "new/thing",
    ] {
        for params in ["", "null", "[]", "{}", "{\"item\":5,\"turn\":[]}", "garbage"] {
            case.answer.hear(method, params);
        }
    }
    case.delta("m1", "ok").end("completed", None).check(Stage::Over, &["M:m1", "T:ok", "Stop"]);
}

#[test]
fn an_answer_takes_so_many_responses_and_no_more() {
    for raw in [true, false] {
        let mut case = case(&["f"]);
        if raw {
            case.answer.may_rest(true);
        }
        let one = |case: &mut Case| {
            if raw {
                case.response(1, 1);
            } else {
                case.hear(
                    "thread/tokenUsage/updated",
                    json!({"tokenUsage": {"total": {"inputTokens": 1, "outputTokens": 1}, "last": {}}}),
                );
            }
        };
        (0..4).for_each(|_| one(&mut case));
        assert_eq!(case.answer.stage(), Stage::Running, "raw: {raw}");
        one(&mut case);
        case.check(Stage::Unwanted, &["CodexFailed"]);
    }
}
