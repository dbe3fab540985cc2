//! What must not be lost on a damaged image, by one write or by a repair that is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::every_operation::walk;
use littlefs::bd::emu::{EmuDevice, Event};
use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::check::{Mode, Report, Severity, check, repair};
use littlefs::disk::{ListIndex, Pair, Superblock, ctz, tag};
use littlefs::error::Result;
use littlefs::fs::{Fs, OpenOptions, ROOT, root_superblock};
use littlefs::mdir::store;
use testkit::clfs::{CLfs, Config};
use testkit::mutate;

/// Of this many mutated images, one is cut off at every write.
const CUT_EVERY: u64 = 7;

fn config(g: Geometry) -> Config {
    let mut config = Config::new(g.block_size, g.block_count, 16);
    // what flash could not program, a file can
    config.strict_erase = false;
    config
}

/// The blocks that the C driver counts as used, if it can mount the image.
fn used_in_c(image: &[u8], g: Geometry) -> Option<BTreeSet<u32>> {
    if g.block_size < 128 {
        return None;
    }
    let mut c = CLfs::mount(image.to_vec(), &config(g)).ok()?;
    c.blocks().ok()
}

/// One write of each kind, as a program would do it: creating a file with content, and a directory.
fn write_once(fs: &mut Fs) -> Result<()> {
    fs.create(ROOT, b"~new")?;
    let file = fs.open_file(ROOT, b"~new")?;
    let written = fs.write(file, 0, &[7; 2000]);
    fs.close_file(file);
    written?;
    fs.flush()?;
    fs.mkdir(ROOT, b"~dir")?;
    fs.flush()
}

/// The blocks whose content has changed.
fn changed(before: &[u8], after: &[u8], g: Geometry) -> BTreeSet<u32> {
    let bs = g.block_size as usize;
    let blocks = before.chunks(bs).zip(after.chunks(bs)).enumerate();
    blocks.filter(|(_, (a, b))| a != b).map(|(i, _)| i as u32).collect()
}

/// Every block that any reading of the image names.
#[derive(Default)]
struct Named {
    /// Pairs that one of them has as its tail or names as a directory, in an entry of any type.
    pairs: BTreeSet<u32>,
    /// Blocks to which any pointer of any list leads.
    lists: BTreeSet<u32>,
    /// The pairs with a superblock, the last of which is the root's, and the pairs that continue
    /// them. A change in the root rewrites them in place.
    root: BTreeSet<u32>,
}

impl Named {
    fn by(dev: &RamDevice) -> Self {
        let mut named = Self::default();
        let mut todo = vec![(Pair::SUPERBLOCK, true)];
        while let Some((pair, is_root)) = todo.pop() {
            let Ok(f) = store::fetch(dev, pair) else { continue };
            let is_new = f.pair.0.iter().filter(|&&b| named.pairs.insert(b)).count() > 0;
            let is_root = is_root || Superblock::of(&f.log).is_some();
            if is_root {
                named.root.extend(f.pair.0);
            }
            if !is_new {
                continue;
            }
            todo.extend(f.log.tail.map(|t| (t.pair, is_root && t.hard)));
            for (ty, data) in f.log.entries.iter().filter_map(|e| e.data.as_ref()) {
                let Some(two) = Pair::from_bytes(data) else { continue };
                match *ty {
                    tag::DIRSTRUCT => todo.push((two, false)),
                    tag::CTZSTRUCT => named.list(dev, two.0[0], two.0[1]),
                    _ => {}
                }
            }
        }
        named
    }

    fn list(&mut self, dev: &RamDevice, head: u32, size: u32) {
        let g = dev.geometry();
        let count = ctz::blocks(g.block_size, size);
        if count == 0 || count > g.block_count {
            return;
        }
        let (mut met, mut todo) = (BTreeSet::new(), vec![(count - 1, head)]);
        while let Some((index, block)) = todo.pop() {
            if block >= g.block_count || !met.insert((index, block)) {
                continue;
            }
            self.lists.insert(block);
            let mut pointers = vec![0; 4 * ctz::pointers(ListIndex(index)) as usize];
            dev.read(block, 0, &mut pointers).expect("inside the image");
            todo.extend(pointers.chunks_exact(4).enumerate().map(|(skip, bytes)| {
                let block = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
                (index - (1 << skip), block)
            }));
        }
    }
}

