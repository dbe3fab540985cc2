//! Times, owners, modes and special files in user attributes: the mount shows what C littlefs has
//! written, and C reads what the mount has written.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::operations::drop_caches;
use testkit::clfs::{CError, CLfs, Config};
use testkit::mounted::{BLOCK_SIZE, Mounted, as_root, littlefs, output, python, run, sh};

/// Seconds and nanoseconds since 1970.
type Time = (u64, u32);
const BEFORE: Time = (1_600_000_000, 0);
const AFTER: Time = (1_700_000_001, 123_456_789);

fn system_time(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(time.0, time.1)
}

/// Let C littlefs change the unmounted image.
fn in_c<T>(m: &Mounted, work: impl FnOnce(&mut CLfs) -> T) -> T {
    let bytes = fs::read(m.image()).expect("the image should be readable");
    let config = Config::new(BLOCK_SIZE, bytes.len() as u32 / BLOCK_SIZE, 16);
    let mut c = CLfs::mount(bytes, &config).expect("C littlefs should mount the image");
    let result = work(&mut c);
    fs::write(m.image(), c.unmount()).expect("the image should be writable");
    result
}

/// All attributes that C finds at a path. The root is the empty path.
fn attrs(c: &mut CLfs, path: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let of_type = |ty| match c.getattr(path, ty) {
        Ok(value) => Some((ty, value)),
        Err(CError::NoAttr) => None,
        Err(e) => panic!("C cannot read attribute {ty:#x}: {e:?}"),
    };
    (0..=u8::MAX).filter_map(of_type).collect()
}

fn set_mtime(m: &Mounted, name: &str, time: Time) {
    File::open(m.path(name)).expect("open").set_modified(system_time(time)).expect("utimens");
}

fn mtime(m: &Mounted, name: &str) -> SystemTime {
    fs::metadata(m.path(name)).expect("stat").modified().expect("mtime")
}

/// How a device stores a modification time: the type of the attribute, and the bytes for a time.
type Writer = (u8, fn(Time) -> Vec<u8>);

fn seconds32(t: Time) -> Vec<u8> {
    (t.0 as u32).to_le_bytes().into()
}

fn seconds64(t: Time) -> Vec<u8> {
    t.0.to_le_bytes().into()
}

fn nanos(t: Time) -> Vec<u8> {
    (t.0 * 1_000_000_000 + u64::from(t.1)).to_le_bytes().into()
}

fn days_picos(t: Time) -> Vec<u8> {
    let days = (t.0 / 86_400) as u32;
    let picos = (t.0 % 86_400 * 1_000_000_000 + u64::from(t.1)) * 1000;
    [&days.to_le_bytes()[..], &picos.to_le_bytes()[..]].concat()
}

#[test]
fn modification_times_of_every_device_are_shown_and_kept() {
    let devices: [(&str, &[Writer]); 9] = [
        ("micropython", &[(1, nanos)]),
        ("picoruby", &[(1, seconds32)]),
        ("esp-idf", &[(b't', seconds64)]),
        ("esp-idf of 32 bits", &[(b't', seconds32)]),
        ("esp-idf-2019", &[(0, seconds64)]),
        ("arduino", &[(b't', seconds64), (b'c', seconds64)]),
        ("mklittlefs", &[(b't', seconds32), (b'c', seconds32)]),
        ("ardupilot", &[(b'M', seconds32)]),
        ("chamelon", &[(b't', days_picos)]),
    ];
    for (device, writers) in devices {
        let mut m = Mounted::unmounted("1M");
        in_c(&m, |c| {
            c.write_file(b"f", b"content").expect("write");
            for (ty, bytes) in writers {
                c.setattr(b"f", *ty, &bytes(BEFORE)).expect("setattr");
            }
            c.setattr(b"f", 0x42, b"kept").expect("setattr");
        });
        m.mount("rw");
        assert_eq!(mtime(&m, "f"), system_time(BEFORE), "{device}");
        set_mtime(&m, "f", AFTER);
        fs::write(m.path("g"), b"new").expect("write");
        set_mtime(&m, "g", AFTER);
        let shown = mtime(&m, "f");
        let whole = system_time((AFTER.0, 0));
        assert!(shown == system_time(AFTER) || shown == whole, "{device}: {shown:?}");
        m.remount();
        assert_eq!((mtime(&m, "f"), mtime(&m, "g")), (shown, shown), "{device}");
        m.unmount();
        in_c(&m, |c| {
            for (ty, bytes) in writers.iter().filter(|(ty, _)| *ty != b'c') {
                let value = bytes(AFTER);
                assert_eq!(c.getattr(b"f", *ty), Ok(value.clone()), "{device}");
                assert_eq!(c.getattr(b"g", *ty), Ok(value), "{device}");
            }
            assert_eq!(attrs(c, b"f").len(), writers.len() + 1, "{device}");
            assert_eq!(attrs(c, b"g").len(), writers.len(), "{device}");
            assert_eq!(c.getattr(b"f", 0x42), Ok(b"kept".to_vec()));
        });
    }
}

