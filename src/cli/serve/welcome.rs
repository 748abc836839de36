//! What a person who starts the server in a terminal reads when it is up: where it is, how to ask it, how
//! to go on. Under a service manager, in a pipe or with a log elsewhere nobody would read it.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;

use crate::api::{App, status};
use crate::config::EngineKind;
use crate::os::systemd;

/// Says it as soon as it is known whether turns can be served.
pub fn start(app: Arc<App>, url: Option<String>, logs_here: bool) {
    let Some(url) = url.filter(|_| logs_here && std::io::stderr().is_terminal() && !systemd::listens())
    else {
        return;
    };
    tokio::spawn(async move {
        let mut surveys = app.codex.surveys();
        let mut workers = app.engine.changes();
        while !status::settled(&app) {
            let worked = async {
                match &mut workers {
                    Some(workers) => drop(workers.changed().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = surveys.changed() => if changed.is_err() { return },
                () = worked => {}
            }
        }
        let config = app.live.get();
        eprint!("{}", text(&url, status::reason(&app).err().as_deref(), config.engine, config.needs_key()));
    });
}

fn text(url: &str, why_not: Option<&str>, engine: EngineKind, key: bool) -> String {
    let mut text = String::from("\n");
    if let Some(why) = why_not {
        let _ = writeln!(text, "  Not ready: {why}");
    }
    let key = if key { " -H \"Authorization: Bearer $KEY\"" } else { "" };
    let _ = writeln!(
        text,
        "  Base URL   {url}/v1\n  \
           Try        curl -sS {url}/v1/chat/completions -H 'Content-Type: application/json'{key} \\\n               \
                        -d '{{\"model\":\"codex-local\",\"messages\":[{{\"role\":\"user\",\"content\":\"Say hello\"}}]}}'\n  \
           Look       {url}/ in a browser\n  \
           Clients    codex-api-proxy connect"
    );
    if engine == EngineKind::Exec {
        text += "  Editors, agents, chat windows: stop this and start it with --engine app-server, which streams and has functions\n";
    }
    text += "  Stop       Ctrl-C\n\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_what_to_do_next() {
        let exec = text("http://127.0.0.1:8765", None, EngineKind::Exec, false);
        for part in ["Base URL   http://127.0.0.1:8765/v1\n", "--engine app-server", "Ctrl-C", "connect\n"] {
            assert!(exec.contains(part), "{part}: {exec}");
        }
        assert!(!exec.contains("Not ready") && !exec.contains("Bearer"), "{exec}");
        let closed = text("http://h:1", Some("Codex is not logged in."), EngineKind::AppServer, true);
        assert!(closed.contains("Not ready: Codex is not logged in.\n"), "{closed}");
        assert!(
            closed.contains("-H \"Authorization: Bearer $KEY\"") && !closed.contains("--engine"),
            "{closed}"
        );
    }
}
