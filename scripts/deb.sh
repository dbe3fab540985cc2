#!/usr/bin/env bash
# Build the Debian package. The last line of the output is its path.
#
# usage: scripts/deb.sh
#
# Installs cargo-deb below target/tools if it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
[ "$target" = "$PWD/target" ] || {
    echo "unset CARGO_TARGET_DIR: Cargo.toml lists the files of the package below target/" >&2
    exit 1
}
# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_deb_deps
[ -x target/tools/bin/cargo-deb ] ||
    cargo install --quiet --locked --version 3.6.0 --root target/tools cargo-deb >&2

rm -rf target/dist
DESTDIR=$PWD/target/dist scripts/install.sh --prefix /usr >&2
gzip -9n target/dist/usr/share/man/man?/*
target/tools/bin/cargo-deb --no-build --quiet --output target/littlefs-progs.deb >&2
echo "$PWD/target/littlefs-progs.deb"
