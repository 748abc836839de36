//! One answer in the making: from the engine's events to what may go out.
//!
//! Stop strings are cut here, and what must be checked before anybody sees it is withheld here:
//! JSON until it is what was asked for, text beside a required function call until there is a call.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::de::IgnoredAny;

use crate::turn::{
    CallKind, Event, Failure, Finish, Output, Saying, Tool, ToolCall, ToolChoice, Turn, Usage, forced, pace,
};

use super::dialect::{Piece, Wishes, join};
use super::form;
use super::ids;
use super::stop::{Passed, StopFilter, Stops};

/// Where messages are joined.
#[derive(Clone, Debug, Default)]
struct Joint {
    /// There is text already.
    begun: bool,
    /// What follows is another message's.
    gap: bool,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    stop: StopFilter,
    /// What it must be, where the upstream does not see to that.
    form: Output,
    tools: Arc<[Tool]>,
    choice: ToolChoice,
    wishes: Wishes,
    /// Whether a function's arguments must be a JSON object: the format has them as one.
    objects: bool,
    called: bool,
    stopped: bool,
    /// The stop string that did it.
    stopped_by: Option<String>,
    /// Some text that is no commentary was said.
    said: bool,
    /// The text under way is progress, not answer: neither cut nor checked.
    commentary: bool,
    /// Set for a format that has one text for each answer.
    joined: Option<Joint>,
    withheld: Vec<Piece>,
    /// What it cost, once known.
    pub usage: Option<Usage>,
}

impl Answer {
    /// An answer of that form.
    pub fn new(stop: &Stops, turn: &Turn) -> Answer {
        Answer {
            stop: StopFilter::new(stop),
            form: turn.output.clone(),
            tools: Arc::clone(&turn.tools),
            choice: turn.tool_choice.clone(),
            wishes: Wishes::default(),
            objects: false,
            called: false,
            stopped: false,
            stopped_by: None,
            said: false,
            commentary: false,
            joined: None,
            withheld: Vec::new(),
            usage: None,
        }
    }

    /// The same for a format that has one text for each answer: its messages are joined by a blank
    /// line, which stop strings may span, and commentary is reasoning.
    pub fn joined(self) -> Answer {
        Answer { joined: Some(Joint::default()), ..self }
    }

    /// The same with these wishes.
    pub fn with(self, wishes: Wishes) -> Answer {
        Answer { wishes, ..self }
    }

    /// The same for a format that writes a function's arguments as a JSON object.
    pub fn with_objects(self) -> Answer {
        Answer { objects: true, ..self }
    }

    /// Whether a stop string ended it, or a wish: whatever the turn still says is not part of the answer.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the next event of its turn; returns what may go out now.
    ///
    /// # Errors
    /// [`Failure::InvalidJsonOutput`] or [`Failure::ToolChoiceNotHonoured`] at the end;
    /// [`Failure::InvalidToolArguments`].
    pub fn take(&mut self, event: Event) -> Result<Vec<Piece>, Failure> {
        let mut out = self.taken(event)?;
        let says = |piece: &Piece| matches!(piece, Piece::Text(_) | Piece::Reasoning(_) | Piece::ToolCall(_));
        let over = matches!(out.last(), Some(Piece::Finish(_)));
        if self.wishes.probe && !self.stopped && !over && out.iter().any(says) {
            self.stopped = true;
            self.finish(Finish::Length, &mut out)?;
        }
        Ok(out)
    }

