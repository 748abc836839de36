#!/bin/sh
# Whether all that names a version names the same one, and CHANGELOG.md has something to say of it.
# With --released, it must have a section of its own there.
set -eu
cd "$(dirname "$0")/.."
. packaging/facts.sh
status=0
agree() {
    if [ "$2" != "$version" ]; then
        echo "$1 says version ${2:-nothing}, Cargo.toml says $version" >&2
        status=1
    fi
}
agree Cargo.lock "$(sed -n "/^name = \"$name\"/,/^version/ s/^version = \"\(.*\)\"/\1/p" Cargo.lock)"
agree packaging/arch/PKGBUILD "$(sed -n 's/^pkgver=//p' packaging/arch/PKGBUILD)"
[ ! -x "target/release/$name" ] || agree "target/release/$name" "$("target/release/$name" --version | cut -d' ' -f2)"
if [ -z "$(changes "$version")" ]; then
    echo "CHANGELOG.md has nothing of version $version" >&2
    status=1
fi
if [ "${1:-}" = --released ] && ! grep -q "^## \[$version\] - [0-9-]*\$" CHANGELOG.md; then
    echo "CHANGELOG.md has no section of version $version" >&2
    status=1
fi
exit $status
