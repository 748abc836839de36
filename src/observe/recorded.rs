//! A latency line as a log gives it back: from the journal by its fields, from the unified log of macOS by
//! its text.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Status;
use super::latency::TARGET;
use super::ledger::Entry;
use crate::turn::Usage;

/// The event of the one line that each request has.
pub const EVENT: &str = "chat_completion_latency";

/// The fields of the journal that are read; it adds its own times.
pub const FIELDS: &[&str] = &[
    "_SOURCE_REALTIME_TIMESTAMP",
    "CODEX_STATUS",
    "CODEX_HTTP_STATUS",
    "CODEX_MODEL",
    "CODEX_CALLER",
    "CODEX_PROMPT_TOKENS",
    "CODEX_CACHED_TOKENS",
    "CODEX_COMPLETION_TOKENS",
    "CODEX_TOKENS_UNKNOWN",
];

/// A request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// When it was logged.
    pub at: Timestamp,
    model: Option<String>,
    caller: Option<String>,
    status: Status,
    http_status: u16,
    usage: Option<Usage>,
    tokens_unknown: u32,
}

impl Recorded {
    /// What it says, for sums.
    pub fn entry(&self) -> Entry<'_> {
        Entry {
            model: self.model.as_deref(),
            caller: self.caller.as_deref(),
            status: self.status,
            http_status: self.http_status,
            usage: self.usage,
            tokens_unknown: self.tokens_unknown,
        }
    }

    /// From an entry of `journalctl -o json`; `None` if it is none of a request.
    pub fn of_journal(line: &[u8]) -> Option<Recorded> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let text = |name: &str| text(line.get(name)?);
        let number = |name: &str| text(name)?.parse::<u64>().ok();
        // When it was sent; the journal may have been slow.
        let micros = number("_SOURCE_REALTIME_TIMESTAMP").or_else(|| number("__REALTIME_TIMESTAMP"))?;
        Some(Recorded {
            at: Timestamp::from_microsecond(micros.try_into().ok()?).ok()?,
            model: text("CODEX_MODEL"),
            caller: text("CODEX_CALLER"),
            status: Status::named(&text("CODEX_STATUS")?)?,
            http_status: number("CODEX_HTTP_STATUS")?.try_into().ok()?,
            usage: usage(
                number("CODEX_PROMPT_TOKENS"),
                number("CODEX_CACHED_TOKENS"),
                number("CODEX_COMPLETION_TOKENS"),
            ),
            tokens_unknown: number("CODEX_TOKENS_UNKNOWN").unwrap_or(0).try_into().ok()?,
        })
    }

    /// From an entry of `log show --style ndjson` that this user wrote; `None` if it is none of a request.
    pub fn of_unified_log(line: &[u8], uid: u32) -> Option<Recorded> {
        let entry: Value = serde_json::from_slice(line).ok()?;
        if entry["userID"] != uid {
            return None;
        }
        let json = entry["eventMessage"].as_str()?.strip_prefix(TARGET)?.trim_start();
        // Fields may follow.
        let line: Value = serde_json::Deserializer::from_str(json).into_iter().next()?.ok()?;
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let number = |name: &str| line[name].as_u64();
        Some(Recorded {
            at: Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f%z", entry["timestamp"].as_str()?).ok()?,
            model: text("model"),
            caller: text("caller"),
            status: Status::named(line["status"].as_str().filter(|_| line["event"] == EVENT)?)?,
            http_status: number("http_status")?.try_into().ok()?,
            usage: usage(number("prompt_tokens"), number("cached_tokens"), number("completion_tokens")),
            tokens_unknown: number("tokens_unknown").unwrap_or(0).try_into().ok()?,
        })
    }

    /// Whether it was logged before that moment.
    pub fn is_before(&self, moment: Timestamp) -> bool {
        // Clocks are read to the microsecond here and to the nanosecond there.
        moment.duration_since(self.at) >= SignedDuration::from_micros(1)
    }
}

fn usage(input: Option<u64>, cached_input: Option<u64>, output: Option<u64>) -> Option<Usage> {
    let (Some(input), Some(output)) = (input, output) else { return None };
    // Older versions did not log the cached part.
    Some(Usage { input, cached_input: cached_input.unwrap_or(0), output, ..Usage::default() })
}

