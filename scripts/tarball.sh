#!/usr/bin/env bash
# Build a program that needs no shared libraries, and pack it with its man pages, completions and
# everything else that scripts/install.sh installs. The last line of the output is the path of the
# tarball.
#
# usage: scripts/tarball.sh
#
# Installs musl-tools (by apt-get) and Rust's library for musl (by rustup) if they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_static_deps >&2

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
name=littlefs-progs-$version-${static_target/-unknown/}
stage=$target/tarball
rm -rf "$stage"
# The settings are those of scripts/wheel.sh, so that both scripts use the same build.
DESTDIR=$stage CARGO_PROFILE_RELEASE_STRIP=symbols \
    scripts/install.sh --prefix /usr/local --target "$static_target" >&2
mv "$stage/usr/local" "$stage/$name"
install -m 644 -t "$stage/$name/share/doc/littlefs-progs" LICENSE-MIT LICENSE-APACHE

# No names and times of this machine, so that the same sources always give the same tarball.
tar --create --directory "$stage" --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" "$name" | gzip -9n >"$target/$name.tar.gz"
echo "$target/$name.tar.gz"
