//! Reading and writing at any place in a file.

use littlefs::error::Error;

use testkit::calls::{Fail, pattern};

use super::fixture::*;

/// Offsets near the ends of the first blocks, for every geometry.
fn boundaries(size: u32) -> Vec<u32> {
    let mut offsets: Vec<u32> = [512u32, 4096, 8192]
        .iter()
        .flat_map(|&block| [block, 2 * block - 4, 2 * block])
        .flat_map(|at| (at - 12..=at + 1).collect::<Vec<_>>())
        .chain([0, size.saturating_sub(23), size - 1])
        .filter(|&at| at < size)
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// The sizes of the files: inline, a few blocks, many blocks.
const SIZES: [u32; 4] = [44, 1452, 2200, 40_000];

#[test]
fn reads_at_any_offset() {
    for size in SIZES {
        on_each_geometry(|fixture| {
            fixture.fill("kitty", size, 1);
            // As written in memory, and as read back.
            for _ in 0..2 {
                let all = fixture.expected("kitty");
                for off in boundaries(size) {
                    for len in [1, 11, 600] {
                        let end = (off as usize + len).min(all.len());
                        assert_eq!(fixture.read("kitty", off.into(), len), all[off as usize..end]);
                    }
                }
                assert_eq!(fixture.read("kitty", size.into(), 10), b"");
                assert_eq!(fixture.read("kitty", u64::from(size) + 100, 10), b"");
                assert_eq!(fixture.read("kitty", u64::MAX, 10), b"");
                fixture.power_cycle();
            }
        });
    }
}

#[test]
fn writes_at_any_offset() {
    for size in SIZES {
        on_each_geometry(|fixture| {
            fixture.fill("kitty", size, 1);
            fixture.power_cycle();
            let file = fixture.open("kitty");
            for (i, off) in boundaries(size).into_iter().enumerate() {
                fixture.write("kitty", off, 11, i as u8);
                let near = u64::from(off.saturating_sub(20));
                let all = fixture.expected("kitty");
                let end = all.len().min(near as usize + 60);
                assert_eq!(fixture.read("kitty", near, 60), all[near as usize..end]);
                assert_eq!(fixture.read("kitty", 0, 11), all[..11]);
                if i % 8 == 7 {
                    fixture.flush();
                }
            }
            fixture.ours.fs.close_file(file);
        });
    }
}

/// A write behind the end of a file fills the gap with zeros.
#[test]
fn writes_behind_the_end() {
    for size in SIZES {
        for gap in [1, 22, 1100, 20_000] {
            on_each_geometry(|fixture| {
                fixture.fill("kitty", size, 1);
                fixture.power_cycle();
                fixture.write("kitty", size + gap, 11, 2);
                let zeros = fixture.read("kitty", size.into(), gap as usize);
                assert!(zeros.iter().all(|&b| b == 0));
                assert_eq!(fixture.read("kitty", u64::from(size + gap), 100), pattern(2, 11));
            });
        }
    }
}

/// A file written byte by byte, with reads and writes at its start in between.
#[test]
fn small_file_byte_by_byte() {
    for size in [2, 4, 128, 132] {
        on_each_geometry(|fixture| {
            fixture.create("tinykitty");
            let file = fixture.open("tinykitty");
            for i in 0..size {
                fixture.write("tinykitty", i, 1, i as u8 + 1);
                assert_eq!(fixture.ours.fs.file_size(file).expect("is open"), i + 1);
                fixture.write("tinykitty", 0, 1, i as u8 + 2);
                assert_eq!(
                    fixture.read("tinykitty", i.into(), 5),
                    fixture.expected("tinykitty")[i as usize..]
                );
                if i % 16 == 0 {
                    fixture.flush();
                }
            }
            fixture.ours.fs.close_file(file);
        });
    }
}

/// Files end at `file_max`. Offsets beyond it are refused and do not wrap around.
#[test]
fn offsets_at_the_limit() {
    on_each_geometry(|fixture| {
        fixture.fill("kitty", 100, 1);
        let file = fixture.open("kitty");
        let max = u64::from(fixture.ours.fs.superblock().file_max);
        for off in [max, max + 1, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let outcome = fixture.ours.fs.write(file, off, b"kitty");
            assert!(matches!(outcome, Err(Error::FileTooLarge)), "{off}: {outcome:?}");
        }
        for size in [max + 1, u64::from(u32::MAX) + 5, u64::MAX] {
            let outcome = fixture.ours.fs.truncate(file, size);
            assert!(matches!(outcome, Err(Error::FileTooLarge)), "{size}: {outcome:?}");
        }
        // Within the limit, but nowhere to put it.
        let outcome = fixture.ours.fs.write(file, max - 5, b"kitty");
        assert!(matches!(outcome, Err(Error::NoSpace)), "{outcome:?}");
        // The model that says what should happen holds the 2 GiB in memory.
        if cfg!(target_pointer_width = "64") {
            fixture.fails(truncate("kitty", max as u32), Fail::NoSpace);
        }
        assert_eq!(fixture.ours.fs.file_size(file).expect("is open"), 100);
        fixture.ours.fs.close_file(file);
    });
}
