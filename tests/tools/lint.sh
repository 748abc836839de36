#!/bin/sh
# `make lint`.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PWD/target/tools/bin:$PATH
set -x
cargo fmt --check
cargo clippy --all-targets --locked -- -D warnings
RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked --quiet
cargo deny --log-level error check licenses bans sources
git ls-files '*.sh' .ci/run | xargs shellcheck
set +x
# The advisories are a git repository of their own.
if timeout 10 git ls-remote -q --exit-code https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; then
    cargo deny --log-level error check advisories
else
    echo "advisories: skipped, https://github.com/rustsec/advisory-db cannot be reached"
fi
