#!/bin/sh
# `make demo`: the release program and the real Codex CLI against the scripted upstream on loopback; no
# login, no network, nothing kept. It answers once, then stays to be tried; at the end of a pipe it ends.
# Arguments go to `serve`.
set -eu
cd "$(dirname "$0")/../.."
tests/tools/need-cargo.sh
command -v curl >/dev/null || { echo "curl is not installed; the demo asks with it." >&2; exit 1; }
codex=$(tests/tools/get-codex.sh any)
if [ ! -e target/release/codex-api-proxy ]; then
    echo "The first build takes some seven minutes on two cores."
fi
packaging/build.sh
cargo build --example scripted-upstream

work=$PWD/target/demo
rm -rf "$work"
mkdir -p "$work/home"
upstream='' server=''
stop() {
    for pid in $server $upstream; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap stop EXIT
trap 'exit 130' INT TERM

# Prints the first match of a pattern in a file, as soon as it is there and while the process lives.
await() {
    for _ in $(seq 200); do
        found=$(sed -n "s|.*\($1\).*|\1|p" "$2" | head -n 1)
        if [ -n "$found" ]; then
            echo "$found"
            return
        fi
        kill -0 "$3" 2>/dev/null || break
        sleep 0.1
    done
    echo "Nothing like $1 appeared in $2:" >&2
    cat "$2" >&2
    return 1
}

target/debug/examples/scripted-upstream >"$work/upstream" 2>"$work/upstream.log" &
upstream=$!
model=$(await 'http://[0-9.:]*/v1' "$work/upstream" "$upstream")

env -u CODEX_HOME HOME="$work/home" XDG_CONFIG_HOME="$work/config" target/release/codex-api-proxy serve \
    --port=0 --engine=app-server "--codex-bin=$codex" --codex-config='model_provider="mock"' \
    --codex-config="model_providers.mock={name=\"mock\",base_url=\"$model\",wire_api=\"responses\"}" \
    "$@" >"$work/server.log" 2>&1 &
server=$!
url=$(await 'http://127[0-9.:]*' "$work/server.log" "$server")
for _ in $(seq 200); do
    curl -fs "$url/ready" >/dev/null && break
    sleep 0.1
done

# The text of the deltas, as it comes. This answer needs no escapes.
words() {
    while IFS= read -r line; do
        case $line in
            *'"delta":{"content":"'*)
                text=${line#*'"delta":{"content":"'}
                printf '%s' "${text%%'"}'*}"
                ;;
            'data: [DONE]'*) done=yes ;;
        esac
    done
    echo
    [ -n "${done-}" ]
}
ask() { printf '{"model":"codex-local","stream":true,"messages":[{"role":"user","content":"%s"}]}' "$1"; }

answer='This is the answer of a scripted model. Everything else is real: your request came to codex-api-proxy, the Codex CLI took it on, and each word travels back the moment it is there.'
echo
echo "Who answers here?"
if ! curl -sSN --fail-with-body "$url/v1/chat/completions" -H 'Content-Type: application/json' \
    -d "$(ask "[[delay=90]]Reply with exactly: $answer")" | tee "$work/answer" | words; then
    echo "demo: the answer is not complete; it is in $work/answer, the server's log in $work/server.log" >&2
    exit 1
fi
echo
echo "Base URL  $url/v1     (the page for a browser: $url/)"
echo "Try       curl -sS $url/v1/chat/completions -H 'Content-Type: application/json' \\"
echo "            -d '{\"model\":\"codex-local\",\"messages\":[{\"role\":\"user\",\"content\":\"Reply with exactly: pong\"}]}'"
[ -t 1 ] || exit 0
echo "Stop      Ctrl-C"
wait "$server"
