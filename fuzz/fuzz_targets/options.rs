//! The parser of mount options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use littlefs::cli::options::MountOptions;

fuzz_target!(|list: &str| {
    if let Ok(options) = MountOptions::parse(&[list], false) {
        // what comes later wins: saying it twice changes nothing
        let again = MountOptions::parse(&[list, list], false).expect("valid once");
        assert_eq!(format!("{again:?}"), format!("{options:?}"));
    }
});
