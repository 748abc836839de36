//! `status`: what the service manager knows, and what the service says of itself.

mod watch;

use clap::{Arg, ArgAction, ArgMatches, Command};
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::exit::Exit;
use super::foreground::Foreground;
use super::glance;
use super::output::{out, warn};
use super::probe::HttpAnswer;
use super::readiness::{addresses, ask, ask_ready, why_not};
use super::service::{Address, Manager, Service, State, World};
use super::standing;
use super::{socket, unit_files};
use crate::config::flags::{replaced_args, replaced_notices};
use crate::config::{Config, Loaded, load, render};

/// As LSB has it for init scripts: the program is not running.
const NOT_RUNNING: u8 = 3;
/// And its status is unknown, since there is no such unit.
const NO_UNIT: u8 = 4;

/// `status`.
pub fn command() -> Command {
    Command::new("status")
        .about("Show whether the service runs and is ready, what is left of the plan, today's use and what runs now")
        .after_help(
            "With --watch it is shown anew whenever something changes, until Ctrl-C or until the service stops; with \
             --watch --json each change is one line.\n\n\
             Exit status: 0 running or listening, 3 not running, 4 not installed.",
        )
        .arg(
            Arg::new("verbose")
                .long("verbose")
                .short('v')
                .action(ArgAction::SetTrue)
                .help("Also every setting in force and where it comes from"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON for programs"))
        .arg(
            Arg::new("watch")
                .long("watch")
                .short('w')
                .action(ArgAction::SetTrue)
                .conflicts_with("verbose")
                .help("Go on showing it as it changes"),
        )
        .args(replaced_args())
}

/// Everything there is to tell.
struct Report {
    service: Service,
    listening: Vec<String>,
    urls: Vec<String>,
    /// `/ready`, or why it cannot be asked; `None` if nothing runs.
    ready: Option<Result<HttpAnswer, String>>,
    /// `/metrics`, if it answers.
    metrics: Json,
    /// `/usage`, of the service or of the server by hand in its place, if it answers.
    usage: Option<Json>,
    /// Servers that the manager did not start.
    servers: Vec<Foreground>,
    /// What to mind, one line each.
    notes: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// How the program ends, if the service does not run.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    warn(&replaced_notices(matches));
    let world = World::look()?;
    let json = matches.get_flag("json");
    if matches.get_flag("watch") {
        return watch::run(&world, json);
    }
    let loaded = load(&world.sources);
    let report = match &world.manager {
        Manager::None(why) => return Err(without_manager(why, loaded.as_ref().ok(), json)?),
        manager => look(&world, manager.service()?, loaded.as_ref().map_err(ToString::to_string)),
    };
    if json {
        let settings = loaded.as_ref().ok().filter(|_| matches.get_flag("verbose"));
        out(&format!("{:#}\n", as_json(&report, settings)))?;
    } else {
        let mut text = as_text(&report, &TimeZone::system());
        if let (true, Ok(loaded)) = (matches.get_flag("verbose"), &loaded) {
            text += "\nSettings as they are read now, in force since a start or reload, and where each comes from:\n";
            text.extend(render::show(loaded).lines().map(|line| format!("  {line}\n")));
        }
        out(&text)?;
    }
    ended(&report.service)
}

/// How the program ends where the service is so.
fn ended(service: &Service) -> Result<(), Exit> {
    match code(service) {
        0 => Ok(()),
        code => Err(Exit::Code(code)),
    }
}

fn glanced(usage: &Json, zone: &TimeZone) -> String {
    let ready = [("ready", glance::ready(usage))];
    ready
        .into_iter()
        .chain(glance::rows(usage, zone))
        .map(|(name, value)| format!("  {name:<10} {value}\n"))
        .collect()
}

fn code(service: &Service) -> u8 {
    match service.state {
        _ if service.state.is_up() || service.socket.listening => 0,
        State::Missing => NO_UNIT,
        _ => NOT_RUNNING,
    }
}

fn servers(service: Option<u32>, loaded: Option<&Loaded>) -> Vec<Foreground> {
    Foreground::all(service, loaded.map_or(&Config::default(), |loaded| &loaded.config))
}

/// Tells that there is no manager to be asked, and what runs without it; how the program ends.
fn without_manager(why: &str, loaded: Option<&Loaded>, json: bool) -> Result<Exit, Exit> {
    let servers = servers(None, loaded);
    let default = Config::default();
    let config = loaded.map_or(&default, |loaded| &loaded.config);
    let usage = standing::usage(&standing::places(None, &servers, config), config);
    if json {
        let servers = servers.iter().map(Foreground::json).collect::<Vec<_>>();
        let none = json!({
            "state": "no service manager", "ready": false, "reason": why, "notes": [], "servers": servers,
            "usage": usage,
        });
        out(&format!("{none:#}\n"))?;
        return Ok(Exit::Code(NO_UNIT));
    }
    let mut text = format!("{why}\nSo there is no service to show.");
    match &servers[..] {
        [] => text += " Run the server in the foreground: codex-api-proxy serve\n",
        servers => {
            text += "\n";
            text.extend(servers.iter().map(|server| server.explain() + "\n"));
        }
    }
    text += &usage.map(|usage| glanced(&usage, &TimeZone::system())).unwrap_or_default();
    out(&text)?;
    Ok(Exit::Code(NO_UNIT))
}

fn look(world: &World, service: Service, loaded: Result<&Loaded, String>) -> Report {
    let servers = servers(service.pid, loaded.as_ref().ok().copied());
    let (listening, urls, notes) = (vec![], vec![], vec![]);
    let mut report =
        Report { listening, urls, ready: None, metrics: Json::Null, usage: None, servers, notes, service };
    let service = &report.service;
    let default = Config::default();
    let config = loaded.as_ref().map_or(&default, |loaded| &loaded.config);
    let up = service.state.is_up();
    report.usage = standing::usage(&standing::places(Some(service), &report.servers, config), config);
    if up || service.socket.listening {
        let places = addresses(service, config);
        report.listening = places.iter().map(ToString::to_string).collect();
        report.urls = places.iter().filter_map(Address::url).collect();
        if up {
            // Without a process, asking would start one.
            report.ready = Some(ask_ready(&places, config).map_err(|error| error.to_string()));
            if let Some(Ok(_)) = report.ready {
                report.metrics = ask(&places, config, "/metrics").map_or(Json::Null, |page| page.body);
            }
        }
    }
    let mut note = |text: String| report.notes.push(text);
    if let Err(errors) = loaded {
        note(format!("the settings are broken: {}", errors.replace('\n', "; ")));
    }
    match &service.state {
        State::Missing => note("install and start it with: codex-api-proxy start".into()),
        State::Masked => note(format!("to allow it again: {}", world.manager.how_to_unmask())),
        State::Stopped if !service.socket.listening => note("start it with: codex-api-proxy start".into()),
        State::Failed(how) => {
            note(format!("it failed: {how}"));
            let lines = world.manager.last_lines(None);
            let start = lines.lines().count().saturating_sub(5);
            lines.lines().skip(start).for_each(|line| note(format!("log: {line}")));
            note("when the cause is gone: codex-api-proxy start".into());
        }
        _ => {}
    }
    if service.stale {
        note("the unit file is newer than what systemd has read; codex-api-proxy restart reads it".into());
    }
    if let Ok(socket::Step::Differ(_)) = socket::compare(&service.socket, config)
        && matches!(world.manager, Manager::Systemd(_))
    {
        note(socket::differ(&service.socket, config));
    }
    if !matches!(service.state, State::Missing | State::Masked) {
        if !service.enabled && !service.socket.enabled {
            note(format!("it is not started at login; to have that: {}", world.manager.how_to_enable()));
        }
        let linger = unit_files::notes_on_login(&world.manager, false);
        if !linger.is_empty() {
            note(linger.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    report
}

fn as_text(report: &Report, zone: &TimeZone) -> String {
    let service = &report.service;
    let on_demand = service.socket.listening && !matches!(service.state, State::Running | State::Starting);
    let headline = match (&service.state, on_demand) {
        (state, true) => format!("{}, started by the next connection", state.name()),
        (state, false) => state.name().into(),
    };
    let mut text = format!("codex-api-proxy: {headline}\n");
    let mut row = |name: &str, value: &str| text += &format!("  {name:<10} {value}\n");
    if let Some(file) = &service.file {
        row("unit", &file.display().to_string());
    }
    if let Some(pid) = service.pid {
        let since = service.since.as_ref().map_or(String::new(), |since| format!(", since {since}"));
        row("process", &format!("{pid}{since}"));
    }
    if !report.listening.is_empty() {
        row("listening", &report.listening.join(", "));
    }
    report.urls.iter().for_each(|url| row("URL", url));
    match &report.ready {
        Some(Ok(page)) if page.status == 200 => row("ready", "yes"),
        Some(Ok(page)) => row("ready", &format!("no: {}", why_not(&page.body))),
        Some(Err(error)) => row("ready", &format!("no: it cannot be reached ({error})")),
        None => {}
    }
    if let Some(Ok(page)) = &report.ready {
        let word = |key: &str| page.body[key].as_str();
        if let Some(queue) = page.body.get("queue") {
            let (running, waiting) = (&queue["running"], &queue["waiting"]);
            row("turns", &format!("{running} running, {waiting} queued, {} at once", queue["slots"]));
        }
        if let (Some(version), Some(engine)) = (word("codex_version"), word("engine")) {
            let login = word("login").unwrap_or("unknown").replace('_', " ");
            row("codex", &format!("{version}, engine {engine}, login {login}"));
        }
    }
    if let Some(used) = cache(&report.metrics) {
        row("cache", &used);
    }
    let rows = report.usage.as_ref().map(|usage| glance::rows(usage, zone)).unwrap_or_default();
    rows.iter().for_each(|(name, value)| row(name, value));
    if let Some(says) = &service.says {
        row("says", says);
    }
    report.servers.iter().for_each(|server| row("beside", &server.explain()));
    report.notes.iter().for_each(|note| row("note", note));
    if let Some(hint) = hint(report) {
        row("hint", &hint);
    }
    text
}

/// What to type next, where nothing else says so.
fn hint(report: &Report) -> Option<String> {
    let usage = report.usage.as_ref()?;
    let url = usage["service"]["base_url"].as_str().and_then(|url| url.strip_suffix("/v1"));
    Some(match usage["ready"]["status"].as_str() {
        Some("ready") if usage["today"]["total"]["requests"] == 0 => {
            "to point a client here: codex-api-proxy connect".to_owned()
        }
        Some("ready") => {
            let page = url.map_or(String::new(), |url| format!(", or {url}/ in a browser"));
            format!("to look on: codex-api-proxy status --watch{page}; what was spent: codex-api-proxy usage")
        }
        _ => "to see what is wrong: codex-api-proxy doctor".to_owned(),
    })
}

/// What the upstream's prompt cache spared since the start, and what is kept for it.
fn cache(metrics: &Json) -> Option<String> {
    let share = match (metrics["cached_input_ratio"].as_f64(), metrics["tokens"]["input"].as_u64()) {
        (Some(ratio), Some(input)) => {
            format!("{:.0} % of {input} input tokens since its start", ratio * 100.0)
        }
        _ => "no input tokens since its start".to_owned(),
    };
    let parked = metrics["parked_conversations"].as_u64()?;
    let kept = if parked == 1 { "conversation" } else { "conversations" };
    Some(format!("{share}, {parked} {kept} kept"))
}

fn as_json(report: &Report, settings: Option<&Loaded>) -> Json {
    let service = &report.service;
    let ready = report.ready.as_ref();
    let page = ready.and_then(|ready| ready.as_ref().ok());
    let reason = match ready {
        Some(Ok(page)) if page.status == 200 => None,
        Some(Ok(page)) => Some(why_not(&page.body)),
        Some(Err(error)) => Some(format!("it cannot be reached: {error}")),
        None => Some(format!("it is {}", service.state.name())),
    };
    let mut whole = json!({
        "state": service.state.name(),
        "pid": service.pid,
        "since": service.since,
        "unit": service.file,
        "enabled": service.enabled,
        "socket": { "listening": service.socket.listening, "enabled": service.socket.enabled },
        "listening": report.listening,
        "urls": report.urls,
        "ready": reason.is_none(),
        "reason": reason,
        "running": page.map(|page| &page.body["queue"]["running"]),
        "queued": page.map(|page| &page.body["queue"]["waiting"]),
        "cached_input_ratio": report.metrics["cached_input_ratio"],
        "parked_conversations": report.metrics["parked_conversations"],
        "status": service.says,
        "usage": report.usage,
        "servers": report.servers.iter().map(Foreground::json).collect::<Vec<_>>(),
        "notes": report.notes,
    });
    if let Some(loaded) = settings {
        // The same text that `config show --json` prints, so it is JSON.
        let shown: Json = serde_json::from_str(&render::show_json(loaded)).unwrap_or_default();
        whole["settings"] = shown["settings"].clone();
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::service::Socket;

    fn service(state: State, listening: bool) -> Service {
        Service {
            state,
            pid: None,
            since: None,
            says: None,
            enabled: false,
            file: None,
            stale: false,
            socket: Socket { listening, ..Socket::default() },
        }
    }

    #[test]
    fn the_exit_status_tells_scripts() {
        for (state, listening, expect) in [
            (State::Running, false, 0),
            (State::Starting, false, 0),
            (State::Stopped, false, 3),
            (State::Stopped, true, 0),
            (State::Failed("x".into()), false, 3),
            (State::Masked, false, 3),
            (State::Missing, false, 4),
        ] {
            assert_eq!(code(&service(state.clone(), listening)), expect, "{state:?} {listening}");
        }
    }

    #[test]
    fn a_person_reads_one_fact_a_line() {
        let page = json!({
            "status": "ready", "reason": null, "engine": "exec", "codex_version": "0.169.0", "login": "codex",
            "queue": { "running": 1, "waiting": 2, "slots": 1 },
        });
        let running = Service { pid: Some(7), since: Some("noon".into()), ..service(State::Running, false) };
        let report = Report {
            service: running,
            listening: vec!["127.0.0.1:8765".into()],
            urls: vec!["http://127.0.0.1:8765/v1".into()],
            ready: Some(Ok(HttpAnswer { status: 200, body: page })),
            metrics: json!({ "cached_input_ratio": 0.876, "parked_conversations": 1, "tokens": { "input": 2000 } }),
            usage: Some(json!({
                "object": "usage", "now": 0, "ready": { "status": "ready" }, "plan": null, "turns": {},
                "service": { "base_url": "http://127.0.0.1:8765/v1" },
                "today": { "from": "midnight", "total": { "requests": 3, "input_tokens": 10, "cached_tokens": 5, "output_tokens": 4 } },
            })),
            servers: vec![],
            notes: vec!["mind this".into()],
        };
        assert_eq!(
            as_text(&report, &TimeZone::UTC),
            "codex-api-proxy: running\n\
             \x20 process    7, since noon\n\
             \x20 listening  127.0.0.1:8765\n\
             \x20 URL        http://127.0.0.1:8765/v1\n\
             \x20 ready      yes\n\
             \x20 turns      1 running, 2 queued, 1 at once\n\
             \x20 codex      0.169.0, engine exec, login codex\n\
             \x20 cache      88 % of 2000 input tokens since its start, 1 conversation kept\n\
             \x20 plan       not told (Codex reports the windows of a ChatGPT plan, with a turn or when asked)\n\
             \x20 today      3 requests, 10 tokens in (50 % cached), 4 out\n\
             \x20 note       mind this\n\
             \x20 hint       to look on: codex-api-proxy status --watch, or http://127.0.0.1:8765/ in a browser; what was \
             spent: codex-api-proxy usage\n"
        );
        assert_eq!(
            cache(
                &json!({ "cached_input_ratio": null, "parked_conversations": 0, "tokens": { "input": 0 } })
            )
            .as_deref(),
            Some("no input tokens since its start, 0 conversations kept")
        );
        assert_eq!(cache(&json!({ "status": "ok", "reason": "needs the key" })), None, "nothing is known");
        let json = as_json(&report, None);
        assert_eq!((&json["cached_input_ratio"], &json["parked_conversations"]), (&json!(0.876), &json!(1)));
        assert_eq!((&json["ready"], &json["running"], &json["queued"]), (&json!(true), &json!(1), &json!(2)));
    }
}
