//! Mounts that are served by the process that uses the library, which is here the test. This needs
//! root or `fusermount3`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use littlefs::fuse::{MountError, MountOptions};
use littlefs::transactions::At;
use littlefs::{Error, Littlefs};
use parking_lot::{Mutex, MutexGuard};
use tempfile::TempDir;

/// Only one test at a time, because they share the process.
static TURN: Mutex<()> = Mutex::new(());

/// An image of 1 MiB with a file in it, and a directory to mount it on.
struct Scratch {
    _turn: MutexGuard<'static, ()>,
    dir: TempDir,
    image: PathBuf,
    mountpoint: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let turn = TURN.lock();
        let dir = tempfile::tempdir().expect("tempdir");
        let (image, mountpoint) = (dir.path().join("i.img"), dir.path().join("mnt"));
        fs::create_dir(&mountpoint).expect("create_dir");
        let fs = Littlefs::create(&image, 1 << 20).expect("create");
        fs.write("old", "there before").expect("write");
        fs.close().expect("close");
        Self { _turn: turn, dir, image, mountpoint }
    }

    /// The content of the file `name` in the image.
    fn stored(&self, name: &str) -> Result<Vec<u8>, Error> {
        let copy = self.dir.path().join("copy.img");
        fs::copy(&self.image, &copy).expect("copy");
        Littlefs::open(copy)?.read(name)
    }

    /// The content of the file `name` in the image, which nobody uses any more.
    fn kept(&self, name: &str) -> Vec<u8> {
        Littlefs::open(&self.image).and_then(|fs| fs.read(name)).expect("the image is free")
    }

    fn is_mounted(&self) -> bool {
        let table = fs::read("/proc/self/mountinfo").expect("mountinfo");
        String::from_utf8_lossy(&table).contains(&*self.mountpoint.to_string_lossy())
    }
}

/// How many descriptors of the FUSE device this process has.
fn devices() -> usize {
    let all = fs::read_dir("/proc/self/fd").expect("read_dir").filter_map(Result::ok);
    all.filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter(|path| path == Path::new("/dev/fuse"))
        .count()
}

#[test]
fn what_is_written_is_in_the_image_after_the_end() {
    let scratch = Scratch::new();
    let before = std::env::current_dir().expect("current_dir");
    let devices_before = devices();
    let mounted = MountOptions::default().mount(&scratch.image, &scratch.mountpoint);
    let mounted = mounted.expect("mount");
    assert_eq!(std::env::current_dir().expect("current_dir"), before);
    assert_eq!(mounted.mountpoint(), fs::canonicalize(&scratch.mountpoint).expect("a path"));
    let old = fs::read(scratch.mountpoint.join("old")).expect("read");
    assert_eq!(old, b"there before");

    fs::write(scratch.mountpoint.join("flushed"), "1").expect("write");
    mounted.flush().expect("flush");
    assert_eq!(scratch.stored("flushed").expect("read"), b"1");
    fs::write(scratch.mountpoint.join("new"), "2").expect("write");
    mounted.finish().expect("finish");
    assert!(!scratch.is_mounted());
    assert_eq!(scratch.kept("new"), b"2");
    // The kernel gives the number of the connection to the next mount: nothing may be left of it.
    // What the test before has left may still go meanwhile.
    let closed = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        devices() <= devices_before
    });
    assert!(closed, "{} devices are open, and were {devices_before}", devices());
}

#[test]
fn dropping_it_is_an_end_too() {
    let scratch = Scratch::new();
    let mut options = MountOptions::default();
    options.writeback = true;
    let mounted = options.mount(&scratch.image, &scratch.mountpoint).expect("mount");
    fs::write(scratch.mountpoint.join("new"), "2").expect("write");
    drop(mounted);
    assert!(!scratch.is_mounted());
    assert_eq!(scratch.kept("new"), b"2");
}

#[test]
fn the_end_is_told_when_somebody_else_unmounts() {
    let scratch = Scratch::new();
    let mounted = MountOptions::default().mount(&scratch.image, &scratch.mountpoint);
    let mounted = mounted.expect("mount");
    fs::write(scratch.mountpoint.join("new"), "2").expect("write");
    let mut umount = Command::new("umount");
    let status = umount.arg("-i").arg(&scratch.mountpoint).status().expect("umount");
    assert!(status.success());
    mounted.wait();
    mounted.finish().expect("finish");
    assert_eq!(scratch.kept("new"), b"2");
}