#[test]
fn a_file_of_nanoframework_exists_for_the_device() {
    let mut m = Mounted::unmounted("1M");
    in_c(&m, |c| {
        c.write_file(b"f", b"x").expect("write");
        c.setattr(b"f", 0, &[1, 0, 0, 0]).expect("setattr");
    });
    m.mount("rw");
    fs::write(m.path("f"), b"y").expect("write");
    fs::write(m.path("g"), b"y").expect("write");
    m.unmount();
    in_c(&m, |c| {
        assert_eq!(attrs(c, b"f"), [(0, vec![1, 0, 0, 0])]);
        assert_eq!(attrs(c, b"g"), [(0, vec![0x80, 0, 0, 0])]);
    });
}

#[test]
fn a_profile_writes_as_its_devices_do() {
    let free = |m: &Mounted| sh(&m.dir(), "stat -f -c %f .", &[]);
    for (options, inlined, attr) in [
        ("profile=esp-idf", true, Some((b't', 8))),
        ("profile=arduino-esp8266,attrs=none", false, None),
        ("profile=arduino-esp8266", false, Some((b't', 8))),
        ("profile=nanoframework", false, Some((0, 4))),
        ("profile=zephyr,inline_max=500", true, None),
    ] {
        let mut m = Mounted::with_options("1M", options);
        let before = free(&m);
        fs::write(m.path("f"), [7; 400]).expect("write");
        File::open(m.path("f")).expect("open").sync_all().expect("fsync");
        assert_eq!(free(&m) == before, inlined, "{options}");
        m.unmount();
        in_c(&m, |c| {
            let found = attrs(c, b"f");
            let shape: Vec<(u8, usize)> = found.iter().map(|(ty, v)| (*ty, v.len())).collect();
            assert_eq!(shape.last().copied(), attr, "{options}: {shape:?}");
        });
    }
}

/// A record of NuttX.
fn nuttx(mode: u32, uid: u32, gid: u32, [atime, mtime, ctime]: [Time; 3]) -> Vec<u8> {
    let numbers = [0, mode, uid, gid].map(u32::to_le_bytes).concat();
    [numbers, nanos(atime), nanos(mtime), nanos(ctime)].concat()
}

