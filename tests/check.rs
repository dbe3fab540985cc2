//! Repair: what it mends, what it says, and what it leaves alone. C littlefs judges the result.

#[path = "hostile/builder.rs"]
#[allow(dead_code)]
mod builder;
mod common;

use std::process::{Command, Output};
use std::sync::Arc;

use builder::{
    Builder, hard, moving, put_ctz, put_dir, put_inline, put_superblock, soft, superblock,
};
use common::clfs::{CLfs, Config};
use common::tree::{Kind, Tree};
use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::{check, repair};
use littlefs::disk::{GState, Tail, tag};
use littlefs::fs::{Fs, OpenOptions, ROOT};

/// Repair must leave nothing to find, and C must see `files`: paths and contents.
fn mends(name: &str, image: &Builder, codes: &[&str], files: &[(&str, &str)]) -> Tree {
    let dev = Arc::new(RamDevice::from_image(image.geometry, image.bytes.clone()));
    let before = check(dev.clone()).expect("examined");
    for code in codes {
        assert!(before.findings.iter().any(|f| f.code == *code), "{name}: {before:#?}");
    }
    let repairs = repair(dev.clone()).expect("opens");
    assert!(repairs.stopped.is_none(), "{name}: {repairs:?}");
    assert!(!repairs.done.is_empty(), "{name}: says what it did");
    let after = check(dev.clone()).expect("examined");
    assert!(after.findings.is_empty(), "{name}: {:#?}\n{repairs:#?}", after.findings);
    assert!(repair(dev.clone()).expect("opens").done.is_empty(), "{name}: once is enough");

    let g = image.geometry;
    let config = Config::new(g.block_size, g.block_count, 16);
    let mut c = CLfs::mount(dev.image(), &config).expect("C mounts");
    let tree = c.tree(&[]).expect("C reads");
    for (path, content) in files {
        let entry = tree.get(path.as_bytes()).unwrap_or_else(|| panic!("{name}: {path}: {tree:?}"));
        let Kind::File(bytes) = &entry.kind else { panic!("{name}: {path} is no file") };
        assert_eq!(bytes.escape_ascii().to_string(), *content, "{name}: {path}");
    }
    c.write_file(b"device", &[1; 2000]).expect("C writes");
    c.mkconsistent().expect("mkconsistent");
    let image = c.unmount();
    let report = check(Arc::new(RamDevice::from_image(g, image))).expect("examined");
    assert!(report.is_clean(), "{name}: {:#?}", report.findings);
    tree
}

#[test]
fn directories_the_thread_misses_are_threaded() {
    let mut b = Builder::new();
    b.root(Tail::END, |w| {
        put_dir(w, 1, b"a", [2, 3]);
        put_dir(w, 2, b"b", [4, 5]);
    });
    b.small_dir([2, 3], hard([6, 7]));
    b.pair([6, 7], |w| put_inline(w, 0, b"more", b"more"));
    b.pair([4, 5], |w| put_dir(w, 0, b"deep", [8, 9])).small_dir([8, 9], Tail::END);
    let files = [("a/file", "content"), ("a/more", "more"), ("b/deep/file", "content")];
    mends("unthreaded", &b, &["unthreaded"], &files);
}

#[test]
fn directories_without_a_name_come_to_lost_and_found() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_inline(w, 1, b"good", b"good"));
    b.pair([2, 3], |w| {
        put_inline(w, 0, b"file", b"content");
        put_dir(w, 1, b"inner", [4, 5]);
        w.tail(soft([4, 5]));
    });
    b.small_dir([4, 5], soft([6, 7]));
    b.pair([6, 7], |w| w.tail(soft([8, 9]))).small_dir([8, 9], Tail::END);
    let files = [
        ("good", "good"),
        ("lost+found/dir-2/file", "content"),
        ("lost+found/dir-2/inner/file", "content"),
        ("lost+found/dir-8/file", "content"),
    ];
    mends("orphans", &b, &["orphan"], &files);
}

