//! The `codex-api-proxy` program; everything is in the library.

fn main() {}
