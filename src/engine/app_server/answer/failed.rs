//! What the error at the end of a turn means, given what was asked and what the account has left.

use super::assembler::TurnContext;
use crate::codex::errors::classify;
use crate::engine::app_server::wire::TurnError;
use crate::engine::plan::Plan;
use crate::turn::Failure;

impl TurnContext {
    pub(super) fn failure(&self, error: &TurnError) -> Failure {
        match classify(error.codex_error_info.as_ref(), &error.message) {
            Failure::NoModel { model } => Failure::NoModel { model: self.model.clone().unwrap_or(model) },
            Failure::UpstreamRejected { code: None, detail, said }
                if self.lean && refuses_lean(said.expose()) =>
            {
                Failure::LeanRequestRefused { detail, said }
            }
            failure => failure,
        }
    }
}

/// A usage limit whose end Codex did not tell ends with the window that is used up.
pub(super) fn dated(failure: Failure, plan: &Plan) -> Failure {
    match failure {
        Failure::UsageLimit { resets_at: None, said } => {
            Failure::UsageLimit { resets_at: plan.exhausted_until(), said }
        }
        failure => failure,
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