#[test]
fn names_become_possible_and_unique() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| {
        put_inline(w, 1, b"", b"0");
        put_inline(w, 2, b"..", b"1");
        put_dir(w, 3, b"a/b", [2, 3]);
        put_inline(w, 4, b"a_b", b"3");
        put_inline(w, 5, b"same", b"4");
        put_inline(w, 6, b"same", b"5");
        put_inline(w, 7, b"same~1", b"6");
    });
    b.small_dir([2, 3], Tail::END);
    let files = [
        ("unnamed", "0"),
        ("dotdot", "1"),
        ("a_b~1/file", "content"),
        ("a_b", "3"),
        ("same", "4"),
        ("same~2", "5"),
        ("same~1", "6"),
    ];
    mends("names", &b, &["name-impossible", "name-duplicate"], &files);
}

#[test]
fn directories_are_sorted() {
    let names = ["z", "b", "a", "ab", "abc", "m", "c", "y", "k"];
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    for (i, three) in names.chunks(3).enumerate() {
        let pair = 2 + 2 * i as u32;
        b.pair([pair, pair + 1], |w| {
            for (id, name) in three.iter().enumerate() {
                put_inline(w, id as u16, name.as_bytes(), name.as_bytes());
            }
            w.tail(if i < 2 { hard([pair + 2, pair + 3]) } else { Tail::END });
        });
    }
    let paths: Vec<String> = names.iter().map(|n| format!("dir/{n}")).collect();
    let files: Vec<(&str, &str)> =
        paths.iter().map(String::as_str).zip(names.iter().copied()).collect();
    let tree = mends("order", &b, &["name-order"], &files);
    assert_eq!(tree.len(), 2 + names.len());
}

#[test]
fn an_empty_pair_leaves_its_directory() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    b.small_dir([2, 3], hard([4, 5])).pair([4, 5], |w| w.tail(hard([6, 7])));
    b.pair([6, 7], |w| put_inline(w, 0, b"x", b"x"));
    mends("empty pair", &b, &["pair-empty"], &[("dir/file", "content"), ("dir/x", "x")]);
}

#[test]
fn what_was_interrupted_is_finished() {
    for state in [moving([0, 1], 1), moving([50, 51], 1), GState::default().with_sync(true)] {
        let mut b = Builder::new();
        let sb = superblock(b.geometry);
        b.pair([0, 1], |w| {
            put_superblock(w, sb);
            put_inline(w, 1, b"gone", b"gone");
            put_inline(w, 2, b"good", b"good");
            w.gdelta(state);
        });
        mends("pending", &b, &[], &[("good", "good")]);
    }
}

/// The thread still names the pair that a directory has left.
#[test]
fn the_thread_follows_the_tree() {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [3, 4]));
    b.small_dir([2, 3], Tail::END);
    b.pair([4, 3], |w| put_inline(w, 0, b"new", b"new"));
    mends("half-orphan", &b, &["half-orphan"], &[("dir/new", "new")]);
}

/// Nothing is written where something would have to be given up.
#[test]
fn what_cannot_be_mended_is_left_alone() {
    type Change = fn(&mut Builder);
    let damages: [(&str, Change); 4] = [
        ("ctz-range", |b| _ = b.root(Tail::END, |w| put_ctz(w, 1, b"f", 9999, 700))),
        ("block-shared", |b| {
            b.list(&[20, 21]).root(Tail::END, |w| {
                put_ctz(w, 1, b"f", 21, 700);
                put_ctz(w, 2, b"g", 21, 700);
            });
        }),
        ("directory-broken", |b| _ = b.root(Tail::END, |w| put_dir(w, 1, b"d", [60, 61]))),
        ("thread-broken", |b| _ = b.root(soft([60, 61]), |w| put_inline(w, 1, b"f", b"f"))),
    ];
    for (code, change) in damages {
        let mut b = Builder::new();
        change(&mut b);
        let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
        let report = check(dev.clone()).expect("examined");
        assert!(report.findings.iter().any(|f| f.code == code), "{report:#?}");
        let repairs = repair(dev.clone()).expect("opens");
        assert!(repairs.done.is_empty() && repairs.stopped.is_some(), "{code}: {repairs:?}");
        assert_eq!(dev.image(), b.bytes, "{code}");
    }
}

