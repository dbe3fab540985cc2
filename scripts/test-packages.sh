#!/usr/bin/env bash
# Test the tarball, the wheel and 'cargo install': install each in a place that has nothing else, and
# use it.
#
# usage: scripts/test-packages.sh
#
# Builds all of them, which takes some minutes the first time. scripts/test-systemd.sh tests the
# Debian package.
# The last line is "packages: N passed, N failed".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_missing file:file python3:python3 '/usr/lib/python3*/ensurepip*:python3-venv' unshare:util-linux

work=$(mktemp -d)
cleanup() {
    # what a check that failed has left mounted
    ! mountpoint -q "$work/mnt" || fusermount3 -uz "$work/mnt" || true
    rm -rf "$work"
}
trap cleanup EXIT
echo content >"$work/file"

# uses PATH_TO_PROGRAM: make, check and read images with the program, in an empty environment
uses() {
    local run=(env -i HOME="$work" "$1") image=$work/image
    rm -f "$image"
    "${run[@]}" --version
    "${run[@]}" create --size 256K "$image" "$work/file"
    "${run[@]}" check "$image"
    [ "$("${run[@]}" cat "$image" file)" = content ]
    xz -c "$image" >"$image.xz"
    [ "$("${run[@]}" cat "$image.xz" file)" = content ]
}

tarball_works() {
    local tarball root=$work/root
    tarball=$(scripts/tarball.sh | tail -n 1)
    ls -l "$tarball"
    mkdir "$root"
    tar -xzf "$tarball" -C "$root" --strip-components=1
    uses "$root/bin/littlefs"
    file "$root/bin/littlefs" | grep -E 'static(ally|-pie) linked' | grep -v 'not stripped'
    # The program needs nothing from the system, not even a C library.
    unshare --user --map-root-user chroot "$root" /bin/littlefs --version
    local path
    for path in man/man1/littlefs.1 man/man1/littlefs-mount.1 man/man8/mount.littlefs.8 \
        bash-completion/completions/littlefs zsh/site-functions/_littlefs \
        fish/vendor_completions.d/littlefs.fish mime/packages/littlefs.xml \
        doc/littlefs-progs/LICENSE-MIT doc/littlefs-progs/README.md; do
        [ -s "$root/share/$path" ] || { echo "$path is missing" && return 1; }
    done
    mkdir "$work/mnt"
    "$root/bin/littlefs" mount "$work/image" "$work/mnt"
    cp "$work/mnt/file" "$work/mnt/copy"
    "$root/bin/littlefs" umount "$work/mnt"
    [ "$("$root/bin/littlefs" cat "$work/image" copy)" = content ]
}

wheel_works() {
    local wheel
    wheel=$(scripts/wheel.sh | tail -n 1)
    ls -l "$wheel"
    [[ $wheel == *-py3-none-*manylinux2014_*musllinux_1_1_* ]]
    /usr/bin/python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --no-index "$wheel"
    uses "$work/venv/bin/littlefs"
    [ "$("$work/venv/bin/pip" show littlefs-progs | sed -n 's/^Version: //p')" = \
        "$("$work/venv/bin/littlefs" --version | sed 's/.* //')" ]
    [ "$(ls "$work"/venv/bin/littlefs*)" = "$work/venv/bin/littlefs" ]
    "$work/venv/bin/pip" uninstall --quiet --yes littlefs-progs
    [ ! -e "$work/venv/bin/littlefs" ]
}

# As docs/install.md says, but not optimised, and with the crates that are there, because what is
# tested is that the package installs and has what it needs.
cargo_install_works() {
    cargo fetch --quiet --locked
    cargo install --quiet --locked --offline --debug --path . --root "$work/cargo"
    [ "$(ls "$work/cargo/bin")" = littlefs ]
    uses "$work/cargo/bin/littlefs"
}

passed=0 failed=0
for check in tarball_works wheel_works cargo_install_works; do
    # Not in a condition, because there `set -e` has no effect.
    set +e
    (set -e; "$check") >"$work/log" 2>&1
    status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
        sed -n 's/^-[rwx-]* [0-9]* [^ ]* [^ ]* \([0-9]*\) .*\/\([^/]*\)$/\2: \1 bytes/p' "$work/log"
    else
        failed=$((failed + 1))
        echo "FAILED: $check"
        sed 's/^/    /' "$work/log"
    fi
done
echo "packages: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
