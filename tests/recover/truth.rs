//! The most important property: what is called checked or complete is a version that the file of
//! that name has had.

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

/// How many rounds there are for each shape. A long run sets more.
fn rounds() -> u64 {
    let rounds = std::env::var("RECOVER_ROUNDS").ok();
    rounds.map_or(6, |rounds| rounds.parse().expect("RECOVER_ROUNDS is a number"))
}

#[test]
fn nothing_wrong_is_called_checked_or_complete() {
    let (mut faults, mut spoilt) = (Vec::new(), 0);
    for (number, shape) in SHAPES.into_iter().enumerate() {
        for round in 0..rounds() {
            let seed = round * 100 + number as u64 + 1;
            let mut past = Past::new(shape, seed);
            let history = format!("shape {number}, seed {seed}");
            spoilt += u64::from(!look_at(&mut past, &history, &mut faults));
        }
    }
    println!("histories that the driver spoilt: {spoilt}");
    assert!(spoilt * 100 <= rounds() * SHAPES.len() as u64, "{spoilt} histories were spoilt");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Let a history continue, and from time to time note what is wrong with what is recovered. Returns
/// whether the history came to its end.
fn look_at(past: &mut Past, history: &str, faults: &mut Vec<String>) -> bool {
    let parts = [(false, &[10, 30, 100, 200][..]), (true, &[0, 1, 10, 100])];
    for (formatted, steps) in parts {
        if formatted {
            past.format();
        }
        for steps in steps {
            (0..*steps).for_each(|_| past.step());
            if past.spoilt {
                return false;
            }
            let found = past.faults();
            let when = format!("{history}, formatted over {formatted}, after {steps} more");
            faults.extend(found.into_iter().map(|fault| format!("{when}: {fault}")));
        }
    }
    true
}
