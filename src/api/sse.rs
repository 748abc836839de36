//! Server-sent events as OpenAI and Anthropic frame them: `data: {…}` with the space, `event: NAME`
//! before it where events have names, comments as keep-alive.

use bytes::Bytes;
use serde::Serialize;

/// The last event of a complete answer.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A comment: keeps connections alive and is no event to any client.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// One event. JSON text has no raw line break, so an event is always one `data:` line.
///
/// # Errors
/// What cannot be written as JSON (a map with keys that are no strings).
pub fn event(data: &impl Serialize) -> serde_json::Result<Bytes> {
    written(b"", data)
}

/// One event with a name. The name has no line break.
///
/// # Errors
/// As [`event`].
pub fn named(name: &str, data: &impl Serialize) -> serde_json::Result<Bytes> {
    written(&[b"event: ", name.as_bytes(), b"\n"].concat(), data)
}

fn written(name: &[u8], data: &impl Serialize) -> serde_json::Result<Bytes> {
    // Room for an ordinary chunk: growing step by step costs more than writing it.
    let mut event = Vec::with_capacity(384);
    event.extend_from_slice(name);
    event.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut event, data)?;
    event.extend_from_slice(b"\n\n");
    Ok(event.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// What a client following the HTML standard's event-stream grammar reads.
    fn parse(stream: &str) -> Vec<String> {
        let mut events = Vec::new();
        let mut data: Vec<&str> = Vec::new();
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        for line in stream.split('\n') {
            if line.is_empty() {
                if !data.is_empty() {
                    events.push(data.join("\n"));
                    data.clear();
                }
            } else if let Some(text) = line.strip_prefix("data:") {
                data.push(text.strip_prefix(' ').unwrap_or(text));
            } else {
                assert!(line.starts_with(':'), "neither data nor comment: {line:?}");
            }
        }
        assert!(data.is_empty(), "an unfinished event");
        events
    }

    #[test]
    fn the_framing_is_openais() {
        let check = |frame: Bytes, expect: &str| assert_eq!(frame, expect);
        check(event(&json!({"a": 1})).unwrap(), "data: {\"a\":1}\n\n");
        check(named("a.b", &json!({})).unwrap(), "event: a.b\ndata: {}\n\n");
        check(event(&json!("two\r\nlines\n")).unwrap(), "data: \"two\\r\\nlines\\n\"\n\n");
        check(event(&json!("\u{2028}\u{85}\u{feff}")).unwrap(), "data: \"\u{2028}\u{85}\u{feff}\"\n\n");
        check(DONE, "data: [DONE]\n\n");
        check(KEEP_ALIVE, ": keep-alive\n\n");
        assert!(event(&std::collections::HashMap::from([(vec![1], 1)])).is_err());
    }

    proptest! {
        #[test]
        fn a_client_reads_what_was_written(texts in prop::collection::vec("[\\s\\S]{0,40}", 0..8)) {
            let awkward = ["\r", "\n\n", "\u{2028}", "\0", "data: x", "[DONE]"].map(str::to_owned);
            let texts: Vec<String> = texts.into_iter().chain(awkward).collect();
            let mut stream = Vec::new();
            for text in &texts {
                stream.extend(event(&json!({ "text": text })).unwrap());
                stream.extend(KEEP_ALIVE);
            }
            stream.extend(DONE);
            let mut read = parse(std::str::from_utf8(&stream).unwrap());
            prop_assert_eq!(read.pop().unwrap(), "[DONE]");
            let read: Vec<String> = read
                .iter()
                .map(|event| serde_json::from_str::<Value>(event).unwrap()["text"].as_str().unwrap().to_owned())
                .collect();
            prop_assert_eq!(read, texts);
        }
    }
}
