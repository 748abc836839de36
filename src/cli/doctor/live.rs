//! `--live`: one tiny turn, through the running service or, if there is none, through the engine here.

use std::time::{Duration, Instant};

use super::Finding;
use super::codex::Examined;
use crate::api::error;
use crate::cli::probe::HttpProbe;
use crate::cli::readiness::addresses;
use crate::cli::service::{State, World};
use crate::config::Config;
use crate::engine::Engine;
use crate::os::users::own_uid;
use crate::turn::{Caller, Event, Failure, Item, Part, Role, Slot, Turn, Workdir};

/// Short to ask, short to answer.
const QUESTION: &str = "Reply with exactly: pong";

/// A minute more than any sensible answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks.
pub(super) fn ask(world: &World, config: &Config, examined: &Examined) -> Finding {
    let start = Instant::now();
    let service = world.manager.service().ok();
    let running = service.filter(|service| service.state == State::Running || service.socket.listening);
    let (through, answer) = match running {
        Some(service) => ("the service", over_http(&addresses(&service, config), config)),
        None => (config.engine.name(), here(config, examined)),
    };
    match answer {
        Ok(text) => {
            let took = start.elapsed().as_secs_f64();
            Finding::good("live", format!("{through} answered {:?} in {took:.1} s", text.trim()))
        }
        Err(why) => Finding::broken("live", format!("{through} gave no answer: {why}")),
    }
}

fn over_http(places: &[crate::cli::service::Address], config: &Config) -> Result<String, String> {
    let body = serde_json::json!({
        "model": "codex-local", "messages": [{ "role": "user", "content": QUESTION }],
    })
    .to_string();
    let key = config.keys.first().map(|key| key.secret.expose());
    let ask = HttpProbe { path: "/v1/chat/completions", key, body: Some(&body) };
    let place = places.first().ok_or("it listens nowhere")?;
    let answer = ask.send(place, PATIENCE).map_err(|error| error.to_string())?;
    let text = |pointer: &str| answer.body.pointer(pointer).and_then(|text| text.as_str()).map(str::to_owned);
    match answer.status {
        200 => text("/choices/0/message/content").ok_or_else(|| "an answer without text".into()),
        status => Err(format!("{status} {}", text("/error/message").unwrap_or_default())),
    }
}

fn here(config: &Config, examined: &Examined) -> Result<String, String> {
    let explain = |failure: &Failure| match failure.detail() {
        Some(detail) if failure.shown().is_none() => detail.to_owned(),
        _ => error::answer(failure).message,
    };
    examined.usable.as_ref().map_err(explain)?;
    let workdir = Workdir::resolve(None, &config.default_cwd, &config.allowed_roots);
    let content = vec![Part::Text(QUESTION.into())];
    let workdir = workdir.map_err(|failure| explain(&failure))?;
    let turn = Turn {
        caller: Caller::User(own_uid()),
        model: config.model.clone(),
        ..Turn::new([Item::message(Role::User, content)], workdir)
    };
    examined.runtime.block_on(async {
        let (live, codex) = (examined.live.clone(), examined.codex.clone());
        let engine = Engine::start(live, codex);
        let answer = tokio::time::timeout(PATIENCE, read(&engine, turn.clone())).await;
        engine.shutdown().await;
        answer
            .unwrap_or(Err(Failure::TurnTimedOut { after: PATIENCE }))
            .map_err(|failure| explain(&failure.shown_to(&turn)))
    })
}

async fn read(engine: &Engine, turn: Turn) -> Result<String, Failure> {
    let (returned, done) = tokio::sync::oneshot::channel::<()>();
    let mut events = engine.run(turn, Slot::new(returned));
    let mut text = String::new();
    let outcome = loop {
        match events.next().await {
            Some(Ok(Event::Text(more))) => text += &more,
            Some(Err(failure)) => break Err(failure),
            Some(Ok(Event::Done { .. })) => break Ok(text),
            None => break Err(Failure::Internal { detail: "the turn ended without an outcome".into() }),
            Some(Ok(_)) => {}
        }
    };
    drop(events);
    // The slot comes back when no process of the turn is left; its sender is dropped with it.
    _ = done.await;
    outcome
}
