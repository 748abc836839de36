//! `connect`: the settings that point a client here, or the client itself, started with them.

#[cfg(test)]
mod readme;
mod target;

use std::os::unix::process::CommandExt;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};

use super::exit::Exit;
use super::output::{out, warn};
use crate::clients::{CLIENTS, Client, NO_KEY, Start};
use target::Target;

/// Variables that send requests through a proxy, which does not know this machine's loopback addresses.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// `connect`.
pub fn command() -> Command {
    Command::new("connect")
        .about("Show how to point a client here, or start it so")
        .after_help(
            "Without a name: the clients it knows. With one: the settings that point it at the server that runs \
             here, as that client takes them; a key is never shown. With -- and arguments: the client is started \
             with those settings by its environment and flags. No file is edited.\n\n\
             Examples:\n  \
             codex-api-proxy connect curl | sh\n  \
             codex-api-proxy connect claude-code -- -p 'What is in this folder?'\n  \
             codex-api-proxy connect openai-python -- python3 script.py",
        )
        .arg(
            Arg::new("client")
                .value_name("CLIENT")
                .value_parser(PossibleValuesParser::new(CLIENTS.iter().map(|client| client.name)))
                .hide_possible_values(true)
                .help("A client's name"),
        )
        .arg(
            Arg::new("arguments")
                .value_name("ARGS")
                .num_args(0..)
                .last(true)
                .value_parser(clap::value_parser!(std::ffi::OsString))
                .help("Start the client with these; for a library, a program that uses it"),
        )
}

/// Runs it; does not return if a client was started.
///
/// # Errors
/// How the program ends, if not well.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    let Some(name) = matches.get_one::<String>("client") else {
        // `connect -- x`.
        return match matches.contains_id("arguments") {
            true => Err(Exit::Usage("-- needs the name of a client before it".into())),
            false => out(&list()),
        };
    };
    let client = Client::find(name).ok_or_else(|| Exit::Usage(format!("{name} is not known")))?;
    let start = given_after_dashes().then(|| matches.get_many("arguments").into_iter().flatten().cloned());
    match start {
        None => {
            let target = Target::look()?;
            warn(&warnings(client, &target));
            out(&client.text(&target.place(proxied())))
        }
        Some(arguments) => {
            let arguments: Vec<std::ffi::OsString> = arguments.collect();
            let (program, fixed, given) = starts(client, &arguments)?;
            let target = Target::look()?;
            if let Some(trouble) = target.trouble {
                return Err(Exit::Failure(trouble));
            }
            warn(&warnings(client, &target));
            let mut command = std::process::Command::new(program);
            let place = target.place(false);
            command.args(fixed.iter().map(|argument| place.filled(argument))).args(given);
            environment(&mut command, client, &target);
            let error = command.exec();
            Err(Exit::Failure(format!(
                "{} ({}) cannot be started: {error}; it must be on PATH",
                program.to_string_lossy(),
                client.title
            )))
        }
    }
}

/// Whether `--` stands on our command line: nothing may follow it.
fn given_after_dashes() -> bool {
    std::env::args_os().any(|word| word == "--")
}

/// The program, its first arguments, and those given.
///
/// # Errors
/// It is not started from here.
fn starts<'a>(
    client: &Client,
    given: &'a [std::ffi::OsString],
) -> Result<(&'a std::ffi::OsStr, &'static [&'static str], &'a [std::ffi::OsString]), Exit> {
    match (client.start, given) {
        (Start::Program(program, fixed), given) => Ok((std::ffi::OsStr::new(program), fixed, given)),
        (Start::Given, [program, given @ ..]) => Ok((program, &[], given)),
        (Start::Given, []) => Err(Exit::Usage(format!(
            "-- must be followed by a program that uses {}, and its arguments",
            client.title
        ))),
        (Start::Never(why), _) => Err(Exit::Usage(format!(
            "{why}; nothing is started. What to set: codex-api-proxy connect {}",
            client.name
        ))),
    }
}

/// One line for each client.
fn list() -> String {
    let mut text = String::from("codex-api-proxy connect CLIENT shows how to point it here:\n\n");
    for client in CLIENTS {
        let starts = if matches!(client.start, Start::Never(_)) { "" } else { "; -- starts it" };
        text += &format!(
            "  {:<17} {} ({}): {}{starts}\n",
            client.name,
            client.title,
            client.speaks().join(", "),
            client.takes
        );
    }
    text
}

fn warnings(client: &Client, target: &Target) -> Vec<String> {
    let mut lines: Vec<String> = target.trouble.iter().cloned().collect();
    if target.elsewhere {
        lines.push(format!(
            "nothing listens where the settings say; {} is taken, the only codex-api-proxy that runs here",
            target.address
        ));
    }
    lines.extend(client.unmet(&target.engine, &target.profile, target.verb));
    lines
}

/// Whether this shell sends requests through a proxy.
fn proxied() -> bool {
    PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// The environment of a client that is started.
fn environment(command: &mut std::process::Command, client: &Client, target: &Target) {
    if proxied() {
        for name in ["NO_PROXY", "no_proxy"] {
            let before = std::env::var(name).unwrap_or_default();
            let comma = if before.is_empty() { "" } else { "," };
            command.env(name, format!("{before}{comma}{}", target.address.ip()));
        }
    }
    for name in client.unset {
        command.env_remove(name);
    }
    let place = target.place(false);
    for (name, value) in client.env {
        match *value {
            "@key@" => command.env(name, target.key.as_ref().map_or(NO_KEY, |key| key.secret.expose())),
            template => command.env(name, place.filled(template)),
        };
    }
}

#[cfg(test)]
mod tests;