    fn taken(&mut self, event: Event) -> Result<Vec<Piece>, Failure> {
        let mut out = Vec::new();
        match event {
            Event::Phase(..) => {}
            Event::Done { usage, .. } if self.stopped => self.usage = usage,
            _ if self.stopped => {}
            Event::ReasoningPart { item } => out.push(Piece::ReasoningPart { item }),
            Event::Reasoning(text) => {
                if !text.is_empty() {
                    out.push(Piece::Reasoning(text));
                }
            }
            Event::Thought(thought) => out.push(Piece::Thought(thought)),
            Event::Message { id, phase } if self.joined.is_some() => {
                self.commentary = Saying::is_progress(phase);
                if self.commentary {
                    out.push(Piece::ReasoningPart { item: id });
                } else if let Some(joint) = &mut self.joined {
                    joint.gap = joint.begun;
                }
            }
            Event::Text(text) if self.joined.is_some() && self.commentary => {
                out.push(Piece::Reasoning(text));
            }
            Event::Message { id, phase } => {
                // A stop string does not span messages.
                let rest = self.stop.finish();
                self.release(Piece::Text(rest), &mut out);
                self.commentary = Saying::is_progress(phase);
                self.release(Piece::Message { id, phase }, &mut out);
            }
            Event::Text(text) if self.commentary => self.release(Piece::Text(text), &mut out),
            // Arguments, which stop strings do not cut, if it is not words that will be refused anyway.
            Event::Text(text) if self.must_call() => {
                let text = self.placed(text);
                self.release(Piece::Text(text), &mut out);
            }
            Event::Text(text) => {
                self.said |= !text.is_empty();
                let text = self.placed(text);
                match self.stop.push(text) {
                    Passed::Text(text) => self.release(Piece::Text(text), &mut out),
                    Passed::Stopped { text, by } => {
                        self.stopped = true;
                        self.stopped_by = Some(by);
                        self.release(Piece::Text(text), &mut out);
                        self.finish(Finish::Stop, &mut out)?;
                    }
                }
            }
            Event::ToolCall(_) if self.called && self.wishes.one_call => {}
            Event::ToolCall(call) => {
                if self.objects && call.kind == CallKind::Function && !is_object(&call.arguments) {
                    return Err(Failure::InvalidToolArguments);
                }
                let before = std::mem::take(&mut self.withheld);
                // Text said before the call comes before it, unless it is but another form of it.
                let forced = self.must_call() && self.calls_in(&answer_text(&before)).is_some();
                self.called = true;
                if !self.must_be_checked() && !forced {
                    out.extend(before);
                }
                out.push(Piece::ToolCall(call));
            }
            Event::Done { finish, usage } => {
                self.usage = usage;
                let rest = self.stop.finish();
                self.release(Piece::Text(rest), &mut out);
                self.finish(finish, &mut out)?;
            }
        }
        Ok(out)
    }

    fn must_call(&self) -> bool {
        self.choice != ToolChoice::Auto && !self.called
    }

    /// The calls that words make where a call is required.
    fn calls_in(&self, text: &str) -> Option<Vec<ToolCall>> {
        pace::apart(text.len(), || forced::calls(text, &self.tools, &self.choice, || ids::fresh("call_")))
    }

    fn must_be_checked(&self) -> bool {
        matches!(self.form, Output::JsonObject | Output::Described(_))
    }

    /// The text with the blank line that joins it to the message before it.
    fn placed(&mut self, text: String) -> String {
        let Some(joint) = &mut self.joined else { return text };
        joint.begun = true;
        if std::mem::take(&mut joint.gap) { format!("\n\n{text}") } else { text }
    }

    fn release(&mut self, piece: Piece, out: &mut Vec<Piece>) {
        if matches!(&piece, Piece::Text(text) if text.is_empty()) {
            return;
        }
        if self.must_be_checked() || self.must_call() {
            join(&mut self.withheld, piece);
        } else {
            out.push(piece);
        }
    }

