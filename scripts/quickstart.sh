#!/usr/bin/env bash
# Build littlefs-progs and mount an image with it.
#
# usage: scripts/quickstart.sh [IMAGE] [DIR]
#
# IMAGE  a littlefs image or block device; without it, a sample image with a few files is made
# DIR    where to mount it; the directory is made if it does not exist
#
# Installs fuse3 and a C linker if they are missing (by apt-get). Can be run again at any time.
set -euo pipefail

case ${1-} in
-h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
esac

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
image=$(realpath -m "${1:-$target/quickstart/sample.img}")
dir=$(realpath -m "${2:-$target/quickstart/mnt}")
littlefs=$target/release/littlefs

# shellcheck source=scripts/deps.sh
. "$root/scripts/deps.sh"
install_run_deps

echo "building"
cargo build --release --quiet --manifest-path "$root/Cargo.toml"

if mountpoint -q "$dir" 2>/dev/null; then
    echo "$dir is already mounted; unmount it with '$littlefs umount $dir'"
    exit 0
fi

mkdir -p "$dir"
if [ $# -eq 0 ] && [ ! -e "$image" ]; then
    echo "making a sample image: $image"
    mkdir -p "$(dirname "$image")"
    "$littlefs" mkfs --size 1M "$image"
fi
"$littlefs" mount "$image" "$dir"
if [ $# -eq 0 ] && [ -z "$(ls -A "$dir")" ]; then
    mkdir "$dir/lib"
    echo 'print("hello from littlefs")' >"$dir/main.py"
    echo '{"ssid": "workshop", "channel": 6}' >"$dir/config.json"
    seq 1 2000 >"$dir/lib/numbers.txt"
fi

echo
ls -l "$dir"
if [ -w "$dir" ]; then
    example="cp /etc/hostname $dir/"
else
    # such as an image file that is write-protected
    example="find $dir -type f"
fi
cat <<END

$image is mounted at $dir. Work there with any program, for example:

  $example
  df -h $dir

Unmount it, and look at the image:

  $littlefs umount $dir
  $littlefs info $image
  $littlefs check $image

'$littlefs --help' lists all commands.
END
