//! Filling the image, emptying it, and filling it again.

use testkit::calls::{Fail, pattern};
use testkit::clfs::Config;

use super::lab::*;

const NAMES: [&str; 3] = ["breakfast/bacon", "breakfast/eggs", "breakfast/pancakes"];

/// The size of each of three files that together leave a few blocks free.
fn third(config: &Config) -> u32 {
    (config.block_size - 8) * (config.block_count - 12) / 3
}

fn write_in_turns(lab: &mut Lab, chunk: u32) {
    let size = third(&lab.config);
    let mut off = 0;
    while off < size {
        let len = chunk.min(size - off);
        for (i, name) in NAMES.iter().enumerate() {
            lab.write(name, off, len, i as u8 + 1);
        }
        off += len;
    }
}

fn write_one_by_one(lab: &mut Lab, chunk: u32) {
    let size = third(&lab.config);
    for (i, name) in NAMES.iter().enumerate() {
        let mut off = 0;
        while off < size {
            let len = chunk.min(size - off);
            lab.write(name, off, len, i as u8 + 1);
            off += len;
        }
        lab.flush();
    }
}

fn fill_and_empty(write: impl Fn(&mut Lab, u32), cycles: u32) {
    on_each_geometry(|lab| {
        for cycle in 0..cycles {
            lab.mkdir("breakfast");
            let open = NAMES.map(|name| {
                lab.create(name);
                lab.open(name)
            });
            write(lab, 5000 + cycle);
            for file in open {
                lab.ours.fs.close_file(file);
            }
            lab.power_cycle();
            if cycle + 1 < cycles {
                for name in NAMES {
                    lab.unlink(name);
                }
                lab.rmdir("breakfast");
                lab.power_cycle();
            }
        }
    });
}

#[test]
fn three_files_fill_the_image_in_turns() {
    fill_and_empty(write_in_turns, 1);
}

#[test]
fn three_files_fill_the_image_one_by_one() {
    fill_and_empty(write_one_by_one, 1);
}

#[test]
fn what_three_files_left_is_used_again_in_turns() {
    fill_and_empty(write_in_turns, 4);
}

#[test]
fn what_three_files_left_is_used_again_one_by_one() {
    fill_and_empty(write_one_by_one, 4);
}

/// Append until there is no space. Returns the size of the file then.
fn exhaust(lab: &mut Lab, path: &str) -> u32 {
    let mut chunk = lab.config.block_size;
    while chunk > 0 {
        let size = lab.expected(path).len() as u32;
        match lab.apply(&write(path, size, chunk, 7)) {
            Ok(()) => {}
            Err(Fail::NoSpace) => chunk /= 4,
            Err(e) => panic!("{e:?}"),
        }
    }
    lab.expected(path).len() as u32
}

/// A write for which there is no space changes nothing, and what was synced before stays, whether
/// there were files before or not.
#[test]
fn exhaustion_keeps_what_is_there() {
    for padding in [false, true] {
        on_each_geometry(|lab| {
            if padding {
                let size = (lab.config.block_size - 8) * (lab.config.block_count - 4) / 3;
                lab.fill("padding", size, 1);
                lab.flush();
                lab.unlink("padding");
            }
            lab.fill("exhaustion", 10, 2);
            lab.power_cycle();
            let size = exhaust(lab, "exhaustion");
            assert!(lab.free() <= 4, "{} blocks free at {size} bytes", lab.free());
            lab.power_cycle();
            lab.unlink("exhaustion");
            lab.power_cycle();
            assert!(lab.free() >= lab.config.block_count - 4);
        });
    }
}

