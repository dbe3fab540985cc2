//! An image of version 1 shows what its driver shows.

use std::sync::Arc;

use super::{Model, content, device, same, sample, shown, superblock_of, tree, varied};
use littlefs::disk::superblock::VERSION_1_1;
use littlefs::error::Error;
use littlefs::fs::{Fs, Node, OpenOptions, ROOT};
use littlefs::v1::show;
use testkit::tree::{Kind, Tree};
use testkit::v1::{DIRECTORY, Entry, MOVED, V1, metadata};

#[test]
fn trees_in_blocks_of_every_size() {
    for block_size in [104, 128, 256, 512, 4096] {
        same(&format!("blocks of {block_size}"), &sample(block_size).image(), &varied(block_size));
    }
    let empty = V1::new(128, 16).image();
    assert_eq!(tree(&empty).len(), 1);
    let sb = superblock_of(&empty);
    assert_eq!((sb.version, sb.block_size, sb.block_count), (VERSION_1_1, 128, 16));
}

#[test]
fn files_of_every_size_around_block_boundaries() {
    for block_size in [128_u32, 512] {
        let mut model = Model::new();
        let mut room = 0;
        for index in 0..=17_usize {
            let pointers = if index == 0 { 0 } else { index.trailing_zeros() as usize + 1 };
            room += block_size as usize - 4 * pointers;
            for size in room - 1..=room + 1 {
                model.file(&format!("{index}-{size}"), content(size, size));
            }
        }
        same("sizes", &V1::of(block_size, 2000, &model.0).image(), &model.0);
    }
}

#[test]
fn a_file_is_read_from_any_byte_on() {
    let bytes = content(1, 3000);
    let mut model = Model::new();
    model.file("f", bytes.clone());
    let mut fs = shown(&V1::of(128, 64, &model.0).image());
    let file = fs.open_file(ROOT, b"f").expect("opens");
    for (at, len) in [(0, 1), (127, 2), (128, 1), (500, 700), (2999, 5), (3000, 1)] {
        let read = fs.read(file, at as u64, len).and_then(|plan| plan.run()).expect("reads");
        assert_eq!(read, bytes[at..(at + len).min(3000)], "{len} bytes from {at}");
    }
    assert!(matches!(fs.create(ROOT, b"new"), Err(Error::ReadOnly)));
}

/// The longest names that fit into a block of version 1 are too long for a block of the same size
/// in version 2.
#[test]
fn the_longest_names() {
    for block_size in [104_u32, 128, 512] {
        let longest = (block_size as usize - 16 - 4 - 12).min(255);
        let mut model = Model::new();
        for (i, len) in [longest, longest - 1, longest - 12, 1].into_iter().enumerate() {
            model
                .file(&"n".repeat(len - 1).replace('n', &format!("{i}"))[..len - 1], content(i, 9));
            model.file(&format!("{i}{}", "n".repeat(len - 1)), content(i, 300 * i));
        }
        model.0.remove(&b""[..]);
        let mut tree = Model::new().0;
        tree.extend(model.0);
        let dir = "d".repeat(longest);
        tree.insert(dir.clone().into(), testkit::tree::Entry::dir());
        tree.insert(format!("{dir}/x").into(), testkit::tree::Entry::file(content(3, 500)));
        same("long names", &V1::of(block_size, 400, &tree).image(), &tree);
    }
}

/// A rename marks the old entry as moved, writes the new entry, and removes the old one.
#[test]
fn interrupted_renames() {
    let model = varied(512);
    for (from, to_dir, to) in [
        ("large", "a", "renamed"),
        ("a/b/file1", "e", "renamed"),
        ("a/b/c", "e", "renamed"),
        ("e", "a/b", "renamed"),
    ] {
        let mut v1 = sample(512);
        v1.entry(from).kind |= MOVED;
        // not written yet: it keeps its name
        same(from, &v1.image(), &model);
        let mut new = v1.entry(from).clone();
        new.kind &= !MOVED;
        new.name = to.into();
        let at = v1.last_pair(to_dir);
        v1.append(at, new);
        // written: it has the new name only
        let mut renamed = Tree::new();
        for (path, entry) in &model {
            let path = String::from_utf8(path.clone()).expect("text");
            let path = match path.strip_prefix(from) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    format!("{to_dir}/{to}{rest}")
                }
                _ => path,
            };
            renamed.insert(path.into(), entry.clone());
        }
        same(from, &v1.image(), &renamed);
    }
}

/// The driver looks for the other entry along the thread, wherever the thread leads, even in an
/// orphan.
#[test]
fn an_orphan_can_hold_the_other_name_of_a_moved_entry() {
    let mut v1 = sample(512);
    v1.entry("large").kind |= MOVED;
    let mut other = v1.entry("large").clone();
    other.kind &= !MOVED;
    v1.directory();
    let orphan = v1.thread.len() - 1;
    v1.thread[orphan].entries.push(other);
    let mut model = varied(512);
    model.remove(&b"large"[..]);
    same("orphan", &v1.image(), &model);
}

