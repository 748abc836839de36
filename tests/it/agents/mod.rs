//! Coding agents as whole programs, unmodified, with the proxy as their model: what they do to files, and
//! what reached the upstream, is the proof.

mod claude_code;
mod codex;
