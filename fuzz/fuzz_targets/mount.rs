//! Mounts, reads and checks any image. Nothing may change it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use littlefs::bd::RamDevice;
use littlefs::check::check;
use littlefs::fs::{Fs, OpenOptions};

fuzz_target!(|data: &[u8]| {
    let Some(dev) = littlefs_fuzz::device(data) else { return };
    let before = dev.image();
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    if let Ok(mut fs) = Fs::open(dev.clone(), &options) {
        littlefs_fuzz::walk(&mut fs);
    }
    let _ = check(dev.clone());
    assert!(RamDevice::image(&dev) == before, "reading changed the image");
});
