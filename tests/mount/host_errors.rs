//! A host that cannot store the image, because it is full or cannot sync or read; and block
//! devices, on which this usually happens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};

use tempfile::TempDir;

use crate::status::status;
use testkit::mounted::{as_root, c_tree, is_mounted, littlefs, noise, output, run, wait_until};
use testkit::tree::Kind;

/// An image on a small filesystem of its own, with the daemon in the foreground.
pub struct Rig {
    scratch: TempDir,
    loops: Vec<PathBuf>,
    daemon: Option<Child>,
}

impl Rig {
    /// The image, of `size` in the form that mkfs reads, on a filesystem of `host` bytes.
    pub fn new(size: &str, host: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory should be made");
        let rig = Self { scratch, loops: Vec::new(), daemon: None };
        for dir in ["mnt", "host"] {
            fs::create_dir(rig.path(dir)).expect("mkdir");
        }
        as_root(
            r#"mount -t tmpfs -o mode=0777,size="$1" none "$2""#,
            &[Path::new(host), &rig.path("host")],
        );
        run(littlefs().args(["mkfs", "--size", size]).arg(rig.image()));
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn image(&self) -> PathBuf {
        self.path("host/image")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path("mnt").join(name)
    }

    /// A loop device over the image.
    pub fn attach(&mut self, options: &str) -> PathBuf {
        let device = as_root(
            r#"device=$(losetup --show $3 -f "$1"); chown "$2" "$device"; echo "$device""#,
            &[
                &self.image(),
                Path::new(run(Command::new("id").arg("-u")).trim()),
                Path::new(options),
            ],
        );
        let device = PathBuf::from(device.trim());
        self.loops.push(device.clone());
        device
    }

    pub fn mount(&mut self, source: &Path, options: &str) {
        self.mount_by(littlefs(), source, options);
    }

    /// The same with a command line to which the arguments of the program are added.
    pub fn mount_by(&mut self, mut command: Command, source: &Path, options: &str) {
        let log = File::create(self.path("log")).expect("log");
        command.args(["mount", "-f", "-o", options]).arg(source).arg(self.path("mnt")).stderr(log);
        let mut daemon = command.spawn().expect("the program should start");
        let ended = |daemon: &mut Child| daemon.try_wait().expect("wait").is_some();
        wait_until("the mount", || is_mounted(&self.path("mnt")) || ended(&mut daemon));
        assert!(!ended(&mut daemon), "{}", self.log());
        self.daemon = Some(daemon);
    }

    /// What the daemon has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("log")
    }

    pub fn logged(&self, words: &[&str]) {
        let log = self.log();
        for word in words {
            assert!(log.contains(word), "no {word:?} in {log}");
        }
    }

    /// Unmount as users do.
    pub fn umount(&self) -> Output {
        self.unless_busy(littlefs().arg("umount").arg(self.path("mnt")))
    }

    /// The result of `command`, once no program that another test starts has a file open.
    fn unless_busy(&self, command: &mut Command) -> Output {
        let mut out = output(command);
        wait_until("the mount to be unused", || {
            let busy = String::from_utf8_lossy(&out.stderr).contains("busy");
            if busy {
                out = output(command);
            }
            !busy
        });
        out
    }

    /// Unmount although there are unwritten changes. Returns how the daemon has ended.
    pub fn give_up(&mut self) -> ExitStatus {
        self.umount_as_root("mnt");
        self.ended()
    }

    /// Unmount as umount(8) does, once no program that another test starts has a file open.
    fn umount_as_root(&self, name: &str) {
        as_root(
            r#"for i in $(seq 500); do
                said=$(umount "$1" 2>&1) && exit 0
                case $said in *busy*) sleep 0.02 ;; *) break ;; esac
            done
            echo "$said" >&2; exit 1"#,
            &[&self.path(name)],
        );
    }

    pub fn ended(&mut self) -> ExitStatus {
        self.daemon.take().expect("mounted").wait().expect("wait")
    }

    /// Use up the space that the host has left.
    pub fn fill_host(&self) {
        let mut balloon = File::create(self.path("host/balloon")).expect("create");
        while balloon.write_all(&[1; 4096]).is_ok() {}
    }

    pub fn drain_host(&self) {
        fs::remove_file(self.path("host/balloon")).expect("unlink");
    }

    pub fn check(&self, source: &Path) {
        run(littlefs().arg("check").arg(source));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // What a failed test left.
        if is_mounted(&self.path("mnt")) {
            let _ = Command::new("fusermount3").arg("-uz").arg(self.path("mnt")).status();
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.wait();
        }
        for device in &self.loops {
            as_root(r#"losetup -d "$1""#, &[device]);
        }
        self.umount_as_root("host");
    }
}

