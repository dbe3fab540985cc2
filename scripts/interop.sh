#!/usr/bin/env bash
# Test the interoperability with littlefs-fuse: its mounts and ours change one image in turn.
#
# usage: scripts/interop.sh [ROUNDS [OPERATIONS]]
#
# ROUNDS      how many mounts, in turn theirs and ours, for each geometry (default 12)
# OPERATIONS  random operations in each round (default 150)
#
# littlefs-fuse is $LITTLEFS_FUSE, or `lfs` on PATH. Its mounts need a loop device, and so root.
# The same operations are applied to a directory of the host. At the end of each round, the mount
# must show the same tree as this directory, and so must the other program's mount that follows.
# `littlefs check` must find nothing. LITTLEFS_SEED=N gives other operations.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_run_deps
install_missing python3:python3

lfs=${LITTLEFS_FUSE:-$(command -v lfs || true)}
# read its whole output, because a pipe that is closed early would kill it
if [ -z "$lfs" ] || [[ $("$lfs" --version 2>&1 || true) != *littlefs* ]]; then
    echo "littlefs-fuse was not found: build https://github.com/littlefs-project/littlefs-fuse" >&2
    echo "and set LITTLEFS_FUSE=/path/to/lfs. NOTHING WAS TESTED." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "littlefs-fuse mounts only block devices, which needs root: run this as root." >&2
    echo "NOTHING WAS TESTED." >&2
    exit 1
fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo build --release --quiet
exec python3 scripts/interop.py "$target/release/littlefs" "$lfs" "${1:-12}" "${2:-150}"
