#!/bin/sh
# `make deb`: target/packages/codex-api-proxy_VERSION-1_ARCH.deb, from the built program.
#
# debhelper makes the package, so that Debian's own rules for units and scripts hold. BIN names
# another program, PACKAGE_VERSION another version, OUT another folder.
set -eu
umask 022
cd "$(dirname "$0")/.."
. packaging/facts.sh
need dh debhelper
need dpkg-buildpackage dpkg-dev

built
folder
# A copy of what the package is made of: debian/ must stand at the top, and is full of files in between.
work=$(mktemp -d "$OUT/deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/$name-$PACKAGE_VERSION
mkdir "$tree"
cp -a etc launchd systemd packaging README.md CHANGELOG.md LICENSE "$tree/"
cp -a packaging/debian "$tree/debian"
{
    echo "$name ($PACKAGE_VERSION-1) unstable; urgency=medium"
    echo
    changes "$version" | sed 's/^/* /' | fold -s -w 72 | sed 's/ *$//; s/^\([^*]\)/  \1/; s/^/  /'
    echo
    echo " -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} >"$tree/debian/changelog"
# dpkg lowers younger times only.
find "$tree" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
(
    cd "$tree"
    # Not -a: only what is built here.
    dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >"$work/log" 2>&1
) || {
    cat "$work/log" >&2
    exit 1
}
for file in "$work"/*.deb; do
    mv "$file" "$OUT/"
    echo "$OUT/${file##*/}"
done
