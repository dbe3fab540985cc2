//! Files that are open while their names change, and several users of one file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::operations::drop_caches;
use testkit::mounted::{Mounted, noise, python, wait_until};

fn open_new(m: &Mounted, name: &str) -> File {
    let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
    options.open(m.path(name)).expect("open should succeed")
}

fn content(f: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    f.seek(SeekFrom::Start(0)).expect("seek");
    f.read_to_end(&mut bytes).expect("read of an open file");
    bytes
}

#[test]
fn an_open_file_follows_its_renames() {
    let m = Mounted::new("1M");
    fs::create_dir(m.path("d")).expect("mkdir");
    let mut f = open_new(&m, "a");
    f.write_all(b"one ").expect("write");
    fs::rename(m.path("a"), m.path("b")).expect("rename");
    f.write_all(b"two ").expect("write");
    fs::rename(m.path("b"), m.path("d/c")).expect("rename");
    f.sync_all().expect("fsync");
    fs::rename(m.path("d"), m.path("e")).expect("rename of its directory");
    f.write_all(b"three").expect("write");
    // Another file takes the first name.
    fs::write(m.path("a"), b"other").expect("write");
    assert_eq!(fs::read(m.path("e/c")).expect("read"), b"one two three");
    assert_eq!(content(&mut f), b"one two three");
    drop(f);
    m.finish();
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    let m = Mounted::new("1M");
    let free = || {
        let free = python(&m.dir(), "import os; print(os.statvfs('.').f_bfree)");
        free.trim().parse::<u32>().expect("a number")
    };
    let before = free();
    fs::create_dir(m.path("d")).expect("mkdir");
    let mut f = open_new(&m, "d/f");
    f.write_all(&noise(200_000, 1)).expect("write");
    f.sync_all().expect("fsync");
    fs::remove_file(m.path("d/f")).expect("unlink");
    assert_eq!(fs::read_dir(m.path("d")).expect("readdir").count(), 0, "no temporary names");
    fs::remove_dir(m.path("d")).expect("its directory can go at once");
    drop_caches(&m.dir());
    assert_eq!(content(&mut f), noise(200_000, 1));
    f.write_all_at(b"still writable", 300_000).expect("write");
    f.sync_all().expect("fsync");
    let meta = f.metadata().expect("fstat");
    assert_eq!((meta.nlink(), meta.len()), (0, 300_014));
    assert!(free() + 70 < before, "its blocks are still in use");
    drop(f);
    wait_until("the space to come back", || free() + 2 >= before);
    m.finish();
}

#[test]
fn a_replaced_file_lives_until_it_is_closed() {
    let m = Mounted::new("1M");
    let mut old = open_new(&m, "f");
    old.write_all(b"old").expect("write");
    for round in 0..50 {
        // As editors save.
        fs::write(m.path("f.new"), format!("new {round}")).expect("write");
        fs::rename(m.path("f.new"), m.path("f")).expect("rename");
    }
    assert_eq!(content(&mut old), b"old");
    assert_eq!(fs::read(m.path("f")).expect("read"), b"new 49");
    old.write_all(b"er").expect("write");
    assert_eq!(content(&mut old), b"older");
    drop(old);
    m.finish();
}

#[test]
fn more_files_open_than_are_kept_open_inside() {
    let m = Mounted::new("16M");
    let mut files: Vec<File> = (0..900).map(|n| open_new(&m, &format!("f{n}"))).collect();
    for n in 0..1500 {
        fs::write(m.path(&format!("g{n}")), noise(100, n)).expect("write");
    }
    for (n, f) in files.iter_mut().enumerate() {
        f.write_all(&noise(300, n as u32)).expect("write");
    }
    for n in 0..450 {
        fs::remove_file(m.path(&format!("f{n}"))).expect("unlink");
    }
    for (n, f) in files.iter_mut().enumerate() {
        assert_eq!(content(f), noise(300, n as u32), "file {n}");
    }
    drop(files);
    m.finish();
}

#[test]
fn mapped_memory() {
    let m = Mounted::new("1M");
    fs::write(m.path("f"), noise(20_000, 2)).expect("write");
    python(
        &m.dir(),
        r"
import mmap, os
fd = os.open('f', os.O_RDWR)
with mmap.mmap(fd, 0) as shared:
    before = shared[:]
    shared[5000:5005] = b'hello'
    shared[19990:20000] = b'0123456789'
    shared.flush()
    assert os.pread(fd, 5, 5000) == b'hello'
    os.pwrite(fd, b'WRITE', 100)
    assert shared[100:105] == b'WRITE'
    shared[0:3] = b'end'
with mmap.mmap(fd, 0, mmap.MAP_PRIVATE) as private:
    private[0:3] = b'xyz'
assert os.pread(fd, 3, 0) == b'end'
os.fsync(fd)
",
    );
    let mut expected = noise(20_000, 2);
    expected[5000..5005].copy_from_slice(b"hello");
    expected[19_990..].copy_from_slice(b"0123456789");
    expected[100..105].copy_from_slice(b"WRITE");
    expected[..3].copy_from_slice(b"end");
    assert_eq!(fs::read(m.path("f")).expect("read"), expected);
    m.finish();
}

#[test]
fn locks() {
    let m = Mounted::new("1M");
    python(
        &m.dir(),
        r"
import fcntl, os
a, b = open('f', 'w'), open('f', 'w')
fcntl.flock(a, fcntl.LOCK_EX)
try: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: pass
else: raise AssertionError('flock does not exclude')
fcntl.lockf(a, fcntl.LOCK_EX)
if os.fork() == 0:
    try: fcntl.lockf(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: os._exit(0)
    os._exit(1)
assert os.wait()[1] == 0, 'POSIX locks do not exclude'
",
    );
    m.finish();
}

#[test]
fn eight_users_at_once() {
    let m = Mounted::new("16M");
    std::thread::scope(|scope| {
        for user in 0..8u32 {
            let m = &m;
            scope.spawn(move || {
                let dir = format!("user{user}");
                fs::create_dir(m.path(&dir)).expect("mkdir");
                for n in 0..150u32 {
                    let name = format!("{dir}/{n}");
                    fs::write(m.path(&name), noise(n as usize * 37, user * 1000 + n))
                        .expect("write");
                    fs::rename(m.path(&name), m.path(&format!("{name}.done"))).expect("rename");
                    if n % 3 == 0 {
                        fs::remove_file(m.path(&format!("{name}.done"))).expect("unlink");
                    }
                }
                for n in (0..150u32).filter(|n| n % 3 != 0) {
                    let bytes = fs::read(m.path(&format!("{dir}/{n}.done"))).expect("read");
                    assert_eq!(bytes, noise(n as usize * 37, user * 1000 + n));
                }
            });
        }
    });
    m.finish();
}
