//! The journal, in its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>): a field for
//! each value, `CODEX_` in front.
//!
//! Not by the layer of tracing-journald: that one sends from whichever thread logs, and a journal
//! that stalls would stop the whole server.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::priority;
use crate::observe::catalog;
use crate::observe::writer::Writer;

const SOCKET: &str = "/run/systemd/journal/socket";

/// How much of one value is kept, in bytes: an entry must fit into a datagram.
const LONGEST: usize = 32 * 1024;

/// The journal's socket; each write is one entry.
pub(super) struct Socket(UnixDatagram);

impl Socket {
    /// Sees that the journal listens.
    pub(super) fn connect() -> io::Result<Socket> {
        let socket = UnixDatagram::unbound()?;
        // It takes no notice of what is empty.
        match socket.send_to(&[], SOCKET) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::new(error.kind(), "there is no journal on this system"))
            }
            sent => sent.map(|_| Socket(socket)),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // By name each time: a journal that was started anew has another socket.
        self.0.send_to(entry, SOCKET)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes an entry of each event.
pub(super) struct Journal {
    to: Writer,
    user_unit: Option<String>,
}

impl Journal {
    /// Its entries go there, one a write.
    pub(super) fn new(to: Writer) -> Journal {
        Journal { to, user_unit: user_unit() }
    }
}

/// Sends one line at once, from a process that may be gone in a moment. Tells whether the journal
/// has it, and will know whose it is.
pub(super) fn send(level: Level, target: &str, line: &str) -> bool {
    let unit = user_unit();
    let mut entry = Entry::new(level, target, unit.as_deref());
    entry.put("MESSAGE", line);
    unit.is_some() && Socket::connect().and_then(|mut socket| socket.write(&entry.0)).is_ok()
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        let mut entry = Entry::new(*meta.level(), meta.target(), self.user_unit.as_deref());
        if let (Some(file), Some(line)) = (meta.file(), meta.line()) {
            entry.put("CODE_FILE", file);
            entry.put("CODE_LINE", line);
        }
        event.record(&mut entry);
        // Full queues are the writer's own business: it never fails.
        let _ = self.to.clone().write_all(&entry.0);
    }
}

/// The fields of one event.
struct Entry(Vec<u8>);

impl Entry {
    fn new(level: Level, target: &str, user_unit: Option<&str>) -> Entry {
        let mut entry = Entry(Vec::with_capacity(1024));
        entry.put("PRIORITY", priority(level));
        entry.put("SYSLOG_IDENTIFIER", "codex-api-proxy");
        entry.put("TARGET", target);
        // The journal looks for itself which unit sent a line, but cannot if the process has ended
        // by then. By this field it finds what systemd says about a unit.
        if let Some(unit) = user_unit {
            entry.put("USER_UNIT", unit);
        }
        if let Some(id) = catalog::message_id(target) {
            entry.put("MESSAGE_ID", id);
        }
        entry
    }

    fn put(&mut self, name: &str, value: impl fmt::Display) {
        let mut text = String::new();
        // Writing to a string fails only if the value's own formatting does.
        let _ = write!(text, "{value}");
        let end = (0..=text.len().min(LONGEST)).rfind(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        self.0.extend_from_slice(name.as_bytes());
        // With its length in front a value may have any bytes, line breaks too.
        self.0.push(b'\n');
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'\n');
    }

    fn record(&mut self, field: &Field, value: impl fmt::Display) {
        match field.name() {
            "message" => self.put("MESSAGE", value),
            name => self.put(&field_name(name), value),
        }
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, format_args!("{value:?}"));
    }
}

/// The journal takes capitals, digits and `_`, 64 of them.
fn field_name(name: &str) -> String {
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "CODEX_".chars().chain(name.chars().map(capital)).take(64).collect()
}

