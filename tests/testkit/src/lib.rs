//! What the tests, the benchmarks and the fuzz targets share.
//!
//! It is a crate of its own, so that it is compiled once, and not once for each test program.

pub mod bench;
pub mod builder;
pub mod calls;
pub mod chamelon;
pub mod clfs;
pub mod comparison;
pub mod desk;
pub mod mounted;
pub mod mutate;
pub mod ops;
pub mod ours;
pub mod python;
pub mod random;
pub mod surgery;
pub mod tree;
pub mod v1;

use std::path::{Path, PathBuf};

/// The program `littlefs` that was built with the running test. Cargo gives its path only to the
/// test programs, when it compiles them; but it always puts the program in this place.
pub fn program() -> PathBuf {
    let program = profile().join("littlefs");
    assert!(program.exists(), "'cargo build' makes {}", program.display());
    program
}

/// The directory of everything that was built for the same target.
fn target() -> PathBuf {
    profile().parent().expect("target/PROFILE").to_owned()
}

/// `target/PROFILE`, in which the test runs as `deps/NAME`.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    test.parent().and_then(Path::parent).expect("target/PROFILE/deps").to_owned()
}

/// The most resident memory that a process has had so far, in KiB. `process` is its number, or
/// `self`.
pub fn peak_kib(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("the process should run");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
