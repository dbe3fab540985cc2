#!/usr/bin/env python3
"""Measure the cost of a journal: its growth for each byte that SQLite writes, and the time of an
fsync.

usage: journal-bench.py LITTLEFS [--runs N] [--directory DIR]

LITTLEFS is the program (target/release/littlefs). The cases `fsync` and `sqlite` of fsbench.py run
on a mount without a journal and on a mount with one, in turn, each on a new image of 256 MiB. The
medians are printed. "Written" counts the bytes that the process passed to write calls (wchar in
/proc/self/io). The images are made in DIR (default: the system's temporary directory).
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

spec = importlib.util.spec_from_file_location("fsbench", Path(__file__).with_name("fsbench.py"))
fsbench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fsbench)


def written():
    with open("/proc/self/io") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("wchar"))


class Bench(fsbench.Bench):
    """Records for each row: its seconds, and the bytes written and appended since the previous row."""

    def __init__(self, root, littlefs, journal):
        super().__init__(str(root), False, None)
        self.littlefs, self.journal, self.rows = littlefs, journal, {}
        self.before = self.now()

    def now(self):
        if not self.journal.exists():
            return written(), 0
        # without the zeros that the mount keeps in reserve
        command = [self.littlefs, "journal", "verify", "--json", str(self.journal)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        return written(), json.loads(said)["bytes"]

    def report(self, case, seconds, **_):
        now = self.now()
        self.rows[case] = (seconds, now[0] - self.before[0], now[1] - self.before[1])
        self.before = now


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("littlefs")
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--directory")
    args = ap.parse_args()
    run = lambda *command: subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
    rows, squashed = {}, []
    for _ in range(args.runs):
        for kind in "plain", "journal":
            with tempfile.TemporaryDirectory(dir=args.directory) as directory:
                image, mnt, journal = (Path(directory) / name for name in ("image", "mnt", "journal"))
                mnt.mkdir()
                run(args.littlefs, "mkfs", "--size", "256M", image)
                options = ["-o", f"journal={journal}"] if kind == "journal" else []
                run(args.littlefs, "mount", *options, image, mnt)
                try:
                    bench = Bench(mnt, args.littlefs, journal)
                    bench.fsync()
                    # keep the database, because the squash must find it in the journal
                    os.unlink, unlink = (lambda path: None), os.unlink
                    bench.sqlite()
                    os.unlink = unlink
                    size = os.stat(mnt / "bench.db").st_size
                finally:
                    run(args.littlefs, "umount", mnt)
                for case, row in bench.rows.items():
                    rows.setdefault(case, {}).setdefault(kind, []).append(row)
                if kind == "journal":
                    before = journal.stat().st_size
                    run(args.littlefs, "journal", "squash", journal)
                    squashed.append((before, journal.stat().st_size, size))
    median = lambda values: statistics.median(values)
    print("| case | plain, s | journal, s | ratio | written, bytes | appended, bytes | appended / written |")
    print("|---|---|---|---|---|---|---|")
    for case, kinds in rows.items():
        plain, journal = (median([r[0] for r in kinds[k]]) for k in ("plain", "journal"))
        wrote, grew = (median([r[i] for r in kinds["journal"]]) for i in (1, 2))
        ratio = f"{grew / wrote:.2f}" if wrote > 1000 else "-"
        print(f"| {case} | {plain:.4f} | {journal:.4f} | {journal / plain:.2f} | {wrote:.0f} | {grew:.0f} | {ratio} |")
    before, after, size = (median(column) for column in zip(*squashed))
    print(f"\njournal: {before:.0f} bytes, squashed: {after:.0f} bytes; database: {size:.0f} bytes")


if __name__ == "__main__":
    sys.exit(main())
