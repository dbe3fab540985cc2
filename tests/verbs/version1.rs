//! Images of version 1 are edited: the new image is built beside the old one, and gets its name.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use testkit::desk::Desk;
use testkit::tree::{Entry, Tree};
use testkit::v1::{MOVED, V1};

fn tree() -> Tree {
    let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
    for dir in ["prefs", "prefs/deep", "empty"] {
        tree.insert(dir.into(), Entry::dir());
    }
    for (i, name) in ["prefs/db.proto", "prefs/deep/a", "log", "zero"].into_iter().enumerate() {
        tree.insert(name.into(), Entry::file(vec![i as u8; [300, 40, 1000, 0][i]]));
    }
    tree
}

/// A desk with an image like those of Adafruit's boards.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("v1.img", &V1::of(128, 224, &tree()).image());
    desk.file("new", b"new content").file("dir/one", &[1; 500]).file("dir/two", b"2");
    desk
}

/// The paths and contents that the view of version 1 reads. The image must be sound.
fn shown(desk: &Desk, image: &str) -> BTreeMap<String, Vec<u8>> {
    let checked = desk.ok(&["check", image]);
    assert!(checked.text().contains("clean, 0 errors"), "{}", checked.text());
    assert_eq!(desk.ok(&["info", "--json", image]).json()["disk_version"], "1.1");
    desk.ok(&["extract", "-q", image, "-C", "out"]);
    let mut found = BTreeMap::new();
    let mut todo = vec![desk.path("out")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(desk.path("out")).expect("below").display().to_string();
            if path.is_dir() {
                found.insert(name + "/", Vec::new());
                todo.push(path);
            } else {
                found.insert(name, fs::read(path).expect("readable"));
            }
        }
    }
    fs::remove_dir_all(desk.path("out")).expect("removed");
    found
}

#[test]
fn every_verb_that_edits() {
    let desk = desk();
    let size = desk.read("v1.img").len();
    let mut expected = shown(&desk, "v1.img");
    desk.ok(&["put", "-r", "v1.img", "new", "dir", "prefs/"]);
    expected.insert("prefs/new".into(), b"new content".to_vec());
    expected.insert("prefs/dir/".into(), Vec::new());
    expected.insert("prefs/dir/one".into(), vec![1; 500]);
    expected.insert("prefs/dir/two".into(), b"2".to_vec());
    assert_eq!(shown(&desk, "v1.img"), expected);
    desk.ok(&["put", "--atomic", "v1.img", "new", "log"]);
    expected.insert("log".into(), b"new content".to_vec());
    desk.ok(&["rm", "v1.img", "zero"]);
    expected.remove("zero");
    desk.ok(&["mv", "v1.img", "prefs/db.proto", "empty/moved"]);
    let moved = expected.remove("prefs/db.proto").expect("there");
    expected.insert("empty/moved".into(), moved.clone());
    desk.ok(&["cp", "v1.img", "empty/moved", "copied"]);
    expected.insert("copied".into(), moved);
    desk.ok(&["mkdir", "v1.img", "made"]);
    expected.insert("made/".into(), Vec::new());
    assert_eq!(shown(&desk, "v1.img"), expected);
    assert_eq!(desk.read("v1.img").len(), size);
    // the same changes make the same image, and none of them leaves anything beside it
    assert!(!desk.names(".").iter().any(|name| name.starts_with(".littlefs")));
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let desk = desk();
    let before = desk.read("v1.img");
    let inode = || fs::metadata(desk.path("v1.img")).expect("there").ino();
    let first = inode();
    desk.ok(&["put", "-n", "v1.img", "new", "/"]);
    desk.fails(&["put", "v1.img", "missing", "/"], 1, &["missing"]);
    desk.fails(&["rm", "v1.img", "missing"], 1, &["missing"]);
    desk.file("large", &[7; 40_000]);
    for more in [&["-n"][..], &[]] {
        let args = [&["put"][..], more, &["v1.img", "large", "/"]].concat();
        let refused = desk.fails(&args, 1, &["but there are only 224", "nothing was changed"]);
        assert!(refused.stderr.contains("'littlefs resize --size "), "{}", refused.stderr);
    }
    let long = "n".repeat(97);
    desk.file(&long, b"");
    desk.fails(&["put", "v1.img", &long, "/"], 1, &["96"]);
    desk.fails(
        &["put", "--attrs", "unix", "v1.img", "new", "/"],
        1,
        &["littlefs version 1 has no attributes"],
    );
    assert!(desk.read("v1.img") == before && inode() == first);
    // with room it fits
    let refused = desk.fails(&["put", "v1.img", "large", "/"], 1, &[]);
    let size = refused.stderr.split("--size ").nth(1).and_then(|rest| rest.split('\'').next());
    desk.ok(&["resize", "-q", "v1.img", "--size", size.expect("a size")]);
    desk.ok(&["put", "v1.img", "large", "/"]);
    assert_eq!(shown(&desk, "v1.img")["large"], [7; 40_000]);
}

/// Pending renames appear as finished, and damage is not copied.
#[test]
fn what_was_interrupted_and_what_is_damaged() {
    let desk = desk();
    let mut v1 = V1::of(128, 224, &tree());
    v1.entry("log").kind |= MOVED;
    desk.file("v1.img", &v1.image());
    let mut expected = shown(&desk, "v1.img");
    desk.ok(&["rm", "v1.img", "zero"]);
    expected.remove("zero");
    assert_eq!(shown(&desk, "v1.img"), expected);
    let mut v1 = V1::of(128, 224, &tree());
    v1.entry("log").words[0] = 10_000;
    desk.file("broken.img", &v1.image());
    let before = desk.read("broken.img");
    desk.fails(&["rm", "broken.img", "zero"], 1, &["/log", "nothing was changed"]);
    assert!(desk.read("broken.img") == before);
}

/// Inside a dump it is not changed, and the command that the error suggests works.
#[test]
fn inside_of_a_dump() {
    let desk = desk();
    let image = desk.read("v1.img");
    let dump = [vec![0x55; 8192], image.clone(), vec![0xaa; 1000]].concat();
    desk.file("dump.bin", &dump);
    let args = ["put", "--offset", "8192", "dump.bin", "new", "/"];
    desk.fails(&args, 1, &["'littlefs extract --offset 8192 dump.bin -C data'"]);
    assert!(desk.read("dump.bin") == dump);
    desk.ok(&["extract", "-q", "--offset", "8192", "dump.bin", "-C", "data"]);
    desk.file("data/new", b"new content");
    desk.ok(&["create", "--into", "--offset", "8192", "dump.bin", "data"]);
    let now = desk.read("dump.bin");
    let end = 8192 + image.len();
    assert!(now[..8192] == dump[..8192] && now[end..] == dump[end..]);
    assert_eq!(desk.ok(&["cat", "--offset", "8192", "dump.bin", "new"]).stdout, b"new content");
    // a mount is still for reading only, and says so
    desk.fails(&["kv", "v1.img", "set", "key", "value"], 1, &["version 1"]);
}
