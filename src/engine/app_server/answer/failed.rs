//! What the error at the end of a turn means, given what was asked and what the account has left.

use std::sync::PoisonError;

use super::Answer;
use crate::codex::errors::classify;
use crate::engine::app_server::wire::TurnError;
use crate::turn::Failure;

impl Answer {
    pub(super) fn failure(&self, error: &TurnError) -> Failure {
        match classify(error.codex_error_info.as_ref(), &error.message) {
            Failure::NoModel { model } => {
                Failure::NoModel { model: self.context.model.clone().unwrap_or(model) }
            }
            Failure::UsageLimit { resets_at: None } => {
                Failure::UsageLimit { resets_at: self.exhausted_until() }
            }
            Failure::UpstreamRejected { code: None, detail, said }
                if self.context.lean && refuses_lean(said.expose()) =>
            {
                Failure::LeanRequestRefused { detail, said }
            }
            failure => failure,
        }
    }

    fn exhausted_until(&self) -> Option<u64> {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = limits.as_ref()?;
        let windows = [limits.primary.as_ref(), limits.secondary.as_ref()];
        windows
            .into_iter()
            .flatten()
            .filter(|window| window.used_percent >= 100.0)
            .filter_map(|w| w.resets_at)
            .max()
    }
}

/// Whether a refusal is about what only the lean request does: no instructions, no tools of
/// Codex, an altered model entry. The ChatGPT backend says so as `{"detail": …}`, without a code.
fn refuses_lean(said: &str) -> bool {
    let lower = said.to_lowercase();
    ["instructions", "additional_tools", "tool_mode", "client version"]
        .iter()
        .any(|part| lower.contains(part))
}