#[test]
fn owners_and_modes_of_nuttx_and_phoenix_are_shown_and_kept() {
    let mut m = Mounted::unmounted("1M");
    let times = [(1, 5), BEFORE, (3, 7)];
    in_c(&m, |c| {
        c.write_file(b"f", b"x").expect("write");
        c.setattr(b"f", 0, &nuttx(0o100_640, 1000, 100, times)).expect("setattr");
    });
    m.mount("rw");
    let f = fs::metadata(m.path("f")).expect("stat");
    assert_eq!((f.mode(), f.uid(), f.gid()), (0o100_640, 1000, 100));
    assert_eq!((f.atime(), f.atime_nsec(), f.ctime_nsec()), (1, 5, 7));
    as_root("chmod 604 \"$1\"; chown 5:6 \"$1\"; touch -d @77.5 \"$1\"", &[&m.path("f")]);
    let f = fs::metadata(m.path("f")).expect("stat");
    m.unmount();
    in_c(&m, |c| {
        let ctime = (f.ctime() as u64, f.ctime_nsec() as u32);
        let times = [(77, 500_000_000), (77, 500_000_000), ctime];
        assert_eq!(attrs(c, b"f"), [(0, nuttx(0o100_604, 5, 6, times))]);
        c.removeattr(b"f", 0).expect("removeattr");
        c.mkdir(b"d").expect("mkdir");
        for (ty, value) in [(0xf6, 0o40_711), (0xf7, 8), (0xf8, 9)] {
            c.setattr(b"d", ty, &u32::to_le_bytes(value)).expect("setattr");
        }
        c.setattr(b"d", 0xf9, &seconds64(BEFORE)).expect("setattr");
    });
    m.mount("rw");
    let d = fs::metadata(m.path("d")).expect("stat");
    assert_eq!((d.mode(), d.uid(), d.gid()), (0o40_711, 9, 8));
    assert_eq!(mtime(&m, "d"), system_time(BEFORE));
    as_root("chmod 755 \"$1\"; chown 3:4 \"$1\"", &[&m.path("d")]);
    m.unmount();
    in_c(&m, |c| {
        for (ty, value) in [(0xf6, 0o40_755), (0xf7, 4), (0xf8, 3)] {
            assert_eq!(c.getattr(b"d", ty), Ok(u32::to_le_bytes(value).into()));
        }
        assert_eq!(c.getattr(b"d", 0xf9), Ok(seconds64(BEFORE)));
    });
}

#[test]
fn an_image_without_attributes_gets_none() {
    let mut m = Mounted::new("1M");
    sh(&m.dir(), "mkdir d; echo x > d/f; touch -d @5 d/f .; mv d/f g; chmod 600 g", &[]);
    let refused = output(std::process::Command::new("ln").arg("-s").arg("g").arg(m.path("l")));
    assert!(!refused.status.success());
    m.unmount();
    in_c(&m, |c| {
        for path in [&b""[..], b"d", b"g"] {
            assert!(attrs(c, path).is_empty());
        }
    });
    // Nor does one that has some, if it is not to.
    in_c(&m, |c| c.setattr(b"g", 1, &nanos(BEFORE)).expect("setattr"));
    m.mount("attrs=none");
    set_mtime(&m, "g", AFTER);
    m.unmount();
    in_c(&m, |c| assert_eq!(attrs(c, b"g"), [(1, nanos(BEFORE))]));
}

