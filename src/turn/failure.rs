//! What can go wrong with a request: one variant for each distinct answer or action.
//!
//! Only facts are kept here. What the client reads of them, and with which status, is decided
//! by the one table in `api/error.rs`; what only the log may see sits in a field named `detail`.
//! Where in the request something is wrong is an [`At`]: only the caller's format has names for it.

use std::path::PathBuf;
use std::time::Duration;

use super::{Said, Turn};

/// Why a request has no (complete) answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// A part of the request is wrong.
    BadRequest {
        /// Which; `None` for the body as a whole.
        at: Option<At>,
        /// What is wrong with it; `{at}` stands for the caller's name of that part, unless the part
        /// is a field, which has its name already.
        message: String,
    },
    /// An image of the request is none that Codex could decode; it would leave it out in silence.
    BadImage {
        /// Which.
        at: At,
        /// What is wrong with it.
        message: String,
    },
    /// A part of the request asks for something this server, or this engine, does not do.
    Unsupported {
        /// Which.
        at: At,
        /// What to do instead.
        message: String,
    },
    /// The conversation is longer than the model takes.
    ContextLength,
    /// No key, or not one of ours.
    Unauthorized {
        /// Whether the request carried a key at all.
        presented: bool,
    },
    /// The caller may not use this server.
    Forbidden {
        /// Which rule says so.
        rule: Rule,
        /// The offending value and the setting that allows it.
        message: String,
    },
    /// No such route.
    NoRoute {
        /// The method sent.
        method: String,
        /// The path sent.
        path: String,
    },
    /// Something that the request names is not here.
    NotFound {
        /// Which part names it; `None` for the path.
        at: Option<At>,
        /// What is not here, and what to do instead.
        message: String,
    },
    /// The route exists, the method does not.
    MethodNotAllowed {
        /// What the route takes.
        allow: &'static str,
    },
    /// The upstream, or this server's list, knows no such model.
    NoModel {
        /// The name as sent.
        model: String,
    },
    /// The body did not come in time.
    BodyTimeout {
        /// The time allowed.
        after: Duration,
    },
    /// The body is larger than `max_body_bytes`.
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body's type or encoding is not one we read.
    UnsupportedMediaType {
        /// What came and what is read.
        message: String,
    },
    /// All waiting bodies together would exceed `max_buffered_bytes`.
    Overloaded,
    /// The queue has no place left.
    QueueFull {
        /// How many turns wait.
        waiting: usize,
    },
    /// No slot came free in time.
    QueueTimeout {
        /// The time waited.
        after: Duration,
    },
    /// Somebody who may do so ended the request's turns.
    Interrupted,
    /// So many streams of events are open, which is all there may be.
    EventsFull {
        /// How many.
        open: usize,
    },
    /// The server is stopping.
    Draining,
    /// The settings are broken; nothing can be served (socket activation).
    Misconfigured,
    /// The upstream asks to slow down.
    RateLimited {
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
        /// What else it said.
        said: Said,
    },
    /// The account's quota is used up.
    UsageLimit {
        /// Unix time at which it resets, if it said so.
        resets_at: Option<u64>,
        /// What else the upstream said.
        said: Said,
    },
    /// The configured `codex_bin` cannot be found or run.
    CodexMissing {
        /// The setting's value, as configured.
        bin: String,
    },
    /// Everybody could change the program that `codex_bin` names: it is not run.
    CodexRefused {
        /// What is wrong with it (names host paths).
        detail: String,
    },
    /// The installed Codex CLI lacks what is needed.
    CodexTooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        needs: &'static str,
    },
    /// The installed Codex CLI is new enough, but lacks what the engine cannot do without.
    CodexLacks {
        /// Its version.
        found: String,
        /// The method or parameter of its app-server.
        feature: &'static str,
    },
    /// Codex has no login.
    NotLoggedIn {
        /// The setting `codex_bin`, as configured.
        bin: String,
        /// The program that it names (a host path).
        program: PathBuf,
    },
    /// Codex found its login removed, or replaced by another, when it wanted to renew it during the turn.
    LoginChanged,
    /// The login sits in a keyring and cannot be carried into the isolated home.
    LoginNotPortable,
    /// What Codex's tools read is not confined, and `agent_reads = "workspace"` asks for it.
    ReadsNotConfined {
        /// Why not (may name host paths).
        detail: String,
    },
    /// The isolated home cannot be used.
    HomeRefused {
        /// What is wrong with it (names host paths).
        detail: String,
    },
    /// A folder of ours could be changed by somebody else.
    StateRefused {
        /// Which one.
        folder: Folder,
        /// What is wrong with it (names host paths).
        detail: String,
    },
    /// A folder of ours is full or cannot be written.
    StateNotWritable {
        /// Which one.
        folder: Folder,
        /// What the system said (names host paths).
        detail: String,
    },
    /// Codex, or the upstream behind it, refused the account's credentials.
    UpstreamAuth {
        /// The setting `codex_bin`, as configured, once somebody who knows it has looked.
        bin: String,
        /// What happened, without Codex's own words, which may quote the prompt.
        detail: String,
        /// What was said.
        said: Said,
    },
    /// The upstream refused the request for its content.
    UpstreamRejected {
        /// The upstream's own code, if it gave one.
        code: Option<String>,
        /// Status, code, type and length of what was said.
        detail: String,
        /// What was said.
        said: Said,
    },
    /// The upstream refused the lean request of `profile = model`.
    LeanRequestRefused {
        /// Status, code, type and length of what was said.
        detail: String,
        /// What was said.
        said: Said,
    },
    /// The upstream is overloaded.
    UpstreamOverloaded {
        /// What happened, without Codex's own words, which may quote the prompt.
        detail: String,
        /// What was said.
        said: Said,
    },
    /// The upstream cannot be reached.
    UpstreamUnreachable {
        /// What happened, without Codex's own words, which may quote the prompt.
        detail: String,
    },
    /// The turn failed in Codex.
    CodexFailed {
        /// What happened, without Codex's own words, which may quote the prompt.
        detail: String,
        /// What Codex or the upstream said, if either did.
        said: Said,
    },
    /// The Codex process ended before it answered.
    CodexExited {
        /// Its exit, as `exit status: 1` or `signal: 9`.
        status: String,
        /// The tail of its stderr, if it ended before it had the prompt.
        detail: String,
    },
    /// The turn completed without an answer.
    NoAnswer,
    /// Asked for JSON, an object or of a schema, the model gave something else.
    InvalidJsonOutput,
    /// The model called a function with arguments that are no JSON object, where the format has room for
    /// nothing else.
    InvalidToolArguments,
    /// Told to call a function, the model did not.
    ToolChoiceNotHonoured,
    /// The turn took longer than `timeout_seconds`.
    TurnTimedOut {
        /// The limit.
        after: Duration,
    },
    /// Codex was silent for longer than `first_event_timeout_seconds`.
    FirstEventTimedOut {
        /// The limit.
        after: Duration,
    },
    /// The client reads too slowly and its turn was given up.
    ClientTooSlow,
    /// A defect of ours.
    Internal {
        /// What broke.
        detail: String,
    },
}

