#!/bin/sh
# `make publish VERSION=x.y.z`. Publishing itself is a maintainer's act; this checks what can be checked.
set -eu
cd "$(dirname "$0")/../.."
version=${1:-}
current=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
if ! printf '%s' "$version" | grep -Eq '^[0-9]+\.[0-9]+\.[0-9]+$'; then
    echo "usage: make publish VERSION=x.y.z   (the sources say $current)" >&2
    exit 64
fi
if [ "$version" != "$current" ]; then
    echo "publish: Cargo.toml says version $current. Set it to $version, add the CHANGELOG entry, commit, and run this again." >&2
    exit 1
fi
if [ -n "$(git status --porcelain)" ]; then
    echo "publish: the working tree has uncommitted changes." >&2
    exit 1
fi
make release-check
echo "publish: $version is ready. Nothing was uploaded: there is no release pipeline yet. The remaining steps are"
echo "  git tag -s v$version && git push origin v$version && cargo publish --locked"
exit 1
