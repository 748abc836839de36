//! Interim, hand-written form of the settings table.
#![allow(missing_docs)]
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    Exec,
    AppServer,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileChoice {
    Auto,
    Agent,
    Model,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentReads {
    Workspace,
    Host,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    Strict,
    Shared,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelCatalog {
    Auto,
    Off,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningOutput {
    ReasoningContent,
    Off,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Auto,
    Journald,
    Oslog,
    Stderr,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    // Listening
    pub host: String,
    pub port: u16,
    pub max_connections: usize,
    pub max_body_bytes: u64,
    pub max_buffered_bytes: u64,
    pub idle_exit_seconds: Duration, // 0 = never
    pub drain_seconds: Duration,
    pub keepalive_seconds: Duration,
    // Access
    pub api_key: Option<Secret>,
    pub api_key_file: Option<PathBuf>,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub allowed_users: Vec<String>,
    /// Every accepted key (api_key, api_key_file, systemd credential), resolved by the loader. Not a setting.
    pub keys: Vec<Secret>,
    // Codex
    pub codex_bin: String,
    pub login_home: Option<PathBuf>,
    pub app_server_codex_home: PathBuf,
    pub proxy: Option<Secret>,
    pub model: Option<String>,
    pub model_aliases: Vec<(String, String)>,
    pub codex_configs: Vec<String>,
    pub fast: bool,
    pub pass_env: Vec<String>,
    pub model_catalog: ModelCatalog,
    // Engine
    pub engine: EngineKind,
    pub profile: ProfileChoice,
    pub agent_reads: AgentReads,
    pub isolation: Isolation,
    pub ephemeral: bool,
    pub workers: usize,
    pub turns_per_worker: usize,
    pub prewarm: usize,
    pub reasoning: ReasoningOutput,
    // Workspace
    pub default_cwd: PathBuf,
    pub allowed_roots: Vec<PathBuf>, // resolved: never empty
    // Queueing
    pub max_concurrency: usize,
    pub max_queue_size: usize,
    /// `None` = 30 s for app-server, `timeout_seconds` for exec; see `queue_timeout()`.
    pub queue_timeout_seconds: Option<Duration>,
    pub timeout_seconds: Duration,
    pub first_event_timeout_seconds: Option<Duration>,
    // Logging
    pub log_level: String,
    pub log_target: LogTarget,
    pub log_format: LogFormat,
    /// `~/.codex-api-proxy` or `$STATE_DIRECTORY`. Not a setting.
    pub state_dir: PathBuf,
}

impl Default for Config {
    fn default() -> Config {
        let state = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".codex-api-proxy");
        let seconds = Duration::from_secs;
        Config {
            host: "127.0.0.1".into(),
            port: 8765,
            max_connections: 1024,
            max_body_bytes: 32 << 20,
            max_buffered_bytes: 256 << 20,
            idle_exit_seconds: Duration::ZERO,
            drain_seconds: seconds(30),
            keepalive_seconds: seconds(15),
            api_key: None,
            api_key_file: None,
            allowed_hosts: vec![],
            allowed_origins: vec![],
            allowed_users: vec![],
            keys: vec![],
            codex_bin: "codex".into(),
            login_home: None,
            app_server_codex_home: state.join("codex-home"),
            proxy: None,
            model: None,
            model_aliases: vec![],
            codex_configs: vec![],
            fast: false,
            pass_env: vec![],
            model_catalog: ModelCatalog::Auto,
            engine: EngineKind::Exec,
            profile: ProfileChoice::Auto,
            agent_reads: AgentReads::Workspace,
            isolation: Isolation::Strict,
            ephemeral: true,
            workers: 1,
            turns_per_worker: 1,
            prewarm: 0,
            reasoning: ReasoningOutput::ReasoningContent,
            default_cwd: state.join("workspace"),
            allowed_roots: vec![state.join("workspace")],
            max_concurrency: 1,
            max_queue_size: 64,
            queue_timeout_seconds: None,
            timeout_seconds: seconds(300),
            first_event_timeout_seconds: None,
            log_level: "info".into(),
            log_target: LogTarget::Auto,
            log_format: LogFormat::Text,
            state_dir: state,
        }
    }
}

/// What the model is given, `auto` resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Agent,
    Model,
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
    pub fn needs_key(&self) -> bool {
        !self.keys.is_empty()
    }
}
