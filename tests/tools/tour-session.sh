#!/bin/bash
# What tests/tools/tour.sh records, run by root in a booted systemd: alice's machine, where instead of
# a login there is a scripted upstream.
set -euo pipefail

useradd --create-home --shell /bin/bash alice
loginctl enable-linger alice
id=$(id -u alice)
systemd-run --quiet --unit=upstream /usr/lib/tour/scripted-upstream 127.0.0.1:9999
mkdir -p /home/alice/.config/codex-api-proxy
cat >/home/alice/.config/codex-api-proxy/config.toml <<'END'
codex_configs = [
  'model_provider="scripted"',
  'model_providers.scripted={name="scripted",base_url="http://127.0.0.1:9999/v1",wire_api="responses"}',
]
END
chmod 600 /home/alice/.config/codex-api-proxy/config.toml
chown -R alice:alice /home/alice/.config
until [ -S "/run/user/$id/systemd/private" ]; do sleep 0.1; done
mkdir -p /var/lib/apt/lists/partial
clear

type_in() {
    local prompt=$1 line=$2 at
    printf '%s' "$prompt"
    for ((at = 0; at < ${#line}; at++)); do
        printf '%s' "${line:at:1}"
        sleep 0.025
    done
    sleep 0.4
    echo
}
note() { printf '\033[36m# %s\033[0m\n' "$*"; }
root() {
    type_in $'\033[31mroot@laptop\033[0m:~# ' "$1"
    (cd /root && bash -c "$1")
    sleep 0.8
}
alice() {
    type_in $'\033[32malice@laptop\033[0m:~$ ' "$1"
    (cd /home/alice && runuser -u alice -- env HOME=/home/alice USER=alice XDG_RUNTIME_DIR="/run/user/$id" \
        DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$id/bus" COLUMNS=100 SYSTEMD_PAGER= bash -o pipefail -c "$1")
    sleep 1.2
}

note "A Debian machine with the real Codex CLI; the model behind it is a script."
root 'dpkg --install codex-api-proxy_*.deb | tail -3'
alice 'codex-api-proxy start --engine app-server'
alice "curl -sS http://127.0.0.1:8765/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\":\"codex-local\",\"messages\":[{\"role\":\"user\",\"content\":\"Reply with exactly: pong\"}]}' | jq .choices[0].message.content"
clear
note "Streamed, word by word:"
alice "curl -sSN http://127.0.0.1:8765/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\":\"codex-local\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"[[delay=300]]Reply with exactly: one two three\"}]}' |
    sed -u -n 's/^data: //p' | jq --unbuffered -R -r 'fromjson? | .choices[0].delta.content // empty'"
clear
alice 'codex-api-proxy status'
alice 'journalctl --user -u codex-api-proxy -o cat -n 4 | cut -c1-98'
clear
alice 'codex-api-proxy doctor'
clear
alice 'systemctl --user enable codex-api-proxy      # at each login'
alice 'codex-api-proxy restart --max-queue-size 32  # settings are remembered'
alice 'man -P cat codex-api-proxy | sed -n 1,16p'
alice 'codex-api-proxy stop'
sleep 2
