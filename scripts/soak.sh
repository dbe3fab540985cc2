#!/usr/bin/env bash
# Long runs: more of the random tests, and stress on a mount. Prints a line of result for each part.
#
# usage: scripts/soak.sh [MINUTES] [PART...]
#
# MINUTES  how long each part takes, roughly, and how long each fuzz target runs (default 10)
# PART     crash, kill, cases, fuzz, posix, stress, fio, interop (default: all, but interop only if
#          littlefs-fuse is installed)
#
# The environment overrides the factors that follow from MINUTES: LITTLEFS_CRASH_FACTOR (crash
# images), LITTLEFS_KILL_FACTOR (kills), LITTLEFS_CASES (cases of each differential test),
# LITTLEFS_FUZZ_TARGETS (the targets of fuzz/fuzz_targets to run). The inputs that a target finds
# stay in target/soak/fuzz, and the logs in target/soak. Installs missing packages (by apt-get).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_test_deps
install_missing stress-ng:stress-ng fio:fio

minutes=${1:-10}
[ $# -eq 0 ] || shift
if [ $# -gt 0 ]; then
    parts=("$@")
else
    parts=(crash kill cases fuzz posix stress fio)
    [ -z "${LITTLEFS_FUSE:-$(command -v lfs || true)}" ] || parts+=(interop)
fi

target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
littlefs=$target_dir/release/littlefs
logs=$target_dir/soak
mkdir -p "$logs"
cargo build --release --quiet

work=$(mktemp -d)
cleanup() {
    ! mountpoint -q "$work/mnt" || fusermount3 -uz "$work/mnt" || true
    rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/mnt"

# on_mount SIZE COMMAND...: run the command with a new mount at $work/mnt, then check the image
on_mount() {
    local status=0
    rm -f "$work/image"
    "$littlefs" mkfs --size "$1" "$work/image"
    "$littlefs" mount "$work/image" "$work/mnt"
    shift
    "$@" || status=1
    "$littlefs" umount "$work/mnt" || status=1
    "$littlefs" check "$work/image" || status=1
    return "$status"
}

# How many times the work of an ordinary run of a test fits into the time. (Such a run takes about
# half a minute.)
factor=$((minutes * 2))

soak_crash() {
    # Only the number of random images grows with the factor. A factor of 2 gave 186,000 images, and
    # 8 gave 380,000, so 60 gives about two million.
    LITTLEFS_CRASH_FACTOR=${LITTLEFS_CRASH_FACTOR:-$((minutes * 6))} \
        cargo test --release --test crash -- --nocapture | tee "$work/crash.log" || return 1
    grep -oE '[0-9]+ distinct images' "$work/crash.log" |
        awk '{ n += $1 } END { print n " crash images" }'
}

soak_kill() {
    LITTLEFS_KILL_FACTOR=${LITTLEFS_KILL_FACTOR:-$factor} \
        cargo test --release --test kill -- --nocapture
}

soak_cases() {
    LITTLEFS_CASES=${LITTLEFS_CASES:-$((minutes * 500))} ODD_ROUNDS=$((minutes * 500)) \
        cargo test --release --test differential --test model --test odd_images -- --nocapture
}

# The LLVM passes that cargo-fuzz uses. Its sanitizer is left out: it needs a nightly compiler, and
# finds nothing in safe code.
FUZZ_FLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=1"

# fuzz_target NAME: run the target, from the seeds and from the inputs that earlier runs have kept
fuzz_target() {
    local found=$logs/fuzz/$1
    mkdir -p "$found/corpus"
    if "$built/$1" -max_total_time=$((minutes * 60)) -max_len=65600 -timeout=20 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/" \
        "$found/corpus" "fuzz/corpus/$1" 2>"$work/fuzz-$1.log"; then
        awk -v target="$1" '/number_of_executed_units/ { print target ": " $2 " fuzz runs" }' \
            "$work/fuzz-$1.log"
    else
        tail -n 60 "$work/fuzz-$1.log"
        return 1
    fi
}

soak_fuzz() {
    local host built target targets bins=()
    install_missing c++:g++
    host=$(rustc -vV | sed -n 's/^host: //p')
    built=$target_dir/fuzz/$host/release
    cargo run --manifest-path fuzz/Cargo.toml --target-dir "$target_dir" --bin seeds || return 1
    targets=${LITTLEFS_FUZZ_TARGETS:-$(basename -s .rs fuzz/fuzz_targets/*.rs)}
    for target in $targets; do bins+=(--bin "$target"); done
    # With --target, the flags do not apply to programs that run during the build.
    # shellcheck disable=SC2086 # unquoted, so that its line ends become spaces
    RUSTFLAGS=$(echo $FUZZ_FLAGS) cargo build --release --manifest-path fuzz/Cargo.toml \
        --target "$host" --target-dir "$target_dir/fuzz" "${bins[@]}" || return 1
    # Each target keeps one processor busy. So as many run at a time as there are processors.
    export -f fuzz_target
    export built logs minutes work
    # shellcheck disable=SC2086 # a word for each target
    printf '%s\n' $targets | xargs -P "$(nproc)" -I{} bash -c 'fuzz_target {}'
}

soak_posix() { FSX_OPS=$((minutes * 300000)) scripts/posix.sh; }

soak_interop() { scripts/interop.sh $((minutes * 4)) 300; }

# The filesystem stressors that need nothing that littlefs cannot store. The stressor access is left
# out: it expects that each mode which it sets takes effect, and littlefs does not store modes.
STRESSORS="dentry dir dirdeep dirmany dup fallocate fcntl fiemap filename flock
    fpunch fstat getdent hdd io iomix lockf metamix open posix-fadvise readahead rename
    seek sendfile splice sync-file truncate unlink utime verity"

# stress_ng SECONDS
stress_ng() {
    local wanted known list=()
    known=" $(stress-ng --stressors) "
    for wanted in $STRESSORS; do
        case $known in *" $wanted "*) list+=("--$wanted" 1) ;; esac
    done
    (cd "$work/mnt" && stress-ng --temp-path "$work/mnt" --verify --metrics-brief \
        --hdd-bytes 4M --iomix-bytes 4M --seek-size 4M --fallocate-bytes 4M \
        --readahead-bytes 4M --sync-file-bytes 1M --dirdeep-inodes 2000 \
        --timeout "$1" "${list[@]}")
}

soak_stress() { on_mount 256M stress_ng $((minutes * 60)); }

# run_fio SECONDS
run_fio() {
    local rw common
    common=(--directory="$work/mnt" --time_based --runtime="$(($1 / 4))" --verify=crc32c
        --verify_fatal=1 --verify_state_save=0 --fallocate=none --group_reporting)
    for rw in write randwrite randrw; do
        fio --name="$rw" --rw="$rw" --bsrange=512-64k --bs_unaligned=1 --size=4M --numjobs=4 \
            --fsync=64 --file_service_type=random --nrfiles=4 "${common[@]}"
    done
    fio --name=mapped --ioengine=mmap --rw=randwrite --bs=4k --size=4M --numjobs=2 "${common[@]}"
}

soak_fio() { on_mount 256M run_fio $((minutes * 60)); }

status=0
passed=0
failed=0
for part in "${parts[@]}"; do
    start=$SECONDS
    if (set -e; "soak_$part") >"$logs/$part.log" 2>&1; then
        passed=$((passed + 1))
        result=ok
    else
        failed=$((failed + 1))
        result="FAILED, see $logs/$part.log"
        status=1
    fi
    echo "$part ($((SECONDS - start)) s): $result"
    # The counts of this part.
    grep -hE '^test result: .*[1-9][0-9]* passed|[0-9]+ passed, [0-9]+ failed$|[0-9]+ kills|crash images|fuzz runs|^ +(WRITE|READ): |stress-ng: info: .*(passed|failed):' \
        "$logs/$part.log" | sed 's/^/    /' || true
done
echo "$passed passed, $failed failed"
exit "$status"
