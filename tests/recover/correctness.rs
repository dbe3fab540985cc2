//! The most important property: what is called checked or complete is a version that the file of
//! that name has had.

use crate::histories::{Past, Shape};

pub const SHAPES: [Shape; 8] = [
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
    let power_cuts = 0;
    Shape { block_size, block_count, prog_size, dirs, names, same_size, block_cycles, power_cuts }
}

/// How many rounds there are for each shape. A long run sets more.
pub fn rounds() -> u64 {
    let rounds = std::env::var("RECOVER_ROUNDS").ok();
    rounds.map_or(6, |rounds| rounds.parse().expect("RECOVER_ROUNDS is a number"))
}

#[test]
fn nothing_wrong_is_called_checked_or_complete() {
    tell_the_truth(0);
}

/// A write that the power interrupts leaves no trace in any log. Complete results that this may
/// have changed say so; all others are right.
#[test]
fn nothing_wrong_is_called_checked_or_complete_after_power_cuts() {
    tell_the_truth(6);
}

/// A new directory without entries, in a block of an old root that had moved.
#[test]
fn a_directory_in_the_place_of_an_old_root() {
    let (number, seed) = (5, 28406);
    let (mut faults, mut sure) = (Vec::new(), [0; 2]);
    let mut past = Past::new(SHAPES[number], seed);
    assert!(look_at(&mut past, "this history", &mut faults, &mut sure), "the driver spoilt it");
    assert!(faults.is_empty() && sure[0] > 0, "{faults:?}");
}

fn tell_the_truth(power_cuts: usize) {
    let (mut faults, mut spoilt, mut interrupted) = (Vec::new(), 0, 0);
    let mut sure = [0; 2];
    for (number, shape) in SHAPES.into_iter().enumerate() {
        for round in 0..rounds() {
            let seed = round * 100 + number as u64 + 1;
            let mut past = Past::new(Shape { power_cuts, ..shape }, seed);
            let history = format!("shape {number}, seed {seed}");
            spoilt += u64::from(!look_at(&mut past, &history, &mut faults, &mut sure));
            interrupted += past.interrupted;
        }
    }
    let [checked, complete] = sure;
    println!(
        "power cuts: {interrupted}; checked: {checked}, complete: {complete}, wrong: {}; histories \
         that the driver spoilt: {spoilt}",
        faults.len()
    );
    assert!(checked > 0 && complete > 0 && (power_cuts == 0) == (interrupted == 0));
    assert!(spoilt * 100 <= rounds() * SHAPES.len() as u64, "{spoilt} histories were spoilt");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Continue a history, and recover from its image several times. Notes each wrong result in
/// `faults`, and adds the numbers of checked and complete results to `sure`. Returns false if the
/// driver spoilt the history, which then ends early.
fn look_at(
    past: &mut Past,
    history: &str,
    faults: &mut Vec<String>,
    sure: &mut [usize; 2],
) -> bool {
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
            let found = past.faults(sure);
            let when = format!("{history}, formatted over {formatted}, after {steps} more");
            faults.extend(found.into_iter().map(|fault| format!("{when}: {fault}")));
        }
    }
    true
}