    fn finish(&mut self, finish: Finish, out: &mut Vec<Piece>) -> Result<(), Failure> {
        let withheld = std::mem::take(&mut self.withheld);
        if self.must_call() {
            let mut calls = self.calls_in(&answer_text(&withheld)).ok_or(Failure::ToolChoiceNotHonoured)?;
            if self.wishes.one_call {
                calls.truncate(1);
            }
            self.called = true;
            out.extend(with_text(withheld, None));
            out.extend(calls.into_iter().map(Piece::ToolCall));
            out.push(Piece::Finish(Finish::ToolCalls));
            return Ok(());
        }
        // A cut answer is as whole as it can be; function calls are another form of answer.
        let whole = !self.stopped && !self.called && finish == Finish::Stop;
        // The upstream sees to what is said, not to whether anything is.
        if whole && !self.said && matches!(self.form, Output::JsonSchema(_)) {
            return Err(Failure::InvalidJsonOutput);
        }
        if whole && self.must_be_checked() {
            let text = answer_text(&withheld);
            let checked = form::check(&self.form, &text).ok_or(Failure::InvalidJsonOutput)?;
            if checked.len() < text.len() {
                let checked = checked.to_owned();
                out.extend(with_text(withheld, Some(checked)));
                out.push(Piece::Finish(finish));
                return Ok(());
            }
        }
        out.extend(withheld);
        out.extend(self.stopped_by.take().map(Piece::Stopped));
        out.push(Piece::Finish(finish));
        Ok(())
    }
}

/// Whether it is a JSON object. Only read, not built.
fn is_object(json: &str) -> bool {
    let read = || serde_json::from_str::<HashMap<String, IgnoredAny>>(json).is_ok();
    pace::apart(json.len(), read)
}

/// The text that is no commentary.
fn answer_text(pieces: &[Piece]) -> Cow<'_, str> {
    let mut text = Cow::Borrowed("");
    let mut commentary = false;
    for piece in pieces {
        match piece {
            Piece::Message { phase, .. } => commentary = Saying::is_progress(*phase),
            Piece::Text(more) if !commentary => text += more.as_str(),
            _ => {}
        }
    }
    text
}

