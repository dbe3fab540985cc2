//! Damage of all kinds to one metadata log, before and after the C driver has written more.

use littlefs::disk::dissect::Dissection;

use crate::correctness::{SHAPES, rounds};
use crate::histories::Past;
use testkit::clfs::{V2_0, V2_1};
use testkit::random::Random;

/// A metadata block: its position in the image, and its commits.
struct Log {
    start: usize,
    taken: Dissection,
}

/// All blocks of the image that hold a valid commit.
fn logs(image: &[u8], block_size: usize) -> Vec<Log> {
    let blocks = image.chunks(block_size).enumerate().filter_map(|(number, bytes)| {
        let taken = Dissection::of(bytes).filter(|taken| !taken.commits.is_empty())?;
        Some(Log { start: number * block_size, taken })
    });
    blocks.collect()
}

/// Damage one log: a bit, some bytes, a tag, a whole commit, or the start of its block.
fn damage(image: &mut [u8], block_size: usize, random: &mut Random) -> String {
    let logs = logs(image, block_size);
    let Log { start, taken } = &logs[random.below(logs.len())];
    let start = *start;
    let commit = match random.below(3) {
        0 => taken.commits.last().expect("not empty"),
        _ => &taken.commits[random.below(taken.commits.len())],
    };
    let (from, to) = (start + commit.start as usize, start + commit.end as usize);
    let at = from + random.below(to - from);
    let tag = start + commit.tags[random.below(commit.tags.len())].off as usize;
    let fill = [0, 0xff, 0x5a][random.below(3)];
    let what = match random.below(6) {
        0 => {
            image[at] ^= 1 << random.below(8);
            at..at + 1
        }
        1 => {
            image[tag + random.below(4)] ^= 1 << random.below(8);
            tag..tag + 4
        }
        2 => {
            let end = (at + 1 + random.below(16)).min(start + block_size);
            image[at..end].fill(fill);
            at..end
        }
        3 => {
            image[tag..tag + 4].fill(fill);
            tag..tag + 4
        }
        4 => {
            // if the last commit were erased, this would be an earlier state without damage
            image[from..to].fill(fill.min(0x5a));
            from..to
        }
        _ => {
            let end = start + 4 + random.below(64);
            image[start + 4 * random.below(2)..end].fill(fill);
            start..end
        }
    };
    format!("bytes {what:#x?} of {start:#x}")
}

fn tell_the_truth(disk_version: u32) {
    let (mut faults, mut later, mut sure) = (Vec::new(), Vec::new(), [0; 2]);
    let (mut continued, mut refused) = (0, 0);
    for (number, shape) in SHAPES.into_iter().enumerate() {
        for round in 0..20 * rounds() {
            let seed = round * 100 + number as u64 + 1;
            let mut past = Past::of_version(shape, disk_version, seed);
            let mut random = Random(seed);
            (0..random.below(200)).for_each(|_| past.step());
            if past.spoilt {
                continue;
            }
            let mut image = past.c.image();
            let damaged = damage(&mut image, shape.block_size as usize, &mut random);
            let at = format!("shape {number}, seed {seed}, {damaged}");
            let found = past.faults_in(image.clone(), &mut sure);
            faults.extend(found.into_iter().map(|fault| format!("{at}: {fault}")));
            // the driver goes on with what it can read
            if !past.go_on_with(image) {
                refused += 1;
                continue;
            }
            for _ in 0..1 + random.below(20) {
                past.step();
                if past.spoilt {
                    break;
                }
            }
            if past.spoilt {
                continue;
            }
            continued += 1;
            let found = past.faults(&mut sure);
            later.extend(found.into_iter().map(|fault| format!("{at}, later: {fault}")));
        }
    }
    let [checked, complete] = sure;
    println!(
        "checked: {checked}, complete: {complete}, wrong: {} at once, {} after {continued} drivers \
         wrote more; {refused} images are not for a driver",
        faults.len(),
        later.len(),
    );
    assert!(checked > 0 && complete > 0 && continued > 0);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    // nothing is left of the damage if the driver has erased the block
    assert!(later.len() * 500 <= complete, "{} faults:\n{}", later.len(), later.join("\n"));
}

#[test]
fn whatever_happened_to_a_log_nothing_wrong_is_called_checked_or_complete() {
    tell_the_truth(V2_1);
}

/// In disk version 2.0, nothing shows whether a block was erased behind its last commit.
#[test]
fn the_same_in_disk_version_2_0() {
    tell_the_truth(V2_0);
}
