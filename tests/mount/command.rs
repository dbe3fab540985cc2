//! The `mount` and `umount` commands themselves.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use testkit::mounted::{Mounted, is_mounted, littlefs, noise, output, run};

/// Try to mount. It must fail with this exit code and these words, and leave nothing behind.
fn refused(m: &Mounted, options: &str, code: i32, words: &[&str]) {
    let mut command = littlefs();
    command.args(["mount", "-o", options]).args([m.image(), m.dir()]);
    let out = output(&mut command);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{options}: {stderr}");
    assert!(stderr.starts_with("littlefs: ") && stderr.lines().count() == 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{options}: no {word:?} in {stderr}");
    }
}

#[test]
fn what_cannot_be_mounted_is_refused_with_the_reason() {
    let m = Mounted::unmounted("1M");
    refused(&m, "frobnicate", 1, &["unknown mount option 'frobnicate'"]);
    refused(&m, "block_size=8192", 32, &["block size", "4096"]);
    refused(&m, "offset=4K", 32, &["littlefs"]);
    assert!(!is_mounted(&m.dir()) && m.is_free());
    fs::write(m.image(), noise(100_000, 1)).expect("write");
    refused(&m, "rw", 32, &["littlefs"]);
    fs::remove_file(m.image()).expect("unlink");
    refused(&m, "rw", 32, &["no such file"]);
    fs::write(m.image(), b"").expect("write");
    let out = output(littlefs().arg("mount").arg(m.image()).arg(m.beside("nowhere")));
    assert_eq!(out.status.code(), Some(32));
    assert!(String::from_utf8_lossy(&out.stderr).contains("nowhere"));
}

/// When umount has returned, nobody finds the image in use, whether it was mounted read-only or
/// not.
#[test]
fn an_unmounted_image_can_be_written_at_once() {
    let mut m = Mounted::unmounted("1M");
    for _ in 0..50 {
        for options in ["ro", "rw"] {
            // Refused where the daemon before holds the image.
            m.mount(options);
            m.unmount();
        }
    }
}

