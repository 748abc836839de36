//! `usage`: what was spent, summed up from the log.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::exit::Exit;
use super::glance::{self, grouped, plain, share};
use super::output::{out, warn};
use super::records::{self, Unreadable};
use super::service::World;
use super::standing;
use crate::observe::ledger::{Named, Sums};
use crate::observe::recorded::Recorded;

/// The most names that are told apart; days are as many in 27 years.
const NAMES: usize = 10_000;

/// `usage`.
pub fn command() -> Command {
    Command::new("usage")
        .about("Show what was spent: requests and tokens, by day, model or client")
        .after_help(
            "The sums come from the journal (macOS: the unified log), of this user's service only, and go back as \
             far as the journal does. `unknown` counts turns whose cost Codex did not tell: cut by a stop string, or \
             the client left. What is left of the plan's windows is told by the service, if it runs.\n\n\
             Examples:\n  \
             codex-api-proxy usage\n  \
             codex-api-proxy usage --since 7d --by day\n  \
             codex-api-proxy usage --since 2026-11-01 --by client --json",
        )
        .arg(
            Arg::new("since")
                .long("since")
                .value_name("WHEN")
                .default_value("today")
                .allow_hyphen_values(true)
                .help("From when on: 7d, 12h, yesterday, 2026-11-01 or any other time of journalctl"),
        )
        .arg(
            Arg::new("by")
                .long("by")
                .value_name("WHAT")
                .value_parser(PossibleValuesParser::new(["day", "model", "client"]))
                // The line below has them.
                .hide_possible_values(true)
                .help("A line for each day, model (as clients name it) or client (name of its key, user or address)"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON for programs: since, by, total, rows with a name each, and plan"),
        )
}

/// What the sums are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Day,
    Model,
    Client,
}

impl By {
    fn named(name: &str) -> By {
        match name {
            "day" => By::Day,
            "model" => By::Model,
            _ => By::Client,
        }
    }

    fn name(self) -> &'static str {
        match self {
            By::Day => "day",
            By::Model => "model",
            By::Client => "client",
        }
    }
}

/// Everything there is to tell.
struct Spent<'a> {
    since: &'a str,
    by: Option<By>,
    total: Sums,
    rows: Named,
}

impl Spent<'_> {
    fn add(&mut self, recorded: &Recorded) {
        let entry = recorded.entry();
        let sums = entry.sums();
        self.total += sums;
        match self.by {
            None => {}
            Some(By::Day) => self.rows.add(&day(recorded.at), sums),
            Some(By::Model) => self.rows.add(entry.model_name(), sums),
            Some(By::Client) => self.rows.add(entry.caller_name(), sums),
        }
    }
}

fn day(at: Timestamp) -> String {
    at.to_zoned_datetime(TimeZone::system()).date().to_string()
}

/// Runs it.
///
/// # Errors
/// The time is none, or the log cannot be read.
pub fn run(matches: &ArgMatches) -> Result<(), Exit> {
    let since = matches.get_one::<String>("since").map_or("today", String::as_str);
    let by = matches.get_one::<String>("by").map(|name| By::named(name));
    let mut spent = Spent { since, by, total: Sums::default(), rows: Named::new(NAMES) };
    let odd =
        records::read(since, &records::units(), |recorded| spent.add(recorded)).map_err(|why| match why {
            Unreadable::When(said) => Exit::Usage(format!("--since {since}: {said}")),
            Unreadable::Log(why) => Exit::Failure(why),
        })?;
    if odd > 0 {
        warn(&[format!("{odd} lines of the log are not understood and in no sum")]);
    }
    let usage = World::look().ok().and_then(|world| standing::usage_of(&world));
    if matches.get_flag("json") {
        let mut json = as_json(&spent);
        json["plan"] = usage.map_or(Json::Null, |usage| usage["plan"].clone());
        return out(&format!("{json:#}\n"));
    }
    let mut text = as_text(&spent);
    if let Some(usage) = &usage {
        let plan = glance::plan(usage, &TimeZone::system());
        text.extend(plan.iter().map(|line| format!("plan  {line}\n")));
    }
    out(&text)
}

fn as_json(spent: &Spent) -> Json {
    let by = spent.by.map(By::name);
    json!({ "since": spent.since, "by": by, "total": spent.total, "rows": spent.rows.json() })
}

fn as_text(spent: &Spent) -> String {
    if spent.total.requests == 0 {
        return format!(
            "No request since {}, as the log has it (at `log_level` info or debug, and only of the service).\n",
            spent.since
        );
    }
    let head = ["requests", "failed", "input", "cached", "output", "unknown"].map(str::to_owned);
    let mut table = vec![(spent.by.map_or("", By::name).to_owned(), head)];
    table.extend(spent.rows.rows().map(|(name, sums)| (plain(name), cells(sums))));
    table.push(("total".into(), cells(spent.total)));
    let first = table.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let width = |at: usize| table.iter().map(|(_, cells)| cells[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = format!("Since {}:\n", spent.since);
    for (name, cells) in &table {
        text += &format!("{name:<first$}");
        for (cell, width) in cells.iter().zip(&widths) {
            text += &format!("  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

fn cells(sums: Sums) -> [String; 6] {
    [
        grouped(sums.requests),
        grouped(sums.failures),
        grouped(sums.input_tokens),
        share(sums.cached_tokens, sums.input_tokens),
        grouped(sums.output_tokens),
        grouped(sums.tokens_unknown),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(by: Option<By>, rows: &[(&str, Sums)]) -> Spent<'static> {
        let mut spent = Spent { since: "7d", by, total: Sums::default(), rows: Named::new(NAMES) };
        for (name, sums) in rows {
            spent.total += *sums;
            spent.rows.add(name, *sums);
        }
        spent
    }

    const ALICE: Sums = Sums {
        requests: 1200,
        failures: 2,
        tokens_unknown: 1,
        input_tokens: 1_234_567,
        cached_tokens: 1_000_000,
        output_tokens: 999,
    };
    const REFUSED: Sums = Sums {
        requests: 1,
        failures: 1,
        tokens_unknown: 0,
        input_tokens: 0,
        cached_tokens: 0,
        output_tokens: 0,
    };

    #[test]
    fn the_table_is_aligned() {
        let text = as_text(&spent(Some(By::Client), &[("refused\u{1b}", REFUSED), ("alice", ALICE)]));
        assert_eq!(
            text,
            "Since 7d:\n\
             client    requests  failed      input  cached  output  unknown\n\
             alice        1,200       2  1,234,567    81 %     999        1\n\
             refused?         1       1          0       -       0        0\n\
             total        1,201       3  1,234,567    81 %     999        1\n"
        );
        let nothing = as_text(&spent(None, &[]));
        assert!(nothing.starts_with("No request since 7d"), "{nothing}");
    }

    #[test]
    fn programs_get_numbers() {
        let json = as_json(&spent(Some(By::Model), &[("m", REFUSED)]));
        let sums = json!({"requests": 1, "failures": 1, "tokens_unknown": 0, "input_tokens": 0, "cached_tokens": 0,
            "output_tokens": 0});
        let mut row = sums.clone();
        row["name"] = "m".into();
        assert_eq!(json, json!({"since": "7d", "by": "model", "total": sums, "rows": [row]}));
        let none = as_json(&spent(None, &[]));
        assert_eq!((&none["by"], &none["rows"]), (&Json::Null, &json!([])));
    }
}
