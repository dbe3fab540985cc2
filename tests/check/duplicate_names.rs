//! Names that occur more than once in a directory: the entry that the C driver opens is the one
//! that is shown and changed here, and the one that it opens afterwards.

use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::{Mode, check, repair};
use littlefs::disk::commit::Writer;
use littlefs::disk::{Tail, tag};
use littlefs::fs::{DirId, Fs, Node, OpenOptions, ROOT};

use super::interrupted::{Dice, same_in_the_end};
use testkit::builder::{Builder, hard, put_dir, put_inline, put_superblock, soft, superblock};
use testkit::clfs::{CError, CLfs, Config, Info};

/// Write several commits to the first block of `pair`, and only the first of them to the second.
fn commits(b: &mut Builder, pair: [u32; 2], commits: &[&dyn Fn(&mut Writer)]) {
    b.pair([pair[1], pair[0]], commits[0]);
    let layout = b.layout();
    let mut w = Writer::compact(layout, 2);
    for (i, content) in commits.iter().enumerate() {
        content(&mut w);
        let commit = w.finish().expect("fits");
        let start = commit.start as usize;
        b.block_mut(pair[0])[start..start + commit.bytes.len()].copy_from_slice(&commit.bytes);
        w = Writer::append(layout, commit.end(), commit.etag);
        assert!(i < 8, "a handful");
    }
}

fn create(w: &mut Writer, id: u16, name: &[u8], content: &[u8]) {
    w.tag(tag::CREATE, id, &[]);
    put_inline(w, id, name, content);
}

/// What `x` is: the content of a file, or the names in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    File(Vec<u8>),
    Dir(Vec<String>),
}

/// What the C driver opens at `path`.
fn in_c(image: &[u8], g: Geometry, path: &str) -> Option<What> {
    let mut c = CLfs::mount(image.to_vec(), &Config::new(g.block_size, g.block_count, 16))
        .expect("C mounts");
    match c.stat(path.as_bytes()) {
        Ok(Info::File { .. }) => Some(What::File(c.read_file(path.as_bytes()).expect("C reads"))),
        Ok(Info::Dir) => {
            let list = c.list(path.as_bytes()).expect("C lists");
            let names = list.iter().map(|(name, _)| name.escape_ascii().to_string());
            Some(What::Dir(names.collect()))
        }
        Err(CError::NoEnt) => None,
        Err(e) => panic!("C: {path}: {e:?}"),
    }
}

fn open(dev: &Arc<RamDevice>) -> Fs {
    Fs::open(dev.clone(), &OpenOptions::default()).expect("opens")
}

/// What `name` in `dir` shows.
fn in_ours(fs: &mut Fs, dir: DirId, name: &str) -> Option<What> {
    let shown = fs.list(dir).expect("lists").iter().filter(|n| ***n == *name.as_bytes()).count();
    match fs.lookup(dir, name.as_bytes()) {
        Ok(Node::File { size }) => {
            assert_eq!(shown, 1, "{name} is listed once");
            let file = fs.open_file(dir, name.as_bytes()).expect("opens");
            let bytes = fs.read(file, 0, size as usize).and_then(|p| p.run()).expect("reads");
            fs.close_file(file);
            Some(What::File(bytes))
        }
        Ok(Node::Dir(d)) => {
            assert_eq!(shown, 1, "{name} is listed once");
            let names = fs.list(d).expect("lists");
            Some(What::Dir(names.iter().map(|n| n.escape_ascii().to_string()).collect()))
        }
        Err(_) => {
            assert_eq!(shown, 0, "{name} is not listed");
            None
        }
    }
}

