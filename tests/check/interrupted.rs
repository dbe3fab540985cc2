//! A repair that is cut off at any write and run again has the same result as one that was not cut
//! off.

use std::collections::BTreeMap;
use std::sync::Arc;

use littlefs::bd::emu::EmuDevice;
use littlefs::bd::emu::crash::Crashes;
use littlefs::bd::{Geometry, RamDevice};
use littlefs::check::{Mode, Report, Severity, check, repair};
use littlefs::disk::Tail;
use littlefs::fs::{Fs, Node, OpenOptions, ROOT};
use littlefs::image::{Located, locate};

use super::damages;
use testkit::builder::{Builder, hard, put_dir, put_inline, put_superblock, soft, superblock};

/// Every path, with the content of files.
type Paths = BTreeMap<String, Option<Vec<u8>>>;

fn paths_in(dev: &Arc<RamDevice>) -> Paths {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut fs = Fs::open(dev.clone(), &options).expect("opens");
    let mut paths = Paths::new();
    let mut todo = vec![(ROOT, String::new())];
    while let Some((dir, path)) = todo.pop() {
        let names = match fs.list(dir) {
            Ok(names) => names,
            Err(e) => {
                paths.insert(path, Some(e.to_string().into_bytes()));
                continue;
            }
        };
        for name in names {
            let child = format!("{path}/{}", name.escape_ascii());
            match fs.lookup(dir, &name) {
                Ok(Node::Dir(d)) => {
                    paths.insert(child.clone(), None);
                    todo.push((d, child));
                }
                Ok(Node::File { size }) => {
                    let file = fs.open_file(dir, &name).ok();
                    let bytes = file
                        .and_then(|f| fs.read(f, 0, size as usize).ok())
                        .and_then(|plan| plan.run().ok());
                    file.into_iter().for_each(|f| fs.close_file(f));
                    paths.insert(child, Some(bytes.unwrap_or_default()));
                }
                Err(e) => _ = paths.insert(child, Some(e.to_string().into_bytes())),
            }
        }
    }
    paths
}

fn errors(report: &Report) -> Vec<(&'static str, String)> {
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error);
    errors.map(|f| (f.code, f.place.clone())).collect()
}

/// Whether the image as a file is opened for writing.
fn is_recognised(image: &[u8]) -> bool {
    match locate(&image, 0, u64::MAX) {
        Ok(Located::Superblock(found)) => found.at == 0 && found.doubt.is_none(),
        _ => false,
    }
}

/// Repair `image`, cut the repair off at every write, and repair what is left. Returns how many
/// images there were. For files below a path that contains `torn`, only the names are compared.
pub fn same_in_the_end(name: &str, g: Geometry, image: &[u8], mode: Mode, torn: &str) -> usize {
    let emu = Arc::new(EmuDevice::new(g, image.to_vec()));
    repair(emu.clone(), mode).expect("opens");
    let log = emu.take_log();
    let whole = Arc::new(RamDevice::from_image(g, emu.image()));
    let (want, left) = (paths_in(&whole), check(whole).expect("examined"));
    let was_recognised = is_recognised(image);
    let mut images = 0;
    for crash in Crashes::new(image.to_vec(), &log, 40, 1) {
        let at = format!("{name}, {mode:?}, {}", crash.cut);
        // else the second attempt would not find the filesystem, or not write to it
        assert!(!was_recognised || is_recognised(&crash.image), "{at}: not recognised");
        let dev = Arc::new(RamDevice::from_image(g, crash.image));
        let again = repair(dev.clone(), mode).unwrap_or_else(|e| panic!("{at}: {e}"));
        let report = check(dev.clone()).expect("examined");
        assert_eq!(errors(&report), errors(&left), "{at}: {again:#?}");
        let now = paths_in(&dev);
        let names = |paths: &Paths| paths.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(&want), "{at}: {again:#?}");
        for (path, bytes) in &want {
            let same = now.get(path) == Some(bytes);
            assert!(same || (!torn.is_empty() && path.contains(torn)), "{at}: {path}: {again:#?}");
        }
        images += 1;
    }
    images
}

/// Every write in the repair of every kind of damage.
#[test]
fn every_kind_of_damage_is_repaired_in_two_attempts_as_in_one() {
    let (mut images, mut doubtful) = (0, Vec::new());
    for d in damages::all() {
        if !is_recognised(&d.image.bytes) {
            doubtful.push(d.name);
        }
        // what it reads is what the repair writes there: nothing says what it was before
        let torn = if d.name == "shared with a pair" { "evil" } else { "" };
        for mode in [Mode::Preen, Mode::Yes] {
            let g = d.image.geometry;
            images += same_in_the_end(d.name, g, &d.image.bytes, mode, torn);
        }
    }
    println!("{images} images");
    assert!(images > 400, "only {images} crash images");
    assert!(doubtful.len() <= 2, "not opened for writing at all: {doubtful:?}");
}

/// A small generator of numbers.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % u64::from(n)) as u32
    }
}

