#!/bin/sh
# `make demo`: this server and the real Codex CLI against the scripted upstream on loopback; no
# login, no network, nothing kept. Arguments go to `serve`.
set -eu
cd "$(dirname "$0")/../.."
tests/tools/need-cargo.sh
command -v curl >/dev/null || { echo "curl is not installed; the demo asks with it." >&2; exit 1; }
codex=$(tests/tools/get-codex.sh any)
cargo build --bins --example scripted-upstream

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

env -u CODEX_HOME HOME="$work/home" XDG_CONFIG_HOME="$work/config" target/debug/codex-api-proxy serve \
    --port=0 --engine=app-server "--codex-bin=$codex" --codex-config='model_provider="mock"' \
    --codex-config="model_providers.mock={name=\"mock\",base_url=\"$model\",wire_api=\"responses\"}" \
    "$@" >"$work/server.log" 2>&1 &
server=$!
url=$(await 'http://127[0-9.:]*' "$work/server.log" "$server")
for _ in $(seq 200); do
    curl -fs "$url/ready" >/dev/null && break
    sleep 0.1
done

question='[[delay=30]] Good morning! Who answers here?'
echo "\$ curl -N $url/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\":\"codex-local\",\"stream\":true,…}'"
if ! curl -sSN --fail-with-body "$url/v1/chat/completions" -H 'Content-Type: application/json' \
    -d "{\"model\":\"codex-local\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"$question\"}]}" |
    tee "$work/answer"; then
    echo "demo: the request failed; the server's log is $work/server.log" >&2
    exit 1
fi
if ! grep -q '^data: \[DONE\]' "$work/answer"; then
    echo "demo: the answer is not complete; the server's log is $work/server.log" >&2
    exit 1
fi
echo "demo: complete. The answer came from the real Codex CLI ($codex), the model behind it was scripted."
