//! Reads, checks and inspects any image of version 1, and searches it for lost files.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use littlefs::bd::{BlockDevice, RamDevice};
use littlefs::fs::{Fs, OpenOptions};
use littlefs::image::Dialect;
use littlefs::v1::{check, show, usage};

fuzz_target!(|data: &[u8]| {
    let Some((sb, dev)) = littlefs_fuzz::device_of_version1(data) else { return };
    let report = check(&*dev, &|_| ());
    let used = usage(&*dev);
    littlefs_fuzz::reports::see_dialect(dev.clone(), Dialect::V1, sb, &|_, ask| ask());
    littlefs_fuzz::recover(&*dev, Dialect::V1);
    // the same search without a superblock
    let (g, mut bytes) = (dev.geometry(), dev.image());
    bytes[..2 * g.block_size as usize].fill(0xff);
    littlefs_fuzz::recover(&RamDevice::from_image(g, bytes), Dialect::V1);
    let view = show(dev, sb);
    assert_eq!(report.is_ok(), view.is_ok());
    assert_eq!(used.is_ok(), view.is_ok());
    let Ok((view, _)) = view else { return };
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let mut fs = Fs::open(Arc::new(view), &options).expect("a view is a littlefs");
    littlefs_fuzz::walk(&mut fs);
});
