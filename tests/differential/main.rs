//! This library against the C driver, operation by operation, with many geometries.
//!
//! Environment: `LITTLEFS_CASES` multiplies the number of random sequences (default 1),
//! `PROPTEST_RNG_SEED` gives other sequences, and `LITTLEFS_TRACE` prints every call when it is
//! made (with `--nocapture`), for the case that the C driver aborts in an assertion.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use littlefs::fs::{FormatOptions, OpenOptions};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestError, TestRunner};
use testkit::calls::{Call, Fail, Subject, pattern};
use testkit::clfs::{CError, CLfs, Config, V2_0, V2_1};
use testkit::comparison::{Comparison, Setup, Verdict};
use testkit::ops::{Op, Palette, op};
use testkit::ours::Ours;
use testkit::tree::{Entry, Tree, diff};

/// How many random sequences there are for each setup, before the environment changes that.
const CASES: u32 = 100;
/// Operations in the longest sequence.
const OPS_MAX: usize = 80;

fn cases() -> u32 {
    let factor = std::env::var("LITTLEFS_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    CASES * factor
}

/// The number of blocks of the image. It is so small that the image is sometimes full.
fn block_count(block_size: u32) -> u32 {
    match block_size {
        128 => 160,
        512 => 96,
        4096 => 48,
        8192 => 40,
        _ => 24,
    }
}

fn run_sequence(setup: &Setup, ops: &[Op]) -> Verdict {
    let palette = Palette::new(setup);
    let mut sides = Comparison::new(setup.clone())?;
    let mut log = Vec::new();
    // At the end each side has changed hands twice.
    for &op in ops.iter().chain(&[Op::Compare, Op::Exchange, Op::Exchange]) {
        // A panic must not hide which calls led to it.
        catch_unwind(AssertUnwindSafe(|| palette.run(&mut sides, op, &mut log)))
            .unwrap_or_else(|panic| Err(panic_message(&*panic)))
            .map_err(|why| format!("{why}\nafter:\n    {}", log.join("\n    ")))?;
    }
    Ok(())
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of an unknown type"))
}

fn differ(setup: Setup) {
    let config = ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 3000,
        rng_seed: match ProptestConfig::default().rng_seed {
            RngSeed::Random => RngSeed::Fixed(0x6c69_7474_6c65_6673),
            fixed => fixed,
        },
        ..ProptestConfig::default()
    };
    let strategy = prop::collection::vec(op(), 1..OPS_MAX);
    let outcome = TestRunner::new(config)
        .run(&strategy, |ops| run_sequence(&setup, &ops).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        // The calls in the message say more than the operations they came from.
        Err(TestError::Fail(why, _)) => panic!("{setup:?}\n{why}"),
        Err(e) => panic!("{setup:?}\n{e}"),
    }
}

/// Every program size that the C driver accepts with this block size.
fn differ_with_each_prog_size(block_size: u32, disk_version: u32) {
    for prog_size in [1, 16, 256, 512, block_size] {
        let seen_before = prog_size == block_size && matches!(block_size, 256 | 512);
        if prog_size > block_size || (seen_before && prog_size != 512) {
            continue;
        }
        let config = Config::new(block_size, block_count(block_size), prog_size);
        differ(Setup::new(Config { disk_version, ..config }));
    }
}

macro_rules! differential {
    ($($name:ident: $block_size:expr, $version:expr;)*) => {
        $(#[test]
        fn $name() {
            differ_with_each_prog_size($block_size, $version);
        })*
    };
}

differential! {
    blocks_of_128_disk_2_0: 128, V2_0;
    blocks_of_128_disk_2_1: 128, V2_1;
    blocks_of_512_disk_2_0: 512, V2_0;
    blocks_of_512_disk_2_1: 512, V2_1;
    blocks_of_4096_disk_2_0: 4096, V2_0;
    blocks_of_4096_disk_2_1: 4096, V2_1;
    blocks_of_8192_disk_2_0: 8192, V2_0;
    blocks_of_8192_disk_2_1: 8192, V2_1;
    blocks_of_65536_disk_2_0: 65536, V2_0;
    blocks_of_65536_disk_2_1: 65536, V2_1;
}

