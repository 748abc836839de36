//! Where log lines go: the journal with native fields, the unified log of macOS, or stderr as text or JSON.

mod journal;
#[cfg(any(target_os = "macos", test))]
mod oslog;

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{self as layers, FmtContext};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use super::{latency, writer};
use crate::config::Config;
use crate::config::choices::{LogFormat, LogTarget};

/// How much of a child's stderr is worth keeping, in bytes.
const TAIL: usize = 2048;

/// Our subsystem in the unified log, and how the labels of our property lists begin.
pub const SUBSYSTEM: &str = "local.codex-api-proxy";

type Filter = reload::Layer<EnvFilter, Registry>;
type Output = Box<dyn Layer<Layered<Filter, Registry>> + Send + Sync>;
/// Waits until what was logged so far is written.
type Flush = Box<dyn Fn() + Send + Sync>;
/// A layer, how it is flushed, and the name of the target.
type Opened = (Output, Option<Flush>, &'static str);

/// The running log. Dropping it, last thing in the program, writes out what still waits.
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    flush: Option<Flush>,
    target: &'static str,
}

impl LogHandle {
    /// Puts another `log_level` in force.
    ///
    /// # Errors
    /// What is wrong with it; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        let filter = parse_level(level)?;
        self.filter.reload(filter).map_err(|error| format!("log_level: {error}"))
    }

    /// Where the lines go: `journald`, `oslog` or `stderr`.
    pub fn target(&self) -> &'static str {
        self.target
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        if let Some(flush) = &self.flush {
            flush();
        }
    }
}

/// Starts the log of the whole process as `log_level`, `log_target` and `log_format` say.
///
/// Call it once. It starts a thread, so whatever must run single-threaded, such
/// as taking variables out of the environment, comes before.
///
/// # Errors
/// The setting that cannot be followed and why.
pub fn start(config: &Config) -> Result<LogHandle, String> {
    let (filter, handle) = reload::Layer::new(parse_level(&config.log_level)?);
    let mut notice = None;
    let (output, flush, target): Opened = match config.log_target {
        LogTarget::Journald => journald().map_err(|error| format!("log_target = journald: {error}"))?,
        LogTarget::Auto if stderr_is_journal() => match journald() {
            Ok(opened) => opened,
            Err(error) => {
                notice = Some(format!("logging to stderr, not to the journal: {error}"));
                to_stderr(config.log_format)?
            }
        },
        LogTarget::Auto if cfg!(target_os = "macos") && launched(std::env::var("XPC_SERVICE_NAME")) => {
            (unified()?, None, "oslog")
        }
        LogTarget::Oslog => (unified()?, None, "oslog"),
        LogTarget::Auto | LogTarget::Stderr => to_stderr(config.log_format)?,
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .try_init()
        .map_err(|error| format!("the log is already running: {error}"))?;
    if let Some(notice) = notice {
        tracing::warn!("{notice}");
    }
    Ok(LogHandle { filter: handle, flush, target })
}

/// Reads a `log_level`: `debug`, `info`, `warning`, `error`, or a tracing filter such as
/// `info,hyper=debug`.
///
/// # Errors
/// What is wrong with it, starting with `log_level`.
pub fn parse_level(text: &str) -> Result<EnvFilter, String> {
    let wrong = |why: &dyn fmt::Display| {
        format!("log_level: `{text}` is not debug, info, warning or error, nor a tracing filter: {why}")
    };
    // Commas inside a span's `[…{…}]` do not separate directives; leave such a filter as it is.
    if text.contains('[') {
        return EnvFilter::try_new(text).map_err(|error| wrong(&error));
    }
    let mut directives = Vec::new();
    for part in text.split(',').map(str::trim) {
        directives.push(match part.to_ascii_lowercase().as_str() {
            // The level of our own code; that of the libraries is what `hyper=debug` is for.
            "debug" => "info,codex_api_proxy=debug".to_owned(),
            "warning" => "warn".to_owned(),
            "" => return Err(wrong(&"a part of it is empty")),
            level @ ("trace" | "info" | "warn" | "error" | "off") => level.to_owned(),
            // tracing would take a misspelt level for the name of a target, and log nothing.
            word if !word.contains('=') => return Err(wrong(&format_args!("unknown level `{word}`"))),
            _ => part.to_owned(),
        });
    }
    EnvFilter::try_new(directives.join(",")).map_err(|error| wrong(&error))
}

/// Foreign text made safe for a log line: its last 2 kB, control characters escaped.
pub fn escape(text: &str) -> String {
    let cut = text.len().saturating_sub(TAIL);
    let start = (cut..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let mut out = String::with_capacity(text.len() - start);
    escape_into(&mut out, &text[start..]);
    out
}

fn escape_into(out: &mut String, text: &str) {
    // As nearly every line is. Looking at all of it, without an early end, is many bytes at a time.
    if text.bytes().fold(true, |plain, byte| plain & (b' '..0x7f).contains(&byte)) {
        return out.push_str(text);
    }
    for c in text.chars() {
        match c {
            // Line and paragraph separators break lines, bidi controls reorder them on screen.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.extend(c.escape_unicode()),
            _ if c.is_control() => out.extend(c.escape_default()),
            _ => out.push(c),
        }
    }
}

/// Whether systemd connected our stderr to the journal: systemd.exec(5), `$JOURNAL_STREAM`.
fn stderr_is_journal() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| names(&stream, io::stderr().as_fd()))
}

