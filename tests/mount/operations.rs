//! Each operation separately.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use testkit::mounted::{Mounted, noise, python};

/// The errno of a failure.
fn errno<T>(result: io::Result<T>) -> i32 {
    let e = result.err().expect("it should fail");
    e.raw_os_error().expect("the system should have said why")
}

#[test]
fn files_are_made_written_and_read() {
    let m = Mounted::new("1M");
    for (name, len) in
        [("empty", 0), ("tiny", 5), ("inline", 64), ("block", 4096), ("large", 100_001)]
    {
        fs::write(m.path(name), noise(len, 1)).expect("write should succeed");
        assert_eq!(fs::read(m.path(name)).expect("read should succeed"), noise(len, 1));
        let meta = fs::metadata(m.path(name)).expect("stat should succeed");
        assert_eq!((meta.len(), meta.nlink(), meta.is_file()), (len as u64, 1, true));
    }
    let again = OpenOptions::new().write(true).create_new(true).open(m.path("tiny"));
    assert_eq!(errno(again), libc::EEXIST);
    assert_eq!(errno(File::open(m.path("missing"))), libc::ENOENT);
    assert_eq!(errno(File::open(m.path("tiny/below"))), libc::ENOTDIR);
    assert_eq!(errno(fs::read(m.dir())), libc::EISDIR);
    m.finish();
}

#[test]
fn writes_go_where_they_should() {
    let m = Mounted::new("1M");
    let mut expected = noise(20_000, 2);
    fs::write(m.path("f"), &expected).expect("write should succeed");
    let f = OpenOptions::new().read(true).write(true).open(m.path("f")).expect("open");
    for (at, len) in [(0, 10), (4090, 12), (8192, 4096), (19_990, 10), (19_999, 100)] {
        let data = noise(len, at as u32);
        f.write_all_at(&data, at as u64).expect("write should succeed");
        expected.resize(expected.len().max(at + len), 0);
        expected[at..at + len].copy_from_slice(&data);
    }
    // Beyond the end: the gap is zero.
    f.write_all_at(b"end", 50_000).expect("write should succeed");
    expected.resize(50_000, 0);
    expected.extend(b"end");
    assert_eq!(fs::read(m.path("f")).expect("read"), expected);
    drop(f);

    let mut a = OpenOptions::new().append(true).open(m.path("f")).expect("open");
    let mut b = OpenOptions::new().append(true).open(m.path("f")).expect("open");
    for n in 0..100 {
        write!(a, "a{n}").expect("append");
        write!(b, "b{n}").expect("append");
        write!(&mut expected, "a{n}b{n}").expect("a vector takes everything");
    }
    assert_eq!(fs::read(m.path("f")).expect("read"), expected);
    drop((a, b));
    m.finish();
}

#[test]
fn truncate_both_ways() {
    let m = Mounted::new("1M");
    let mut expected = noise(10_000, 3);
    fs::write(m.path("f"), &expected).expect("write");
    let f = OpenOptions::new().read(true).write(true).open(m.path("f")).expect("open");
    for len in [9_000, 4096, 12_000, 30, 40, 5_000, 0, 1] {
        f.set_len(len).expect("truncate should succeed");
        expected.resize(len as usize, 0);
        assert_eq!(fs::read(m.path("f")).expect("read"), expected, "after truncating to {len}");
        assert_eq!(f.metadata().expect("stat").len(), len);
    }
    fs::write(m.path("f"), b"new").expect("O_TRUNC should succeed");
    assert_eq!(fs::read(m.path("f")).expect("read"), b"new");
    assert_eq!(errno(f.set_len(1 << 31)), libc::EFBIG);
    drop(f);
    m.finish();
}

