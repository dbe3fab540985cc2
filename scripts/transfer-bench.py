#!/usr/bin/env python3
"""Measure how long it takes to build and unpack images without a mount, compared with cp and
littlefs-python, in turn.

usage: scripts/transfer-bench.py LITTLEFS PYTHON [RUNS]

LITTLEFS is the program (cargo build --release). PYTHON is a Python with littlefs-python, or '-' to
leave that out. 10,000 files of 0 to 20 KB in 100 directories (100 MB) are made in /dev/shm. Prints
the median of the wall-clock times in seconds, the load of the machine, and the memory that create
needs for many entries.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SIZE = "192M"


def fill(directory, count, size_of):
    rng = random.Random(1)
    for i in range(count):
        parent = f"{directory}/{i // 100}"
        os.makedirs(parent, exist_ok=True)
        with open(f"{parent}/file-{i}", "wb") as file:
            file.write(rng.randbytes(size_of(rng)))


def seconds(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def peak_kib(command):
    """The largest resident size of the command, in KiB."""
    pid = os.spawnvp(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, command
    return usage.ru_maxrss


def times(program, python, runs, base):
    fill(f"{base}/data", 10_000, lambda rng: rng.randrange(20_001))
    image, theirs = f"{base}/ours.img", f"{base}/theirs.img"
    contenders = {
        "cp -r": lambda: seconds(["cp", "-r", f"{base}/data", f"{base}/out"]),
        "create": lambda: seconds([program, "create", "-q", "--force", "--size", SIZE, image, f"{base}/data"]),
        "extract": lambda: seconds([program, "extract", "-q", image, "-C", f"{base}/out"]),
    }
    once = {}
    if python != "-":
        call = [python, "-m", "littlefs"]
        geometry = ["--block-size=4096"]
        once["littlefs-python create"] = lambda: seconds(
            [*call, "create", f"{base}/data", theirs, *geometry, f"--fs-size={192 << 20}"])
        once["littlefs-python extract"] = lambda: seconds(
            [*call, "extract", theirs, f"{base}/out", *geometry])
    taken = {name: [] for name in [*contenders, *once]}
    for run in range(runs):
        for name, measure in [*contenders.items(), *(once.items() if run == 0 else ())]:
            shutil.rmtree(f"{base}/out", ignore_errors=True)
            taken[name].append(measure())
    for name, values in taken.items():
        print(f"{name:24} {statistics.median(values):8.3f} s, {len(values)} runs")


def memory(program, base):
    peaks = {}
    for count in (1_000, 100_000, 200_000):
        directory = f"{base}/many"
        fill(directory, count, lambda rng: 16)
        command = [program, "create", "-q", "--force", "--size", "512M", f"{base}/many.img", directory]
        peaks[count] = peak_kib(command)
        print(f"create of {count} entries: at most {peaks[count]} KiB of resident memory")
        shutil.rmtree(directory)
    more = (peaks[200_000] - peaks[100_000]) * 1024 / 100_000
    print(f"beyond 100,000 entries: {more:.0f} bytes for each entry")


def main():
    program, python = os.path.abspath(sys.argv[1]), sys.argv[2]
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    base = tempfile.mkdtemp(dir="/dev/shm")
    try:
        print("load before:", *os.getloadavg())
        times(program, python, runs, base)
        memory(program, base)
        print("load after:", *os.getloadavg())
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
