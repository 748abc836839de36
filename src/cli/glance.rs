//! What a running server says of itself (`GET /usage`), as lines for a terminal: the one thing to do, the
//! plan's windows, today, and the turns that run or wait. No I/O, no clock: the document tells the time.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value as Json;

/// A row: what it is about, and what there is to say.
pub type Row = (&'static str, String);

/// Longest name or model that is shown, in characters; clients choose them.
const LONGEST: usize = 64;

/// All of it, times as the zone has them. Nothing of what is no such document.
pub fn rows(usage: &Json, zone: &TimeZone) -> Vec<Row> {
    let mut rows = Vec::new();
    if usage["object"] != "usage" {
        return rows;
    }
    if let Some(fix) = usage["ready"]["fix"].as_str() {
        rows.push(("to do", plain(fix)));
    }
    rows.extend(plan(usage, zone).into_iter().map(|line| ("plan", line)));
    rows.push(("today", today(&usage["today"])));
    let turns = |kind: &str| usage["turns"][kind].as_array().into_iter().flatten();
    rows.extend(turns("running").map(|seen| ("running", turn(usage, seen))));
    rows.extend(turns("queued").map(|seen| ("waiting", turn(usage, seen))));
    rows
}

/// Whether it is ready, in a sentence.
pub fn ready(usage: &Json) -> String {
    match usage["ready"]["status"].as_str() {
        Some("ready") => "yes".into(),
        _ => format!("no: {}", usage["ready"]["message"].as_str().unwrap_or("it gives no reason")),
    }
}

/// The plan's windows, a line each, as last reported; one that says so where nothing is told.
pub fn plan(usage: &Json, zone: &TimeZone) -> Vec<String> {
    let (now, plan) = (usage["now"].as_f64().unwrap_or_default(), &usage["plan"]);
    let windows: Vec<&Json> = plan["windows"].as_array().into_iter().flatten().collect();
    if windows.is_empty() {
        return vec![
            "not told (Codex reports the windows of a ChatGPT plan, with a turn or when asked)".into(),
        ];
    }
    let age = plan["reported_at"].as_f64().map(|at| format!(", told {} ago", lasting(now - at)));
    windows
        .into_iter()
        .map(|window| {
            let name = plain(window["name"].as_str().unwrap_or("window"));
            let anew = window["resets_at"].as_f64().map(|at| clock(at, now, zone));
            let mut line = match (window["used_percent"].as_f64(), &anew) {
                (Some(used), Some(anew)) => format!("{name}: {used:.0} % used, starts anew {anew}"),
                (Some(used), None) => format!("{name}: {used:.0} % used"),
                (None, _) => format!("{name}: started anew since the report"),
            };
            if let Some(pace) = window["pace"].as_f64() {
                line += &format!(", pace {pace:.1}");
            }
            if let Some(empty) = window["empty_at"].as_f64() {
                line += &format!(": at this rate empty {}", clock(empty, now, zone));
            }
            line + age.as_deref().unwrap_or_default()
        })
        .collect()
}

fn today(today: &Json) -> String {
    let number = |key: &str| today["total"][key].as_u64().unwrap_or(0);
    let since = if today["from"] == "midnight" { "" } else { ", since the service started" };
    let mut line = match number("requests") {
        1 => "1 request".to_owned(),
        requests => format!("{} requests", grouped(requests)),
    };
    if number("failures") > 0 {
        line += &format!(", {} failed", grouped(number("failures")));
    }
    let (input, cached) = (number("input_tokens"), number("cached_tokens"));
    line += &format!(", {} tokens in ({} cached)", grouped(input), share(cached, input));
    line += &format!(", {} out{since}", grouped(number("output_tokens")));
    if number("tokens_unknown") > 0 {
        line += &format!("; tokens not told {} times", grouped(number("tokens_unknown")));
    }
    line
}

fn turn(usage: &Json, turn: &Json) -> String {
    let word = |key: &str| plain(turn[key].as_str().unwrap_or("unknown"));
    let since = usage["now"].as_f64().unwrap_or_default() - turn["since"].as_f64().unwrap_or_default();
    let said = match turn["characters"].as_u64() {
        Some(characters @ 1..) => format!(", {} characters", grouped(characters)),
        _ => String::new(),
    };
    format!("{}, {}, {}{said} ({})", word("caller"), word("model"), lasting(since), word("request_id"))
}

/// Nothing of what others chose moves the cursor, and it has an end.
pub fn plain(name: &str) -> String {
    name.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `62 %`, rounded down: only all is all.
pub fn share(part: u64, whole: u64) -> String {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole));
    percent.map_or_else(|| "-".into(), |percent| format!("{percent} %"))
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12 s`, `3 min`, `2 h 5 min`, `6 d 3 h`.
fn lasting(seconds: f64) -> String {
    // Negative where two clocks differ.
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `14:30`, or with its day if that is another one.
fn clock(at: f64, now: f64, zone: &TimeZone) -> String {
    let local = |seconds: f64| Timestamp::from_second(seconds as i64).map(|time| zone.to_datetime(time));
    match (local(at), local(now)) {
        (Ok(at), Ok(now)) if at.date() == now.date() => at.strftime("%H:%M").to_string(),
        (Ok(at), _) => at.strftime("%a %d %b %H:%M").to_string(),
        (Err(_), _) => "at an unknown time".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOON: f64 = 1_764_158_400.0;

    fn document() -> Json {
        json!({
            "object": "usage", "now": NOON,
            "ready": { "status": "not_ready", "reason": "not_logged_in", "message": "m", "fix": "codex login" },
            "plan": { "type": "plus", "reported_at": NOON - 200.0, "windows": [
                { "name": "5 hours", "minutes": 300, "used_percent": 70.4, "resets_at": NOON + 9000.0, "pace": 1.4, "empty_at": NOON + 3600.0 },
                { "name": "7 days", "minutes": 10080, "used_percent": 3.0, "resets_at": NOON + 500_000.0, "pace": null, "empty_at": null },
                { "name": "odd", "minutes": null, "used_percent": null, "resets_at": null, "pace": null, "empty_at": null },
            ] },
            "today": { "from": "midnight", "total": { "requests": 1200, "failures": 2, "tokens_unknown": 1,
                "input_tokens": 1_234_567, "cached_tokens": 1_000_000, "output_tokens": 999 } },
            "turns": {
                "running": [{ "id": "t", "request_id": "r\u{1b}1", "caller": "alice", "model": "m", "since": NOON - 75.0, "characters": 1200 }],
                "queued": [{ "id": "u", "request_id": "r2", "caller": null, "model": "m", "since": NOON + 5.0, "characters": 0 }],
            },
        })
    }

    #[test]
    fn everything_has_its_row() {
        assert_eq!(
            rows(&document(), &TimeZone::UTC),
            [
                ("to do", "codex login".to_owned()),
                ("plan", "5 hours: 70 % used, starts anew 14:30, pace 1.4: at this rate empty 13:00, told 3 min ago".to_owned()),
                ("plan", "7 days: 3 % used, starts anew Tue 02 Dec 06:53, told 3 min ago".to_owned()),
                ("plan", "odd: started anew since the report, told 3 min ago".to_owned()),
                ("today", "1,200 requests, 2 failed, 1,234,567 tokens in (81 % cached), 999 out; tokens not told 1 times".to_owned()),
                ("running", "alice, m, 1 min, 1,200 characters (r?1)".to_owned()),
                ("waiting", "unknown, m, 0 s (r2)".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_not_told_is_said_or_left_out() {
        let mut bare = document();
        (bare["plan"], bare["ready"]["fix"], bare["turns"]) = (Json::Null, Json::Null, json!({}));
        bare["today"] = json!({ "from": "start", "total": {} });
        let rows_of = |usage: &Json| rows(usage, &TimeZone::UTC);
        assert_eq!(rows_of(&bare).len(), 2);
        assert!(rows_of(&bare)[0].1.starts_with("not told"));
        assert_eq!(
            rows_of(&bare)[1].1,
            "0 requests, 0 tokens in (- cached), 0 out, since the service started"
        );
        assert!(rows_of(&json!({ "error": { "message": "no key" } })).is_empty());
        for (seconds, expect) in [
            (-3.0, "0 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (3599.0, "59 min"),
            (3600.0, "1 h 0 min"),
            (86_399.0, "23 h 59 min"),
            (86_400.0, "1 d 0 h"),
        ] {
            assert_eq!(lasting(seconds), expect);
        }
        assert_eq!(
            (ready(&document()), ready(&json!({ "ready": { "status": "ready" } }))),
            ("no: m".into(), "yes".into())
        );
        assert_eq!(clock(f64::MAX, NOON, &TimeZone::UTC), "at an unknown time");
    }

    #[test]
    fn shares_and_thousands() {
        for (part, whole, expect) in
            [(0, 0, "-"), (0, 5, "0 %"), (999, 1000, "99 %"), (7, 7, "100 %"), (u64::MAX, u64::MAX, "100 %")]
        {
            assert_eq!(share(part, whole), expect);
        }
        for (number, expect) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")]
        {
            assert_eq!(grouped(number), expect);
        }
    }
}
