//! The parser of mount options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use littlefs::cli::options::Given;

fuzz_target!(|list: &str| {
    if let Ok(options) = Given::parse(&[list], false) {
        // of two equal options the later one wins, so repeating the list changes nothing
        let again = Given::parse(&[list, list], false).expect("valid once");
        assert_eq!(format!("{again:?}"), format!("{options:?}"));
    }
});
