//! Which conversation a turn belongs to, as far as requests that carry the whole history tell.
//!
//! The identity becomes the session id and the cache key that the upstream sees: the same for
//! every request of a conversation, and another one for every other conversation, because the
//! cache of one session id serves one growing input. It is a keyed hash, so that nobody without
//! this installation's [`Key`] learns from it what was said or who asked.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::tool::{Format, Tool, ToolKind};
use super::{Caller, Item, Part, Role, Turn};

/// What identities are made with: 32 random bytes of this installation.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; Key::BYTES]);

impl Key {
    /// How many bytes a key has.
    pub const BYTES: usize = 32;

    /// A key of these bytes, which must be random and secret.
    pub fn new(bytes: [u8; Key::BYTES]) -> Key {
        Key(bytes)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// The name of a conversation. Shown as a UUID: 122 bits of a keyed hash in the form of RFC 9562's
/// version 4, which every reader of UUIDs takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(u128);

impl Identity {
    /// The identity of these bits.
    #[cfg(test)]
    pub(crate) fn from_bits(bits: u128) -> Identity {
        Identity(bits)
    }

    /// The conversation of `turn`: who asks and the first thing a person said in it, with the
    /// client's own name for it where there is one, else with the model, the functions as offered
    /// and the instructions at the head.
    ///
    /// Never the client's name alone: some clients send one name for all they do, and conversations
    /// that share a session id push each other out of the cache. Everything else of a turn may
    /// change from one request to the next.
    pub fn of(turn: &Turn, key: &Key) -> Identity {
        let mut hash = Fields::new(key);
        hash.caller(&turn.caller);
        let (head, rest) = turn.conversation.split_at(instructions(&turn.conversation));
        // Without a person, whatever comes first.
        let first = rest.iter().find(|item| is_from(item, Role::User)).or(rest.first());
        hash.items(first);
        match &turn.client_name {
            Some(name) => {
                hash.text("client_name");
                hash.text(name);
            }
            None => {
                hash.text("content");
                hash.text(turn.model.as_deref().unwrap_or_default());
                hash.number(turn.tools.len());
                for tool in turn.tools.iter() {
                    hash.tool(tool);
                }
                hash.items(head);
            }
        }
        hash.identity()
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// How many instructions stand at the head of a conversation.
fn instructions(conversation: &[Item]) -> usize {
    let is_instruction = |item: &&Item| is_from(item, Role::System) || is_from(item, Role::Developer);
    conversation.iter().take_while(is_instruction).count()
}

fn is_from(item: &Item, author: Role) -> bool {
    matches!(item, Item::Message { role, .. } if *role == author)
}

/// A hash over fields, each with its length in front, so that no two lists of fields read alike.
struct Fields(Hmac<Sha256>);

impl Fields {
    fn new(key: &Key) -> Fields {
        // A key of the hash's block length is taken as it is; a shorter one is padded with zeros.
        let mut block = [0; 64];
        block[..Key::BYTES].copy_from_slice(&key.0);
        let mut fields = Fields(Hmac::new(&block.into()));
        // What the hash is for, and of which form: a change of the fields is another version.
        fields.text("codex-api-proxy conversation 1");
        fields
    }

    fn number(&mut self, number: usize) {
        self.0.update(&(number as u64).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn caller(&mut self, caller: &Caller) {
        match caller {
            Caller::Key(name) => {
                self.text("key");
                self.text(name);
            }
            Caller::User(uid) => {
                self.text("user");
                self.bytes(&uid.to_be_bytes());
            }
            Caller::Remote(address) => {
                self.text("remote");
                self.text(&address.to_string());
            }
            Caller::Unknown => self.text("unknown"),
        }
    }

    fn tool(&mut self, tool: &Tool) {
        self.text(&tool.full_name());
        self.text(&tool.description);
        match &tool.kind {
            ToolKind::Function { parameters, .. } => self.text(parameters.as_str()),
            ToolKind::Custom { format: Format::Text } => self.text("custom"),
            ToolKind::Custom { format: Format::Grammar { syntax, definition } } => {
                self.text("custom grammar");
                self.text(syntax);
                self.text(definition);
            }
        }
    }

    fn items<'a>(&mut self, items: impl IntoIterator<Item = &'a Item>) {
        for item in items {
            match item {
                Item::Message { role, content, .. } => {
                    self.text(role.name());
                    self.parts(content);
                }
                Item::Reasoning { encrypted, .. } => {
                    self.text("reasoning");
                    self.text(encrypted);
                }
                Item::ToolCall(call) => {
                    self.text("call");
                    self.text(&call.full_name());
                    self.text(&call.arguments);
                }
                Item::ToolResult { content, .. } => {
                    self.text("result");
                    self.parts(content);
                }
            }
        }
        self.text("end of items");
    }

    fn parts(&mut self, parts: &[Part]) {
        self.number(parts.len());
        for part in parts {
            match part {
                Part::Text(text) => {
                    self.text("text");
                    self.text(text);
                }
                Part::Image(image) => {
                    self.text(&image.media_type);
                    self.text(&image.base64);
                }
            }
        }
    }

    fn identity(self) -> Identity {
        let hash = self.0.finalize().into_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Identity(u128::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::{Effort, Image, Output, ServiceTier, ToolCall, ToolChoice, Verbosity, Workdir};
    use super::*;

    const KEY: Key = Key([7; 32]);

    fn said(role: Role, text: &str) -> Item {
        Item::message(role, vec![Part::Text(text.into())])
    }

    fn chat(items: &[(Role, &str)]) -> Arc<[Item]> {
        items.iter().map(|(role, text)| said(*role, text)).collect()
    }

    fn turn(items: &[(Role, &str)]) -> Turn {
        Turn {
            caller: Caller::User(1000),
            model: Some("gpt-5.5".into()),
            tools: [tool("look"), tool("write")].into(),
            ..Turn::new(chat(items), Workdir::unseen(Path::new("/work")))
        }
    }

    fn tool(name: &str) -> Tool {
        Tool::function(name, "", "{}".into())
    }

    fn id(turn: &Turn) -> Identity {
        Identity::of(turn, &KEY)
    }

    const FIRST: &[(Role, &str)] = &[(Role::System, "be brief"), (Role::User, "hello")];

    #[test]
    fn it_is_a_version_4_uuid_that_the_key_decides() {
        let turn = turn(FIRST);
        let text = id(&turn).to_string();
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{text}");
        assert!(
            text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            "{text}"
        );
        assert_eq!(text.as_bytes()[14], b'4', "{text}");
        assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
        assert_eq!(id(&turn), id(&turn.clone()));
        assert_ne!(id(&turn), Identity::of(&turn, &Key([8; 32])));
        // Written down, because a conversation outlives a restart and an update.
        assert_eq!(text, "a550fd96-3445-4301-89c3-75c6809988a6");
    }

    #[test]
    fn what_a_later_request_adds_or_changes_keeps_the_identity() {
        let first = turn(FIRST);
        let conversation =
            |rest: &[Item]| -> Arc<[Item]> { first.conversation.iter().chain(rest).cloned().collect() };
        let call = ToolCall::function("c1", "look", "{}");
        let result = Item::ToolResult { call_id: "c1".into(), content: vec![Part::Text("x".into())] };
        for (what, later) in [
            (
                "an answer",
                Turn { conversation: conversation(&[said(Role::Assistant, "hi")]), ..first.clone() },
            ),
            (
                "a second question",
                Turn {
                    conversation: conversation(&[said(Role::Assistant, "hi"), said(Role::User, "and?")]),
                    ..first.clone()
                },
            ),
            ("a tool step", Turn { conversation: conversation(&[call.into(), result]), ..first.clone() }),
            (
                "instructions later on",
                Turn { conversation: conversation(&[said(Role::System, "now long")]), ..first.clone() },
            ),
            ("effort", Turn { effort: Some(Effort::High), ..first.clone() }),
            ("verbosity", Turn { verbosity: Some(Verbosity::Low), ..first.clone() }),
            ("tier", Turn { service_tier: Some(ServiceTier::Flex), ..first.clone() }),
            ("form", Turn { output: Output::JsonObject, ..first.clone() }),
            ("tool choice", Turn { tool_choice: ToolChoice::Required, ..first.clone() }),
            ("directory", Turn { workdir: Workdir::unseen(Path::new("/else")), ..first.clone() }),
        ] {
            assert_eq!(id(&later), id(&first), "{what}");
        }
    }

    #[test]
    fn what_makes_another_conversation_changes_the_identity() {
        let plain = turn(FIRST);
        let named = |name: &str| Turn { client_name: Some(name.into()), ..plain.clone() };
        let picture = |base64: &str| {
            let image = Image { media_type: "image/png".into(), base64: base64.into() };
            let content = vec![Part::Text("hello".into()), image.into()];
            Turn { conversation: [Item::message(Role::User, content)].into(), ..plain.clone() }
        };
        let all = [
            plain.clone(),
            turn(&[(Role::System, "be brief"), (Role::User, "hello!")]),
            turn(&[(Role::System, "be long"), (Role::User, "hello")]),
            turn(&[(Role::Developer, "be brief"), (Role::User, "hello")]),
            turn(&[(Role::System, "be"), (Role::System, "brief"), (Role::User, "hello")]),
            turn(&[(Role::User, "hello")]),
            turn(&[(Role::User, "be brief"), (Role::User, "hello")]),
            turn(&[(Role::Assistant, "hello")]),
            turn(&[(Role::System, "be brief")]),
            Turn { model: None, ..plain.clone() },
            Turn { model: Some("gpt-6.1-sol".into()), ..plain.clone() },
            Turn { tools: [].into(), ..plain.clone() },
            Turn { tools: [tool("write"), tool("look")].into(), ..plain.clone() },
            Turn { tools: [tool("lookwrite")].into(), ..plain.clone() },
            Turn { caller: Caller::User(1001), ..plain.clone() },
            Turn { caller: Caller::Key("1000".into()), ..plain.clone() },
            Turn { caller: Caller::Remote([10, 0, 0, 1].into()), ..plain.clone() },
            Turn { caller: Caller::Unknown, ..plain.clone() },
            named("a"),
            named("b"),
            // One name for everything does not merge conversations or callers.
            Turn { conversation: chat(&[(Role::User, "another")]), ..named("a") },
            Turn { caller: Caller::User(1001), ..named("a") },
            picture("AAAA"),
            picture("BBBB"),
        ];
        for (at, one) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate().skip(at + 1) {
                assert_ne!(id(one), id(other), "{at} and {other_at}");
            }
        }
    }

    #[test]
    fn the_clients_name_stands_for_model_tools_and_instructions() {
        let named = Turn { client_name: Some("a".into()), ..turn(FIRST) };
        for (what, other) in [
            ("model", Turn { model: None, ..named.clone() }),
            ("tools", Turn { tools: [].into(), ..named.clone() }),
            ("instructions", Turn { conversation: chat(&[(Role::User, "hello")]), ..named.clone() }),
        ] {
            assert_eq!(id(&other), id(&named), "{what}");
        }
    }
}
