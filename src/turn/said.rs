//! What the model service said of a request: for the client who sent it, never for the log.

mod mask;

use super::{Item, Part, Turn};

/// A text of Codex or the upstream that may quote the prompt. `Debug` shows its length only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Said {
    text: String,
    /// What of it the client may read, once it is known what the client sent.
    shown: Option<String>,
}

impl Said {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Said {
        Said { text: text.into(), shown: None }
    }

    /// The text itself, to judge by; never for a log or a client.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Makes the part that the sender of `turn` may read: one line of at most 1,000 bytes, names of
    /// the account, addresses and paths masked unless the turn has them.
    pub(super) fn show_to(&mut self, turn: &Turn) {
        // Every look goes through the whole conversation.
        let mut looks = 16;
        let mut known = |word: &str| {
            looks -= i32::from(looks > 0);
            looks > 0 && turn.mentions(word)
        };
        self.shown = Some(mask::mask(&self.text, &mut known)).filter(|shown| !shown.is_empty());
    }

    /// What the client may read of it; `None` before [`super::Failure::shown_to`] and if there is nothing.
    pub fn shown(&self) -> Option<&str> {
        self.shown.as_deref()
    }
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} bytes)", self.text.len())
    }
}

impl Turn {
    /// Whether the client's request has this text in it.
    fn mentions(&self, text: &str) -> bool {
        let parts = |content: &[Part]| {
            content.iter().any(|part| matches!(part, Part::Text(said) if said.contains(text)))
        };
        let item = |item: &Item| match item {
            Item::Message { content, .. } => parts(content),
            Item::Reasoning { summary, .. } => summary.iter().any(|said| said.contains(text)),
            Item::ToolCall(call) => {
                [&*call.id, &*call.full_name(), &*call.arguments].iter().any(|said| said.contains(text))
            }
            Item::ToolResult { call_id, content } => call_id.contains(text) || parts(content),
        };
        self.model.as_ref().is_some_and(|model| model.contains(text))
            || self
                .tools
                .iter()
                .any(|tool| tool.full_name().contains(text) || tool.description.contains(text))
            || self.output.schema().is_some_and(|schema| schema.as_str().contains(text))
            || self.conversation.iter().any(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_print() {
        let said = Said::new("the prompt");
        assert_eq!(format!("{said:?} {:?}", said.shown()), "(10 bytes) None");
    }
}
