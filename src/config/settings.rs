//! The settings table: every setting is declared here, once.
//!
//! Flags, variables, file keys, help text, man page, the commented example in `etc/`, the reference
//! table and `config show` are all made from it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::choices::{
    AgentReads, ContinuationChoice, EngineKind, Isolation, LogFormat, LogTarget, ModelCatalog, Profile,
    ProfileChoice, ReasoningOutput, ToolTransport,
};
use super::overrides::Overrides;
use super::schema::{Hide, Initial, Restart, Setting, Shape};
use super::table::settings;
use super::{Secret, check};
use Initial::{State, Text, Unset};

const HOSTS: Shape = Shape::List(&Shape::Text(check::host), ",");
const BYTES: Shape = Shape::Count { least: 1, most: 1 << 40 };
const ANY_BYTES: Shape = Shape::Count { least: 0, most: 1 << 40 };
const ANY_SECONDS: Shape = Shape::Seconds { least: 0.0 };
/// Not zero: a timer of zero would fire without end.
const SOME_SECONDS: Shape = Shape::Seconds { least: 0.01 };

settings! {
    "Listening" {
        /// Address or host name to listen on.
        host: String = Text("127.0.0.1"), Shape::Text(check::host), restart WithOwnSockets;
        /// TCP port to listen on, where 0 takes any free one.
        port: u16 = Text("8765"), Shape::Count { least: 0, most: 65535 }, restart WithOwnSockets;
        /// Connections held open at once.
        max_connections: usize = Text("1024"), Shape::Count { least: 1, most: 1_000_000 };
        /// Largest request body in bytes, after decompression.
        max_body_bytes: u64 = Text("33554432"), BYTES;
        /// Bytes of request bodies and conversations held in memory over all requests; kept ones give way.
        max_buffered_bytes: u64 = Text("268435456"), BYTES;
        /// Bytes of answers of `/v1/responses` remembered for an hour, for clients that send the id of an item instead of it, where 0 means none.
        response_items_bytes: u64 = Text("8388608"), ANY_BYTES;
        /// Seconds without a connection after which the service exits, where 0 means never.
        idle_exit_seconds: Duration = Text("0"), ANY_SECONDS, restart Always;
        /// Seconds that running turns get to end when the service stops.
        drain_seconds: Duration = Text("30"), ANY_SECONDS, restart Always;
        /// Seconds of silence after which a stream carries a keep-alive comment.
        keepalive_seconds: Duration = Text("15"), SOME_SECONDS;
    }
    "Access" {
        /// Key that API requests must carry as `Authorization: Bearer KEY`.
        api_key: Option<Secret> = Unset { means: "no key", example: "a-long-random-text" }, Shape::Text(check::key), hide All;
        /// File of further accepted keys, one a line as `KEY` or `NAME KEY`, with `#` comments.
        api_key_file: Option<PathBuf> = Unset { means: "no file", example: "~/.config/codex-api-proxy/keys" }, Shape::Path;
        /// Further host names that a request's `Host` header may carry.
        allowed_hosts: Vec<String> = Text(""), HOSTS;
        /// Origins of web pages that may call, as `https://example.com`.
        allowed_origins: Vec<String> = Text(""), Shape::List(&Shape::Text(check::origin), ",");
        /// Further users of this machine who may call over loopback without a key.
        allowed_users: Vec<String> = Text(""), Shape::List(&Shape::Text(check::user), ",");
    }
    "Codex" {
        /// Codex executable: a name to find on PATH, or a path.
        codex_bin: String = Text("codex"), Shape::Program;
        /// CODEX_HOME of the login to use.
        login_home: Option<PathBuf> = Unset { means: "CODEX_HOME, else ~/.codex", example: "~/.codex" }, Shape::Path;
        /// Isolated CODEX_HOME in which both engines run Codex.
        app_server_codex_home: PathBuf = State("codex-home"), Shape::Path;
        /// Proxy URL passed to Codex as http_proxy and https_proxy.
        proxy: Option<Secret> = Unset { means: "no proxy", example: "http://127.0.0.1:8118" }, Shape::Text(check::proxy), hide Password;
        /// Model passed to Codex.
        model: Option<String> = Unset { means: "Codex's own default", example: "gpt-5.5" }, Shape::Text(check::model);
        /// Names that clients may use for other models, where `*` stands for any name.
        model_aliases: Vec<(String, String)> = Text(""), Shape::Pairs;
        /// Codex config overrides, each passed as `-c key=value`; bearer tokens and HTTP headers go by its environment instead, where no other user can read them.
        codex_configs: Vec<String> = Text(""), Shape::List(&Shape::Text(check::codex_config), ";;"), flag "codex-config", hide Overrides;
        /// Fast defaults: `model_reasoning_effort="low"` unless `codex_configs` is set.
        fast: bool = Text("false"), Shape::Switch;
        /// Further environment variables that Codex gets.
        pass_env: Vec<String> = Text(""), Shape::List(&Shape::Text(check::variable), ",");
        /// Whether Codex gets an adapted model catalog where the profile needs one.
        model_catalog: ModelCatalog = Text("auto"), Shape::Choice(ModelCatalog::NAMES);
    }
    "Engine" {
        /// How turns are run: one `codex exec` each, or long-lived `codex app-server` workers.
        engine: EngineKind = Text("exec"), Shape::Choice(EngineKind::NAMES), restart Always;
        /// What the model is given: Codex's instructions and tools (agent, auto with exec) or a plain chat model (model, auto with app-server).
        profile: ProfileChoice = Text("auto"), Shape::Choice(ProfileChoice::NAMES);
        /// What Codex's tools may read: the working directory and system files (workspace; auto where the CLI and the system can keep that), or whatever the user may read.
        agent_reads: AgentReads = Text("auto"), Shape::Choice(AgentReads::NAMES);
        /// Which CODEX_HOME Codex sees: one that carries only the login, or the user's own with all its configuration.
        isolation: Isolation = Text("strict"), Shape::Choice(Isolation::NAMES);
        /// Run Codex without saving its sessions.
        ephemeral: bool = Text("true"), Shape::Switch;
        /// Number of long-lived app-server workers.
        workers: usize = Text("1"), Shape::Count { least: 1, most: 256 }, engine AppServer;
        /// Turns that one app-server worker runs at once.
        turns_per_worker: usize = Text("1"), Shape::Count { least: 1, most: 1024 }, engine AppServer;
        /// Threads that each app-server worker starts ahead of requests; without effect where conversations are continued in full, which is as fast.
        prewarm: usize = Text("0"), Shape::Count { least: 0, most: 64 }, engine AppServer;
        /// Whether requests that continue a conversation share a session id, so that the upstream's prompt cache works.
        continuation: ContinuationChoice = Text("auto"), Shape::Choice(ContinuationChoice::NAMES);
        /// Conversations with functions whose threads the app-server workers keep for the next request (1.6 MB each).
        parked_conversations: usize = Text("16"), Shape::Count { least: 0, most: 1024 }, engine AppServer;
        /// Seconds that such a thread is kept at most.
        parked_seconds: Duration = Text("600"), SOME_SECONDS, engine AppServer;
        /// How tools reach the model: as functions of Codex, which loses parts of their schemas (dynamic), or as an item of the conversation, whole and with custom tools as such, but without the prompt cache of continued conversations (items).
        tool_transport: ToolTransport = Text("dynamic"), Shape::Choice(ToolTransport::NAMES), engine AppServer;
        /// How reasoning summaries reach the client.
        reasoning: ReasoningOutput = Text("reasoning_content"), Shape::Choice(ReasoningOutput::NAMES);
    }
    "Workspace" {
        /// Working directory of requests that name none.
        default_cwd: PathBuf = State("workspace"), Shape::Path;
        /// Directories inside which a request may choose its working directory.
        allowed_roots: Vec<PathBuf> = Unset { means: "default_cwd", example: "~/.codex-api-proxy/workspace" }, Shape::List(&Shape::Path, ":"), flag "allowed-root";
    }
    "Queueing" {
        /// Turns that the exec engine runs at once.
        max_concurrency: usize = Text("1"), Shape::Count { least: 1, most: 1024 }, engine Exec;
        /// Turns that may wait for a slot before the answer is 429.
        max_queue_size: usize = Text("64"), Shape::Count { least: 0, most: 1_000_000 };
        /// Seconds that a turn may wait for its slot.
        queue_timeout_seconds: Option<Duration> = Unset { means: "30 with app-server, timeout_seconds with exec", example: "30" }, ANY_SECONDS;
        /// Seconds that a turn may run once it has its slot.
        timeout_seconds: Duration = Text("300"), SOME_SECONDS;
        /// Seconds that Codex may be silent at the beginning of a turn, where 0 means as long as the turn may run.
        first_event_timeout_seconds: Option<Duration> = Unset { means: "off", example: "60" }, ANY_SECONDS;
    }
    "Logging" {
        /// Least severe level to log (debug, info, warning, error), or a tracing filter.
        log_level: String = Text("info"), Shape::Text(check::log_level);
        /// Where the log goes.
        log_target: LogTarget = Text("auto"), Shape::Choice(LogTarget::NAMES), restart Always;
        /// How log lines on stderr look.
        log_format: LogFormat = Text("text"), Shape::Choice(LogFormat::NAMES), restart Always;
    }
}

