//! Running the service manager's own programs: arguments one by one, never a shell.

use std::io;
use std::process::{Command, Stdio};

/// What a program left behind.
#[derive(Debug)]
pub struct Ran {
    /// Exit status 0.
    pub success: bool,
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// What went wrong in one line: its last word on stderr, else its status.
    pub fn why(&self) -> String {
        let line = self.err.lines().map(str::trim).rfind(|line| !line.is_empty());
        line.map_or_else(|| format!("exit status {:?}", self.code), str::to_owned)
    }
}

/// Runs it to its end, without input, its output kept, its messages in English.
///
/// # Errors
/// It could not be started.
pub fn run(command: &mut Command) -> io::Result<Ran> {
    // Timestamps and messages are read by us; paging and colours would garble them.
    command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
    let output = command.stdin(Stdio::null()).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran {
        success: output.status.success(),
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    })
}