/// The same with another text, or none, in the place of what is no commentary.
fn with_text(pieces: Vec<Piece>, mut text: Option<String>) -> Vec<Piece> {
    let mut commentary = false;
    let mut out = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Message { phase, .. } => {
                commentary = Saying::is_progress(phase);
                out.push(piece);
            }
            Piece::Text(_) if !commentary => out.extend(text.take().map(Piece::Text)),
            piece => out.push(piece),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{Item, Part, Role, Workdir};
    use std::path::Path;

    fn text(text: &str) -> Event {
        Event::Text(text.into())
    }

    fn say(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    fn call() -> ToolCall {
        ToolCall::function("1", "f", "{}")
    }

    fn done(finish: Finish) -> Event {
        Event::Done { finish, usage: Some(Usage { input: 1, ..Usage::default() }) }
    }

    fn run(mut answer: Answer, events: Vec<Event>) -> Result<Vec<Piece>, Failure> {
        let mut out = Vec::new();
        for event in events {
            out.extend(answer.take(event)?);
        }
        Ok(out)
    }

    fn plain(stop: &[&str], output: Output, choice: ToolChoice) -> Answer {
        let item = Item::message(Role::User, vec![Part::Text("x".into())]);
        let turn = Turn::new([item], Workdir::unseen(Path::new("/")));
        let tools = [Tool::function("f", "", "{}".into()), Tool::function("g", "", "{}".into())].into();
        Answer::new(&Stops::new(stop).unwrap(), &Turn { output, tools, tool_choice: choice, ..turn })
    }

    #[test]
    fn deltas_go_out_as_they_come() {
        let events = vec![Event::Reasoning("hm".into()), text("a"), text(""), text("b"), done(Finish::Stop)];
        let expect = vec![Piece::Reasoning("hm".into()), say("a"), say("b"), Piece::Finish(Finish::Stop)];
        assert_eq!(run(plain(&[], Output::Text, ToolChoice::Auto), events), Ok(expect));
    }

    #[test]
    fn a_stop_string_ends_the_answer() {
        let events = vec![text("a E"), text("ND b"), text("c"), done(Finish::Length)];
        let mut answer = plain(&["END"], Output::Text, ToolChoice::Auto);
        let mut out = Vec::new();
        for event in events {
            out.extend(answer.take(event).unwrap());
        }
        assert_eq!(out, [say("a "), Piece::Stopped("END".into()), Piece::Finish(Finish::Stop)]);
        // The cost of what was said after it is known all the same.
        assert!(answer.stopped() && answer.usage.is_some());
    }

    #[test]
    fn text_held_for_a_stop_string_goes_out_at_the_end() {
        let events = vec![text("a E"), done(Finish::Stop)];
        let expect = vec![say("a "), say("E"), Piece::Finish(Finish::Stop)];
        assert_eq!(run(plain(&["END"], Output::Text, ToolChoice::Auto), events), Ok(expect));
    }

    #[test]
    fn a_json_object_is_withheld_until_it_is_one() {
        for (said, stops, finish, expect) in [
            (
                &["{\"a\"", ": 1}"][..],
                &[][..],
                Finish::Stop,
                Ok(vec![say("{\"a\": 1}"), Piece::Finish(Finish::Stop)]),
            ),
            (&["[1]"], &[], Finish::Stop, Err(Failure::InvalidJsonOutput)),
            (&["```json\n", "{}\n```"], &[], Finish::Stop, Ok(vec![say("{}"), Piece::Finish(Finish::Stop)])),
            (&["```json\n[]\n```"], &[], Finish::Stop, Err(Failure::InvalidJsonOutput)),
            (&["{} trailing"], &[], Finish::Stop, Err(Failure::InvalidJsonOutput)),
            (&[], &[], Finish::Stop, Err(Failure::InvalidJsonOutput)),
            (&["{\"a\""], &[], Finish::Length, Ok(vec![say("{\"a\""), Piece::Finish(Finish::Length)])),
            (
                &["{\"a\": 1}"],
                &[":"],
                Finish::Stop,
                Ok(vec![say("{\"a\""), Piece::Stopped(":".into()), Piece::Finish(Finish::Stop)]),
            ),
        ] {
            let mut events: Vec<Event> = said.iter().map(|&piece| text(piece)).collect();
            events.push(done(finish));
            assert_eq!(run(plain(stops, Output::JsonObject, ToolChoice::Auto), events), expect, "{said:?}");
        }
    }

    #[test]
    fn json_of_a_described_schema_is_withheld_until_it_is_valid() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}"#;
        let form = || Output::Described(schema.into());
        for (said, expect) in [
            ("{\"a\": 1, \"b\": 2}", Ok("{\"a\": 1, \"b\": 2}")),
            ("```\n{\"a\": 1}\n```", Ok("{\"a\": 1}")),
            ("{\"a\": \"1\"}", Err(Failure::InvalidJsonOutput)),
            ("{}", Err(Failure::InvalidJsonOutput)),
            ("", Err(Failure::InvalidJsonOutput)),
        ] {
            let open = |phase| Event::Message { id: "m".into(), phase };
            let events =
                vec![open(Some(Saying::Commentary)), text("hm"), open(None), text(said), done(Finish::Stop)];
            let opened = |phase| Piece::Message { id: "m".into(), phase };
            let expect = expect.map(|text| {
                vec![
                    opened(Some(Saying::Commentary)),
                    say("hm"),
                    opened(None),
                    say(text),
                    Piece::Finish(Finish::Stop),
                ]
            });
            assert_eq!(run(plain(&[], form(), ToolChoice::Auto), events), expect, "{said}");
        }
        let cut = vec![text("{\"a\""), done(Finish::Length)];
        let expect = vec![say("{\"a\""), Piece::Finish(Finish::Length)];
        assert_eq!(run(plain(&[], form(), ToolChoice::Auto), cut), Ok(expect));
    }

    #[test]
    fn messages_open_in_their_place_and_commentary_is_neither_cut_nor_checked() {
        let open = |commentary: bool| {
            let phase = commentary.then_some(Saying::Commentary);
            Event::Message { id: "m".into(), phase }
        };
        let opened = |commentary: bool| {
            let phase = commentary.then_some(Saying::Commentary);
            Piece::Message { id: "m".into(), phase }
        };
        let events = vec![open(true), text("{ END"), open(false), text("{"), text("} E"), done(Finish::Stop)];
        let stop = plain(&["END"], Output::Text, ToolChoice::Auto);
        let expect = vec![opened(true), say("{ END"), opened(false), say("{"), say("} "), say("E")];
        let ended = |mut pieces: Vec<Piece>| {
            pieces.push(Piece::Finish(Finish::Stop));
            Ok(pieces)
        };
        assert_eq!(run(stop, events.clone()), ended(expect));
        let object = || plain(&[], Output::JsonObject, ToolChoice::Auto);
        assert_eq!(run(object(), events), Err(Failure::InvalidJsonOutput));
        let events = vec![open(true), text("hm"), open(false), text("{"), text("}"), done(Finish::Stop)];
        assert_eq!(run(object(), events), ended(vec![opened(true), say("hm"), opened(false), say("{}")]));
    }

    #[test]
    fn joined_messages_are_one_text_to_a_stop_string_and_commentary_is_reasoning() {
        let open = |commentary: bool| {
            let phase = commentary.then_some(Saying::Commentary);
            Event::Message { id: "m".into(), phase }
        };
        let events = vec![
            open(true),
            text("hm END"),
            open(false),
            text("on"),
            text("e"),
            open(true),
            text("so"),
            open(false),
            open(false),
            text("two"),
            text(" x"),
            done(Finish::Stop),
        ];
        let think = |text: &str| [Piece::ReasoningPart { item: "m".into() }, Piece::Reasoning(text.into())];
        let join = |stop: &[&str]| {
            let pieces = run(plain(stop, Output::Text, ToolChoice::Auto).joined(), events.clone()).unwrap();
            let (mut said, mut thought) = (String::new(), Vec::new());
            for piece in pieces {
                match piece {
                    Piece::Text(text) => said.push_str(&text),
                    Piece::Stopped(_) | Piece::Finish(_) => {}
                    other => thought.push(other),
                }
            }
            (said, thought)
        };
        let thought: Vec<Piece> = think("hm END").into_iter().chain(think("so")).collect();
        assert_eq!(join(&[]), ("one\n\ntwo x".into(), thought.clone()));
        assert_eq!(join(&["END"]), ("one\n\ntwo x".into(), thought.clone()));
        for stop in ["e\n\nt", "\n\nt"] {
            let kept = "one".strip_suffix(stop.split('\n').next().unwrap()).unwrap();
            assert_eq!(join(&[stop]), (kept.into(), thought.clone()), "{stop:?}");
        }
        assert_eq!(join(&["\n\n"]), ("one".into(), thought));
    }

    #[test]
    fn words_of_the_form_that_was_asked_for_are_calls() {
        let required = |stop: &[&str]| plain(stop, Output::Text, ToolChoice::Required);
        let words = [text("{\"calls\":[{\"name\":\"f\",\"arguments\":\"{\\\"a\\\""), text(":1}\"}]}")];
        let said = |end: Vec<Event>| words.iter().cloned().chain(end).collect::<Vec<_>>();
        for stop in [&[][..], &["calls"]] {
            let pieces = run(required(stop), said(vec![done(Finish::Stop)])).unwrap();
            let [Piece::ToolCall(call), Piece::Finish(Finish::ToolCalls)] = &pieces[..] else {
                panic!("{pieces:?}")
            };
            assert!(call.id.starts_with("call_"), "{call:?}");
            assert_eq!((&*call.name, &*call.arguments), ("f", "{\"a\":1}"));
        }
        // A real call beside them is the one that counts.
        let both = said(vec![Event::ToolCall(call()), done(Finish::ToolCalls)]);
        let expect = vec![Piece::ToolCall(call()), Piece::Finish(Finish::ToolCalls)];
        assert_eq!(run(required(&[]), both), Ok(expect));
        let named = plain(&[], Output::Text, ToolChoice::Named("g".into()));
        assert_eq!(run(named, said(vec![done(Finish::Stop)])), Err(Failure::ToolChoiceNotHonoured));
    }

    #[test]
    fn a_probe_ends_as_cut_after_the_first_thing_said() {
        let probe =
            || plain(&[], Output::Text, ToolChoice::Auto).with(Wishes { probe: true, one_call: false });
        let cut = |piece: Piece| Ok(vec![piece, Piece::Finish(Finish::Length)]);
        let events = vec![text("a"), text("b"), done(Finish::Stop)];
        assert_eq!(run(probe(), events), cut(say("a")));
        let events = vec![Event::Reasoning("hm".into()), text("b"), done(Finish::Stop)];
        assert_eq!(run(probe(), events), cut(Piece::Reasoning("hm".into())));
        let events = vec![Event::ToolCall(call()), done(Finish::ToolCalls)];
        assert_eq!(run(probe(), events), cut(Piece::ToolCall(call())));
        // With nothing said it ended by itself.
        assert_eq!(run(probe(), vec![done(Finish::Stop)]), Ok(vec![Piece::Finish(Finish::Stop)]));
    }

    #[test]
    fn of_several_calls_the_first_is_given_where_one_is_wished_for() {
        let one = |choice| plain(&[], Output::Text, choice).with(Wishes { probe: false, one_call: true });
        let second = || Event::ToolCall(ToolCall::function("2", "g", "{}"));
        let events = vec![Event::ToolCall(call()), second(), done(Finish::ToolCalls)];
        let expect = vec![Piece::ToolCall(call()), Piece::Finish(Finish::ToolCalls)];
        assert_eq!(run(one(ToolChoice::Auto), events), Ok(expect));
        let words = r#"{"calls":[{"name":"f","arguments":"{}"},{"name":"g","arguments":"{}"}]}"#;
        let pieces = run(one(ToolChoice::Required), vec![text(words), done(Finish::Stop)]).unwrap();
        assert!(
            matches!(&pieces[..], [Piece::ToolCall(call), Piece::Finish(_)] if call.name == "f"),
            "{pieces:?}"
        );
    }

    #[test]
    fn arguments_are_an_object_where_the_format_has_one() {
        for (arguments, good) in
            [("{\"a\": 1}", true), (" {} ", true), ("[]", false), ("{", false), ("", false)]
        {
            let called =
                || vec![Event::ToolCall(ToolCall::function("1", "f", arguments)), done(Finish::ToolCalls)];
            let answer = || plain(&[], Output::Text, ToolChoice::Auto);
            assert!(run(answer(), called()).is_ok());
            let checked = run(answer().with_objects(), called()).map(|_| ());
            let expect = if good { Ok(()) } else { Err(Failure::InvalidToolArguments) };
            assert_eq!(checked, expect, "{arguments:?}");
        }
        let custom = vec![Event::ToolCall(ToolCall::custom("1", "f", "text")), done(Finish::ToolCalls)];
        assert!(run(plain(&[], Output::Text, ToolChoice::Auto).with_objects(), custom).is_ok());
    }

    #[test]
    fn a_required_call_withholds_text_until_there_is_one() {
        let required = || plain(&[], Output::Text, ToolChoice::Required);
        assert_eq!(
            run(required(), vec![text("no"), done(Finish::Stop)]),
            Err(Failure::ToolChoiceNotHonoured)
        );
        let events = vec![text("let me "), text("see"), Event::ToolCall(call()), done(Finish::ToolCalls)];
        let expect = vec![say("let me see"), Piece::ToolCall(call()), Piece::Finish(Finish::ToolCalls)];
        assert_eq!(run(required(), events), Ok(expect));
    }
}