#[test]
fn notes_are_no_errors() {
    let mut b = Builder::new();
    b.root(Tail::END, |w| put_inline(w, 1, b"f", b"f"));
    let end = b.geometry.block_size as usize - 1;
    b.block_mut(0)[end] = 0;
    let note = |b: &Builder, code: &str| {
        let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
        let report = check(dev).expect("examined");
        assert!(report.is_clean(), "{report:#?}");
        assert!(report.findings.iter().any(|f| f.code == code), "{code}: {report:#?}");
    };
    note(&b, "debris");

    // a commit as a driver of disk version 2.0 leaves it
    let mut b = Builder::new();
    let sb = superblock(b.geometry);
    let layout = littlefs::disk::commit::Layout { fcrc: false, ..b.layout() };
    let mut w = littlefs::disk::commit::Writer::compact(layout, 1);
    put_superblock(&mut w, sb);
    w.tag(tag::REG, 1, b"f");
    w.tag(tag::INLINESTRUCT, 1, b"f");
    let commit = w.finish().expect("fits");
    b.block_mut(0)[..commit.bytes.len()].copy_from_slice(&commit.bytes);
    note(&b, "commit-closed");
}

#[test]
fn the_command_exits_as_fsck_does() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    let run = |args: &[&str]| {
        let Output { status, stdout, .. } = Command::new(env!("CARGO_BIN_EXE_littlefs"))
            .arg("check")
            .args(args)
            .arg(&path)
            .output()
            .expect("runs");
        (status.code().expect("exits"), String::from_utf8_lossy(&stdout).into_owned())
    };
    let mut b = Builder::new();
    b.root(Tail::END, |w| put_dir(w, 1, b"d", [2, 3])).small_dir([2, 3], Tail::END);
    for option in ["--repair", "-p", "-a", "-y", "-fy"] {
        std::fs::write(&path, &b.bytes).expect("write");
        for look in ["-n", "-f", "-fn"] {
            assert_eq!(run(&[look]).0, 4);
        }
        assert_eq!(std::fs::read(&path).expect("read"), b.bytes, "looking changes nothing");
        let (code, out) = run(&[option]);
        assert_eq!(code, 1, "{option}: {out}");
        assert!(out.contains("repaired: /d/: put into the thread"), "{out}");
        assert_eq!(run(&[option]).0, 0);
    }
    std::fs::write(&path, &b.bytes).expect("write");
    let (code, out) = run(&["--repair", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, json["repairs"].as_array().map(Vec::len)), (1, Some(1)), "{json:#}");
    assert_eq!(json["totals"]["directories"], 1);
    for wrong in [["-n", "-y"], ["-p", "-n"], ["--repair", "-n"], ["-p", "-y"]] {
        assert_eq!(run(&wrong).0, 16, "{wrong:?}");
    }

    b.root(Tail::END, |w| put_dir(w, 1, b"d", [60, 61]));
    std::fs::write(&path, &b.bytes).expect("write");
    assert_eq!(run(&["-y"]).0, 4);
    assert_eq!(std::fs::read(&path).expect("read"), b.bytes);
}

/// A big unsorted directory takes one pass, and what is open to us stays open to C.
#[test]
fn sorting_scales() {
    let g = Geometry::new(512, 2048).expect("possible");
    let mut b = Builder::with_geometry(g.block_size, g.block_count);
    b.root(soft([2, 3]), |w| put_dir(w, 1, b"dir", [2, 3]));
    for i in 0..40_u32 {
        let pair = 2 + 2 * i;
        b.pair([pair, pair + 1], |w| {
            for id in 0..10_u16 {
                let name = format!("{:08x}", (i * 10 + u32::from(id)).wrapping_mul(0x9e37_79b9));
                put_inline(w, id, name.as_bytes(), &[]);
            }
            w.tail(if i < 39 { hard([pair + 2, pair + 3]) } else { Tail::END });
        });
    }
    let tree = mends("large", &b, &["name-order"], &[]);
    assert_eq!(tree.len(), 402);
    let dev = Arc::new(RamDevice::from_image(g, b.bytes.clone()));
    let mut fs = Fs::open(dev, &OpenOptions::default()).expect("opens");
    assert_eq!(fs.list(ROOT).expect("lists").len(), 1);
}
