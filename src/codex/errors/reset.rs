//! When a limit ends, in the words of Codex and of the upstream.
//!
//! Codex writes `try again at 3:05 PM.` for a time of today and `try again at Nov 30th, 2026 3:05 PM.` for
//! any other: in the local time of its machine, which is ours, and cut to the minute. Durations, as in
//! `try again in 1m2.5s`, come from the upstream and from older CLIs.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::{ToSpan, ZonedDateTime};

/// What was cut away may be as much as this: earlier than that is too early.
const MINUTE: i64 = 60;

/// The Unix time after "try again at", read at `now`. Lower case expected.
pub(super) fn time(text: &str, now: &ZonedDateTime) -> Option<u64> {
    let (_, rest) = text.split_once("try again at ")?;
    let end = [" am", " pm"].iter().filter_map(|half| rest.find(half)).min()? + " pm".len();
    let words: Vec<&str> = rest[..end].split_whitespace().collect();
    let clock = |time: &str, half: &str| Time::strptime("%I:%M %p", format!("{time} {half}")).ok();
    let end_of = |day: Date, time: Time| {
        let written = DateTime::from_parts(day, time);
        // In the hour that an autumn night has twice, the second one is the safe one.
        let moment = now.time_zone().to_ambiguous_timestamp(written).later().ok()?;
        Some(moment.as_second() + MINUTE)
    };
    let at = match words[..] {
        [time, half] => {
            let (time, today) = (clock(time, half)?, now.date());
            let yesterday = end_of(today.checked_sub(1.day()).ok()?, time)?;
            // Written just before midnight, read just after it.
            let just_past = yesterday > now.timestamp().as_second() - MINUTE;
            if just_past { yesterday } else { end_of(today, time)? }
        }
        [month, day, year, time, half] => {
            let day = day.strip_suffix(',')?;
            let day = ["st", "nd", "rd", "th"].iter().find_map(|ordinal| day.strip_suffix(ordinal))?;
            let date = Date::strptime("%b %d %Y", format!("{month} {day} {year}")).ok()?;
            end_of(date, clock(time, half)?)?
        }
        _ => return None,
    };
    at.try_into().ok()
}

/// The time after "try again in": `1.5s`, `35ms`, `1m2s`, `3 days 2 hours`, `less than a minute`.
/// Lower case expected.
pub(super) fn delay(text: &str) -> Option<Duration> {
    let mut rest = text.split_once("try again in ")?.1;
    if rest.starts_with("less than a minute") {
        return Some(Duration::from_secs(60));
    }
    let mut total = 0.0;
    loop {
        rest = rest.trim_start();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let seconds = match &after[..letters] {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            _ => break,
        };
        let Ok(number) = number.parse::<f64>() else { break };
        total += number * seconds;
        rest = &after[letters..];
    }
    // Far beyond any real limit, and below what `Duration` can hold.
    (total > 0.0 && total < 1e9).then(|| Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// The time read from that text at that local time, as local time again.
    fn read(zone: &str, now: &str, text: &str) -> Option<String> {
        let zone = TimeZone::posix(zone).unwrap();
        let now = now.parse::<DateTime>().unwrap().to_zoned_datetime(zone.clone()).unwrap();
        let at = time(&text.to_lowercase(), &now)?;
        let moment = jiff::Timestamp::from_second(at.try_into().unwrap()).unwrap();
        Some(moment.to_zoned_datetime(zone).strftime("%F %T %z").to_string())
    }

    #[test]
    fn times_are_read_in_the_local_zone_and_never_too_early() {
        const NEPAL: &str = "NPT-5:45";
        const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
        let limit = "You've hit your usage limit.";
        let noon = "2026-11-24T12:00:00";
        for (zone, now, text, expect) in [
            (NEPAL, noon, "Try again at 3:05 PM.", Some("2026-11-24 15:06:00 +0545")),
            (NEPAL, noon, "Try again at 12:30 PM.", Some("2026-11-24 12:31:00 +0545")),
            (NEPAL, "2026-11-24T00:10:00", "Try again at 12:30 AM.", Some("2026-11-24 00:31:00 +0545")),
            (
                NEPAL,
                noon,
                "Upgrade to Plus to continue using Codex (https://x.y/plus), or try again at Nov 30th, 2026 3:05 PM.",
                Some("2026-11-30 15:06:00 +0545"),
            ),
            (NEPAL, noon, "Try again at Dec 1st, 2026 11:59 PM.", Some("2026-12-02 00:00:00 +0545")),
            (NEPAL, noon, "Try again at Jan 2nd, 2027 9:00 AM.", Some("2027-01-02 09:01:00 +0545")),
            (NEPAL, noon, "Try again at Mar 3rd, 2027 12:00 AM.", Some("2027-03-03 00:01:00 +0545")),
            // Summer time at the one end, winter at the other; and the hour that comes twice.
            (BERLIN, noon, "Try again at Apr 1st, 2027 8:00 AM.", Some("2027-04-01 08:01:00 +0200")),
            (
                BERLIN,
                "2026-10-24T12:00:00",
                "Try again at Oct 25th, 2026 2:30 AM.",
                Some("2026-10-25 02:31:00 +0100"),
            ),
            // Around midnight: of the day it was written on. A time just gone is not tomorrow's.
            (NEPAL, "2026-11-24T00:00:20", "Try again at 11:59 PM.", Some("2026-11-24 00:00:00 +0545")),
            (NEPAL, "2026-11-24T00:00:20", "Try again at 3:05 AM.", Some("2026-11-24 03:06:00 +0545")),
            (NEPAL, "2026-11-24T00:05:00", "Try again at 11:59 PM.", Some("2026-11-25 00:00:00 +0545")),
            (NEPAL, "2026-11-24T15:06:30", "Try again at 3:05 PM.", Some("2026-11-24 15:06:00 +0545")),
            (NEPAL, noon, "Try again later.", None),
            (NEPAL, noon, "Try again at a better time. Say pm.", None),
            (NEPAL, noon, "Try again at 25:05 PM.", None),
            (NEPAL, noon, "Try again at Nov 31st, 2026 3:05 PM.", None),
            (NEPAL, noon, "Try again at Nov 30, 2026 3:05 PM.", None),
            (NEPAL, noon, "Try again at 30.11.2026 15:05.", None),
            (NEPAL, noon, "Try again at", None),
        ] {
            let text = format!("{limit} {text}");
            assert_eq!(read(zone, now, &text).as_deref(), expect, "{text} at {now}");
        }
    }

    #[test]
    fn durations_add_up() {
        for (text, seconds) in [
            ("try again in 1.5s.", Some(1.5)),
            ("try again in 35ms", Some(0.035)),
            ("try again in 1m2.5s. visit", Some(62.5)),
            ("try again in 2 days 3 hours.", Some(183_600.0)),
            ("try again in 1 day 1 hour 1 minute.", Some(90_060.0)),
            ("try again in less than a minute.", Some(60.0)),
            ("try again in a while.", None),
            ("try again in 0s.", None),
            ("try again in 99999999999 days", None),
            ("try again at 3:05 pm", None),
        ] {
            assert_eq!(delay(text).map(|delay| delay.as_secs_f64()), seconds, "{text}");
        }
    }
}
