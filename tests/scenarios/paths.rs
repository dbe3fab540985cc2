//! Names. The path syntax of the C driver (slashes and dots) is here the task of the kernel.

use littlefs::error::Error;
use littlefs::fs::{Node, ROOT};

use testkit::calls::{Call, Fail};
use testkit::clfs::Config;

use super::fixture::*;

/// Names of any bytes: for files and directories, nested, renamed and removed.
fn names_work(fixture: &mut Fixture, names: &[&[u8]]) {
    let below = |a: &[u8], b: &[u8]| [a, b"/", b].concat();
    for &name in names {
        fixture.ok(Call::Mkdir(name.to_vec()));
        fixture.fails(Call::Create(name.to_vec()), Fail::Exists);
        for &inner in names {
            fixture.ok(Call::Create(below(name, inner)));
        }
    }
    fixture.power_cycle();
    for &name in names {
        for &inner in names {
            let to = [name, b"-", inner].concat();
            let from = below(name, inner);
            fixture.ok(Call::Rename { from, to: to.clone(), no_replace: true });
            fixture.ok(Call::Write { path: to, off: 0, len: 3, seed: 1 });
        }
        fixture.ok(Call::Rmdir(name.to_vec()));
    }
}

/// Names from the tests of the C driver, and what they refer to there.
#[test]
fn names_of_any_bytes() {
    let groups: [&[&[u8]]; 9] = [
        &[b"coffee", b"drip", b"coldbrew", b"turkish", b"tubruk"],
        &[b".coffee", b"..drip", b"...coldbrew", b"...", b"...."],
        // The magic of the superblock entry, which is no name.
        &[b"littlefs", b"0", b"c"],
        &["☕".as_bytes(), "🧊".as_bytes(), "😎".as_bytes()],
        &["ˈkɔ.fi".as_bytes(), "kəʊld.bɹuː".as_bytes()],
        &[b" ", b"  ", b"coffee ", b" coffee", b"c of fee"],
        &[b"\x0b\x0c", b"\x1b[0m", b"\x7f", b"\x7f\x7f", b"\t\n"],
        &[b"\x80", b"\xc3\x28", b"\xf0\x28\x8c\xbc", b"\xc0\xaf"],
        &[b"\xff", b"\xff\xff", b"\xff\xff\xff"],
    ];
    for names in groups {
        on_each_geometry(|fixture| names_work(fixture, names));
    }
}

/// `.`, `..`, the empty name and bytes that Linux does not allow are not names.
#[test]
fn names_that_are_none() {
    on_each_geometry(|fixture| {
        fixture.create("file");
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            let fs = &mut fixture.ours.fs;
            assert!(matches!(fs.mkdir(ROOT, name), Err(Error::InvalidName)), "{name:?}");
            assert!(matches!(fs.create(ROOT, name), Err(Error::InvalidName)), "{name:?}");
            let moved = fs.rename(ROOT, b"file", ROOT, name, false);
            assert!(matches!(moved, Err(Error::InvalidName)), "{name:?}");
            assert!(fs.lookup(ROOT, name).is_err(), "{name:?}");
        }
    });
}

#[test]
fn paths_that_lead_nowhere() {
    on_each_geometry(|fixture| {
        fixture.mkdir("coffee");
        fixture.create("coffee/drip");
        fixture.power_cycle();
        for path in ["tea", "coffee/tea", "coffe", "coffee2"] {
            fixture.fails(unlink(path), Fail::NotFound);
            fixture.fails(rmdir(path), Fail::NotFound);
            fixture.fails(rename(path, "new"), Fail::NotFound);
            fixture.fails(write(path, 0, 1, 1), Fail::NotFound);
        }
        for path in ["tea/drip", "coffee/tea/drip"] {
            fixture.fails(mkdir(path), Fail::NotFound);
            fixture.fails(create(path), Fail::NotFound);
            fixture.fails(rename("coffee/drip", path), Fail::NotFound);
        }
        for path in ["coffee/drip/x", "coffee/drip/x/y"] {
            fixture.fails(mkdir(path), Fail::NotDirectory);
            fixture.fails(create(path), Fail::NotDirectory);
            fixture.fails(unlink(path), Fail::NotDirectory);
            fixture.fails(rename(path, "new"), Fail::NotDirectory);
        }
    });
}

/// The root is a directory without a name and without a parent.
#[test]
fn root_is_a_directory() {
    on_each_geometry(|fixture| {
        assert_eq!(fixture.ours.fs.parent(ROOT), None);
        let dir = fixture.ours.fs.mkdir(ROOT, b"coffee").expect("mkdir");
        assert_eq!(fixture.ours.fs.parent(dir), Some(ROOT));
        fixture.ours.fs.rmdir(ROOT, b"coffee").expect("rmdir");
        assert!(matches!(fixture.ours.fs.list(dir), Err(Error::NotFound)));
        // Into itself and below.
        fixture.mkdir("a");
        fixture.fails(rename("a", "a/b"), Fail::Loop);
    });
}

#[test]
fn names_up_to_the_limit() {
    for (block_size, block_count, prog_size) in GEOMETRIES {
        let mut fixture = Fixture::new(Config::new(block_size, block_count, prog_size));
        let longest = "c".repeat(255);
        let too_long = "c".repeat(256);
        fixture.fails(mkdir(&too_long), Fail::NameTooLong);
        fixture.fails(create(&too_long), Fail::NameTooLong);
        fixture.create("short");
        fixture.fails(rename("short", &too_long), Fail::NameTooLong);
        fixture.rename("short", &longest);
        fixture.power_cycle();
        fixture.unlink(&longest);
        fixture.mkdir(&longest);
        fixture.create(&format!("{longest}/{longest}"));
        fixture.power_cycle();
        let name = longest.as_bytes();
        assert!(matches!(fixture.ours.fs.lookup(ROOT, name), Ok(Node::Dir(_))));
        assert!(fixture.ours.fs.lookup(ROOT, too_long.as_bytes()).is_err());
    }
}
