#!/bin/sh
# `make lint`.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PWD/target/tools/bin:$PATH
set -x
cargo fmt --check
cargo clippy --all-targets --locked -- -D warnings
RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items --locked --quiet
tests/tools/check-macos.sh
cargo deny --log-level error check licenses bans sources
# Not by git's list: the source archive has no git.
find packaging tests -name '*.sh' -exec shellcheck {} +
shellcheck .ci/run packaging/debian/*.p*
shellcheck --shell=bash --exclude=SC2034,SC2154,SC2164 packaging/arch/PKGBUILD packaging/arch/*.install
set +x
# The advisories are a database of their own, which `cargo deny fetch` gets where it can be reached.
if [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" ]; then
    cargo deny --offline --log-level error check advisories
else
    echo "advisories: skipped: no advisory database on this machine (cargo deny fetch)"
fi
