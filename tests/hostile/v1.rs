//! Images of version 1 with false information.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::every_operation::{bounded, walk};
use super::reports::see_dialect;
use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::check::{Severity, check as check_littlefs};
use littlefs::convert::{Failure, Job, convert};
use littlefs::disk::superblock::{VERSION_2_1, probe_version1};
use littlefs::error::Error;
use littlefs::fs::{Fs, OpenOptions, ROOT};
use littlefs::image::{self, Dialect};
use littlefs::recover::recover_from;
use littlefs::v1::{check, show, usage};
use testkit::mutate;
use testkit::random::Random;
use testkit::tree::{Entry, Tree};
use testkit::v1::{self, MOVED, V1};

fn bases() -> Vec<(String, Geometry, Vec<u8>)> {
    let mut tree = Tree::from([(Vec::new(), Entry::dir())]);
    for (i, dir) in ["a", "a/b", "a/b/c", "d"].into_iter().enumerate() {
        tree.insert(dir.into(), Entry::dir());
        for j in 0..3 + 2 * i {
            let bytes = vec![j as u8; [0, 9, 200, 3000][(i + j) % 4]];
            tree.insert(format!("{dir}/file-{j}").into(), Entry::file(bytes));
        }
    }
    let base = |&(block_size, block_count): &(u32, u32)| {
        let mut v1 = V1::of(block_size, block_count, &tree);
        v1.entry("a/file-1").kind |= MOVED;
        v1.directory();
        let geometry = Geometry::new(block_size, block_count).expect("possible");
        (format!("{block_size} x {block_count}"), geometry, v1.image())
    };
    [(104, 400), (128, 400), (512, 128), (4096, 64)].iter().map(base).collect()
}

#[test]
fn corrupted() {
    let mut failed = Vec::new();
    for (base, g, image) in bases() {
        for seed in 0..mutate::rounds() / 2 {
            let bytes = if seed == 0 { image.clone() } else { twist(&image, g, seed) };
            let name = format!("{base}, seed {seed}");
            if catch_unwind(AssertUnwindSafe(|| do_everything(&name, g, &bytes))).is_err() {
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Files that claim everything and share everything, in many directories.
#[test]
fn files_that_claim_the_same_blocks() {
    for size in [60_000, 0x7fff_ffff, u32::MAX] {
        let mut v1 = V1::new(512, 256);
        let list = v1.list(&[7; 20_000]);
        for i in 0..12_u32 {
            let words = v1.directory();
            let (kind, name) = (v1::DIRECTORY, format!("d{i}").into_bytes());
            v1.append(0, v1::Entry { kind, name, words, attrs: Vec::new() });
            let at = v1.thread.len() - 1;
            for j in 0..12 {
                let (kind, name) = (v1::FILE, format!("f{j}").into_bytes());
                let words = [list[0] - (12 * i + j) % 30, size];
                v1.append(at, v1::Entry { kind, name, words, attrs: Vec::new() });
            }
        }
        do_everything("sharing", Geometry::new(512, 256).expect("possible"), &v1.image());
    }
}

/// A few changes, most of them in metadata with a corrected CRC.
fn twist(image: &[u8], g: Geometry, seed: u64) -> Vec<u8> {
    let mut r = Random(seed);
    let mut bytes = image.to_vec();
    let bs = g.block_size as usize;
    let is_metadata = |block: &&mut [u8]| {
        let size = u32::from_le_bytes(block[4..8].try_into().expect("four bytes")) & 0x7fff_ffff;
        (20..=bs).contains(&(size as usize)) && v1::crc(&block[..size as usize]) == 0
    };
    if r.below(8) == 0 {
        return mutate::corrupt(image, g, seed);
    }
    for _ in 0..1 + r.below(3) {
        let mut blocks: Vec<&mut [u8]> = bytes.chunks_mut(bs).filter(is_metadata).collect();
        let count = blocks.len();
        if count == 0 {
            break;
        }
        let block = &mut blocks[r.below(count)];
        let used = u32::from_le_bytes(block[4..8].try_into().expect("four bytes")) as u16;
        let at = r.below(usize::from(used).clamp(20, bs) - 4);
        let word = [0, 1, 2, 0x21, 0x7fff_ffff, u32::MAX, r.below(64) as u32][r.below(7)];
        match r.below(4) {
            0 => block[at] ^= 1 << r.below(8),
            1 => block[at] = r.word() as u8,
            _ => block[at..at + 4].copy_from_slice(&word.to_le_bytes()),
        }
        v1::mend(block);
    }
    bytes
}

/// Use everything that can read such an image.
fn do_everything(name: &str, g: Geometry, bytes: &[u8]) {
    let halves = [0, g.block_size as usize].map(|at| bytes.get(at..).and_then(probe_version1));
    let Some((sb, _)) = halves.into_iter().flatten().next() else { return };
    if (sb.block_size, sb.block_count) != (g.block_size, g.block_count) {
        return;
    }
    let dev: Arc<dyn BlockDevice> = Arc::new(RamDevice::from_image(g, bytes.to_vec()));
    let report = bounded(name, "check", || check(&*dev, &|_| ()));
    let used = bounded(name, "usage", || usage(&*dev));
    see_dialect(dev.clone(), Dialect::V1, sb, &|what, ask| {
        bounded(name, &format!("inspect {what}"), ask);
    });
    bounded(name, "recover", || {
        let recovery = recover_from(&*dev, Dialect::V1, &|_| ()).expect("readable");
        for file in &recovery.files {
            file.read(&*dev, &mut |_, _| Ok(())).expect("readable");
        }
    });
    let view = bounded(name, "view", || show(dev.clone(), sb));
    assert_eq!(report.is_ok(), view.is_ok(), "{name}: {:?} {:?}", report.err(), view.err());
    let Ok((view, _)) = view else { return };
    assert!(used.expect("as above") <= g.block_count, "{name}");
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
    let options = image::Options { exclusive: true, ..Default::default() };
    let Ok(source) = bounded(name, "open", || image::open(&path, &options)) else { return };
    let converted = |salvage| {
        let (out, overwrite) = (None, false);
        let (disk_version, block_size, block_count) = (VERSION_2_1, None, None);
        let job =
            Job { source: &source, out, overwrite, salvage, disk_version, block_size, block_count };
        match bounded(name, "convert", || convert(&job, &|_| ())) {
            Ok(_) => true,
            Err(e @ Failure::Differs(_)) => panic!("{name}: {e}"),
            Err(e) => {
                assert!(fs::read(&path).expect("readable") == bytes, "{name}: changed, {e}");
                // what can be left out is left out
                let full = matches!(e, Failure::NoSpace { .. } | Failure::NameTooLong { .. });
                assert!(!salvage || full, "{name}: {e}");
                false
            }
        }
    };
    if source.doubt.is_none() && (converted(false) || converted(true)) {
        let dev = Arc::new(RamDevice::from_image(g, fs::read(&path).expect("readable")));
        let report = check_littlefs(dev).expect("can be examined");
        assert!(report.is_clean(), "{name}: {:#?}", report.findings);
    }
}