/// Pairs move, and the superblock chain grows, on both sides.
#[test]
fn wear_levelling() {
    for (block_size, prog_size) in [(512, 16), (4096, 256)] {
        let config = Config::new(block_size, 2 * block_count(block_size), prog_size);
        let config = Config { block_cycles: 3, ..config };
        differ(Setup { block_cycles: Some(3), ..Setup::new(config) });
    }
}

/// The program size is not given. A wrong guess costs a compaction, but never data.
#[test]
fn inferred_prog_size() {
    for (block_size, prog_size) in [(512, 16), (4096, 64), (4096, 4096)] {
        let config = Config::new(block_size, block_count(block_size), prog_size);
        differ(Setup { tell_prog_size: false, ..Setup::new(config) });
    }
}

/// mklittlefs erases with zeros, so the metadata blocks of its images end with zeros.
#[test]
fn erased_to_zero() {
    for (block_size, prog_size) in [(512, 16), (4096, 256)] {
        let config = Config::new(block_size, block_count(block_size), prog_size);
        // Our side erases with 0xFF all the same, which this device does not take for erased.
        differ(Setup::new(Config { erased: 0, strict_erase: false, ..config }));
    }
}

/// Drivers with a limit for metadata, without inline files, and with larger ones than usual.
#[test]
fn limited_metadata() {
    let config = Config::new(4096, 48, 16);
    differ(Setup::new(Config { metadata_max: 1024, ..config.clone() }));
    // Such a driver fails to overwrite an inline file (LFS_ERR_CORRUPT), whoever made it: so we
    // must be told not to.
    let no_inline = Setup::new(Config { inline_max: u32::MAX, ..config.clone() });
    differ(Setup { inline_max: Some(0), ..no_inline });
    differ(Setup::new(Config { cache_size: 1024, ..config }));
}

/// A sequence of calls, checked as the random ones are.
fn script(setup: &Setup, body: impl FnOnce(&mut Comparison) -> Verdict) {
    let run = || {
        let mut sides = Comparison::new(setup.clone())?;
        body(&mut sides)?;
        sides.compare()?;
        sides.exchange()?;
        sides.exchange()
    };
    if let Err(why) = run() {
        panic!("{setup:?}\n{why}");
    }
}

/// Directories of many pairs, which are filled in another order than theirs, and emptied again.
#[test]
fn large_directory_grows_and_empties() {
    for (block_size, entries) in [(128, 60), (512, 400), (4096, 1500)] {
        let config = Config::new(block_size, 512, 16);
        script(&Setup::new(config), |sides| {
            sides.call(&Call::Mkdir(b"d".to_vec()))?;
            let path = |i: u32| format!("d/{:x}", i.wrapping_mul(0x9e37_79b9)).into_bytes();
            for i in 0..entries {
                sides.call(&Call::Create(path(i)))?;
                if i % 3 == 0 {
                    sides.call(&Call::Write { path: path(i), off: 0, len: 12, seed: i as u8 })?;
                }
            }
            sides.exchange()?;
            for i in 0..entries / 2 {
                sides.call(&Call::Unlink(path(i)))?;
            }
            sides.exchange()?;
            for i in entries / 2..entries {
                sides.call(&Call::Unlink(path(i)))?;
            }
            sides.exchange()?;
            sides.call(&Call::Rmdir(b"d".to_vec()))?;
            Ok(())
        });
    }
}

