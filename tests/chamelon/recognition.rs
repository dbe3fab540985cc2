//! Images of chamelon are recognised, and no littlefs is taken for one, whatever it holds.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{TIME, is_recognised, superblock_of, value, varied};
use littlefs::bd::{Geometry, RamDevice};
use littlefs::chamelon::recognise;
use littlefs::fs::{At, FormatOptions, Fs, OpenOptions, ROOT};
use testkit::chamelon::{Chamelon, written};
use testkit::clfs::{CLfs, Config, V2_0, V2_1};

/// A time in the form that chamelon stores.
const STAMP: [u8; 12] = [0x10, 0x4c, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0];

#[test]
fn every_image_of_chamelons_is_recognised() {
    assert!(is_recognised(&written()));
    for prog_size in [8, 16, 64, 256] {
        assert!(is_recognised(&varied(4096, 64, prog_size).chamelon.image));
        // from the first change on
        let empty = Chamelon::format(4096, 32, prog_size);
        for is_value in [true, false] {
            let mut c = empty.clone();
            match is_value {
                true => c.set("a", b"1"),
                false => _ = c.mkdir("a"),
            }
            assert!(is_recognised(&c.image));
            c.remove("a");
            assert!(is_recognised(&c.image));
        }
    }
}

/// After an interrupted write, the two blocks of a pair differ.
#[test]
fn an_interrupted_write_does_not_hide_it() {
    let mut c = Chamelon::format(512, 64, 16);
    for i in 0..40 {
        let before = c.image.clone();
        match i % 5 {
            4 => c.remove(&format!("k{}", i - 1)),
            _ => c.set(&format!("k{i}"), &value(i, 10)),
        }
        let mut half = c.image.clone();
        half[512..1024].copy_from_slice(&before[512..1024]);
        assert!(is_recognised(&half), "after change {i}");
    }
}

/// An image that was only formatted cannot be told apart from a littlefs, and it is one.
#[test]
fn an_empty_image_is_a_littlefs() {
    let c = Chamelon::format(4096, 32, 16);
    assert!(!is_recognised(&c.image));
    let config =
        Config { disk_version: V2_0, erased: 0, strict_erase: false, ..Config::new(4096, 32, 16) };
    let mut driver = CLfs::mount(c.image, &config).expect("mounts");
    driver.write_file(b"a", b"1").expect("writes");
    assert_eq!(driver.read_file(b"a").expect("reads"), b"1");
}

/// Images of the C driver that have the same limits and times as those of chamelon.
#[test]
fn images_of_the_c_driver_are_not() {
    for (erased, prog_size, block_size) in [(0xff, 16, 4096), (0, 16, 4096), (0, 64, 512)] {
        let config = Config {
            name_max: 32,
            disk_version: V2_0,
            erased,
            strict_erase: erased == 0xff,
            ..Config::new(block_size, 96, prog_size)
        };
        let mut c = CLfs::fresh(&config).expect("formats");
        let mut seen = 0;
        let mut check = |c: &CLfs, what: &str| {
            assert!(!is_recognised(&c.image()), "{what}");
            seen += 1;
        };
        check(&c, "empty");
        for i in 0..30 {
            let path = format!("file{i}").into_bytes();
            c.write_file(&path, &value(i, 30 * i)).expect("writes");
            c.setattr(&path, TIME, &STAMP).expect("setattr");
            check(&c, "flat");
        }
        for i in (0..30).step_by(3) {
            c.remove(format!("file{i}").as_bytes()).expect("removes");
            check(&c, "after removal");
        }
        for i in 0..40 {
            let path = format!("file{}", 1 + i % 2);
            c.setattr(path.as_bytes(), TIME, &[i; 12]).expect("setattr");
            check(&c, "appended and compacted");
        }
        for dir in ["d", "d/e"] {
            c.mkdir(dir.as_bytes()).expect("mkdir");
            check(&c, "with directories");
        }
        assert!(seen > 80);
    }
}

/// Images of this program that have the same limits and times as those of chamelon.
#[test]
fn images_of_ours_are_not() {
    for disk_version in [V2_0, V2_1] {
        let dev = Arc::new(RamDevice::new(Geometry::new(512, 256).expect("possible")));
        let options = FormatOptions { disk_version, name_max: 32, ..FormatOptions::default() };
        Fs::format(&*dev, &options).expect("formats");
        let mut fs = Fs::open(dev.clone(), &OpenOptions::default()).expect("opens");
        let check = |fs: &mut Fs, what: &str| {
            fs.flush().expect("flushes");
            let image = dev.image();
            assert_eq!(superblock_of(&image).name_max, 32);
            assert!(!is_recognised(&image), "{what}");
        };
        check(&mut fs, "empty");
        for i in 0..20 {
            let name = format!("file{i}").into_bytes();
            fs.create_with_attrs(ROOT, &name, &[(TIME, STAMP.to_vec())]).expect("creates");
            check(&mut fs, "flat");
        }
        for i in (0..20).step_by(2) {
            fs.unlink(ROOT, format!("file{i}").as_bytes()).expect("unlinks");
            check(&mut fs, "after removal");
        }
        for i in 0..40 {
            fs.set_attr(At::Entry(ROOT, b"file1"), TIME, &[i; 12]).expect("set");
            check(&mut fs, "appended and compacted");
        }
        for name in [b"d", b"e"] {
            fs.mkdir(ROOT, name).expect("mkdir");
            check(&mut fs, "with directories");
        }
    }
}

#[test]
fn images_of_the_corpus_are_not() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for entry in fs::read_dir(dir).expect("tests/corpus") {
        let mut bytes = fs::read(entry.expect("entry").path()).expect("readable");
        bytes.resize(64 << 10, 0xff);
        let sb = superblock_of(&bytes);
        bytes.resize((sb.block_size * sb.block_count) as usize, 0xff);
        assert!(!is_recognised(&bytes));
    }
}

/// One of the two blocks of the root may be completely lost.
#[test]
fn half_of_the_root_is_enough() {
    let mut flat = Chamelon::format(4096, 64, 16);
    for name in ["b", "a"] {
        flat.set(name, b"1");
    }
    for image in [written(), varied(512, 400, 16).chamelon.image, flat.image] {
        let sb = superblock_of(&image);
        let geometry = Geometry::new(sb.block_size, sb.block_count).expect("possible");
        for block in [0, 1] {
            let mut half = image.clone();
            half[block * sb.block_size as usize + 20..][..30].fill(0xa5);
            let half = RamDevice::from_image(geometry, half);
            assert!(recognise(&half, &sb));
        }
    }
}
