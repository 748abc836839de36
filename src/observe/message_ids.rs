//! The messages that somebody must act on, each with an entry in the journal's catalog.
//!
//! A line logged with one of these targets carries its `MESSAGE_ID` in the journal, so that
//! `journalctl -x` explains it; see systemd.journal-fields(7) and
//! `systemd/codex-api-proxy.catalog`. Elsewhere it is a line like any other.

/// Codex has no login that can be used.
pub const NOT_LOGGED_IN: &str = "codex_api_proxy.not_logged_in";
/// The Codex CLI is missing, cannot be run, or is too old.
pub const CODEX_UNUSABLE: &str = "codex_api_proxy.codex_unusable";
/// The settings could not be loaded, at a reload or with the sockets held by the service manager.
pub const SETTINGS_BROKEN: &str = "codex_api_proxy.settings_broken";
/// Others than this machine can connect, and no key stops them.
pub const OPEN_TO_STRANGERS: &str = "codex_api_proxy.open_to_strangers";
/// What Codex's tools read is not confined.
pub const READS_NOT_CONFINED: &str = "codex_api_proxy.reads_not_confined";

/// Each target and its `MESSAGE_ID`: 128 random bits, made once and never changed.
const ENTRIES: [(&str, &str); 5] = [
    (NOT_LOGGED_IN, "136e19a2f2d64cb79b2cfca12549ef4d"),
    (CODEX_UNUSABLE, "7f4d7b0815e640a0a0a8412025481aea"),
    (SETTINGS_BROKEN, "788511beff3942b4939e33919656af1f"),
    (OPEN_TO_STRANGERS, "c9fe9f5ca51442dca76acad52b000b7f"),
    (READS_NOT_CONFINED, "32c67fbd14114b5ca71bb611d4851cd5"),
];

/// The `MESSAGE_ID` of lines with that target.
pub fn message_id(target: &str) -> Option<&'static str> {
    ENTRIES.iter().find(|(known, _)| *known == target).map(|(_, id)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_catalog_explains_every_message() {
        let shipped = include_str!("../../systemd/codex-api-proxy.catalog");
        let explained: Vec<&str> = shipped.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let known: Vec<&str> = ENTRIES.iter().map(|(_, id)| *id).collect();
        assert_eq!(explained, known);
        assert_eq!(message_id(NOT_LOGGED_IN), Some(known[0]));
        assert_eq!(message_id("codex_api_proxy"), None);
    }
}
