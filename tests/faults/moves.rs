//! Moves between directories that meet a bad block, so that a pair is relocated in the middle of a
//! move; and a crash at any moment of that.

use std::sync::Arc;

use littlefs::bd::RamDevice;
use littlefs::bd::emu::crash::Crashes;
use littlefs::bd::emu::{BadBlock, EmuDevice};

use super::{BLOCK_COUNT, geometry, mount, options, prepared, sound};
use testkit::calls::{Call, Subject};
use testkit::ours::Ours;

/// How many crash images of each run are tried, in addition to those that keep whole writes in
/// order.
const SAMPLES: usize = 2;

#[test]
fn a_move_is_whole_though_its_pair_is_relocated() {
    let (image, model) = prepared();
    let mut images = 0;
    for block in 2..BLOCK_COUNT {
        let dev = Arc::new(EmuDevice::new(geometry(), image.clone()));
        dev.set_bad(block, BadBlock::EraseError);
        let mut ours = mount(&dev, &image).expect("open");
        let mut model = model.clone();
        let mut states = vec![model.tree().clone()];
        for i in 0..12 {
            let from = format!("d/file-{i:02}").into_bytes();
            let to = format!("e/moved-{i:02}").into_bytes();
            let call = Call::Rename { from, to, no_replace: false };
            ours.apply(&call).and_then(|()| model.apply(&call)).expect("rename");
            ours.fs.flush().expect("flush");
            states.push(model.tree().clone());
        }
        let log = dev.take_log();
        for crash in Crashes::new(image.clone(), &log, SAMPLES, u64::from(block)) {
            let what = format!("bad block {block:#x}, {}", crash.cut);
            let dev = Arc::new(RamDevice::from_image(geometry(), crash.image));
            let mut ours = Ours::on(dev.clone(), &options()).expect("open");
            let tree = ours.tree().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(states.contains(&tree), "{what}: {:?}", tree.keys());
            ours.fs.finish_interrupted().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(sound(&dev.image(), &what) == tree, "{what}: another tree once finished");
            images += 1;
        }
    }
    println!("{images} crash images");
    assert!(images > 1000, "{images} crash images");
}
