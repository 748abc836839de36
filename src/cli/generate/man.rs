//! The manual pages. Their texts are in `packaging/man`; what the program knows of itself, its verbs
//! and its settings, is put where a line of them says so.

mod api;

use clap::{Arg, Command};
use clap_mangen::Man;

use crate::config::SETTINGS;
use crate::config::flags::args;
use crate::config::render::{default, kind};

/// Every page, by the name of its file.
pub fn pages(program: &Command) -> Vec<(&'static str, String)> {
    [
        ("codex-api-proxy.1", include_str!("../../../packaging/man/codex-api-proxy.1.in")),
        ("codex-api-proxy.toml.5", include_str!("../../../packaging/man/codex-api-proxy.toml.5.in")),
        ("codex-api-proxy-api.7", include_str!("../../../packaging/man/codex-api-proxy-api.7.in")),
        ("codex-api-proxy.service.8", include_str!("../../../packaging/man/codex-api-proxy.service.8.in")),
    ]
    .into_iter()
    .map(|(name, source)| (name, page(source, program)))
    .collect()
}

fn page(source: &str, program: &Command) -> String {
    let lines = source.lines().map(|line| match line {
        "@COMMANDS@" => commands(program, ""),
        "@FLAGS@" => flags(),
        "@SETTINGS@" => settings(),
        "@ROUTES@" => api::routes(),
        "@FIELDS@" => api::fields(),
        "@HEADERS@" => api::headers(),
        "@ERRORS@" => api::errors(),
        comment if comment.starts_with(".\\\"") => String::new(),
        title if title.starts_with(".TH ") => title.replace("@VERSION@", env!("CARGO_PKG_VERSION")) + "\n",
        line => plain(line) + "\n",
    });
    let text: String = lines.collect();
    // What installs into another prefix looks for these two as they are.
    ["/usr/bin/codex-api-proxy", "/usr/share/doc/codex-api-proxy"]
        .iter()
        .fold(text, |text, path| text.replace(&path.replace('-', "\\-"), path))
}

/// Has roff print the characters of the keyboard, which it would otherwise make typographic: what is
/// copied from a page must run.
fn plain(line: &str) -> String {
    line.replace("\\-", "-")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('~', "\\(ti")
        .replace('^', "\\(ha")
        .replace('`', "\\(ga")
}

/// Text of the program as a line of roff, what stands between backticks in bold.
fn prose(text: &str) -> String {
    let parts: Vec<String> = text.split('`').map(|part| plain(&part.replace('\\', "\\e"))).collect();
    let line = bold(&parts.join("`"));
    // At the beginning of a line these would make it a request.
    if line.starts_with(['.', '\\']) { format!("\\&{line}") } else { line }
}

/// What stands between backticks in bold.
fn bold(line: &str) -> String {
    let parts = line.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { format!("\\fB{part}\\fR") } else { part.to_owned() }).collect()
}

/// Every verb with its own options; those that are settings stand elsewhere.
fn commands(command: &Command, above: &str) -> String {
    let visible = command.get_subcommands().filter(|verb| verb.get_name() != "help");
    visible
        .map(|verb| {
            let name = format!("{above}{}", verb.get_name());
            if verb.has_subcommands() { commands(verb, &format!("{name} ")) } else { one(verb, &name) }
        })
        .collect()
}

fn one(verb: &Command, name: &str) -> String {
    let shared = |arg: &&Arg| SETTINGS.iter().any(|setting| arg.get_id() == setting.key);
    let own = |arg: &&Arg| !shared(arg) && arg.get_id() != "config" && !arg.is_hide_set();
    let mut usage = format!("\\fB{}\\fR", plain(name));
    if verb.get_arguments().any(|arg| shared(&arg)) {
        usage += " [\\fIsettings\\fR]";
    }
    for arg in verb.get_arguments().filter(own) {
        usage += &format!(" {}", written(arg));
    }
    let mut text = format!(".SS {usage}\n");
    let told = [verb.get_about(), verb.get_after_help()];
    let told: Vec<String> = told.into_iter().flatten().map(ToString::to_string).collect();
    text += &paragraphs(&told.join("\n\n"));
    text + &options(verb.get_arguments().filter(own).cloned().collect(), "SH")
}

/// An argument as a line of usage shows it.
fn written(arg: &Arg) -> String {
    let name = arg.get_value_names().and_then(|names| names.first()).map(|name| plain(name));
    let takes = arg.get_action().takes_values();
    let flag = arg.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", plain(long)));
    let many = if arg.get_num_args().is_some_and(|range| range.max_values() > 1) { " ..." } else { "" };
    let text = match (flag, name.filter(|_| takes)) {
        (Some(flag), Some(name)) => format!("{flag} \\fI{name}\\fR"),
        (Some(flag), None) => flag,
        (None, name) => {
            let after = if arg.is_last_set() { "\\fB\\-\\-\\fR " } else { "" };
            format!("{after}\\fI{}\\fR{many}", name.unwrap_or_default())
        }
    };
    if arg.is_required_set() { text } else { format!("[{text}]") }
}

/// Paragraphs with their lines filled; indented lines stay as they are.
fn paragraphs(text: &str) -> String {
    let mut roff = String::new();
    for (at, line) in text.lines().enumerate() {
        match line.strip_prefix("  ") {
            Some(verbatim) => roff += &format!(".br\n\\&  \\fB{}\\fR\n", prose(verbatim)),
            None if line.trim().is_empty() => roff += ".PP\n",
            None if at == 0 => roff += &format!("{}\n", full_stop(&prose(line))),
            None => roff += &format!("{}\n", prose(line)),
        }
    }
    roff
}

/// What `--help` shows as a heading is a sentence on a page.
fn full_stop(text: &str) -> String {
    if text.ends_with(['.', ':', ')']) { text.to_owned() } else { format!("{text}.") }
}

/// A list of options.
fn options(args: Vec<Arg>, heading: &str) -> String {
    let command = Command::new("x").disable_help_flag(true).args(args);
    let mut roff = Vec::new();
    // Writing to memory does not fail.
    _ = Man::new(command).render_options_section(&mut roff);
    let roff = String::from_utf8_lossy(&roff);
    roff.lines()
        .skip_while(|line| !line.starts_with(".SH "))
        .filter(|line| *line != ".SH OPTIONS")
        .map(|line| match line.strip_prefix(".SH ") {
            Some(title) => format!(".{heading} {title}\n"),
            None => format!("{}\n", bold(&line.replace("\\*(Aq", "\\(aq"))),
        })
        .collect()
}

/// The options that are settings, under their headings.
fn flags() -> String {
    options(args(), "SS")
}

/// Every setting, for the page of the files.
fn settings() -> String {
    let mut roff = String::new();
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            roff += &format!(".SS {group}\n");
        }
        roff += &format!(".TP\n\\fB{}\\fR\n{}\n", setting.key, prose(setting.doc()));
        for line in [
            format!("Type: {}", kind(setting)),
            format!("Default: {}", default(setting)),
            format!("Option: `--{}`", setting.flag),
            format!("Variable: `{}`", setting.env()),
        ] {
            roff += &format!(".br\n{}\n", prose(&line));
        }
    }
    roff
}
