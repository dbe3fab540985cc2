//! Crash safety: workloads over an emulated device, and every kind of image that a crash can leave
//! at any moment.
//!
//! Environment: `LITTLEFS_CRASH_FACTOR` multiplies the number of random images.

mod explore;
mod oracle;
mod random;
mod resizing;
mod script;
mod verify;

use std::collections::BTreeMap;

use explore::{explore, explore_all, try_run};
use littlefs::bd::RamDevice;
use littlefs::bd::emu::{BadBlock, Event};
use littlefs::disk::{Pair, Superblock};
use littlefs::fs::Durability;
use littlefs::mdir::store;
use random::random;
use script::{BAD_BLOCKS, BadBlocks, Script, Setup, run};
use testkit::clfs::V2_0;

/// Geometries for most workloads.
const SETUPS: [Setup; 5] = [
    Setup::new(128, 160, 16),
    Setup::new(128, 160, 128),
    Setup::new(512, 64, 16),
    Setup::new(4096, 24, 256),
    Setup { version: V2_0, ..Setup::new(512, 64, 64) },
];

#[test]
fn files() {
    let mut s = Script::new();
    s.mkdir("d").create("d/inline", 20).create("d/blocks", 700).create("e", 0).flush();
    s.write("d/inline", 20, 10).write("d/blocks", 700, 300).flush();
    s.write("d/inline", 3, 5).write("d/blocks", 100, 50).attr("e", 5).flush();
    s.truncate("d/inline", 4).truncate("d/blocks", 650).attr("e", 9).flush();
    s.truncate("d/blocks", 10).write("d/inline", 0, 400).attr("d", 3).attr("", 3).flush();
    s.unlink("d/blocks").unlink("d/inline").rmdir("d").flush();
    at_least(300, explore_all("files", &SETUPS, &s, 30));
}

#[test]
fn renames() {
    let mut s = Script::new();
    s.mkdir("a").mkdir("b").mkdir("c").flush();
    s.create("a/x", 10).create("b/y", 300).create("c/z", 3).mkdir("d").create("d/f", 9).flush();
    s.rename("a/x", "b/x").rename("b/x", "c/x").flush();
    s.rename("c/x", "a/x").flush();
    s.rename("a/x", "b/x").rename("b/y", "a/y").flush();
    s.mkdir("e").rename("d/f", "e/f").rmdir("d").flush();
    s.create("a/n", 5).rename("a/n", "b/n").flush();
    s.rename("a/y", "c/z").flush();
    s.mkdir("a/sub").flush();
    s.mkdir("b/sub").flush();
    s.rename("a/sub", "b/sub").flush();
    s.rename("b/sub", "top").rename("top", "c/sub").flush();
    at_least(350, explore_all("renames", &SETUPS, &s, 30));
}

/// An entry that replaces a durable name is itself replaced by an entry of another pair.
#[test]
fn a_name_replaced_twice() {
    let mut s = Script::new();
    s.create("a4", 0).create("b8", 0).flush();
    s.create("b1", 0).rename("b1", "b8").rename("a4", "b8").flush();
    at_least(10, explore_all("replaced", &FAILING, &s, 30));
}

#[test]
fn directories() {
    let mut s = Script::new();
    s.mkdir("d").fill("d/f", 20, 12).flush();
    s.mkdir("d/m0").mkdir("d/z1").mkdir("d/a2").flush();
    s.rename("d/f19", "gone").rename("d/f10", "d/z1/in").flush();
    s.fill("d/g", 12, 30).rename("d/f15", "d/m0/late").flush();
    for i in 0..15 {
        s.unlink(&format!("d/f{:02}", i + if i > 9 { 1 } else { 0 }));
        if i % 5 == 0 {
            s.flush();
        }
    }
    s.flush();
    at_least(300, explore_all("directories", &SETUPS, &s, 20));
}

