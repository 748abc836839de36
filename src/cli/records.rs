//! What the log has of finished requests: the journal, or the unified log of macOS, read line by line.
//!
//! The journal is asked by what it knows of a line's sender itself, his user and unit; anybody may
//! write the rest.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use jiff::{Timestamp, ZonedDateTime};

use super::service::systemd;
use crate::codex::locate;
use crate::observe::ledger::Ledger;
use crate::observe::log::SUBSYSTEM;
use crate::observe::recorded::{EVENT, FIELDS, Recorded};
use crate::observe::today::NAMES;
use crate::os::systemd::Unit;
use crate::os::users;

/// No entry of ours is nearly as long.
const LONGEST: u64 = 64 << 10;

/// How much of what the log's viewer complains of is kept, in bytes.
const COMPLAINTS: u64 = 64 << 10;

/// Why there is nothing to read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The time is none.
    When(String),
    /// The log, and what may help.
    Log(String),
}

/// The units of this user's service: his own, and the system's template.
pub fn units() -> Vec<Unit> {
    let mut units = vec![Unit { name: systemd::SERVICE.into(), of_user: true }];
    if let Ok(Some(user)) = users::name_of(users::own_uid()) {
        units.push(Unit { name: systemd::TEMPLATES[0].replace('@', &format!("@{user}")), of_user: false });
    }
    units
}

/// Hands on each request since then, oldest first; the number of entries that could not be read.
///
/// Blocking: it waits for the log's viewer.
///
/// # Errors
/// There is no log, or it may not be read.
pub fn read(since: &str, units: &[Unit], mut each: impl FnMut(&Recorded)) -> Result<u64, Unreadable> {
    let uid = users::own_uid();
    if cfg!(target_os = "macos") {
        let command = unified_log(since, &ZonedDateTime::now());
        // The viewer's last line is none of the log.
        return lines(command, |line| {
            Recorded::of_unified_log(line, uid).iter().for_each(&mut each);
            true
        });
    }
    let path = std::env::var_os("PATH");
    let program = locate::named("journalctl", path.as_deref(), None).ok_or_else(|| {
        Unreadable::Log(
            "There is no journal here (no journalctl on PATH), which is where sums come from.".into(),
        )
    })?;
    let mut command = Command::new(&program);
    command.args(journal(since, uid, units));
    let mut any = false;
    let odd = lines(command, |line| {
        any = true;
        let recorded = Recorded::of_journal(line);
        recorded.iter().for_each(&mut each);
        recorded.is_some()
    })?;
    if !any {
        let mut command = Command::new(&program);
        command.args(["--no-pager", "--header"]);
        has_files(command)?;
    }
    Ok(odd)
}

/// Sees that there are journal files. Asked for JSON, journalctl does not say that there are none, as where
/// its folder is empty or of another machine id; asked what heads them, it does.
fn has_files(command: Command) -> Result<(), Unreadable> {
    let mut any = false;
    lines(command, |_| {
        any = true;
        true
    })?;
    if any { Ok(()) } else { Err(no_journal()) }
}

fn no_journal() -> Unreadable {
    Unreadable::Log(
        "There is no journal on this machine, which is where sums come from: journalctl finds no files of this \
         machine in /var/log/journal and /run/log/journal, as in a container without systemd-journald. What the \
         running server has counted is in /metrics."
            .into(),
    )
}

/// What a unit logged between that midnight and that moment, summed up.
///
/// Blocking: it waits for the log's viewer.
///
/// # Errors
/// Why it is not known.
pub fn between(midnight: Timestamp, moment: Timestamp, unit: &Unit) -> Result<Ledger, String> {
    let mut ledger = Ledger::new(NAMES);
    let since = format!("@{}", midnight.as_second());
    let read = read(&since, std::slice::from_ref(unit), |recorded| {
        if recorded.is_before(moment) {
            ledger.add(&recorded.entry());
        }
    });
    match read {
        Ok(0) => Ok(ledger),
        Ok(odd) => Err(format!("{odd} lines of the journal are not understood")),
        Err(Unreadable::When(why) | Unreadable::Log(why)) => Err(why),
    }
}

/// The arguments of journalctl.
fn journal(since: &str, uid: u32, units: &[Unit]) -> Vec<String> {
    let mut arguments: Vec<String> = ["--no-pager", "-o", "json"].map(Into::into).into();
    arguments.push(format!("--output-fields={}", FIELDS.join(",")));
    arguments.push(format!("--since={}", journal_time(since)));
    for (at, unit) in units.iter().enumerate() {
        // `+` is "or".
        arguments.extend((at > 0).then(|| "+".into()));
        let field = if unit.of_user { "_SYSTEMD_USER_UNIT" } else { "_SYSTEMD_UNIT" };
        arguments.extend([
            format!("_UID={uid}"),
            format!("{field}={}", unit.name),
            format!("CODEX_EVENT={EVENT}"),
        ]);
    }
    arguments
}

