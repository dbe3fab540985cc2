//! Inline files that grow, shrink, leave their pair and are removed next to each other.

use littlefs::fs::OpenOptions;

use testkit::clfs::Config;

use super::fixture::*;

/// What is done with a neighbour.
#[derive(Clone, Copy)]
enum Step {
    Write(usize, u32),
    Remove(usize),
}
use Step::{Remove, Write};

/// The scripts. The sizes are below and above the inline limit of 256 bytes. Three files of 200
/// bytes, with their names, need a split of a block of 2048 bytes when it is compacted.
const SCRIPTS: [(&str, &[Step]); 6] = [
    ("grow", &[Write(0, 20), Write(1, 20), Write(2, 20), Write(3, 20), Write(1, 200)]),
    ("shrink", &[Write(0, 20), Write(1, 200), Write(2, 20), Write(3, 20), Write(1, 20)]),
    ("spill", &[Write(0, 200), Write(1, 200), Write(2, 200), Write(3, 200)]),
    ("push spill", &[Write(0, 200), Write(1, 20), Write(2, 200), Write(3, 200), Write(1, 200)]),
    (
        "push spill two",
        &[Write(0, 200), Write(1, 20), Write(2, 200), Write(3, 200), Write(4, 200), Write(1, 200)],
    ),
    (
        "drop",
        &[
            Write(0, 200),
            Write(1, 200),
            Write(2, 200),
            Write(3, 200),
            Remove(1),
            Remove(2),
            Remove(3),
            Remove(0),
        ],
    ),
];

#[test]
fn neighbours_of_inline_files() {
    for (what, steps) in SCRIPTS {
        for (block_size, prog_size, factor) in [(2048, 16, 1), (4096, 256, 2), (2048, 512, 1)] {
            for each_time in [false, true] {
                let config = Config { cache_size: 512, ..Config::new(block_size, 64, prog_size) };
                let inline_max = Some(block_size / 8);
                let prog_size = Some(prog_size);
                let options = OpenOptions { prog_size, inline_max, ..OpenOptions::default() };
                let mut fixture = Fixture::with(config, options);
                for (n, step) in steps.iter().enumerate() {
                    match *step {
                        Write(i, len) => fixture.fill(&format!("hi{i}"), len * factor, n as u8),
                        Remove(i) => fixture.unlink(&format!("hi{i}")),
                    }
                    if each_time {
                        fixture.power_cycle();
                    }
                    fixture.compare(what);
                }
                fixture.power_cycle();
            }
        }
    }
}

/// A long name and a content that fit into a pair separately, but not together.
#[test]
fn entry_too_big_for_its_block_is_not_inline() {
    on_each_geometry(|fixture| {
        let name = "m".repeat(200);
        fixture.fill(&name, 400, 1);
        fixture.power_cycle();
        fixture.unlink(&name);
        fixture.fill(&name, 40, 2);
        fixture.power_cycle();
        fixture.fill(&name, 400, 3);
    });
}
