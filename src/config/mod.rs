//! Settings: declared once in `settings`, read in layers, never changed in place.
//!
//! A leaf: knows nothing of the rest of the program. [`load`] reads everything a [`Sources`]
//! names and has no side effect; [`Live`] holds what is in force.

pub mod check;
pub mod choices;
pub mod edit;
mod files;
pub mod flags;
pub mod keys;
pub mod layers;
pub mod origin;
pub mod overrides;
pub mod python_state;
pub mod render;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod shape;
pub mod sources;
mod table;
mod validate;

use std::sync::{Arc, RwLock};

pub use choices::{
    AgentReads, ContinuationChoice, EngineKind, Isolation, ModelCatalog, Profile, ReasoningOutput,
    ToolTransport,
};
pub use keys::Key;
pub use layers::{Errors, Loaded, load};
pub use origin::Origin;
pub use secret::Secret;
pub use settings::{Config, SETTINGS};
pub use sources::Sources;

/// The settings in force, replaced whole by a reload.
///
/// A request takes one snapshot with [`Live::get`] and keeps it, so that a reload never changes
/// the rules in the middle of a turn.
#[derive(Clone, Debug)]
pub struct Live(Arc<RwLock<Arc<Config>>>);

impl Live {
    /// Starts with these settings.
    pub fn new(config: Config) -> Live {
        Live(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// The settings of this moment.
    pub fn get(&self) -> Arc<Config> {
        // The lock guards one pointer and nothing can panic while it is held.
        Arc::clone(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Puts new settings in force.
    pub fn set(&self, config: Config) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(config);
    }
}
