//! What the installed app-server carries, found by asking it.
//!
//! An unknown method is answered with the list of the known ones, and a known parameter of the wrong
//! type with an error, where an unknown one is ignored. Both cost a millisecond and start nothing. What
//! the app-server says of its own accord (raw responses) cannot be asked for: the version tells.

use std::time::Duration;

use serde_json::json;

use super::rpc::{Rpc, RpcError, Sent};
use super::wire::{ThreadStarted, ThreadUnsubscribe};
use crate::codex::Installation;
use crate::turn::Failure;

/// A method that no app-server has.
const NO_METHOD: &str = "codex-api-proxy/features";

/// One thing an app-server may carry.
#[derive(Debug, PartialEq, Eq)]
pub struct Feature {
    /// In words.
    pub name: &'static str,
    sign: Sign,
    /// What it means if it is missing.
    pub without: Without,
}

/// How a feature shows.
#[derive(Debug, PartialEq, Eq)]
enum Sign {
    Method(&'static str),
    /// A parameter of `thread/start`.
    Parameter(&'static str),
}

/// What the lack of a feature means.
#[derive(Debug, PartialEq, Eq)]
pub enum Without {
    /// The engine cannot work.
    Nothing,
    /// Requests with functions are refused.
    Functions,
    /// It works, with this loss.
    Loss(&'static str),
}

const fn feature(name: &'static str, sign: Sign, without: Without) -> Feature {
    Feature { name, sign, without }
}

/// Everything we use.
const ALL: [Feature; 12] = [
    feature("threads", Sign::Method("thread/start"), Without::Nothing),
    feature("history", Sign::Method("thread/inject_items"), Without::Nothing),
    feature("turns", Sign::Method("turn/start"), Without::Nothing),
    feature("interruption", Sign::Method("turn/interrupt"), Without::Nothing),
    feature("nothing on disk", Sign::Parameter("ephemeral"), Without::Nothing),
    feature("no environment", Sign::Parameter("environments"), Without::Nothing),
    feature("no instructions", Sign::Parameter("baseInstructions"), Without::Nothing),
    feature("functions", Sign::Parameter("dynamicTools"), Without::Functions),
    feature("function calls as written", Sign::Parameter("experimentalRawEvents"), Without::Functions),
    feature(
        "release of threads",
        Sign::Method("thread/unsubscribe"),
        Without::Loss(
            "each turn stays in the memory of its worker, which is replaced when it grew too large",
        ),
    ),
    feature(
        "sessions under a chosen id",
        Sign::Method("thread/fork"),
        Without::Loss("conversations are continued only while their threads live"),
    ),
    feature(
        "login status",
        Sign::Method("getAuthStatus"),
        Without::Loss("a worker without a login shows with its first turn"),
    ),
];

impl Feature {
    /// The method or parameter it is known by.
    pub fn sign(&self) -> &'static str {
        match self.sign {
            Sign::Method(name) | Sign::Parameter(name) => name,
        }
    }
}

/// What one app-server carries.
#[derive(Clone, Debug, Default)]
pub struct Features {
    missing: Vec<&'static Feature>,
}

impl Features {
    /// What it has of all that we use.
    pub fn carried(&self) -> impl Iterator<Item = &'static Feature> {
        ALL.iter().filter(|feature| !self.missing.contains(feature))
    }

    /// What it lacks.
    pub fn missing(&self) -> &[&'static Feature] {
        &self.missing
    }

    /// Whether it has this method.
    pub fn has(&self, method: &str) -> bool {
        !self.missing.iter().any(|feature| matches!(feature.sign, Sign::Method(name) if name == method))
    }

    /// Why functions cannot be offered, if they cannot.
    pub fn no_functions(&self) -> Option<String> {
        let lack = self.missing.iter().find(|feature| feature.without == Without::Functions)?;
        Some(format!("this Codex CLI: its app-server has no {}", lack.sign()))
    }

    /// Asks a worker that was just greeted.
    ///
    /// An answer that cannot be read takes nothing away: a newer app-server may word it otherwise.
    ///
    /// # Errors
    /// If the worker is gone, or lacks what the engine cannot do without.
    pub(super) async fn ask(
        rpc: &Rpc,
        limit: Duration,
        installation: &Installation,
    ) -> Result<Features, Failure> {
        let gone = |error: RpcError| Failure::codex_failed(format!("app-server, its features: {error}"));
        let unexpected = |error: serde_json::Error| {
            Failure::codex_failed(format!("app-server, its features: unexpected reply: {error}"))
        };
        let list = rpc.send(NO_METHOD, &json!({}), limit, None).await.map_err(gone)?;
        let mut wrong: Vec<(&'static Feature, Sent)> = vec![];
        for feature in &ALL {
            if let Sign::Parameter(name) = feature.sign {
                wrong.push((
                    feature,
                    rpc.send("thread/start", &json!({ name: 5 }), limit, None).await.map_err(gone)?,
                ));
            }
        }
        let methods = match rpc.reply(list).await {
            Err(RpcError::Refused { message, .. }) => methods(&message),
            Err(error) => return Err(gone(error)),
            Ok(_) => None,
        };
        let unknown = |feature: &&Feature| match (&feature.sign, &methods) {
            (Sign::Method(name), Some(methods)) => !methods.iter().any(|method| method == name),
            _ => false,
        };
        let mut missing: Vec<&'static Feature> = ALL.iter().filter(unknown).collect();
        for (feature, sent) in wrong {
            match rpc.reply(sent).await {
                Err(RpcError::Refused { .. }) => {}
                Err(error) => return Err(gone(error)),
                Ok(started) => {
                    missing.push(feature);
                    let started: ThreadStarted = serde_json::from_str(started.get()).map_err(unexpected)?;
                    let release = ThreadUnsubscribe { thread_id: &started.thread.id };
                    drop(rpc.send("thread/unsubscribe", &release, limit, None).await.map_err(gone)?);
                }
            }
        }
        if let Some(lack) = missing.iter().find(|feature| feature.without == Without::Nothing) {
            return Err(Failure::CodexLacks {
                found: installation.version.to_string(),
                feature: lack.sign(),
            });
        }
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|feature| feature.sign()).collect();
            tracing::warn!(
                missing = names.join(", "),
                "this codex app-server does not carry all that is used"
            );
        }
        Ok(Features { missing })
    }
}

/// The names in ``unknown variant `x`, expected one of `a`, `b` ``.
fn methods(message: &str) -> Option<Vec<String>> {
    let (_, list) = message.split_once("expected one of")?;
    Some(list.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_from_the_refusal() {
        let read = |text| methods(text).map(|names| names.join(" "));
        assert_eq!(
            read("Invalid request: unknown variant `x`, expected one of `initialize`, `thread/start`")
                .as_deref(),
            Some("initialize thread/start")
        );
        assert_eq!(read("Invalid request: unknown variant `x`"), None);
        assert_eq!(read("method not found"), None);
    }

    #[test]
    fn what_is_missing_takes_away_no_more_than_it_must() {
        let lacking =
            |sign: &str| Features { missing: ALL.iter().filter(|feature| feature.sign() == sign).collect() };
        let all = Features::default();
        assert_eq!((all.carried().count(), all.no_functions()), (ALL.len(), None));
        let features = lacking("dynamicTools");
        assert!(
            features.no_functions().unwrap().contains("dynamicTools") && features.has("thread/unsubscribe")
        );
        let features = lacking("thread/unsubscribe");
        assert!(features.no_functions().is_none() && !features.has("thread/unsubscribe"));
        assert_eq!(features.carried().count(), ALL.len() - 1);
    }
}
