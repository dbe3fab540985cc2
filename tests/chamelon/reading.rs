//! An image of chamelon shows what is stored in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Store, TIME, device, shown, superblock_of, tree, value, varied};
use littlefs::chamelon::show;
use littlefs::error::Error;
use littlefs::fs::{At, Fs, Node, OpenOptions, ROOT};
use testkit::chamelon::{Chamelon, manifest, sha1, written};
use testkit::tree::{Entry, Kind};

#[test]
fn what_chamelon_wrote_reads_as_chamelon_reads_it() {
    let image = written();
    let values: Vec<_> = tree(&image).into_iter().filter(|(_, e)| !e.is_dir()).collect();
    let manifest = manifest();
    assert_eq!((values.len(), manifest.len()), (36, 36));
    for (path, entry) in values {
        let path = String::from_utf8(path).expect("a name");
        let Kind::File(bytes) = entry.kind else { unreachable!() };
        let sums = (bytes.len() as u64, sha1(&bytes));
        assert_eq!(Some(&sums), manifest.get(&path), "{path}");
    }
}

#[test]
fn directories_removals_and_replacements() {
    for (block_size, block_count, prog_size) in
        [(512, 400, 16), (1024, 200, 16), (4096, 64, 16), (4096, 64, 512)]
    {
        varied(block_size, block_count, prog_size).verify();
    }
}

#[test]
fn values_of_every_size_around_block_boundaries() {
    for block_size in [256, 512, 4096] {
        let mut s = Store::new(block_size, 4096, 16);
        // where block 2, 4, 8 and 16 of a list begin and end
        let mut room = 0;
        for index in 0..=17_usize {
            let pointers = if index.is_power_of_two() { index.ilog2().max(1) } else { 1 };
            room += block_size - if index == 0 { 0 } else { 4 * pointers as usize };
            if block_size == 4096 && !matches!(index, 0..=4 | 16) {
                continue;
            }
            for size in room - 1..=room + 1 {
                s.set(&format!("d{index}/{size}"), value(size, size));
            }
        }
        for size in [0, 1, (block_size / 4).min(1022), block_size / 4 + 1] {
            s.set(&format!("small/{size}"), value(size, size));
        }
        s.verify();
    }
}

#[test]
fn a_value_is_read_from_any_byte_on() {
    let mut s = Store::new(512, 512, 16);
    let all = value(1, 20_000);
    s.set("large", all.clone());
    let mut fs = shown(&s.chamelon.image);
    let file = fs.open_file(ROOT, b"large").expect("opens");
    for from in (0..all.len()).step_by(97) {
        for len in [1, 4, 511, 512, 513, 3000] {
            let bytes = fs.read(file, from as u64, len).expect("a plan").run().expect("readable");
            assert_eq!(bytes, all[from..all.len().min(from + len)], "{len} bytes from {from}");
        }
    }
}

#[test]
fn directories_of_several_pairs() {
    for block_size in [256, 512, 4096] {
        let mut s = Store::new(block_size, 2000, 16);
        for i in 0..300 {
            s.set(&format!("many/key-{i}"), value(i, i % 40));
        }
        assert!(s.chamelon.pairs("many").len() > 2);
        s.verify();
        // the new value stands in another pair than the old one, which stays
        for i in (0..300).step_by(50) {
            s.set(&format!("many/key-{i}"), value(i, 50));
        }
        let mut shown = shown(&s.chamelon.image);
        let Node::Dir(many) = shown.lookup(ROOT, b"many").expect("there") else { panic!() };
        assert_eq!(shown.list(many).expect("listed").len(), 300);
        s.verify();
    }
}

/// When chamelon removes from a directory of several pairs, it loses the pairs behind. The image
/// shows what chamelon lists.
#[test]
fn what_chamelon_loses_is_not_shown() {
    let mut s = Store::new(512, 1000, 16);
    for i in 0..60 {
        s.set(&format!("many/{i}"), value(i, 20));
    }
    for i in [40, 20, 1] {
        let before = s.chamelon.names("many").len();
        s.chamelon.remove(&format!("many/{i}"));
        let names = s.chamelon.names("many");
        assert!(names.len() < before - 1, "chamelon lost nothing");
        let mut fs = shown(&s.chamelon.image);
        let Node::Dir(many) = fs.lookup(ROOT, b"many").expect("there") else { panic!() };
        let listed = fs.list(many).expect("listed").into_iter();
        let listed: BTreeSet<_> =
            listed.map(|name| String::from_utf8(name.into()).expect("UTF-8")).collect();
        assert_eq!(listed, names);
    }
}

#[test]
fn times_are_kept() {
    let mut s = Store::new(512, 64, 16);
    s.chamelon.now = 1_234_567_890_122;
    s.set("a", value(1, 10));
    let mut fs = shown(&s.chamelon.image);
    let time = fs.get_attr(At::Entry(ROOT, b"a"), TIME).expect("a time");
    let picos: u64 = (1_234_567_890_123 % 86_400_000) * 1_000_000_000;
    assert_eq!(time, [&14_288_u32.to_le_bytes()[..], &picos.to_le_bytes()[..]].concat());
}

/// The view can only be read.
#[test]
fn nothing_is_written() {
    let s = varied(512, 128, 16);
    let mut fs = shown(&s.chamelon.image);
    assert!(fs.is_read_only());
    assert!(fs.create(ROOT, b"new").is_err() && fs.unlink(ROOT, b"flat").is_err());
}

