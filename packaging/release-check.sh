#!/bin/sh
# `make release-check`, after `make test`: builds every package, twice where that must give the same
# bytes, and has each checked by its own tools. A tool that is not installed is `skipped: why`.
set -eu
cd "$(dirname "$0")/.."
. packaging/facts.sh
# What is there goes, so it is always the same folder.
unset BIN OUT
folder

step() { echo "== $*"; }
# skip TOOL WHAT: whether TOOL is missing, after saying so.
skip() {
    ! command -v "$1" >/dev/null || return 1
    echo "$2: skipped: $1 is not installed"
}

step "versions, changelog"
packaging/agree.sh "$@"

step "packages"
packaging/build.sh
rm -rf "$OUT" && mkdir "$OUT"
deb=$(packaging/deb.sh)
rpm=$(packaging/rpm.sh)
packaging/tarball.sh
packaging/source.sh
for target in x86_64-unknown-linux-musl aarch64-unknown-linux-musl; do
    TARGET=$target packaging/tarball.sh
done
ls -l "$OUT"

step "their checkers"
packaging/check.sh "$deb" "$rpm"

step "a second builder gets the same bytes"
# From what is committed, in another folder, with another target folder.
second=$OUT/second
git clone --quiet . "$second"
(cd "$second" && CARGO_TARGET_DIR=$second/target packaging/build.sh --quiet)
for kind in deb rpm tarball; do
    file=$(cd "$second" && BIN=$second/target/release/$name OUT=$second/out packaging/$kind.sh)
    cmp "$OUT/$(basename "$file")" "$file"
    echo "ok $(basename "$file")"
done
rm -rf "$second"

step "licences of the crates"
# In the package, and allowed by deny.toml.
dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/share/doc/$name/crates.txt.gz" | gunzip | sed -n '/: /s/.*: //p;/^---/q' | sort | uniq -c

step "Arch"
if ! skip makepkg "package" && ! skip bsdtar "package"; then
    arch=$OUT/arch
    mkdir "$arch"
    cp packaging/arch/* "$OUT/$name-$version.tar.gz" "$arch/"
    # makepkg refuses to be root; this one only looks like somebody else.
    as=''
    [ "$(id -u)" != 0 ] || as='unshare --user --map-user=1000 --map-group=1000'
    # shellcheck disable=SC2086 # words
    (cd "$arch" && $as makepkg --printsrcinfo >.SRCINFO && PKGEXT=.pkg.tar.gz $as makepkg --nodeps)
    tar -tzf "$arch"/*.pkg.tar.gz | grep -v '/$' | sort
    rm -rf "$arch"
fi

step "Homebrew"
skip ruby "formula's syntax" || ruby -c packaging/homebrew/$name.rb
skip brew "formula's style" || brew style packaging/homebrew/$name.rb

step "Nix"
skip nix-instantiate "expression's syntax" || nix-instantiate --parse packaging/nix/default.nix >/dev/null
if ! skip nix-build "expression's build"; then
    if nix-instantiate --eval --expr '<nixpkgs>' >/dev/null 2>&1; then
        nix-build --no-out-link packaging/nix
    else
        echo "expression's build: skipped: there is no nixpkgs here"
    fi
fi

step "the first five minutes"
tests/tools/tour.sh "$OUT/first-five-minutes.svg"

step "the crate"
# In a target folder of its own: cargo would take what it builds of the crate for what `cargo build` built.
cargo package --locked --quiet --target-dir target/crate
echo "release-check: $name $version is fit to be released"
