//! What a shell proposes when the Tab key is pressed.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use clap_complete::Shell;

use crate::config::SETTINGS;

/// The shells that packages have a place for.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The script for that shell.
pub fn script(program: &Command, shell: Shell) -> String {
    let mut text = Vec::new();
    let mut command = proposed(program);
    clap_complete::generate(shell, &mut command, "codex-api-proxy", &mut text);
    // clap_complete 4.6 writes a program's hyphens in one way where it sets the verb for bash, and in
    // another where it looks for it.
    let mut text =
        String::from_utf8_lossy(&text).replace("codex__subcmd__api__subcmd__proxy", "codex__api__proxy");
    if shell == Shell::Fish {
        text += &fish_values(&command);
    }
    text
}

/// The values of arguments without a name, which clap_complete 4.6 leaves out for fish.
fn fish_values(command: &Command) -> String {
    let mut lines = String::new();
    for group in command.get_subcommands() {
        for verb in group.get_subcommands() {
            let values = verb.get_positionals().flat_map(Arg::get_possible_values);
            let values: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
            if !values.is_empty() {
                lines += &format!(
                    "complete -c codex-api-proxy -n \"__fish_codex_api_proxy_using_subcommand {}; and \
                     __fish_seen_subcommand_from {}\" -f -a \"{}\"\n",
                    group.get_name(),
                    verb.get_name(),
                    values.join(" ")
                );
            }
        }
    }
    lines
}

/// The command line as it is to be proposed: without what is only accepted for old times' sake, and
/// with the names of settings, whose errors the program words better than clap does.
fn proposed(command: &Command) -> Command {
    let arg = |arg: &Arg| {
        let names = SETTINGS.iter().map(|setting| setting.key);
        if arg.get_id() == "key" {
            arg.clone().value_parser(PossibleValuesParser::new(names))
        } else {
            arg.clone()
        }
    };
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut copy = Command::new(command.get_name().to_owned()).about(about);
    if let Some(version) = command.get_version() {
        copy = copy.version(version.to_owned());
    }
    copy.args(command.get_arguments().filter(|arg| !arg.is_hide_set()).map(arg))
        .subcommands(command.get_subcommands().map(proposed))
}
