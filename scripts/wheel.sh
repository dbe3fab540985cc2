#!/usr/bin/env bash
# Build a wheel for pip, with a program that needs no shared libraries. The last line of the output
# is the path of the wheel.
#
# usage: scripts/wheel.sh
#
# If they are missing, installs musl-tools (by apt-get), Rust's library for musl (by rustup), and
# maturin (by pip, below target/tools).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_static_deps >&2
install_missing python3:python3 '/usr/lib/python3*/ensurepip*:python3-venv' >&2

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/tools/maturin
[ -x "$tools/bin/python" ] || /usr/bin/python3 -m venv "$tools" >&2
[ -x "$tools/bin/maturin" ] || "$tools/bin/pip" install --quiet maturin==1.16.0 >&2

# The program is linked statically, so it runs on systems with glibc and with musl, whatever their
# version: both tags are true.
rm -rf "$target/wheels"
CARGO_TARGET_DIR=$target CARGO_PROFILE_RELEASE_STRIP=symbols \
    "$tools/bin/maturin" build --release --locked --features docs --target "$static_target" \
    --compatibility manylinux2014 musllinux_1_1 --out "$target/wheels" >&2
ls "$target"/wheels/*.whl