/// An image with directories that have lost their names. They have one pair or several, and
/// directories with names below them. `lost+found` may exist and may contain their new names
/// already. The root has one pair or two.
fn nameless(seed: u64) -> Builder {
    let mut dice = Dice(seed);
    let mut b = Builder::new();
    let sb = superblock(b.geometry);
    // (pair, whether a hardtail leads there, what is below it)
    let mut thread: Vec<(u32, bool, Option<u32>)> = Vec::new();
    let mut next = 4;
    let mut pair = || {
        next += 2;
        next - 2
    };
    let root_two = dice.below(3) > 0;
    let second_root = pair();
    let lost = (dice.below(2) == 0).then(&mut pair);
    for _ in 0..1 + dice.below(3) {
        let head = pair();
        let below = (dice.below(2) == 0).then(&mut pair);
        thread.push((head, false, below));
        for _ in 0..dice.below(3) {
            thread.push((pair(), true, None));
        }
        thread.extend(below.map(|p| (p, false, None)));
        if dice.below(4) == 0 {
            // one without entries
            thread.push((pair(), false, Some(u32::MAX)));
        }
    }
    thread.splice(0..0, lost.map(|p| (p, false, None)));
    let first = thread.first().map_or(Tail::END, |&(p, ..)| soft([p, p + 1]));
    let clash = dice.below(3) == 0;
    let name_of_first =
        format!("dir-{:x}", thread.iter().find(|t| Some(t.0) != lost).map_or(0, |t| t.0));
    b.pair([0, 1], |w| {
        put_superblock(w, sb);
        put_inline(w, 1, b"good", b"good");
        match lost {
            Some(p) => put_dir(w, 2, b"lost+found", [p, p + 1]),
            None if clash => put_inline(w, 2, b"lost+found", b"a file"),
            None => {}
        }
        w.tail(if root_two { hard([second_root, second_root + 1]) } else { first });
    });
    if root_two {
        b.pair([second_root, second_root + 1], |w| {
            put_inline(w, 0, b"z", b"z");
            w.tail(first);
        });
    }
    for (k, &(p, _, below)) in thread.iter().enumerate() {
        let tail = match thread.get(k + 1) {
            Some(&(q, true, _)) => hard([q, q + 1]),
            Some(&(q, false, _)) => soft([q, q + 1]),
            None => Tail::END,
        };
        b.pair([p, p + 1], |w| {
            let content = format!("of {p}");
            if below == Some(u32::MAX) {
                // nothing
            } else if Some(p) == lost {
                if clash {
                    put_inline(w, 0, name_of_first.as_bytes(), content.as_bytes());
                }
            } else {
                put_inline(w, 0, format!("f{p:03}").as_bytes(), content.as_bytes());
                if let Some(q) = below {
                    put_dir(w, 1, b"sub", [q, q + 1]);
                }
            }
            w.tail(tail);
        });
    }
    b
}

/// Directories that wait for a name are never taken for removed ones, wherever a repair is cut off.
#[test]
fn directories_without_a_name_survive_two_attempts() {
    let mut images = 0;
    for seed in 0..120 {
        let b = nameless(seed);
        let dev = Arc::new(RamDevice::from_image(b.geometry, b.bytes.clone()));
        let found = check(dev).expect("examined").findings;
        assert!(found.iter().any(|f| f.code == "orphan"), "seed {seed}: {found:#?}");
        for mode in [Mode::Preen, Mode::Yes] {
            images += same_in_the_end(&format!("seed {seed}"), b.geometry, &b.bytes, mode, "");
        }
    }
    println!("{images} images");
    assert!(images > 1000, "only {images} crash images");
}

/// The same if an ordinary change is cut off instead of a repair: a new directory sets the sync bit
/// if its parent has several pairs.
#[test]
fn directories_without_a_name_survive_other_changes() {
    let mut images = 0;
    for seed in 0..120 {
        let b = nameless(seed);
        let g = b.geometry;
        let mended = Arc::new(RamDevice::from_image(g, b.bytes.clone()));
        repair(mended.clone(), Mode::Preen).expect("opens");
        let want = paths_in(&mended);
        let emu = Arc::new(EmuDevice::new(g, b.bytes.clone()));
        let mut fs = Fs::open(emu.clone(), &OpenOptions::default()).expect("opens");
        for name in [&b"b"[..], b"zz"] {
            let dir = fs.mkdir(ROOT, name).expect("makes");
            fs.create(dir, b"new").expect("creates");
            fs.flush().expect("flushes");
        }
        fs.rmdir(ROOT, b"zz").expect_err("it is not empty");
        let dir = fs.lookup(ROOT, b"zz").expect("is there");
        let Node::Dir(dir) = dir else { panic!("a directory") };
        fs.unlink(dir, b"new").expect("removes");
        fs.rmdir(ROOT, b"zz").expect("removes");
        fs.flush().expect("flushes");
        drop(fs);
        let log = emu.take_log();
        for crash in Crashes::new(b.bytes.clone(), &log, 40, 1) {
            let at = format!("seed {seed}, {}", crash.cut);
            let dev = Arc::new(RamDevice::from_image(g, crash.image));
            let repairs = repair(dev.clone(), Mode::Preen).expect("opens");
            assert!(check(dev.clone()).expect("examined").is_clean(), "{at}: {repairs:#?}");
            let now = paths_in(&dev);
            for (path, bytes) in &want {
                assert!(now.get(path) == Some(bytes), "{at}: {path} in {now:?}: {repairs:#?}");
            }
            images += 1;
        }
    }
    println!("{images} images");
    assert!(images > 1000, "only {images} crash images");
}
