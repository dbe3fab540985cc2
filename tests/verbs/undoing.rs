//! `undo`, and `--backup` of the commands that rewrite an image.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};

use testkit::chamelon::Chamelon;
use testkit::desk::Desk;

/// `new.img` with a file whose list leads out of the image.
fn damaged() -> Desk {
    let desk = Desk::with_image();
    let stat = desk.ok(&["stat", "--json", "new.img", "www/js/app.js"]).json();
    let head = stat["entries"][0]["head_block"].as_u64().expect("a block");
    let file = File::options().write(true).open(desk.path("new.img")).expect("the image");
    file.write_all_at(&0x00ff_ffff_u32.to_le_bytes(), head * 4096).expect("a write");
    desk
}

#[test]
fn a_repair_is_taken_back() {
    let desk = damaged();
    let before = desk.read("new.img");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(desk.path("new.img"), mode).expect("a mode");
    let ran = desk.run(&["check", "-y", "--backup", "before", "new.img"]);
    assert_eq!(ran.code, 1, "{}{}", ran.text(), ran.stderr);
    let after = desk.read("new.img");
    assert_ne!(after, before);
    let meta = std::fs::metadata(desk.path("before")).expect("the undo file");
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600, "as private as the image");
    assert!(meta.len() < 100 << 10, "only what was changed");

    desk.file("other.img", &after).file("new", b"written after the repair");
    desk.ok(&["put", "-q", "other.img", "new", "etc/"]);
    let other = desk.read("other.img");
    desk.fails(
        &["undo", "before", "other.img"],
        1,
        &["other.img: the image was changed", "--force"],
    );
    assert_eq!(desk.read("other.img"), other);
    let said = desk.ok(&["undo", "before", "new.img"]);
    assert!(said.text().contains("new.img: the change is undone, "), "{}", said.text());
    assert_eq!(desk.read("new.img"), before);
    desk.ok(&["undo", "-q", "before", "new.img"]);
    assert_eq!(desk.read("new.img"), before);

    // an undo file is never overwritten, and then nothing is repaired
    desk.fails(&["check", "-y", "--backup", "before", "new.img"], 8, &["before: exists already"]);
    assert_eq!(desk.read("new.img"), before);
    // and none is left behind where nothing is repaired
    desk.ok(&["mkfs", "-q", "--size", "64K", "sound.img"]);
    desk.ok(&["check", "-y", "--backup", "none", "sound.img"]);
    desk.run(&["check", "-p", "--backup", "none", "new.img"]);
    assert!(!desk.path("none").exists());
    desk.fails(&["undo", "new.img", "new.img"], 1, &["new.img: the file is not an undo file"]);
}

#[test]
fn a_conversion_is_taken_back() {
    let desk = Desk::new();
    let mut image = Chamelon::format(512, 64, 16);
    image.set("greeting", b"hello");
    desk.file("kv.img", &image.image);
    desk.ok(&["convert", "--from", "chamelon", "--backup", "before", "kv.img"]);
    assert_eq!(desk.ok(&["cat", "kv.img", "greeting"]).stdout, b"hello");
    desk.ok(&["undo", "before", "kv.img"]);
    assert_eq!(desk.read("kv.img"), image.image);
    // where nothing is converted nothing is left behind
    desk.ok(&["mkfs", "-q", "--size", "64K", "l.img"]);
    desk.fails(
        &["convert", "--from", "chamelon", "--backup", "none", "l.img"],
        1,
        &["is already a littlefs"],
    );
    assert!(!desk.path("none").exists());
}
