#!/bin/sh
# `make run`: gets what is missing, says how to log in while it builds, serves. Arguments go to `serve`.
set -eu
cd "$(dirname "$0")/../.."
tests/tools/need-cargo.sh
codex=$(tests/tools/get-codex.sh any)
logged_in() { "$codex" login status >/dev/null 2>&1; }
if ! logged_in; then
    echo "Codex is not logged in yet. While this builds, type in another terminal:"
    echo
    echo "  $codex login"
    echo
    echo "(Without an account, \`make demo\` shows the same server with a scripted model.)"
fi
if [ ! -e target/release/codex-api-proxy ]; then
    echo "The first build takes some five minutes on two cores; later ones take as long as what changed."
fi
packaging/build.sh
if ! logged_in; then
    echo "Codex is still not logged in: requests get an error that says so until \`$codex login\` is done."
fi
exec target/release/codex-api-proxy serve "--codex-bin=$codex" "$@"
