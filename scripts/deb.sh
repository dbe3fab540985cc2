#!/usr/bin/env bash
# Build the Debian package. The last line of the output is its path.
#
# usage: scripts/deb.sh [--built DIR]
#
# --built DIR  build nothing, and pack the programs littlefs and littlefs-docs in DIR, which is an
#              absolute path
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_deb_deps

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
dist=$target/dist deb=$target/littlefs-progs.deb
rm -rf "$dist"
DESTDIR=$dist scripts/install.sh --prefix /usr "$@" >&2
gzip -9n "$dist"/usr/share/man/man?/*
strip --strip-unneeded "$dist/usr/bin/littlefs"
doc=$dist/usr/share/doc/littlefs-progs
{
    printf 'littlefs-progs is distributed under the MIT license or the Apache License 2.0, as you wish.\n'
    printf 'On Debian systems, the latter is in /usr/share/common-licenses/Apache-2.0.\n\n'
    cat LICENSE-MIT
} >"$doc/copyright"
gzip -9nc CHANGELOG.md >"$doc/changelog.gz"

# dpkg-shlibdeps looks for debian/control, but takes nothing from it.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debian"
touch "$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O "$dist/usr/bin/littlefs" | sed 's/^shlibs:Depends=//')
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
size=$(du --summarize --apparent-size --block-size=1K "$dist" | cut -f 1)

mkdir "$dist/DEBIAN"
cp scripts/debian/* "$dist/DEBIAN"
chmod 755 "$dist/DEBIAN"/*
(cd "$dist" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$dist/DEBIAN/md5sums"
cat >"$dist/DEBIAN/control" <<END
Package: littlefs-progs
Version: $version-1
Architecture: $(dpkg --print-architecture)
Maintainer: littlefs-progs developers <littlefs-progs@localhost>
Installed-Size: $size
Depends: fuse3, $libraries
Section: utils
Priority: optional
Description: mount littlefs images, and make, inspect and check them
 Mounts littlefs images (ESP32, RP2040, MicroPython, Zephyr...) through FUSE,
 and makes, describes, checks and repairs them. Comes with the helpers that
 mount(8), umount(8), mkfs(8) and fsck(8) look for, and with a unit for systemd.
END
dpkg-deb --root-owner-group --build "$dist" "$deb" >&2
echo "$deb"
