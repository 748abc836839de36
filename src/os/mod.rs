//! The operating system's side: the only place with `unsafe`.

pub mod process;
