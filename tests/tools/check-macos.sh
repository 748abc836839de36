#!/bin/sh
# Type-checks the code for macOS, tests included, on any machine. Nothing is linked or run.
set -eu
cd "$(dirname "$0")/../.."
target=aarch64-apple-darwin
set -- --all-targets --locked --target $target --target-dir target/macos
if ! ls "$(rustc --print target-libdir --target $target)"/libcore-*.rlib >/dev/null 2>&1; then
    # Without the target's standard library (rustup target add aarch64-apple-darwin) it is checked too,
    # from its sources: Debian has a compiler with the sources that fit it.
    debian=$PWD/target/macos-rust/usr
    if ! [ -x "$debian/bin/rustc" ]; then
        echo "macOS type check: skipped: no standard library of $target, nor Debian's sources of one (make test-tools)"
        exit 0
    fi
    export RUSTC="$debian/bin/rustc" RUSTC_BOOTSTRAP=1
    LD_LIBRARY_PATH=$(echo "$debian"/lib/*-linux-gnu*)
    export LD_LIBRARY_PATH
    set -- "$@" -Zbuild-std
fi
# C of the crates would be for linking only.
export CC_aarch64_apple_darwin=true AR_aarch64_apple_darwin=true
export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS='-D warnings'
exec cargo check "$@"
