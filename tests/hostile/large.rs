//! Larger images: neither time nor memory may grow with the square of what is in them, for example
//! of the depth of their directories.

use std::io;
use std::sync::Arc;

use littlefs::OpenOptions;
use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::check::check;
use littlefs::disk::Tail;
use littlefs::error::Error;
use littlefs::inspect::{Inspector, Report};
use littlefs::map::{self, Labels, Map, verify};
use littlefs::recover::{Grade, Manifest, Saved, recover};
use serde::Serialize;

use super::every_operation::bounded;
use testkit::builder::{Builder, put_ctz, put_dir, put_inline, soft};

/// How deep the directories are nested.
const DEPTH: u32 = 8_000;
const BLOCK: u32 = 128;

/// An image with that many directories, each of which holds the next one, and perhaps a file.
fn nested(with_files: bool) -> Arc<RamDevice> {
    let mut image = Builder::with_geometry(BLOCK, 2 * DEPTH + 64);
    let pair = |depth: u32| [2 * depth, 2 * depth + 1];
    image.root(soft(pair(1)), |w| put_dir(w, 1, b"abc", pair(1)));
    for depth in 1..DEPTH {
        image.pair(pair(depth), |w| {
            put_dir(w, 0, b"abc", pair(depth + 1));
            if with_files {
                put_inline(w, 1, b"file", b"content");
            }
            w.tail(soft(pair(depth + 1)));
        });
    }
    image.pair(pair(DEPTH), |w| w.tail(Tail::END));
    Arc::new(RamDevice::from_image(image.geometry, image.bytes))
}

/// The text of a report and its JSON, neither of which is kept.
fn show<R: Report + Serialize>(report: &R) -> usize {
    let text = report.to_string().len();
    serde_json::to_writer(io::sink(), report).expect("JSON");
    text
}

#[test]
fn reports_of_deep_directories_are_small() {
    let dev = nested(false);
    let inspector = Inspector::new(dev.clone());
    let tree = bounded("deep", "tree", || inspector.tree());
    assert_eq!(tree.entries.len(), DEPTH as usize + 1);
    assert_eq!(tree.entries[2].path, "/abc/abc");
    let last = tree.entries.last().expect("entries");
    assert!(last.path.starts_with(".../abc/abc/") && last.path.len() < 500, "{}", last.path);
    bounded("deep", "tree as text", || assert!(show(&tree) > DEPTH as usize));
    drop(tree);
    let path = "/abc".repeat(DEPTH as usize);
    let dirs = bounded("deep", "dir", || inspector.dir(path.as_bytes()).expect("the last one"));
    assert_eq!(dirs[0].pairs[0].pair, [2 * DEPTH, 2 * DEPTH + 1]);
    assert!(inspector.dir(format!("{path}/abc").as_bytes()).is_err());

    let map = || Map::new(&*dev, u32::MAX).expect("not too many blocks");
    let mut one = bounded("deep", "map", map);
    let two = map();
    bounded("deep", "comparing", || one.compare(&*dev, &two, &*dev).expect("the same size"));
    assert_eq!(one.summary().changed, Some(0));
    bounded("deep", "map as JSON", || {
        serde_json::to_writer(io::sink(), &one.runs()).expect("JSON");
    });
    let labels = Labels { label: "A", title: "image".to_owned(), command: String::new() };
    bounded("deep", "page", || map::html(&[(&one, labels)]).expect("a page"));
    bounded("deep", "verify", || {
        let blank = RamDevice::from_image(one.geometry, vec![0xff; one.geometry.size() as usize]);
        let verdict = verify(&*dev, &blank).expect("it is sound");
        assert!(verdict.differences.len() > DEPTH as usize);
        serde_json::to_writer(io::sink(), &verdict.differences).expect("JSON");
    });
    bounded("deep", "check", || assert!(check(dev.clone()).expect("readable").is_clean()));
}

#[test]
fn deep_directories_are_walked() {
    let fs = OpenOptions::new().read_only(true).open_device(nested(true)).expect("an image");
    // no path is longer than Linux allows
    let (mut entries, mut refused) = (0, 0);
    bounded("deep", "walk", || {
        for entry in fs.walk("/").expect("the root") {
            match entry {
                Ok(entry) => {
                    assert!(fs.exists(entry.path()).expect("readable"));
                    entries += 1;
                }
                Err(e) => {
                    assert!(matches!(e.error, Error::PathTooLong), "{e}");
                    refused += 1;
                }
            }
        }
    });
    assert_eq!((entries, refused), (2 * 1024 - 1, 2));
}

/// Every file and directory of an image without its root is a result.
#[test]
fn deep_directories_are_recovered() {
    let intact = nested(true);
    let mut image = intact.image();
    image[..2 * BLOCK as usize].fill(0xff);
    let dev = RamDevice::from_image(intact.geometry(), image);
    let recovery = bounded("deep", "recover", || recover(&dev, &|_| ()).expect("readable"));
    assert_eq!(recovery.files.len(), DEPTH as usize - 1);
    assert!(recovery.files.iter().all(|file| file.grade == Grade::Checked));
    let longest = recovery.files.iter().filter_map(|file| Some(file.path.as_ref()?.len())).max();
    assert!(longest.is_some_and(|len| len < 500), "{longest:?}");
    bounded("deep", "manifest", || {
        let saved = vec![Saved::Nothing; recovery.files.len()];
        let manifest = Manifest::new(&recovery, &saved, &|time| time.to_string());
        serde_json::to_writer(io::sink(), &manifest).expect("JSON");
        assert!(!manifest.to_string().is_empty());
    });
}

/// Entries of a lost filesystem which all have the same list.
#[test]
fn a_long_list_of_very_many_files() {
    const PAIRS: u32 = 150;
    const FILES: u32 = 16;
    const BLOCKS: u32 = 6000;
    let first = 2 * PAIRS + 2;
    let mut image = Builder::with_geometry(512, first + BLOCKS);
    let blocks: Vec<u32> = (first..first + BLOCKS).collect();
    image.list(&blocks);
    let size = image.size_of(BLOCKS);
    for at in 1..=PAIRS {
        image.pair([2 * at, 2 * at + 1], |w| {
            for id in 0..FILES {
                put_ctz(w, id as u16, format!("{at}-{id}").as_bytes(), first + BLOCKS - 1, size);
            }
            w.tail(if at < PAIRS { soft([2 * at + 2, 2 * at + 3]) } else { Tail::END });
        });
    }
    let dev = RamDevice::from_image(image.geometry, image.bytes);
    let recovery = bounded("shared", "recover", || recover(&dev, &|_| ()).expect("readable"));
    assert_eq!(recovery.files.len(), (PAIRS * FILES) as usize);
    assert!(recovery.files.iter().all(|file| file.size == u64::from(size)));
}

/// What was never written reads as zeros in a file with holes.
#[test]
fn nothing_is_recovered_from_zeros() {
    let geometry = Geometry::new(512, 1 << 18).expect("possible");
    let dev = RamDevice::from_image(geometry, vec![0; geometry.size() as usize]);
    let recovery = bounded("zeros", "recover", || recover(&dev, &|_| ()).expect("readable"));
    assert!(recovery.files.is_empty());
}
