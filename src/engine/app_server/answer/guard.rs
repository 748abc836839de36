//! What keeps an answer from being told out of order, or twice.

/// Whether Codex has the conversation, without which nothing it says is an answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversation {
    /// It is on its way.
    Sent,
    /// Codex has it.
    Taken,
    /// The turn began before Codex had it, which is a failure.
    Overtaken,
}

impl Conversation {
    /// Codex has it.
    pub fn taken(&mut self) {
        if *self == Conversation::Sent {
            *self = Conversation::Taken;
        }
    }

    /// The turn begins. Gives whether that is now known to be too early.
    pub fn begins(&mut self) -> bool {
        let early = *self == Conversation::Sent;
        if early {
            *self = Conversation::Overtaken;
        }
        early
    }
}

/// Which answer text the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// None.
    Untold,
    /// Some of the response under way: begun again, it would come twice.
    Told,
    /// Some of an earlier response only.
    Before,
}

impl Text {
    /// One request to the upstream is answered.
    pub fn response_ended(&mut self) {
        if *self == Text::Told {
            *self = Text::Before;
        }
    }
}

/// Which reasoning of the response under way the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// None.
    Untold,
    /// Some.
    Told,
    /// Some, and what comes is that again.
    Repeating,
}

impl Reasoning {
    /// More of it came. Gives whether it is to be told.
    pub fn may_tell(&mut self) -> bool {
        if *self == Reasoning::Untold {
            *self = Reasoning::Told;
        }
        *self == Reasoning::Told
    }

    /// The response under way begins again from its start.
    pub fn begun_again(&mut self) {
        if *self == Reasoning::Told {
            *self = Reasoning::Repeating;
        }
    }
}
