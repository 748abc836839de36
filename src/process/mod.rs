//! Child processes of any kind: started in their own group, watched, ended, reaped.
//!
//! Knows no Codex. Who spawns here gets a [`Child`] whose every way out ends the whole group.

pub mod child;
pub mod lines;

pub use child::{Child, Command, Spawner};
pub use lines::Lines;
