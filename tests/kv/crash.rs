//! After a crash at any moment, every operation is complete or has not happened at all.

use std::sync::Arc;

use littlefs::bd::emu::crash::Crashes;
use littlefs::bd::emu::{EmuDevice, Event};
use littlefs::bd::{Geometry, RamDevice};
use littlefs::fs::{Fs, OpenOptions, ROOT};
use littlefs::kv::{Durability, Options, Store};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::helpers::{
    Content, assert_sound, connect_with, content, geometry, key, name, read_by_c,
};
use super::model::{Model, Op, apply, ops};

/// Multiplies the number of random images, for a long run.
fn factor() -> usize {
    std::env::var("LITTLEFS_CRASH_FACTOR").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

struct Run {
    geometry: Geometry,
    options: Options,
    base: Vec<u8>,
    log: Vec<Event>,
    /// The position in the log at which each operation ends, and the content of the store then.
    ends: Vec<(usize, Content)>,
}

fn run(geometry: Geometry, options: &Options, ops: &[Op]) -> Run {
    let dev = Arc::new(EmuDevice::new(geometry, Vec::new()));
    Store::format(&*dev).expect("format");
    dev.take_log();
    let base = dev.image();
    let store = Store::connect(dev.clone(), options).expect("connect");
    let mut model = Model::default();
    let mut ends = vec![(dev.log_len(), model.0.clone())];
    for op in ops {
        let mut next = model.clone();
        match (apply(&store, op).map_err(|e| name(&e)), next.apply(op)) {
            (Ok(()), Ok(())) => model = next,
            (Err("NoSpace"), _) => {}
            (got, expected) => assert_eq!(got, expected, "{op:?}"),
        }
        assert_eq!(content(&store), model.0, "{op:?}");
        assert!(
            dev.is_ordered() || options.durability == Durability::Ordered,
            "{op:?} is not durable"
        );
        ends.push((dev.log_len(), model.0.clone()));
    }
    store.disconnect().expect("disconnect");
    assert!(dev.is_ordered(), "the end is not durable");
    Run { geometry, options: options.clone(), base, log: dev.take_log(), ends }
}

/// The content that a store finds in an image after it has finished what was interrupted, and what
/// it has written for that.
fn recovered(run: &Run, image: &[u8], record: bool) -> (Content, Vec<u8>, Vec<Event>) {
    let dev = Arc::new(EmuDevice::new(run.geometry, image.to_vec()));
    let store = Store::connect(dev.clone(), &run.options).expect("connect after a crash");
    let found = content(&store);
    store.disconnect().expect("disconnect");
    let log = if record { dev.take_log() } else { Vec::new() };
    (found, dev.image(), log)
}

fn has(run: &Run, image: &[u8], name: &[u8]) -> bool {
    let dev = Arc::new(RamDevice::from_image(run.geometry, image.to_vec()));
    let mut fs =
        Fs::open(dev, &OpenOptions { read_only: true, ..OpenOptions::default() }).expect("open");
    fs.lookup(ROOT, name).is_ok()
}

/// Try crash images of everything that `ops` write. Returns how many there were.
fn explore(geometry: Geometry, options: &Options, ops: &[Op], samples: usize) -> (usize, usize) {
    let run = run(geometry, options, ops);
    let (mut images, mut interrupted) = (0, 0);
    for crash in Crashes::new(run.base.clone(), &run.log, samples, 1) {
        images += 1;
        let i = run.ends.partition_point(|(end, _)| *end < crash.reached);
        let (old, new) = (&run.ends[i.max(1) - 1].1, &run.ends[i].1);
        let op = i.checked_sub(1).map(|i| &ops[i]);
        let (found, image, log) = recovered(&run, &crash.image, true);
        assert!(found == *old || found == *new, "{op:?}, {}: {found:?}", crash.cut);
        let is_checked = images % 16 == 0;
        if has(&run, &crash.image, b".kv-batch") {
            interrupted += 1;
            assert!(found == *new, "{op:?}, {}: a redo value that is not applied", crash.cut);
            // read-only it is the same, and the image stays
            let ram = Arc::new(RamDevice::from_image(geometry, crash.image.clone()));
            let read_only = Options { read_only: true, ..options.clone() };
            assert!(content(&connect_with(&ram, &read_only)) == found);
            assert!(ram.image() == crash.image);
            if interrupted % 8 == 0 {
                // a crash while it is applied once more
                for again in Crashes::new(crash.image.clone(), &log, 4, 2) {
                    images += 1;
                    let (found, ..) = recovered(&run, &again.image, false);
                    assert!(found == *new, "{op:?}, {}, then {}", crash.cut, again.cut);
                }
            }
        }
        if is_checked {
            assert!(!has(&run, &image, b".kv-batch"));
            assert_sound(Arc::new(RamDevice::from_image(geometry, crash.image.clone())));
            assert_sound(Arc::new(RamDevice::from_image(geometry, image.clone())));
            assert!(read_by_c(geometry, image) == found, "C reads something else");
        }
    }
    (images, interrupted)
}

fn set(path: &str, seed: usize, len: usize) -> Op {
    Op::Set(key(path), seed, len)
}

fn rename(source: &str, dest: &str) -> Op {
    Op::Rename(key(source), key(dest))
}

fn remove(path: &str) -> Op {
    Op::Remove(key(path))
}

const GEOMETRIES: [(u32, u32); 3] = [(128, 400), (512, 120), (4096, 40)];

/// How many images were tried, and how many of them had a redo value.
fn explore_all(ops: &[Op], samples: usize) -> (usize, usize) {
    let (mut images, mut interrupted) = (0, 0);
    for (block_size, block_count) in GEOMETRIES {
        let options =
            Options { block_cycles: (block_size == 128).then_some(5), ..Options::default() };
        let geometry = geometry(block_size, block_count);
        let found = explore(geometry, &options, ops, samples * factor());
        images += found.0;
        interrupted += found.1;
    }
    (images, interrupted)
}

/// Fails unless a test covers as many images as before.
fn at_least(least: (usize, usize), (images, interrupted): (usize, usize)) {
    println!("{images} images, {interrupted} with a redo value");
    assert!(images >= least.0 && interrupted >= least.1, "{images}, {interrupted}");
}

#[test]
fn values_are_old_or_new() {
    let mut ops = Vec::new();
    for (seed, len) in [(1, 10), (2, 900), (3, 0), (4, 1500), (5, 60), (6, 3000)] {
        ops.push(set("a", seed, len));
        ops.push(set("deep/down/b", seed, 900 - len.min(900)));
        ops.push(Op::SetPartial(key("a"), len / 2, seed + 10, 300));
    }
    ops.push(Op::Allocate(key("zeros"), 700));
    ops.extend([remove("a"), remove("zeros"), remove("deep/down/b")]);
    at_least((800, 0), explore_all(&ops, 60));
}

#[test]
fn renames_and_removals_are_whole() {
    let mut ops = Vec::new();
    for i in 0..12 {
        ops.push(set(&format!("d/{i:02}"), i, i * 40));
        ops.push(set(&format!("d/e/{i:02}"), i, 20));
    }
    ops.extend([
        rename("d/00", "x"),
        rename("x", "d/e/01"),
        rename("d/e", "moved/e"),
        rename("moved", "d"),
        rename("d/moved/e/03", "d/02"),
        remove("d/moved/e"),
        rename("d", "all"),
        remove("all"),
        set("all/again", 1, 1),
    ]);
    // dictionaries of several pairs inside of another
    for i in 0..30 {
        ops.push(set(&format!("all/{i:02}"), i, 30));
        ops.push(set(&format!("all/of/{i:02}"), i, 30));
        ops.push(set(&format!("all/of/them/{i:02}"), i, 30));
    }
    ops.push(remove("all"));
    at_least((350, 0), explore_all(&ops, 60));
}

/// A batch that is refused never has a redo value on disk, so no crash can leave one that cannot be
/// applied. And a batch for which there is just enough space must be made.
#[test]
fn batches_of_full_stores_are_made_or_refused_as_before_the_crash() {
    let batches = [
        vec![set("a/x", 1, 700), set("b/y", 2, 700), set("f0", 3, 20)],
        vec![remove("f1"), set("a/x", 1, 900), set("n/e/w", 2, 30)],
        vec![remove("f0"), remove("f1"), remove("f2"), set("f3/in", 1, 1200), set("a", 2, 10)],
        vec![rename("f0", "d/f0"), rename("f1", "d/f1"), set("f2", 5, 500), set("e/z", 4, 400)],
    ];
    let (mut refused, mut made) = (0, (0, 0));
    for (n, batch) in batches.into_iter().enumerate() {
        for filled in 20..40 {
            let mut ops: Vec<Op> = (0..filled).map(|i| set(&format!("f{i}"), i, 500)).collect();
            if n == 2 {
                ops.push(remove("f3"));
            }
            ops.push(Op::Batch(batch.clone(), true));
            let geometry = geometry(512, 48);
            let run = run(geometry, &Options::default(), &ops);
            let [.., (before, old), (_, new)] = &run.ends[..] else { panic!("no operations") };
            refused += usize::from(old == new);
            for crash in Crashes::new(run.base.clone(), &run.log, 4, 1) {
                if crash.reached <= *before {
                    continue;
                }
                let has_redo = has(&run, &crash.image, b".kv-batch");
                made = (made.0 + 1, made.1 + usize::from(has_redo));
                assert!(!has_redo || old != new, "{n}, {filled} values, {}", crash.cut);
                let (found, image, log) = recovered(&run, &crash.image, true);
                assert!(found == *old || found == *new, "{n}, {filled} values, {}", crash.cut);
                assert!(!has_redo || found == *new, "{n}, {filled} values, {}", crash.cut);
                assert!(!has(&run, &image, b".kv-batch"));
                assert_sound(Arc::new(RamDevice::from_image(geometry, image)));
                // a crash while it is applied or dropped
                for again in Crashes::new(crash.image.clone(), &log, 2, 2).step_by(7) {
                    let (found_again, ..) = recovered(&run, &again.image, false);
                    assert!(found_again == found, "{n}, {filled}, {}, {}", crash.cut, again.cut);
                }
            }
        }
    }
    assert!(refused >= 10, "{refused}");
    at_least((500, 100), made);
}

#[test]
fn batches_are_there_wholly_or_not_at_all() {
    let batch = |ops: &[Op]| Op::Batch(ops.to_vec(), true);
    let mut ops: Vec<Op> = (0..8).map(|i| set(&format!("c/{i}"), i, 10)).collect();
    ops.extend([
        // one commit
        batch(&[set("c/0", 50, 9), set("c/1", 51, 10), remove("c/2")]),
        // one or several, by the size of blocks
        batch(&[set("c/0", 52, 10), set("c/7", 53, 10)]),
        // several
        batch(&[set("a", 1, 700), set("b", 2, 5), set("c/3", 3, 1200), set("n/e/w", 4, 9)]),
        batch(&[remove("c"), set("c/only", 5, 30), rename("n", "m"), remove("a")]),
        batch(&[rename("m/e/w", "b"), set("m", 6, 40)]),
        batch(&(0..40).map(|i| set(&format!("many/{i:02}"), i, 30)).collect::<Vec<_>>()),
        batch(&(0..40).map(|i| remove(&format!("many/{i:02}"))).collect::<Vec<_>>()),
        batch(&[
            set("many", 7, 2000),
            Op::SetPartial(key("b"), 3, 8, 500),
            Op::Allocate(key("z"), 300),
        ]),
        batch(&[remove("many"), remove("b"), remove("c"), remove("m"), remove("z")]),
    ]);
    at_least((3000, 500), explore_all(&ops, 60));
}

#[test]
fn random_operations() {
    let mut runner = TestRunner::deterministic();
    let mut sum = (0, 0);
    for _ in 0..40 {
        let ops = prop::collection::vec(ops(), 60).new_tree(&mut runner).expect("operations");
        let found = explore_all(&ops.current(), 20);
        sum = (sum.0 + found.0, sum.1 + found.1);
    }
    at_least((1000, 100), sum);
}

/// Try crash images of everything that `ops` write without waiting for the medium. Each must show
/// the store after some operation, and nothing may be missing that was before a barrier. Returns
/// how many images there were, and how many of them had lost an operation that had returned.
fn explore_ordered(geometry: Geometry, ops: &[Op], samples: usize) -> (usize, usize) {
    let options = Options { durability: Durability::Ordered, ..Options::default() };
    let run = run(geometry, &options, ops);
    let (mut images, mut undone) = (0, 0);
    for crash in Crashes::new(run.base.clone(), &run.log, samples, 1) {
        images += 1;
        let last = run.ends.partition_point(|(end, _)| *end < crash.reached);
        let last = last.min(run.ends.len() - 1);
        let is_ordered = |end: usize| {
            end <= crash.reached
                && run.log[end.saturating_sub(1)..crash.reached].contains(&Event::Barrier)
        };
        let first = (0..last).rev().find(|&i| is_ordered(run.ends[i].0)).unwrap_or(0);
        let (found, image, _) = recovered(&run, &crash.image, false);
        let at = run.ends[first..=last].iter().rposition(|(_, content)| *content == found);
        let Some(at) = at else {
            panic!("{:?}, {}: {found:?}", &ops[first.saturating_sub(1)..last], crash.cut);
        };
        // the last operation was interrupted, those before it had returned
        undone += usize::from(first + at + 1 < last);
        if images % 16 == 0 {
            assert_sound(Arc::new(RamDevice::from_image(geometry, crash.image.clone())));
            assert_sound(Arc::new(RamDevice::from_image(geometry, image.clone())));
            assert!(read_by_c(geometry, image) == found, "C reads something else");
        }
    }
    (images, undone)
}

/// Without waiting for the medium, a crash can undo the newest operations, but always leaves the
/// store as it was after one of them.
#[test]
fn operations_that_are_only_ordered_are_undone_from_the_end() {
    let batch = |of: &[Op]| Op::Batch(of.to_vec(), true);
    let mut steps: Vec<Op> = (0..30).map(|i| set(&format!("c/{i:02}"), i, 10 + i % 3)).collect();
    for i in 0..12 {
        steps.extend([set("c/03", 40 + i, 9), set("a", i, 400), set(&format!("d{i}/x"), i, 12)]);
        steps.push(batch(&[set("c/00", i, 9), set("c/01", i, 10), remove("c/02")]));
        steps.push(batch(&[set("big", i, 700), set("b", i, 5), set("n/e/w", 4, 9)]));
        steps.push(rename("c/03", "e"));
    }
    steps.extend([remove("c"), rename("n", "m"), remove("m"), set("end", 1, 900)]);
    let mut sum = (0, 0);
    for (block_size, block_count) in GEOMETRIES {
        let found = explore_ordered(geometry(block_size, block_count), &steps, 20 * factor());
        sum = (sum.0 + found.0, sum.1 + found.1);
    }
    let mut runner = TestRunner::deterministic();
    for _ in 0..10 {
        let random = prop::collection::vec(ops(), 60).new_tree(&mut runner);
        let steps = random.expect("operations").current();
        for (block_size, block_count) in GEOMETRIES {
            let found = explore_ordered(geometry(block_size, block_count), &steps, 10 * factor());
            sum = (sum.0 + found.0, sum.1 + found.1);
        }
    }
    println!("{} images, in {} of them operations were undone", sum.0, sum.1);
    assert!(sum.0 >= 1000 && sum.1 >= 50, "{sum:?}");
}

/// Batches among sets that nobody waited for. What was not durable may be there or not, a batch
/// only completely. A batch makes everything before it durable, too.
#[test]
fn batches_among_changes_that_wait() {
    let geometry = geometry(512, 120);
    let dev = Arc::new(EmuDevice::new(geometry, Vec::new()));
    Store::format(&*dev).expect("format");
    dev.take_log();
    let base = dev.image();
    let options = Options { durable: false, ..Options::default() };
    let store = Store::connect(dev.clone(), &options).expect("connect");
    let mut ends = Vec::new();
    for round in 0..6_u8 {
        for i in 0..5 {
            store.set(&key(&format!("loose/{i}")), &[round; 90]).expect("set");
        }
        store
            .batch(|b| {
                (0..5).try_for_each(|i| b.set(&key(&format!("d{i}/together")), &[round; 40]))
            })
            .expect("batch");
        ends.push(dev.log_len());
    }
    let log = dev.take_log();
    let mut images = 0;
    for crash in Crashes::new(base, &log, 10, 1) {
        images += 1;
        let ram = Arc::new(RamDevice::from_image(geometry, crash.image));
        let found = content(&connect_with(&ram, &options));
        let done = ends.partition_point(|end| *end < crash.reached) as u8;
        let of = |prefix: &str| -> Vec<u8> {
            let all = found.iter().filter(|(k, _)| k.to_string().contains(prefix));
            all.map(|(_, v)| v[0]).collect()
        };
        let (together, loose) = (of("together"), of("loose"));
        assert!(together.windows(2).all(|w| w[0] == w[1]), "{together:?}, {}", crash.cut);
        assert!(matches!(together.len(), 0 | 5), "{together:?}");
        let round = together.first().map_or(0, |r| r + 1);
        assert!(round >= done, "batch {done} was durable");
        let oldest = loose.iter().min().map_or(0, |r| r + 1);
        assert!(round == 0 || (loose.len() == 5 && oldest >= round), "{loose:?} with {together:?}");
    }
    assert!(images > 100, "{images}");
}