#[test]
fn directories() {
    let m = Mounted::new("1M");
    fs::create_dir_all(m.path("a/b/c")).expect("mkdir should succeed");
    assert_eq!(errno(fs::create_dir(m.path("a"))), libc::EEXIST);
    assert_eq!(errno(fs::create_dir(m.path("x/y"))), libc::ENOENT);
    assert_eq!(errno(fs::remove_dir(m.path("a"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_file(m.path("a/b/c"))), libc::EISDIR);
    fs::write(m.path("f"), b"").expect("write");
    assert_eq!(errno(fs::remove_dir(m.path("f"))), libc::ENOTDIR);
    fs::remove_dir(m.path("a/b/c")).expect("rmdir should succeed");
    assert_eq!(errno(fs::metadata(m.path("a/b/c"))), libc::ENOENT);
    let meta = fs::metadata(m.path("a")).expect("stat");
    assert!(meta.is_dir() && meta.nlink() == 1);
    m.finish();
}

#[test]
fn rename_replaces_what_it_may() {
    let m = Mounted::new("1M");
    let (p, text) = (|n: &str| m.path(n), |n: &str| fs::read_to_string(m.path(n)));
    for dir in ["d", "e", "full"] {
        fs::create_dir(p(dir)).expect("mkdir");
    }
    for file in ["a", "b", "full/x"] {
        fs::write(p(file), file).expect("write");
    }
    fs::rename(p("a"), p("a2")).expect("within a directory");
    fs::rename(p("a2"), p("d/a")).expect("to another directory");
    fs::rename(p("d/a"), p("b")).expect("over a file");
    assert_eq!(text("b").expect("read"), "a");
    fs::rename(p("d"), p("e")).expect("over an empty directory");
    fs::rename(p("full"), p("e/full")).expect("a directory with content");
    assert_eq!(text("e/full/x").expect("read"), "full/x");
    fs::rename(p("b"), p("b")).expect("onto itself");

    assert_eq!(errno(fs::rename(p("e"), p("e/full/e"))), libc::EINVAL);
    fs::create_dir(p("empty")).expect("mkdir");
    assert_eq!(errno(fs::rename(p("empty"), p("e"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(p("empty"), p("b"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(p("b"), p("empty"))), libc::EISDIR);
    assert_eq!(errno(fs::rename(p("missing"), p("z"))), libc::ENOENT);
    m.finish();
}

#[test]
fn rename_flags() {
    let m = Mounted::new("1M");
    python(
        &m.dir(),
        r"
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, NOREPLACE, EXCHANGE, WHITEOUT = -100, 1, 2, 4
def rename(a, b, flags):
    ok = libc.renameat2(AT_FDCWD, a, AT_FDCWD, b, flags) == 0
    return 0 if ok else ctypes.get_errno()
for n in 'ab': open(n, 'w').write(n)
os.mkdir('d')
assert rename(b'a', b'b', NOREPLACE) == errno.EEXIST
assert rename(b'a', b'd', NOREPLACE) == errno.EEXIST
assert rename(b'a', b'd/c', NOREPLACE) == 0
assert rename(b'd/c', b'b', EXCHANGE) == errno.EINVAL
assert rename(b'd/c', b'e', WHITEOUT) == errno.EINVAL
assert open('d/c').read() == 'a' and open('b').read() == 'b'
",
    );
    m.finish();
}

#[test]
fn what_littlefs_cannot_hold_is_refused() {
    let m = Mounted::new("1M");
    fs::write(m.path("f"), b"x").expect("write");
    assert_eq!(errno(fs::hard_link(m.path("f"), m.path("l"))), libc::EPERM);
    assert_eq!(errno(std::os::unix::fs::symlink("f", m.path("s"))), libc::EPERM);
    python(
        &m.dir(),
        r"
import errno, os, socket, stat
def fails(call, *args):
    try: call(*args)
    except OSError as e: return e.errno
    raise AssertionError('succeeded')
assert fails(os.mkfifo, 'p') == errno.EPERM
assert fails(socket.socket(socket.AF_UNIX).bind, 's') in (errno.EPERM, errno.EACCES)
assert fails(os.getxattr, 'f', 'user.a') == errno.EOPNOTSUPP
assert fails(os.setxattr, 'f', 'user.a', b'1') == errno.EOPNOTSUPP
os.mknod('regular', stat.S_IFREG | 0o644)
assert os.stat('regular').st_size == 0
",
    );
    m.finish();
}

#[test]
fn names() {
    let m = Mounted::new("1M");
    let long = "n".repeat(255);
    fs::write(m.path(&long), b"long").expect("255 bytes should fit");
    let longer = m.path(&"n".repeat(256));
    assert_eq!(errno(fs::write(&longer, b"")), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(&longer)), libc::ENAMETOOLONG);
    for name in [&b"\xff\xfe"[..], b" ", b"a\nb", b"-rf", b"\\", b"caf\xc3\xa9", b"...", b"\x01"] {
        let path = m.dir().join(OsStr::from_bytes(name));
        fs::write(&path, name).expect("any bytes should do");
        assert_eq!(fs::read(&path).expect("read"), name);
    }
    m.finish();
}

#[test]
fn modes_and_owners_are_those_of_the_mount() {
    let m = Mounted::with_options("1M", "umask=027");
    fs::write(m.path("f"), b"x").expect("write");
    fs::create_dir(m.path("d")).expect("mkdir");
    let meta = fs::metadata(m.path("f")).expect("stat");
    assert_eq!(meta.mode(), libc::S_IFREG | 0o750);
    assert_eq!(fs::metadata(m.path("d")).expect("stat").mode(), libc::S_IFDIR | 0o750);
    // Less the mask.
    fs::set_permissions(m.path("f"), PermissionsExt::from_mode(0o604)).expect("chmod");
    assert_eq!(fs::metadata(m.path("f")).expect("stat").mode(), libc::S_IFREG | 0o600);
    let setuid = fs::set_permissions(m.path("f"), PermissionsExt::from_mode(0o4755));
    assert_eq!(errno(setuid), libc::EPERM);
    let chown = |uid, gid| std::os::unix::fs::chown(m.path("f"), uid, gid);
    chown(Some(meta.uid()), Some(meta.gid())).expect("chown to the owner it has");
    assert_eq!(errno(chown(Some(meta.uid() + 1), None)), libc::EPERM);
    assert_eq!(errno(chown(None, Some(meta.gid() + 1))), libc::EPERM);
    m.finish();
}

#[test]
fn access_and_statfs() {
    let m = Mounted::new("1M");
    fs::write(m.path("f"), noise(400_000, 4)).expect("write");
    python(
        &m.dir(),
        r"
import os
assert os.access('f', os.R_OK | os.W_OK) and not os.access('g', os.F_OK)
assert not os.access('f', os.X_OK) and os.access('.', os.X_OK)
s = os.statvfs('.')
assert (s.f_bsize, s.f_frsize, s.f_blocks, s.f_namemax) == (4096, 4096, 256, 255), s
assert 120 <= s.f_bfree <= 160 and s.f_bavail == s.f_bfree, s
os.unlink('f')
",
    );
    // The kernel forgets the file, and so frees it, a moment after the deletion.
    testkit::mounted::wait_until("the space to come back", || {
        let free = python(&m.dir(), "import os; print(os.statvfs('.').f_bfree)");
        free.trim().parse::<u32>().expect("a number") >= 250
    });
    m.finish();
}

#[test]
fn fallocate_extends_with_zeros() {
    let m = Mounted::new("1M");
    fs::write(m.path("f"), b"abc").expect("write");
    python(
        &m.dir(),
        r"
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
fd = os.open('f', os.O_RDWR)
for mode in (1, 3, 0x10, 0x11, 0x08, 0x20):
    assert libc.fallocate(fd, mode, 0, 10) == -1 and ctypes.get_errno() == errno.EOPNOTSUPP, mode
assert libc.fallocate(fd, 0, 2, 6) == 0
assert libc.fallocate(fd, 0, 0, 1) == 0
os.posix_fallocate(fd, 0, 5000)
assert os.fstat(fd).st_size == 5000
assert libc.fallocate(fd, 0, 0, 2 << 20) == -1 and ctypes.get_errno() == errno.ENOSPC
",
    );
    let mut expected = b"abc".to_vec();
    expected.resize(5000, 0);
    assert_eq!(fs::read(m.path("f")).expect("read"), expected);
    m.finish();
}

#[test]
fn seek_data_and_hole() {
    let m = Mounted::new("1M");
    fs::write(m.path("f"), noise(9000, 5)).expect("write");
    python(
        &m.dir(),
        r"
import errno, os
fd = os.open('f', os.O_RDONLY)
assert os.lseek(fd, 0, os.SEEK_DATA) == 0 and os.lseek(fd, 8999, os.SEEK_DATA) == 8999
assert os.lseek(fd, 0, os.SEEK_HOLE) == 9000 and os.lseek(fd, 8999, os.SEEK_HOLE) == 9000
for whence in (os.SEEK_DATA, os.SEEK_HOLE):
    try: os.lseek(fd, 9000, whence)
    except OSError as e: assert e.errno == errno.ENXIO
    else: raise AssertionError(whence)
",
    );
    let mut f = File::open(m.path("f")).expect("open");
    f.seek(SeekFrom::End(-1)).expect("seek");
    let mut last = Vec::new();
    f.read_to_end(&mut last).expect("read");
    assert_eq!(last, &noise(9000, 5)[8999..]);
    drop(f);
    m.finish();
}

#[test]
fn copy_file_range_copies() {
    let m = Mounted::new("4M");
    let data = noise(900_000, 6);
    fs::write(m.path("a"), &data).expect("write");
    python(
        &m.dir(),
        r"
import os
a, b = os.open('a', os.O_RDONLY), os.open('b', os.O_RDWR | os.O_CREAT)
done = 0
while True:
    n = os.copy_file_range(a, b, 1 << 30)
    if n == 0: break
    done += n
assert done == 900000, done
assert os.copy_file_range(a, b, 100, offset_src=5, offset_dst=900050) == 100
",
    );
    let mut expected = data.clone();
    expected.resize(900_050, 0);
    expected.extend(&data[5..105]);
    assert_eq!(fs::read(m.path("b")).expect("read"), expected);
    m.finish();
}

#[test]
fn no_space_is_reported_and_deleting_helps() {
    let m = Mounted::new("256K");
    fs::write(m.path("keep"), noise(50_000, 7)).expect("write");
    let fill = |name: &str| -> io::Result<()> {
        let mut f = File::create(m.path(name))?;
        loop {
            f.write_all(&noise(10_000, 8))?;
        }
    };
    for _ in 0..20 {
        assert_eq!(errno(fill("big")), libc::ENOSPC);
        assert!(fs::metadata(m.path("big")).expect("stat").len() > 100_000);
        fs::remove_file(m.path("big")).expect("deleting should work on a full image");
    }
    assert_eq!(errno(fill("big")), libc::ENOSPC);
    let many = (0..100_000).map(|n| fs::create_dir(m.path(&format!("d{n}"))));
    let full = many.take_while(|made| made.is_ok()).count();
    assert!(full < 100, "{full} directories in a full image");
    assert_eq!(fs::read(m.path("keep")).expect("read"), noise(50_000, 7));
    fs::remove_file(m.path("big")).expect("unlink");
    fs::write(m.path("after"), noise(100_000, 9)).expect("there should be space again");
    m.finish();
}

#[test]
fn inode_numbers_stay() {
    let mut m = Mounted::new("1M");
    fs::create_dir(m.path("d")).expect("mkdir");
    for name in ["a", "b", "d/c"] {
        fs::write(m.path(name), name).expect("write");
    }
    m.remount();
    let ino = |name: &str| fs::metadata(m.path(name)).expect("stat").ino();
    let before: Vec<u64> = ["a", "b", "d", "d/c", "."].map(ino).into();
    fs::rename(m.path("a"), m.path("d/renamed")).expect("rename");
    drop_caches(&m.dir());
    let after: Vec<u64> = ["d/renamed", "b", "d", "d/c", "."].map(ino).into();
    assert_eq!(before, after);
    fs::write(m.path("a"), "another").expect("write");
    assert!(!before.contains(&ino("a")));
    for entry in fs::read_dir(m.path("d")).expect("readdir") {
        let entry = entry.expect("entry");
        assert_eq!(
            std::os::unix::fs::DirEntryExt::ino(&entry),
            entry.metadata().expect("stat").ino()
        );
    }
    m.finish();
}

/// Make the kernel forget inodes and pages, if the test has the right to do so. Everything passes
/// without that, too.
pub fn drop_caches(dir: &Path) {
    let root = File::open(dir).expect("open");
    root.sync_all().expect("fsync of a directory");
    drop(root);
    match fs::write("/proc/sys/vm/drop_caches", "3") {
        Ok(()) => {}
        Err(e) => assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}"),
    }
}
