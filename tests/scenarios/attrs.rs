//! User attributes of files, directories and the root.

use littlefs::fs::At;

use testkit::calls::{Call, Fail};
use testkit::clfs::Config;

use super::lab::*;

fn set(path: &str, ty: u8, len: u32, seed: u8) -> Call {
    Call::SetAttr { path: path.into(), ty, len, seed }
}

fn remove(path: &str, ty: u8) -> Call {
    Call::RemoveAttr { path: path.into(), ty }
}

/// One of three attributes is set, emptied, removed, set again, shortened and lengthened. The
/// others do not change.
fn one_of_three_changes(lab: &mut Lab, path: &str, between: impl Fn(&mut Lab)) {
    lab.ok(set(path, b'A', 4, 1));
    lab.ok(set(path, b'B', 6, 2));
    lab.ok(set(path, b'C', 5, 3));
    between(lab);
    lab.ok(set(path, b'B', 0, 1));
    between(lab);
    lab.ok(remove(path, b'B'));
    lab.fails(remove(path, b'B'), Fail::NoAttr);
    between(lab);
    lab.ok(set(path, b'B', 6, 4));
    between(lab);
    lab.ok(set(path, b'B', 3, 5));
    between(lab);
    assert_eq!(lab.ours.apply_attr_too_large(path), Err(Fail::TooLarge));
    lab.ok(set(path, b'B', 9, 6));
    between(lab);
}

trait TooLarge {
    fn apply_attr_too_large(&mut self, path: &str) -> Result<(), Fail>;
}

impl TooLarge for testkit::ours::Ours {
    /// One byte more than `attr_max`.
    fn apply_attr_too_large(&mut self, path: &str) -> Result<(), Fail> {
        use testkit::calls::Subject as _;
        let len = self.fs.superblock().attr_max + 1;
        self.apply(&set(path, b'A', len, 1))
    }
}

#[test]
fn attributes_are_set_and_read() {
    on_each_geometry(|lab| {
        lab.mkdir("hello");
        lab.fill("hello/hello", 5, 1);
        for path in ["hello", "", "hello/hello"] {
            one_of_three_changes(lab, path, |_| {});
            lab.power_cycle();
        }
        // Content and attributes do not touch each other.
        assert_eq!(lab.read("hello/hello", 0, 100), lab.expected("hello/hello"));
    });
}

#[test]
fn attributes_outlive_power_cycles() {
    on_each_geometry(|lab| {
        lab.mkdir("hello");
        lab.fill("hello/hello", 5, 1);
        for path in ["hello", "", "hello/hello"] {
            one_of_three_changes(lab, path, Lab::power_cycle);
        }
    });
}

/// Attributes and content that change together become durable together.
#[test]
fn attributes_of_an_open_file() {
    on_each_geometry(|lab| {
        lab.mkdir("hello");
        lab.fill("hello/hello", 5, 1);
        lab.ok(set("hello/hello", b'B', 9, 1));
        lab.ok(set("hello/hello", b'C', 5, 2));
        lab.flush();
        let before = lab.ours.image();
        let file = lab.open("hello/hello");
        lab.ok(set("hello/hello", b'B', 4, 3));
        lab.ok(set("hello/hello", b'C', 0, 1));
        lab.ok(set("hello/hello", b'D', 4, 4));
        lab.write("hello/hello", 5, 3000, 5);
        assert_eq!(lab.ours.image(), before, "written before the flush");
        lab.flush();
        lab.ours.fs.close_file(file);
        assert_ne!(lab.ours.image(), before);
    });
}

/// If there are more attributes than fit into a metadata block, each further one is refused. None
/// is lost.
#[test]
fn attributes_fill_their_pair() {
    let mut lab = Lab::new(Config::new(512, 64, 16));
    lab.create("file");
    let mut refused = 0;
    for ty in *b"ABCD" {
        match lab.apply(&set("file", ty, 150, ty)) {
            Ok(()) => {}
            Err(Fail::NoSpace) => refused += 1,
            Err(e) => panic!("{e:?}"),
        }
        lab.power_cycle();
    }
    assert!(refused > 0, "600 bytes of attributes in a block of 512");
    let dir = find_dir(&mut lab.ours.fs, b"").expect("root");
    let kept = lab.ours.fs.list_attrs(At::Entry(dir, b"file")).expect("list").len();
    assert_eq!(kept, 4 - refused);
}
