#!/usr/bin/env bash
# Count the instructions per operation of the engine's hot paths, with callgrind. The counts do not
# depend on the load of the machine. Prints a markdown table. Installs valgrind if it is missing (by
# apt-get).
#
# usage: scripts/instructions.sh [CASE...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/deps.sh
. scripts/deps.sh
install_missing cargo:cargo valgrind:valgrind

hot=$(cargo bench --quiet --no-run --message-format=json --bench hot |
    sed -n 's/.*"executable":"\([^"]*\/hot-[^"]*\)".*/\1/p')

out=$(mktemp)
trap 'rm -f "$out"' EXIT

# count CASE OPERATIONS: print the number of instructions of the whole run
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$hot" "$1" "$2" >"$out" 2>&1 || {
        cat "$out" >&2
        return 1
    }
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$out"
}

echo "| hot path | instructions |"
echo "|---|---|"
# CASE:OPERATIONS, with enough operations that rare events have their fair share in the count
for entry in lookup:20000 list:200000 create:10000 create-and-flush:10000 create-flush-each:500 \
    unlink:10000 read-4k:5000 overwrite-4k:2000 append-100:10000 append-100-flush-each:500 mount:10; do
    case=${entry%%:*}
    operations=${entry#*:}
    if [ $# -gt 0 ] && [[ " $* " != *" $case "* ]]; then
        continue
    fi
    echo "| $case | $((($(count "$case" "$operations") - $(count "$case" 0)) / operations)) |"
done