/// A field of the journal: text, bytes where it is no printable text, or several where it is repeated.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.iter().all(Value::is_u64) => {
            let bytes: Option<Vec<u8>> = items.iter().map(|item| item.as_u64()?.try_into().ok()).collect();
            Some(String::from_utf8_lossy(&bytes?).into_owned())
        }
        Value::Array(items) => text(items.first()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn recorded(usage: Option<[u64; 3]>) -> Recorded {
        Recorded {
            at: "2026-11-26T02:30:00.25Z".parse().unwrap(),
            model: Some("codex-local".into()),
            caller: Some("alice".into()),
            status: Status::Ok,
            http_status: 200,
            usage: usage.map(|[input, cached_input, output]| Usage {
                input,
                cached_input,
                output,
                ..Usage::default()
            }),
            tokens_unknown: 0,
        }
    }

    /// A journal entry with some fields changed, or left out if null.
    fn entry(changed: Value) -> Vec<u8> {
        let mut entry = json!({
            "__REALTIME_TIMESTAMP": "1795660200900000", "_SOURCE_REALTIME_TIMESTAMP": "1795660200250000",
            "CODEX_STATUS": "ok", "CODEX_HTTP_STATUS": "200", "CODEX_MODEL": "codex-local",
            "CODEX_CALLER": "alice", "CODEX_PROMPT_TOKENS": "11", "CODEX_CACHED_TOKENS": "3",
            "CODEX_COMPLETION_TOKENS": "7",
        });
        for (name, value) in changed.as_object().unwrap() {
            entry[name] = value.clone();
        }
        entry.to_string().into_bytes()
    }

    #[test]
    fn the_journals_fields_are_read() {
        let whole = recorded(Some([11, 3, 7]));
        for (changed, expect) in [
            (json!({}), Some(whole.clone())),
            (
                json!({"_SOURCE_REALTIME_TIMESTAMP": null}),
                Some(Recorded { at: "2026-11-26T02:30:00.9Z".parse().unwrap(), ..whole.clone() }),
            ),
            (json!({"CODEX_CACHED_TOKENS": null}), Some(recorded(Some([11, 0, 7])))),
            (json!({"CODEX_PROMPT_TOKENS": null}), Some(recorded(None))),
            (json!({"CODEX_TOKENS_UNKNOWN": "2"}), Some(Recorded { tokens_unknown: 2, ..whole.clone() })),
            (
                json!({"CODEX_STATUS": "cancelled", "CODEX_HTTP_STATUS": "499", "CODEX_MODEL": null}),
                Some(Recorded { status: Status::Cancelled, http_status: 499, model: None, ..whole.clone() }),
            ),
            // What does not print comes as bytes, what is repeated as a list.
            (json!({"CODEX_MODEL": [97, 10]}), Some(Recorded { model: Some("a\n".into()), ..whole.clone() })),
            (json!({"CODEX_CALLER": ["bob", "eve"]}), Some(Recorded { caller: Some("bob".into()), ..whole })),
            (json!({"CODEX_STATUS": "fine"}), None),
            (json!({"CODEX_STATUS": null}), None),
            (json!({"CODEX_HTTP_STATUS": "70000"}), None),
            (
                json!({"_SOURCE_REALTIME_TIMESTAMP": "99999999999999999999", "__REALTIME_TIMESTAMP": null}),
                None,
            ),
        ] {
            assert_eq!(Recorded::of_journal(&entry(changed.clone())), expect, "{changed}");
        }
        for odd in [&b""[..], b"{", b"[]", b"-- No entries --", b"\xff"] {
            assert_eq!(Recorded::of_journal(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn the_unified_logs_lines_are_read() {
        let line = |event: &str, uid: u32| {
            let latency = json!({"event": event, "request_id": "r", "status": "ok", "http_status": 200,
                "caller": "alice", "model": "codex-local", "prompt_tokens": 11, "cached_tokens": 3, "completion_tokens": 7});
            let entry = json!({"timestamp": "2026-11-26 03:30:00.250000+0100", "userID": uid,
                "subsystem": "local.codex-api-proxy", "eventMessage": format!("{TARGET} {latency} more=1")});
            entry.to_string().into_bytes()
        };
        let read = |event: &str, uid: u32| Recorded::of_unified_log(&line(event, uid), 501);
        assert_eq!(read(EVENT, 501), Some(recorded(Some([11, 3, 7]))));
        assert_eq!(read(EVENT, 502), None, "somebody else wrote it");
        assert_eq!(read("chat_completion_first_sse", 501), None);
        assert_eq!(Recorded::of_unified_log(br#"{"count":1,"finished":1}"#, 501), None);
    }

    #[test]
    fn a_line_at_the_start_is_not_before_it() {
        let line = recorded(None);
        for (moment, expect) in [
            ("2026-11-26T02:30:00.25Z", false),
            ("2026-11-26T02:30:00.2500009Z", false),
            ("2026-11-26T02:30:00.250001Z", true),
            ("2026-11-26T02:29:00Z", false),
        ] {
            assert_eq!(line.is_before(moment.parse().unwrap()), expect, "{moment}");
        }
    }
}
