#!/bin/sh
# The release program, as `make build`, `make run` and all packages want it: without the builder's own
# paths in it, so that they are nobody's business, and a second builder gets the same bytes.
# Arguments go to `cargo build`.
set -eu
cd "$(dirname "$0")/.."
# A unit separator between the flags, as paths may have spaces.
separator=$(printf '\037')
: "${CARGO_HOME:=$HOME/.cargo}"
CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$CARGO_HOME=/cargo$separator--remap-path-prefix=$PWD=/source"
export CARGO_ENCODED_RUSTFLAGS
# The C of a crate names the day it was compiled.
export SOURCE_DATE_EPOCH=0
exec cargo build --release --locked "$@"
