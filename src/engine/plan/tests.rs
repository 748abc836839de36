//! The arithmetic of a window, and when Codex is asked.

use serde_json::json;

use super::*;
use crate::codex::{AuthFile, Confinement, Continuation, Functions, Home, Version};
use crate::config::Config;

const HOUR: f64 = 3600.0;
/// A window of 5 hours that begins at 100,000.
const END: u64 = 100_000 + 5 * 3600;

fn window(used_percent: f64, window_minutes: Option<u64>, resets_at: Option<u64>) -> RateLimit {
    RateLimit { name: "primary", used_percent, window_minutes, resets_at }
}

#[test]
fn a_pace_is_the_used_by_the_elapsed_share_at_the_time_of_the_report() {
    let start = 100_000.0;
    let (half, end) = (start + 2.5 * HOUR, END as f64);
    for (used, minutes, resets_at, reported_at, now, expect) in [
        // Just enough: it lasts to the end, and no longer.
        (50.0, Some(300), Some(END), half, half, Some((1.0, None))),
        // Twice as fast: empty when the half is over.
        (50.0, Some(300), Some(END), start + 1.25 * HOUR, half, Some((2.0, Some(half)))),
        (25.0, Some(300), Some(END), half, half, Some((0.5, None))),
        (0.0, Some(300), Some(END), half, half, Some((0.0, None))),
        // Empty already.
        (100.0, Some(300), Some(END), half, half, Some((2.0, Some(half)))),
        (120.0, Some(300), Some(END), half, half, Some((2.4, Some(half)))),
        // Just begun: at 2 % of it something can be said, and not before.
        (4.0, Some(300), Some(END), start + 0.1 * HOUR, half, Some((2.0, Some(half)))),
        (4.0, Some(300), Some(END), start + 0.0999 * HOUR, half, None),
        (4.0, Some(300), Some(END), start, half, None),
        // Over, by the time somebody looks or by the time of the report.
        (50.0, Some(300), Some(END), half, end, None),
        (50.0, Some(300), Some(END), half, end - 1.0, Some((1.0, None))),
        (50.0, Some(300), Some(END), end + 1.0, end + 1.0, None),
        // Told before it can have begun: what was told does not go together.
        (50.0, Some(300), Some(END), start - 1.0, half, None),
        // Not told in full.
        (50.0, None, Some(END), half, half, None),
        (50.0, Some(0), Some(END), half, half, None),
        (50.0, Some(300), None, half, half, None),
    ] {
        let pace = window(used, minutes, resets_at).pace(reported_at, now);
        let told = pace.map(|pace| (pace.ratio, pace.empty_at));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6 * b.abs().max(1.0);
        let same = match (told, expect) {
            (None, None) => true,
            (Some((ratio, None)), Some((wanted, None))) => close(ratio, wanted),
            (Some((ratio, Some(at))), Some((wanted, Some(then)))) => close(ratio, wanted) && close(at, then),
            _ => false,
        };
        assert!(
            same,
            "{used} % of {minutes:?} min to {resets_at:?}, told at {reported_at}: {told:?} at {now}"
        );
    }
}

#[test]
fn a_window_is_called_by_its_length() {
    for (minutes, expect) in [
        (Some(300), "5 hours"),
        (Some(60), "1 hour"),
        (Some(10_080), "7 days"),
        (Some(1440), "1 day"),
        (Some(90), "90 minutes"),
        (Some(1), "1 minute"),
        (Some(0), "primary"),
        (None, "primary"),
    ] {
        assert_eq!(window(1.0, minutes, None).title(), expect);
    }
}

