//! Where a value came from, and the figment layer that remembers it.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Map};
use figment::{Metadata, Profile, Provider, Source};

/// Where a value came from; later layers are greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A settings file.
    File(PathBuf),
    /// A variable.
    Environment(String),
    /// The file of a systemd credential.
    Credential(PathBuf),
    /// A flag, with its dashes.
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Credential(path) => write!(f, "credential {}", path.display()),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Values of one origin.
pub(super) struct Layer {
    pub origin: Origin,
    pub values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        match &self.origin {
            Origin::Default => Metadata::named("default"),
            Origin::File(path) => Metadata::from("file", Source::File(path.clone())),
            Origin::Environment(name) => Metadata::from("environment", Source::Custom(name.clone())),
            Origin::Credential(path) => Metadata::from("credential", Source::File(path.clone())),
            Origin::Flag(flag) => Metadata::from("flag", Source::Custom(flag.clone())),
        }
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The origin that [`Layer::metadata`] wrote down.
pub(super) fn origin(metadata: Option<&Metadata>) -> Origin {
    let Some(metadata) = metadata else { return Origin::Default };
    let path =
        || metadata.source.as_ref().and_then(Source::file_path).map(Path::to_path_buf).unwrap_or_default();
    let name = || metadata.source.as_ref().and_then(Source::custom).map(str::to_owned).unwrap_or_default();
    match metadata.name.as_ref() {
        "file" => Origin::File(path()),
        "environment" => Origin::Environment(name()),
        "credential" => Origin::Credential(path()),
        "flag" => Origin::Flag(name()),
        _ => Origin::Default,
    }
}
