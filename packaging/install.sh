#!/bin/sh
# Installs all that belongs to codex-api-proxy; `make install` and every package use it.
#
#   packaging/install.sh [--uninstall]
#
# Variables: DESTDIR (a tree to install into, none for this machine), PREFIX (/usr/local),
# SYSCONFDIR (/etc), BIN (the built program, which must run here), CRATES (the notices of the crates
# in it, from crates.py), ZSHDIR (site-functions, below PREFIX/share/zsh). Nothing is enabled or started.
set -eu
umask 022
# In the sources it stands in packaging/, in a release's archive at the top.
cd "$(dirname "$0")"
[ -d systemd ] || cd ..

name=codex-api-proxy
built=./$name
[ -x "$built" ] || built=target/release/$name
: "${DESTDIR:=}" "${PREFIX:=/usr/local}" "${SYSCONFDIR:=/etc}" "${BIN:=$built}" "${ZSHDIR:=site-functions}"
: "${CRATES:=crates.txt}"
root=$DESTDIR$PREFIX
bin=$root/bin/$name
config=$DESTDIR$SYSCONFDIR/$name/config.toml
doc=$root/share/doc/$name
man=$root/share/man
units=$root/lib/systemd
bash=$root/share/bash-completion/completions/$name
zsh=$root/share/zsh/$ZSHDIR/_$name
fish=$root/share/fish/vendor_completions.d/$name.fish

# What a running systemd and its journal know of the files, on the machine itself only.
reread() {
    if [ -z "$DESTDIR" ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload || :
        journalctl --update-catalog || :
    fi
}

if [ "${1:-}" = --uninstall ]; then
    rm -f "$bin" "$man/man1/$name.1" "$man/man5/$name.toml.5" "$man/man7/$name-api.7" "$man/man8/$name.service.8" "$bash" "$zsh" "$fish" \
        "$units/user/$name.service" "$units/user/$name.socket" "$units/system/$name@.service" \
        "$units/system/$name@.socket" "$units/catalog/$name.catalog"
    rm -f "$units/user/$name.service.d/hardening.conf.example"
    rm -rf "$doc"
    rmdir "$units/user/$name.service.d" 2>/dev/null || :
    # Settings that somebody made are theirs.
    if cmp -s etc/$name.toml "$config"; then
        rm "$config"
        rmdir "${config%/*}" 2>/dev/null || :
    elif [ -e "$config" ]; then
        echo "kept, because it was edited: $config"
    fi
    reread
    exit
fi

if [ ! -x "$BIN" ]; then
    echo "$BIN does not exist; build it first: make build" >&2
    exit 1
fi

# put MODE FROM TO: copies one file, making its folder.
put() {
    mkdir -p "${3%/*}"
    install -m "$1" "$2" "$3"
}

# put_naming FROM TO: a text that names files below /usr, for where they really are.
put_naming() {
    sed -e "s|/usr/bin/$name|$PREFIX/bin/$name|g" -e "s|/usr/share/doc/$name|$PREFIX/share/doc/$name|g" "$1" >"$made/text"
    put 644 "$made/text" "$2"
}

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$BIN" generate man --output "$made" >/dev/null
for shell in bash zsh fish; do "$BIN" generate completions $shell >"$made/$shell"; done

put 755 "$BIN" "$bin"
for page in $name.1 $name.toml.5 $name-api.7 $name.service.8; do put_naming "$made/$page" "$man/man${page##*.}/$page"; done
put 644 "$made/bash" "$bash"
put 644 "$made/zsh" "$zsh"
put 644 "$made/fish" "$fish"
for file in README.md CHANGELOG.md LICENSE; do put 644 $file "$doc/$file"; done
for page in MIGRATION.md REFERENCE.md; do
    # In a release archive beside the others.
    from=$page
    [ -e $from ] || from=packaging/$page
    put 644 "$from" "$doc/$page"
done
[ ! -e "$CRATES" ] || put 644 "$CRATES" "$doc/crates.txt"

if [ "$(uname)" = Darwin ]; then
    for file in launchd/*.plist; do put_naming "$file" "$doc/$file"; done
else
    put_naming systemd/user/$name.service "$units/user/$name.service"
    put_naming systemd/user/$name.socket "$units/user/$name.socket"
    # Its name does not end in .conf: systemd passes it over until somebody copies it.
    put_naming systemd/user/$name.service.d/hardening.conf.example "$units/user/$name.service.d/hardening.conf.example"
    put_naming "systemd/system/$name@.service" "$units/system/$name@.service"
    put_naming "systemd/system/$name@.socket" "$units/system/$name@.socket"
    example=quadlet
    [ -d $example ] || example=packaging/quadlet
    put_naming $example/$name.container "$doc/$name.container"
    put_naming $example/Containerfile "$doc/Containerfile"
    put 644 systemd/$name.catalog "$units/catalog/$name.catalog"
    case $PREFIX in
        /usr | /usr/local) ;;
        *) [ -n "$DESTDIR" ] || echo "systemd does not look into $units: each user types $PREFIX/bin/$name install" ;;
    esac
fi

# On this machine itself settings may have been made already; in a package's tree they never were.
if [ -n "$DESTDIR" ] || [ ! -e "$config" ]; then
    if [ -z "$DESTDIR" ] && ! mkdir -p "${config%/*}" 2>/dev/null; then
        echo "left out, as ${config%/*} cannot be made: $config; your own: $name config init"
    else
        put 644 etc/$name.toml "$config"
    fi
elif ! cmp -s etc/$name.toml "$config"; then
    echo "kept, because it was edited: $config"
fi
reread
