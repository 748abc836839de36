//! What is said once, before a worker is ready: who we are, who is logged in.

use serde::{Deserialize, Serialize};

/// Notifications we have no use for; the app-server then does not write them.
const UNHEARD: &[&str] = &[
    "app/list/updated",
    "command/exec/outputDelta",
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "item/plan/delta",
    "mcpServer/startupStatus/updated",
    "remoteControl/status/changed",
    "skills/changed",
    "thread/settings/updated",
    "thread/started",
    "thread/status/changed",
    "turn/diff/updated",
    "turn/plan/updated",
];

/// `initialize`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialize {
    client_info: ClientInfo,
    capabilities: Capabilities,
}

#[derive(Debug, Serialize)]
struct ClientInfo {
    name: &'static str,
    title: &'static str,
    version: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    /// `dynamicTools`, `environments` and raw events need it.
    experimental_api: bool,
    request_attestation: bool,
    opt_out_notification_methods: &'static [&'static str],
}

impl Initialize {
    /// Who we are.
    pub fn new() -> Initialize {
        Initialize {
            client_info: ClientInfo {
                name: env!("CARGO_PKG_NAME"),
                title: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
            },
            capabilities: Capabilities {
                experimental_api: true,
                request_attestation: false,
                opt_out_notification_methods: UNHEARD,
            },
        }
    }
}

/// The reply to `initialize`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialized {
    #[serde(default)]
    user_agent: String,
}

impl Initialized {
    /// `0.169.0` of `codex-api-proxy/0.169.0 (Debian …)`.
    pub fn version(&self) -> Option<&str> {
        let rest = self.user_agent.split_once('/')?.1;
        let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// `getAuthStatus`: answered offline.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetAuthStatus {
    /// Never: we have no business with tokens.
    pub include_token: bool,
    /// Neither: Codex refreshes when it must.
    pub refresh_token: bool,
}

/// Its reply.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthStatus {
    /// `chatgpt`, `apikey`…; `None` without a login.
    #[serde(default)]
    pub auth_method: Option<String>,
    /// False for a configured provider that needs no login.
    #[serde(default)]
    pub requires_openai_auth: Option<bool>,
}
