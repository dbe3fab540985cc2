//! When changes reach the image, and how mounts end.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::mounted::{
    Mounted, c_tree, is_root, littlefs, noise, output, python, run, wait_until, walk,
};
use testkit::tree::{Kind, Tree};

/// What C littlefs finds in a copy of the present image. The daemon may be writing, so the blocks
/// of the copy may be from different moments, as after a crash.
fn snapshot(m: &Mounted) -> Tree {
    let copy = m.beside("copy");
    fs::copy(m.image(), &copy).expect("the image can be copied");
    c_tree(&copy)
}

fn holds(tree: &Tree, name: &str, bytes: &[u8]) -> bool {
    tree.get(name.as_bytes()).is_some_and(|e| e.kind == Kind::File(bytes.to_vec()))
}

/// Options for a mount that flushes only on request, at least for longer than a test takes.
const LAZY: &str = "commit=3600";

/// Keep the mount busy, so that there is no pause of requests that triggers a flush.
fn while_busy<T>(m: &Mounted, body: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A name that is not there asks the daemon only once; statfs always does.
                let _ = output(Command::new("stat").arg("-f").arg(m.dir()));
            }
        });
        let result = body();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn fsync_makes_a_file_durable() {
    let m = Mounted::with_options("1M", LAZY);
    while_busy(&m, || {
        for round in 0..5 {
            let (name, bytes) = (format!("f{round}"), noise(round * 5000, 1));
            let mut f = File::create(m.path(&name)).expect("create");
            f.write_all(&bytes).expect("write");
            if round % 2 == 0 { f.sync_all() } else { f.sync_data() }.expect("fsync");
            assert!(holds(&snapshot(&m), &name, &bytes), "round {round}");
        }
    });
    m.finish();
}

#[test]
fn fsync_of_a_directory_makes_everything_durable() {
    let m = Mounted::with_options("1M", LAZY);
    while_busy(&m, || {
        fs::create_dir(m.path("d")).expect("mkdir");
        fs::write(m.path("d/f"), b"durable").expect("write");
        fs::rename(m.path("d/f"), m.path("g")).expect("rename");
        File::open(m.dir()).expect("open").sync_all().expect("fsync");
        let tree = snapshot(&m);
        assert!(holds(&tree, "g", b"durable") && tree.contains_key(&b"d"[..]));
        assert!(!tree.contains_key(&b"d/f"[..]));
    });
    m.finish();
}

#[test]
fn a_pause_of_requests_brings_the_image_up_to_date() {
    let m = Mounted::with_options("1M", LAZY);
    fs::write(m.path("f"), b"soon").expect("write");
    let start = Instant::now();
    wait_until("the flush after a pause", || holds(&snapshot(&m), "f", b"soon"));
    assert!(start.elapsed() < Duration::from_secs(5), "a quarter of a second was promised");
    m.finish();
}

#[test]
fn commit_bounds_the_delay_under_load() {
    let m = Mounted::with_options("1M", "commit=1");
    while_busy(&m, || {
        fs::write(m.path("f"), b"soon").expect("write");
        wait_until("the flush after commit=1", || holds(&snapshot(&m), "f", b"soon"));
    });
    m.finish();
}

#[test]
fn the_kernels_pages_are_fetched_in_time() {
    let m = Mounted::with_options("1M", "commit=1,writeback");
    let mut f = File::create(m.path("f")).expect("create");
    f.write_all(b"in a page").expect("write");
    // Held open and not synced: only the daemon's own timer can bring it out this soon.
    let start = Instant::now();
    wait_until("the page to reach the image", || holds(&snapshot(&m), "f", b"in a page"));
    assert!(start.elapsed() < Duration::from_secs(20), "the kernel alone takes 30 s");
    drop(f);
    m.finish();
}

