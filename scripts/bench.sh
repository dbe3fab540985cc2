#!/usr/bin/env bash
# Measure the mounted filesystem and its peers in turn.
#
# usage: scripts/bench.sh [OPTIONS OF bench.py]
#
# --runs N        runs of every case (default 5); the medians are printed
# --cases A,B     only these cases of fsbench.py
# --pin CPU       run callers and daemons on one processor: slower, but the times vary less
# --options OPTS  options of our mount
# --writeback     measure our mount with -o writeback, too
# --output DIR    where figures.json, table.md and chart.svg are written (default target/bench)
# --directory DIR where the images are made (default the system's temporary directory)
#
# Peers. If one is not installed, it is left out, and a message says so:
#   LITTLEFS_FUSE=/path/to/lfs            littlefs-fuse on a loop device
#   PASSTHROUGH_HP=/path/to/passthrough_hp  libfuse's mirror of a directory in memory
#   ext4 on a loop device                 needs mkfs.ext4
# Needs root, for loop devices and to drop caches.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_run_deps
install_missing python3:python3 mkfs.ext4:e2fsprogs \
    '/usr/lib/python3/dist-packages/matplotlib/__init__.py*:python3-matplotlib'

peers=()
lfs=${LITTLEFS_FUSE:-$(command -v lfs || true)}
if [ -n "$lfs" ]; then peers+=(--littlefs-fuse "$lfs"); else echo "LEFT OUT: littlefs-fuse (LITTLEFS_FUSE is not set)"; fi
hp=${PASSTHROUGH_HP:-$(command -v passthrough_hp || true)}
if [ -n "$hp" ]; then peers+=(--passthrough-hp "$hp"); else echo "LEFT OUT: passthrough_hp (PASSTHROUGH_HP is not set)"; fi
if command -v mkfs.ext4 >/dev/null; then peers+=(--ext4); else echo "LEFT OUT: ext4 (no mkfs.ext4)"; fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo build --release --quiet
exec /usr/bin/python3 scripts/bench.py "$target/release/littlefs" "${peers[@]}" "$@"
