//! `status --watch`: the same shown anew whenever it changes.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use super::{NOT_RUNNING, as_text, ended, glanced, look, servers, without_manager};
use crate::cli::exit::Exit;
use crate::cli::output::{out, warn};
use crate::cli::service::{Manager, State, World};
use crate::cli::standing;
use crate::config::{Config, load};

/// How often the manager is asked whether a service that stops has stopped, and for how long.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const STOPS_WITHIN: Duration = Duration::from_secs(120);

/// The beginning of a terminal's screen; the rest of a line, and of the screen, is cleared behind what is
/// written. The cursor and the screen stay as they are, so that nothing has to be put back.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_REST: &str = "\x1b[J";

/// Shows it until nothing runs any more.
///
/// # Errors
/// How the program ends, if nothing runs or it cannot be watched.
pub fn run(world: &World, json: bool) -> Result<(), Exit> {
    if !json && !std::io::stdout().is_terminal() {
        return Err(Exit::Usage("--watch draws on a terminal; for a program: --watch --json".into()));
    }
    let zone = TimeZone::system();
    let mut last = Json::Null;
    loop {
        let loaded = load(&world.sources);
        let config = loaded.as_ref().map_or_else(|_| Config::default(), |loaded| loaded.config.clone());
        let (mut report, places) = match &world.manager {
            Manager::None(why) => {
                let servers = servers(None, loaded.as_ref().ok());
                let places = standing::places(None, &servers, &config);
                if places.is_empty() {
                    return Err(without_manager(why, loaded.as_ref().ok(), json)?);
                }
                (None, places)
            }
            manager => {
                let report = look(world, manager.service()?, loaded.as_ref().map_err(ToString::to_string));
                let places = standing::places(Some(&report.service), &report.servers, &config);
                (Some(report), places)
            }
        };
        let mut show = |usage: &Json| {
            if json {
                return out(&format!("{usage}\n"));
            }
            let text = match &mut report {
                Some(report) => {
                    report.usage = Some(usage.clone());
                    as_text(report, &zone)
                }
                None => glanced(usage, &zone),
            };
            let lines: String = text.lines().map(|line| format!("{line}{CLEAR_LINE}")).collect();
            out(&format!("{HOME}{lines}{CLEAR_REST}"))
        };
        if !places.is_empty() {
            if !json && last.is_null() {
                // Room for the first picture.
                out(&format!("{HOME}{CLEAR_REST}"))?;
            }
            let documents = standing::follow(&places, &config)
                .map_err(|error| Exit::Failure(format!("it cannot be watched: {error}")))?;
            for document in documents {
                show(&document)?;
                last = document;
            }
        }
        // It stops, or a reload has it asked again.
        let stopping = last["ready"]["reason"].as_str().is_some_and(|why| matches!(why, "draining" | "idle"));
        if places.is_empty() || (stopping && !comes_back(world)?) {
            warn(&["nothing runs any more".into()]);
            return match &world.manager {
                Manager::None(_) => Err(Exit::Code(NOT_RUNNING)),
                manager => ended(&manager.service()?),
            };
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until a service that stops has stopped; whether another process takes its place.
fn comes_back(world: &World) -> Result<bool, Exit> {
    let since = Instant::now();
    loop {
        std::thread::sleep(LOOK_AGAIN);
        let state = match &world.manager {
            Manager::None(_) => return Ok(false),
            manager => manager.service()?.state,
        };
        match state {
            State::Stopping if since.elapsed() < STOPS_WITHIN => {}
            state => return Ok(state.is_up()),
        }
    }
}
