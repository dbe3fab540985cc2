"""One side of tests/python: images by littlefs-python, which holds another version of the C driver.

usage: images.py IMAGE JSON

JSON on standard input is a list of steps; each is [name, arguments...]. The tree that the image
holds afterwards is written to standard output as JSON: path -> null for a directory, hexadecimal
bytes for a file. With steps that begin with "format", IMAGE is made anew.
"""

import json
import sys

import littlefs
from littlefs import LittleFS, UserContext, lfs


def tree(fs):
    found = {}
    for root, dirs, files in fs.walk("/"):
        base = root.strip("/")
        for name in dirs:
            found[f"{base}/{name}".strip("/")] = None
        for name in files:
            path = f"{base}/{name}".strip("/")
            with fs.open(path, "rb") as file:
                found[path] = file.read().hex()
    return found


def attributes(fs, paths, types):
    found = {}
    for path in paths:
        for ty in types:
            try:
                found[f"{path}:{ty}"] = bytes(fs.getattr(path or "/", bytes([ty]))).hex()
            except littlefs.errors.LittleFSError:  # no such attribute
                pass
    return found


def run(fs, step):
    name, *args = step
    if name == "mkdir":
        fs.mkdir(args[0])
    elif name == "write":
        path, off, data = args
        with fs.open(path, "r+b" if path_exists(fs, path) else "wb") as file:
            file.seek(off)
            file.write(bytes.fromhex(data))
    elif name == "truncate":
        # The wrapper's own truncate empties the file.
        file = lfs.file_open(fs.fs, args[0], "r+")
        lfs.file_truncate(fs.fs, file, args[1])
        lfs.file_close(fs.fs, file)
    elif name == "remove":
        fs.remove(args[0])
    elif name == "rename":
        fs.rename(args[0], args[1])
    elif name == "setattr":
        fs.setattr(args[0] or "/", bytes([args[1]]), bytes.fromhex(args[2]))
    else:
        raise ValueError(name)


def path_exists(fs, path):
    try:
        fs.stat(path)
        return True
    except littlefs.errors.LittleFSError:
        return False


def main():
    job = json.load(sys.stdin)
    image, config = sys.argv[1], job["config"]
    size = config["block_size"] * config["block_count"]
    if job["format"]:
        context = UserContext(size)
        fs = LittleFS(context=context, mount=False, **config)
        fs.format()
    else:
        with open(image, "rb") as file:
            context = UserContext(buffer=bytearray(file.read()))
        fs = LittleFS(context=context, mount=False, **config)
    fs.mount()
    for step in job["steps"]:
        run(fs, step)
    found = tree(fs)
    attrs = attributes(fs, [""] + sorted(found), job["types"])
    used = fs.used_block_count
    fs.unmount()
    with open(image, "wb") as file:
        file.write(context.buffer)
    version = ".".join(map(str, littlefs.__LFS_VERSION__))
    json.dump({"version": version, "tree": found, "attrs": attrs, "used": used}, sys.stdout)


main()