/// The content that C littlefs reads from a file in the image.
pub fn held(image: &Path, name: &str) -> Option<Vec<u8>> {
    match c_tree(image).remove(name.as_bytes())?.kind {
        Kind::File(bytes) => Some(bytes),
        Kind::Dir => None,
    }
}

pub fn sync(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.sync_all()
}

#[track_caller]
pub fn fails<T>(result: io::Result<T>, errno: i32) {
    assert_eq!(result.err().and_then(|e| e.raw_os_error()), Some(errno));
}

#[test]
fn a_full_host_is_told_and_passes() {
    let mut rig = Rig::new("1M", "600k");
    rig.mount(&rig.image(), "commit=3600");
    fs::write(rig.file("before"), noise(60_000, 1)).expect("write");
    sync(&rig.file("before")).expect("fsync");
    rig.fill_host();
    fs::write(rig.file("after"), noise(200_000, 2)).expect("the image has space");
    fails(sync(&rig.file("after")), libc::ENOSPC);
    rig.logged(&["no space left on device", "of block 0x"]);
    // All is there still, and nothing is given up unasked.
    assert_eq!(fs::read(rig.file("after")).expect("read"), noise(200_000, 2));
    let refused = rig.umount();
    assert_eq!(refused.status.code(), Some(32));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("not unmounted") && said.contains("no space left"), "{said}");
    assert_eq!(fs::read(rig.file("before")).expect("read"), noise(60_000, 1));
    rig.drain_host();
    sync(&rig.file("after")).expect("fsync, once there is space");
    assert!(rig.umount().status.success());
    assert!(rig.ended().success());
    rig.check(&rig.image());
    assert_eq!(held(&rig.image(), "after"), Some(noise(200_000, 2)));
    assert_eq!(held(&rig.image(), "before"), Some(noise(60_000, 1)));
}

#[test]
fn changes_that_find_no_place_are_lost_only_when_told_to() {
    let mut rig = Rig::new("1M", "600k");
    rig.mount(&rig.image(), "commit=3600");
    fs::write(rig.file("f"), noise(60_000, 1)).expect("write");
    sync(&rig.file("f")).expect("fsync");
    rig.fill_host();
    fs::write(rig.file("f"), noise(200_000, 2)).expect("the image has space");
    assert_eq!(rig.give_up().code(), Some(1), "the daemon should say that it failed");
    rig.logged(&["the last changes could not be written", "no space left on device"]);
    rig.check(&rig.image());
    // Truncated by write(2) as it was opened, or as it was: never a mixture.
    let found = held(&rig.image(), "f").expect("it was synced");
    assert!(found.is_empty() || found == noise(60_000, 1), "{} bytes", found.len());
}

#[test]
fn a_failure_in_the_background_is_told_by_the_next_fsync() {
    let mut rig = Rig::new("1M", "600k");
    rig.mount(&rig.image(), "commit=1");
    rig.fill_host();
    fs::write(rig.file("f"), noise(200_000, 3)).expect("the image has space");
    wait_until("a flush that fails", || rig.log().contains("flush failed: "));
    rig.logged(&["no space left on device", "it will be tried again"]);
    let flushes = &status(&rig.path("mnt"))["filesystem"]["flushes"];
    assert!(flushes["failed"].as_u64() >= Some(1), "{flushes}");
    let failed = flushes["last_failed"]["error"].as_str().expect("an error");
    assert!(failed.contains("no space left on device"), "{failed}");
    rig.drain_host();
    wait_until("a flush that does not", || {
        fs::copy(rig.image(), rig.path("copy")).expect("copy");
        held(&rig.path("copy"), "f") == Some(noise(200_000, 3))
    });
    // Told once, to whoever asks first.
    fails(sync(&rig.file("f")), libc::ENOSPC);
    sync(&rig.file("f")).expect("fsync");
    assert!(rig.umount().status.success());
    assert!(rig.ended().success());
    rig.check(&rig.image());
}

