//! What the command line and this shell say about the settings.

use std::path::PathBuf;

use clap::ArgMatches;

use super::exit::Exit;
use super::output::warn;
use crate::config::flags::flags;
use crate::config::{Sources, layers};

/// What this process and these flags say about the settings.
///
/// # Errors
/// Our own working directory is gone.
pub fn sources(matches: &ArgMatches) -> Result<Sources, Exit> {
    let file = matches.try_get_one::<String>("config").ok().flatten().map(PathBuf::from);
    Sources::from_process(flags(matches), file).map_err(|error| Exit::Failure(error.to_string()))
}

/// Settings by their keys.
pub type Given = std::collections::BTreeMap<&'static str, figment::value::Value>;

/// What the flags and this shell's variables set.
///
/// # Errors
/// What is wrong with them.
pub fn given(matches: &ArgMatches) -> Result<Given, Exit> {
    let sources = sources(matches)?;
    if sources.config_file.is_some() {
        return Err(Exit::Usage(
            "--config is for serve and start --foreground: the service reads the files that `codex-api-proxy \
             config path` lists"
                .into(),
        ));
    }
    if sources.env.iter().any(|(name, value)| name == "CODEX_PROXY_CONFIG" && !value.is_empty()) {
        warn(&["CODEX_PROXY_CONFIG is not passed on: the service reads the files of `config path`".into()]);
    }
    if sources.flags.iter().any(|(key, _)| *key == "api_key") {
        warn(&[
            "--api-key: other users can see the command line while it runs; CODEX_PROXY_API_KEY is not seen"
                .into(),
        ]);
    }
    let (given, warnings) = layers::given(&sources)?;
    warn(&warnings);
    Ok(given)
}
