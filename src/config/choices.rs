//! The settings that are one of a few names.

use super::table::choices;

choices! {
    /// How a turn is run.
    EngineKind {
        /// One `codex exec` per turn.
        Exec = "exec",
        /// Long-lived `codex app-server` workers.
        AppServer = "app-server",
    }
}
/// What turns of an engine can have. Asked instead of which engine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The caller's function tools.
    pub tools: bool,
    /// Their text as the model writes it, and not in one piece just before the end.
    pub streams: bool,
    /// A working directory that exists, whatever the profile.
    pub needs_directory: bool,
    /// Codex's threads, which outlive a turn.
    pub threads: bool,
    /// The oldest Codex CLI that can run them.
    pub version_floor: &'static str,
}

impl EngineKind {
    /// What its turns can have.
    pub fn capabilities(self) -> Capabilities {
        match self {
            EngineKind::Exec => Capabilities {
                tools: false,
                streams: false,
                needs_directory: true,
                threads: false,
                // Knows `exec --ignore-user-config` and `--ignore-rules`.
                version_floor: "0.140",
            },
            EngineKind::AppServer => Capabilities {
                tools: true,
                streams: true,
                needs_directory: false,
                threads: true,
                // Its app-server reports raw usage and tool calls.
                version_floor: "0.155",
            },
        }
    }
}

choices! {
    /// What the model is given, as configured; see [`Profile`].
    ProfileChoice {
        /// What suits the engine.
        Auto = "auto",
        /// Codex's own instructions and read-only tools.
        Agent = "agent",
        /// A plain chat model.
        Model = "model",
    }
}
choices! {
    /// What Codex's tools may read.
    AgentReads {
        /// The working directory and system files where that can be kept, else whatever the user may read.
        Auto = "auto",
        /// The working directory and system files; nothing is answered where that cannot be kept.
        Workspace = "workspace",
        /// Whatever the user may read.
        Host = "host",
    }
}
choices! {
    /// Which CODEX_HOME Codex sees.
    Isolation {
        /// One of our own that carries nothing but the login.
        Strict = "strict",
        /// The user's own.
        Shared = "shared",
    }
}
choices! {
    /// Whether Codex gets an adapted model catalog.
    ModelCatalog {
        /// Where the profile needs one.
        Auto = "auto",
        /// Never.
        Off = "off",
    }
}
choices! {
    /// Whether a conversation keeps its session id at the upstream.
    ContinuationChoice {
        /// As far as Codex and the other settings allow.
        Auto = "auto",
        /// Never.
        Off = "off",
    }
}
choices! {
    /// How tools reach the model.
    ToolTransport {
        /// As functions of Codex, which alters their schemas and keeps their conversations going.
        Dynamic = "dynamic",
        /// As an item of the conversation, unaltered.
        Items = "items",
    }
}
choices! {
    /// How reasoning summaries reach the client.
    ReasoningOutput {
        /// As `reasoning_content` beside `content`.
        ReasoningContent = "reasoning_content",
        /// Not at all.
        Off = "off",
    }
}
choices! {
    /// Where the log goes.
    LogTarget {
        /// The journal under systemd, the unified log under launchd, else stderr.
        Auto = "auto",
        /// The journal.
        Journald = "journald",
        /// The unified log of macOS.
        Oslog = "oslog",
        /// Standard error.
        Stderr = "stderr",
    }
}
choices! {
    /// How a line of the log looks on stderr.
    LogFormat {
        /// For people.
        Text = "text",
        /// For programs.
        Json = "json",
    }
}

/// What the model is given, `auto` resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Codex's own instructions and read-only tools.
    Agent,
    /// A plain chat model.
    Model,
}

impl Profile {
    /// The setting's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Agent => ProfileChoice::Agent.name(),
            Profile::Model => ProfileChoice::Model.name(),
        }
    }
}
