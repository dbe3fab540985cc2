//! Operations of C that lost their power: pending moves, orphans, half-orphans.

use std::collections::BTreeMap;

use littlefs::check::Severity;

use crate::fixture::*;
use testkit::clfs::{CLfs, CResult, Config};
use testkit::surgery::Surgeon;

/// An operation of C.
type Step = fn(&mut CLfs) -> CResult<()>;

/// The operation that is cut off.
const STEPS: [(&str, Step); 9] = [
    ("move of a file", |c| c.rename(b"a/file", b"b/moved")),
    ("move of the last file", |c| c.rename(b"a/last", b"z/moved")),
    ("move of a directory", |c| c.rename(b"a/sub", b"b/sub")),
    ("move out of a long directory", |c| c.rename(b"many/entry-07", b"a/moved")),
    ("move into a long directory", |c| c.rename(b"a/file", b"many/entry-07x")),
    ("move over an empty directory", |c| c.rename(b"a/sub", b"b/empty")),
    ("mkdir", |c| c.mkdir(b"a/directory")),
    ("rmdir", |c| c.remove(b"b/empty")),
    ("attribute of the root", |c| c.setattr(b"", 0x74, b"now")),
];

#[test]
fn interrupted_work_is_shown_and_finished_right() {
    let mut seen = BTreeMap::<&str, u32>::new();
    for config in configs() {
        for block_cycles in [-1, 1, 2] {
            let config = Config { block_cycles, ..config.clone() };
            let mut c = make(&config);
            c.mkdir(b"b/empty").expect("mkdir");
            let before = c.unmount();
            let old = c_tree(&config, &before);
            for (what, step) in STEPS {
                let mut c = CLfs::mount(before.clone(), &config).expect("mount");
                step(&mut c).expect("with power");
                let new = c.tree(&ATTR_TYPES).expect("read");
                for writes in 0.. {
                    let mut c = CLfs::mount(before.clone(), &config).expect("mount");
                    c.cut_power_after(writes);
                    let finished = step(&mut c).is_ok();
                    let image = c.unmount();
                    let name = format!("{config:?}, {what}, cut after {writes} writes");
                    let notes = codes(&config, &image, Severity::Note);
                    let state = Surgeon::new(&config, image.clone()).gstate();
                    let pending = state.needs_sync() || state.pending_move().is_some();
                    for &kind in &notes {
                        *seen.entry(kind).or_default() += 1;
                    }
                    assert_eq!(codes(&config, &image, Severity::Error), [""; 0], "{name}");
                    // Either it happened or it did not, and C thinks the same.
                    let tree = c_tree(&config, &image);
                    assert!(tree == old || tree == new, "{name}: neither the old tree nor the new");
                    check_reading(&name, &config, &image, &tree);
                    if pending {
                        let rest = ["pair-half-dead", "debris", "superblock-outdated"];
                        check_writing(&name, &config, &image, &tree, &rest);
                    }
                    if finished {
                        break;
                    }
                }
            }
        }
    }
    for kind in ["move-pending", "sync-pending", "orphan", "half-orphan", "pair-half-dead"] {
        assert!(seen.contains_key(kind), "no image has {kind:?}: {seen:?}");
    }
}