#[test]
fn everything_linux_knows_of_a_file_is_kept() {
    let mut m = Mounted::with_options("4M", "attrs=unix");
    as_root(
        r#"cd "$1"
           mkdir -m 2750 d; chown 7:8 d; echo hello > d/f; chmod 6751 d/f
           mkfifo -m 640 p; mknod -m 604 c c 1 3; mknod b b 259 70000
           ln -s d/f l; ln -s "$(printf %4000d 1)" long; chown -h 5:6 l
           python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'
           touch -d @1000000000.123456789 d/f d; touch -h -d @4294967295 l
           touch -d @-5.5 p; touch -d @5000000000 s
           chmod 1777 .; touch -d @9 ."#,
        &[&m.dir()],
    );
    m.remount();
    drop_caches(&m.dir());
    let stat = |name: &str| fs::symlink_metadata(m.path(name)).expect("stat");
    assert_eq!(stat("d").mode(), 0o42_750);
    assert_eq!((stat("d").uid(), stat("d/f").gid()), (7, 8), "a set-group-id directory's group");
    assert_eq!(stat("d/f").mode(), 0o106_751);
    assert_eq!((stat("d/f").mtime(), stat("d/f").mtime_nsec()), (1_000_000_000, 123_456_789));
    assert_eq!(stat("d").mtime(), 1_000_000_000);
    assert!(stat("p").file_type().is_fifo() && stat("s").file_type().is_socket());
    assert_eq!((stat("p").mode() & 0o777, stat("c").mode() & 0o777), (0o640, 0o604));
    assert!(stat("c").file_type().is_char_device() && stat("b").file_type().is_block_device());
    assert_eq!((stat("c").rdev(), stat("c").size()), (libc::makedev(1, 3), 0));
    assert_eq!(stat("b").rdev(), libc::makedev(259, 70000));
    assert_eq!(fs::read_link(m.path("l")).expect("readlink"), Path::new("d/f"));
    assert_eq!((stat("l").uid(), stat("l").gid(), stat("l").len()), (5, 6, 3));
    assert_eq!(stat("l").mtime(), 4_294_967_295);
    assert_eq!(stat("long").len(), 4000);
    assert_eq!((stat("p").mtime(), stat("p").mtime_nsec()), (-6, 500_000_000));
    assert_eq!(stat("s").mtime(), 5_000_000_000);
    assert_eq!((stat(".").mode(), stat(".").mtime()), (0o41_777, 9));
    assert_eq!(fs::read(m.path("l")).expect("follow"), b"hello\n");
    let listed = sh(&m.dir(), "find . -mindepth 1 -printf '%P %y\\n' | sort", &[]);
    assert_eq!(listed, "b b\nc c\nd d\nd/f f\nl l\nlong l\np p\ns s\n");
    m.unmount();
    run(littlefs().arg("check").arg(m.image()));
    in_c(&m, |c| {
        assert_eq!(c.read_file(b"l"), Ok(b"d/f".to_vec()));
        assert_eq!(c.read_file(b"b"), Ok([259_u32, 70000].map(u32::to_le_bytes).concat()));
        let owner = |mode: u32, uid, gid| [uid, gid, mode].map(u32::to_le_bytes).concat();
        assert_eq!(c.getattr(b"l", b'U'), Ok(owner(0o120_777, 5, 6)));
        assert_eq!(c.getattr(b"d/f", b'U').map(|v| v[8..].to_vec()), Ok(vec![0xe9, 0x8d, 0, 0]));
        let times = c.getattr(b"d/f", b'T').expect("getattr");
        let time = [&1_000_000_000_u32.to_le_bytes()[..], &123_456_789_u32.to_le_bytes()].concat();
        assert_eq!((times.len(), &times[8..16], &times[16..]), (24, &time[..], &time[..]));
        assert_eq!(c.getattr(b"", b'T').map(|v| v[8..12].to_vec()), Ok(vec![9, 0, 0, 0]));
        // And what C changes shows here.
        c.setattr(b"d/f", b'U', &owner(0o100_400, 1, 2)).expect("setattr");
        c.write_file(b"plain", b"").expect("write");
        c.setattr(b"plain", b'U', &owner(0o40_755, 1, 2)).expect("setattr");
    });
    m.mount("rw");
    let f = fs::metadata(m.path("d/f")).expect("stat");
    assert_eq!((f.mode(), f.uid(), f.gid()), (0o100_400, 1, 2));
    assert!(fs::metadata(m.path("plain")).expect("stat").is_file(), "no directory by its mode");
}

#[test]
fn programs_that_keep_everything_find_everything() {
    let mut m = Mounted::with_options("16M", "attrs=unix");
    let source = m.beside("source");
    fs::create_dir(&source).expect("mkdir");
    as_root(
        r#"cd "$1"
           mkdir -p a/b; ln -s ../x a/link; mkfifo a/pipe; echo text > a/b/text
           chmod 4711 a/b/text; chown -R 12:34 a; touch -h -d @1234567890.5 a/link a/pipe a/b/text a/b a
           python3 -c 'import os; os.setxattr("a/b", "user.note", b"kept")' || true"#,
        &[&source],
    );
    // what tells the copies apart: everything but change times and inode numbers
    let list = r#"find "$1" -printf '%P %y %m %U %G %s %T@ %l\n' | sed 's/^\(\S* d .* \)[0-9]* \([0-9.]* \)/\1\2/'"#;
    let script = format!(
        r#"cd "$2"
           list() {{ {list} | sort; }}
           cp -a "$1/a" cp
           rsync -aHAX "$1/a/" rsync
           mkdir tar; tar --format=posix -C "$1/a" -cf - . | tar -xpf - -C tar
           list "$1/a" > "$1/list"
           for copy in cp rsync tar; do list "$PWD/$copy" | diff "$1/list" -; done"#
    );
    as_root(&script, &[&source, &m.dir()]);
    m.remount();
    let script = format!(
        r#"cd "$2"
           list() {{ {list} | sort; }}
           for copy in cp rsync tar; do list "$PWD/$copy" | diff "$1/list" -; done
           test -z "$(rsync -aHAXi --delete "$1/a/" rsync/)""#
    );
    as_root(&script, &[&source, &m.dir()]);
    sh(
        &m.dir(),
        r#"git init -q repo && cd repo
           echo 1 > run; chmod +x run; ln -s run link
           git add . && git -c user.name=x -c user.email=x@y commit -qm 1
           git ls-files -s | cut -d' ' -f1 | tr '\n' ' ' | grep -qx '120000 100755 '
           printf 'b: a\n\tcp a b\n' > Makefile; echo x > a; make -s b"#,
        &[],
    );
    m.remount();
    sh(
        &m.dir(),
        "cd repo; git status --porcelain | grep -vx '?? [Mab].*' && exit 1; make -q b",
        &[],
    );
    m.unmount();
    run(littlefs().arg("check").arg(m.image()));
}

