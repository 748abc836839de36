//! The account's plan as Codex told it last: its rate-limit windows, how much of each is used, and how
//! fast.
//!
//! What turns report comes by itself. Where that is old when somebody looks, Codex is asked behind, once
//! at a time; a failure to tell is not asked about again before a report would be old.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::app_server::wire::RateLimits;
use crate::codex::{Installation, Login};

/// How long a report is believed before looking at it has Codex asked.
pub const LASTS: Duration = Duration::from_secs(5 * 60);

/// The share of a window that must have passed before its pace says anything.
const BEGUN: f64 = 0.02;

/// One rate-limit window of the account, as reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// `primary` or `secondary`.
    pub name: &'static str,
    /// How much of it is used, of 100.
    pub used_percent: f64,
    /// Its length in minutes, if known.
    pub window_minutes: Option<u64>,
    /// The Unix time at which it starts anew, if known.
    pub resets_at: Option<u64>,
}

/// How fast a window is used up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The used share by the elapsed share: at 1 it is just enough.
    pub ratio: f64,
    /// The Unix time at which nothing is left at this rate, if that is before the window starts anew.
    pub empty_at: Option<f64>,
}

impl RateLimit {
    /// Whether it has started anew by then: nobody knows how much of it is used.
    pub fn is_over(&self, now: f64) -> bool {
        self.resets_at.is_some_and(|at| at as f64 <= now)
    }

    /// Its pace at the time of the report; `None` where that cannot be told: it is over by now, has only
    /// just begun, or was not told in full.
    pub fn pace(&self, reported_at: f64, now: f64) -> Option<Pace> {
        let length = self.window_minutes.filter(|minutes| *minutes > 0)? as f64 * 60.0;
        let end = self.resets_at? as f64;
        let elapsed = (reported_at - (end - length)) / length;
        if self.is_over(now) || !(BEGUN..=1.0).contains(&elapsed) {
            return None;
        }
        let used = self.used_percent / 100.0;
        let ratio = used / elapsed;
        let left = (1.0 - used).max(0.0);
        let empty_at = (used > 0.0).then(|| reported_at + left / ratio * length).filter(|at| *at < end);
        Some(Pace { ratio, empty_at })
    }

    /// `5 hours`, `7 days`; its name where its length is not known.
    pub fn title(&self) -> String {
        self.window_minutes.and_then(length).unwrap_or_else(|| self.name.to_owned())
    }
}

/// `5 hours`, `7 days`; `None` of nothing.
pub fn length(minutes: u64) -> Option<String> {
    let some = |count: u64, unit: &str| Some(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
    match minutes {
        0 => None,
        _ if minutes.is_multiple_of(1440) => some(minutes / 1440, "day"),
        _ if minutes.is_multiple_of(60) => some(minutes / 60, "hour"),
        _ => some(minutes, "minute"),
    }
}

/// What is left to pay with beyond the windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credits {
    /// Whether there are any.
    pub any: bool,
    /// Whether there is no end of them.
    pub unlimited: bool,
    /// How many, in the upstream's words.
    pub balance: Option<String>,
}

/// Who told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A turn, by the way.
    Turn,
    /// Codex, when it was asked.
    Asked,
}

impl Source {
    /// A word for status pages.
    pub fn name(self) -> &'static str {
        match self {
            Source::Turn => "turn",
            Source::Asked => "asked",
        }
    }
}

/// The last report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The windows, the shorter one first.
    pub windows: Vec<RateLimit>,
    /// `plus`, `pro`…, if told.
    pub plan: Option<String>,
    /// Credits, if told.
    pub credits: Option<Credits>,
    /// Whether a limit was said to be reached.
    reached: bool,
    /// Who told.
    pub source: Source,
    /// When, in Unix seconds.
    pub at: f64,
    told: Instant,
}

