//! Images in the dialect of chamelon with false information.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::every_operation::{bounded, walk};
use super::reports::see_dialect;
use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::chamelon::{check, recognise, show};
use littlefs::check::{Severity, check as check_littlefs};
use littlefs::convert::{Failure, Job, convert};
use littlefs::disk::superblock::{self, VERSION_2_0};
use littlefs::error::Error;
use littlefs::fs::{Fs, OpenOptions, ROOT};
use littlefs::image::{self, Dialect};
use testkit::chamelon::{Chamelon, written};
use testkit::mutate;
use testkit::random::Random;

fn bases() -> Vec<(&'static str, Vec<u8>)> {
    let mut small = Chamelon::format(512, 128, 16);
    for i in 0..40 {
        small.set(&format!("many/{i}"), &vec![i; usize::from(i)]);
    }
    for (i, dir) in ["a", "a/b", "a/b/c"].into_iter().enumerate() {
        small.set(&format!("{dir}/large"), &vec![i as u8; 2500 * i + 300]);
        small.set(&format!("{dir}/gone"), b"1");
        small.remove(&format!("{dir}/gone"));
    }
    let mut flat = Chamelon::format(4096, 16, 16);
    for i in 0..12 {
        flat.set(&format!("key{i}"), &vec![i; 300 * usize::from(i % 5)]);
    }
    vec![("written", written()), ("small", small.image), ("flat", flat.image)]
}

#[test]
fn corrupted() {
    let mut failed = Vec::new();
    for (base, image) in bases() {
        let sb = superblock::probe(&image).expect("a superblock").0;
        let g = Geometry::new(sb.block_size, sb.block_count).expect("possible");
        for seed in 0..mutate::rounds() / 3 {
            let bytes = match seed {
                0 => image.clone(),
                _ if seed % 3 == 0 => twist(&image, g, seed),
                _ => mutate::corrupt(&image, g, seed),
            };
            let name = format!("{base}, seed {seed}");
            let run = || do_everything(&name, g, &bytes);
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Values that claim everything or share everything, and very many values.
#[test]
fn values_that_claim_the_same_blocks() {
    for size in [60_000, 0x7fff_fff0] {
        let mut c = Chamelon::format(512, 128, 16);
        c.set("honest", &[7; 20_000]);
        let dirs: Vec<String> = (0..12).map(|i| format!("d{i}")).collect();
        for (i, dir) in dirs.iter().enumerate() {
            for j in 0..12 {
                c.point(dir, &format!("v{j}"), 2 + (i as u32 * 12 + j) % 40, size);
            }
        }
        let g = Geometry::new(512, 128).expect("possible");
        do_everything("sharing", g, &c.image);
    }
}

/// Make the same change in both blocks of a pair, as chamelon writes them, with correct checksums.
fn twist(image: &[u8], g: Geometry, seed: u64) -> Vec<u8> {
    let mut r = Random(seed);
    let mut bytes = image.to_vec();
    let bs = g.block_size as usize;
    let block = |i: usize| i * bs..(i + 1) * bs;
    let pairs: Vec<usize> = (0..bytes.len() / bs - 1)
        .filter(|&i| image[block(i)] == image[block(i + 1)] && image[i * bs] != 0)
        .collect();
    let Some(&first) = pairs.get(r.below(pairs.len())) else { return bytes };
    for _ in 0..1 + r.below(4) {
        let at = first * bs + 4 + r.below(bs / 2);
        // words are pointers, sizes and tags
        let word = [0, 1, 2, 0x21, 0x7fff_ffff, u32::MAX, r.word() as u32][r.below(7)];
        match r.below(3) {
            0 => bytes[at] ^= 1 << r.below(8),
            1 => bytes[at] = r.word() as u8,
            _ => bytes[at..at + 4].copy_from_slice(&word.to_le_bytes()),
        }
    }
    mutate::mend(&mut bytes[block(first)]);
    bytes.copy_within(block(first), (first + 1) * bs);
    bytes
}

/// Use everything that can read such an image.
fn do_everything(name: &str, g: Geometry, bytes: &[u8]) {
    let Some((sb, _)) = superblock::probe(bytes) else { return };
    if (sb.block_size, sb.block_count) != (g.block_size, g.block_count) || !sb.is_supported() {
        return;
    }
    let dev: Arc<dyn BlockDevice> = Arc::new(RamDevice::from_image(g, bytes.to_vec()));
    bounded(name, "recognise", || recognise(&*dev, &sb));
    let report = bounded(name, "check", || check(&*dev, &|_| ()));
    see_dialect(dev.clone(), Dialect::Chamelon, sb, &|what, ask| {
        bounded(name, &format!("inspect {what}"), ask);
    });
    let view = bounded(name, "view", || show(dev.clone(), sb));
    assert_eq!(report.is_ok(), view.is_ok(), "{name}: {:?} {:?}", report.err(), view.err());
    let Ok((view, _)) = view else { return };
    let unreadable = bounded(name, "read", || {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let mut fs = Fs::open(Arc::new(view), &options).expect("a view is a littlefs");
        let seen = walk(&mut fs);
        let _ = (fs.usage(), fs.counts());
        assert!(matches!(fs.create(ROOT, b"~"), Err(Error::ReadOnly)));
        seen.into_iter().filter(|(_, what)| what.is_err()).map(|(path, _)| path).collect::<Vec<_>>()
    });
    let report = report.expect("as above");
    let errors: BTreeSet<&str> =
        report.findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.code).collect();
    assert!(unreadable.is_empty() || !errors.is_empty(), "{name}: {unreadable:?}");

    // in memory: syncing is not what is looked at here
    let dir = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
    let path = dir.path().join("image");
    fs::write(&path, bytes).expect("written");
    let options =
        image::Options { dialect: Some(Dialect::Chamelon), exclusive: true, ..Default::default() };
    let Ok(source) = bounded(name, "open", || image::open(&path, &options)) else { return };
    let converted = |salvage| {
        let job = Job {
            source: &source,
            out: None,
            overwrite: false,
            salvage,
            disk_version: VERSION_2_0,
            block_size: None,
            block_count: None,
        };
        match bounded(name, "convert", || convert(&job, &|_| ())) {
            Ok(_) => true,
            Err(e @ Failure::Differs(_)) => panic!("{name}: {e}"),
            Err(e) => {
                assert!(fs::read(&path).expect("readable") == bytes, "{name}: changed, {e}");
                // what can be left out is left out
                assert!(!salvage || matches!(e, Failure::NoSpace { .. }), "{name}: {e}");
                false
            }
        }
    };
    if converted(false) || converted(true) {
        let dev = Arc::new(RamDevice::from_image(g, fs::read(&path).expect("readable")));
        let report = check_littlefs(dev).expect("can be examined");
        assert!(report.is_clean(), "{name}: {:#?}", report.findings);
    }
}
