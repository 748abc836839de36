#!/bin/sh
# `make run`: gets what is missing, says how to log in, serves. Arguments go to `serve`.
set -eu
cd "$(dirname "$0")/../.."
tests/tools/need-cargo.sh
codex=$(tests/tools/get-codex.sh any)
packaging/build.sh
if ! "$codex" login status >/dev/null 2>&1; then
    echo "Codex is not logged in, so requests will be answered with an error. In another terminal:"
    echo "  $codex login"
    echo "Without an account, \`make demo\` shows the same server with a scripted model."
fi
exec target/release/codex-api-proxy serve "--codex-bin=$codex" "$@"
