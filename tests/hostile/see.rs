//! Every report that can be had of an image.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::disk::Pair;
use littlefs::disk::dissect::Dissection;
use littlefs::disk::log::{Parsed, parse};
use littlefs::inspect::{Inspector, Report};

/// Ask for everything, and let all of it be displayed. The parser and the one that takes blocks apart
/// must agree on every block.
pub fn see(dev: Arc<RamDevice>) {
    let inspector = Inspector::new(dev);
    let mut shown = 0;
    let mut show = |report: &dyn Report| {
        let _ = report.is_damaged();
        shown += report.to_string().len();
    };
    show(&inspector.superblock());
    show(&inspector.gstate());
    let tree = inspector.tree();
    show(&tree);
    for pair in tree.pairs.iter().map(|pair| pair.pair).chain([[0, 0], [1, 0]]) {
        inspector.pair(Pair(pair)).iter().for_each(|report| show(report));
    }
    for entry in tree.entries.iter().take(200) {
        let path = entry.path.as_bytes();
        inspector.file(path).iter().flatten().for_each(|report| show(report));
        inspector.dir(path).iter().flatten().for_each(|report| show(report));
        inspector.log(path).iter().flatten().for_each(|report| show(report));
    }
    for block in 0..inspector.geometry().block_count.min(128) {
        inspector.block(block).iter().for_each(|report| show(report));
        let bytes = inspector.bytes(block).expect("memory");
        let taken = Dissection::of(&bytes).expect("a revision");
        match parse(&bytes, bytes.len()) {
            Parsed::Log(log) => {
                let commits = taken.commits.len() as u32;
                assert_eq!((log.rev, log.off, log.commits), (taken.rev, taken.end, commits));
                let names = (taken.tags().zip(taken.effects()))
                    .filter(|(placed, effect)| placed.tag.type1() == 0 && effect.is_some());
                let named = log.entries.iter().filter(|entry| entry.name_type.is_some());
                assert_eq!(names.count(), named.count());
            }
            _ => assert!(taken.commits.is_empty()),
        }
    }
    assert!(shown > 0);
}