impl Setting {
    /// The setting of that key.
    pub fn find(key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

impl std::fmt::Debug for Config {
    /// Every setting by its key, secrets hidden.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Config");
        for setting in SETTINGS {
            let value = self.value(setting.key).map(|value| setting.redacted(&value));
            fields.field(setting.key, &value.map(|value| setting.to_text(&value)));
        }
        fields.field("keys", &self.keys).field("state_dir", &self.state_dir).finish()
    }
}

impl Config {
    /// How long a turn may wait for its slot.
    pub fn queue_timeout(&self) -> Duration {
        self.queue_timeout_seconds.unwrap_or(match self.engine {
            EngineKind::Exec => self.timeout_seconds,
            EngineKind::AppServer => Duration::from_secs(30),
        })
    }

    /// `auto` = agent on exec, model on app-server.
    pub fn profile(&self) -> Profile {
        match (self.profile, self.engine) {
            (ProfileChoice::Agent, _) | (ProfileChoice::Auto, EngineKind::Exec) => Profile::Agent,
            (ProfileChoice::Model, _) | (ProfileChoice::Auto, EngineKind::AppServer) => Profile::Model,
        }
    }

    /// How many turns may run at once.
    pub fn slots(&self) -> usize {
        match self.engine {
            EngineKind::Exec => self.max_concurrency,
            EngineKind::AppServer => self.workers * self.turns_per_worker,
        }
    }

    /// `codex_configs` as Codex gets them: secrets in its environment where it takes them from there.
    pub fn overrides(&self) -> Overrides {
        super::overrides::split(&self.codex_configs)
    }

    /// Whether API requests must carry a key.
    pub fn needs_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether others than this machine can connect and no key stops them.
    pub fn open_to_strangers(&self) -> bool {
        let local = match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        };
        !local && !self.needs_key()
    }
}
