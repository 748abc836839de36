#!/bin/sh
# Gets Debian's Rust compiler with the sources of the standard library, for check-macos.sh, into
# target/macos-rust. Unpacked, not installed: it would be in the way of the machine's own. Where
# there is none to be had it says so, and the check is skipped.
set -eu
cd "$(dirname "$0")/../.."
to=target/macos-rust
[ ! -x $to/usr/bin/rustc ] || exit 0
# Not needed beside the target's own standard library, and there only on Debian.
! ls "$(rustc --print target-libdir --target aarch64-apple-darwin)"/libcore-*.rlib >/dev/null 2>&1 || exit 0
command -v apt-get >/dev/null || exit 0

skip() {
    rm -rf $to.new
    echo "No macOS type check: $*"
    exit 0
}

# With whatever of theirs is missing here.
# shellcheck disable=SC2086 # a list of words
download() {
    rm -rf $to.new && mkdir -p $to.new/packages
    list=$(apt-get install --simulate --no-install-recommends rustc-web rust-web-src) &&
        list=$(echo "$list" | sed -n 's/^Inst \([^ ]*\) .*/\1/p') &&
        (cd $to.new/packages && apt-get download -qq -o APT::Sandbox::User=root $list)
}
# With an old list of packages this would get an old compiler.
[ "$(id -u)" != 0 ] || apt-get update -qq
error=$(download 2>&1) || skip "$(echo "$error" | tail -1)"
[ -n "$(ls $to.new/packages)" ] || skip "Debian's rustc-web is installed, but not to be had for unpacking"
echo "Unpacking into $to: $(cd $to.new/packages && echo ./*)"
for package in "$to".new/packages/*.deb; do
    case $package in
        # Of a source tree of 300 MB, what cargo wants.
        */rust-web-src_*) dpkg --fsys-tarfile "$package" |
            tar -x -C $to.new --wildcards --no-wildcards-match-slash './usr/lib/*' './usr/src/*/library' ;;
        *) dpkg --extract "$package" $to.new ;;
    esac
done
rm -r $to.new/packages
version=$(LD_LIBRARY_PATH=$(echo $to.new/usr/lib/*-linux-gnu*) $to.new/usr/bin/rustc --version) ||
    skip "Debian's rustc does not run here"
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
dpkg --compare-versions "$(echo "$version" | cut -d' ' -f2)" ge "$oldest" || skip "Debian has only $version"
rm -rf $to && mv $to.new $to