/// Directories inside each other, which are moved with their content.
#[test]
fn deep_tree_moves() {
    script(&Setup::new(Config::new(512, 256, 16)), |sides| {
        let mut path = b"d".to_vec();
        for _ in 0..40 {
            sides.call(&Call::Mkdir(path.clone()))?;
            let file = [&path[..], b"/file"].concat();
            sides.call(&Call::Create(file.clone()))?;
            sides.call(&Call::Write { path: file, off: 0, len: 600, seed: 1 })?;
            path.extend(b"/d");
        }
        sides.exchange()?;
        sides.call(&Call::Mkdir(b"other".to_vec()))?;
        let to = b"other/moved".to_vec();
        sides.call(&Call::Rename { from: b"d/d/d".to_vec(), to, no_replace: true })?;
        sides.exchange()?;
        let (from, to) = (b"other/moved/d".to_vec(), b"top".to_vec());
        sides.call(&Call::Rename { from, to, no_replace: true })?;
        Ok(())
    });
}

/// A file of many blocks, which is overwritten, shortened and extended everywhere.
#[test]
fn large_file_changes_anywhere() {
    script(&Setup::new(Config::new(512, 1200, 16)), |sides| {
        let path = b"big".to_vec();
        sides.call(&Call::Create(path.clone()))?;
        let mut state = 1u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (state >> 8) % below
        };
        for round in 0..60 {
            let size = sides.model().bytes(&path).len() as u32;
            let call = match random(5) {
                0 => Call::Truncate { path: path.clone(), size: random(200_000) },
                1 | 2 => {
                    let (off, len) = (size, 1 + random(40_000).min(200_000 - size.min(199_999)));
                    Call::Write { path: path.clone(), off, len, seed: round }
                }
                _ => {
                    let (off, len) = (random(size + 1), 1 + random(3_000));
                    Call::Write { path: path.clone(), off, len, seed: round }
                }
            };
            sides.call(&call)?;
            if round % 10 == 9 {
                sides.exchange()?;
            }
        }
        Ok(())
    });
}

/// Files can be removed from a full image, and the blocks that become free can be used.
#[test]
fn full_image_can_be_emptied() {
    for (block_size, prog_size) in [(128, 1), (512, 16), (4096, 4096)] {
        let setup = Setup::new(Config::new(block_size, 40, prog_size));
        script(&setup, |sides| {
            let path = |i: u32| format!("f{i}").into_bytes();
            for round in 0..3 {
                for i in 0..50 {
                    let path = path(i);
                    let exists = sides.model().tree().contains_key(&path);
                    if !exists {
                        sides.call(&Call::Create(path.clone()))?;
                    }
                    if sides.model().tree().contains_key(&path) {
                        let len = 2 * block_size - 100;
                        sides.call(&Call::Write { path, off: 0, len, seed: i as u8 + round })?;
                    }
                }
                sides.exchange()?;
                let files: Vec<_> =
                    sides.model().tree().keys().filter(|p| !p.is_empty()).cloned().collect();
                for path in files {
                    sides.call(&Call::Unlink(path))?;
                }
                sides.exchange()?;
            }
            Ok(())
        });
    }
}

/// The limits in the superblock, which both sides obey.
#[test]
fn limits_of_the_superblock() {
    let config = Config::new(4096, 32, 16);
    let geometry = Setup::new(config.clone()).geometry();
    let limits = FormatOptions { name_max: 20, file_max: 9000, attr_max: 50, ..Default::default() };
    let image = Ours::format(geometry, &limits).expect("format");
    let mut c = CLfs::mount(image.clone(), &config).expect("C mounts");
    let mut ours = Ours::open(geometry, image, &OpenOptions::default()).expect("open");

    let create = |len: usize| Call::Create(vec![b'n'; len]);
    assert_eq!(ours.apply(&create(21)), Err(Fail::NameTooLong));
    assert_eq!(c.create(&[b'n'; 21]), Err(CError::NameTooLong));
    assert_eq!(ours.apply(&create(20)), Ok(()));
    assert_eq!(c.create(&[b'n'; 20]), Ok(()));

    let path = vec![b'n'; 20];
    let write = |off, len| Call::Write { path: path.clone(), off, len, seed: 1 };
    assert_eq!(ours.apply(&write(0, 9000)), Ok(()));
    assert_eq!(c.write_at(&path, 0, &pattern(1, 9000)), Ok(()));
    assert_eq!(ours.apply(&write(9000, 1)), Err(Fail::TooLarge));
    assert_eq!(c.append(&path, &[0]), Err(CError::FBig));
    assert_eq!(ours.apply(&Call::Truncate { path: path.clone(), size: 9001 }), Err(Fail::TooLarge));

    let set = |len| Call::SetAttr { path: path.clone(), ty: 1, len, seed: 1 };
    assert_eq!(ours.apply(&set(51)), Err(Fail::TooLarge));
    assert_eq!(c.setattr(&path, 1, &[0; 51]), Err(CError::NoSpc));
    assert_eq!(ours.apply(&set(50)), Ok(()));
    assert_eq!(c.setattr(&path, 1, &pattern(1, 50)), Ok(()));

    ours.fs.flush().expect("flush");
    let mut theirs = CLfs::mount(ours.image(), &config).expect("C mounts what we wrote");
    let (want, have) = (c.tree(&[1]).expect("tree"), theirs.tree(&[1]).expect("tree"));
    diff("C's image", &want, "our image", &have).unwrap_or_else(|lines| panic!("{lines}"));
}

