//! How the program ends: its exit codes, and what is said on stderr before.

use std::process::ExitCode;

use tracing::Level;

use super::output::TARGET;
use crate::config::Errors;
use crate::observe::{log, message_ids};

/// Something went wrong.
const FAILURE: u8 = 1;
/// EX_CONFIG of sysexits(3).
const CONFIG: u8 = 78;

/// How the program ends if not well; the text goes to stderr.
#[derive(Debug)]
pub enum Exit {
    /// 1: something failed.
    Failure(String),
    /// 64 (EX_USAGE of sysexits(3)): the command line is wrong.
    Usage(String),
    /// 78 (EX_CONFIG of sysexits(3)): the settings are wrong.
    Config(String),
    /// The code says it all; what there was to print is printed.
    Code(u8),
    /// 0: whoever read our output has left.
    ReaderGone,
}

impl From<Errors> for Exit {
    fn from(errors: Errors) -> Exit {
        let text = errors.to_string();
        if errors.only_flags { Exit::Usage(text) } else { Exit::Config(text) }
    }
}

impl Exit {
    /// What is wrong, without the code.
    pub fn into_text(self) -> String {
        match self {
            Exit::Failure(text) | Exit::Usage(text) | Exit::Config(text) => text,
            Exit::Code(_) | Exit::ReaderGone => String::new(),
        }
    }

    /// Prints the text and gives the code.
    pub fn report(self) -> ExitCode {
        let (code, text) = match self {
            Exit::Failure(text) => (FAILURE, text),
            Exit::Usage(text) => (64, text),
            Exit::Config(text) => (CONFIG, text),
            Exit::Code(code) => return ExitCode::from(code),
            Exit::ReaderGone => return ExitCode::SUCCESS,
        };
        let target = if code == CONFIG { message_ids::SETTINGS_BROKEN } else { TARGET };
        let mut explains = false;
        for (at, line) in text.lines().enumerate() {
            // Each line about settings is an error of its own; others, and what comes after an empty
            // line, explain the first.
            explains |= line.is_empty() || (at > 0 && code == FAILURE);
            log::say(Level::ERROR, target, &format!("{}{line}", if explains { "" } else { "error: " }));
        }
        ExitCode::from(code)
    }
}
