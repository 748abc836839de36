//! prompt (interim)
