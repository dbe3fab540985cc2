//! Replays the log of any metadata block, as it is and with corrected CRCs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use littlefs::disk::Superblock;
use littlefs::disk::log::{Parsed, parse, parse_packed};
use littlefs::mdir::Mdir;
use testkit::mutate::mend;

fuzz_target!(|data: &[u8]| {
    // the parser may need more than a part of the block, but its result must be that of the whole
    let part = parse(&data[..data.len() / 2], data.len());
    let whole = parse(data, data.len());
    if let (Parsed::Log(a), Parsed::Log(b)) = (part, whole) {
        assert_eq!((a.off, a.seed), (b.off, b.seed));
    }
    let mut block = data.to_vec();
    mend(&mut block);
    if let Parsed::Log(log) = parse(&block, block.len()) {
        assert!(log.off as usize <= block.len());
        let _ = Superblock::of(&log);
        let Parsed::Log(packed) = parse_packed(&block, block.len()) else { panic!("no log") };
        let mdir = Mdir::from_log(&packed);
        assert!(mdir.entries.iter().map(|e| e.size_on_disk()).sum::<u32>() == mdir.size());
    }
});
