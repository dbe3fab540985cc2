//! `diff`.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use testkit::desk::{Desk, tar_of};

/// `new.img` from `data`, and `other.img` from `changed`, which differs in every possible way.
fn two_images() -> Desk {
    let desk = Desk::with_image();
    desk.file("changed/etc/config.txt", b"colour = red!\n")
        .file("changed/www/index.html", b"<title>x</title>")
        .file("changed/www/js/renamed.js", &[b'j'; 9000])
        .file("changed/www/.hidden", b"")
        .file("changed/new", b"new")
        .file("changed/empty", b"is a file now");
    desk.ok(&["create", "-q", "--size", "256K", "other.img", "changed"]);
    desk
}

const DIFFERENCES: &str = "\
A /empty
D /empty/
M /etc/config.txt
A /new
R /www/js/app.js -> /www/js/renamed.js
";

#[test]
fn images_directories_and_tar_streams_are_compared_each_with_each() {
    let desk = two_images();
    fs::write(desk.path("data.tar"), tar_of(&desk.path("data"))).expect("an archive");
    for a in ["new.img", "data", "data.tar"] {
        for b in ["other.img", "changed"] {
            let ran = desk.run(&["diff", a, b]);
            assert_eq!((ran.code, ran.text()), (1, DIFFERENCES), "{a} and {b}: {}", ran.stderr);
        }
        for same in ["new.img", "data", "data.tar"] {
            assert_eq!(desk.ok(&["diff", a, same]).text(), "", "{a} and {same}");
        }
    }
    let ran = desk.fed(&["diff", "-q", "other.img", "-"], &desk.read("data.tar"));
    assert_eq!((ran.code, ran.text()), (1, ""));
    let ran = desk.run(&["diff", "--stat", "new.img", "changed"]);
    assert_eq!(ran.text(), "2 added, 1 modified, 1 deleted, 1 renamed\n");
    let json = desk.run(&["diff", "--json", "new.img", "changed"]).json();
    assert_eq!((&json["renamed"], &json["added"]), (&1.into(), &2.into()));
    assert_eq!(json["changes"][2]["path"], "/etc/config.txt");
    assert_eq!(json["changes"][2]["content"], true);
    assert_eq!(json["changes"][4]["from"], "/www/js/app.js");
    let left = ["--exclude", "empty", "--exclude", "*.txt", "--exclude", "js", "--exclude", "new"];
    desk.ok(&[&["diff", "new.img", "changed"][..], &left].concat());
}

#[test]
fn attributes_count_between_images_and_metadata_on_request() {
    let desk = Desk::with_image();
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 500_000_000);
    let touch = |path| File::open(desk.path(path)).and_then(|f| f.set_modified(then));
    touch("data/etc/config.txt").expect("a time");
    for image in ["a.img", "b.img"] {
        desk.ok(&["create", "-q", "--attrs", "unix", "--size", "256K", image, "data"]);
    }
    desk.ok(&["diff", "a.img", "b.img"]);
    desk.ok(&["diff", "--metadata", "a.img", "data"]);
    // without attributes there is nothing to compare
    desk.ok(&["diff", "--metadata", "new.img", "data"]);
    let ran = desk.run(&["diff", "a.img", "new.img"]);
    assert_eq!(ran.code, 1);
    assert!(ran.text().contains("M /etc/config.txt (attributes only)\n"), "{}", ran.text());

    File::open(desk.path("data/www/index.html")).and_then(|f| f.set_modified(then)).expect("time");
    desk.ok(&["diff", "a.img", "data"]);
    let ran = desk.run(&["diff", "--metadata", "a.img", "data"]);
    assert_eq!((ran.code, ran.text()), (1, "M /www/index.html (attributes only)\n"));
    // whole seconds are all that most conventions keep
    desk.ok(&["create", "-q", "--attrs", "arduino", "--size", "256K", "s.img", "data"]);
    desk.ok(&["diff", "--metadata", "s.img", "data"]);
}

#[test]
fn states_of_a_journal_are_compared() {
    let desk = Desk::with_image();
    desk.file("more", b"more");
    desk.ok(&["put", "--journal", "j", "-q", "new.img", "more", "etc/"]);
    desk.ok(&["diff", "new.img", "data"]);
    let ran = desk.run(&["diff", "--journal-b", "j", "new.img", "new.img"]);
    assert_eq!((ran.code, ran.text()), (1, "A /etc/more\n"), "{}", ran.stderr);
    desk.ok(&["diff", "--journal-b", "j", "--at-b", "0", "new.img", "new.img"]);
}

#[test]
fn trouble_is_not_a_difference() {
    let desk = Desk::with_image();
    desk.file("noise", &[7; 5000]);
    desk.fails(&["diff", "new.img", "none"], 2, &["none: no such file"]);
    desk.fails(&["diff", "noise", "data"], 2, &["noise: not a littlefs image"]);
    desk.fails(&["diff", "-", "-"], 2, &["only once"]);
    desk.fails(&["diff", "new.img"], 2, &["<B>"]);
    desk.fails(&["diff", "--at-a", "1", "new.img", "data"], 2, &["--journal-a"]);
}
