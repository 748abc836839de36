//! The part of `packaging/REFERENCE.md` about the settings, which a test keeps as it is made here.

use super::*;
use crate::config::schema::Restart;

/// What stands above the tables.
const PREFACE: &str = "
Every setting has one name: `max_queue_size` in a file is the flag `--max-queue-size` and the variable
`CODEX_PROXY_MAX_QUEUE_SIZE`. Later layers win, and a list replaces the list of an earlier layer:

1. the defaults below
2. `/etc/codex-api-proxy/config.toml`, then `/etc/codex-api-proxy/config.d/*.toml` in name order
3. `~/.config/codex-api-proxy/config.toml` (or below `$XDG_CONFIG_HOME`), then its `config.d/*.toml`
4. the file named by `--config FILE` or `CODEX_PROXY_CONFIG`, which must exist
5. `CODEX_PROXY_*` variables; an empty one counts as unset
6. the systemd credential `api-key`
7. flags

Seconds may be fractional, sizes are bytes. Switches take true/false in files, and 1/true/yes or 0/false/no
elsewhere; `--ephemeral` alone means true. `~` is the home directory; a relative path starts from the folder of
the file it stands in, in variables and flags from the current directory. A file that others than you and root
own or can write is refused. `codex-api-proxy config show` prints what is in force and where it came from,
`config check` what is wrong.
";

/// The settings as tables of Markdown, one for each group.
pub fn markdown() -> String {
    let mut text = PREFACE.to_owned();
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            text += &format!("\n### {group}\n\n| key | flag | default | what it does |\n|---|---|---|---|\n");
        }
        let joined = match &setting.shape {
            Shape::List(_, separator) => format!("Variable: entries joined by `{separator}`."),
            Shape::Pairs => "Variable and flag: `name=model;;name=model`.".to_owned(),
            _ => choices(setting),
        };
        let repeated = if setting.one_entry { " Flag: repeat it, one entry each." } else { "" };
        let restart = match setting.restart {
            Restart::Never => "",
            Restart::Always | Restart::WithOwnSockets => " A change needs a restart.",
        };
        let what = format!("{} {joined}{repeated}", setting.doc());
        let row = format!(
            "| `{}` | `--{}` | {} | {} |\n",
            setting.key,
            setting.flag,
            default(setting),
            what.trim().to_owned() + restart
        );
        text += &row;
    }
    text
}
