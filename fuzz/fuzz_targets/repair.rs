//! Repairs any image. `-y` must leave no error, and a second repair must find nothing to do. A
//! repair that is interrupted at a write and run again must end with the same tree as one that is
//! not interrupted. Only files that share blocks with metadata are left out of this comparison: a
//! repair has to write that metadata, and so it changes their bytes.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use littlefs::bd::emu::{EmuDevice, Event};
use littlefs::bd::{BlockDevice, RamDevice};
use littlefs::check::{Mode, Repairs, check, repair};
use littlefs::error::Error;
use littlefs::fs::{Fs, OpenOptions};
use littlefs::show::Show;
use littlefs_fuzz::{Tree, errors, walk};

/// The content of the image.
fn tree(dev: Arc<dyn BlockDevice>) -> Tree {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut fs = Fs::open(dev, &options).expect("it was opened to be repaired");
    walk(&mut fs)
}

/// Remove the files from `tree` that a repair separated from blocks of others.
fn remove_shared(tree: &mut Tree, repairs: &Repairs) {
    for repair in repairs.done.iter().filter(|repair| repair.code == "block-shared") {
        // the place is the path as people see it
        tree.retain(|path, _| path.as_slice().show().to_string() != repair.place);
    }
}

/// Whether a file shares blocks with metadata.
fn overlaps_metadata(dev: Arc<RamDevice>) -> bool {
    check(dev).is_ok_and(|report| {
        let mut shared = report.findings.iter().filter(|finding| finding.code == "block-shared");
        shared.any(|finding| finding.message.contains("metadata pair"))
    })
}

fuzz_target!(|data: &[u8]| {
    // the first two bytes determine where the repair is interrupted
    let Some((&[low, high], data)) = data.split_first_chunk() else { return };
    let Some(before) = littlefs_fuzz::device(data) else { return };
    let geometry = before.geometry();
    let image = before.image();
    let dev = Arc::new(EmuDevice::new(geometry, image.clone()));
    let Ok(repairs) = repair(dev.clone(), Mode::Yes) else { return };
    let log = dev.take_log();
    // without enough space, some errors have to stay; but damage must not stop its own repair
    if let Some(why) = &repairs.stopped {
        assert_ne!(*why, Error::ReadOnly.to_string(), "{repairs:#?}");
        return;
    }
    let after = check(dev.clone()).expect("examined");
    assert!(errors(&after).is_empty(), "{repairs:#?}: {:#?}", after.findings);
    let again = repair(dev.clone(), Mode::Yes).expect("opens");
    assert!(again.done.is_empty() && again.stopped.is_none(), "{repairs:#?}, then {again:#?}");
    let mut whole = tree(dev);

    let writes: Vec<_> = log
        .into_iter()
        .filter_map(|event| match event {
            Event::Write { start, data } => Some((start, data)),
            Event::Barrier => None,
        })
        .collect();
    let cut = usize::from(u16::from_le_bytes([low, high])) % (writes.len() + 1);
    let mut partly = image;
    for (start, data) in &writes[..cut] {
        partly[*start..][..data.len()].copy_from_slice(data);
    }
    let dev = Arc::new(RamDevice::from_image(geometry, partly));
    // an entry of a wrong type may become a file only in the course of the repair
    let overlaps = overlaps_metadata(before) || overlaps_metadata(dev.clone());
    let again = repair(dev.clone(), Mode::Yes).expect("opens");
    let after = check(dev.clone()).expect("examined");
    assert!(errors(&after).is_empty(), "{cut} of {}: {again:#?}: {after:#?}", writes.len());
    let mut resumed = tree(dev);
    if overlaps {
        for repairs in [&repairs, &again] {
            remove_shared(&mut whole, repairs);
            remove_shared(&mut resumed, repairs);
        }
    }
    assert_eq!(resumed, whole, "{cut} of {} writes: {repairs:#?}, then {again:#?}", writes.len());
});