/// An image, and how many of its entries are called `x`; all are in the root.
type Arrangement = (&'static str, u32, Builder);

fn arranged(name: &'static str, count: u32, fill: &dyn Fn(&mut Builder)) -> Arrangement {
    let mut b = Builder::new();
    fill(&mut b);
    (name, count, b)
}

fn arrangements() -> Vec<Arrangement> {
    [of_files_and_directories(), vec![in_a_later_pair()], in_later_commits()].concat()
}

/// Entries of all types, in one commit.
fn of_files_and_directories() -> Vec<Arrangement> {
    let mut all = Vec::new();
    all.push(arranged("file and file", 2, &|b| {
        b.root(Tail::END, |w| {
            put_inline(w, 1, b"a", b"a");
            put_inline(w, 2, b"x", b"one");
            put_inline(w, 3, b"x", b"two");
            put_inline(w, 4, b"z", b"z");
        });
    }));
    all.push(arranged("three files", 3, &|b| {
        b.root(Tail::END, |w| {
            put_inline(w, 1, b"x", b"one");
            put_inline(w, 2, b"x", b"two");
            put_inline(w, 3, b"x", b"three");
            put_inline(w, 4, b"z", b"z");
        });
    }));
    let below =
        |b: &mut Builder| _ = b.small_dir([2, 3], soft([4, 5])).small_dir([4, 5], Tail::END);
    all.push(arranged("directory and file", 2, &|b| {
        b.root(soft([2, 3]), |w| {
            put_dir(w, 1, b"x", [2, 3]);
            put_inline(w, 2, b"x", b"two");
            put_dir(w, 3, b"y", [4, 5]);
        });
        below(b);
    }));
    all.push(arranged("file and directory", 2, &|b| {
        b.root(soft([2, 3]), |w| {
            put_inline(w, 1, b"x", b"one");
            put_dir(w, 2, b"x", [2, 3]);
            put_dir(w, 3, b"y", [4, 5]);
        });
        below(b);
    }));
    all.push(arranged("directory and directory", 2, &|b| {
        b.root(soft([2, 3]), |w| {
            put_dir(w, 1, b"x", [2, 3]);
            put_dir(w, 2, b"x", [4, 5]);
            put_inline(w, 3, b"z", b"z");
        });
        below(b);
    }));
    all
}

fn in_a_later_pair() -> Arrangement {
    arranged("the later pair", 3, &|b| {
        let sb = superblock(b.geometry);
        b.pair([0, 1], |w| {
            put_superblock(w, sb);
            put_inline(w, 1, b"a", b"a");
            put_inline(w, 2, b"x", b"one");
            w.tail(hard([2, 3]));
        });
        b.pair([2, 3], |w| {
            put_inline(w, 0, b"x", b"two");
            put_inline(w, 1, b"x", b"three");
            put_inline(w, 2, b"z", b"z");
        });
    })
}

/// Entries that were created while there was one of the same name.
fn in_later_commits() -> Vec<Arrangement> {
    let mut all = Vec::new();
    let with_root = |w: &mut Writer| {
        put_superblock(w, superblock(Builder::new().geometry));
        put_inline(w, 1, b"a", b"a");
        put_inline(w, 2, b"x", b"one");
        put_inline(w, 3, b"z", b"z");
    };
    all.push(arranged("made again before the first", 2, &|b| {
        commits(b, [0, 1], &[&with_root, &|w| create(w, 2, b"x", b"two")]);
    }));
    all.push(arranged("made again behind the first", 2, &|b| {
        commits(b, [0, 1], &[&with_root, &|w| create(w, 3, b"x", b"two")]);
    }));
    all.push(arranged("one removed between", 2, &|b| {
        commits(
            b,
            [0, 1],
            &[&with_root, &|w| create(w, 2, b"x", b"two"), &|w| {
                w.tag(tag::DELETE, 2, &[]);
                create(w, 2, b"x", b"three");
            }],
        );
    }));
    all.push(arranged("the last removed", 2, &|b| {
        commits(
            b,
            [0, 1],
            &[&with_root, &|w| create(w, 2, b"x", b"two"), &|w| {
                create(w, 4, b"x", b"three");
                w.tag(tag::DELETE, 4, &[]);
            }],
        );
    }));
    all.push(arranged("another removed", 2, &|b| {
        commits(
            b,
            [0, 1],
            &[&with_root, &|w| {
                create(w, 2, b"x", b"two");
                w.tag(tag::DELETE, 1, &[]);
            }],
        );
    }));
    all
}

/// The entry that the C driver opens is shown. Changes of it are what the C driver sees afterwards.
/// When it is removed, the entry is shown with which the C driver continues.
#[test]
fn what_a_device_opens_is_shown_and_edited() {
    for (name, count, b) in arrangements() {
        let g = b.geometry;
        let dev = Arc::new(RamDevice::from_image(g, b.bytes.clone()));
        let before = in_c(&b.bytes, g, "x");
        let mut fs = open(&dev);
        assert!(!fs.is_read_only(), "{name}: {:?}", fs.warnings());
        assert!(fs.warnings().iter().any(|w| w.contains("more than once")), "{name}");
        let ours = in_ours(&mut fs, ROOT, "x");
        // after some removals C finds none until it compacts
        assert!(before.is_none() || before == ours, "{name}: {before:?} {ours:?}");

        // a change elsewhere in the pair leaves it so
        fs.create(ROOT, b"b").expect("creates");
        fs.flush().expect("flushes");
        assert_eq!(in_c(&dev.image(), g, "x"), ours, "{name}: after another change");
        assert_eq!(in_ours(&mut open(&dev), ROOT, "x"), ours, "{name}: opened again");

        // an edit is seen, and nothing else of that name
        match fs.lookup(ROOT, b"x").expect("is there") {
            Node::Dir(dir) => fs.create(dir, b"edited").expect("creates"),
            Node::File { .. } => {
                let file = fs.open_file(ROOT, b"x").expect("opens");
                fs.write(file, 0, &[b'e'; 900]).expect("writes");
                fs.close_file(file);
            }
        }
        fs.flush().expect("flushes");
        let edited = in_ours(&mut fs, ROOT, "x");
        assert_ne!(edited, ours, "{name}: edited");
        assert_eq!(in_c(&dev.image(), g, "x"), edited, "{name}: C sees the edit");
        assert!(matches!(fs.create(ROOT, b"x"), Err(littlefs::error::Error::Exists)), "{name}");

        // one after the other goes away or elsewhere
        let mut fs = open(&dev);
        for left in (0..count).rev() {
            let gone = in_ours(&mut fs, ROOT, "x").unwrap_or_else(|| panic!("{name}: {left}"));
            let new = format!("moved{left}");
            match &gone {
                What::File(_) if left % 2 == 0 => fs.unlink(ROOT, b"x").expect("removes"),
                _ => {
                    fs.rename(ROOT, b"x", ROOT, new.as_bytes(), true).expect("renames");
                    assert_eq!(in_ours(&mut fs, ROOT, &new), Some(gone), "{name}: {new}");
                }
            }
            let now = in_ours(&mut fs, ROOT, "x");
            assert_eq!(now.is_some(), left > 0, "{name}: {left} left");
            fs.flush().expect("flushes");
            assert_eq!(in_ours(&mut open(&dev), ROOT, "x"), now, "{name}: {left}, opened again");
            assert_eq!(in_c(&dev.image(), g, "x"), now, "{name}: {left} left for C");
        }
        assert!(check(dev).expect("examined").is_clean(), "{name}");
    }
}

/// An entry that replaces the visible one becomes the visible one, also for the C driver.
#[test]
fn what_replaces_it_is_what_a_device_opens() {
    for (name, _, b) in arrangements() {
        let g = b.geometry;
        let dev = Arc::new(RamDevice::from_image(g, b.bytes.clone()));
        let mut fs = open(&dev);
        if let Ok(Node::Dir(_)) = fs.lookup(ROOT, b"x") {
            continue;
        }
        fs.create(ROOT, b"new").expect("creates");
        let file = fs.open_file(ROOT, b"new").expect("opens");
        fs.write(file, 0, b"replaced").expect("writes");
        fs.close_file(file);
        fs.flush().expect("flushes");
        fs.rename(ROOT, b"new", ROOT, b"x", false).expect("renames");
        let want = Some(What::File(b"replaced".to_vec()));
        assert_eq!(in_ours(&mut fs, ROOT, "x"), want, "{name}");
        fs.flush().expect("flushes");
        assert_eq!(in_ours(&mut open(&dev), ROOT, "x"), want, "{name}: opened again");
        assert_eq!(in_c(&dev.image(), g, "x"), want, "{name}: C");
    }
}

/// `-p` leaves these entries alone. `-y` moves those that cannot be reached to `lost+found`, also
/// if it is interrupted and run again.
#[test]
fn the_others_go_to_lost_and_found() {
    for (name, count, b) in arrangements() {
        let g = b.geometry;
        let dev = Arc::new(RamDevice::from_image(g, b.bytes.clone()));
        let shown = in_ours(&mut open(&dev), ROOT, "x");
        let duplicates = |dev: &Arc<RamDevice>| {
            let findings = check(dev.clone()).expect("examined").findings;
            findings.iter().filter(|f| f.code == "name-duplicate").count() as u32
        };
        assert_eq!(duplicates(&dev), count - 1, "{name}");
        repair(dev.clone(), Mode::Preen).expect("opens");
        assert!(dev.image() == b.bytes, "{name}: -p changes nothing");

        let repairs = repair(dev.clone(), Mode::Yes).expect("opens");
        assert!(repairs.done.iter().all(|r| !r.given_up), "{name}: {repairs:#?}");
        let after = check(dev.clone()).expect("examined");
        assert!(after.is_clean(), "{name}: {after:#?}\n{repairs:#?}");
        let mut fs = open(&dev);
        assert_eq!(in_ours(&mut fs, ROOT, "x"), shown, "{name}");
        assert_eq!(in_c(&dev.image(), g, "x"), shown, "{name}: C");
        let Ok(Node::Dir(lost)) = fs.lookup(ROOT, b"lost+found") else {
            panic!("{name}: no place")
        };
        assert_eq!(fs.list(lost).expect("lists").len() as u32, count - 1, "{name}");
        for mode in [Mode::Preen, Mode::Yes] {
            same_in_the_end(name, g, &b.bytes, mode, "");
        }
    }
}

/// A directory that has lost its name and has names that occur more than once: also below it, in
/// its second pair, and where the other entries are directories with such names.
fn rescued() -> Builder {
    let mut b = Builder::new();
    b.root(soft([2, 3]), |w| put_inline(w, 1, b"good", b"good"));
    b.pair([2, 3], |w| {
        put_dir(w, 0, b"sub", [6, 7]);
        put_inline(w, 1, b"x", b"one");
        put_inline(w, 2, b"x", b"two");
        w.tail(hard([4, 5]));
    });
    b.pair([4, 5], |w| {
        put_dir(w, 0, b"y", [8, 9]);
        put_inline(w, 1, b"y", b"y");
        put_inline(w, 2, b"z", b"z");
        w.tail(soft([6, 7]));
    });
    for (pair, tail) in [([6, 7], soft([8, 9])), ([8, 9], Tail::END)] {
        b.pair(pair, |w| {
            put_inline(w, 0, b"deep", b"first");
            put_inline(w, 1, b"deep", b"second");
            put_inline(w, 2, b"deep", b"third");
            w.tail(tail);
        });
    }
    b
}

/// What is rescued shows what a device opens, as everything else does. After `-y`, no name occurs
/// twice, and nothing is lost, at any depth.
#[test]
fn doubles_in_rescued_directories() {
    let b = rescued();
    let g = b.geometry;
    for mode in [Mode::Preen, Mode::Yes] {
        let dev = Arc::new(RamDevice::from_image(g, b.bytes.clone()));
        let repairs = repair(dev.clone(), mode).expect("opens");
        assert!(repairs.done.iter().all(|r| !r.given_up), "{mode:?}: {repairs:#?}");
        let report = check(dev.clone()).expect("examined");
        let codes: Vec<&str> = report.findings.iter().map(|f| f.code).collect();
        match mode {
            Mode::Preen => assert_eq!(codes, ["name-duplicate"; 6], "{report:#?}"),
            Mode::Yes => assert!(report.is_clean(), "{report:#?}\n{repairs:#?}"),
        }
        let found = [("x", "two"), ("y", "y"), ("z", "z"), ("sub/deep", "third")];
        for (path, content) in found {
            let path = format!("lost+found/dir-2/{path}");
            let want = Some(What::File(content.as_bytes().to_vec()));
            assert_eq!(in_c(&dev.image(), g, &path), want, "{mode:?}: {path}");
        }
        if mode == Mode::Yes {
            let others = [("x", "one"), ("y/deep", "third")];
            for (path, content) in others {
                let path = format!("lost+found/{path}");
                let want = Some(What::File(content.as_bytes().to_vec()));
                assert_eq!(in_c(&dev.image(), g, &path), want, "{path}");
            }
            // two of each of the two directories
            let lost = in_c(&dev.image(), g, "lost+found");
            let names = ["deep", "deep~1", "deep~2", "deep~3", "dir-2", "x", "y"];
            let Some(What::Dir(mut list)) = lost else { panic!("{lost:?}") };
            list.sort();
            assert_eq!(list, names);
            assert!(repair(dev, Mode::Yes).expect("opens").done.is_empty(), "once is enough");
        }
        same_in_the_end("rescued", g, &b.bytes, mode, "");
    }
}

/// Random logs: names are created, removed and created again in one pair.
#[test]
fn what_a_device_finds_after_any_log() {
    let (mut doubles, mut hidden) = (0, 0);
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let mut b = Builder::new();
        let g = b.geometry;
        let layout = b.layout();
        let mut w = Writer::compact(layout, 1);
        put_superblock(&mut w, superblock(g));
        let mut count = 1;
        for step in 0..3 + dice.below(4) {
            for _ in 0..1 + dice.below(3) {
                if count > 2 && dice.below(4) == 0 {
                    w.tag(tag::DELETE, 1 + dice.below(count - 1) as u16, &[]);
                    count -= 1;
                } else {
                    let name = [b"a", b"x", b"x", b"y"][dice.below(4) as usize];
                    let content = format!("{step} {count}");
                    create(&mut w, 1 + dice.below(count) as u16, name, content.as_bytes());
                    count += 1;
                }
            }
            let Ok(commit) = w.finish() else { break };
            let start = commit.start as usize;
            b.block_mut(0)[start..start + commit.bytes.len()].copy_from_slice(&commit.bytes);
            w = Writer::append(layout, commit.end(), commit.etag);
        }
        let dev = Arc::new(RamDevice::from_image(g, b.bytes.clone()));
        let mut fs = open(&dev);
        for name in ["a", "x", "y"] {
            let (c, ours) = (in_c(&b.bytes, g, name), in_ours(&mut fs, ROOT, name));
            hidden += u32::from(c.is_none() && ours.is_some());
            assert!(c.is_none() || c == ours, "seed {seed}: {name}: {c:?} {ours:?}");
        }
        doubles += u32::from(!fs.warnings().is_empty());
        // changed here, it is what C finds, unless the order of names hides it
        let shown: Vec<Option<What>> =
            ["a", "x", "y"].iter().map(|name| in_ours(&mut fs, ROOT, name)).collect();
        fs.create(ROOT, b"zz").expect("creates");
        fs.flush().expect("flushes");
        for (name, shown) in ["a", "x", "y"].iter().zip(shown) {
            assert_eq!(in_ours(&mut open(&dev), ROOT, name), shown, "seed {seed}: {name}");
            let c = in_c(&dev.image(), g, name);
            assert!(c.is_none() || c == shown, "seed {seed}: {name}: {c:?} {shown:?} for C");
        }
    }
    println!("{doubles} images with doubles; {hidden} names that C does not find");
    assert!(doubles > 1000, "only {doubles}");
}
