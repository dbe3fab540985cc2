//! The property that matters most: what is called checked or complete is a version that the file of
//! that name had.

use crate::past::{Past, Shape};

const SHAPES: [Shape; 8] = [
    shape(128, 96, 16, 0, 3, false, -1),
    shape(256, 64, 16, 2, 4, false, -1),
    shape(512, 48, 16, 2, 5, true, -1),
    shape(512, 40, 64, 0, 5, true, -1),
    shape(1024, 48, 64, 3, 5, false, 20),
    shape(2048, 40, 256, 1, 6, true, 5),
    shape(4096, 32, 256, 2, 6, false, -1),
    shape(4096, 64, 16, 0, 8, true, 100),
];

const fn shape(
    block_size: u32,
    block_count: u32,
    prog_size: u32,
    dirs: usize,
    names: usize,
    same_size: bool,
    block_cycles: i32,
) -> Shape {
    Shape { block_size, block_count, prog_size, dirs, names, same_size, block_cycles }
}

/// Rounds for each shape; a soak sets more.
fn rounds() -> u64 {
    let rounds = std::env::var("RECOVER_ROUNDS").ok();
    rounds.map_or(6, |rounds| rounds.parse().expect("RECOVER_ROUNDS is a number"))
}

#[test]
fn nothing_wrong_is_called_checked_or_complete() {
    let mut faults = Vec::new();
    for (number, shape) in SHAPES.into_iter().enumerate() {
        for round in 0..rounds() {
            let seed = round * 100 + number as u64 + 1;
            let mut past = Past::new(shape, seed);
            let mut look = |past: &mut Past, when: &str| {
                for fault in past.faults() {
                    faults.push(format!("shape {number}, seed {seed}, {when}: {fault}"));
                }
            };
            for steps in [10, 30, 100, 200] {
                (0..steps).for_each(|_| past.step());
                look(&mut past, &format!("after {steps} more"));
            }
            past.format();
            look(&mut past, "formatted over");
            for steps in [1, 10, 100] {
                (0..steps).for_each(|_| past.step());
                look(&mut past, &format!("formatted over, after {steps} more"));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