#[test]
fn permissions_are_enforced_where_the_image_holds_them() {
    let m = Mounted::with_options("1M", "attrs=unix,allow_other");
    as_root(
        r#"cd "$1"
           as() { setpriv --reuid "$1" --regid "$1" --clear-groups "$2" -c "$3"; }
           mkdir -m 777 d
           as 1 sh 'echo 1 > d/own; chmod 600 d/own'
           ! as 2 sh 'cat d/own' 2>/dev/null
           ! as 2 sh 'chmod 644 d/own' 2>/dev/null
           ! as 1 sh 'chown 2 d/own' 2>/dev/null
           test "$(stat -c %u:%g d/own)" = 1:1
           chmod 6755 d/own
           as 1 sh 'echo 2 >> d/own'
           test "$(stat -c %a d/own)" = 755
           chmod 1777 d
           ! as 2 sh 'rm -f d/own' 2>/dev/null
           as 1 sh 'rm d/own'"#,
        &[&m.dir()],
    );
    m.finish();
}

#[test]
fn reading_alone_writes_nothing() {
    let mut m = Mounted::with_options("1M", "attrs=unix");
    fs::write(m.path("f"), b"x").expect("write");
    m.unmount();
    let before = fs::read(m.image()).expect("read");
    let past =
        fs::FileTimes::new().set_accessed(system_time(BEFORE)).set_modified(system_time(BEFORE));
    m.mount("strictatime");
    fs::read(m.path("f")).expect("read");
    let atime = || fs::metadata(m.path("f")).expect("stat").accessed().expect("atime");
    let read_at = atime();
    assert!(read_at > system_time(AFTER));
    m.unmount();
    assert!(fs::read(m.image()).expect("read") == before, "the image was written");
    m.mount("noatime");
    File::open(m.path("f")).expect("open").set_times(past).expect("utimens");
    fs::read(m.path("f")).expect("read");
    let atime = || fs::metadata(m.path("f")).expect("stat").accessed().expect("atime");
    assert_eq!(atime(), system_time(BEFORE));
    m.remount();
    let atime = || fs::metadata(m.path("f")).expect("stat").accessed().expect("atime");
    assert_eq!(atime(), system_time(BEFORE));
    m.finish();
}

