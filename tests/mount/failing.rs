//! Images that become shorter while they are mounted, and devices on which every write fails.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host_errors::{Rig, fails, held, sync};
use crate::status::status;
use testkit::mounted::{as_root, littlefs, noise, output, run, wait_until};

fn cut(path: &Path, len: u64) {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.set_len(len)).expect("truncate");
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).expect("metadata").len()
}

/// What a mount does if its image or its journal becomes shorter: `shortened` then has `left`
/// bytes.
fn is_given_up(mut rig: Rig, shortened: &Path, left: u64, what: &str) {
    let f = rig.file("before");
    fails(sync(&f), libc::EIO);
    let now = status(&rig.path("mnt"));
    assert!(
        now["read_only"].as_str().is_some_and(|why| why.contains("became shorter")),
        "{what}: {now}"
    );
    rig.logged(&[
        "the file or device became shorter while it was in use",
        &format!("{left} of "),
        "from now on, nothing is written",
    ]);
    fails(fs::write(rig.file("more"), b"x"), libc::EROFS);
    assert!(sync(&f).is_err(), "{what}");
    assert_eq!(len(shortened), left, "{what}: written behind the new end");
    let refused = rig.umount();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("not unmounted"), "{what}: {said}");
    assert!(!rig.give_up().success(), "{what}: the daemon should say that it failed");
    assert_eq!(len(shortened), left, "{what}: written behind the new end");
}

/// A mount with a file that is synced, and if `dirty`, with one that is not.
fn mounted(options: &str, dirty: bool) -> Rig {
    let mut rig = Rig::new("1M", "4M");
    rig.mount(&rig.image(), &format!("{options},commit=3600"));
    fs::write(rig.file("before"), noise(60_000, 1)).expect("write");
    sync(&rig.file("before")).expect("fsync");
    if dirty {
        fs::write(rig.file("after"), noise(200_000, 2)).expect("write");
    }
    rig
}

#[test]
fn a_truncated_image_is_reported_and_not_extended() {
    for left in [0, 5000, (1 << 20) - 1] {
        for dirty in [false, true] {
            let rig = mounted("rw", dirty);
            let image = rig.image();
            cut(&image, left);
            is_given_up(rig, &image, left, &format!("{left} bytes left, dirty {dirty}"));
        }
    }
}

/// A flush in the background notices it, too.
#[test]
fn a_truncated_image_is_found_out_in_the_background() {
    let mut rig = Rig::new("1M", "4M");
    rig.mount(&rig.image(), "commit=1");
    cut(&rig.image(), 9000);
    fs::write(rig.file("before"), b"small").expect("the image has space");
    wait_until("a flush that fails", || rig.log().contains("flush failed: "));
    let image = rig.image();
    is_given_up(rig, &image, 9000, "in the background");
}

#[test]
fn a_truncated_journal_is_reported_and_not_extended() {
    for (of_image, dirty) in [(false, false), (false, true), (true, true)] {
        let mut rig = Rig::new("1M", "4M");
        let journal = rig.path("host/journal");
        rig.mount(&rig.image(), &format!("journal={},commit=3600", journal.display()));
        fs::write(rig.file("before"), noise(60_000, 1)).expect("write");
        sync(&rig.file("before")).expect("fsync");
        if dirty {
            fs::write(rig.file("after"), noise(200_000, 2)).expect("write");
            // a change that reaches the journal only now must not hide the loss
            assert_eq!(fs::read(rig.file("after")).expect("read"), noise(200_000, 2));
        }
        let shortened = if of_image { rig.image() } else { journal };
        if of_image {
            sync(&rig.file("after")).expect("the journal alone is written");
        }
        cut(&shortened, 3000);
        is_given_up(rig, &shortened, 3000, &format!("image {of_image}, dirty {dirty}"));
    }
}