/// Which of the two blocks counts: the newer one of those with a correct CRC. If both have the same
/// revision, the second one.
#[test]
fn the_newer_block_counts() {
    let old = metadata(0, false, [u32::MAX; 2], Vec::new());
    let mut model = Model::new();
    model.file("f", content(1, 10));
    let v1 = V1::of(128, 32, &model.0);
    let with = |block: u32, other: &[u8]| {
        let mut image = v1.image();
        let at = (block * 128) as usize;
        image[at..at + other.len()].copy_from_slice(other);
        tree(&image).len() - 1
    };
    // the root is in blocks 2 and 3, with revision 1 in block 2
    let empty = |rev| metadata(rev, false, [u32::MAX; 2], Vec::new());
    assert_eq!(with(3, &old), 1);
    assert_eq!(with(3, &empty(2)), 0);
    assert_eq!(with(3, &empty(1)), 0, "of two equal ones the second");
    assert_eq!(with(3, &empty(u32::MAX)), 1, "revisions wrap around");
    assert_eq!(with(3, &empty(0x8000_0000)), 0);
    let mut torn = empty(2);
    torn[17] ^= 1;
    assert_eq!(with(3, &torn), 1, "its CRC does not hold");
    let mut long = empty(2);
    long[4..8].copy_from_slice(&129_u32.to_le_bytes());
    assert_eq!(with(3, &long), 1, "longer than a block");
}

#[test]
fn names_that_linux_cannot_hold_get_others() {
    let mut model = Model::new();
    model.file("_", content(1, 1));
    let mut v1 = V1::of(512, 64, &model.0);
    for name in [&b""[..], b".", b"..", b"/", b"a\0b"] {
        let words = v1.list(name);
        v1.append(0, Entry { kind: 0x11, name: name.into(), words, attrs: vec![1, 2, 3] });
    }
    let found: Vec<_> = tree(&v1.image()).into_keys().collect();
    let names: Vec<_> = found.iter().map(|name| name.escape_ascii().to_string()).collect();
    assert_eq!(names, ["", "_", "_~1", "a_b", "dot", "dotdot", "unnamed"]);
}

/// Only files and directories have names that are shown.
#[test]
fn other_entries_are_not_shown() {
    let mut v1 = sample(512);
    let words = v1.list(b"x");
    for kind in [0x2e, 0x12, 0x00, 0x7f] {
        v1.append(0, Entry { kind, name: b"odd".to_vec(), words, attrs: Vec::new() });
    }
    same("odd", &v1.image(), &varied(512));
}

/// Damaged entries are errors, and all others are shown.
#[test]
fn damage_stays_where_it_is() {
    let mut v1 = sample(512);
    v1.entry("large").words[0] = 10_000;
    let [a, b] = v1.entry("a/b").words;
    let mut image = v1.image();
    for block in [a, b] {
        image[block as usize * 512..][..512].fill(0);
    }
    let (view, report) = show(device(&image), superblock_of(&image)).expect("a view");
    assert!(!report.is_clean());
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut fs = Fs::open(Arc::new(view), &options).expect("opens");
    let large = fs.open_file(ROOT, b"large").and_then(|f| fs.read(f, 0, 9)?.run());
    assert!(large.is_err());
    let Ok(Node::Dir(a)) = fs.lookup(ROOT, b"a") else { panic!("no directory") };
    let Ok(Node::Dir(b)) = fs.lookup(a, b"b") else { panic!("no directory") };
    assert!(fs.list(b).is_err());
    assert_eq!(fs.list(a).expect("a list").len(), 2);
    assert!(fs.lookup(a, b"file0").is_ok());
    let exact = fs.open_file(ROOT, b"exact").and_then(|f| fs.read(f, 0, 512)?.run());
    let Kind::File(bytes) = &varied(512)[&b"exact"[..]].kind else { unreachable!() };
    assert_eq!(&exact.expect("reads"), bytes);
}

/// Directories that contain each other do not make an endless tree.
#[test]
fn a_directory_inside_of_itself() {
    let mut v1 = sample(512);
    let words = v1.entry("a").words;
    let at = v1.last_pair("a/b");
    v1.append(at, Entry { kind: DIRECTORY, name: b"again".to_vec(), words, attrs: Vec::new() });
    let image = v1.image();
    let (_, report) = show(device(&image), superblock_of(&image)).expect("a view");
    assert!(report.findings.iter().any(|f| f.code == "tree-loop" && f.place == "/a/b/again"));
}