/// fdatasync writes what the kernel holds of a block device. So this is where it is noticed that
/// the host of the device's own file is full.
#[test]
fn a_failed_sync_ends_writing_but_not_reading() {
    let mut rig = Rig::new("1M", "600k");
    let device = rig.attach("");
    rig.mount(&device, "commit=3600");
    fs::create_dir(rig.file("d")).expect("mkdir");
    fs::write(rig.file("d/before"), noise(60_000, 1)).expect("write");
    sync(&rig.file("d/before")).expect("fsync");
    rig.fill_host();
    fs::write(rig.file("after"), noise(200_000, 2)).expect("the image has space");
    assert!(status(&rig.path("mnt"))["read_only"].is_null());
    fails(sync(&rig.file("after")), libc::EIO);
    let now = status(&rig.path("mnt"));
    assert!(now["read_only"].as_str().is_some_and(|why| why.contains("sync failed")), "{now}");
    assert_eq!(now["errors"]["EIO"], 1, "{now}");
    rig.logged(&["sync failed", "from now on, nothing is written", "littlefs check"]);
    fails(fs::write(rig.file("more"), b"x"), libc::EROFS);
    fails(fs::create_dir(rig.file("e")), libc::EROFS);
    fails(fs::remove_file(rig.file("d/before")), libc::EROFS);
    fails(sync(&rig.file("after")), libc::EROFS);
    assert_eq!(fs::read(rig.file("d/before")).expect("read"), noise(60_000, 1));
    assert_eq!(fs::read(rig.file("after")).expect("read"), noise(200_000, 2));
    assert_eq!(rig.umount().status.code(), Some(32));
    assert_eq!(rig.give_up().code(), Some(1));
    rig.drain_host();
    // On disk is what was synced.
    rig.check(&rig.image());
    assert_eq!(held(&rig.image(), "d/before"), Some(noise(60_000, 1)));
}

#[test]
fn a_block_device_is_mounted_like_a_file() {
    let mut rig = Rig::new("1M", "4M");
    let device = rig.attach("");
    rig.mount(&device, "rw");
    fs::create_dir(rig.file("d")).expect("mkdir");
    for i in 0..40 {
        fs::write(rig.file(&format!("d/f{i}")), noise(i * 700, i as u32)).expect("write");
    }
    fs::rename(rig.file("d/f39"), rig.file("g")).expect("rename");
    sync(&rig.file("g")).expect("fsync");
    // Through the device's own cache and out of it.
    assert_eq!(held(&rig.image(), "g"), Some(noise(39 * 700, 39)));
    // What looks for block devices finds it mounted; its type is known to the mount table alone.
    let lsblk = run(Command::new("lsblk").args(["-nro", "FSAVAIL,MOUNTPOINTS"]).arg(&device));
    let (free, at) = lsblk.trim().split_once(' ').expect("two columns");
    assert!(free.ends_with('K') && Path::new(at) == rig.path("mnt"), "{lsblk}");
    let found = run(Command::new("findmnt").args(["-nro", "FSTYPE,TARGET", "-S"]).arg(&device));
    assert_eq!(found.trim(), format!("fuse.littlefs {}", rig.path("mnt").display()));
    let busy = output(littlefs().arg("check").arg(&device));
    assert_eq!(busy.status.code(), Some(8), "{busy:?}");
    assert!(String::from_utf8_lossy(&busy.stderr).contains("in use"));
    fs::remove_file(rig.file("d/f0")).expect("unlink");
    assert!(rig.umount().status.success());
    assert!(rig.ended().success());
    rig.check(&device);
    rig.check(&rig.image());
    let info = run(littlefs().arg("info").arg(&device));
    assert!(
        info.contains("256 blocks of 4096 bytes (1 MiB)") && info.contains("1048576"),
        "{info}"
    );
    assert_eq!(c_tree(&rig.image()).len(), 41, "the root, d, g and 38 in d");
    for i in 1..39 {
        assert_eq!(held(&rig.image(), &format!("d/f{i}")), Some(noise(i * 700, i as u32)));
    }
    // Formatted through the device as well.
    run(littlefs().args(["mkfs", "--force"]).arg(&device));
    rig.check(&device);
    assert_eq!(c_tree(&rig.image()).len(), 1);
}

#[test]
fn a_write_protected_device_is_mounted_read_only() {
    let mut rig = Rig::new("1M", "4M");
    let device = rig.attach("-r");
    rig.mount(&device, "rw");
    rig.logged(&["cannot be written, so it is opened read-only"]);
    fails(fs::create_dir(rig.file("d")), libc::EROFS);
    assert!(rig.umount().status.success());
    assert!(rig.ended().success());
}

