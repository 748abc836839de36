//! What the verbs print.

use std::io::{ErrorKind, Write};

use tracing::Level;

use super::exit::Exit;
use crate::observe::log;

/// The target of what a verb says on stderr.
pub const TARGET: &str = "codex_api_proxy::cli";

/// Prints to stdout.
///
/// # Errors
/// The reader has left, or the text cannot be written.
pub fn out(text: &str) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Exit::ReaderGone,
        _ => Exit::Failure(format!("stdout: {error}")),
    })
}

/// Prints warnings to stderr.
pub fn warn(lines: &[String]) {
    for line in lines {
        log::say(Level::WARN, TARGET, &format!("warning: {line}"));
    }
}
