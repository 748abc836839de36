//! `serve` (interim: the lead's page replaces this file).

use std::process::ExitCode;

use super::Exit;
use crate::config::{Loaded, Sources};

/// Serves until told to stop; `sources` are loaded again by a reload.
pub fn run(loaded: Loaded, sources: Sources) -> ExitCode {
    super::warn(&loaded.warnings);
    Exit::Failure(format!("no server in this build ({:?} flags)", sources.flags.len())).report()
}
