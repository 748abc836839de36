//! `thinking` and effort: what is asked for, and the signature that carries a reasoning item of the
//! upstream to the client and back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::fields::Fields;
use crate::turn::{Effort, Failure, Thought};

/// What every signature of ours begins with.
const OURS: &str = "codex1.";

/// What `thinking` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Nothing was said of it: no thinking blocks, the model's own effort.
    Unsaid,
    /// As little as can be.
    Disabled,
    /// Thinking blocks.
    Enabled {
        /// How much, where a budget says so.
        effort: Option<Effort>,
        /// Whether what was thought is shown, and not its signature alone.
        shown: bool,
    },
}

impl Thinking {
    /// Reads the field.
    ///
    /// # Errors
    /// [`Failure::BadRequest`] naming the field.
    pub(super) fn decode(fields: &Fields) -> Result<Thinking, Failure> {
        let Some(thinking) = fields.object("thinking")? else { return Ok(Thinking::Unsaid) };
        let thinking = Fields::of(thinking, "thinking.")?;
        let shown = match thinking.string("display")?.as_deref() {
            None | Some("summarized" | "full") => true,
            Some("omitted") => false,
            Some(_) => return Err(thinking.invalid("display", "must be one of summarized, omitted")),
        };
        let budget = thinking.integer("budget_tokens", 1..=i64::MAX)?;
        match &*thinking.string("type")?.ok_or_else(|| thinking.missing("type"))? {
            "disabled" => Ok(Thinking::Disabled),
            "adaptive" | "between_tools" => Ok(Thinking::Enabled { effort: None, shown }),
            "enabled" => {
                let effort = match budget.ok_or_else(|| thinking.missing("budget_tokens"))? {
                    ..2048 => Effort::Low,
                    2048..4096 => Effort::Medium,
                    _ => Effort::High,
                };
                Ok(Thinking::Enabled { effort: Some(effort), shown })
            }
            _ => Err(thinking.invalid("type", "must be one of enabled, disabled, adaptive, between_tools")),
        }
    }

    /// The effort, `asked` being what `output_config` says.
    pub(super) fn effort(self, asked: Option<Effort>) -> Option<Effort> {
        match self {
            // The least that any model of the CLI's list has.
            Thinking::Disabled => Some(Effort::Low),
            Thinking::Unsaid => asked,
            Thinking::Enabled { effort, .. } => asked.or(effort),
        }
    }
}

/// `output_config.effort`, which has no `none` and no `minimal`.
///
/// # Errors
/// [`Failure::BadRequest`] naming the field.
pub(super) fn effort(config: &Fields) -> Result<Option<Effort>, Failure> {
    const NAMES: &[&str] = &["low", "medium", "high", "xhigh", "max"];
    config.choice("effort", NAMES, |name| Effort::from_name(name).filter(|_| NAMES.contains(&name)))
}

/// What a thinking block is signed with; empty if the upstream gave nothing to take back.
pub(super) fn sign(thought: &Thought) -> String {
    match &thought.encrypted {
        Some(encrypted) => format!("{OURS}{}", STANDARD.encode(format!("{}\n{encrypted}", thought.id))),
        None => String::new(),
    }
}

/// The encrypted content in a signature of ours; `None` for any other.
pub(super) fn encrypted(signature: &str) -> Option<String> {
    let signed = STANDARD.decode(signature.strip_prefix(OURS)?).ok()?;
    let signed = String::from_utf8(signed).ok()?;
    let (_, encrypted) = signed.split_once('\n')?;
    (!encrypted.is_empty()).then(|| encrypted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_comes_back_as_what_was_signed() {
        let encrypted_content = "gAAAAé+/=".to_owned();
        let thought =
            Thought { id: "rs_1".into(), summary: vec![], encrypted: Some(encrypted_content.clone()) };
        let signature = sign(&thought);
        assert!(signature.starts_with("codex1.") && signature.is_ascii());
        assert_eq!(encrypted(&signature), Some(encrypted_content));
        assert_eq!(sign(&Thought::default()), "");
        for other in
            ["", "codex1.", "codex1.!!", "codex1.cnM=", "codex1.cnMK", "EqQBCkYIARgCKkA=", &signature[1..]]
        {
            assert_eq!(encrypted(other), None, "{other}");
        }
    }
}