#[test]
fn what_is_mounted_is_said_in_a_line() {
    let mut m = Mounted::unmounted("1M");
    let mount = |m: &Mounted, args: &[&str]| {
        let out = output(littlefs().arg("mount").args(args).args([m.image(), m.dir()]));
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    let named = format!("{} on {}: ", m.image().display(), m.dir().display());
    let line = mount(&m, &[]);
    let fresh = "littlefs 2.1, 256 blocks of 4096 bytes, 2 used, 254 free (1016 KiB)";
    assert_eq!(line, format!("{named}{fresh}\n"));
    // What is in blocks of its own is known without looking for them.
    for i in 0..10 {
        fs::write(m.path(&format!("f{i}")), noise(3000 * i, i as u32)).expect("write");
    }
    fs::create_dir(m.path("d")).expect("mkdir");
    let df =
        |m: &Mounted| run(std::process::Command::new("stat").args(["-f", "-c", "%f"]).arg(m.dir()));
    File::open(m.dir()).and_then(|root| root.sync_all()).expect("fsync");
    let free = df(&m);
    m.unmount();
    let line = mount(&m, &["-o", "ro,profile=esp-idf"]);
    assert!(line.contains(&format!(" used, {} free (", free.trim())), "{free} {line}");
    assert_eq!(df(&m), free);
    let end = ", profile=esp-idf, attrs=esp-idf, read-only: as asked (-o ro)\n";
    assert!(line.ends_with(end), "{line}");
    m.unmount();
    assert_eq!(mount(&m, &["-q"]), "");
    m.unmount();
    fs::set_permissions(m.image(), Permissions::from_mode(0o444)).expect("chmod");
    let out = output(littlefs().arg("mount").args([m.image(), m.dir()]));
    let line = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(line.ends_with(", read-only\n"), "{line}");
    let why = String::from_utf8_lossy(&out.stderr);
    assert_eq!(why.matches("cannot be written").count(), 1, "{why}");
    m.unmount();
}

#[test]
fn a_place_that_nobody_gave_is_the_reason_why_nothing_can_be_written() {
    let mut m = Mounted::unmounted("1M");
    let image = fs::read(m.image()).expect("read");
    fs::write(m.image(), [vec![0; 1 << 16], image].concat()).expect("write");
    let out = output(littlefs().args(["mount", "--unattended"]).args([m.image(), m.dir()]));
    assert!(out.status.success());
    m.adopt("ro");
    let (line, why) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(line.ends_with(", read-only\n") && why.contains("offset=65536"), "{line} {why}");
    let status = run(littlefs().arg("status").arg(m.dir()));
    assert!(status.contains("access        read-only: the start of its filesystem"), "{status}");
    m.unmount();
}

#[test]
fn an_image_in_use_is_refused_unless_all_only_read() {
    let mut m = Mounted::new("1M");
    let other = Mounted::unmounted("64K");
    let image = m.image();
    let mount = |options: &str| {
        output(littlefs().args(["mount", "-o", options]).arg(&image).arg(other.dir()))
    };
    for options in ["rw", "ro"] {
        let out = mount(options);
        assert_eq!(out.status.code(), Some(32));
        assert!(String::from_utf8_lossy(&out.stderr).contains("in use"));
    }
    m.unmount();
    m.mount("ro");
    assert!(mount("ro").status.success());
    assert!(!output(littlefs().args(["mkfs", "--force"]).arg(&image)).status.success());
    run(littlefs().arg("umount").arg(other.dir()));
    m.finish();
}

#[test]
fn the_mount_table_names_image_and_type() {
    let m = Mounted::new("1M");
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    let dir = m.dir().display().to_string();
    let line = table.lines().find(|l| l.contains(&dir)).expect("mounted");
    let expected = format!(" - fuse.littlefs {} rw", m.image().display());
    assert!(line.contains(&expected), "{line}");
    m.finish();
}

#[test]
fn read_only_mounts_change_nothing() {
    let mut m = Mounted::new("1M");
    fs::write(m.path("f"), b"x").expect("write");
    m.unmount();
    let before = fs::read(m.image()).expect("read");
    m.mount("ro");
    for result in [
        fs::write(m.path("f"), b"y"),
        fs::create_dir(m.path("d")),
        fs::remove_file(m.path("f")),
        fs::rename(m.path("f"), m.path("g")),
    ] {
        let e = result.expect_err("read-only");
        assert_eq!(e.raw_os_error(), Some(libc::EROFS));
    }
    assert_eq!(fs::read(m.path("f")).expect("read"), b"x");
    m.unmount();
    assert_eq!(fs::read(m.image()).expect("read"), before);
}

#[test]
fn owners_and_masks() {
    let m = Mounted::with_options("1M", "uid=1234,gid=4321,fmask=0133,dmask=0022");
    fs::create_dir(m.path("d")).expect("mkdir");
    fs::write(m.path("d/f"), b"x").expect("write");
    let d = fs::metadata(m.path("d")).expect("stat");
    let f = fs::metadata(m.path("d/f")).expect("stat");
    assert_eq!((d.uid(), d.gid(), d.mode() & 0o7777), (1234, 4321, 0o755));
    assert_eq!((f.uid(), f.gid(), f.mode() & 0o7777), (1234, 4321, 0o644));
    m.finish();
}

#[test]
fn umount_of_what_is_not_ours_fails() {
    let m = Mounted::new("1M");
    let umount = |path: &str, code| {
        let out = output(littlefs().args(["umount", path]));
        assert_eq!(out.status.code(), Some(code), "{path}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert!(umount(&m.beside("nowhere").display().to_string(), 1).contains("not mounted"));
    assert!(
        umount(&m.image().parent().expect("dir").display().to_string(), 1).contains("not mounted")
    );
    assert!(umount("/proc", 1).contains("not a littlefs mount"));
    let busy = File::create(m.path("f")).expect("create");
    let refused = umount(&m.dir().display().to_string(), 32);
    assert!(refused.contains("busy") && refused.contains("fuser -vm"), "{refused}");
    drop(busy);
    m.finish();
}

#[test]
fn umount_takes_the_image_too() {
    let mut m = Mounted::new("1M");
    fs::write(m.path("f"), b"x").expect("write");
    run(littlefs().arg("umount").arg(m.image()));
    assert!(!is_mounted(&m.dir()) && m.is_free());
    m.mount("rw");
    m.finish();
}
