//! User attributes of files, directories and the root.

use littlefs::fs::At;

use testkit::calls::{Call, Fail};
use testkit::clfs::Config;

use super::fixture::*;

fn set(path: &str, ty: u8, len: u32, seed: u8) -> Call {
    Call::SetAttr { path: path.into(), ty, len, seed }
}

fn remove(path: &str, ty: u8) -> Call {
    Call::RemoveAttr { path: path.into(), ty }
}

/// One of three attributes is set, emptied, removed, set again, shortened and lengthened. The
/// others do not change.
fn one_of_three_changes(fixture: &mut Fixture, path: &str, between: impl Fn(&mut Fixture)) {
    fixture.ok(set(path, b'A', 4, 1));
    fixture.ok(set(path, b'B', 6, 2));
    fixture.ok(set(path, b'C', 5, 3));
    between(fixture);
    fixture.ok(set(path, b'B', 0, 1));
    between(fixture);
    fixture.ok(remove(path, b'B'));
    fixture.fails(remove(path, b'B'), Fail::NoAttr);
    between(fixture);
    fixture.ok(set(path, b'B', 6, 4));
    between(fixture);
    fixture.ok(set(path, b'B', 3, 5));
    between(fixture);
    assert_eq!(fixture.ours.apply_attr_too_large(path), Err(Fail::TooLarge));
    fixture.ok(set(path, b'B', 9, 6));
    between(fixture);
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
    on_each_geometry(|fixture| {
        fixture.mkdir("hello");
        fixture.fill("hello/hello", 5, 1);
        for path in ["hello", "", "hello/hello"] {
            one_of_three_changes(fixture, path, |_| {});
            fixture.power_cycle();
        }
        // Content and attributes do not touch each other.
        assert_eq!(fixture.read("hello/hello", 0, 100), fixture.expected("hello/hello"));
    });
}

#[test]
fn attributes_outlive_power_cycles() {
    on_each_geometry(|fixture| {
        fixture.mkdir("hello");
        fixture.fill("hello/hello", 5, 1);
        for path in ["hello", "", "hello/hello"] {
            one_of_three_changes(fixture, path, Fixture::power_cycle);
        }
    });
}

/// Attributes and content that change together become durable together.
#[test]
fn attributes_of_an_open_file() {
    on_each_geometry(|fixture| {
        fixture.mkdir("hello");
        fixture.fill("hello/hello", 5, 1);
        fixture.ok(set("hello/hello", b'B', 9, 1));
        fixture.ok(set("hello/hello", b'C', 5, 2));
        fixture.flush();
        let before = fixture.ours.image();
        let file = fixture.open("hello/hello");
        fixture.ok(set("hello/hello", b'B', 4, 3));
        fixture.ok(set("hello/hello", b'C', 0, 1));
        fixture.ok(set("hello/hello", b'D', 4, 4));
        fixture.write("hello/hello", 5, 3000, 5);
        assert_eq!(fixture.ours.image(), before, "written before the flush");
        fixture.flush();
        fixture.ours.fs.close_file(file);
        assert_ne!(fixture.ours.image(), before);
    });
}

/// If there are more attributes than fit into a metadata block, each further one is refused. None
/// is lost.
#[test]
fn attributes_fill_their_pair() {
    let mut fixture = Fixture::new(Config::new(512, 64, 16));
    fixture.create("file");
    let mut refused = 0;
    for ty in *b"ABCD" {
        match fixture.apply(&set("file", ty, 150, ty)) {
            Ok(()) => {}
            Err(Fail::NoSpace) => refused += 1,
            Err(e) => panic!("{e:?}"),
        }
        fixture.power_cycle();
    }
    assert!(refused > 0, "600 bytes of attributes in a block of 512");
    let dir = find_dir(&mut fixture.ours.fs, b"").expect("root");
    let kept = fixture.ours.fs.list_attrs(At::Entry(dir, b"file")).expect("list").len();
    assert_eq!(kept, 4 - refused);
}
