//! The few app-server messages we say and hear. Unknown fields are ignored.
//!
//! What goes out is serialized straight from the turn; what comes in is borrowed from its line.

mod additional;
mod custom;
mod handshake;
mod items;
mod notifications;
mod requests;

pub use additional::additional_tools;
pub use custom::unwrapped;
pub use handshake::{AuthStatus, GetAuthStatus, Initialize, Initialized};
pub use items::{InjectItems, hint, tool_result};
pub use notifications::{
    About, DeltaNotification, ErrorNotification, ItemNotification, RateLimits, RateLimitsNotification,
    RawItem, RawResponseCompletedNotification, RawResponseItemNotification, SummaryText, ThreadItem,
    TokenUsageNotification, ToolCallRequest, TurnError, TurnNotification,
};
pub use requests::{
    DynamicTool, ThreadConfig, ThreadFork, ThreadStart, ThreadStarted, ThreadUnsubscribe, TurnInterrupt,
    TurnStart, TurnStarted,
};

/// The `"result":…` or `"error":…` of our answer to a request of the app-server: nobody is there
/// to approve anything, and nothing may be approved.
pub fn refusal(method: &str) -> &'static str {
    match method {
        "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
            r#""result":{"decision":"decline"}"#
        }
        "execCommandApproval" | "applyPatchApproval" => r#""result":{"decision":"denied"}"#,
        "item/tool/requestUserInput" => r#""result":{"answers":{}}"#,
        "mcpServer/elicitation/request" => r#""result":{"action":"decline","content":null}"#,
        "item/tool/call" => {
            r#""result":{"contentItems":[{"type":"inputText","text":"The caller runs this function itself."}],"success":false}"#
        }
        _ => r#""error":{"code":-32601,"message":"not supported by this client"}"#,
    }
}

#[cfg(test)]
mod tests;
