//! Pointers that lead nowhere, and chains without an end: there is an error for what they damage,
//! and everything else works.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::check::check;
use littlefs::disk::{GState, Pair, Tail, tag};
use littlefs::error::{Error, Result};
use littlefs::fs::{At, Fs, Node, OpenOptions, ROOT};

use testkit::clfs::Config;
use testkit::surgery::Surgeon;

use super::fixture::*;

const NOWHERE: u32 = 0xcccc_cccc;

/// Pairs of which one block or both do not exist.
const BAD_PAIRS: [Pair; 3] = [Pair([NOWHERE, NOWHERE]), Pair([NOWHERE, 0]), Pair([0, NOWHERE])];

/// A good file, a directory with a file in it, and a file that will be damaged.
fn victim(file_size: u32) -> (Config, Surgeon) {
    let config = Config::new(512, 64, 16);
    let mut fixture = Fixture::new(config.clone());
    fixture.fill("good", 700, 1);
    fixture.mkdir("dir_here");
    fixture.fill("dir_here/file_here", 20, 2);
    fixture.fill("file_here", file_size, 3);
    fixture.power_cycle();
    let surgeon = Surgeon::new(&config, fixture.ours.image());
    (config, surgeon)
}

/// Open the image and look at everything. Nothing panics, and `good` can be read.
fn open(config: &Config, image: &[u8]) -> Result<Fs> {
    let dev = Arc::new(RamDevice::from_image(geometry(config), image.to_vec()));
    let report = check(dev.clone());
    assert!(report.is_err() || !report.is_ok_and(|r| r.is_clean()), "check finds nothing");
    let mut fs = Fs::open(dev, &OpenOptions::default())?;
    assert_eq!(read(&mut fs, b"good").expect("good reads").len(), 700);
    let _ = fs.counts();
    let _ = fs.usage();
    Ok(fs)
}

fn read(fs: &mut Fs, name: &[u8]) -> Result<Vec<u8>> {
    let file = fs.open_file(ROOT, name)?;
    let bytes = fs.read(file, 0, usize::MAX).and_then(|plan| plan.run());
    fs.close_file(file);
    bytes
}

#[test]
fn tail_leads_nowhere() {
    for pair in BAD_PAIRS {
        for hard in [false, true] {
            let (config, mut surgeon) = victim(10);
            surgeon.commit(Pair::SUPERBLOCK, |w| w.tail(Tail { pair, hard }));
            let mut fs = open(&config, &surgeon.image).expect("the root is good");
            assert!(fs.is_read_only());
            assert!(matches!(fs.create(ROOT, b"new"), Err(Error::ReadOnly)));
        }
    }
}

#[test]
fn directory_leads_nowhere() {
    for pair in [BAD_PAIRS[0], BAD_PAIRS[1], BAD_PAIRS[2], Pair([60, 61])] {
        let (config, mut surgeon) = victim(10);
        let (at, id, _) = surgeon.find("dir_here");
        surgeon.commit(at, |w| w.tag(tag::DIRSTRUCT, id, &pair.to_bytes()));
        let mut fs = open(&config, &surgeon.image).expect("the root is good");
        assert!(fs.is_read_only());
        // it is a directory all the same, which cannot be read
        let Ok(Node::Dir(dir)) = fs.lookup(ROOT, b"dir_here") else { panic!("no directory") };
        let listed = fs.list(dir);
        assert!(matches!(listed, Err(Error::Corrupt(_))), "{listed:?}");
        let inside = fs.lookup(dir, b"x");
        assert!(matches!(inside, Err(Error::Corrupt(_))), "{inside:?}");
        assert!(fs.list_attrs(At::Dir(dir)).expect("its entry can be read").is_empty());
        let names = fs.list(ROOT).expect("list");
        assert!(names.iter().any(|name| **name == *b"file_here"));
    }
}

#[test]
fn file_leads_nowhere() {
    for size in [10, 1000, 100_000, 0x7fff_ffff, 0xffff_ffff] {
        for head in [NOWHERE, 64] {
            let (config, mut surgeon) = victim(10);
            let (at, id, _) = surgeon.find("file_here");
            surgeon.commit(at, |w| w.tag(tag::CTZSTRUCT, id, &Pair([head, size]).to_bytes()));
            let mut fs = open(&config, &surgeon.image).expect("the root is good");
            assert!(matches!(fs.lookup(ROOT, b"file_here"), Ok(Node::File { .. })));
            let bytes = read(&mut fs, b"file_here");
            assert!(matches!(bytes, Err(Error::Corrupt(_))), "{size}, {head:#x}: {bytes:?}");
            goes_on_or_refuses(fs);
        }
    }
}

/// If an image is damaged, a write is refused or does no harm, and never panics.
fn goes_on_or_refuses(mut fs: Fs) {
    let created = fs.create(ROOT, b"new").and_then(|()| fs.flush());
    assert!(created.is_ok() || fs.is_read_only() || fs.usage().is_err(), "{created:?}");
    assert_eq!(read(&mut fs, b"good").expect("good reads").len(), 700);
}

#[test]
fn pointer_in_a_file_leads_nowhere() {
    for blocks in [2, 3, 4] {
        for bad in [NOWHERE, 64] {
            let (config, mut surgeon) = victim(blocks * 512);
            let data = surgeon.find("file_here").2.data.expect("a struct").1;
            let head = littlefs::disk::read_u32_le(&data, 0).expect("a head");
            surgeon.block(head)[..4].copy_from_slice(&bad.to_le_bytes());
            surgeon.block(head)[4..8].copy_from_slice(&bad.to_le_bytes());
            let mut fs = open(&config, &surgeon.image).expect("the root is good");
            let bytes = read(&mut fs, b"file_here");
            assert!(matches!(bytes, Err(Error::Corrupt(_))), "{bytes:?}");
            goes_on_or_refuses(fs);
        }
    }
}

#[test]
fn pending_move_names_nothing() {
    for pair in BAD_PAIRS {
        for id in [1, 500] {
            let (config, mut surgeon) = victim(10);
            let state = GState::default().with_move(Some((pair, id)));
            surgeon.commit(Pair::SUPERBLOCK, |w| w.gdelta(state));
            let dev = RamDevice::from_image(geometry(&config), surgeon.image.clone());
            let report = check(Arc::new(dev)).expect("check");
            // One block of the pair may lead to the superblock pair, of which it then is an entry.
            assert!(!report.findings.is_empty());
            let options = OpenOptions::default();
            let dev = RamDevice::from_image(geometry(&config), surgeon.image);
            let mut fs = Fs::open(Arc::new(dev), &options).expect("the root is good");
            assert!(!fs.warnings().is_empty());
            let _ = fs.create(ROOT, b"new").and_then(|()| fs.flush());
            let _ = fs.list(ROOT).expect("list");
        }
    }
}

#[test]
fn chains_in_a_loop() {
    for hard in [false, true] {
        // The root leads to itself; a child to the root; a child to itself.
        for (from, to) in [("", ""), ("dir_here", ""), ("dir_here", "dir_here")] {
            let (config, mut surgeon) = victim(10);
            let (from, pair) = (surgeon.dir(from), surgeon.dir(to));
            surgeon.commit(from, |w| w.tail(Tail { pair, hard }));
            let mut fs = match open(&config, &surgeon.image) {
                Ok(fs) => fs,
                Err(Error::Corrupt(_)) => continue,
                Err(e) => panic!("{e}"),
            };
            assert!(fs.is_read_only());
            let _ = fs.list(ROOT);
            assert!(matches!(fs.create(ROOT, b"new"), Err(Error::ReadOnly)));
        }
    }
}