/// A directory can be created if and only if there is room for it.
#[test]
fn directory_in_a_full_image() {
    for (block_size, block_count, prog_size) in GEOMETRIES {
        let mut lab = Lab::new(Config::new(block_size, block_count, prog_size));
        lab.mkdir("exhaustiondir");
        lab.create("exhaustion");
        let size = exhaust(&mut lab, "exhaustion");
        lab.power_cycle();
        lab.unlink("exhaustion");
        lab.rmdir("exhaustiondir");
        lab.power_cycle();

        lab.create("exhaustion");
        lab.write("exhaustion", 0, size, 3);
        lab.mkdir("exhaustiondir");
        lab.power_cycle();
        lab.rmdir("exhaustiondir");
        lab.power_cycle();

        exhaust(&mut lab, "exhaustion");
        lab.fails(mkdir("exhaustiondir"), Fail::NoSpace);
        lab.power_cycle();
        lab.unlink("exhaustion");
        lab.mkdir("exhaustiondir");
        lab.power_cycle();
    }
}

/// Directories with long names split their parent. If the image is full, no directory is half
/// created.
#[test]
fn chain_of_directories_in_a_full_image() {
    let mut lab = Lab::new(Config::new(512, 1024, 16));
    let long = |i: u32| format!("dirwithanexhaustivelylongnameforpadding{i}");
    lab.create("exhaustion");
    exhaust(&mut lab, "exhaustion");
    let mut made = 0;
    while made < 11 {
        match lab.apply(&mkdir(&long(made))) {
            Ok(()) => made += 1,
            Err(_) => {
                let size = lab.expected("exhaustion").len() as u32;
                assert!(size > 0, "no room for directory {made} in an empty image");
                lab.truncate("exhaustion", size.saturating_sub(16));
            }
        }
        if made % 4 == 0 {
            lab.power_cycle();
        }
    }
    lab.power_cycle();
    exhaust(&mut lab, "exhaustion");
    lab.fails(mkdir("one more"), Fail::NoSpace);
    lab.power_cycle();
}

/// A free block among used ones is enough for one block of data, and not for two.
#[test]
fn hole_of_one_block() {
    for (block_size, block_count, prog_size) in GEOMETRIES {
        let mut lab = Lab::new(Config::new(block_size, block_count, prog_size));
        lab.mkdir("splitdir");
        lab.create("splitdir/bump");
        lab.fill("bump", block_size, 1);
        lab.create("exhaustion");
        exhaust(&mut lab, "exhaustion");
        lab.power_cycle();
        lab.unlink("bump");
        lab.flush();
        let free = lab.free();
        lab.fails(write("splitdir/bump", 0, (free + 1) * block_size, 2), Fail::NoSpace);
        lab.power_cycle();
        lab.write("splitdir/bump", 0, block_size, 2);
        lab.power_cycle();
    }
}

/// Two files that fill the image are replaced by turns. The map of free blocks follows.
#[test]
fn full_image_is_rewritten() {
    on_each_geometry(|lab| {
        let size = (lab.config.block_count - 8) / 2 * (lab.config.block_size - 8);
        lab.fill("exhaustion1", size, 1);
        lab.fill("exhaustion2", size, 2);
        lab.power_cycle();
        for seed in 3..6 {
            for name in ["exhaustion1", "exhaustion2"] {
                lab.truncate(name, 0);
                lab.flush();
                lab.write(name, 0, size, seed);
                lab.flush();
            }
            lab.power_cycle();
        }
        // A hole too small for a directory, but not for a small file.
        exhaust(lab, "exhaustion1");
        lab.fails(mkdir("split"), Fail::NoSpace);
        let free = lab.free();
        if lab.apply(&create("notasplit")).is_ok() {
            lab.write("notasplit", 0, 2, 9);
        }
        assert_eq!(lab.free(), free);
    });
}

/// A failed write leaves the open file as it was, and it can be read at once.
#[test]
fn write_without_space_leaves_the_open_file() {
    on_each_geometry(|lab| {
        lab.fill("file", 100, 1);
        let file = lab.open("file");
        let too_much = pattern(2, lab.config.block_size * lab.config.block_count);
        assert!(lab.ours.fs.write(file, 50, &too_much).is_err());
        assert_eq!(lab.ours.fs.file_size(file).expect("is open"), 100);
        assert_eq!(lab.ours.read(file).expect("read"), lab.expected("file"));
        lab.ours.fs.close_file(file);
    });
}
