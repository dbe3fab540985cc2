//! Images that end after their last used block. They are read as they are, and extended before they
//! are written.

use std::process::Command;

use testkit::desk::Desk;
use testkit::python::python;

const SIZE: usize = 256 << 10;

/// Compacted images of the directory `data`, by us and by littlefs-python.
fn compacted() -> (Desk, [&'static str; 2]) {
    let desk = Desk::with_image();
    desk.ok(&["create", "-q", "--no-pad", "--size", "256K", "ours.img", "data"]);
    let mut command = Command::new(python());
    command.args(["-m", "littlefs", "create", "data", "theirs.img", "--block-size", "4096"]);
    command.args(["--fs-size", "0x40000", "--compact", "--no-pad"]);
    let out = command.current_dir(desk.path(".")).output().expect("python");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    (desk, ["ours.img", "theirs.img"])
}

#[test]
fn compacted_images_are_read_as_they_are() {
    let (desk, images) = compacted();
    for image in images {
        let before = desk.read(image);
        assert!(before.len() < SIZE, "{image}");
        let ran = desk.ok(&["extract", "-q", image, "-C", &format!("out-{image}")]);
        assert_eq!(ran.stderr, "");
        assert_eq!(desk.read(&format!("out-{image}/www/js/app.js")), [b'j'; 9000]);
        let ran = desk.ok(&["check", image]);
        assert!(ran.text().contains("clean, 0 errors") && ran.stderr.is_empty(), "{}", ran.text());
        let info = desk.ok(&["info", "--json", image]);
        assert_eq!(info.stderr, "");
        assert_eq!(info.json()["compacted_bytes"], SIZE - before.len());
        desk.file("large", &vec![1; SIZE]);
        desk.fails(&["put", image, "large", "/"], 1, &["no space", "nothing was changed"]);
        desk.ok(&["put", "-n", image, "data/etc/config.txt", "/"]);
        assert!(desk.read(image) == before, "{image}");
    }
}

#[test]
fn compacted_images_are_extended_before_they_are_written() {
    let (desk, images) = compacted();
    desk.file("large", &[7; 150_000]);
    for image in images {
        let before = desk.read(image);
        desk.ok(&["put", "-q", image, "data/etc/config.txt", "/new.txt"]);
        let after = desk.read(image);
        assert_eq!(after.len(), SIZE, "{image}");
        let info = desk.ok(&["info", "--json", image]).json();
        assert!(info["compacted_bytes"].is_null(), "{info}");
        assert!(after.ends_with(&[0xff; 4096]), "{image}: free blocks are as erased");
        desk.ok(&["put", "-q", image, "large", "/"]);
        desk.check(image);
        assert_eq!(desk.ok(&["cat", image, "large"]).stdout, [7; 150_000]);
        // what lacks a used block is truncated, whatever else it lacks
        desk.file("cut.img", &before[..before.len() - 1]);
        desk.fails(&["put", "cut.img", "data/etc/config.txt", "/"], 1, &["truncated"]);
        assert!(desk.ok(&["ls", "cut.img"]).stderr.contains("truncated"), "{image}");
    }
}

#[test]
fn a_compacted_image_that_cannot_be_extended_stays_as_it_is() {
    let (desk, images) = compacted();
    for image in images {
        let before = desk.read(image);
        let script = "ulimit -f 100; exec \"$0\" put \"$1\" data/etc/config.txt /new.txt";
        let out = Command::new("bash")
            .args(["-c", script, env!("CARGO_BIN_EXE_littlefs"), image])
            .current_dir(desk.path("."))
            .output()
            .expect("a shell");
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("limit of file sizes"), "{stderr}");
        assert!(desk.read(image) == before, "{image}");
    }
}

#[test]
fn a_journal_may_stand_over_a_compacted_image() {
    let (desk, images) = compacted();
    desk.file("large", &[7; 150_000]);
    for image in images {
        let before = desk.read(image);
        desk.ok(&["put", "-q", "--journal", "j", image, "large", "/"]);
        assert!(desk.read(image) == before, "{image}: changed");
        assert_eq!(desk.ok(&["cat", "--journal", "j", image, "large"]).stdout, [7; 150_000]);
        let last = desk.ok(&["journal", "log", "--json", "j"]).json()["last"].to_string();
        desk.ok(&["journal", "export", "--force", "--at", &last, "j", "export.img"]);
        desk.ok(&["journal", "commit", "j", image]);
        for image in [image, "export.img"] {
            desk.check(image);
            assert_eq!(desk.read(image).len(), SIZE);
            assert_eq!(desk.ok(&["cat", image, "large"]).stdout, [7; 150_000]);
        }
        std::fs::remove_file(desk.path("j")).expect("removed");
    }
}

#[test]
fn a_mount_extends_a_compacted_image_with_the_first_write() {
    let (desk, images) = compacted();
    desk.dir("mnt");
    let mount = |args: &[&str]| drop(desk.ok(&[&["mount", "-q"], args, &["mnt"]].concat()));
    for image in images {
        let before = desk.read(image);
        mount(&[image]);
        let read = desk.read("mnt/www/js/app.js");
        desk.ok(&["umount", "mnt"]);
        assert!(desk.read(image) == before && read == [b'j'; 9000], "{image}");
        mount(&[image]);
        std::fs::write(desk.path("mnt/large"), [7; 150_000]).expect("a file");
        desk.ok(&["umount", "mnt"]);
        assert_eq!(desk.read(image).len(), SIZE);
        desk.check(image);
        assert_eq!(desk.ok(&["cat", image, "large"]).stdout, [7; 150_000]);
    }
}