#[test]
fn user_attributes_are_extended_attributes() {
    let mut m = Mounted::new("1M");
    fs::write(m.path("f"), b"x").expect("write");
    fs::create_dir(m.path("d")).expect("mkdir");
    python(
        &m.dir(),
        "import os, errno\ntry: os.getxattr('f', 'user.littlefs.0x42')\nexcept OSError as e: assert e.errno == errno.ENOTSUP, e\nelse: assert False",
    );
    m.unmount();
    in_c(&m, |c| c.setattr(b"d", 0x42, b"from C").expect("setattr"));
    m.mount("user_xattr");
    python(
        &m.dir(),
        r"
import errno, os
def fails(code, call, *args):
    try: call(*args)
    except OSError as e: assert e.errno == code, e
    else: assert False, args
raw = 'user.littlefs.0x%02x'
assert os.getxattr('d', raw % 0x42) == b'from C'
for path in 'f', 'd', '.':
    os.setxattr(path, raw % 0xfe, b'one', os.XATTR_CREATE)
    fails(errno.EEXIST, os.setxattr, path, raw % 0xfe, b'', os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, path, raw % 0xfd, b'', os.XATTR_REPLACE)
    os.setxattr(path, raw % 0xfe, b'two', os.XATTR_REPLACE)
    os.setxattr(path, raw % 0, b'')
    assert raw % 0xfe in os.listxattr(path) and raw % 0 in os.listxattr(path)
    assert os.getxattr(path, raw % 0xfe) == b'two'
    os.removexattr(path, raw % 0)
    fails(errno.ENODATA, os.removexattr, path, raw % 0)
    fails(errno.ENODATA, os.getxattr, path, raw % 0)
os.setxattr('f', raw % 0xfc, bytes(1022))
fails(errno.ENOSPC, os.setxattr, 'f', raw % 0xfc, bytes(1023))
fails(errno.ENOTSUP, os.setxattr, 'f', 'user.name', b'')
fails(errno.ENOTSUP, os.setxattr, 'f', 'user.littlefs.0x1', b'')
fails(errno.ENOTSUP, os.setxattr, 'f', 'user.littlefs.0x+1', b'')
",
    );
    m.unmount();
    in_c(&m, |c| {
        assert_eq!(attrs(c, b""), [(0xfe, b"two".to_vec())]);
        assert_eq!(attrs(c, b"f"), [(0xfc, vec![0; 1022]), (0xfe, b"two".to_vec())]);
        assert_eq!(attrs(c, b"d"), [(0x42, b"from C".to_vec()), (0xfe, b"two".to_vec())]);
    });
    m.mount("user_xattr");
    m.finish();
}

#[test]
fn extended_attributes_of_any_name_with_unix() {
    let mut m = Mounted::with_options("1M", "attrs=unix");
    fs::write(m.path("f"), b"x").expect("write");
    symlink("f", m.path("l")).expect("symlink");
    let script = r"
import errno, os
def fails(code, call, *args):
    try: call(*args)
    except OSError as e: assert e.errno == code, e
    else: assert False, args
for path in 'f', '.':
    os.setxattr(path, 'user.a', b'1')
    os.setxattr(path, 'user.b', b'')
    os.setxattr(path, 'user.a', b'2', os.XATTR_REPLACE)
    assert sorted(os.listxattr(path)) == ['user.a', 'user.b'], os.listxattr(path)
    assert os.getxattr(path, 'user.a') == b'2' and os.getxattr(path, 'user.b') == b''
    os.removexattr(path, 'user.b')
    fails(errno.ENODATA, os.getxattr, path, 'user.b')
fails(errno.ENOSPC, os.setxattr, 'f', 'user.large', bytes(1020))
# owners, modes and times change by chown, chmod and utimensat alone
fails(errno.EPERM, os.setxattr, 'f', 'user.littlefs.0x55', bytes(12))
fails(errno.EPERM, os.removexattr, 'f', 'user.littlefs.0x54')
fails(errno.EPERM, os.setxattr, 'f', 'user.littlefs.0x58', b'')
fails(errno.ENOTSUP, os.setxattr, 'f', 'trusted.a', b'')
";
    python(&m.dir(), script);
    m.remount();
    python(&m.dir(), "import os\nfor p in 'f', '.': assert os.getxattr(p, 'user.a') == b'2'");
    m.unmount();
    in_c(&m, |c| assert_eq!(c.getattr(b"f", b'X'), Ok(b"\x01\x01\0a2".to_vec())));
}

#[test]
fn what_an_image_has_no_room_for_is_refused() {
    let mut m = Mounted::unmounted("1M");
    run(littlefs().args(["mkfs", "--force", "--attr-max", "4"]).arg(m.image()));
    let said = output(littlefs().args(["mount", "-o", "attrs=unix"]).arg(m.image()).arg(m.dir()));
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("attrs=unix needs attributes of 24 bytes, but the image allows only 4"),
        "{said}"
    );
    // What the image has itself is found all the same.
    in_c(&m, |c| {
        c.write_file(b"f", b"x").expect("write");
        c.setattr(b"f", b't', &seconds32(BEFORE)).expect("setattr");
    });
    m.mount("rw");
    assert_eq!(mtime(&m, "f"), system_time(BEFORE));
    m.finish();
}
