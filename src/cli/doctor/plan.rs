//! How much of the plan is used, as Codex last told the service that runs.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value as Json;

use super::report::Finding;
use crate::cli::readiness;
use crate::cli::service::Address;
use crate::cli::standing;
use crate::config::Config;
use crate::engine::plan::length;

/// From what percentage on it is worth a word.
const NEARLY: f64 = 90.0;

/// A rate-limit window.
#[derive(Clone, Debug, PartialEq)]
struct Window {
    name: String,
    /// `None`: it began anew since it was told.
    used_percent: Option<f64>,
    resets_at: Option<i64>,
}

/// Asks the service that listens there; nothing where Codex told it nothing.
pub(super) fn ask(places: &[Address], config: &Config) -> Vec<Finding> {
    let windows = match standing::usage(places, config) {
        Some(usage) => of_usage(&usage),
        // An older one, which was not restarted since the upgrade.
        None => readiness::ask_ready(places, config).map(|page| of_ready(&page.body)).unwrap_or_default(),
    };
    let now = Timestamp::now().as_second();
    windows.iter().map(|window| finding(window, now, &TimeZone::system())).collect()
}

fn of_usage(page: &Json) -> Vec<Window> {
    let windows = page["plan"]["windows"].as_array();
    let window = |window: &Json| Window {
        name: window["name"].as_str().unwrap_or("window").to_owned(),
        used_percent: window["used_percent"].as_f64(),
        resets_at: window["resets_at"].as_f64().map(|at| at as i64),
    };
    windows.into_iter().flatten().map(window).collect()
}

fn of_ready(page: &Json) -> Vec<Window> {
    let limits = page["rate_limits"].as_array();
    let window = |limit: &Json| Window {
        name: limit["window_minutes"].as_u64().and_then(length).unwrap_or_else(|| "window".into()),
        used_percent: limit["used_percent"].as_f64(),
        resets_at: limit["resets_at"].as_f64().map(|at| at as i64),
    };
    limits.into_iter().flatten().map(window).collect()
}

fn finding(window: &Window, now: i64, zone: &TimeZone) -> Finding {
    let over = window.resets_at.is_some_and(|at| at <= now);
    let Some(used) = window.used_percent.filter(|_| !over) else {
        return Finding::good("plan", format!("{}: began anew since Codex last told", window.name));
    };
    let reset = window.resets_at.and_then(|at| Timestamp::from_second(at).ok());
    let reset = reset.map_or(String::new(), |at| {
        format!(", reset {}", at.to_zoned_datetime(zone.clone()).strftime("%F %H:%M"))
    });
    let text = format!("{}: {used:.0} % used{reset}", window.name);
    match used >= NEARLY {
        true => Finding::mind("plan", text)
            .fix("who spent it: codex-api-proxy usage --since 7d --by client")
            .fix("a key for each client (api_key_file), and allowed_users, say who may"),
        false => Finding::good("plan", text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;
    use serde_json::json;

    fn window(name: &str, used_percent: Option<f64>, resets_at: Option<i64>) -> Window {
        Window { name: name.into(), used_percent, resets_at }
    }

    #[test]
    fn windows_are_read_from_either_page() {
        let usage = json!({ "plan": { "windows": [
            { "name": "5 hours", "minutes": 300, "used_percent": 12.5, "resets_at": 1_764_130_000, "pace": 1.4 },
            { "name": "7 days", "minutes": 10080, "used_percent": null, "resets_at": null },
        ] } });
        let expect = [window("5 hours", Some(12.5), Some(1_764_130_000)), window("7 days", None, None)];
        assert_eq!(of_usage(&usage), expect);
        for none in [json!({ "plan": null }), json!({}), Json::Null] {
            assert_eq!((of_usage(&none), of_ready(&none)), (vec![], vec![]));
        }
        let ready = json!({ "rate_limits": [
            { "name": "primary", "used_percent": 12.5, "window_minutes": 300, "resets_at": 1_764_130_000 },
            { "name": "secondary", "used_percent": 40, "window_minutes": null, "resets_at": null },
        ] });
        assert_eq!(
            of_ready(&ready),
            [window("5 hours", Some(12.5), Some(1_764_130_000)), window("window", Some(40.0), None)]
        );
        for (minutes, expect) in
            [(300, "5 hours"), (60, "1 hour"), (10080, "7 days"), (90, "90 minutes"), (0, "window")]
        {
            let ready = json!({ "rate_limits": [{ "window_minutes": minutes }] });
            assert_eq!(of_ready(&ready)[0].name, expect);
        }
    }

    #[test]
    fn what_is_nearly_used_up_is_minded() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = 1_764_130_000;
        for (used, resets_at, verdict, text) in [
            (Some(12.5), Some(at), Verdict::Good, "5 hours: 12 % used, reset 2025-11-26 05:06"),
            (Some(89.9), None, Verdict::Good, "5 hours: 90 % used"),
            (Some(90.0), Some(at), Verdict::Mind, "5 hours: 90 % used, reset 2025-11-26 05:06"),
            (Some(100.0), Some(at), Verdict::Mind, "5 hours: 100 % used, reset 2025-11-26 05:06"),
            (Some(100.0), Some(at - 60), Verdict::Good, "5 hours: began anew since Codex last told"),
            (None, Some(at), Verdict::Good, "5 hours: began anew since Codex last told"),
        ] {
            let found = finding(&window("5 hours", used, resets_at), at - 60, &zone);
            assert_eq!((found.verdict, found.text.as_str()), (verdict, text));
            assert_eq!(found.fixes.is_empty(), verdict == Verdict::Good);
        }
    }
}
