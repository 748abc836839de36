//! What only the operating system can give or knows. The one place where `unsafe` is allowed.

pub mod descriptors;
pub mod group;
pub mod host;
#[cfg(target_os = "macos")]
pub mod launchd;
pub mod listen;
pub mod memory;
pub mod peer;
pub mod process;
pub mod spawn;
pub mod systemd;
pub mod trust;
pub mod users;
