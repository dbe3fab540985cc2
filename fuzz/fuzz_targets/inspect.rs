//! Every report about an image whose CRCs were corrected.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(device) = littlefs_fuzz::device(data) {
        littlefs_fuzz::reports::see(device, &|_, ask| ask());
    }
});
