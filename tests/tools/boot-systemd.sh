#!/bin/bash
# Boots a real systemd and runs one command in it, as root; then everything is gone.
#
#   boot-systemd.sh [--layer DIR] [--bind FROM:TO]… [--time SECONDS] -- COMMAND…
#
# The machine in there has namespaces of its own for processes, mounts, network (only lo), names,
# IPC and control groups. Its files are this machine's under a layer of memory, with DIR copied on
# top; root in there finds that layer, which has what was written in there and nothing else, below
# /run/boot-systemd/layer. Exit status: the command's; 97 if no systemd could be booted here, the reason on stderr.
set -euo pipefail

cannot() {
    echo "boot-systemd: $*" >&2
    exit 97
}

# First process of the new namespaces: builds the machine's files, then becomes systemd.
become_pid_1() {
    local root=$BOOT/root unit device pair
    mount --make-rprivate /
    # In memory, because an upper layer must not lie below its own lower one.
    mount -t tmpfs -o mode=0755 tmpfs "$BOOT"
    mkdir "$BOOT/upper" "$BOOT/work" "$root"
    [ -z "$LAYER" ] || cp -a "$LAYER/." "$BOOT/upper/"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$BOOT/upper,workdir=$BOOT/work" "$root"

    mkdir -p "$root"/{proc,sys,dev,run,tmp,.old}
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=0755 tmpfs "$root/run"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
    mkdir "$root"/dev/{pts,shm}
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    for device in null zero full random urandom tty; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for pair in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${pair%%:*}" "$root/dev/${pair##*:}"; done
    mkdir -m 0700 "$root/run/boot-systemd"
    mkdir "$root/run/boot-systemd/layer"
    mount --bind -o ro "$BOOT/upper" "$root/run/boot-systemd/layer"
    for pair in $BINDS; do
        mkdir -p "$root${pair##*:}"
        mount --bind -o ro "${pair%%:*}" "$root${pair##*:}"
    done

    # What would touch the hardware, the host's kernel settings or the network.
    mkdir -p "$root/etc/systemd/system"
    for unit in systemd-sysctl systemd-binfmt systemd-modules-load systemd-udevd systemd-udev-trigger \
        systemd-timesyncd systemd-networkd systemd-resolved systemd-firstboot networking ssh docker cron \
        getty@tty1 console-getty e2scrub_reap; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
    done
    for unit in apt-daily apt-daily-upgrade man-db dpkg-db-backup fstrim; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit.timer"
    done
    ln -sf "$(dirname "$SYSTEMD")/system/multi-user.target" "$root/etc/systemd/system/default.target"
    rm -f "$root/etc/machine-id"
    systemd-id128 new >"$root/etc/machine-id"

    ip link set lo up
    hostname booted
    cd "$root"
    pivot_root . .old
    umount -l /.old
    # systemd leaves this to whoever starts a container; without it LoadCredential= gives nothing.
    mount --make-rshared /
    exec env -i container=boot PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        "$SYSTEMD" --system --log-target=journal --show-status=no
}

if [ "${1:-}" = --become-pid-1 ]; then
    become_pid_1
fi

LAYER='' BINDS='' time=600
while [ $# -gt 0 ]; do
    case $1 in
        --layer) LAYER=$(realpath "$2") && shift 2 ;;
        --bind) BINDS="$BINDS $2" && shift 2 ;;
        --time) time=$2 && shift 2 ;;
        --) shift && break ;;
        *) cannot "unknown option $1" ;;
    esac
done
[ $# -gt 0 ] || cannot "no command given"

[ "$(id -u)" = 0 ] || cannot "needs root"
SYSTEMD=
for path in /usr/lib/systemd/systemd /lib/systemd/systemd; do
    [ ! -x $path ] || SYSTEMD=$path
done
[ -n "$SYSTEMD" ] || cannot "systemd is not installed"
for tool in unshare nsenter ip dbus-daemon systemd-id128 loginctl; do
    command -v $tool >/dev/null || cannot "$tool is not installed"
done
script=$(realpath "$0")
BOOT=$(mktemp -d /tmp/boot-systemd.XXXXXX)
export LAYER BINDS SYSTEMD BOOT
group=boot-systemd.$$

# A control group of its own, or two machines at once would see each other's services.
in_group() {
    unshare --mount --propagation private sh -c "mount -t cgroup2 none /mnt 2>/dev/null && cd /mnt && $1"
}
in_group "mkdir $group" || { rmdir "$BOOT"; cannot "there is no control group (v2) to be had"; }

unshare --mount --propagation private sh -c "
    mount -t cgroup2 none /mnt && echo \$\$ >/mnt/$group/cgroup.procs && umount /mnt &&
    exec unshare --mount --propagation private --pid --fork --kill-child=KILL --mount-proc --net --uts --ipc \
        --cgroup bash $script --become-pid-1" </dev/null >"$BOOT.log" 2>&1 &
outer=$!

take_down() {
    local status=$?
    trap - EXIT INT TERM
    in_group "echo 1 >$group/cgroup.kill; n=0
        until find $group -depth -type d -exec rmdir {} + || [ \$n = 100 ]; do n=\$((n+1)); sleep 0.1; done" \
        2>/dev/null || :
    kill -KILL $outer 2>/dev/null || :
    wait $outer 2>/dev/null || :
    rm -rf "$BOOT" "$BOOT.log"
    exit $status
}
trap take_down EXIT INT TERM

# The only child of the inner unshare, once it has become systemd.
pid=
for _ in $(seq 300); do
    pid=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null | tr -d ' ') || :
    [ -z "$pid" ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != systemd ] || break
    kill -0 $outer 2>/dev/null || cannot "no namespaces to be had: $(tail -1 "$BOOT.log")"
    pid=
    sleep 0.1
done
[ -n "$pid" ] || cannot "systemd did not start: $(tail -1 "$BOOT.log")"

enter() {
    nsenter --target "$pid" --mount --pid --net --uts --ipc --cgroup --root --wd -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
}
for _ in $(seq 300); do
    [ ! -S "/proc/$pid/root/run/systemd/private" ] || break
    sleep 0.1
done
state=$(enter timeout 60 systemctl is-system-running --wait) || :
case $state in
    running | degraded) ;;
    *) cannot "systemd did not finish booting: ${state:-no answer}" ;;
esac
timeout -k 5 "$time" nsenter --target "$pid" --mount --pid --net --uts --ipc --cgroup --root --wd -- \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
