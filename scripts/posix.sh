#!/usr/bin/env bash
# Test POSIX conformance on real mounts: fsx (a million operations), pjdfstest, and those stressors
# of stress-ng that verify their own work.
#
# usage: scripts/posix.sh [--prepare] [--built DIR]
#
# --prepare    only install and build what the suites need
# --built DIR  do not build the program, and test the one in DIR, which is an absolute path
#
# FSX_OPS=N  in the environment: total operations of fsx (default 1000000)
#
# Installs fsx and pjdfstest (from crates.io, below target/tools) and stress-ng (by apt-get) if they
# are missing. The cases of pjdfstest that littlefs cannot pass are listed, with reasons, in
# tests/posix/pjdfstest.toml, and in pjdfstest-unix.toml for mounts with attrs=unix.
# Prints "NAME: N passed, N failed" for each suite. Needs /dev/fuse. Most cases of pjdfstest change
# users; without root, these are skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_posix_deps

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/tools
export CARGO_TARGET_DIR=$target
prepare=false
own_namespace=false
built=
while [ $# -gt 0 ]; do
    case $1 in
    --prepare) prepare=true ;;
    --own-namespace) own_namespace=true ;;
    --built) built=${2:?--built needs a directory} && shift ;;
    *)
        echo "unknown argument: $1" >&2
        exit 1
        ;;
    esac
    shift
done
littlefs=${built:-$target/release}/littlefs

install_tool() { # CRATE VERSION [OPTION OF cargo install]
    [ -x "$tools/bin/$1" ] ||
        cargo install --quiet --locked --version "$2" --root "$tools" "${@:3}" "$1" 2>&1 |
        { grep -v '^warning: be sure to add' || true; } >&2
}
# The program as scripts/install.sh builds it.
[ -n "$built" ] || cargo build --release --quiet --locked --features docs
install_tool fsx 0.3.2
# not optimised, because to compile it would take longer than to run it
install_tool pjdfstest 0.2.2 --debug
! $prepare || exit 0

# The mounts are in a mount namespace of their own. Otherwise each container that the systemd suite
# starts meanwhile would get a copy of them, and an image stays in use until the last copy is gone.
if [ "$(id -u)" -eq 0 ] && ! $own_namespace; then
    exec unshare --mount scripts/posix.sh --own-namespace ${built:+--built "$built"}
fi

# If possible, the images are in memory, because this does not test the disk.
base=/tmp
[ -w /dev/shm ] && base=/dev/shm
work=$(mktemp -d "$base/littlefs-posix.XXXXXX")
chmod 755 "$work"
cleanup() {
    local dir
    for dir in "$work"/*/mnt; do
        ! mountpoint -q "$dir" || fusermount3 -uz "$dir" || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

# make_mount NAME SIZE BLOCK_SIZE OPTIONS: a new image mounted on $work/NAME/mnt
make_mount() {
    mkdir -p "$work/$1/mnt"
    "$littlefs" mkfs --size "$2" --block-size "$3" "$work/$1/image" >"$work/$1/log" &&
        "$littlefs" mount -o "$4" "$work/$1/image" "$work/$1/mnt"
}
end_mount() {
    "$littlefs" umount "$work/$1/mnt" && "$littlefs" check "$work/$1/image"
}

# fsx: each run has its own seed, sizes, share of mapped access, block size, mount options, and
# percentage of all operations (mapped access and the option sync make operations slow).
# NAME SEED LONGEST_FILE LONGEST_OPERATION MAPPED BLOCK_SIZE OPTIONS PERCENTAGE
runs=(
    "small 1 16384 2048 1 512 rw 55"
    "mapped 2 32768 4096 10 4096 rw 3"
    "large 3 131072 16384 1 4096 rw 10"
    "writeback 4 32768 4096 1 4096 writeback 17"
    "sync 5 32768 4096 1 4096 sync 3"
    "erase-64k 6 131072 8192 1 65536 rw 12"
)
ops=${FSX_OPS:-1000000}

run_fsx() { # NAME SEED LONGEST_FILE LONGEST_OPERATION MAPPED BLOCK_SIZE OPTIONS - OPERATIONS
    make_mount "$1" 4M "$6" "$7" || return
    cat >"$work/$1/fsx.toml" <<END
flen = $3
[opsize]
max = $4
[weights]
close_open = 1
invalidate = 0.2
mapread = $5
mapwrite = $5
read = 10
write = 10
truncate = 3
fsync = 0.1
fdatasync = 0.1
posix_fadvise = 0.2
copy_file_range = 1
sendfile = 1
END
    "$tools/bin/fsx" -f "$work/$1/fsx.toml" -S "$2" -N "$9" -P "$work/$1" "$work/$1/mnt/file" ||
        return
    end_mount "$1"
}

fsx_runs() {
    local passed=0 failed=0 run name share
    for run in "${runs[@]}"; do
        name=${run%% *}
        share=$((ops * ${run##* } / 100))
        mkdir -p "$work/$name"
        # two at a time, because each of them uses about one processor
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || true; done
        # shellcheck disable=SC2086
        { run_fsx $run "$share" >"$work/$name/out" 2>&1 && touch "$work/$name/passed"; } &
    done
    wait
    for run in "${runs[@]}"; do
        name=${run%% *}
        if [ -e "$work/$name/passed" ]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "fsx $run failed:" >&2
            tail -n 60 "$work/$name/out" >&2
        fi
    done
    echo "fsx ($ops operations): $passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

# run_pjdfstest LIST OPTIONS [PATTERN]: with a pattern, run only those cases, which may then remount
run_pjdfstest() {
    # a short name: paths of sockets have at most 107 bytes
    local list=$1 options=default_permissions,$2 name=${1#pjdfstest-}-${3:-all} remount=false
    shift 2
    [ "$(id -u)" -ne 0 ] || options+=,allow_other
    make_mount "$name" 16M 4096 "$options"
    [ $# -eq 0 ] || remount=true
    sed "s/^allow_remount = .*/allow_remount = $remount/" \
        "tests/posix/$list.toml" >"$work/$name/config.toml"
    PATH=$work/bin:$PATH "$tools/bin/pjdfstest" -c "$work/$name/config.toml" \
        -p "$work/$name/mnt" -s "$work/other" -- "$@" || true
    end_mount "$name" || echo "FAILED: unmounting or checking the image"
}

