//! The memory of a store stays near its budget.

use std::process::Command;
use std::sync::Arc;

use littlefs::bd::FileDevice;
use littlefs::kv::{Options, Store};

use super::helpers::{bytes, geometry, key};
use testkit::peak_kib;

/// How many values of 100 bytes a store gets: much more than the budgets hold.
const VALUES: usize = 120_000;
/// Tells the process that a test starts how much memory to use.
const VARIABLE: &str = "LITTLEFS_TEST_CACHE";

/// Set and get values in an order that jumps from pair to pair.
fn load(cache: u64) {
    let file = tempfile::tempfile().expect("temporary file");
    let geometry = geometry(4096, 30_000);
    file.set_len(geometry.size()).expect("set_len");
    let dev = Arc::new(FileDevice::new(file, 0, geometry));
    Store::format(&*dev).expect("format");
    let options =
        Options { durable: false, inline_max: Some(512), cache: Some(cache), ..Options::default() };
    let store = Store::connect(dev, &options).expect("connect");
    let name = |i: usize| key(&format!("{:016}", i * 7919 % VALUES));
    for i in 0..VALUES {
        store.set(&name(i), &bytes(i, 100)).expect("set");
    }
    for i in (0..VALUES).step_by(3) {
        assert_eq!(store.get(&name(i)).expect("get"), bytes(i, 100));
    }
    store.disconnect().expect("disconnect");
}

/// The peak of a process that does nothing but this load, in KiB.
fn peak_of(cache: u64) -> u64 {
    let test = "memory::the_peak_follows_the_budget";
    let out = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, cache.to_string())
        .output()
        .expect("a process");
    let text = String::from_utf8(out.stdout).expect("text");
    assert!(out.status.success(), "{text}");
    let peak = text.lines().find_map(|line| line.split_once("peak: ")).expect("a peak").1;
    peak.parse().expect("a number of KiB")
}

#[test]
fn the_peak_follows_the_budget() {
    if let Ok(cache) = std::env::var(VARIABLE) {
        load(cache.parse().expect("a number of bytes"));
        println!("\npeak: {}", peak_kib("self"));
        return;
    }
    let (small, large) = (peak_of(4 << 20), peak_of(32 << 20));
    println!("{small} KiB with a cache of 4 MiB, {large} KiB with 32 MiB");
    // the program itself, and what must be known about each of 16,000 pairs
    let rest = 16 << 10;
    assert!(small <= (4 << 10) + rest, "{small} KiB with a cache of 4 MiB");
    assert!(large <= (32 << 10) + rest, "{large} KiB with a cache of 32 MiB");
    assert!(large > small + (12 << 10), "{small} and {large} KiB: the budget is not used");
}
