//! How much can be recovered: the table of docs/recover.md, which `--nocapture` prints.

use std::collections::BTreeMap;
use std::fmt;

use littlefs::recover::Grade;

use crate::histories::{Past, Shape};

/// How many histories there are for each line of the table.
const ROUNDS: u64 = 8;
/// How many files of each kind are lost in each history.
const LOST: usize = 4;

/// The block size in bytes, and the number of blocks.
const GEOMETRIES: [(u32, u32, u32); 4] =
    [(128, 512, 16), (512, 128, 16), (1024, 128, 64), (4096, 64, 256)];

/// What happened to the files.
#[derive(Default, Clone, Copy)]
struct Share {
    lost: usize,
    /// Files that were found and are called checked or complete.
    sure: usize,
    /// Files of which every byte was found and is correct, which is not proved.
    whole: usize,
    /// Files of which a part was found.
    some: usize,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |n: usize| n * 100 / self.lost.max(1);
        write!(f, "{}, {}, {}", percent(self.sure), percent(self.whole), percent(self.some))
    }
}

/// Small files and lists that are lost, half of them because they are deleted and half because they
/// get new content.
fn lose(past: &mut Past, dirs: usize) -> BTreeMap<Vec<u8>, (bool, Vec<u8>)> {
    let mut lost = BTreeMap::new();
    for n in 0..LOST * 2 {
        past.step_of_others();
        let dir = if dirs == 0 { String::new() } else { format!("d{}/", n % dirs) };
        let path = format!("{dir}victim{n}").into_bytes();
        let is_small = n % 2 == 0;
        let len = if is_small { 12 } else { past.config.block_size as usize * 5 / 2 };
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + n * 31 + i / 200) as u8 | 1).collect();
        past.write(&path, &bytes);
        if past.present.get(&path) == Some(&bytes) {
            lost.insert(path, (is_small, bytes));
        }
    }
    lost
}

fn count(past: &mut Past, lost: &BTreeMap<Vec<u8>, (bool, Vec<u8>)>, shares: &mut [Share; 2]) {
    let (recovery, device) = past.recover();
    let name = |path: &[u8]| path.rsplit(|&b| b == b'/').next().map(<[u8]>::to_vec);
    for (path, (is_small, bytes)) in lost {
        let share = &mut shares[usize::from(!is_small)];
        share.lost += 1;
        let of_it = recovery
            .files
            .iter()
            .filter(|file| file.path.as_deref().is_some_and(|found| name(found) == name(path)));
        let best = of_it
            .filter_map(|file| {
                let content = file.content(&device).expect("readable");
                match (file.grade, content == *bytes) {
                    (Grade::Partial, true) if file.missing.is_empty() => Some(1),
                    (Grade::Partial, false) if file.size == bytes.len() as u64 => {
                        (file.present() > 0).then_some(2)
                    }
                    (_, true) => Some(0),
                    _ => None,
                }
            })
            .min();
        match best {
            Some(0) => share.sure += 1,
            Some(1) => share.whole += 1,
            Some(_) => share.some += 1,
            None => {}
        }
    }
}

/// The shares of small files and of lists that are found after this many more operations.
fn shares(geometry: (u32, u32, u32), dirs: usize, further: usize, format: bool) -> [Share; 2] {
    let (block_size, block_count, prog_size) = geometry;
    let shape = Shape {
        block_size,
        block_count,
        prog_size,
        dirs,
        names: 6,
        same_size: false,
        block_cycles: -1,
        power_cuts: 0,
    };
    let mut shares = [Share::default(); 2];
    for seed in 1..=ROUNDS {
        let mut past = Past::new(shape, seed);
        past.make_dirs();
        let lost = lose(&mut past, dirs);
        if format {
            past.format();
        } else {
            for (n, path) in lost.keys().enumerate() {
                if n % 4 < 2 {
                    past.remove(path);
                } else {
                    past.write(path, &[b'n'; 70]);
                }
            }
        }
        (0..further).for_each(|_| past.step_of_others());
        count(&mut past, &lost, &mut shares);
    }
    shares
}

#[test]
fn what_comes_back() {
    let mut at_once = Share::default();
    for (dirs, format) in [(0, false), (2, false), (2, true)] {
        println!("dirs {dirs}, formatted over {format}");
        for geometry in GEOMETRIES {
            for further in [1, 10, 100, 1000] {
                let [small, lists] = shares(geometry, dirs, further, format);
                println!("| {} | {further} | {small} | {lists} |", geometry.0);
                if further == 1 && dirs == 0 && geometry.0 >= 512 {
                    at_once.lost += small.lost + lists.lost;
                    at_once.sure += small.sure + lists.sure;
                }
            }
        }
    }
    assert!(at_once.sure * 10 >= at_once.lost * 9, "{} of {}", at_once.sure, at_once.lost);
}
