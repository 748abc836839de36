#!/bin/sh
# Ends with instructions unless a Rust toolchain is here that is new enough, and the C compiler that it links
# with and that some crates (zstd, mimalloc) are compiled by.
set -eu
cd "$(dirname "$0")/../.."
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
fix="Install or update Rust, then run this again:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh     (or: rustup update stable)"
if ! command -v cargo >/dev/null; then
    printf 'cargo is not installed; Rust %s or newer is needed.\n%s\n' "$needed" "$fix" >&2
    exit 1
fi
found=$(cargo --version | cut -d' ' -f2)
oldest=$(printf '%s\n%s\n' "$needed" "${found%%-*}" | sort -V | head -n 1)
if [ "$oldest" != "$needed" ]; then
    printf 'cargo is version %s; Rust %s or newer is needed.\n%s\n' "$found" "$needed" "$fix" >&2
    exit 1
fi
if ! command -v cc >/dev/null; then
    echo "cc, a C compiler, is not installed (Debian: apt-get install gcc libc6-dev; macOS: xcode-select --install)" >&2
    exit 1
fi