/// The device becomes shorter and shorter. Reads behind its end fail.
#[test]
fn what_cannot_be_read_leaves_the_rest() {
    let mut rig = Rig::new("256K", "4M");
    rig.mount(&rig.image(), "rw");
    for d in 0..6 {
        fs::create_dir(rig.file(&format!("d{d}"))).expect("mkdir");
        fs::write(rig.file(&format!("d{d}/small")), noise(40, d)).expect("write");
        fs::write(rig.file(&format!("d{d}/large")), noise(5000, d)).expect("write");
    }
    assert!(rig.umount().status.success());
    assert!(rig.ended().success());
    let whole = fs::read(rig.image()).expect("read");

    let (mut kept, mut lost, mut halves) = (0, 0, 0);
    for blocks in (4..64).rev().step_by(3) {
        let mut rig = Rig::new("256K", "4M");
        fs::write(rig.image(), &whole).expect("write");
        let device = rig.attach("");
        OpenOptions::new()
            .write(true)
            .open(rig.image())
            .and_then(|f| f.set_len(blocks * 4096))
            .expect("truncate");
        rig.mount(&device, "rw");
        let half = rig.log().contains("may be newer than shown");
        if half {
            halves += 1;
            rig.logged(&["read of block 0x", "the rest can only be read", "copy the image"]);
            fails(fs::create_dir(rig.file("new")), libc::EROFS);
        }
        for d in 0..6 {
            for (name, bytes) in [("small", noise(40, d)), ("large", noise(5000, d))] {
                match fs::read(rig.file(&format!("d{d}/{name}"))) {
                    Ok(found) => {
                        assert_eq!(found, bytes, "{blocks} blocks, d{d}/{name}");
                        kept += 1;
                    }
                    Err(e) => {
                        assert_eq!(e.raw_os_error(), Some(libc::EIO), "{blocks} blocks: {e}");
                        lost += 1;
                    }
                }
            }
        }
        if lost > 0 {
            rig.logged(&["input/output error"]);
        }
        assert!(rig.umount().status.success());
        assert!(rig.ended().success());
    }
    println!("{kept} files read, {lost} not; {halves} times half of a pair");
    assert!(kept > 0 && lost > 0 && halves > 0);
}

/// Damage that prevents writing is reported when the image is mounted, not at the first write.
#[test]
fn what_will_be_read_only_is_said_when_mounting() {
    use littlefs::disk::commit::{Layout, Writer};
    use littlefs::disk::tag;

    use testkit::mounted::Mounted;

    let file = |w: &mut Writer, id, name: &[u8], head: u32, size: u32| {
        w.tag(tag::REG, id, name);
        w.tag(tag::CTZSTRUCT, id, &[head.to_le_bytes(), size.to_le_bytes()].concat());
    };
    // one list starts outside of the image; two files begin with one block
    for (lists, word) in
        [([(4000, 2000), (9, 100)], "outside"), ([(9, 100), (9, 200)], "also used")]
    {
        let mut m = Mounted::unmounted("64K");
        let image = m.image();
        let mut bytes = std::fs::read(&image).expect("read");
        let superblock = littlefs::disk::superblock::probe(&bytes).expect("a superblock").0;
        let layout = Layout { block_size: 4096, prog_size: 16, fcrc: false };
        let mut w = Writer::compact(layout, 9);
        w.tag(tag::SUPERBLOCK, 0, b"littlefs");
        w.tag(tag::INLINESTRUCT, 0, &superblock.to_bytes());
        for (id, (head, size)) in (1..).zip(lists) {
            file(&mut w, id, format!("f{id}").as_bytes(), head, size);
        }
        let commit = w.finish().expect("room");
        bytes[..commit.bytes.len()].copy_from_slice(&commit.bytes);
        std::fs::write(&image, bytes).expect("write");

        let ran = output(littlefs().arg("mount").args([image, m.dir()]));
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (out, err) = (text(ran.stdout), text(ran.stderr));
        assert!(ran.status.success(), "{err}");
        assert!(out.ends_with(", read-only\n") && !out.contains(word), "{out}");
        assert!(err.contains("nothing can be written") && err.contains(word), "{err}");
        let status = run(littlefs().arg("status").arg(m.dir()));
        assert!(status.contains("access        read-only: ") && status.contains(word), "{status}");
        m.adopt("");
        assert!(std::fs::write(m.path("new"), b"").is_err());
        m.unmount();
    }
}
