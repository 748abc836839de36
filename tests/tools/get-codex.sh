#!/bin/sh
# Prints the path of a Codex CLI. `any` takes the one on PATH if there is one; `pinned` wants the
# version of the Makefile. What is missing is installed from npm into target/codex-cli only.
set -eu
cd "$(dirname "$0")/../.."
wanted=${1:-any}
folder=$PWD/target/codex-cli
if [ "$wanted" = any ] && command -v codex; then
    exit 0
fi
installed=$(sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' "$folder/node_modules/@openai/codex/package.json" 2>/dev/null | head -n 1)
if [ "$installed" != "${CODEX_VERSION:?run this through make}" ]; then
    if ! command -v npm >/dev/null; then
        echo "The Codex CLI is not installed, and neither is npm to get it with." >&2
        echo "Install Node.js (https://nodejs.org) and run this again, or install Codex yourself:" >&2
        echo "  https://github.com/openai/codex" >&2
        exit 1
    fi
    echo "Installing the Codex CLI $CODEX_VERSION into target/codex-cli (this project only)." >&2
    npm install --prefix "$folder" --no-audit --no-fund --loglevel=error "@openai/codex@$CODEX_VERSION" >&2
fi
echo "$folder/node_modules/.bin/codex"