#[test]
fn an_open_file_does_not_keep_the_last_flush_from_being_told() {
    let scratch = Scratch::new();
    let mounted = MountOptions::default().mount(&scratch.image, &scratch.mountpoint);
    let mounted = mounted.expect("mount");
    let mut open = fs::File::create(scratch.mountpoint.join("new")).expect("create");
    open.write_all(b"2").expect("write");
    mounted.finish().expect("finish");
    assert!(!scratch.is_mounted());
    assert_eq!(scratch.stored("new").expect("read"), b"2");
    // Who has it open waits for the end of the process with whatever is asked next.
    let Err(Error::Image(e)) = Littlefs::open(&scratch.image) else { panic!("it is locked") };
    assert!(matches!(e.reason, littlefs::image::Reason::InUse(_)), "{e}");
    std::mem::forget(open);
}

#[test]
fn a_last_flush_that_fails_is_told() {
    let scratch = Scratch::new();
    let mounted = MountOptions::default().mount(&scratch.image, &scratch.mountpoint);
    let mounted = mounted.expect("mount");
    fs::write(scratch.mountpoint.join("new"), "2").expect("write");
    let image = fs::File::options().write(true).open(&scratch.image).expect("open");
    image.set_len(4096).expect("set_len");
    let e = mounted.finish().expect_err("the image has become shorter");
    assert!(matches!(e, Error::Io(_)), "{e}");
    assert!(!scratch.is_mounted());
}

#[test]
fn a_journal_takes_the_changes_and_shows_past_states() {
    let scratch = Scratch::new();
    let mut options = MountOptions::default();
    options.journal = Some(scratch.dir.path().join("journal"));
    let mounted = options.mount(&scratch.image, &scratch.mountpoint).expect("mount");
    fs::write(scratch.mountpoint.join("new"), "2").expect("write");
    mounted.finish().expect("finish");
    assert!(matches!(scratch.stored("new"), Err(Error::NotFound)), "the image stays as it was");

    options.at = Some(At::Number(0));
    let at = &scratch.mountpoint;
    let mounted = options.mount(&scratch.image, at).expect("mount");
    assert!(!at.join("new").exists() && at.join("old").exists());
    let e = fs::write(at.join("refused"), "").expect_err("a past state");
    assert_eq!(e.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mounted.finish().expect("finish");
}

#[test]
fn what_cannot_be_mounted_has_an_error_of_its_own() {
    let scratch = Scratch::new();
    let mount = |options: &MountOptions, image: &Path, mountpoint: &Path| {
        let e = options.mount(image, mountpoint).err().expect("an error");
        assert!(!scratch.is_mounted(), "{e}");
        (e.to_string(), e)
    };
    let options = MountOptions::default();
    let missing = scratch.dir.path().join("missing");
    let (text, e) = mount(&options, &scratch.image, &missing);
    assert!(matches!(e, MountError::Directory { .. }) && text.contains("mkdir -p"), "{text}");
    let (text, e) = mount(&options, &scratch.image, &scratch.image);
    assert!(matches!(e, MountError::Directory { .. }) && text.contains("not a dir"), "{text}");
    let (text, e) = mount(&options, &missing, &scratch.mountpoint);
    assert!(matches!(e, MountError::Open(Error::Image(_))) && text.contains("missing"), "{text}");

    let mut past = MountOptions::default();
    past.at = Some(At::Number(0));
    let (text, e) = mount(&past, &scratch.image, &scratch.mountpoint);
    assert!(matches!(e, MountError::Open(Error::Invalid(_))), "{text}");

    let small = scratch.dir.path().join("small.img");
    let format = littlefs::FormatOptions::new().size(1 << 20).attr_max(4).create(&small);
    format.expect("create").close().expect("close");
    let mut unix = MountOptions::default();
    unix.attrs = Some(littlefs::convention::Choice::parse("unix").expect("a convention"));
    let (text, e) = mount(&unix, &small, &scratch.mountpoint);
    assert!(matches!(e, MountError::Attributes { attr_max: 4, .. }), "{text}");
}
