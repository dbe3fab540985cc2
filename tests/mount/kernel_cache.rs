//! What the kernel has in its caches for a mount must agree with the filesystem: pages beside
//! direct writes, mapped pages for which there was no space, and file handles of an earlier mount.
//! Also, what the kernel asks before it writes.

use std::fs;

use crate::status::status;
use testkit::mounted::{Mounted, python};

/// A script that runs as root, with a mount that is open to others. `as_user(call)` makes a call as
/// another user.
const AS_USER: &str = r"
import os
def as_user(call):
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([]); os.setresgid(1, 1, 1); os.setresuid(1, 1, 1)
            call()
            os._exit(0)
        except BaseException as e:
            print(e, flush=True)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
";

/// How many requests of one kind have been served so far.
fn served(m: &Mounted, operation: &str) -> u64 {
    status(&m.dir())["operations"][operation].as_u64().unwrap_or(0)
}

/// Other processes read the file through the page cache all the time, so that the kernel has pages
/// of it when a write ends.
#[test]
fn asynchronous_direct_writes_are_seen_by_buffered_reads() {
    let m = Mounted::new("4M");
    python(
        &m.dir(),
        r"
import ctypes, mmap, os, signal, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
SETUP, DESTROY, GETEVENTS, SUBMIT = {
    'x86_64': (206, 207, 208, 209), 'aarch64': (0, 1, 4, 2)}[os.uname().machine]
SIZE = 640 << 10
context = ctypes.c_ulong()
assert libc.syscall(SETUP, 1, ctypes.byref(context)) == 0
buffer = mmap.mmap(-1, SIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
direct = os.open('f', os.O_CREAT | os.O_RDWR | os.O_DIRECT)
os.pwrite(direct, buffer, 0)
reader = os.open('f', os.O_RDONLY)
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        while True: os.pread(reader, SIZE, 0)
    children.append(pid)
try:
    for n in range(250):
        byte = bytes([n % 255 + 1])
        buffer[:] = byte * SIZE
        # struct iocb: the second 16 bits of the third word are the operation, 1 for a write
        block = ctypes.create_string_buffer(
            struct.pack('=QIIHhIQQqQII', 0, 0, 0, 1, 0, direct, address, SIZE, 0, 0, 0, 0))
        blocks = (ctypes.c_void_p * 1)(ctypes.addressof(block))
        assert libc.syscall(SUBMIT, context, 1, blocks) == 1, ctypes.get_errno()
        event = (ctypes.c_longlong * 4)()
        assert libc.syscall(GETEVENTS, context, 1, 1, event, None) == 1
        assert event[2] == SIZE, event[2]
        seen = os.pread(reader, SIZE, 0)
        assert seen == byte * SIZE, f'write {n} has ended, and {seen[:1]} is read'
finally:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
",
    );
    m.finish();
}

/// A file of 256 KiB that contains only `a`, in an image that is otherwise full. `failing(what,
/// call)` checks that there is no space.
const FULL_IMAGE: &str = r"
import errno, mmap, os
SIZE = 256 << 10
f = os.open('f', os.O_RDWR | os.O_CREAT)
os.write(f, b'a' * SIZE)
os.fsync(f)
def failing(what, call):
    try: call()
    except OSError as e: assert e.errno == errno.ENOSPC, (what, e)
    else: raise AssertionError(what + ' succeeded')
def fill():
    # Not by writing: where writes are gathered, they go on without end.
    g = os.open('fill', os.O_WRONLY | os.O_CREAT)
    size = 0
    try:
        while True:
            os.posix_fallocate(g, 0, size + 4096)
            size += 4096
    except OSError as e: assert e.errno == errno.ENOSPC
    os.fsync(g)
    os.close(g)
def wait_for_old():
    # The kernel is told to forget the pages by another thread, a moment after the failure.
    import time
    for _ in range(1000):
        if os.pread(f, SIZE, 0) == b'a' * SIZE: return
        time.sleep(0.01)
    raise AssertionError('the file shows what was not kept')
fill()
";

#[test]
fn mapped_writes_that_find_no_space_are_reported_until_written_again() {
    let mut m = Mounted::new("1M");
    let script = r"
m = mmap.mmap(f, SIZE)
m[:] = b'b' * SIZE
failing('msync', m.flush)
for _ in range(3): failing('fsync', lambda: os.fsync(f))
failing('fdatasync', lambda: os.fdatasync(f))
other = os.open('f', os.O_RDWR)
failing('fsync of another descriptor', lambda: os.fsync(other))
# What is read is what is kept, also through the mapping.
wait_for_old()
assert m[:] == b'a' * SIZE
d = os.open('f', os.O_RDONLY | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
os.preadv(d, [page], 0)
assert page[:1] == b'a'
# Other files have nothing to do with it.
for name in ('fill', '.'):
    fd = os.open(name, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
# Space alone does not bring the content back; writing all of it does.
os.unlink('fill')
failing('fsync with space', lambda: os.fsync(f))
os.pwrite(f, b'c' * (SIZE - 1), 0)
failing('fsync after a part', lambda: os.fsync(f))
m[SIZE - 1:] = b'c'
m.flush()
os.fsync(f)
os.fsync(other)
assert os.pread(f, SIZE, 0) == b'c' * SIZE
";
    python(&m.dir(), &format!("{FULL_IMAGE}{script}"));
    m.remount();
    assert_eq!(fs::read(m.path("f")).expect("read"), vec![b'c'; 256 << 10]);
    m.finish();
}

#[test]
fn what_was_lost_is_forgotten_with_the_range_or_the_file() {
    for (end, expected) in [
        ("os.ftruncate(f, 0); os.fsync(f)", Some(Vec::new())),
        // Only the part that remains is still missing.
        (
            "os.ftruncate(f, 4096); failing('fsync', lambda: os.fsync(f))
os.ftruncate(f, 0); os.fsync(f)",
            Some(Vec::new()),
        ),
        ("m.close(); os.close(f); forgotten()", Some(vec![b'a'; 256 << 10])),
        ("os.unlink('f'); failing('fsync', lambda: os.fsync(f)); os.close(f)", None),
    ] {
        let m = Mounted::new("1M");
        // Files of that name are new ones, so the inode of this one is forgotten.
        let script = r"
m = mmap.mmap(f, SIZE)
m[:] = b'b' * SIZE
failing('msync', m.flush)
failing('fsync', lambda: os.fsync(f))
wait_for_old()
def forgotten():
    # The kernel forgets an inode some time after the file is closed.
    import time
    for _ in range(1000):
        open('/proc/sys/vm/drop_caches', 'w').write('3')
        f = os.open('f', os.O_RDWR)
        try: return os.fsync(f)
        except OSError as e: assert e.errno == errno.ENOSPC
        finally: os.close(f)
        time.sleep(0.01)
    raise AssertionError('the error outlives the inode')
";
        python(&m.dir(), &format!("{FULL_IMAGE}{script}{end}\n"));
        assert_eq!(fs::read(m.path("f")).ok(), expected, "{end}");
        m.finish();
    }
}

/// With gathered writes, any write(2) can be lost in this way, and the end of the file with it.
#[test]
fn gathered_writes_that_find_no_space_are_reported_until_written_again() {
    let m = Mounted::with_options("1M", "writeback");
    let script = r"
os.pwrite(f, b'b' * SIZE, 0)
for _ in range(3): failing('fsync', lambda: os.fsync(f))
wait_for_old()
os.unlink('fill')
failing('fsync with space', lambda: os.fsync(f))
os.pwrite(f, b'c' * SIZE, 0)
os.fsync(f)
";
    python(&m.dir(), &format!("{FULL_IMAGE}{script}"));
    assert_eq!(fs::read(m.path("f")).expect("read"), vec![b'c'; 256 << 10]);
    m.finish();
}

/// The kernel asks once for each file, to learn that the file has no capabilities.
#[test]
fn no_attribute_is_asked_for_before_each_write() {
    let m = Mounted::with_options("1M", "attrs=unix");
    python(
        &m.dir(),
        r"
import os
f = os.open('f', os.O_RDWR | os.O_CREAT)
for n in range(500): os.pwrite(f, b'x' * 100, n * 100)
",
    );
    let (writes, questions) = (served(&m, "write"), served(&m, "getxattr"));
    assert!(writes >= 500, "{writes} writes");
    assert!(questions <= 2, "{questions} requests for attributes");
    m.finish();
}

#[test]
fn set_id_bits_go_when_somebody_changes_the_file() {
    for options in ["attrs=unix,allow_other,suid", "attrs=unix,allow_other,suid,writeback"] {
        let m = Mounted::with_options("1M", options);
        let script = r"
import mmap, stat
os.chmod('.', 0o777)
open('source', 'w').write('abcdef')
def rw(more=0): return os.open('f', os.O_RDWR | more)
def mapped():
    m = mmap.mmap(rw(), 4)
    m[0:1] = b'z'
    m.flush()
changes = {
    'write': lambda: os.write(rw(), b'x'),
    'append': lambda: os.pwrite(rw(), b'x', 10),
    'direct write': lambda: os.pwritev(rw(os.O_DIRECT), [mmap.mmap(-1, 4096)], 0),
    'shorten': lambda: os.ftruncate(rw(), 3),
    'lengthen': lambda: os.truncate('f', 30),
    'open with O_TRUNC': lambda: rw(os.O_TRUNC),
    'allocate': lambda: os.posix_fallocate(rw(), 0, 100),
    'allocate what is there': lambda: os.posix_fallocate(rw(), 0, 3),
    'copy_file_range': lambda: os.copy_file_range(os.open('source', os.O_RDONLY), rw(), 3),
    'chown': lambda: os.chown('f', 1, -1),
    'chown to nobody': lambda: os.chown('f', -1, -1),
}
harmless = {'mmap': mapped, 'utime': lambda: os.utime('f'), 'read': lambda: os.read(rw(), 9)}
def case(name, call, who, mode, expected):
    if os.path.exists('f'): os.unlink('f')
    open('f', 'w').write('0123456789')
    os.chown('f', 1, 1)
    os.chmod('f', mode)
    who(call)
    for when in ('', ' and forgotten'):
        found = stat.S_IMODE(os.stat('f').st_mode)
        assert found == expected, f'{name}{when}: {mode:o} became {found:o}, not {expected:o}'
        open('/proc/sys/vm/drop_caches', 'w').write('2')
def as_root(call): call()
for mode, without in ((0o6777, 0o777), (0o4777, 0o777), (0o2767, 0o2767), (0o755, 0o755)):
    for name, call in changes.items():
        case(name, call, as_user, mode, without)
        case(name + ' by root', call, as_root, mode, without if 'chown' in name else mode)
    for name, call in harmless.items():
        case(name, call, as_user, mode, mode)
";
        python(&m.dir(), &format!("{AS_USER}{script}"));
        m.finish();
    }
}

/// open_by_handle_at(2) takes file handles. littlefs has nothing that a handle could name beyond
/// the end of a mount. So a handle of an earlier mount must not lead anywhere, and above all not to
/// another file that has the same number now.
#[test]
fn file_handles_of_another_mount_lead_nowhere() {
    let script = |step: &str| {
        format!(
            r"
import ctypes, errno, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def handle(path):
    buffer = ctypes.create_string_buffer(struct.pack('=Ii', 128, 0), 8 + 128)
    assert libc.name_to_handle_at(-100, path, buffer, ctypes.byref(ctypes.c_int()), 0) == 0
    return buffer.raw
def look(raw):
    root = os.open('.', os.O_RDONLY)
    fd = libc.open_by_handle_at(root, ctypes.create_string_buffer(raw, len(raw)), os.O_RDONLY)
    failed = ctypes.get_errno()
    os.close(root)
    if fd < 0: return failed
    try: return sorted(os.listdir(fd))
    except NotADirectoryError: return os.read(fd, 9)
    finally: os.close(fd)
{step}
"
        )
    };
    let mut m = Mounted::new("1M");
    let first = "
open('a', 'w').write('a')
os.mkdir('d')
f, d, root = (handle(path) for path in (b'a', b'd', b'.'))
assert (look(f), look(d), look(root)) == (b'a', [], ['a', 'd'])
open('../handles', 'wb').write(f + d + root)
os.unlink('a')
os.rmdir('d')
assert look(f) == look(d) == errno.ESTALE
";
    python(&m.dir(), &script(first));
    m.remount();
    let second = "
open('b', 'w').write('b')
os.mkdir('e')
raw = open('../handles', 'rb').read()
f, d, root = (raw[i:i + 136] for i in (0, 136, 272))
number = lambda raw: raw[8:16]
assert number(f) == number(handle(b'b')) and number(d) == number(handle(b'e')), 'used again'
assert look(f) == look(d) == errno.ESTALE
assert look(root) == ['b', 'e']
";
    python(&m.dir(), &script(second));
    m.finish();
}

/// If no flush has happened yet, a write that needs the space flushes itself.
#[test]
fn removed_and_emptied_files_count_as_free_space_at_once() {
    let m = Mounted::with_options("1M", "commit=3600");
    python(
        &m.dir(),
        r"
import os, time
def free(): return os.statvfs('.').f_bfree
for name in ('removed', 'emptied', 'replaced', 'new', 'kept'):
    open(name, 'wb').write(os.urandom(120_000))
os.fsync(os.open('.', os.O_RDONLY))
def frees(what, call):
    before = free()
    call()
    # The kernel forgets a removed file a moment later. Nothing is flushed while requests come.
    for _ in range(1000):
        if free() >= before + 29: return
        time.sleep(0.005)
    raise AssertionError(f'{what}: {before} blocks were free, and now {free()}')
frees('unlink', lambda: os.unlink('removed'))
frees('truncate', lambda: os.truncate('emptied', 0))
frees('rename', lambda: os.rename('new', 'replaced'))
open('large', 'wb').write(os.urandom((free() - 3) * 4096))
",
    );
    m.finish();
}
