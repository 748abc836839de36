//! Files that have Codex begin a thread under a session id of our choosing.
//!
//! A fork of a recorded session takes over its session id, which the upstream's cache goes by. A
//! recording of one line, that a session was begun, is enough for it: no word of a conversation is
//! in it. Measured with codex 0.160 to 0.169.
//!
//! The recording's own id says nothing to the upstream, and Codex keeps a row in its database for
//! each one it ever read. So few ids are used, again and again: as many as files exist at once.
//! Each file is locked while somebody needs it; one without a lock is left over from a crash.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde_json::value::RawValue;

use super::places::Place;

/// Where in a `CODEX_HOME` they lie: `codex exec fork` looks anywhere below `sessions`.
const FOLDER: &str = "sessions/codex-api-proxy";

/// A moment of no meaning; Codex wants one in the name and twice in the file.
const NAME_TIME: &str = "2026-01-01T00-00-00";
const TIME: &str = "2026-01-01T00:00:00Z";

/// More than can be at work at once, by far.
const MOST: u32 = 1 << 16;

/// The session a fork takes over.
#[derive(Debug)]
pub struct Session<'a> {
    /// Its id: the `session-id` and `prompt_cache_key` of the fork's requests.
    pub id: &'a str,
    /// The recorded working directory. It becomes that of an app-server's fork that names none.
    pub cwd: &'a Path,
    /// The functions that an app-server's fork offers the model. `codex exec` takes no notice.
    pub tools: &'a [DynamicTool<'a>],
}

/// A function as recorded, which is how `thread/start` takes it in `dynamicTools`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DynamicTool<'a> {
    /// Codex checks no names here: whoever fills this in has.
    pub name: &'a str,
    /// What it does.
    pub description: &'a str,
    /// JSON Schema of its parameters. Written in any other way than `inputSchema`, Codex takes the whole file
    /// for empty.
    pub input_schema: &'a RawValue,
}

/// A recording on the disk. Dropping it removes the file, which blocks for a moment.
#[derive(Debug)]
pub struct Rollout {
    path: PathBuf,
    id: String,
    // Keeps the lock.
    _file: File,
    _place: Place,
}

impl Rollout {
    /// Records `session` in the home. Blocking.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(home: &Path, session: &Session<'_>) -> Result<Rollout> {
        let folder = home.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        // Those of others, if another server uses the same home.
        let mut theirs = Vec::new();
        loop {
            let place = Place::take(&folder);
            if place.number() >= MOST {
                break;
            }
            let id = recording(place.number());
            let path = folder.join(format!("rollout-{NAME_TIME}-{id}.jsonl"));
            let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    theirs.push(place);
                    continue;
                }
                file => file?,
            };
            // A sweep may have come between and taken it for left over.
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if !locked || file.metadata()?.nlink() == 0 {
                theirs.push(place);
                continue;
            }
            // From here on it is removed whatever happens.
            let rollout = Rollout { path, id, _file: file.try_clone()?, _place: place };
            let mut line = serde_json::to_vec(&Line::of(session, &rollout.id))?;
            line.push(b'\n');
            file.write_all(&line)?;
            return Ok(rollout);
        }
        Err(std::io::Error::other(format!("{MOST} recordings are in use in {}", folder.display())))
    }

    /// The file, for `thread/fork`. It may be removed as soon as that has answered.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The recording's own id, for `codex exec fork`, which needs the file until it ends.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Rollout {
    fn drop(&mut self) {
        // What stays behind is swept at the next start.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "cannot remove a session's recording");
        }
    }
}

/// Removes what a process that died left behind in the home. Blocking.
pub fn sweep(home: &Path) {
    for entry in std::fs::read_dir(home.join(FOLDER)).into_iter().flatten().flatten() {
        let path = entry.path();
        // A link or a pipe is none of ours; opening it could hang.
        let Ok(true) = entry.file_type().map(|kind| kind.is_file()) else { continue };
        let Ok(file) = File::open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(file = %path.display(), %error, "cannot remove a session's recording");
        }
    }
}

/// The id of the recording of that number.
fn recording(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// The line: a `session_meta` as Codex itself writes it, with no more than it needs.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Payload<'a> {
    session_id: &'a str,
    id: &'a str,
    timestamp: &'static str,
    cwd: std::borrow::Cow<'a, str>,
    originator: &'static str,
    cli_version: &'static str,
    source: &'static str,
    base_instructions: Instructions,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    dynamic_tools: &'a [DynamicTool<'a>],
}

#[derive(Serialize)]
struct Instructions {
    text: &'static str,
}

impl<'a> Line<'a> {
    fn of(session: &Session<'a>, id: &'a str) -> Line<'a> {
        let payload = Payload {
            session_id: session.id,
            id,
            timestamp: TIME,
            cwd: session.cwd.to_string_lossy(),
            originator: "codex_exec",
            // Not looked at.
            cli_version: "0.0.0",
            source: "exec",
            base_instructions: Instructions { text: "" },
            dynamic_tools: session.tools,
        };
        Line { timestamp: TIME, kind: "session_meta", payload }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn write(home: &Path, id: &str) -> Rollout {
        Rollout::write(home, &Session { id, cwd: Path::new("/work"), tools: &[] }).unwrap()
    }

    fn files(home: &Path) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> =
            std::fs::read_dir(home.join(FOLDER)).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    }

    #[test]
    fn it_is_one_private_line_that_goes_with_its_owner() {
        let home = tempfile::tempdir().unwrap();
        let schema = RawValue::from_string(r#"{"type":"object"}"#.into()).unwrap();
        let tools = [DynamicTool { name: "look", description: "", input_schema: &schema }];
        let session =
            Session { id: "00000000-0000-0000-0000-0000000000ff", cwd: Path::new("/work"), tools: &tools };
        let rollout = Rollout::write(home.path(), &session).unwrap();
        let text = std::fs::read_to_string(rollout.path()).unwrap();
        assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        let payload = &line["payload"];
        assert_eq!((&line["type"], &payload["id"]), (&json!("session_meta"), &json!(rollout.id())));
        assert_eq!(payload["session_id"], "00000000-0000-0000-0000-0000000000ff");
        assert_eq!(
            payload["dynamic_tools"],
            json!([{"name": "look", "description": "", "inputSchema": {"type": "object"}}])
        );
        let name = rollout.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(name, format!("rollout-2026-01-01T00-00-00-{}.jsonl", rollout.id()));
        assert_eq!(rollout.path().metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(rollout.path().parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        drop(rollout);
        assert_eq!(files(home.path()), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn ids_are_used_again_and_never_at_the_same_time() {
        let home = tempfile::tempdir().unwrap();
        // Two of the same conversation at once are two recordings.
        let (first, second) = (write(home.path(), "1"), write(home.path(), "1"));
        assert_ne!(first.id(), second.id());
        let id = first.id().to_owned();
        drop(first);
        assert_eq!(write(home.path(), "2").id(), id);
    }

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let home = tempfile::tempdir().unwrap();
        sweep(home.path());
        let kept = write(home.path(), "1");
        let (dead, link) = (kept.path().with_file_name("dead.jsonl"), kept.path().with_file_name("link"));
        std::fs::write(&dead, "{}").unwrap();
        std::os::unix::fs::symlink(&dead, &link).unwrap();
        sweep(home.path());
        assert_eq!(files(home.path()), [link, kept.path().to_path_buf()]);
    }
}
