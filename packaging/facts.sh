# Sourced by the scripts here, from the top of the sources: what every package must agree on.
# shellcheck shell=sh disable=SC2034 # used by those who source it
name=codex-api-proxy
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The version that a package carries may be another one in tests of upgrades.
: "${PACKAGE_VERSION:=$version}"

# The time that stands in packages: of the last commit, so that who builds them again gets the same bytes.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=$(stat -c %Y CHANGELOG.md)
fi
export SOURCE_DATE_EPOCH

# The items of a version in CHANGELOG.md, one a line, as text: those of its section, or what is
# unreleased where it has none.
changes() {
    section=$1
    grep -q "^## \[$section\]" CHANGELOG.md || section=Unreleased
    awk -v heading="[$section]" '
        /^## / { inside = $2 == heading; next }
        /^\[/ || /^### / || !inside { next }
        /^- / { if (item) print item; item = substr($0, 3); next }
        /^  / { item = item " " substr($0, 3) }
        END { if (item) print item }
    ' CHANGELOG.md | tr -d '`*'
}

# need COMMAND PACKAGE: what is missing, by the name Debian gives it.
need() {
    command -v "$1" >/dev/null || {
        echo "$1 is not installed (Debian: apt-get install $2)" >&2
        exit 1
    }
}

# The program to pack, and the notices of the crates in it; $built_for is its target, if not this machine.
built() {
    : "${BIN:=target/release/$name}"
    if [ ! -x "$BIN" ]; then
        echo "$BIN does not exist; build it first: make build" >&2
        exit 1
    fi
    need python3 python3
    CRATES=$(dirname "$BIN")/crates.txt
    # Not in place: another package may be in the making.
    packaging/crates.py ${built_for:+"$built_for"} >"$CRATES.$$"
    mv "$CRATES.$$" "$CRATES"
    BIN=$(realpath "$BIN") CRATES=$(realpath "$CRATES")
    export BIN CRATES
}

# Where packages go, as an absolute path.
folder() {
    : "${OUT:=target/packages}"
    mkdir -p "$OUT"
    OUT=$(realpath "$OUT")
}
