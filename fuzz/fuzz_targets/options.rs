//! The parser of mount options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use littlefs::cli::options::Given;

fuzz_target!(|list: &str| {
    if let Ok(options) = Given::parse(&[list], false) {
        // what comes later wins: saying it twice changes nothing
        let again = Given::parse(&[list, list], false).expect("valid once");
        assert_eq!(format!("{again:?}"), format!("{options:?}"));
    }
});
