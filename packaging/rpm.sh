#!/bin/sh
# `make rpm`: target/packages/codex-api-proxy-VERSION-1.ARCH.rpm, from the built program.
#
# BIN names another program, PACKAGE_VERSION another version, OUT another folder.
set -eu
umask 022
cd "$(dirname "$0")/.."
. packaging/facts.sh
need rpmbuild rpm
built
folder
# Not below the sources: rpm wants a path without spaces.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    cat packaging/rpm/$name.spec
    echo
    echo "%changelog"
    echo "* $(LC_ALL=C date -u '+%a %b %d %Y' -d "@$SOURCE_DATE_EPOCH") The codex-api-proxy developers <codex-api-proxy@example.org> - $PACKAGE_VERSION-1"
    changes "$version" | sed 's/^/- /; s/%/%%/g'
} >"$work/$name.spec"
# In the sources themselves: there is nothing to unpack or to build. The times are those of the commit.
rpmbuild -bb --build-in-place --noprep --quiet \
    --define "_topdir $work" --define "_rpmdir $work/out" --define "_buildhost localhost" \
    --define "_sourcedir $PWD" --define "clamp_mtime_to_source_date_epoch 1" --define "use_source_date_epoch_as_buildtime 1" \
    --define "_prefix /usr" --define "_sysconfdir /etc" --define "_docdir /usr/share/doc" \
    --define "package_version $PACKAGE_VERSION" \
    "$work/$name.spec" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
for file in "$work"/out/*/*.rpm; do
    mv "$file" "$OUT/"
    echo "$OUT/${file##*/}"
done