/// A part of a request. Indices count what the [`Turn`] has, which is not always what
/// the caller wrote: the caller's format knows what it made of what, and names its own field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// A field under the name that the caller's format has for it. Only who reads that format can
    /// say this; an engine never does.
    Field(String),
    /// The model's name.
    Model,
    /// The conversation as a whole.
    Conversation,
    /// An item of the conversation.
    Item(usize),
    /// The functions offered, as a whole.
    Tools,
    /// The parameters' schema of one function; all else of it is checked before an engine sees it.
    Tool(usize),
    /// The schema of the answer.
    Schema,
    /// The working directory.
    Workdir,
}

/// A folder that the program keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// The state folder, or what is in it and has no setting of its own.
    State,
    /// The isolated `CODEX_HOME`.
    Home,
    /// The workspace that nobody chose.
    Workspace,
}

/// With what decides where it is.
impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Folder::State => "the state folder (STATE_DIRECTORY, else ~/.codex-api-proxy)",
            Folder::Home => "the isolated CODEX_HOME (app_server_codex_home)",
            Folder::Workspace => "the workspace (default_cwd)",
        })
    }
}

/// Which rule of "who may call" was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The `Host` header.
    Host,
    /// A browser's `Origin` or `Sec-Fetch-Site`.
    Origin,
    /// The user at the other end of a loopback connection.
    Peer,
    /// Headers of a reverse proxy.
    Forwarded,
    /// The turn is another caller's.
    Turn,
}

/// What was said, of the failures that have it: borrowed as the failure is.
macro_rules! said_of {
    ($failure:expr) => {
        match $failure {
            Failure::RateLimited { said, .. }
            | Failure::UsageLimit { said, .. }
            | Failure::UpstreamAuth { said, .. }
            | Failure::UpstreamRejected { said, .. }
            | Failure::LeanRequestRefused { said, .. }
            | Failure::UpstreamOverloaded { said, .. }
            | Failure::CodexFailed { said, .. } => Some(said),
            _ => None,
        }
    };
}

impl Failure {
    /// A wrong part of the request.
    pub fn bad(at: At, message: impl Into<String>) -> Failure {
        Failure::BadRequest { at: Some(at), message: message.into() }
    }

    /// A wrong field, by the name the caller's format has for it.
    pub fn bad_field(path: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure::bad(At::Field(path.into()), message)
    }

    /// Codex failed, and said nothing that a client could use.
    pub fn codex_failed(detail: impl Into<String>) -> Failure {
        Failure::CodexFailed { detail: detail.into(), said: Said::default() }
    }