/// Pairs are compacted several times in one flush, because each of its commits fills a block.
#[test]
fn compactions() {
    let mut s = Script::new();
    s.mkdir("a").mkdir("b").fill("a/x", 3, 4).fill("b/y", 3, 4).flush();
    s.rename("a/x00", "b/x00").rename("b/y00", "a/y00").attr("a/x01", 5).attr("b/y01", 5).flush();
    s.rename("a/x01", "b/x01").rename("b/y01", "a/y01").rename("a/x02", "b/y02").flush();
    s.attr("a/y00", 7).write("b/x00", 1, 9).mkdir("a/n").rename("b/x01", "a/x01").flush();
    let setups = [
        Setup::new(512, 64, 512),
        Setup { version: V2_0, ..Setup::new(256, 100, 256) },
        Setup { block_cycles: Some(2), ..Setup::new(512, 64, 512) },
    ];
    for setup in &setups {
        let most = most_erases_in_a_flush(setup, &s);
        assert!(most >= 2, "{setup:?}: no flush compacts a pair three times");
    }
    at_least(140, explore_all("compactions", &setups, &s, 60));
}

/// The largest number of times that one flush erases a block. A pair is compacted into its two
/// blocks by turns.
fn most_erases_in_a_flush(setup: &Setup, script: &Script) -> usize {
    let run = run(setup, &script.steps).expect("the workload runs");
    let block_size = setup.block_size as usize;
    let mut begin = 0;
    let mut most = 0;
    for segment in &run.segments {
        let mut erases = BTreeMap::<usize, usize>::new();
        for event in &run.log[begin..segment.end] {
            match event {
                Event::Write { start, data }
                    if data.len() == block_size && data.iter().all(|&b| b == 0xff) =>
                {
                    *erases.entry(start / block_size).or_default() += 1;
                }
                _ => {}
            }
        }
        most = erases.into_values().fold(most, usize::max);
        begin = segment.end;
    }
    most
}

#[test]
fn superblock_expansion() {
    let mut s = Script::new();
    s.mkdir("d").create("top", 9).create("d/f", 300).flush();
    for round in 0..12 {
        s.attr("", 3 + round % 3).write("top", 0, 9 + round).flush();
        if round % 4 == 1 {
            let name = |n| format!("f{n}");
            s.create(&name(round), 5).rename("d/f", "moved").rename("moved", "d/f").flush();
        }
    }
    let setups = [
        Setup { block_cycles: Some(2), ..Setup::new(128, 160, 128) },
        Setup { block_cycles: Some(1), ..Setup::new(512, 64, 512) },
        Setup { block_cycles: Some(2), version: V2_0, ..Setup::new(512, 64, 256) },
    ];
    for setup in &setups {
        let image = run(setup, &s.steps).expect("the workload runs").image();
        let dev = RamDevice::from_image(setup.geometry(), image);
        let anchor = store::fetch(&dev, Pair::SUPERBLOCK).expect("a superblock").log;
        let next = anchor.tail.filter(|tail| tail.hard).expect("a pair behind it");
        let root = store::fetch(&dev, next.pair).expect("a pair").log;
        assert!(Superblock::of(&root).is_some(), "{setup:?}: not expanded");
    }
    at_least(300, explore_all("expansion", &setups, &s, 60));
}

/// The number of distinct images for random workloads on one setup.
fn random_workloads(name: &str, setup: Setup, seeds: std::ops::Range<u64>, sizes: &[u32]) -> usize {
    seeds
        .map(|seed| {
            let batch = [4, 12, 30][seed as usize % 3];
            let script = random(seed, 25, batch, sizes);
            explore(&format!("{name}-{seed}"), &setup, &script.steps, 30)
        })
        .sum()
}

/// Fails unless a test covers as many images as before.
fn at_least(least: usize, n: usize) {
    println!("{n} distinct images");
    assert!(n >= least, "only {n} crash images, not {least}");
}

#[test]
fn random_small_blocks() {
    let setup = Setup::new(128, 400, 16);
    at_least(20_000, random_workloads("small", setup, 0..25, &[0, 9, 40, 200]));
}

#[test]
fn random_small_blocks_programmed_whole() {
    let setup = Setup::new(128, 400, 128);
    at_least(10_000, random_workloads("whole", setup, 200..215, &[0, 9, 30, 200]));
}