impl Report {
    /// Whether the account can do nothing more for now: told so, and no window has started anew since.
    pub fn is_limited(&self, now: f64) -> bool {
        let full = |window: &RateLimit| window.used_percent >= 100.0 && !window.is_over(now);
        let same = !self.windows.iter().any(|window| window.is_over(now));
        self.windows.iter().any(full) || (self.reached && same)
    }
}

/// The last report, shared by who reports and who looks. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Plan(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    report: Option<Report>,
    /// Somebody is asking now.
    asking: bool,
    /// When Codex was asked last, and of which login.
    asked: Option<(Instant, Weak<Installation>)>,
}

impl Plan {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing can panic while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report. What it leaves out of the account is as it was.
    pub(super) fn report(&self, limits: RateLimits, source: Source) {
        // Some models have limits of their own, which are not the plan's.
        if limits.limit_id.as_deref().is_some_and(|id| id != "codex") {
            return;
        }
        let windows = [("primary", limits.primary), ("secondary", limits.secondary)];
        let windows: Vec<RateLimit> = windows
            .into_iter()
            .filter_map(|(name, window)| {
                let window = window?;
                Some(RateLimit {
                    name,
                    used_percent: window.used_percent,
                    window_minutes: window.window_duration_mins,
                    resets_at: window.resets_at,
                })
            })
            .collect();
        if windows.is_empty() && source == Source::Turn {
            return;
        }
        let mut state = self.state();
        let before = state.report.take();
        let (plan, credits) = before.map_or((None, None), |before| (before.plan, before.credits));
        let told = limits.credits.map(|told| Credits {
            any: told.has_credits,
            unlimited: told.unlimited,
            balance: told.balance,
        });
        state.report = Some(Report {
            windows,
            plan: limits.plan_type.or(plan),
            credits: told.or(credits),
            reached: limits.rate_limit_reached_type.is_some(),
            source,
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            told: Instant::now(),
        });
    }

    /// There is no plan that could be told of.
    pub(super) fn forget(&self) {
        self.state().report = None;
    }

    /// The last report.
    pub fn last(&self) -> Option<Report> {
        self.state().report.clone()
    }

    /// When all that is used up starts anew, in Unix seconds.
    pub(super) fn exhausted_until(&self) -> Option<u64> {
        let state = self.state();
        let windows = state.report.iter().flat_map(|report| &report.windows);
        windows.filter(|window| window.used_percent >= 100.0).filter_map(|window| window.resets_at).max()
    }

    /// Somebody looks: whether Codex is to be asked now, which ends with what is given.
    pub(super) fn look(&self, of: &Arc<Installation>) -> Option<Asking> {
        let has_plan = of.login == Login::Codex && !of.auth.has_key();
        let mut state = self.state();
        if !has_plan {
            // A provider of the operator's may report windows all the same.
            if of.login != Login::NotNeeded {
                state.report = None;
            }
            return None;
        }
        let old = |at: Instant| at.elapsed() >= LASTS;
        let fresh = state.report.as_ref().is_some_and(|report| !old(report.told));
        let due = match &state.asked {
            // Who has just logged in is not to see for long what another account had.
            Some((_, login)) if !std::ptr::eq(login.as_ptr(), Arc::as_ptr(of)) => true,
            Some((at, _)) => old(*at) && !fresh,
            None => !fresh,
        };
        if state.asking || !due {
            return None;
        }
        state.asking = true;
        state.asked = Some((Instant::now(), Arc::downgrade(of)));
        Some(Asking(self.clone()))
    }
}

/// Codex is being asked, until dropped.
#[derive(Debug)]
pub(super) struct Asking(Plan);

impl Asking {
    /// It told.
    pub(super) fn told(&self, limits: RateLimits) {
        self.0.report(limits, Source::Asked);
    }

    /// It said that there is no plan.
    pub(super) fn none(&self) {
        self.0.forget();
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.state().asking = false;
    }
}

#[cfg(test)]
mod tests;
