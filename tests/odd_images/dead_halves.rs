//! One block of a pair cannot be used: the other one is used.

use littlefs::check::Severity;
use littlefs::disk::log::RawEntry;
use littlefs::disk::tag;
use littlefs::disk::{Pair, Part};
use littlefs::fs::Node;

use crate::fixture::*;
use testkit::clfs::Config;
use testkit::surgery::Surgeon;

/// How a block becomes unusable.
const DEATHS: [fn(&mut [u8]); 4] = [
    |block| block.fill(0xff),
    |block| block.fill(0x00),
    // The revision is whole, the first commit is not.
    |block| block[12] ^= 0x10,
    |block| block.iter_mut().for_each(|b| *b = b.rotate_left(3) ^ 0x5a),
];

/// The image with the content of one pair written to its other block as well, as the newer one,
/// with another file. Returns both blocks: the older one, then the newer one.
fn renewed(config: &Config, image: &[u8], pair: Pair) -> Option<(Surgeon, u32, u32)> {
    let mut surgeon = Surgeon::new(config, image.to_vec());
    let (pair, mut log) = surgeon.fetch(pair);
    log.entries.push(RawEntry {
        name_type: Some(tag::REG),
        name: (*b"~newest").into(),
        data: Some((tag::INLINESTRUCT, (*b"new").into())),
        attrs: Part::default(),
    });
    // Only the last pair of a directory may get a name behind all others.
    if log.tail.is_some_and(|tail| tail.hard && !tail.pair.is_null()) {
        log.entries.pop();
    }
    let size: usize = log.entries.iter().map(|e| e.name.len() + 60).sum();
    if size > config.block_size as usize {
        return None;
    }
    let newer = surgeon.rewrite(pair, &log);
    Some((surgeon, pair.0[0], newer))
}

#[test]
fn newer_or_older_half_is_dead() {
    for config in configs() {
        let image = make(&config).unmount();
        let tree = c_tree(&config, &image);
        for pair in Surgeon::new(&config, image.clone()).thread() {
            let Some((surgeon, older, newer)) = renewed(&config, &image, pair) else { continue };
            let newest = c_tree(&config, &surgeon.image);
            assert_eq!(codes(&config, &surgeon.image, Severity::Error), [""; 0]);
            for (i, kill) in DEATHS.into_iter().enumerate() {
                for (dead, want) in [(newer, &tree), (older, &newest)] {
                    let mut surgeon = Surgeon::new(&config, surgeon.image.clone());
                    kill(surgeon.block(dead));
                    let name = format!("{config:?}, death {i} of block {dead:#x} of {pair}");
                    check_reading(&name, &config, &surgeon.image, want);
                    let findings = report(&config, &surgeon.image);
                    assert!(findings.is_clean(), "{name}: {:#?}", findings.findings);
                    // All changes after all deaths would take minutes and show no more.
                    if i == 2 || pair.same(Pair::SUPERBLOCK) {
                        let notes = ["pair-half-dead", "debris"];
                        check_writing(&name, &config, &surgeon.image, want, &notes);
                    }
                }
            }
        }
    }
}

/// If both blocks are unusable, there is an error for this directory, and all others can be read.
#[test]
fn both_halves_are_dead() {
    for config in configs() {
        let image = make(&config).unmount();
        let tree = c_tree(&config, &image);
        for kill in DEATHS {
            let mut surgeon = Surgeon::new(&config, image.clone());
            for block in surgeon.dir("b").0 {
                kill(surgeon.block(block));
            }
            assert!(!report(&config, &surgeon.image).is_clean());
            let mut ours = open(&config, &surgeon.image, false);
            assert!(ours.fs.is_read_only());
            let root = littlefs::fs::ROOT;
            // it is a directory all the same, which cannot be read
            let Ok(Node::Dir(b)) = ours.fs.lookup(root, b"b") else { panic!("no directory") };
            assert!(matches!(ours.fs.list(b), Err(littlefs::Error::Corrupt(_))));
            for name in ["top", "a/file", "a/sub/deep", "many/entry-39"] {
                let file = ours.open_file(name.as_bytes()).expect("open");
                let want = &tree[name.as_bytes()];
                let bytes = ours.read(file).expect("read");
                assert!(matches!(&want.kind, testkit::tree::Kind::File(b) if *b == bytes));
            }
        }
    }
}
