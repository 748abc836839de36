//! `--live`: one small conversation of two turns, through the running service or, if there is none,
//! through the engine here. The second turn says what the upstream's prompt cache had of the first.
//! Where workers run, one more says whether the upstream takes `tool_transport = items`.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::codex::Examined;
use super::report::Finding;
use crate::api::error;
use crate::cli::probe::HttpProbe;
use crate::cli::readiness::addresses;
use crate::cli::service::{Address, State, World};
use crate::config::{Config, Live, ToolTransport};
use crate::engine::Engine;
use crate::os::users::own_uid;
use crate::turn::{Caller, Event, Failure, Item, Part, Role, Slot, Tool, Turn, Usage, Workdir};

/// Short to ask, short to answer.
const QUESTION: &str = "Reply with exactly: pong";

/// What the model is to call.
const FUNCTION: &str = "ping";

/// A minute more than any sensible answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// From how many tokens on the upstream caches the beginning of a request.
const CACHED_FROM: u64 = 1024;

/// How many lines of filling make the first message longer than [`CACHED_FROM`]: at more than 10 tokens
/// each, some 1,500.
const LINES: usize = 120;

/// What was said so far, the user first.
type Said = Vec<(Role, String)>;

/// One answer.
struct Answered {
    text: String,
    /// Whether a function was called.
    called: bool,
    /// What it took, if that was told.
    usage: Option<Usage>,
}

/// Both answers.
struct Conversation {
    turns: [Answered; 2],
    /// How long the first took.
    took: Duration,
}

/// The first message: the question, after enough to be cached.
fn first() -> String {
    let filling = (1..=LINES).map(|line| format!("{line}. The quick brown fox jumps over the lazy dog.\n"));
    filling.chain(["\nTake no notice of these lines. ".to_owned(), QUESTION.to_owned()]).collect()
}

/// Holds it.
pub(super) fn ask(world: &World, config: &Config, examined: &Examined) -> Vec<Finding> {
    let service = world.manager.service().ok();
    let running = service.filter(|service| service.state == State::Running || service.socket.listening);
    let (through, held) = match running {
        Some(service) => ("the service", over_http(&addresses(&service, config), config)),
        None => (config.engine.name(), here(config, examined)),
    };
    let held = match held {
        Ok(held) => held,
        Err(why) => return vec![Finding::broken("live", format!("{through} gave no answer: {why}"))],
    };
    let (text, took) = (held.turns[0].text.trim(), held.took.as_secs_f64());
    let mut found = vec![
        Finding::good("live", format!("{through} answered {text:?} in {took:.1} s")),
        cached(&held.turns),
    ];
    if config.engine.capabilities().tools {
        found.push(items(config, examined));
    }
    found
}

/// Whether the upstream takes functions as an item, which no document says of every model.
fn items(config: &Config, examined: &Examined) -> Finding {
    let config = Config { tool_transport: ToolTransport::Items, ..config.clone() };
    let asked = Here::start(&config, Live::new(config.clone()), examined).and_then(|here| {
        let parameters = r#"{"type":"object","properties":{},"additionalProperties":false}"#;
        let tool = Tool::function(FUNCTION, "Answers pong.", parameters.into());
        let question = (Role::User, format!("Call the function {FUNCTION}, without a word."));
        let answered = here.ask(Turn { tools: [tool].into(), ..here.turn(&[question]) });
        here.end();
        answered
    });
    let works = "functions arrive as an item (tool_transport = \"items\")";
    match asked {
        Ok(answered) if answered.called => Finding::good("items", works),
        Ok(_) => Finding::mind("items", "the model did not call a function that came as an item")
            .fix("leave tool_transport at \"dynamic\""),
        Err(why) => Finding::mind("items", format!("a function as an item got no answer: {why}"))
            .fix("leave tool_transport at \"dynamic\""),
    }
}

/// What the upstream had cached of the second turn, and what both cost.
fn cached(turns: &[Answered; 2]) -> Finding {
    let [Some(first), Some(second)] = turns.each_ref().map(|turn| turn.usage) else {
        return Finding::mind("cache", "the model service did not say how many tokens the two turns took");
    };
    let cost = format!(
        "the two turns took {} input tokens ({} cached) and {} output tokens of your quota",
        first.input + second.input,
        first.cached_input + second.cached_input,
        first.output + second.output
    );
    let all = second.input;
    match second.cached_input {
        0 if all < CACHED_FROM => Finding::good(
            "cache",
            format!(
                "none of the second turn's {all} input tokens were cached, as the model service caches from \
                 {CACHED_FROM} on; {cost}"
            ),
        ),
        0 => Finding::mind(
            "cache",
            format!("none of the second turn's {all} input tokens were cached, as happens at times; {cost}"),
        )
        .fix("try again; if it stays so, see continuation and continuation_limited_by in /ready"),
        cached => Finding::good(
            "cache",
            format!("{cached} of the second turn's {all} input tokens were cached; {cost}"),
        ),
    }
}

/// What is asked after the first answer.
fn conversation(mut answer: impl FnMut(&Said) -> Result<Answered, String>) -> Result<Conversation, String> {
    let start = Instant::now();
    let mut said = vec![(Role::User, first())];
    let one = answer(&said)?;
    let took = start.elapsed();
    said.extend([(Role::Assistant, one.text.clone()), (Role::User, QUESTION.to_owned())]);
    let two = answer(&said).map_err(|why| format!("to the second turn: {why}"))?;
    Ok(Conversation { turns: [one, two], took })
}

