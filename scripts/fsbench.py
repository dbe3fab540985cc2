#!/usr/bin/env python3
"""Measure how long everyday operations take on a mounted filesystem.

usage: fsbench.py DIR [--quick] [--only NAME[,NAME...]]

DIR is an empty directory on the filesystem under test.  Every row of a case is
one JSON line {"case", "seconds", "ops", "unit_us" | "mib_s"}.  If a case fails
on the filesystem, it prints {"case", "error"}, and the run goes on.

Between writing and reading, the kernel's caches are dropped.  This needs root:
without it, the caches are still warm, and the row says "cold": false.

Only plain POSIX calls are used, so this runs unchanged on any filesystem.  To
compare two filesystems, run both in turn in one session, and quote ratios.
"""
import argparse, json, os, random, shutil, sqlite3, subprocess, tempfile, time

KIB, MIB = 1024, 1024 * 1024


def drop_caches():
    try:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


class Bench:
    def __init__(self, root, quick, only):
        self.root, self.quick, self.only = root, quick, only
        self.scale = 0.1 if quick else 1.0

    def n(self, full):
        return max(1, int(full * self.scale))

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def report(self, case, seconds, ops=None, nbytes=None, **more):
        row = {"case": case, "seconds": round(seconds, 4)}
        if ops:
            row["ops"] = ops
            row["unit_us"] = round(seconds / ops * 1e6, 2)
        if nbytes:
            row["mib_s"] = round(nbytes / MIB / seconds, 2)
        row.update(more)
        print(json.dumps(row), flush=True)

    def timed(self, fn):
        t = time.perf_counter()
        fn()
        return time.perf_counter() - t

    # -- metadata -----------------------------------------------------------
    def smallfiles(self):
        """create, stat, list, read and unlink 5000 files of 100 bytes in 50 directories"""
        dirs, per = 50, self.n(100)
        body = b"x" * 100

        def create():
            for d in range(dirs):
                os.mkdir(self.path(f"d{d}"))
                for i in range(per):
                    with open(self.path(f"d{d}", f"file-{i:05}"), "wb", buffering=0) as f:
                        f.write(body)
        self.report("smallfiles.create", self.timed(create), ops=dirs * per)
        cold = drop_caches()
        self.report("smallfiles.stat", self.timed(lambda: [
            os.stat(self.path(f"d{d}", f"file-{i:05}")) for d in range(dirs) for i in range(per)]),
            ops=dirs * per, cold=cold)
        cold = drop_caches()
        self.report("smallfiles.walk", self.timed(lambda: [
            [e.stat() for e in os.scandir(self.path(f"d{d}"))] for d in range(dirs)]),
            ops=dirs * per, cold=cold)
        cold = drop_caches()

        def read():
            for d in range(dirs):
                for i in range(per):
                    with open(self.path(f"d{d}", f"file-{i:05}"), "rb", buffering=0) as f:
                        assert f.read() == body
        self.report("smallfiles.read", self.timed(read), ops=dirs * per, cold=cold)

        def unlink():
            for d in range(dirs):
                for i in range(per):
                    os.unlink(self.path(f"d{d}", f"file-{i:05}"))
                os.rmdir(self.path(f"d{d}"))
        self.report("smallfiles.unlink", self.timed(unlink), ops=dirs * per)

    def bigdir(self):
        """create, stat, list and unlink many empty files in one directory, in shuffled order"""
        for count in (self.n(1000), self.n(4000)):
            names = [f"entry-{i:06}" for i in range(count)]
            random.Random(1).shuffle(names)
            d = self.path("bigdir")
            os.mkdir(d)

            def create():
                for n in names:
                    os.close(os.open(os.path.join(d, n), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            self.report(f"bigdir.{count}.create", self.timed(create), ops=count)
            cold = drop_caches()
            self.report(f"bigdir.{count}.stat", self.timed(
                lambda: [os.stat(os.path.join(d, n)) for n in names]), ops=count, cold=cold)
            cold = drop_caches()

            def ls():
                assert len(os.listdir(d)) == count
            self.report(f"bigdir.{count}.list", self.timed(ls), ops=count, cold=cold)

            def unlink():
                for n in names:
                    os.unlink(os.path.join(d, n))
            self.report(f"bigdir.{count}.unlink", self.timed(unlink), ops=count)
            os.rmdir(d)

    def rename(self):
        """rename within a directory, and from one directory to another"""
        a, b, count = self.path("ra"), self.path("rb"), self.n(500)
        os.mkdir(a), os.mkdir(b)
        for i in range(count):
            os.close(os.open(f"{a}/f{i:04}", os.O_CREAT | os.O_WRONLY))
        self.report("rename.same", self.timed(
            lambda: [os.rename(f"{a}/f{i:04}", f"{a}/g{i:04}") for i in range(count)]), ops=count)
        self.report("rename.across", self.timed(
            lambda: [os.rename(f"{a}/g{i:04}", f"{b}/g{i:04}") for i in range(count)]), ops=count)
        shutil.rmtree(a), shutil.rmtree(b)

    # -- data ---------------------------------------------------------------
    def sequential(self):
        """write and fsync one large file, then read it with cold caches, in calls of 128 KiB"""
        size = self.n(64) * MIB
        chunk = random.Random(2).randbytes(128 * KIB)
        p = self.path("seq.bin")

        def write():
            fd = os.open(p, os.O_CREAT | os.O_WRONLY)
            for _ in range(size // len(chunk)):
                os.write(fd, chunk)
            os.fsync(fd)
            os.close(fd)
        self.report("seq.write", self.timed(write), nbytes=size)
        cold = drop_caches()

        def read():
            fd, n = os.open(p, os.O_RDONLY), 0
            while b := os.read(fd, 128 * KIB):
                n += len(b)
            os.close(fd)
            assert n == size
        self.report("seq.read", self.timed(read), nbytes=size, cold=cold)
        cold = drop_caches()
        rng, count = random.Random(3), self.n(4000)

        def rread():
            fd = os.open(p, os.O_RDONLY)
            for _ in range(count):
                off = rng.randrange(size - 4096)
                assert len(os.pread(fd, 4096, off)) == 4096
            os.close(fd)
        self.report("rand.read4k", self.timed(rread), ops=count, cold=cold)
        os.unlink(p)

    def overwrite(self):
        """overwrite 4 KiB at random places of a 16 MiB file, with one fsync at the end"""
        size = self.n(16) * MIB
        p, rng, count = self.path("over.bin"), random.Random(4), self.n(500)
        with open(p, "wb") as f:
            f.write(rng.randbytes(size))
        page = rng.randbytes(4096)

        def go():
            fd = os.open(p, os.O_RDWR)
            for _ in range(count):
                os.pwrite(fd, page, rng.randrange(size // 4096) * 4096)
            os.fsync(fd)
            os.close(fd)
        self.report("rand.overwrite4k", self.timed(go), ops=count)
        os.unlink(p)

    def append(self):
        """append log lines: first with one open descriptor, then opening and closing for each line"""
        p, line = self.path("log.txt"), b"2026-01-01T00:00:00 INFO a log line of about eighty bytes, as devices write\n"
        count = self.n(50000)

        def held():
            fd = os.open(p, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            for _ in range(count):
                os.write(fd, line)
            os.close(fd)
        self.report("append.held", self.timed(held), ops=count)
        count2 = self.n(1000)

        def reopen():
            for _ in range(count2):
                fd = os.open(p, os.O_APPEND | os.O_WRONLY)
                os.write(fd, line)
                os.close(fd)
        self.report("append.reopen", self.timed(reopen), ops=count2)
        assert os.stat(p).st_size == len(line) * (count + count2)
        os.unlink(p)

    def fsync(self):
        """write 100 bytes and fsync, repeatedly"""
        p, count = self.path("sync.txt"), self.n(500)

        def go():
            fd = os.open(p, os.O_CREAT | os.O_WRONLY)
            for _ in range(count):
                os.write(fd, b"y" * 100)
                os.fsync(fd)
            os.close(fd)
        self.report("fsync.each", self.timed(go), ops=count)
        os.unlink(p)

    # -- whole programs -----------------------------------------------------
    def sqlite(self):
        """loads like those of LevelDB's db_bench, through SQLite: 16-byte keys, 100-byte values"""
        db, rng = self.path("bench.db"), random.Random(5)
        con = sqlite3.connect(db, isolation_level=None)
        con.execute("create table kv(k blob primary key, v blob)")
        value = rng.randbytes(100)
        key = lambda i: b"%016d" % i
        n_sync, n = self.n(200), self.n(20000)

        def fillsync():
            for i in range(n_sync):
                con.execute("insert into kv values(?,?)", (key(i), value))
        self.report("sqlite.fillseqsync", self.timed(fillsync), ops=n_sync)

        def batch():
            con.execute("begin")
            con.executemany("insert or replace into kv values(?,?)",
                            ((key(1000000 + i), value) for i in range(n)))
            con.execute("commit")
        self.report("sqlite.fillseqbatch", self.timed(batch), ops=n)

        def over():
            con.execute("begin")
            con.executemany("insert or replace into kv values(?,?)",
                            ((key(1000000 + rng.randrange(n)), value) for i in range(n)))
            con.execute("commit")
        self.report("sqlite.overwritebatch", self.timed(over), ops=n)
        con.close()
        cold = drop_caches()
        con = sqlite3.connect(db, isolation_level=None)

        def rread():
            for _ in range(n):
                assert con.execute("select v from kv where k=?", (key(1000000 + rng.randrange(n)),)).fetchone()
        self.report("sqlite.readrandom", self.timed(rread), ops=n, cold=cold)
        con.close()
        os.unlink(db)

    def tree(self):
        """unpack, copy, grep and remove a source tree (the Python standard library's modules, about 1,000 files)"""
        src = os.path.dirname(os.__file__)
        tar = os.path.join(tempfile.gettempdir(), "fsbench-tree.tar")
        skip = {"test", "site-packages", "__pycache__", "idlelib", "ensurepip"}
        names = sorted(n for n in os.listdir(src) if n not in skip and not n.startswith(("config-", "lib-dynload")))
        subprocess.run(["tar", "-C", src, "--exclude=__pycache__", "--exclude=tests", "--dereference", "--hard-dereference", "-cf", tar] +
                       (names[::10] if self.quick else names), check=True)
        d = self.path("tree")
        os.mkdir(d)
        run = lambda *a: subprocess.run(a, check=True, stdout=subprocess.DEVNULL)
        self.report("tree.untar", self.timed(lambda: run("tar", "-C", d, "--no-same-owner", "-xf", tar)))
        cold = drop_caches()
        self.report("tree.grep", self.timed(lambda: run("grep", "-r", "-c", "import", d)), cold=cold)
        self.report("tree.cp", self.timed(lambda: run("cp", "-r", d, d + "2")))
        self.report("tree.rm", self.timed(lambda: run("rm", "-rf", d, d + "2")))

    def df(self):
        """statfs while 32 MiB are in use"""
        with open(self.path("fill"), "wb") as f:
            f.write(b"z" * self.n(32) * MIB)
        count = 20
        self.report("df", self.timed(lambda: [os.statvfs(self.root) for _ in range(count)]), ops=count)
        os.unlink(self.path("fill"))

    CASES = ["smallfiles", "bigdir", "rename", "sequential", "overwrite", "append", "fsync", "sqlite", "tree", "df"]

    def run(self):
        for name in self.CASES:
            if self.only and name not in self.only:
                continue
            try:
                getattr(self, name)()
            except Exception as e:
                print(json.dumps({"case": name, "error": f"{type(e).__name__}: {e}"}), flush=True)


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("dir")
    ap.add_argument("--quick", action="store_true", help="a tenth of the work")
    ap.add_argument("--only", help="comma-separated case names: " + ",".join(Bench.CASES))
    a = ap.parse_args()
    Bench(a.dir, a.quick, a.only and a.only.split(",")).run()