/// A write that is accepted does not change any block that the C driver counts as used, or that any
/// reading of the image names, except the pairs of the root. And the filesystem can be found as
/// before.
fn a_write_keeps(name: &str, g: Geometry, bytes: &[u8]) -> bool {
    let dev = Arc::new(RamDevice::from_image(g, bytes.to_vec()));
    let sb = root_superblock(&*dev).ok();
    let Ok(mut fs) = Fs::open(dev.clone(), &OpenOptions::default()) else { return false };
    if fs.is_read_only() {
        return false;
    }
    // what an interrupted operation leaves behind may go before anything is written
    let _ = fs.finish_interrupted();
    let before = dev.image();
    let in_c = used_in_c(&before, g);
    let named = Named::by(&dev);
    let written = write_once(&mut fs);
    let after = dev.image();
    let used: BTreeSet<u32> = &(&named.pairs | &named.lists) | &in_c.clone().unwrap_or_default();
    let lost = &(&changed(&before, &after, g) & &used) - &named.root;
    assert!(lost.is_empty(), "{name}: {lost:?} were in use and are overwritten: {written:?}");
    if in_c.is_some() {
        assert!(used_in_c(&after, g).is_some(), "{name}: C does not mount it: {written:?}");
    }
    assert_eq!(root_superblock(&*dev).ok(), sb, "{name}: {written:?}");
    let has_superblock = [0, 1].iter().any(|&b| {
        let log = store::read_log(&*dev, b).ok().flatten();
        log.is_some_and(|log| Superblock::of(&log).is_some())
    });
    assert!(has_superblock, "{name}: blocks 0 and 1 hold no superblock: {written:?}");
    written.is_ok()
}

/// One write on every mutated image.
#[test]
fn one_write_loses_no_block() {
    let (mut failed, mut accepted) = (Vec::new(), 0);
    for (base, g, image) in mutate::bases() {
        for seed in 0..mutate::rounds() {
            let bytes = mutate::corrupt(&image, g, seed);
            let name = format!("{base}, seed {seed}");
            match catch_unwind(AssertUnwindSafe(|| a_write_keeps(&name, g, &bytes))) {
                Ok(done) => accepted += u32::from(done),
                Err(_) => failed.push(name),
            }
        }
    }
    println!("{accepted} writes accepted");
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(accepted > 500, "only {accepted} writes");
}

fn errors(report: &Report) -> BTreeSet<(&'static str, String)> {
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error);
    errors.map(|f| (f.code, f.place.clone())).collect()
}

/// The paths, and the checksums of files.
fn paths(dev: &Arc<RamDevice>) -> BTreeMap<Vec<u8>, Option<u32>> {
    let options = OpenOptions { read_only: true, quiet: true, ..OpenOptions::default() };
    let seen = walk(&mut Fs::open(dev.clone(), &options).expect("opens"));
    seen.into_iter().map(|(path, what)| (path, what.ok().flatten())).collect()
}

/// A repair that is killed at any write, and is run again.
fn two_attempts(name: &str, g: Geometry, bytes: &[u8], mode: Mode) -> usize {
    let emu = Arc::new(EmuDevice::new(g, bytes.to_vec()));
    let before = check(emu.clone()).map(|r| errors(&r)).unwrap_or_default();
    if repair(emu.clone(), mode).is_err() {
        return 0;
    }
    let whole = Arc::new(RamDevice::from_image(g, emu.image()));
    let (want, left) = (paths(&whole), errors(&check(whole).expect("examined")));
    let over_metadata = before.iter().any(|(code, _)| *code == "block-shared");
    let mut image = bytes.to_vec();
    let mut cuts = 0;
    for event in emu.take_log() {
        let Event::Write { start, data } = event else { continue };
        let dev = Arc::new(RamDevice::from_image(g, image.clone()));
        let again = repair(dev.clone(), mode).unwrap_or_else(|e| panic!("{name}, {cuts}: {e}"));
        let now = paths(&dev);
        let same = match over_metadata {
            // such a file reads what is written to the pair meanwhile
            true => now.keys().eq(want.keys()),
            false => now == want,
        };
        assert!(same, "{name}, {mode:?}, {cuts}: {now:?} {want:?} {again:#?}");
        assert_eq!(errors(&check(dev).expect("examined")), left, "{name}, {mode:?}, {cuts}");
        image[start..start + data.len()].copy_from_slice(&data);
        cuts += 1;
    }
    cuts
}

/// Repairs of mutated images, cut off at every write.
#[test]
fn repairs_in_two_attempts() {
    let (mut failed, mut cuts) = (Vec::new(), 0);
    for (base, g, image) in mutate::bases() {
        for seed in (0..mutate::rounds()).filter(|seed| seed % CUT_EVERY == 0) {
            let bytes = mutate::corrupt(&image, g, seed);
            for mode in [Mode::Preen, Mode::Yes] {
                let name = format!("{base}, seed {seed}");
                match catch_unwind(AssertUnwindSafe(|| two_attempts(&name, g, &bytes, mode))) {
                    Ok(n) => cuts += n,
                    Err(_) => failed.push(format!("{name}, {mode:?}")),
                }
            }
        }
    }
    println!("{cuts} cuts");
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(cuts > 500, "only {cuts} cuts");
}

/// The same for images in which a fuzzer has found repairs that differed.
#[test]
fn repairs_of_the_corpus_in_two_attempts() {
    let cuts: usize = super::corpus_images()
        .iter()
        .map(|(name, g, bytes)| two_attempts(name, *g, bytes, Mode::Yes))
        .sum();
    assert!(cuts > 100, "only {cuts} cuts");
}
