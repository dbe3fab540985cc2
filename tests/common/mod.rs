//! Code shared by the integration tests.

// Each test binary compiles this module for itself and uses only a part of it.
#![allow(dead_code, unused_imports)]

pub mod arena;
pub mod builder;
pub mod calls;
pub mod chamelon;
pub mod clfs;
#[cfg(feature = "cli")]
pub mod desk;
#[cfg(feature = "mount")]
pub mod mounted;
pub mod ops;
pub mod ours;
pub mod python;
pub mod random;
pub mod surgery;
pub mod tree;
pub mod v1;

/// The most resident memory that a process has had so far, in KiB. `process` is its number, or
/// `self`.
pub fn peak_kib(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("the process should run");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