# pjdfstest_runs LIST OPTIONS
pjdfstest_runs() {
    local passed failed listed out=$work/$1.out
    mkdir -p "$work/bin" "$work/other"
    # To remount, mount(8) would run the helper of the filesystem, but the kernel needs no helper.
    printf '#!/bin/sh\nexec %s --internal-only "$@"\n' "$(command -v mount)" >"$work/bin/mount"
    chmod +x "$work/bin/mount"
    { run_pjdfstest "$@"; [ "$(id -u)" -ne 0 ] || run_pjdfstest "$@" erofs; } 2>&1 |
        sed 's/\x1b\[[0-9;]*m//g' >"$out"
    # "Summary: F failed, S skipped, P passed, X expected failures, T total"
    read -r passed failed listed < <(awk '
        /^Summary: / { f += $2; p += $6; x += $8; seen = 1 }
        /^FAILED: / { f++ }
        END { print p + 0, f + !seen, x + 0 }' "$out")
    if [ "$failed" -gt 0 ]; then
        grep -A3 -E 'FAILED|PASSED UNEXPECTEDLY' "$out" >&2 || tail -n 30 "$out" >&2
    fi
    echo "$1 ($listed that littlefs cannot store): $passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

# stress-ng: all stressors at once for a few seconds, so that they disturb each other. Left out are
# those that need holes (aiol, fpunch, fsize, revio), the list of a file's blocks (fiemap), more
# than 128 MiB (copy-file), or hard links (link).
stressors=(access aio chdir chmod chown dentry dir dirdeep dirmany dup fallocate fcntl file-ioctl
    filename flock fstat getdent handle hdd inotify io iomix lease locka lockf lockofd mknod mmap
    msync open readahead rename seek sendfile sync-file touch utime)
bytes=(fallocate hdd iomix mmap msync readahead)
# Limits, so that the stressors do not fill the image: each directory takes two blocks.
sizes=(--seek-size 4M --chdir-dirs 256 --dir-dirs 256 --dirdeep-inodes 1000)

# run_stress NAME OPTIONS STRESSOR...
run_stress() {
    local name=$1 options=$2 arguments=() stressor
    shift 2
    for stressor in "$@"; do arguments+=("--$stressor" 1); done
    for stressor in "${bytes[@]}"; do arguments+=("--$stressor-bytes" 4M); done
    make_mount "$name" 384M 4096 "$options" || return
    stress-ng "${arguments[@]}" "${sizes[@]}" --timeout 8 --verify --temp-path "$work/$name/mnt" || return
    end_mount "$name"
}

stress_runs() {
    local passed=0 failed=0 options run=0 more
    for options in rw writeback attrs=unix; do
        run=$((run + 1))
        more=()
        [ "$options" != attrs=unix ] || more=(symlink xattr)
        # A stressor that was skipped has not passed.
        if run_stress "stress$run" "$options" "${stressors[@]}" "${more[@]}" \
            >"$work/stress.out" 2>&1 && ! grep -i skip "$work/stress.out" >&2; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "stress-ng with -o $options failed:" >&2
            grep -v dispatching "$work/stress.out" | tail -n 60 >&2
        fi
    done
    echo "stress-ng (${#stressors[@]} stressors on each mount): $passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

status=0
pjdfstest_runs pjdfstest rw || status=1
pjdfstest_runs pjdfstest-unix attrs=unix,suid,dev || status=1
fsx_runs || status=1
stress_runs || status=1
exit "$status"