/// Whether `stream`, as `device:inode`, is the open file `fd`.
fn names(stream: &str, fd: impl AsFd) -> bool {
    // An owned copy, since that is what `File` can fstat.
    let Ok(meta) = fd.as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata()) else {
        return false;
    };
    stream == format!("{}:{}", meta.dev(), meta.ino())
}

/// Whether launchd started us from one of our property lists, by the name of the job. In a terminal
/// the variable names the terminal's own.
fn launched<E>(job: Result<String, E>) -> bool {
    job.is_ok_and(|job| job.starts_with(SUBSYSTEM))
}

fn journald() -> io::Result<Opened> {
    let (journal, queue) = journal::Journal::start()?;
    Ok((journal.boxed(), Some(Box::new(move || queue.flush())), "journald"))
}

fn unified() -> Result<Output, String> {
    #[cfg(target_os = "macos")]
    return Ok(oslog::OneMessage(tracing_oslog::OsLogger::new(SUBSYSTEM, "service")).boxed());
    #[cfg(not(target_os = "macos"))]
    Err("log_target = oslog exists on macOS only".to_owned())
}

fn to_stderr(format: LogFormat) -> Result<Opened, String> {
    let writer = writer::Writer::start(io::stderr())
        .map_err(|error| format!("log_target = stderr: cannot start its thread: {error}"))?;
    let base = layers::layer().with_writer(writer.clone());
    let layer: Output = match format {
        LogFormat::Json => base.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            base.with_ansi(ansi).event_format(Text { journal: stderr_is_journal() }).boxed()
        }
    };
    let queue = writer.queue();
    Ok((layer, Some(Box::new(move || queue.flush())), "stderr"))
}

/// The level as syslog(3) counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Says a line on standard error while no log runs, such as why the program ends. The journal, if
/// that is who reads it, gets it with its level, and by `target` with its explanation.
pub fn say(level: Level, target: &str, line: &str) {
    if !stderr_is_journal() {
        return eprintln!("{line}");
    }
    if !journal::send(level, target, line) {
        eprintln!("<{}>{line}", priority(level));
    }
}

/// One line an event: `2026-11-22T14:39:24.123456Z INFO message field=value`.
struct Text {
    /// Whether the journal reads it: then it has the time, and takes the level as sd-daemon(3)
    /// has it, `<6>` in front.
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        if self.journal {
            write!(out, "<{}>", priority(*meta.level()))?;
        } else {
            let colour = match *meta.level() {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                Level::DEBUG => 34,
                Level::TRACE => 35,
            };
            SystemTime.format_time(&mut out)?;
            match out.has_ansi_escapes() {
                true => write!(out, " \x1b[{colour}m{}\x1b[0m ", meta.level())?,
                false => write!(out, " {} ", meta.level())?,
            }
        }
        writeln!(out, "{}", one_line(event)?)
    }
}

/// The event's message and fields as one line, made safe for a terminal.
fn one_line(event: &Event<'_>) -> Result<String, fmt::Error> {
    let target = event.metadata().target();
    let mut text = String::with_capacity(512);
    if target == latency::TARGET {
        // The message has every field in it already.
        event.record(&mut |field: &tracing::field::Field, value: &dyn fmt::Debug| {
            if field.name() == "message" {
                let _ = write!(text, "{value:?}");
            }
        });
    } else {
        if !target.starts_with("codex_api_proxy") {
            write!(text, "{target}: ")?;
        }
        DefaultFields::new().format_fields(Writer::new(&mut text), event)?;
    }
    let mut line = String::with_capacity(text.len());
    escape_into(&mut line, &text);
    Ok(line)
}

#[cfg(test)]
mod tests;
