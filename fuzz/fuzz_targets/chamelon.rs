//! Recognises, checks and reads any image as one of chamelon.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use littlefs::chamelon::{check, recognise, show};
use littlefs::disk::superblock;
use littlefs::fs::{Fs, OpenOptions};

fuzz_target!(|data: &[u8]| {
    let Some(dev) = littlefs_fuzz::device(data) else { return };
    let Some((sb, _)) = superblock::probe(&dev.image()) else { return };
    recognise(&*dev, &sb);
    let report = check(&*dev, &|_| ());
    let view = show(dev, sb);
    assert_eq!(report.is_ok(), view.is_ok());
    let Ok((view, _)) = view else { return };
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    if let Ok(mut fs) = Fs::open(Arc::new(view), &options) {
        littlefs_fuzz::walk(&mut fs);
    }
});
