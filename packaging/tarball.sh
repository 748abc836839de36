#!/bin/sh
# `make tarball`: target/packages/codex-api-proxy-VERSION-TARGET.tar.gz, the built program with all
# that belongs to it and an install.sh; what `cargo binstall` and Homebrew take, too.
#
# TARGET is another target's triple, whose program is then built; BIN names another program, OUT another folder.
set -eu
umask 022
cd "$(dirname "$0")/.."
. packaging/facts.sh
host=$(rustc -vV | sed -n 's/^host: //p')
: "${TARGET:=$host}"
if [ "$TARGET" != "$host" ]; then
    if ! rustup target list --installed 2>/dev/null | grep -qx "$TARGET"; then
        echo "tarball for $TARGET: skipped: its standard library is not installed (rustup target add $TARGET)"
        exit 0
    fi
    packaging/build.sh --quiet --target "$TARGET"
    : "${BIN:=target/$TARGET/release/$name}"
fi
built_for=$TARGET
built
folder
work=$(mktemp -d "$OUT/tarball.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/$name-$PACKAGE_VERSION-$TARGET
mkdir "$tree"
cp -a etc launchd systemd README.md CHANGELOG.md LICENSE packaging/MIGRATION.md packaging/REFERENCE.md packaging/quadlet packaging/install.sh "$CRATES" "$tree/"
cp "$BIN" "$tree/$name"
# The same bytes from whoever packs it.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --mode=u+rw,go+r-w,a+X \
    -C "$work" -c "${tree##*/}" | gzip -n9 >"$work/archive"
mv "$work/archive" "$OUT/${tree##*/}.tar.gz"
echo "$OUT/${tree##*/}.tar.gz"