#[test]
fn random_ordinary_blocks() {
    let setup = Setup::new(512, 100, 16);
    at_least(30_000, random_workloads("ordinary", setup, 100..150, &[0, 9, 60, 900]));
}

#[test]
fn random_ordinary_blocks_of_version_2_0() {
    let setup = Setup { version: V2_0, ..Setup::new(512, 100, 64) };
    at_least(10_000, random_workloads("old", setup, 300..320, &[0, 9, 60, 900]));
}

#[test]
fn random_large_blocks() {
    let setup = Setup::new(4096, 40, 256);
    at_least(10_000, random_workloads("large", setup, 400..412, &[0, 9, 60, 9000]));
}

#[test]
fn random_wear_levelling() {
    let setup = Setup { block_cycles: Some(3), ..Setup::new(128, 400, 16) };
    at_least(15_000, random_workloads("wear", setup, 500..515, &[0, 9, 40, 200]));
    let setup = Setup { block_cycles: Some(2), ..Setup::new(512, 100, 16) };
    at_least(8_000, random_workloads("wear-512", setup, 520..536, &[0, 9, 40, 700]));
}

#[test]
fn random_with_little_space() {
    let setup = Setup::new(512, 22, 16);
    at_least(3_000, random_workloads("full", setup, 600..615, &[0, 60, 900, 2500]));
    let setup = Setup::new(128, 60, 16);
    at_least(3_000, random_workloads("full-128", setup, 620..635, &[0, 60, 300]));
}

/// The setup with flushes that do not wait for their last writes.
fn ordered(setup: Setup) -> Setup {
    Setup { durability: Durability::Ordered, ..setup }
}

/// A flush that leaves its last writes to a later barrier can be undone by a crash, but only
/// together with all flushes after it.
#[test]
fn flushes_that_are_only_ordered() {
    let mut s = Script::new();
    s.mkdir("d").flush().create("a", 20).flush().create("d/b", 20).flush();
    for round in 0..8 {
        s.attr("a", 5 + round % 2).flush().attr("d/b", 5).flush();
        s.write("a", 0, 9).flush().write("a", 3, 9).flush();
    }
    s.create("d/big", 900).flush().rename("a", "d/a").flush().write("d/big", 0, 800).flush();
    s.unlink("d/b").flush().truncate("d/big", 0).flush().create("e", 700).flush();
    let setups = SETUPS.map(ordered);
    at_least(300, explore_all("ordered", &setups, &s, 30));
    for setup in setups {
        let of = |setup: &Setup| run(setup, &s.steps).expect("the workload runs").barriers();
        let (ordered, full) = (of(&setup), of(&Setup { durability: Durability::Full, ..setup }));
        // in blocks that are programmed as a whole, no two commits are in one sector
        let fewest = if setup.prog_size < setup.block_size { full - 1 } else { full };
        assert!(ordered <= fewest, "{setup:?}: {ordered} barriers, {full} if all are waited for");
    }
}

#[test]
fn random_flushes_that_are_only_ordered() {
    let workloads = [
        (Setup::new(128, 400, 16), 10, [0, 9, 40, 200]),
        (Setup::new(512, 100, 16), 20, [0, 9, 60, 900]),
        (Setup { version: V2_0, ..Setup::new(512, 100, 64) }, 8, [0, 9, 60, 900]),
        (Setup::new(4096, 40, 16), 12, [0, 9, 60, 9000]),
        (Setup { block_cycles: Some(3), ..Setup::new(128, 400, 16) }, 8, [0, 9, 40, 200]),
        (Setup::new(512, 22, 16), 12, [0, 60, 900, 2500]),
    ];
    let mut n = 0;
    for (i, (setup, runs, sizes)) in (0..).zip(workloads) {
        for seed in 0..runs {
            // mostly flushes of a single operation
            let script = random(800 + 100 * i + seed, 40, [1, 2, 5][seed as usize % 3], &sizes);
            n += explore(&format!("ordered-{i}-{seed}"), &ordered(setup), &script.steps, 20);
        }
    }
    at_least(14_000, n);
}

