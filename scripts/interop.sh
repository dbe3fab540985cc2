#!/usr/bin/env bash
# Interoperability with littlefs-fuse: its mounts and ours, in turn, on one image.
#
# usage: scripts/interop.sh [ROUNDS [OPERATIONS]]
#
# ROUNDS      times the image changes hands, for each geometry (default 12)
# OPERATIONS  random operations in each round (default 150)
#
# littlefs-fuse is $LITTLEFS_FUSE, else `lfs` on PATH. Its mounts need a loop device, so root.
# The same operations are applied to a directory of the host; after each round the mount, and
# after each change of hands the other one, must show the same tree, and `littlefs check` must
# find nothing. LITTLEFS_SEED=N gives other operations.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_run_deps
install_missing python3:python3

lfs=${LITTLEFS_FUSE:-$(command -v lfs || true)}
# what it prints is taken whole: it would die of a pipe that closes early
if [ -z "$lfs" ] || [[ $("$lfs" --version 2>&1 || true) != *littlefs* ]]; then
    echo "littlefs-fuse is not here: build https://github.com/littlefs-project/littlefs-fuse" >&2
    echo "and set LITTLEFS_FUSE=/path/to/lfs. NOTHING WAS TESTED." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "littlefs-fuse mounts block devices only, which needs root. NOTHING WAS TESTED." >&2
    exit 1
fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo build --release --quiet
exec python3 scripts/interop.py "$target/release/littlefs" "$lfs" "${1:-12}" "${2:-150}"
