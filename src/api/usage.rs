//! `/usage`: what people look at, as one document. What is running, what was spent, what is left.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::codex::{Continuation, Login, Survey};
use crate::config::Config;
use crate::engine::plan::{RateLimit, Report};
use crate::observe::Recent;
use crate::os::systemd::Unit;
use crate::os::users::own_uid;
use crate::turn::Caller;

use super::gate::is_forwarded;
use super::peer::Peer;
use super::running::Seen;
use super::{App, status};

/// Who looks.
#[derive(Clone, Debug)]
pub(super) struct Looker {
    /// Whom the gate took it for.
    caller: Caller,
    /// Whether it is this service's own user, or root, at this machine.
    master: bool,
    /// Whether nobody can be told from anybody.
    faceless: bool,
    /// Where it found this server: the `Host` header.
    host: Option<String>,
}

impl Looker {
    /// Who sent a request that was let in.
    pub(super) fn new(caller: Caller, peer: Peer, headers: &http::HeaderMap) -> Looker {
        let uid = match peer {
            Peer::Unix(uid) => uid,
            Peer::Local(uid) => Some(uid),
            Peer::Stranger | Peer::Remote(_) | Peer::CannotTell => None,
        };
        // A reverse proxy of ours speaks for others.
        let master = uid.is_some_and(|uid| uid == 0 || uid == own_uid()) && !is_forwarded(headers);
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let host = host.filter(|_| !matches!(peer, Peer::Unix(_)));
        Looker { caller, master, faceless: peer == Peer::CannotTell, host }
    }

    /// Whether it may end a turn of that caller.
    pub(super) fn may_end(&self, owner: &Caller) -> bool {
        let own = self.caller == *owner && (*owner != Caller::Unknown || self.faceless);
        own || self.master
    }
}

/// The document, without the time: what is the same shows nothing new. Has Codex asked for what is left of
/// the plan if that was told long ago.
pub(super) fn document(app: &App, config: &Config, looker: &Looker) -> Value {
    let survey = app.codex.survey();
    json!({
        "object": "usage",
        "service": service(app, config, survey.as_deref(), looker),
        "ready": ready(app),
        "plan": plan(app, survey.as_deref()),
        "today": app.observer.today().json(),
        "turns": turns(app, looker),
        "recent": app.observer.recent().iter().map(|request| recent(request, app.unit.as_ref())).collect::<Value>(),
    })
}

/// The document at this moment.
pub(super) fn timed(mut document: Value) -> Value {
    document["now"] = now().into();
    document
}

fn now() -> f64 {
    seconds(SystemTime::now())
}

/// Unix seconds, to the millisecond.
fn seconds(at: SystemTime) -> f64 {
    (at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3).round() / 1e3
}

fn service(app: &App, config: &Config, survey: Option<&Survey>, looker: &Looker) -> Value {
    let reads = survey.and_then(|survey| survey.confinement.as_ref()).map(|reads| reads.name());
    let continuation = survey.and_then(Survey::continuation);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "codex_version": survey.and_then(|survey| survey.version).map(|version| version.to_string()),
        "engine": app.engine.name(),
        "profile": config.profile().name(),
        "isolation": config.isolation.name(),
        "agent_reads": reads,
        "continuation": continuation.as_ref().map(Continuation::name),
        "unit": app.unit.as_ref().map(|unit| &unit.name),
        "started_at": app.started_unix,
        "base_url": looker.host.as_ref().map(|host| format!("http://{host}/v1")),
        "key_required": config.needs_key(),
    })
}

fn ready(app: &App) -> Value {
    match status::lack(app) {
        None => json!({"status": "ready", "reason": null, "message": null, "fix": null}),
        Some(lack) => json!({
            "status": "not_ready", "reason": lack.code, "message": lack.message, "fix": lack.fix,
        }),
    }
}

fn plan(app: &App, survey: Option<&Survey>) -> Option<Value> {
    let report = app.engine.plan()?;
    // Nobody is logged in any more whose plan that was.
    match survey?.login? {
        Login::Missing | Login::NotPortable | Login::ApiKey => None,
        Login::Codex | Login::NotNeeded => Some(plan_of(&report, now())),
    }
}

fn plan_of(report: &Report, now: f64) -> Value {
    json!({
        "type": report.plan,
        "reported_at": (report.at * 1e3).round() / 1e3,
        "source": report.source.name(),
        "limited": report.is_limited(now),
        "windows": report.windows.iter().map(|window| window_of(window, report.at, now)).collect::<Value>(),
        "credits": report.credits.as_ref().map(|credits| json!({
            "has_credits": credits.any, "unlimited": credits.unlimited, "balance": credits.balance,
        })),
    })
}

