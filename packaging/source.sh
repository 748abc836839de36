#!/bin/sh
# `make source`: target/packages/codex-api-proxy-VERSION.tar.gz, the sources as committed, from which
# Arch, Homebrew and Nix build.
set -eu
cd "$(dirname "$0")/.."
. packaging/facts.sh
folder
archive=$OUT/$name-$version.tar.gz
git archive --format=tar --prefix="$name-$version/" HEAD | gzip -n9 >"$archive.new"
mv "$archive.new" "$archive"
echo "$archive"
