//! The settings on the command line: one flag each, and the flags that a setting has replaced.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, ValueHint};

use super::SETTINGS;
use super::schema::{Initial, Setting, Shape};

/// The flag of every setting, under the headings of the table.
pub fn args() -> Vec<Arg> {
    SETTINGS.iter().map(arg).collect()
}

fn arg(setting: &'static Setting) -> Arg {
    let default = match &setting.initial {
        Initial::Text("") => "none".to_owned(),
        Initial::Text(text) => (*text).to_owned(),
        Initial::State(folder) => format!("~/.codex-api-proxy/{folder}"),
        Initial::Unset { means, .. } => (*means).to_owned(),
    };
    let entries = match &setting.shape {
        Shape::List(..) if setting.one_entry => " (repeatable)".to_owned(),
        Shape::List(_, separator) => format!(" (joined by {separator} or repeated)"),
        Shape::Pairs => " (a=b;;c=d)".to_owned(),
        _ => String::new(),
    };
    let doc = setting.doc().trim_end_matches('.');
    let arg = Arg::new(setting.key)
        .long(setting.flag)
        .help(format!("{doc}{entries} [default: {default}] [env: {}]", setting.env()))
        .help_heading(setting.group);
    let arg = match &setting.shape {
        Shape::List(..) | Shape::Pairs => arg.action(ArgAction::Append),
        // As in the original, the last use of a flag counts.
        _ => arg.action(ArgAction::Set).overrides_with(setting.key),
    };
    match &setting.shape {
        Shape::Switch => {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false")
        }
        Shape::Choice(names) => arg
            .value_parser(PossibleValuesParser::new(*names))
            .value_name(names.join("|"))
            .hide_possible_values(true),
        Shape::Count { .. } => arg.value_name("N"),
        Shape::Seconds { .. } => arg.value_name("SECONDS"),
        // What shells propose: all paths but those of files are folders.
        Shape::Path if setting.key.ends_with("_file") => {
            arg.value_name("FILE").value_hint(ValueHint::FilePath)
        }
        Shape::Path | Shape::List(Shape::Path, _) => arg.value_name("FOLDER").value_hint(ValueHint::DirPath),
        Shape::Program => arg.value_name("PROGRAM").value_hint(ValueHint::CommandName),
        Shape::Text(_) => arg.value_name("TEXT"),
        Shape::List(..) | Shape::Pairs => arg.value_name("ENTRY"),
    }
}

/// `--config FILE`.
pub fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .help("Settings file read after all others; it must exist [env: CODEX_PROXY_CONFIG]")
        .overrides_with("config")
}

/// The settings given as flags: key and every value, in the order of the table.
pub fn flags(matches: &ArgMatches) -> Vec<(&'static str, Vec<String>)> {
    let given = |setting: &'static Setting| {
        let values = matches.try_get_many::<String>(setting.key).ok()??;
        Some((setting.key, values.cloned().collect()))
    };
    SETTINGS.iter().filter_map(given).collect()
}

/// Options of the Python original that do nothing here, and what replaced them.
pub(super) const REPLACED: &[(&str, &str)] = &[
    ("pid-file", "the service manager knows the process (codex-api-proxy status)"),
    ("log-file", "the log is in the journal or system log (codex-api-proxy logs)"),
    ("state-file", "start saves its settings in config.d/50-start.toml (codex-api-proxy config path)"),
];

/// `--pid-file`, `--log-file` and `--state-file`: accepted, hidden, without effect.
pub fn replaced_args() -> Vec<Arg> {
    REPLACED.iter().map(|(flag, _)| Arg::new(*flag).long(*flag).hide(true).overrides_with(*flag)).collect()
}

/// One line for each such option that was given.
pub fn replaced_notices(matches: &ArgMatches) -> Vec<String> {
    let given = |flag: &str| matches.try_get_one::<String>(flag).is_ok_and(|value| value.is_some());
    let replaced = REPLACED.iter().filter(|(flag, _)| given(flag));
    replaced.map(|(flag, instead)| format!("--{flag} has no effect: {instead}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<ArgMatches, clap::Error> {
        let command = clap::Command::new("test").no_binary_name(true);
        command.arg(config_arg()).args(args()).args(replaced_args()).try_get_matches_from(arguments)
    }

    #[test]
    fn flags_are_read_as_in_the_original() {
        for (arguments, expect) in [
            (&["--ephemeral"][..], &[("ephemeral", &["true"][..])][..]),
            (&["--ephemeral=false"], &[("ephemeral", &["false"])]),
            (&["--fast", "--port=1", "--port", "2"], &[("port", &["2"]), ("fast", &["true"])]),
            (&["--codex-config", "a=b;;c", "--codex-config=d=e"], &[("codex_configs", &["a=b;;c", "d=e"])]),
            (&["--allowed-root", "/a", "--allowed-root", "/b"], &[("allowed_roots", &["/a", "/b"])]),
            (&["--engine", "app-server"], &[("engine", &["app-server"])]),
            (&[], &[]),
        ] {
            let expect: Vec<(&str, Vec<String>)> = expect
                .iter()
                .map(|(key, values)| (*key, values.iter().map(|value| (*value).to_owned()).collect()))
                .collect();
            assert_eq!(flags(&parsed(arguments).unwrap()), expect, "{arguments:?}");
        }
        assert!(parsed(&["--engine", "app"]).is_err());
        assert!(parsed(&["--prot", "1"]).is_err());
    }

    #[test]
    fn what_the_os_replaced_is_accepted_and_said() {
        let matches = parsed(&["--pid-file", "/x", "--log-file=/y", "--state-file", "/z"]).unwrap();
        let notices = replaced_notices(&matches);
        assert_eq!(notices.len(), 3);
        assert!(notices[0].starts_with("--pid-file has no effect: "), "{notices:?}");
        assert_eq!(replaced_notices(&parsed(&[]).unwrap()), Vec::<String>::new());
    }
}
