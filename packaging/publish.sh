#!/bin/sh
# `make publish VERSION=x.y.z`: sets the version everywhere and commits it, checks everything, fills
# target/release-x.y.z, tags, and publishes the crate. With DRY_RUN=1 it does so in a clone below
# target/, where nothing leaves this machine. REPOSITORY is where the release's files will be found,
# for Homebrew, as https://example.com/codex-api-proxy.
set -eu
cd "$(dirname "$0")/.."
: "${VERSION:=}" "${DRY_RUN:=}" "${REPOSITORY:=}"
. packaging/facts.sh
if [ -z "$VERSION" ]; then
    echo "usage: make publish VERSION=x.y.z [DRY_RUN=1] [REPOSITORY=URL]   (the sources say $version)" >&2
    exit 64
fi
if [ -n "$(git status --porcelain)" ]; then
    echo "publish: there are uncommitted changes" >&2
    exit 1
fi
release=$PWD/target/release-$VERSION
if [ -n "$DRY_RUN" ]; then
    rm -rf target/publish && git clone --quiet . target/publish
    # What was built, and what the tests installed, serves the clone too.
    ln -s "$PWD/target" target/publish/target
    cd target/publish
fi

packaging/set-version.sh "$VERSION"
if [ -n "$REPOSITORY" ]; then
    # Also for `cargo binstall`.
    sed -i '/^repository = /d' Cargo.toml
    sed -i "s|^readme = .*|&\nrepository = \"$REPOSITORY\"|" Cargo.toml
fi
if [ -n "$(git status --porcelain)" ]; then
    git commit --quiet --all --message "Version $VERSION"
fi
# The times in the packages are this commit's.
unset SOURCE_DATE_EPOCH
make --no-print-directory release-check

rm -rf "$release" && mkdir -p "$release"
for file in target/packages/*.deb target/packages/*.rpm target/packages/*.tar.gz; do cp "$file" "$release/"; done
cp packaging/arch/PKGBUILD packaging/arch/*.install packaging/homebrew/$name.rb CHANGELOG.md "$release/"
(
    cd "$release"
    sum=$(sha256sum "$name-$VERSION.tar.gz" | cut -d' ' -f1)
    sed -i "s/^sha256sums=.*/sha256sums=('$sum')/" PKGBUILD
    if [ -n "$REPOSITORY" ]; then
        archive=$REPOSITORY/releases/download/v$VERSION/$name-$VERSION.tar.gz
        sed -i "s|@HOMEPAGE@|$REPOSITORY|; s|@URL@|$archive|; s|@SHA256@|$sum|" $name.rb
    else
        echo "Homebrew's formula is left out: no REPOSITORY was given"
        rm $name.rb
    fi
    sha256sum -- * >SHA256SUMS
)
if [ -n "$DRY_RUN" ]; then
    cargo publish --locked --target-dir target/crate --dry-run
    echo "publish: a dry run. $release holds what would be released; nothing was tagged or uploaded."
else
    cargo publish --locked --target-dir target/crate
    git tag --annotate "v$VERSION" --message "Version $VERSION"
    echo "publish: $release holds the release's files. Last step: git push --follow-tags"
fi