/// Shapes of images in which blocks fail: with pairs that append, and with pairs that never do.
const FAILING: [Setup; 5] = [
    Setup::new(128, 600, 16),
    Setup::new(128, 600, 128),
    Setup::new(512, 200, 512),
    Setup { block_cycles: Some(3), ..Setup::new(128, 900, 16) },
    Setup { block_cycles: Some(2), ..Setup::new(128, 900, 128) },
];

/// A workload, and the blocks that fail during it.
fn failing(setup: Setup, mode: BadBlock, seed: u64) -> (Setup, Script) {
    let setup = Setup { bad_blocks: Some(BadBlocks::new(mode, seed)), ..setup };
    (setup, random(seed, 20, [4, 12, 30][seed as usize % 3], &[0, 9, 40, 300]))
}

/// Blocks fail while entries are created, renamed and removed. Nothing is lost, nothing panics, and
/// C finds nothing to repair.
#[test]
fn random_workloads_around_bad_blocks() {
    let runs = 4 * explore::factor() as u64;
    for (i, setup) in (0..).zip(FAILING) {
        for (k, mode) in (0..).zip(BAD_BLOCKS) {
            let mut failed = Vec::new();
            for n in 0..runs {
                let seed = 10_000_000 * i + 1_000_000 * k + n;
                let (setup, script) = failing(setup, mode, seed);
                if let Err(why) = try_run(&setup, &script.steps) {
                    failed.push(format!("seed {seed}: {why}"));
                }
            }
            assert!(
                failed.is_empty(),
                "{setup:?}, {mode:?}: {} of {runs}: {failed:#?}",
                failed.len()
            );
        }
    }
}

/// The same with a power loss at any moment.
#[test]
fn random_crashes_around_bad_blocks() {
    let mut n = 0;
    for (i, setup) in (0..).zip(FAILING) {
        for (k, mode) in (0..).zip([BadBlock::ProgError, BadBlock::EraseNoop]) {
            let (setup, script) = failing(setup, mode, 700 + 10 * i + k);
            n += explore(&format!("bad-{i}-{k}"), &setup, &script.steps, 5);
        }
    }
    at_least(1_000, n);
}

#[test]
fn a_new_directory_in_a_new_directory_is_written_before_it_is_named() {
    let mut s = Script::new();
    s.mkdir("quite-long-0").create("quite-long-0/quite-long-1", 0).mkdir("quite-long-8");
    s.mkdir("quite-long-0/a4").rename("quite-long-0", "quite-long-8/a2");
    s.mkdir("quite-long-8/a2/a7").mkdir("quite-long-8/a2/a7/b3").flush();
    explore("nested", &Setup::new(128, 400, 16), &s.steps, 30);
}

#[test]
fn a_file_renamed_in_its_directory_and_then_out_of_it_has_one_name() {
    let mut s = Script::new();
    s.mkdir("a").mkdir("b").create("a/x", 700).flush();
    s.rename("a/x", "a/y").rename("a/y", "b/z").flush();
    s.create("a/n", 3).rename("b/z", "b/w").rename("a/n", "b/w").flush();
    s.create("a/n", 3).flush().rename("b/w", "b/v").rename("a/n", "b/v").flush();
    explore_all("twice", &SETUPS, &s, 30);
}

#[test]
fn a_changed_file_that_a_move_replaces_is_old_until_then() {
    let mut s = Script::new();
    s.mkdir("d").fill("d/a", 12, 30).fill("d/z", 12, 30).mkdir("e").create("e/q", 900).flush();
    s.truncate("d/a00", 623).rename("d/z11", "d/a00").flush();
    s.write("d/a01", 0, 500).rename("e/q", "d/a01").flush();
    explore_all("replaced", &SETUPS, &s, 30);
}

#[test]
fn a_pair_that_waits_for_a_move_is_never_empty() {
    let mut s = Script::new();
    s.mkdir("b0").create("b6", 0).create("b7", 0).flush();
    s.rename("b0", "a7").write("b7", 222, 101).flush();
    s.mkdir("a8").create("b4", 9).rename("b6", "a7/b4").rmdir("a8").flush();
    s.mkdir("b0").rename("a7/b4", "a8").flush();
    explore("waiting", &Setup::new(128, 400, 16), &s.steps, 30);
}