/// A time as systemd.time(7) has it, where `7d` is long ago.
fn journal_time(when: &str) -> String {
    let when = when.trim();
    if is_span(when) { format!("-{when}") } else { when.to_owned() }
}

/// Whether it is a length of time, such as `7d` or `1h 30min`.
fn is_span(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == ' ' || c == '.';
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(plain)
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with("ago")
        && !text.ends_with("UTC")
}

/// log(1) of macOS, which knows lengths of time and local times only.
fn unified_log(since: &str, now: &ZonedDateTime) -> Command {
    let mut command = Command::new("/usr/bin/log");
    command.args(["show", "--style", "ndjson", "--info", "--predicate"]);
    command.arg(format!(
        "subsystem == \"{SUBSYSTEM}\" AND eventMessage CONTAINS \"\\\"event\\\":\\\"{EVENT}\\\"\""
    ));
    let day = |day: Option<ZonedDateTime>| day.map(|day| day.strftime("%F 00:00:00").to_string());
    match since.trim() {
        when if is_span(when) => command.args(["--last", when]),
        "today" => command.arg("--start").args(day(Some(now.clone()))),
        "yesterday" => command.arg("--start").args(day(now.yesterday().ok())),
        when => command.args(["--start", when]),
    };
    command
}

/// Runs the viewer and reads its lines, one at a time; `take` tells whether it understood one.
fn lines(mut command: Command, mut take: impl FnMut(&[u8]) -> bool) -> Result<u64, Unreadable> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| Unreadable::Log(format!("{name}: {error}"));
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (odd, complaints) = std::thread::scope(|scope| {
        // So that a full pipe of complaints does not stop it.
        let complaints = scope.spawn(move || -> io::Result<String> {
            let Some(mut err) = err else { return Ok(String::new()) };
            let mut kept = Vec::new();
            err.by_ref().take(COMPLAINTS).read_to_end(&mut kept)?;
            io::copy(&mut err, &mut io::sink())?;
            Ok(String::from_utf8_lossy(&kept).into_owned())
        });
        let odd = out.map_or(Ok(0), |out| each_line(BufReader::new(out), &mut take));
        if odd.is_err() {
            // Nobody reads it any more.
            _ = child.kill();
        }
        (odd, complaints.join().unwrap_or_else(|_| Ok(String::new())))
    });
    let status = child.wait().map_err(failed)?;
    let (odd, complaints) = (odd.map_err(failed)?, complaints.map_err(failed)?);
    match judge(&name, status.success(), &complaints) {
        Some(unreadable) => Err(unreadable),
        None => Ok(odd),
    }
}

fn each_line(mut from: impl BufRead, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<u64> {
    let (mut odd, mut line, mut whole) = (0, Vec::new(), true);
    loop {
        line.clear();
        if from.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(odd);
        }
        let ends = line.ends_with(b"\n") || (line.len() as u64) < LONGEST;
        let ends_here = std::mem::replace(&mut whole, ends);
        // The rest of one that is too long is no line.
        if ends_here && !(ends && take(&line)) {
            odd += 1;
        }
    }
}