/// The unit that this process belongs to, if a user's own manager started it.
fn user_unit() -> Option<String> {
    user_unit_of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// From `/proc/PID/cgroup`, see cgroups(7): `0::/user.slice/user-1000.slice/user@1000.service/…/NAME.service`.
fn user_unit_of(cgroups: &str) -> Option<String> {
    let paths = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        // The one hierarchy, or the one that systemd keeps beside those of the first version.
        matches!(parts.next()?, "" | "name=systemd").then(|| parts.next())?
    });
    let units = paths.filter_map(|path| {
        let (_, below) = path.split_once("/user@")?;
        below.split('/').skip(1).find(|name| name.ends_with(".service"))
    });
    units.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Keeps each write.
    struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Kept {
        fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(entry.to_vec());
            Ok(entry.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// `NAME=value` of each field, read as the journal does.
    fn fields(mut entry: &[u8]) -> Vec<String> {
        let mut found = vec![];
        while !entry.is_empty() {
            let end = entry.iter().position(|&byte| byte == b'\n').unwrap();
            let (name, rest) = (&entry[..end], &entry[end + 1..]);
            let (length, rest) = rest.split_at(8);
            let (value, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            found.push(format!("{}={}", text(name), text(value)));
            entry = rest.strip_prefix(b"\n").unwrap();
        }
        found
    }

    #[test]
    fn an_event_is_one_entry_with_a_field_for_each_value() {
        let kept = Arc::new(Mutex::new(vec![]));
        let writer = Writer::start(Kept(Arc::clone(&kept))).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal::new(writer.clone()));
        let long = "\u{e9}".repeat(LONGEST);
        let name = format!("CODEX_{}", "N".repeat(58));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(setting = "port", number = 7, "b.c" = ?Some("x"), ms = 2.5, "first\nsecond");
            tracing::error!(target: catalog::SETTINGS_BROKEN, "{long}");
            tracing::debug!(nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn = true);
        });
        writer.flush_queue();
        let entries: Vec<Vec<String>> = kept.lock().unwrap().iter().map(|entry| fields(entry)).collect();
        let [first, second, third] = &entries[..] else { panic!("{entries:?}") };
        let fixed = ["TARGET=", "CODE_", "USER_UNIT="];
        let code = |field: &&String| !fixed.iter().any(|start| field.starts_with(start));
        assert_eq!(
            first.iter().filter(code).collect::<Vec<_>>(),
            [
                "PRIORITY=4",
                "SYSLOG_IDENTIFIER=codex-api-proxy",
                "MESSAGE=first\nsecond",
                "CODEX_SETTING=port",
                "CODEX_NUMBER=7",
                "CODEX_B_C=Some(\"x\")",
                "CODEX_MS=2.5",
            ]
        );
        assert!(first.contains(&format!("TARGET={}", module_path!())), "{first:?}");
        let id = catalog::message_id(catalog::SETTINGS_BROKEN).unwrap();
        assert!(second.contains(&format!("MESSAGE_ID={id}")) && second[0] == "PRIORITY=3", "{second:?}");
        let message = second.iter().find_map(|field| field.strip_prefix("MESSAGE=")).unwrap();
        assert_eq!(message.len(), LONGEST, "cut at a character");
        assert!(third.contains(&format!("{name}=true")), "{third:?}");
    }

    #[test]
    fn a_users_unit_is_told_by_its_control_group() {
        let ours = "/user.slice/user-1000.slice/user@1000.service/app.slice/codex-api-proxy.service";
        for (cgroups, expect) in [
            (format!("0::{ours}\n"), Some("codex-api-proxy.service")),
            (format!("12:pids:/x\n1:name=systemd:{ours}\n0::/\n"), Some("codex-api-proxy.service")),
            (format!("0::{ours}/below\n"), Some("codex-api-proxy.service")),
            ("0::/system.slice/system-codex\\x2dapi.slice/codex-api-proxy@me.service\n".into(), None),
            ("0::/user.slice/user-1000.slice/session-2.scope\n".into(), None),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(user_unit_of(&cgroups).as_deref(), expect, "{cgroups}");
        }
    }
}
