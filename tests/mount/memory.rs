//! Memory stays bounded, however much data passes through.

use std::fs;
use std::io::{Read, Write};

use super::mounted::Mounted;

/// How many bytes are copied in and out.
const COPIED: usize = 1 << 30;
/// The most resident memory that the daemon may ever have, in KiB.
const RESIDENT_MAX_KIB: u64 = 64 << 10;

/// The most resident memory that the daemon has had so far, in KiB.
fn peak_kib(mount: &Mounted) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.daemon().trim()))
        .expect("the daemon should run");
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB")
}

/// A chunk that contains its position, so that a mix-up is noticed.
fn fill(chunk: &mut [u8], index: usize) {
    for (i, word) in chunk.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&((index as u64) << 32 | i as u64).to_le_bytes());
    }
}

#[test]
fn a_gibibyte_passes_through_64_mebibytes() {
    let mount = Mounted::new("2G");
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
    let peak = peak_kib(&mount);
    assert!(peak <= RESIDENT_MAX_KIB, "the daemon took {peak} KiB");
    drop(file);
    fs::remove_file(&path).expect("unlink");
    mount.finish();
}