/// A block device can become smaller, too.
#[test]
fn a_shrunk_device_is_reported() {
    for dirty in [false, true] {
        let mut rig = Rig::new("1M", "4M");
        let device = rig.attach("");
        rig.mount(&device, "commit=3600");
        fs::write(rig.file("before"), noise(60_000, 1)).expect("write");
        sync(&rig.file("before")).expect("fsync");
        if dirty {
            fs::write(rig.file("after"), noise(200_000, 2)).expect("write");
        }
        cut(&rig.image(), 64 << 10);
        as_root(r#"losetup -c "$1""#, &[&device]);
        let image = rig.image();
        is_given_up(rig, &image, 64 << 10, &format!("a device, dirty {dirty}"));
    }
}

/// What is missing cannot be read. It does not read as zeros or 0xFF.
#[test]
fn what_a_truncated_image_lacks_is_an_error() {
    for options in ["rw", "ro"] {
        let mut rig = mounted("rw", false);
        for i in 0..40 {
            fs::write(rig.file(&format!("f{i}")), noise(9000, i)).expect("write");
        }
        assert!(rig.umount().status.success() && rig.ended().success());
        // the blocks of this file, and those behind it
        let (image, content) = (fs::read(rig.image()).expect("read"), noise(9000, 20));
        let found = image.chunks(4096).position(|block| block[..64] == content[..64]);
        rig.mount(&rig.image(), options);
        cut(&rig.image(), found.expect("it is there") as u64 * 4096 + 100);
        let (mut read, mut lost) = (0, 0);
        for i in 0..40 {
            match fs::read(rig.file(&format!("f{i}"))) {
                Ok(bytes) => {
                    assert_eq!(bytes, noise(9000, i));
                    read += 1;
                }
                Err(e) => {
                    assert_eq!(e.raw_os_error(), Some(libc::EIO), "{e}");
                    lost += 1;
                }
            }
        }
        assert!(read > 0 && lost > 0, "{read} files read, {lost} not");
        rig.logged(&[
            "the file or device became shorter while it was in use",
            "of 1048576 bytes are left",
        ]);
        // Nothing that was to be written is lost with a mount that only reads.
        assert_eq!(rig.umount().status.success(), options == "ro");
        if options == "rw" {
            rig.give_up();
        }
    }
}

/// A journal on a full disk continues when there is space again, as an image does without a
/// journal.
#[test]
fn a_full_disk_stops_a_journal_for_a_while() {
    let mut rig = Rig::new("1M", "600k");
    let journal = rig.path("host/journal");
    rig.mount(&rig.image(), &format!("journal={},commit=3600", journal.display()));
    fs::write(rig.file("before"), noise(60_000, 1)).expect("write");
    sync(&rig.file("before")).expect("fsync");
    rig.fill_host();
    fs::write(rig.file("after"), noise(300_000, 2)).expect("the image has space");
    for _ in 0..3 {
        fails(sync(&rig.file("after")), libc::ENOSPC);
    }
    rig.logged(&["no space left on device", "the disk that holds the image is full"]);
    assert!(status(&rig.path("mnt"))["read_only"].is_null(), "it passes");
    fs::write(rig.file("more"), noise(5000, 3)).expect("write");
    assert_eq!(fs::read(rig.file("after")).expect("read"), noise(300_000, 2));
    let refused = rig.umount();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no space left"), "{refused:?}");
    rig.drain_host();
    sync(&rig.file("after")).expect("fsync, once there is space");
    assert!(rig.umount().status.success() && rig.ended().success());
    run(littlefs().args(["journal", "verify"]).arg(&journal));
    as_root(r#"mount -o remount,size=4M "$1""#, &[&rig.path("host")]);
    run(littlefs().args(["journal", "commit"]).arg(&journal).arg(rig.image()));
    rig.check(&rig.image());
    for (name, bytes) in
        [("before", noise(60_000, 1)), ("after", noise(300_000, 2)), ("more", noise(5000, 3))]
    {
        assert_eq!(held(&rig.image(), name), Some(bytes), "{name}");
    }
}

/// Writes of the program fail with the errno in this file, as long as the file exists.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
    char text[16] = {0};
    int file = open(getenv("FAIL_WRITES"), O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        ssize_t n = read(file, text, sizeof text - 1);
        close(file);
        if (n > 0) {
            errno = atoi(text);
            return -1;
        }
    }
    return syscall(SYS_pwrite64, fd, data, len, at);
}
"#;

/// The program on a system on which writes can be made to fail.
struct Shim {
    library: PathBuf,
    switch: PathBuf,
}

impl Shim {
    fn new(rig: &Rig) -> Self {
        let (source, library) = (rig.path("shim.c"), rig.path("shim.so"));
        fs::write(&source, SHIM).expect("write");
        let mut cc = Command::new("cc");
        // For the machine of the program, which need not be that of the compiler.
        cc.args(cfg!(target_arch = "x86").then_some("-m32"));
        run(cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
        Self { library, switch: rig.path("errno") }
    }

    fn littlefs(&self) -> Command {
        let mut command = littlefs();
        command.env("LD_PRELOAD", &self.library).env("FAIL_WRITES", &self.switch);
        command
    }

    fn fail(&self, errno: i32) {
        fs::write(&self.switch, errno.to_string()).expect("write");
    }

    fn work(&self) {
        fs::remove_file(&self.switch).expect("unlink");
    }
}

#[test]
fn writes_that_all_fail_are_told_as_what_they_are() {
    for (errno, told, word) in [
        (libc::EIO, libc::EIO, "input/output error"),
        (libc::EDQUOT, libc::EDQUOT, "a quota of the disk"),
        (libc::EFBIG, libc::ENOSPC, "the limit of file sizes"),
        (libc::ENOSPC, libc::ENOSPC, "the disk that holds the image is full"),
    ] {
        let mut rig = Rig::new("1M", "4M");
        let shim = Shim::new(&rig);
        rig.mount_by(shim.littlefs(), &rig.image(), "commit=3600");
        fs::create_dir(rig.file("d")).expect("mkdir");
        fs::write(rig.file("d/before"), noise(60_000, 1)).expect("write");
        sync(&rig.file("d/before")).expect("fsync");
        shim.fail(errno);
        fs::write(rig.file("d/after"), noise(200_000, 2)).expect("the image has space");
        fs::write(rig.file("small"), b"in the root").expect("write");
        for _ in 0..3 {
            fails(sync(&rig.file("d/after")), told);
        }
        rig.logged(&[word, "of block 0x"]);
        assert!(!rig.log().contains("no space left in the image"), "{}", rig.log());
        assert_eq!(rig.umount().status.code(), Some(32));
        shim.work();
        sync(&rig.file("d/after")).expect("fsync, once writes succeed");
        assert!(rig.umount().status.success() && rig.ended().success());
        rig.check(&rig.image());
        assert_eq!(held(&rig.image(), "d/before"), Some(noise(60_000, 1)));
        assert_eq!(held(&rig.image(), "d/after"), Some(noise(200_000, 2)));
        assert_eq!(held(&rig.image(), "small"), Some(b"in the root".to_vec()));
    }
}

#[test]
fn an_error_that_repeats_is_logged_once_with_a_count() {
    let mut rig = Rig::new("1M", "4M");
    let shim = Shim::new(&rig);
    rig.mount_by(shim.littlefs(), &rig.image(), "commit=1");
    shim.fail(libc::EIO);
    fs::write(rig.file("f"), noise(50_000, 1)).expect("write");
    wait_until("flushes that fail", || {
        status(&rig.path("mnt"))["filesystem"]["flushes"]["failed"].as_u64() >= Some(3)
    });
    let count = |what: &str| rig.log().matches(what).count();
    assert_eq!(count("flush failed: "), 1, "{}", rig.log());
    assert_eq!(count("file data goes elsewhere"), 1, "{}", rig.log());
    shim.work();
    // Told once, to whoever asks first.
    fails(sync(&rig.file("f")), libc::EIO);
    sync(&rig.file("f")).expect("fsync");
    assert!(rig.umount().status.success() && rig.ended().success());
    rig.logged(&["more like this in "]);
    rig.check(&rig.image());
}

#[test]
fn commands_tell_a_failing_device_from_a_full_image() {
    let rig = Rig::new("1M", "4M");
    let shim = Shim::new(&rig);
    shim.fail(libc::EIO);
    let (image, out) = (rig.image(), rig.path("host/out"));
    let path = |path: &Path| path.display().to_string();
    for args in [
        vec!["kv".to_owned(), path(&image), "set".into(), "key".into(), "value".into()],
        vec!["mkfs".to_owned(), "--size".into(), "1M".into(), path(&out)],
        vec!["mkfs".to_owned(), "--force".into(), path(&image)],
    ] {
        let done = output(shim.littlefs().args(&args));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains("input/output error"), "{args:?}: {said}");
    }
}

/// By default, the system would end the daemon with a signal at this limit.
#[test]
fn a_limit_of_file_sizes_is_survived() {
    let mut rig = Rig::new("1M", "4M");
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -f 400; exec "$0" "$@""#]).arg(littlefs().get_program());
    rig.mount_by(command, &rig.image(), "commit=3600");
    fs::write(rig.file("f"), noise(700_000, 1)).expect("the image has space");
    fails(sync(&rig.file("f")), libc::ENOSPC);
    rig.logged(&["the limit of file sizes (ulimit -f)"]);
    assert_eq!(fs::read(rig.file("f")).expect("read"), noise(700_000, 1));
    assert!(!rig.give_up().success());
    rig.check(&rig.image());
}