#[test]
fn what_the_kernel_gathered_and_finds_no_space_is_told_by_close_and_by_fsync() {
    let m = Mounted::with_options("256K", "writeback");
    python(
        &m.dir(),
        "
import errno, os
for call in (os.close, os.fsync):
    fd = os.open('f', os.O_CREAT | os.O_WRONLY)
    assert os.write(fd, bytes(400000)) == 400000
    try:
        call(fd)
        assert False, call
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    if call != os.close: os.close(fd)
    os.unlink('f')
",
    );
    fs::write(m.path("g"), noise(100_000, 4)).expect("there is space again");
    m.finish();
}

#[test]
fn sync_writes_at_once() {
    let m = Mounted::with_options("1M", &format!("sync,{LAZY}"));
    while_busy(&m, || {
        for n in 0..5 {
            let name = format!("f{n}");
            fs::write(m.path(&name), noise(n * 3000, 2)).expect("write");
            assert!(holds(&snapshot(&m), &name, &noise(n * 3000, 2)), "{name}");
        }
        fs::remove_file(m.path("f1")).expect("unlink");
        assert!(!snapshot(&m).contains_key(&b"f1"[..]));
    });
    m.finish();
}

#[test]
fn after_littlefs_umount_the_image_is_complete() {
    let mut m = Mounted::new("8M");
    for round in 0..10 {
        fs::write(m.path("f"), noise(1_000_000, round)).expect("write");
        m.unmount();
        assert!(m.is_free());
        assert!(holds(&c_tree(&m.image()), "f", &noise(1_000_000, round)), "round {round}");
        m.mount("rw");
    }
    m.finish();
}

fn ends_by(end: impl FnOnce(&Mounted)) {
    let mut m = Mounted::new("8M");
    fs::create_dir(m.path("d")).expect("mkdir");
    fs::write(m.path("d/f"), noise(1_000_000, 3)).expect("write");
    let shown = walk(&m.dir());
    end(&m);
    m.unmounted_elsewhere();
    m.compare(&shown);
}

/// Unmount by `command`, once no program that another test starts has a file open there.
fn unmount_by(command: &mut Command) {
    wait_until("the mount to be unused", || {
        let out = output(command);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() || said.contains("busy"), "{said}");
        out.status.success()
    });
}

fn fusermount(dir: &Path) {
    unmount_by(Command::new("fusermount3").arg("-u").arg(dir));
}

#[test]
fn fusermount_ends_it() {
    ends_by(|m| fusermount(&m.dir()));
}

#[test]
fn umount_ends_it() {
    if is_root() {
        ends_by(|m| unmount_by(Command::new("umount").arg(m.dir())));
    } else {
        ends_by(|m| fusermount(&m.dir()));
    }
}

#[test]
fn sigterm_ends_it() {
    ends_by(|m| drop(run(Command::new("kill").arg("-TERM").arg(m.daemon()))));
}

#[test]
fn sigint_ends_it() {
    ends_by(|m| drop(run(Command::new("kill").arg("-INT").arg(m.daemon()))));
}

#[test]
fn sigterm_loses_nothing_while_files_are_open() {
    for options in ["commit=3600", "commit=3600,writeback"] {
        let mut m = Mounted::with_options("1M", options);
        let mut f = File::create(m.path("f")).expect("create");
        f.write_all(b"open and dirty").expect("write");
        run(Command::new("kill").arg("-TERM").arg(m.daemon()));
        m.unmounted_elsewhere();
        assert!(holds(&c_tree(&m.image()), "f", b"open and dirty"), "{options}");
        assert!(f.write_all(b"too late").and_then(|()| f.sync_all()).is_err());
    }
}

#[test]
fn in_the_foreground_the_exit_code_tells() {
    let mut m = Mounted::unmounted("1M");
    let mut daemon = littlefs()
        .args(["mount", "-f"])
        .args([m.image(), m.dir()])
        .spawn()
        .expect("the program should start");
    wait_until("the mount", || testkit::mounted::is_mounted(&m.dir()));
    fs::write(m.path("f"), b"x").expect("write");
    run(Command::new("kill").arg("-TERM").arg(daemon.id().to_string()));
    assert!(daemon.wait().expect("wait").success());
    m.mount("ro");
    assert_eq!(fs::read(m.path("f")).expect("read"), b"x");
    m.finish();
}
