"""Time a mounted littlefs and its peers in turn, and print the figures.

Called by bench.sh, which describes the options. Every filesystem is made anew for each run. All of
them stay mounted while each case of fsbench.py runs on one after the other, so that a slow moment
of the machine affects all of them.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
IMAGE_BYTES = 256 << 20
BLOCK_BYTES = 4096
# No case of a usable filesystem takes longer than this. One that does is reported as unfinished.
CASE_SECONDS = 150
# A case that takes longer than this is not run again.
SLOW_SECONDS = 20
# Rows whose data reaches the disk: compare them with ext4, because passthrough_hp stays in memory.
ON_DISK = ["seq.write", "seq.read", "rand.read4k", "rand.overwrite4k", "fsync.each", "sqlite."]


def run(*command, **more):
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL, **more)


def wait_for_mount(directory, process=None):
    for _ in range(500):
        if os.path.ismount(directory):
            return
        if process and process.poll() is not None:
            break
        time.sleep(0.02)
    sys.exit(f"nothing was mounted on {directory}")


class Filesystem:
    """A filesystem under test. Its files are below `base`, and it is mounted on `mnt`."""

    def __init__(self, name, base, pin):
        self.name, self.base, self.pin = name, base / name, pin
        self.mnt = self.base / "mnt"
        self.mnt.mkdir(parents=True)
        self.image = self.base / "image"

    def pinned(self, *command):
        return ["taskset", "-c", self.pin, *command] if self.pin else list(command)

    def make_image(self):
        self.image.unlink(missing_ok=True)
        with open(self.image, "wb") as f:
            f.truncate(IMAGE_BYTES)


class Ours(Filesystem):
    def __init__(self, name, base, pin, binary, options):
        super().__init__(name, base, pin)
        self.binary, self.options = binary, options

    def mount(self):
        self.make_image()
        run(self.binary, "mkfs", "--force", "--block-size", BLOCK_BYTES, self.image)
        run(*self.pinned(self.binary, "mount", "-o", self.options, self.image, self.mnt))

    def unmount(self):
        run(self.binary, "umount", self.mnt)
        run(self.binary, "check", self.image)


class OnLoop(Filesystem):
    """A filesystem that needs a block device."""

    def attach(self):
        self.make_image()
        out = subprocess.check_output(["losetup", "--find", "--show", self.image], text=True)
        self.device = out.strip()

    def unmount(self):
        run("umount", self.mnt)
        # littlefs-fuse closes the device a moment later
        for _ in range(500):
            if subprocess.run(["losetup", "-d", self.device], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.02)
        sys.exit(f"{self.device}: still in use after unmounting")


class LittlefsFuse(OnLoop):
    def __init__(self, name, base, pin, binary):
        super().__init__(name, base, pin)
        self.binary = binary

    def mount(self):
        self.attach()
        geometry = [f"-b={BLOCK_BYTES}", f"--block_count={IMAGE_BYTES // BLOCK_BYTES}"]
        run(self.binary, "--format", *geometry, self.device)
        run(*self.pinned(self.binary, *geometry, self.device, self.mnt))
        wait_for_mount(self.mnt)


class Ext4(OnLoop):
    def mount(self):
        self.attach()
        run("mkfs.ext4", "-q", "-F", self.device)
        run("mount", self.device, self.mnt)


class Passthrough(Filesystem):
    """libfuse's mirror of a directory in memory: the cost of FUSE if the filesystem costs nothing."""

    def __init__(self, name, base, pin, binary):
        super().__init__(name, base, pin)
        self.binary = binary
        self.memory = Path(tempfile.mkdtemp(dir="/dev/shm"))

    def mount(self):
        command = self.pinned(self.binary, "--foreground", "--nopassthrough", self.memory, self.mnt)
        self.process = subprocess.Popen(
            [str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_mount(self.mnt, self.process)

    def unmount(self):
        run("umount", self.mnt)
        self.process.wait(timeout=10)
        shutil.rmtree(self.memory)
        self.memory.mkdir()


def run_case(fs, case, pin):
    """The seconds of each row of one case on one filesystem, and whether the case finished."""
    command = [sys.executable, str(HERE / "fsbench.py"), str(fs.mnt), "--only", case]
    if pin:
        command = ["taskset", "-c", pin, *command]
    finished = True
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=CASE_SECONDS).stdout
    except subprocess.TimeoutExpired as e:
        finished = False
        out = (e.stdout or b"").decode()
        print(f"    {fs.name}: {case} was stopped after {CASE_SECONDS} s", flush=True)
        for left in fs.mnt.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    rows = [json.loads(line) for line in out.splitlines()]
    for row in rows:
        if "error" in row:
            sys.exit(f"{fs.name}: {row['case']}: {row['error']}")
    return {row["case"]: row["seconds"] for row in rows}, finished


def measure(systems, cases, runs, pin):
    """{row: {filesystem: [seconds of each run]}}, in the order of the cases."""
    figures = {}
    slow = set()
    for n in range(runs):
        print(f"run {n + 1} of {runs}", flush=True)
        for fs in systems:
            fs.mount()
        for case in cases:
            for fs in systems:
                if (fs.name, case) in slow:
                    continue
                start = time.monotonic()
                rows, finished = run_case(fs, case, pin)
                for row, seconds in rows.items():
                    figures.setdefault(row, {}).setdefault(fs.name, []).append(seconds)
                if not finished or time.monotonic() - start > SLOW_SECONDS:
                    slow.add((fs.name, case))
        for fs in systems:
            fs.unmount()
    return figures


def is_on_disk(row):
    return row.startswith(tuple(ON_DISK))


def ratio(a, b):
    return f"{a / b:.2f}" if a is not None and b else "-"


def geometric_mean(values):
    return statistics.geometric_mean(values) if values else None


def report(figures, names):
    """The medians as a Markdown table with a summary, and the medians themselves."""
    medians = {row: {n: statistics.median(v) for n, v in by.items()} for row, by in figures.items()}
    ours = names[0]
    lines = ["| case | " + " | ".join(f"{n} (s)" for n in names) + " | "
             + " | ".join(f"{n} / {ours}" for n in names[1:]) + " |",
             "|---|" + "---|" * (2 * len(names) - 1)]
    for row, by in medians.items():
        seconds = [f"{by[n]:.4f}" if n in by else "-" for n in names]
        ratios = [ratio(by.get(n), by.get(ours)) for n in names[1:]]
        lines.append("| " + " | ".join([row, *seconds, *ratios]) + " |")
    lines.append("")
    for n in names[1:]:
        for what, wanted in (("in memory", False), ("on disk", True)):
            shares = [by[ours] / by[n] for row, by in medians.items()
                      if n in by and ours in by and is_on_disk(row) == wanted]
            if shares:
                lines.append(f"Cases {what}: {ours} takes {geometric_mean(shares):.3f} times as long as {n} "
                             f"(geometric mean of {len(shares)}; worst {max(shares):.2f}).")
    return "\n".join(lines) + "\n", medians


def draw(medians, names, path):
    """Draw a bar for each case and peer: the time of the peer, divided by ours."""
    import matplotlib
    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    ours, peers, rows = names[0], names[1:], list(medians)
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(rows) + 1.2), layout="constrained")
    height = 0.8 / max(1, len(peers))
    for k, peer in enumerate(peers):
        at = [i + k * height for i, row in enumerate(rows) if peer in medians[row]]
        times = [medians[row][peer] / medians[row][ours] for row in rows if peer in medians[row]]
        axes.barh(at, times, height, label=peer, left=0)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(rows))], rows)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel(f"times as long as {ours} (right of 1: {ours} is faster)")
    axes.legend(loc="lower right")
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("littlefs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cases", default="smallfiles,bigdir,rename,sequential,overwrite,append,fsync,sqlite,tree,df")
    parser.add_argument("--options", default="rw", help="options of our mount")
    parser.add_argument("--writeback", action="store_true", help="measure our mount with writeback, too")
    parser.add_argument("--littlefs-fuse")
    parser.add_argument("--passthrough-hp")
    parser.add_argument("--ext4", action="store_true")
    parser.add_argument("--pin", help="run callers and daemons on this processor")
    parser.add_argument("--directory", default=None, help="where the images are made")
    parser.add_argument("--output", type=Path, default=Path("target/bench"))
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("mounting the peers and dropping caches need root: run this as root")

    base = Path(tempfile.mkdtemp(prefix="littlefs-bench.", dir=args.directory))
    systems = [Ours("littlefs", base, args.pin, args.littlefs, args.options)]
    if args.writeback:
        systems.append(Ours("writeback", base, args.pin, args.littlefs, args.options + ",writeback"))
    if args.littlefs_fuse:
        systems.append(LittlefsFuse("littlefs-fuse", base, args.pin, args.littlefs_fuse))
    if args.passthrough_hp:
        systems.append(Passthrough("passthrough_hp", base, args.pin, args.passthrough_hp))
    if args.ext4:
        systems.append(Ext4("ext4", base, args.pin))
    names = [fs.name for fs in systems]
    try:
        figures = measure(systems, args.cases.split(","), args.runs, args.pin)
    finally:
        for fs in systems:
            if os.path.ismount(fs.mnt):
                subprocess.run(["umount", fs.mnt])
        shutil.rmtree(base, ignore_errors=True)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "figures.json").write_text(json.dumps(figures, indent=1))
    table, medians = report(figures, names)
    (args.output / "table.md").write_text(table)
    if len(names) > 1:
        draw(medians, names, args.output / "chart.svg")
    print(table)


if __name__ == "__main__":
    main()