/// The comparison itself: C reads back what C has written.
#[test]
fn c_driver_reads_back_what_it_wrote() {
    for disk_version in [V2_0, V2_1] {
        for (block_size, prog_size) in
            [(128, 1), (128, 128), (512, 16), (4096, 256), (65536, 65536)]
        {
            let config = Config { disk_version, ..Config::new(block_size, 64, prog_size) };
            let mut c = CLfs::fresh(&config).expect("format and mount");
            c.mkdir(b"d").expect("mkdir");
            c.write_file(b"d/x", &[7; 3000]).expect("write");
            c.write_file(b"d/\xff", b"hello").expect("write");
            c.setattr(b"d/x", 0x74, b"time").expect("setattr");
            c.setattr(b"", 0x74, b"root").expect("setattr of the root");
            c.write_at(b"d/x", 100, b"mid").expect("overwrite");
            c.append(b"d/x", b"end").expect("append");
            c.truncate(b"d/\xff", 10).expect("truncate");
            assert_eq!(c.mkdir(b"d"), Err(CError::Exist));
            assert_eq!(c.remove(b"d"), Err(CError::NotEmpty));
            assert_eq!(c.stat(b"q"), Err(CError::NoEnt));

            let mut bytes = vec![7; 3000];
            bytes[100..103].copy_from_slice(b"mid");
            bytes.extend(b"end");
            let attr = |value: &[u8]| [(0x74, value.to_vec())].into();
            let want = Tree::from([
                (b"".to_vec(), Entry { attrs: attr(b"root"), ..Entry::dir() }),
                (b"d".to_vec(), Entry::dir()),
                (b"d/x".to_vec(), Entry { attrs: attr(b"time"), ..Entry::file(bytes) }),
                (b"d/\xff".to_vec(), Entry::file(b"hello\0\0\0\0\0".to_vec())),
            ]);
            let from_superblock = Config { block_count: 0, ..config };
            let mut c = CLfs::mount(c.unmount(), &from_superblock).expect("mount");
            diff("C", &c.tree(&[0x74]).expect("read"), "expected", &want).expect("same trees");
            assert_eq!(c.blocks().expect("traverse").len() as u32, c.fs_size().expect("size"));
            assert_eq!(c.fs_stat().expect("stat").disk_version, disk_version);
        }
    }
}

/// The comparison itself: it notices an image whose unwritten bytes are not erased.
#[test]
#[should_panic(expected = "C littlefs did what flash cannot")]
fn programming_dirty_bytes_is_noticed() {
    let config = Config { disk_version: V2_0, ..Config::new(512, 16, 16) };
    let mut image = CLfs::format(&config).expect("format");
    image[300] = 0;
    image[512 + 300] = 0;
    let mut c = CLfs::mount(image, &config).expect("mount");
    for i in 0..20 {
        _ = c.write_file(&[b'a' + i], b"content");
    }
}
