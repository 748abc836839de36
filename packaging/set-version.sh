#!/bin/sh
# packaging/set-version.sh x.y.z [YYYY-MM-DD]: the version in every file that names it, and the section
# of it in CHANGELOG.md, made of what is unreleased. The other files get it from Cargo.toml.
set -eu
cd "$(dirname "$0")/.."
. packaging/facts.sh
new=$1 day=${2:-$(date -u +%Y-%m-%d)}
case $new in
    *[!0-9.]*) fits=false ;;
    *) fits=true ;;
esac
if ! $fits || ! echo "$new" | grep -Eqx '(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)'; then
    echo "set-version: $new is not a version like 1.2.3" >&2
    exit 64
fi

sed -i "1,/^version = / s/^version = .*/version = \"$new\"/" Cargo.toml
sed -i "/^name = \"$name\"/,/^version/ s/^version = .*/version = \"$new\"/" Cargo.lock
sed -i "s/^pkgver=.*/pkgver=$new/" packaging/arch/PKGBUILD
if ! grep -q "^## \[$new\]" CHANGELOG.md; then
    sed -i "s/^## \[Unreleased\]\$/## [Unreleased]\n\n## [$new] - $day/" CHANGELOG.md
fi
