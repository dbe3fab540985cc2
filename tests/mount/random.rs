//! Random calls on a mount and on a directory of the host. All results must agree.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};

use testkit::mounted::{Mounted, noise, walk};

/// How many sequences there are, and how many calls the longest has.
const CASES: u32 = 60;
const CALLS_MAX: usize = 40;

#[derive(Debug, Clone)]
enum Call {
    Write(u8, u32, u32),
    Append(u8, u32),
    Truncate(u8, u32),
    Mkdir(u8),
    Rmdir(u8),
    Unlink(u8),
    Rename(u8, u8),
    Sync(u8),
    Read(u8),
}

fn call() -> impl Strategy<Value = Call> {
    let size = prop_oneof![0..100u32, 0..9000u32];
    prop_oneof![
        4 => (any::<u8>(), 0..6000u32, size.clone()).prop_map(|(p, off, n)| Call::Write(p, off, n)),
        2 => (any::<u8>(), size.clone()).prop_map(|(p, n)| Call::Append(p, n)),
        2 => (any::<u8>(), size).prop_map(|(p, n)| Call::Truncate(p, n)),
        3 => any::<u8>().prop_map(Call::Mkdir),
        1 => any::<u8>().prop_map(Call::Rmdir),
        2 => any::<u8>().prop_map(Call::Unlink),
        4 => any::<(u8, u8)>().prop_map(|(a, b)| Call::Rename(a, b)),
        1 => any::<u8>().prop_map(Call::Sync),
        2 => any::<u8>().prop_map(Call::Read),
    ]
}

/// One of a few paths, with up to three names, so that names are often used again.
fn path(base: &Path, n: u8) -> PathBuf {
    const NAMES: [&str; 4] = ["a", "ab", "b", "a-longer-name"];
    let mut path = base.join(NAMES[usize::from(n) % 4]);
    for level in 1..=n / 64 % 3 {
        path.push(NAMES[usize::from(n >> (2 * level)) % 4]);
    }
    path
}

/// The result of a call: bytes that were read, or an errno.
fn apply(base: &Path, call: &Call, seed: u32) -> Result<Vec<u8>, i32> {
    let done = |r: io::Result<()>| r.map(|()| Vec::new());
    let answer = match *call {
        Call::Write(p, off, n) => done(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path(base, p))
                .and_then(|f| f.write_all_at(&noise(n as usize, seed), off.into())),
        ),
        Call::Append(p, n) => done(
            OpenOptions::new()
                .append(true)
                .open(path(base, p))
                .and_then(|mut f| f.write_all(&noise(n as usize, seed))),
        ),
        Call::Truncate(p, n) => done(
            OpenOptions::new().write(true).open(path(base, p)).and_then(|f| f.set_len(n.into())),
        ),
        Call::Mkdir(p) => done(fs::create_dir(path(base, p))),
        Call::Rmdir(p) => done(fs::remove_dir(path(base, p))),
        Call::Unlink(p) => done(fs::remove_file(path(base, p))),
        Call::Rename(a, b) => done(fs::rename(path(base, a), path(base, b))),
        Call::Sync(p) => done(File::open(path(base, p)).and_then(|f| f.sync_all())),
        Call::Read(p) => fs::read(path(base, p)),
    };
    answer.map_err(|e| e.raw_os_error().unwrap_or(0))
}

fn agree(mount: &Path, host: &Path, calls: &[Call]) -> Result<(), TestCaseError> {
    for dir in [mount, host] {
        fs::create_dir(dir).expect("mkdir");
    }
    for (i, call) in calls.iter().enumerate() {
        let (ours, theirs) = (apply(mount, call, i as u32), apply(host, call, i as u32));
        prop_assert!(
            ours == theirs,
            "call {i}, {call:?}: {:?}, host {:?}",
            ours.err(),
            theirs.err()
        );
    }
    prop_assert!(walk(mount) == walk(host), "the trees differ");
    Ok(())
}

fn agrees_with_options(options: &str) {
    let m = Mounted::with_options("16M", options);
    fs::create_dir(m.beside("host")).expect("mkdir");
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x6d6f_756e_7473),
        ..ProptestConfig::default()
    };
    // each sequence has a directory of its own, shrunk ones, too
    let next = Cell::new(0);
    let strategy = prop::collection::vec(call(), 1..CALLS_MAX);
    let outcome = TestRunner::new(config).run(&strategy, |calls| {
        next.set(next.get() + 1);
        let name = format!("case-{}", next.get());
        agree(&m.path(&name), &m.beside("host").join(&name), &calls)
    });
    if let Err(e) = outcome {
        panic!("{options}: {e}");
    }
    m.finish();
}

#[test]
fn the_mount_and_the_host_agree() {
    agrees_with_options("rw");
}

#[test]
fn the_mount_and_the_host_agree_with_kernel_write_back() {
    agrees_with_options("writeback");
}

#[test]
fn the_mount_and_the_host_agree_when_everything_is_synced() {
    agrees_with_options("sync");
}

#[test]
fn the_mount_and_the_host_agree_when_attributes_are_kept() {
    agrees_with_options("attrs=unix");
}