    /// With what the sender of `turn` may read of the upstream's own words.
    pub fn shown_to(mut self, turn: &Turn) -> Failure {
        if let Some(said) = self.said_mut() {
            said.show_to(turn);
        }
        self
    }

    /// What the client who asked may read of the upstream's own words, after [`Self::shown_to`].
    pub fn shown(&self) -> Option<&str> {
        self.said().and_then(Said::shown)
    }

    /// The upstream's own words, where the failure may have any.
    pub fn said(&self) -> Option<&Said> {
        said_of!(self)
    }

    fn said_mut(&mut self) -> Option<&mut Said> {
        said_of!(self)
    }

    /// Whether a turn that failed so may have cost tokens, of which nobody was told: not where it did not
    /// begin, or the upstream refused it.
    pub fn may_have_cost(&self) -> bool {
        match self {
            Failure::LoginChanged
            | Failure::UpstreamUnreachable { .. }
            | Failure::UpstreamOverloaded { .. }
            | Failure::CodexFailed { .. }
            | Failure::CodexExited { .. }
            | Failure::NoAnswer
            | Failure::InvalidJsonOutput
            | Failure::InvalidToolArguments
            | Failure::ToolChoiceNotHonoured
            | Failure::TurnTimedOut { .. }
            | Failure::FirstEventTimedOut { .. }
            | Failure::ClientTooSlow
            | Failure::Interrupted
            | Failure::Draining
            | Failure::Internal { .. } => true,
            Failure::BadRequest { .. }
            | Failure::BadImage { .. }
            | Failure::Unsupported { .. }
            | Failure::ContextLength
            | Failure::Unauthorized { .. }
            | Failure::Forbidden { .. }
            | Failure::NoRoute { .. }
            | Failure::NotFound { .. }
            | Failure::MethodNotAllowed { .. }
            | Failure::NoModel { .. }
            | Failure::BodyTimeout { .. }
            | Failure::BodyTooLarge { .. }
            | Failure::UnsupportedMediaType { .. }
            | Failure::Overloaded
            | Failure::QueueFull { .. }
            | Failure::QueueTimeout { .. }
            | Failure::EventsFull { .. }
            | Failure::Misconfigured
            | Failure::RateLimited { .. }
            | Failure::UsageLimit { .. }
            | Failure::CodexMissing { .. }
            | Failure::CodexRefused { .. }
            | Failure::CodexTooOld { .. }
            | Failure::CodexLacks { .. }
            | Failure::NotLoggedIn { .. }
            | Failure::LoginNotPortable
            | Failure::ReadsNotConfined { .. }
            | Failure::HomeRefused { .. }
            | Failure::StateRefused { .. }
            | Failure::StateNotWritable { .. }
            | Failure::UpstreamAuth { .. }
            | Failure::UpstreamRejected { .. }
            | Failure::LeanRequestRefused { .. } => false,
        }
    }

    /// What only the log may see of it: never the words of Codex or the upstream.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Failure::ReadsNotConfined { detail }
            | Failure::HomeRefused { detail }
            | Failure::CodexRefused { detail }
            | Failure::StateRefused { detail, .. }
            | Failure::StateNotWritable { detail, .. }
            | Failure::UpstreamAuth { detail, .. }
            | Failure::UpstreamRejected { detail, .. }
            | Failure::LeanRequestRefused { detail, .. }
            | Failure::UpstreamOverloaded { detail, .. }
            | Failure::UpstreamUnreachable { detail }
            | Failure::CodexFailed { detail, .. }
            | Failure::CodexExited { detail, .. }
            | Failure::Internal { detail } => Some(detail),
            _ => None,
        }
    }
}

/// For the log: subject, fact, cause. What a client reads is decided in `api/error.rs`.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::CodexMissing { bin } => write!(f, "codex_bin {bin:?} was not found or cannot be run"),
            Failure::CodexTooOld { found, needs } => {
                write!(f, "the Codex CLI is version {found}; {needs} or newer is needed")
            }
            Failure::CodexLacks { found, feature } => {
                write!(f, "the app-server of the Codex CLI, version {found}, has no {feature}")
            }
            Failure::NotLoggedIn { program, .. } => {
                write!(f, "the Codex CLI is not logged in; run `{} login`", program.display())
            }
            Failure::LoginChanged => f.write_str("the Codex login was removed or replaced during the turn"),
            Failure::LoginNotPortable => f.write_str(
                "the Codex login is in a keyring that the isolated CODEX_HOME cannot use; set \
                 cli_auth_credentials_store = \"file\" and log in again",
            ),
            Failure::ReadsNotConfined { detail } => write!(
                f,
                "agent_reads = \"workspace\" cannot be kept: {detail}; set agent_reads = \"auto\" to go without"
            ),
            Failure::CodexExited { status, detail } => write!(f, "codex ended ({status}): {detail}"),
            other => match other.detail() {
                Some(detail) => f.write_str(detail),
                None => write!(f, "{other:?}"),
            },
        }
    }
}
