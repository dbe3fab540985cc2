//! Directories that change while they are read.

use std::collections::BTreeSet;
use std::fs;

use testkit::mounted::{Mounted, python, sh};

fn fill(m: &Mounted, count: usize) {
    fs::create_dir(m.path("d")).expect("mkdir");
    for n in 0..count {
        fs::write(m.path(&format!("d/file-{n:05}")), b"").expect("create");
    }
}

fn names(m: &Mounted) -> BTreeSet<String> {
    let entries = fs::read_dir(m.path("d")).expect("readdir");
    entries.map(|e| e.expect("entry").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn a_large_directory_is_removed_while_it_is_read() {
    let m = Mounted::new("32M");
    fill(&m, 20_000);
    assert_eq!(names(&m).len(), 20_000);
    sh(&m.dir(), "rm -rf d && test ! -e d", &[]);
    m.finish();
}

#[test]
fn what_stays_is_seen_exactly_once_whatever_happens_around_it() {
    let m = Mounted::new("8M");
    fill(&m, 3000);
    let mut seen = Vec::new();
    let reader = fs::read_dir(m.path("d")).expect("readdir");
    for (n, entry) in reader.enumerate() {
        let name = entry.expect("entry").file_name().into_string().expect("UTF-8");
        // Remove behind and ahead of the reader, and add.
        if n % 3 == 0 {
            let _ = fs::remove_file(m.path(&format!("d/file-{:05}", n * 7919 % 3000 / 2 * 2)));
        }
        if n % 5 == 0 {
            fs::write(m.path(&format!("d/new-{n}")), b"").expect("create");
        }
        seen.push(name);
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is listed twice");
    for odd in (1..3000).step_by(2) {
        assert!(distinct.contains(&format!("file-{odd:05}")), "file-{odd:05} was there throughout");
    }
    m.finish();
}

#[test]
fn two_readers_do_not_disturb_each_other() {
    let m = Mounted::new("8M");
    fill(&m, 2000);
    let mut a = fs::read_dir(m.path("d")).expect("readdir");
    let mut b = fs::read_dir(m.path("d")).expect("readdir");
    let (mut from_a, mut from_b) = (BTreeSet::new(), BTreeSet::new());
    for n in 0.. {
        let next = [a.next(), if n % 2 == 0 { b.next() } else { None }];
        let [next_a, next_b] = next.map(|e| e.map(|e| e.expect("entry").file_name()));
        from_b.extend(next_b);
        match next_a {
            Some(name) => assert!(from_a.insert(name)),
            None => break,
        }
    }
    from_b.extend(b.map(|e| e.expect("entry").file_name()));
    drop(a);
    assert_eq!((from_a.len(), from_b.len()), (2000, 2000));
    m.finish();
}

#[test]
fn positions_can_be_returned_to() {
    let m = Mounted::new("8M");
    fill(&m, 1500);
    python(
        &m.dir(),
        r"
import ctypes, os
libc = ctypes.CDLL(None)
class Dirent(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('len', ctypes.c_uint16),
                ('type', ctypes.c_uint8), ('name', ctypes.c_char * 256)]
libc.opendir.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.telldir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
d = libc.opendir(b'd')
def rest():
    names = []
    while True:
        e = libc.readdir(d)
        if not e: return names
        names.append(e.contents.name)
for _ in range(700): libc.readdir(d)
here = libc.telldir(d)
assert here > 0
once = rest()
os.unlink(b'd/' + once[5])
libc.seekdir(d, here)
# The kernel may still show from its cache what was removed.
assert [n for n in rest() if n != once[5]] == once[:5] + once[6:]
libc.rewinddir(d)
everything = rest()
assert len(everything) == 1501 and {b'.', b'..'} <= set(everything), len(everything)
",
    );
    m.finish();
}

#[test]
fn dot_and_dot_dot_have_their_numbers() {
    let m = Mounted::new("1M");
    sh(
        &m.dir(),
        r#"mkdir -p a/b
           mv a/b b
           test "$(ls -ai b | awk '$2 == ".." { print $1 }')" = "$(stat -c %i .)"
           test "$(ls -ai b | awk '$2 == "." { print $1 }')" = "$(stat -c %i b)""#,
        &[],
    );
    m.finish();
}
