#!/usr/bin/env bash
# Run every test. Installs missing packages (by apt-get). The last line of the output is the count.
#
# usage: scripts/test.sh [ARGUMENTS OF cargo test]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_test_deps

log=$(mktemp)
systemd_log=$(mktemp)
preparing=
systemd=
cleanup() {
    [ -z "$preparing" ] || kill "$preparing" 2>/dev/null || true
    [ -z "$systemd" ] || kill "$systemd" 2>/dev/null || true
    rm -f "$log" "$systemd_log"
}
trap cleanup EXIT

# The programs that the tests build. The POSIX suites and the systemd suite test them, too: they check
# their own arithmetic and assertions, and another build would take minutes.
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug

# The tools of the POSIX suites are built while the tests wait for something. If this fails, the suites
# do it again, and print the reason.
if [ $# -eq 0 ]; then
    # Install for both now, because apt-get cannot run twice at a time.
    install_posix_deps
    install_systemd_deps
    nice -n 19 scripts/posix.sh --prepare --built "$built" >/dev/null 2>&1 &
    preparing=$!
fi

# Print the summary lines immediately, and write everything to the log.
status=0
cargo test --no-fail-fast --features docs "$@" 2>&1 | tee "$log" |
    grep --line-buffered -E '^ +(Running|Doc-tests) |^test result: |^test .*FAILED$|^(error|warning)' ||
    status=${PIPESTATUS[0]}

read -r passed failed < <(awk '/^test result: / { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")

if [ "$status" -ne 0 ]; then
    echo
    if [ "$failed" -eq 0 ]; then
        # The build failed, or a test program died before it could count.
        failed=1
        tail -n 60 "$log"
    else
        # The output of the failed tests.
        awk '/^failures:$/ { show = 1 } /^test result: / { show = 0 } show' "$log"
    fi
elif [ "$passed" -eq 0 ]; then
    echo "no test was run"
    status=1
fi

# Add the passed and failed counts of the suites in a log.
count() { # LOG
    read -r passed failed < <(awk -v p="$passed" -v f="$failed" '
        / passed, [0-9]+ failed$/ { p += $(NF - 3); f += $(NF - 1); seen = 1 }
        END { print p, f + !seen }' "$1")
}

# Also run the POSIX suites and the systemd suite, unless arguments select some tests. The systemd
# suite mostly waits, so it runs at the same time as the POSIX suites. Only root can hide the mounts of
# the POSIX suites from the containers, so others run one after the other.
if [ $# -eq 0 ]; then
    wait "$preparing" || true
    preparing=
    scripts/test-systemd.sh --built "$built" >"$systemd_log" 2>&1 &
    systemd=$!
    [ "$(id -u)" -eq 0 ] || wait "$systemd" || true
    scripts/posix.sh --built "$built" 2>&1 | tee "$log" || status=1
    count "$log"
    wait "$systemd" || status=1
    systemd=
    cat "$systemd_log"
    count "$systemd_log"
fi
echo "$passed passed, $failed failed"
exit "$status"
