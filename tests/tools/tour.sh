#!/bin/bash
# `make tour`: records the first five minutes with the Debian package in a booted systemd, with the real
# Codex CLI and a scripted upstream, as packaging/first-five-minutes.svg (or the file named). Fails if any command
# of the recording fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
picture=$(realpath "${1:-packaging/first-five-minutes.svg}")
codex=$(realpath "$(echo target/codex-cli/node_modules/@openai/codex-*/vendor/*)")
deb=$(packaging/deb.sh)
cargo build --quiet --example scripted-upstream
[ -x target/tools/bin/termtosvg ] || target/tools/bin/pip install --quiet --disable-pip-version-check termtosvg==1.1.0

work=$(mktemp -d "$PWD/target/tour.XXXXXX")
trap 'rm -rf "$work"' EXIT
layer=$work/layer
install -D target/debug/examples/scripted-upstream "$layer/usr/lib/tour/scripted-upstream"
install -D tests/tools/tour-session.sh "$layer/usr/lib/tour/session"
install -D -m 644 "$deb" "$layer/root/$(basename "$deb")"
mkdir -p "$layer/usr/local/bin"
ln -s /opt/codex/bin/codex "$layer/usr/local/bin/codex"
# The recorder does not tell how its command ended.
cat >"$work/command" <<END
#!/bin/sh
tests/tools/boot-systemd.sh --layer "$layer" --bind "$codex:/opt/codex" -- env TERM=xterm-256color /usr/lib/tour/session
echo \$? >"$work/status"
END
chmod +x "$work/command"
# It ends with its input, so there is one that lasts.
mkfifo "$work/input"
exec 3<>"$work/input"
TERM=xterm-256color target/tools/bin/termtosvg "$work/picture.svg" --command "$work/command" --screen-geometry 100x32 \
    --min-frame-duration 150 --max-frame-duration 2500 --loop-delay 6000 --template window_frame <&3 >"$work/log"
if [ "$(cat "$work/status")" != 0 ]; then
    echo "tour: a command failed; the last screen:" >&2
    grep -o '<text[^>]*>[^<]*' "$work/picture.svg" | sed 's/<[^>]*>//' | tail -n 40 >&2
    exit 1
fi
mv "$work/picture.svg" "$picture"
echo "$picture"