fn window_of(window: &RateLimit, reported_at: f64, now: f64) -> Value {
    let pace = window.pace(reported_at, now);
    json!({
        "name": window.title(),
        "minutes": window.window_minutes,
        // It has started anew: nobody knows.
        "used_percent": (!window.is_over(now)).then_some(window.used_percent),
        "resets_at": window.resets_at,
        "pace": pace.map(|pace| (pace.ratio * 100.0).round() / 100.0),
        "empty_at": pace.and_then(|pace| pace.empty_at).map(f64::round),
    })
}

fn turns(app: &App, looker: &Looker) -> Value {
    let (running, queued): (Vec<Seen>, Vec<Seen>) =
        app.running.seen().into_iter().partition(|seen| seen.running);
    let list = |all: &[Seen]| all.iter().map(|seen| turn(seen, looker)).collect::<Value>();
    json!({"running": list(&running), "queued": list(&queued)})
}

fn turn(seen: &Seen, looker: &Looker) -> Value {
    json!({
        "id": seen.id, "request_id": seen.asker.request_id, "caller": seen.asker.name.as_deref(), "model": seen.asker.model,
        "since": seconds(seen.since), "characters": seen.characters,
        "may_interrupt": looker.may_end(&seen.asker.caller),
    })
}

fn recent(request: &Recent, unit: Option<&Unit>) -> Value {
    json!({
        "at": (request.at * 1e3).round() / 1e3,
        "caller": request.caller.as_deref(),
        "model": request.model,
        "status": request.status.name(),
        "http_status": request.http_status,
        "error_type": request.error_type,
        "stream": request.stream,
        "first_content_ms": request.first_content_ms,
        "total_ms": request.total_ms,
        "input_tokens": request.usage.map(|usage| usage.input),
        "cached_tokens": request.usage.map(|usage| usage.cached_input),
        "output_tokens": request.usage.map(|usage| usage.output),
        "request_id": request.request_id,
        "journal": unit.map(|unit| format!("{} CODEX_REQUEST_ID={}", unit.journalctl(), request.request_id)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::Source;

    #[test]
    fn a_turn_is_ended_by_its_caller_our_own_user_and_root() {
        let plain = http::HeaderMap::new();
        let mut forwarded = http::HeaderMap::new();
        forwarded.insert("x-forwarded-for", "198.51.100.7".parse().unwrap());
        let (alice, key) = (Caller::User(4321), Caller::Key("k".into()));
        let remote = Peer::Remote("198.51.100.7".parse().unwrap());
        for (caller, peer, headers, owner, expect) in [
            (&alice, Peer::Local(4321), &plain, &alice, true),
            (&alice, Peer::Local(4321), &plain, &key, false),
            (&key, Peer::Local(4321), &plain, &key, true),
            (&key, Peer::Local(4321), &plain, &alice, false),
            (&key, remote, &forwarded, &key, true),
            (&key, remote, &plain, &alice, false),
            (&alice, Peer::Unix(Some(0)), &plain, &key, true),
            (&alice, Peer::Local(own_uid()), &plain, &key, true),
            (&key, Peer::Local(own_uid()), &forwarded, &alice, false),
            // Two that nobody can tell are not the same one; where nobody can be told at all, all are.
            (&Caller::Unknown, Peer::Unix(None), &plain, &Caller::Unknown, false),
            (&Caller::Unknown, Peer::CannotTell, &plain, &Caller::Unknown, true),
            (&Caller::Unknown, Peer::CannotTell, &plain, &alice, false),
        ] {
            let looker = Looker::new(caller.clone(), peer, headers);
            assert_eq!(looker.may_end(owner), expect, "{looker:?} {owner:?}");
        }
    }

    #[test]
    fn a_window_that_started_anew_tells_nothing() {
        let window = RateLimit {
            name: "primary",
            used_percent: 50.0,
            window_minutes: Some(300),
            resets_at: Some(118_000),
        };
        assert_eq!(
            window_of(&window, 109_000.0, 110_000.0),
            json!({"name": "5 hours", "minutes": 300, "used_percent": 50.0, "resets_at": 118_000, "pace": 1.0, "empty_at": null})
        );
        assert_eq!(
            window_of(&window, 104_500.0, 110_000.0),
            json!({"name": "5 hours", "minutes": 300, "used_percent": 50.0, "resets_at": 118_000, "pace": 2.0, "empty_at": 109_000.0})
        );
        assert_eq!(
            window_of(&window, 109_000.0, 118_000.0),
            json!({"name": "5 hours", "minutes": 300, "used_percent": null, "resets_at": 118_000, "pace": null, "empty_at": null})
        );
        assert_eq!([Source::Turn.name(), Source::Asked.name()], ["turn", "asked"]);
    }
}
