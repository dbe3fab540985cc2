//! Memory stays bounded, however much data passes through.

use std::fs;
use std::io::{Read, Write};

use super::status::status;
use testkit::mounted::Mounted;
use testkit::peak_kib;

/// How many bytes are copied in and out.
const COPIED: usize = 1 << 30;
/// The most resident memory that the daemon may ever have, in KiB.
const RESIDENT_MAX_KIB: u64 = 64 << 10;

/// A chunk that contains its position, so that a mix-up is noticed.
fn fill(chunk: &mut [u8], index: usize) {
    for (i, word) in chunk.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&((index as u64) << 32 | i as u64).to_le_bytes());
    }
}

#[test]
fn a_gibibyte_passes_through_64_mebibytes() {
    // Not much larger: at the end, the test has the whole image in memory.
    let mount = Mounted::new("1100M");
    let path = mount.path("large");
    let mut chunk = vec![0; 1 << 20];
    let mut file = fs::File::create(&path).expect("create");
    for i in 0..COPIED / chunk.len() {
        fill(&mut chunk, i);
        file.write_all(&chunk).expect("write");
    }
    file.sync_all().expect("fsync");
    drop(file);
    let mut file = fs::File::open(&path).expect("open");
    let mut expected = vec![0; chunk.len()];
    for i in 0..COPIED / chunk.len() {
        fill(&mut expected, i);
        file.read_exact(&mut chunk).expect("read");
        assert!(chunk == expected, "chunk {i}");
    }
    let peak = peak_kib(mount.daemon().trim());
    assert!(peak <= RESIDENT_MAX_KIB, "the daemon took {peak} KiB");
    drop(file);
    fs::remove_file(&path).expect("unlink");
    mount.finish();
}

/// With `cache=`, the daemon keeps less metadata in memory, changed or not.
#[test]
fn the_cache_option_bounds_what_is_held() {
    let pair_cache = |mount: &Mounted| {
        let status = status(&mount.dir());
        let cache = &status["filesystem"]["pair_cache"];
        let number = |key: &str| cache[key].as_u64().expect("a number");
        (number("bytes"), number("bytes_max"))
    };
    let mut held = Vec::new();
    for option in ["cache=1M", "cache=8M"] {
        let mount = Mounted::with_options("64M", option);
        for d in 0..40 {
            fs::create_dir(mount.path(&format!("d{d}"))).expect("mkdir");
            for f in 0..500 {
                fs::write(mount.path(&format!("d{d}/f{f}")), [1; 60]).expect("write");
            }
        }
        // Changed pairs and those of files that the daemon keeps open cannot be evicted, so at some
        // moments more is held. Needing other pairs, this has much of it written and evicted.
        for d in 0..40 {
            fs::rename(mount.path(&format!("d{d}/f0")), mount.path(&format!("d{d}/g")))
                .expect("rename");
        }
        held.push(pair_cache(&mount));
        mount.finish();
    }
    let [(small, small_max), (large, large_max)] = held[..] else { panic!("{held:?}") };
    assert_eq!((small_max, large_max), (512 << 10, 4 << 20), "a half is for metadata");
    // what cannot be evicted may exceed the limit, for which a quarter is allowed here
    assert!(small <= small_max / 4 * 5 && large <= large_max / 4 * 5, "{held:?}");
    assert!(large > 2 * small, "{held:?}");
}