fn over_http(places: &[Address], config: &Config) -> Result<Conversation, String> {
    let place = places.first().ok_or("it listens nowhere")?;
    let key = config.keys.first().map(|key| key.secret.expose());
    conversation(|said| {
        let message = |(role, text): &(Role, String)| json!({ "role": role.name(), "content": text });
        let messages: Vec<Json> = said.iter().map(message).collect();
        let body = json!({ "model": "codex-local", "messages": messages }).to_string();
        let ask = HttpProbe { path: "/v1/chat/completions", key, body: Some(&body) };
        let answer = ask.send(place, PATIENCE).map_err(|error| error.to_string())?;
        let text = |pointer: &str| answer.body.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
        let count = |pointer: &str| answer.body.pointer(pointer).and_then(Json::as_u64);
        let usage = count("/usage/prompt_tokens").map(|input| Usage {
            input,
            cached_input: count("/usage/prompt_tokens_details/cached_tokens").unwrap_or_default(),
            output: count("/usage/completion_tokens").unwrap_or_default(),
            ..Usage::default()
        });
        match answer.status {
            200 => {
                let text = text("/choices/0/message/content");
                Ok(Answered { text: text.ok_or("an answer without text")?, called: false, usage })
            }
            status => Err(format!("{status} {}", text("/error/message").unwrap_or_default())),
        }
    })
}

fn here(config: &Config, examined: &Examined) -> Result<Conversation, String> {
    let here = Here::start(config, examined.live.clone(), examined)?;
    let held = conversation(|said| here.ask(here.turn(said)));
    here.end();
    held
}

/// The engine in this process.
struct Here<'a> {
    examined: &'a Examined,
    engine: Engine,
    workdir: Workdir,
    model: Option<String>,
}

impl<'a> Here<'a> {
    fn start(config: &Config, live: Live, examined: &'a Examined) -> Result<Here<'a>, String> {
        examined.usable.as_ref().map_err(explain)?;
        let workdir = Workdir::resolve(None, &config.default_cwd, &config.allowed_roots);
        let workdir = workdir.map_err(|failure| explain(&failure))?;
        let engine = examined.runtime.block_on(async { Engine::start(live, examined.codex.clone()) });
        Ok(Here { examined, engine, workdir, model: config.model.clone() })
    }

    /// A turn of the conversation so far.
    fn turn(&self, said: &[(Role, String)]) -> Turn {
        let item =
            |(role, text): &(Role, String)| Item::message(*role, vec![Part::Text(text.as_str().into())]);
        let items: Vec<Item> = said.iter().map(item).collect();
        Turn {
            caller: Caller::User(own_uid()),
            model: self.model.clone(),
            ..Turn::new(items, self.workdir.clone())
        }
    }

    fn ask(&self, turn: Turn) -> Result<Answered, String> {
        let answer = async { tokio::time::timeout(PATIENCE, read(&self.engine, turn.clone())).await };
        let answer = self.examined.runtime.block_on(answer);
        answer
            .unwrap_or(Err(Failure::TurnTimedOut { after: PATIENCE }))
            .map_err(|failure| explain(&failure.shown_to(&turn)))
    }

    fn end(self) {
        self.examined.runtime.block_on(self.engine.shutdown());
    }
}

fn explain(failure: &Failure) -> String {
    match failure.detail() {
        Some(detail) if failure.shown().is_none() => detail.to_owned(),
        _ => error::answer(failure).message,
    }
}

async fn read(engine: &Engine, turn: Turn) -> Result<Answered, Failure> {
    let (returned, done) = tokio::sync::oneshot::channel::<()>();
    let mut events = engine.run(turn, Slot::new(returned));
    let (mut text, mut called) = (String::new(), false);
    let outcome = loop {
        match events.next().await {
            Some(Ok(Event::Text(more))) => text += &more,
            Some(Ok(Event::ToolCall(_))) => called = true,
            Some(Err(failure)) => break Err(failure),
            Some(Ok(Event::Done { usage, .. })) => break Ok(Answered { text, called, usage }),
            None => break Err(Failure::Internal { detail: "the turn ended without an outcome".into() }),
            Some(Ok(_)) => {}
        }
    };
    drop(events);
    // The slot comes back when no process of the turn is left; its sender is dropped with it.
    _ = done.await;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Verdict;

    fn told(input: u64, cached_input: u64) -> Answered {
        let usage = Usage { input, cached_input, output: 5, ..Usage::default() };
        Answered { text: "pong".into(), called: false, usage: Some(usage) }
    }

    #[test]
    fn what_was_cached_is_told_with_what_it_cost() {
        for (second, verdict, begins) in [
            (told(1600, 1408), Verdict::Good, "1408 of the second turn's 1600 input tokens were cached; "),
            (
                told(1024, 0),
                Verdict::Mind,
                "none of the second turn's 1024 input tokens were cached, as happens",
            ),
            (
                told(1023, 0),
                Verdict::Good,
                "none of the second turn's 1023 input tokens were cached, as the model",
            ),
        ] {
            let cost = second.usage.unwrap();
            let finding = cached(&[told(1500, 7), second]);
            assert_eq!(finding.verdict, verdict, "{}", finding.text);
            assert!(finding.text.starts_with(begins), "{}", finding.text);
            let ends = format!(
                "the two turns took {} input tokens ({} cached) and 10 output tokens of your quota",
                1500 + cost.input,
                7 + cost.cached_input
            );
            assert!(finding.text.ends_with(&ends), "{}", finding.text);
        }
        let untold = cached(&[told(1500, 0), Answered { text: String::new(), called: false, usage: None }]);
        assert_eq!(untold.verdict, Verdict::Mind);
    }

    #[test]
    fn the_first_message_is_long_enough_to_be_cached() {
        // No word of the filling is longer than a token, nor two of them one.
        assert!(first().split_whitespace().count() as u64 > CACHED_FROM);
        assert!(first().ends_with(QUESTION));
    }
}
