//! Searches any bytes for lost files. The bytes must not change, and all results must be readable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use littlefs::bd::{BlockDevice, Geometry, RamDevice};
use littlefs::image::Dialect;
use testkit::mutate::mend;

fuzz_target!(|data: &[u8]| {
    // the first byte gives the block size
    let Some((&shift, data)) = data.split_first() else { return };
    let block_size = 128_u32 << (shift % 8);
    let count = (data.len() as u32).div_ceil(block_size).max(2);
    let geometry = Geometry::new(block_size, count).expect("possible");
    let mut bytes = data.to_vec();
    bytes.resize(geometry.size() as usize, 0xff);
    if shift & 0x80 != 0 {
        bytes.chunks_exact_mut(block_size as usize).for_each(mend);
    }
    let device = RamDevice::from_image(geometry, bytes.clone());
    littlefs_fuzz::recover(&device, Dialect::Littlefs);
    assert!(device.image() == bytes && device.geometry() == geometry);
});
