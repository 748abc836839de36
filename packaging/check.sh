#!/bin/sh
# packaging/check.sh DEB RPM: what the distributions' own checkers say of the packages and of what is
# in them. Prints what was checked; fails at the first finding that is not explained.
set -eu
cd "$(dirname "$0")/.."
deb=$1 rpm=$2
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

lintian --fail-on error,warning,info --tag-display-limit 0 --allow-root --no-cfg "$deb"
echo "ok lintian"
rpmlint --strict --config packaging/rpm/rpmlint.toml "$rpm" >"$tree/rpmlint" || {
    cat "$tree/rpmlint" >&2
    exit 1
}
echo "ok rpmlint"

dpkg-deb --extract "$deb" "$tree/deb"
mkdir "$tree/rpm"
rpm2archive - <"$rpm" | tar -xz -C "$tree/rpm"
for package in deb rpm; do
    root=$tree/$package
    for page in "$root"/usr/share/man/man?/*.gz; do
        page_text=$tree/$(basename "$page" .gz)
        gunzip -c "$page" >"$page_text"
        mandoc -T lint -W warning "$page_text"
    done
    for file in "$root"/usr/share/bash-completion/completions/*; do bash -n "$file"; done
    # Each program's own pages, units and completions, and nothing that the other lacks.
    (cd "$root" && find . -type f ! -path './usr/share/doc/*' ! -path './usr/share/lintian/*' ! -path './usr/share/licenses/*' \
        ! -name '*.preset' | sed 's|vendor-completions|site-functions|' | sort) >"$tree/$package.files"
done
diff "$tree/deb.files" "$tree/rpm.files"
echo "ok manual pages, completions, the same files in both packages"

# What systemd itself says of them is asked in a booted one: `units_verify` of tests/tools/systemd_checks.
for unit in user/codex-api-proxy.service user/codex-api-proxy.socket system/codex-api-proxy@.service system/codex-api-proxy@.socket; do
    cmp "$tree/deb/usr/lib/systemd/$unit" "systemd/$unit"
done
echo "ok units are those of the sources"
