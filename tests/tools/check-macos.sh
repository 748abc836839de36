#!/bin/sh
# Type-checks the macOS code from any machine that has the target's standard library:
# `rustup target add aarch64-apple-darwin`. Nothing is linked or run.
set -eu
cd "$(dirname "$0")/../.."
target=aarch64-apple-darwin
if ls "$(rustc --print target-libdir --target $target)"/libcore-*.rlib >/dev/null 2>&1; then
    cargo check --target $target --locked
else
    echo "macOS type check: skipped: the standard library of $target is not installed"
fi