/// What it means that the viewer ended so.
fn judge(name: &str, success: bool, complaints: &str) -> Option<Unreadable> {
    let said = complaints.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let has = |word: &str| complaints.contains(word);
    if has("insufficient permissions") {
        return Some(Unreadable::Log(
            "The journal cannot be read by this user: this machine keeps no journal for each user. Who is in the \
             group systemd-journal may read it: sudo usermod -aG systemd-journal $USER, then log in again."
                .into(),
        ));
    }
    if has("No journal files were found") {
        return Some(no_journal());
    }
    if success {
        return None;
    }
    let program = name.rsplit('/').next().unwrap_or(name);
    match has("arse timestamp") || has("not a valid date") || has("nvalid time") {
        true => Some(Unreadable::When(said.to_owned())),
        false => Some(Unreadable::Log(format!("{program} failed: {said}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_asked_by_what_it_knows_itself() {
        let unit = |name: &str, of_user| Unit { name: name.into(), of_user };
        let asked = journal("7d", 1000, &[unit("a.service", true), unit("a@me.service", false)]);
        assert_eq!(
            asked[4..],
            [
                "--since=-7d",
                "_UID=1000",
                "_SYSTEMD_USER_UNIT=a.service",
                "CODEX_EVENT=chat_completion_latency",
                "+",
                "_UID=1000",
                "_SYSTEMD_UNIT=a@me.service",
                "CODEX_EVENT=chat_completion_latency",
            ]
        );
        assert_eq!(asked[..3], ["--no-pager", "-o", "json"]);
    }

    #[test]
    fn lengths_of_time_are_long_ago_and_all_else_is_the_journals() {
        for (when, expect) in [
            ("7d", "-7d"),
            (" 12h ", "-12h"),
            ("1h 30min", "-1h 30min"),
            ("1.5d", "-1.5d"),
            ("today", "today"),
            ("yesterday", "yesterday"),
            ("2026-11-01", "2026-11-01"),
            ("2026-11-01 10:00", "2026-11-01 10:00"),
            ("11:30", "11:30"),
            ("@1795660200", "@1795660200"),
            ("-2h", "-2h"),
            ("2 days ago", "2 days ago"),
            ("2h ago", "2h ago"),
            ("2026", "2026"),
            ("", ""),
        ] {
            assert_eq!(journal_time(when), expect, "{when:?}");
        }
    }

    #[test]
    fn the_unified_log_is_asked_in_its_own_times() {
        let now: ZonedDateTime = "2026-11-26T12:00[Europe/Berlin]".parse().unwrap();
        for (when, expect) in [
            ("today", ["--start", "2026-11-26 00:00:00"]),
            ("yesterday", ["--start", "2026-11-25 00:00:00"]),
            ("7d", ["--last", "7d"]),
            ("2026-11-01", ["--start", "2026-11-01"]),
        ] {
            let command = unified_log(when, &now);
            let arguments: Vec<_> = command.get_args().filter_map(|word| word.to_str()).collect();
            assert_eq!(arguments[6..], expect, "{when}");
            let wanted = "subsystem == \"local.codex-api-proxy\" AND eventMessage CONTAINS \
                          \"\\\"event\\\":\\\"chat_completion_latency\\\"\"";
            assert_eq!(arguments[5], wanted);
        }
    }

    #[test]
    fn lines_are_read_one_by_one_and_none_is_too_long() {
        let long = "x".repeat(LONGEST as usize - 1);
        for (text, expect, odd) in [
            (String::new(), vec![], 0),
            ("a\nb\n".into(), vec![1, 1], 0),
            ("a\nb".into(), vec![1, 1], 0),
            (format!("{long}\na\n"), vec![long.len(), 1], 0),
            (format!("{long}x\na\n"), vec![1], 1),
            (format!("{long}{long}{long}\na\n"), vec![1], 1),
            ("a\n?\nb\n".into(), vec![1, 1, 1], 1),
        ] {
            let mut lengths = vec![];
            let counted = each_line(text.as_bytes(), |line| {
                lengths.push(line.strip_suffix(b"\n").unwrap_or(line).len());
                !line.starts_with(b"?")
            });
            assert_eq!((counted.unwrap(), lengths), (odd, expect), "{:.20}", text);
        }
    }

    #[test]
    fn what_the_viewer_says_is_said_so_that_it_helps() {
        let log = |text: &str| Some(Unreadable::Log(text.to_owned()));
        for (success, complaints, expect) in [
            (true, "", None),
            (true, "Hint: You are currently not seeing messages from other users and the system.\n", None),
            (
                false,
                "Failed to parse timestamp: soon\n",
                Some(Unreadable::When("Failed to parse timestamp: soon".into())),
            ),
            (true, "No journal files were found.\n", Some(no_journal())),
            (false, "journalctl: oops\n\n", log("journalctl failed: journalctl: oops")),
        ] {
            assert_eq!(judge("/usr/bin/journalctl", success, complaints), expect, "{complaints}");
        }
        let refused = "Hint: …\nNo journal files were opened due to insufficient permissions.\n";
        let Some(Unreadable::Log(said)) = judge("journalctl", false, refused) else { panic!() };
        assert!(said.contains("usermod -aG systemd-journal $USER"), "{said}");
    }

    #[test]
    fn an_empty_folder_is_no_journal() {
        let folder = tempfile::tempdir().unwrap();
        let script = |text: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", text]);
            command
        };
        assert_eq!(has_files(script("echo 'File path: /x.journal'")), Ok(()));
        assert_eq!(has_files(script("true")), Err(no_journal()));
        assert_eq!(has_files(script("echo 'No journal files were found.' >&2")), Err(no_journal()));
        // The real one, where it is there.
        if let Some(program) = locate::named("journalctl", std::env::var_os("PATH").as_deref(), None) {
            let mut command = Command::new(program);
            command.arg("--header").arg("--directory").arg(folder.path());
            assert_eq!(has_files(command), Err(no_journal()));
        }
    }
}