/// The images in these tests are made as chamelon makes them: the first directory of the image that
/// chamelon wrote comes out the same, byte for byte.
#[test]
fn the_generator_writes_as_chamelon_does() {
    let real = written();
    let mut s = Store::new(4096, 128, 16);
    s.chamelon.take_next(32..38);
    for dir in ["a", "a/sub0", "a/sub1"] {
        s.mkdir(dir);
    }
    assert_eq!(s.chamelon.pairs("a"), [(33, 32)]);
    let blocks = 32 * 4096..34 * 4096;
    assert!(s.chamelon.image[blocks.clone()] == real[blocks]);
    // and so does the list of 18 blocks
    let mut fs = shown(&real);
    let file = fs.open_file(ROOT, b"z-large").expect("opens");
    let bytes = fs.read(file, 0, 70_000).expect("a plan").run().expect("readable");
    let mut s = Store::new(4096, 128, 16);
    s.chamelon.take_next((64..78).rev().chain(60..64));
    s.set("z-large", bytes);
    let blocks = 60 * 4096..78 * 4096;
    assert!(s.chamelon.image[blocks.clone()] == real[blocks]);
}

/// A write that is interrupted at any sector leaves either the old or the new content.
#[test]
fn interrupted_writes_show_the_old_or_the_new() {
    let mut s = Store::new(2048, 128, 16);
    s.mkdir("d");
    let (mut old, mut new) = (0, 0);
    for i in 0..60 {
        let before = (s.chamelon.image.clone(), s.model.clone());
        match i % 7 {
            6 => s.remove(&format!("d/k{}", i - 1)),
            _ => s.set(&format!("d/k{i}"), value(i, 11 * (i % 5))),
        }
        // d's own pair; what else was written stands already
        let (first, _) = s.chamelon.pairs("d")[0];
        let block = first as usize * 2048;
        for sectors in 0..4 {
            let mut image = s.chamelon.image.clone();
            let written = block + 512 * sectors;
            // the first block has so much of the new bytes, the second one none
            for range in [written..block + 2048, block - 2048..block] {
                image[range.clone()].copy_from_slice(&before.0[range]);
            }
            let tree = tree(&image);
            match (tree == before.1, tree == s.model) {
                (true, _) => old += 1,
                (_, true) => new += 1,
                _ => panic!("change {i}, {sectors} sectors: neither"),
            }
        }
    }
    assert!(old > 40 && new > 40, "{old} old, {new} new");
}

/// chamelon only limits the names of values, and it accepts names that Linux cannot have.
#[test]
fn names_are_shown_as_they_can_be() {
    let mut s = Store::new(1024, 64, 16);
    let long = "long".repeat(20);
    s.set(&format!("{long}/v"), value(1, 7));
    for (name, shown) in [(".", "dot"), ("a\0b", "a_b"), ("..", "dotdot")] {
        s.chamelon.set(name, shown.as_bytes());
        s.model.insert(shown.into(), Entry::file(shown.into()));
    }
    // taken already
    s.set("a_b", value(2, 9));
    s.chamelon.set("a\0b", b"other");
    s.model.insert(b"a_b~1".to_vec(), Entry::file(b"other".to_vec()));
    s.verify();
    let mut fs = shown(&s.chamelon.image);
    assert_eq!(fs.superblock().name_max, 80);
    assert!(matches!(fs.lookup(ROOT, long.as_bytes()), Ok(Node::Dir(_))));
}

/// Damaged entries are errors, and all others are shown.
#[test]
fn damage_is_an_error_where_it_is() {
    let mut c = Chamelon::format(512, 128, 16);
    c.set("kept", &value(1, 1000));
    c.set("d/lost", &value(2, 2000));
    c.set("e/f", &value(3, 10));
    let e = c.pairs("e")[0];
    c.point("d", "bad", 9999, 700);
    c.link("d", "root", (0, 1));
    for block in [e.0, e.1] {
        c.image[block as usize * 512..][..512].fill(0x5a);
    }
    let (view, report) = show(device(&c.image), superblock_of(&c.image)).expect("a view");
    let codes: BTreeSet<_> = report.findings.iter().map(|f| f.code).collect();
    assert_eq!(codes, BTreeSet::from(["directory-broken", "tree-loop"]));
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut fs = Fs::open(Arc::new(view), &options).expect("opens");
    let Ok(Node::Dir(e)) = fs.lookup(ROOT, b"e") else { panic!("no directory") };
    assert!(matches!(fs.list(e), Err(Error::Corrupt(_))));
    let Node::Dir(d) = fs.lookup(ROOT, b"d").expect("there") else { panic!("no directory") };
    let Ok(Node::Dir(root)) = fs.lookup(d, b"root") else { panic!("no directory") };
    assert!(matches!(fs.list(root), Err(Error::Corrupt(_))));
    let mut read = |dir, name: &[u8]| {
        let file = fs.open_file(dir, name)?;
        let bytes = fs.read(file, 0, 9999).and_then(|plan| plan.run());
        fs.close_file(file);
        bytes
    };
    assert!(matches!(read(d, b"bad"), Err(Error::Io(_))));
    assert_eq!(read(ROOT, b"kept").expect("readable"), value(1, 1000));
    assert_eq!(read(d, b"lost").expect("readable"), value(2, 2000));
}