fn limits(value: serde_json::Value) -> RateLimits {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_report_leaves_what_it_does_not_tell_and_limits_of_a_model_are_not_the_plans() {
    let plan = Plan::default();
    plan.report(
        limits(json!({
            "limitId": "codex", "planType": "plus", "primary": {"usedPercent": 13, "resetsAt": END},
            "credits": {"hasCredits": true, "unlimited": false, "balance": "12.5"},
        })),
        Source::Asked,
    );
    plan.report(limits(json!({"primary": {"usedPercent": 14, "resetsAt": END}})), Source::Turn);
    let report = plan.last().unwrap();
    assert_eq!((report.plan.as_deref(), report.source), (Some("plus"), Source::Turn));
    assert_eq!(report.credits.unwrap().balance.as_deref(), Some("12.5"));
    assert_eq!(report.windows, [window(14.0, None, Some(END))]);
    plan.report(limits(json!({"limitId": "codex_other", "primary": {"usedPercent": 99}})), Source::Turn);
    plan.report(limits(json!({"limitId": "codex"})), Source::Turn);
    assert_eq!(plan.last().unwrap().windows, [window(14.0, None, Some(END))], "nothing of it");
}

#[tokio::test]
async fn a_limit_lasts_until_its_window_starts_anew() {
    let plan = Plan::default();
    let reached = |used: u64, reached: serde_json::Value| {
        let windows =
            json!({"primary": {"usedPercent": used, "resetsAt": END}, "rateLimitReachedType": reached});
        plan.report(limits(windows), Source::Turn);
        let report = plan.last().unwrap();
        [END as f64 - 1.0, END as f64].map(|now| report.is_limited(now))
    };
    assert_eq!(reached(99, json!(null)), [false, false]);
    assert_eq!(reached(100, json!(null)), [true, false]);
    assert_eq!(reached(50, json!("workspace_owner_usage_limit_reached")), [true, false]);
    assert_eq!(plan.exhausted_until(), None);
    reached(100, json!(null));
    assert_eq!(plan.exhausted_until(), Some(END));
}

fn installation(login: Login, by_key: bool) -> Arc<Installation> {
    Arc::new(Installation {
        continuation: Continuation::Off { reason: String::new() },
        refused: Arc::default(),
        program: "codex".into(),
        version: Version(0, 169, 0),
        home: Home { path: "/home".into(), login: "/login".into(), has_auth: true },
        login,
        auth: AuthFile::default().of_key(by_key),
        confinement: Confinement::Operator,
        catalog: None,
        functions: Functions::AllModels,
        env: Arc::new([]),
        config: Arc::new(Config::default()),
    })
}

#[tokio::test(start_paused = true)]
async fn codex_is_asked_once_at_a_time_and_not_before_five_minutes_are_over() {
    let (plan, login) = (Plan::default(), installation(Login::Codex, false));
    let instant = Duration::from_millis(1);
    let first = plan.look(&login).expect("nothing was ever told");
    assert!(plan.look(&login).is_none(), "one asks");
    tokio::time::advance(LASTS * 2).await;
    assert!(plan.look(&login).is_none(), "however long it takes");
    drop(first);
    let failed = plan.look(&login).expect("it failed long ago");
    drop(failed);
    tokio::time::advance(LASTS - instant).await;
    assert!(plan.look(&login).is_none(), "it has just failed");
    tokio::time::advance(instant).await;
    let asking = plan.look(&login).expect("five minutes are over");
    asking.told(limits(json!({"primary": {"usedPercent": 1}})));
    drop(asking);
    tokio::time::advance(LASTS - instant).await;
    assert!(plan.look(&login).is_none(), "it was told");
    // A turn reports by the way: nobody need ask.
    plan.report(limits(json!({"primary": {"usedPercent": 2}})), Source::Turn);
    tokio::time::advance(LASTS - instant).await;
    assert!(plan.look(&login).is_none());
    let other = installation(Login::Codex, false);
    drop(plan.look(&other).expect("another login is another plan"));
    assert!(plan.look(&other).is_none());
    tokio::time::advance(LASTS).await;
    assert!(plan.look(&other).is_some());
}

#[tokio::test]
async fn without_a_login_of_chatgpt_there_is_no_plan_and_nobody_is_asked() {
    for (login, by_key, stays) in [
        (Login::Codex, true, false),
        (Login::ApiKey, false, false),
        // What an operator's own provider reports is told as it is.
        (Login::NotNeeded, false, true),
    ] {
        let plan = Plan::default();
        plan.report(limits(json!({"primary": {"usedPercent": 2}})), Source::Turn);
        assert!(plan.look(&installation(login, by_key)).is_none(), "{login:?}");
        assert_eq!(plan.last().is_some(), stays, "{login:?}");
    }
    let plan = Plan::default();
    plan.report(limits(json!({"primary": {"usedPercent": 2}})), Source::Turn);
    let asking = plan.look(&installation(Login::Codex, false));
    assert!(asking.is_none(), "a turn has just told");
    let plan = Plan::default();
    let asking = plan.look(&installation(Login::Codex, false)).unwrap();
    asking.told(limits(json!({"planType": "free"})));
    assert_eq!(plan.last().unwrap().plan.as_deref(), Some("free"), "a plan without windows is one");
    asking.none();
    assert_eq!(plan.last(), None);
}
