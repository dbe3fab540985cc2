#!/usr/bin/env python3
"""Record the terminal session that README shows as SVG, with the real output of the program.

usage: scripts/picture.py [LITTLEFS] > docs/session.svg

LITTLEFS is the program (default target/release/littlefs). Needs /dev/fuse and the package rich:
python3 -m venv target/venv && target/venv/bin/pip install rich==15.0.0 && target/venv/bin/python scripts/picture.py
"""

import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import rich.console
import rich.text

# Files such as a device has, so that the picture looks realistic.
FILES = {
    "boot.py": "import network\n",
    "config.json": '{"ssid": "workshop", "led": false}\n',
    "www/index.html": "<title>Sensor</title>\n" + "<p>hello</p>\n" * 300,
    "log/today.csv": "12:00,21.5\n" * 900,
}
OFFSET = 0x290000  # where ESP32 boards have their data partition

SESSION = """
littlefs scan flash.bin
littlefs mount -o offset=auto flash.bin mnt
ls -C mnt mnt/www
sed -i 's/false/true/' mnt/config.json
littlefs umount mnt
littlefs cat --offset 0x290000 flash.bin config.json
littlefs check --offset 0x290000 flash.bin
""".strip().splitlines()


def make_dump(littlefs, folder):
    """Make a dump of a flash of 4 MiB with a filesystem in it."""
    for name, text in FILES.items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run([littlefs, "create", "-q", "--size", "1408K", "fs.img", "data"], cwd=folder, check=True)
    image = (folder / "fs.img").read_bytes()
    dump = b"\xff" * OFFSET + image
    (folder / "flash.bin").write_bytes(dump + b"\xff" * ((4 << 20) - len(dump)))


def main():
    littlefs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/littlefs").resolve()
    console = rich.console.Console(record=True, width=112, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_dump(littlefs, folder)
        (folder / "mnt").mkdir()
        env = {**os.environ, "PATH": f"{littlefs.parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        for command in SESSION:
            console.print(rich.text.Text.assemble(("$ ", "green"), (command, "bold")))
            run = subprocess.run(
                command, shell=True, cwd=folder, env=env, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            if run.stdout:
                console.print(rich.text.Text(run.stdout.replace(str(folder), "/home/you").rstrip("\n")))
            if run.returncode != 0:
                sys.exit(f"{command}: exit status {run.returncode}\n{run.stdout}")
    svg = console.export_svg(title="littlefs", unique_id="session")
    # Load no fonts from the network: every reader has a monospaced font.
    sys.stdout.write(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


main()
