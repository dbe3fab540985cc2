//! Filling the image, emptying it, and filling it again.

use testkit::calls::{Fail, pattern};
use testkit::clfs::Config;

use super::fixture::*;

const NAMES: [&str; 3] = ["breakfast/bacon", "breakfast/eggs", "breakfast/pancakes"];

/// The size of each of three files that together leave a few blocks free.
fn third(config: &Config) -> u32 {
    (config.block_size - 8) * (config.block_count - 12) / 3
}

fn write_in_turns(fixture: &mut Fixture, chunk: u32) {
    let size = third(&fixture.config);
    let mut off = 0;
    while off < size {
        let len = chunk.min(size - off);
        for (i, name) in NAMES.iter().enumerate() {
            fixture.write(name, off, len, i as u8 + 1);
        }
        off += len;
    }
}

fn write_one_by_one(fixture: &mut Fixture, chunk: u32) {
    let size = third(&fixture.config);
    for (i, name) in NAMES.iter().enumerate() {
        let mut off = 0;
        while off < size {
            let len = chunk.min(size - off);
            fixture.write(name, off, len, i as u8 + 1);
            off += len;
        }
        fixture.flush();
    }
}

fn fill_and_empty(write: impl Fn(&mut Fixture, u32), cycles: u32) {
    on_each_geometry(|fixture| {
        for cycle in 0..cycles {
            fixture.mkdir("breakfast");
            let open = NAMES.map(|name| {
                fixture.create(name);
                fixture.open(name)
            });
            write(fixture, 5000 + cycle);
            for file in open {
                fixture.ours.fs.close_file(file);
            }
            fixture.power_cycle();
            if cycle + 1 < cycles {
                for name in NAMES {
                    fixture.unlink(name);
                }
                fixture.rmdir("breakfast");
                fixture.power_cycle();
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
fn exhaust(fixture: &mut Fixture, path: &str) -> u32 {
    let mut chunk = fixture.config.block_size;
    while chunk > 0 {
        let size = fixture.expected(path).len() as u32;
        match fixture.apply(&write(path, size, chunk, 7)) {
            Ok(()) => {}
            Err(Fail::NoSpace) => chunk /= 4,
            Err(e) => panic!("{e:?}"),
        }
    }
    fixture.expected(path).len() as u32
}

/// A write for which there is no space changes nothing, and what was synced before stays, whether
/// there were files before or not.
#[test]
fn exhaustion_keeps_what_is_there() {
    for padding in [false, true] {
        on_each_geometry(|fixture| {
            if padding {
                let size = (fixture.config.block_size - 8) * (fixture.config.block_count - 4) / 3;
                fixture.fill("padding", size, 1);
                fixture.flush();
                fixture.unlink("padding");
            }
            fixture.fill("exhaustion", 10, 2);
            fixture.power_cycle();
            let size = exhaust(fixture, "exhaustion");
            assert!(fixture.free() <= 4, "{} blocks free at {size} bytes", fixture.free());
            fixture.power_cycle();
            fixture.unlink("exhaustion");
            fixture.power_cycle();
            assert!(fixture.free() >= fixture.config.block_count - 4);
        });
    }
}

/// A directory can be created if and only if there is room for it.
#[test]
fn directory_in_a_full_image() {
    for (block_size, block_count, prog_size) in GEOMETRIES {
        let mut fixture = Fixture::new(Config::new(block_size, block_count, prog_size));
        fixture.mkdir("exhaustiondir");
        fixture.create("exhaustion");
        let size = exhaust(&mut fixture, "exhaustion");
        fixture.power_cycle();
        fixture.unlink("exhaustion");
        fixture.rmdir("exhaustiondir");
        fixture.power_cycle();

        fixture.create("exhaustion");
        fixture.write("exhaustion", 0, size, 3);
        fixture.mkdir("exhaustiondir");
        fixture.power_cycle();
        fixture.rmdir("exhaustiondir");
        fixture.power_cycle();

        exhaust(&mut fixture, "exhaustion");
        fixture.fails(mkdir("exhaustiondir"), Fail::NoSpace);
        fixture.power_cycle();
        fixture.unlink("exhaustion");
        fixture.mkdir("exhaustiondir");
        fixture.power_cycle();
    }
}

/// Directories with long names split their parent. If the image is full, no directory is half
/// created.
#[test]
fn chain_of_directories_in_a_full_image() {
    let mut fixture = Fixture::new(Config::new(512, 1024, 16));
    let long = |i: u32| format!("dirwithanexhaustivelylongnameforpadding{i}");
    fixture.create("exhaustion");
    exhaust(&mut fixture, "exhaustion");
    let mut made = 0;
    while made < 11 {
        match fixture.apply(&mkdir(&long(made))) {
            Ok(()) => made += 1,
            Err(_) => {
                let size = fixture.expected("exhaustion").len() as u32;
                assert!(size > 0, "no room for directory {made} in an empty image");
                fixture.truncate("exhaustion", size.saturating_sub(16));
            }
        }
        if made % 4 == 0 {
            fixture.power_cycle();
        }
    }
    fixture.power_cycle();
    exhaust(&mut fixture, "exhaustion");
    fixture.fails(mkdir("one more"), Fail::NoSpace);
    fixture.power_cycle();
}

/// A free block among used ones is enough for one block of data, and not for two.
#[test]
fn hole_of_one_block() {
    for (block_size, block_count, prog_size) in GEOMETRIES {
        let mut fixture = Fixture::new(Config::new(block_size, block_count, prog_size));
        fixture.mkdir("splitdir");
        fixture.create("splitdir/bump");
        fixture.fill("bump", block_size, 1);
        fixture.create("exhaustion");
        exhaust(&mut fixture, "exhaustion");
        fixture.power_cycle();
        fixture.unlink("bump");
        fixture.flush();
        let free = fixture.free();
        fixture.fails(write("splitdir/bump", 0, (free + 1) * block_size, 2), Fail::NoSpace);
        fixture.power_cycle();
        fixture.write("splitdir/bump", 0, block_size, 2);
        fixture.power_cycle();
    }
}

/// Two files that fill the image are replaced by turns. The map of free blocks follows.
#[test]
fn full_image_is_rewritten() {
    on_each_geometry(|fixture| {
        let size = (fixture.config.block_count - 8) / 2 * (fixture.config.block_size - 8);
        fixture.fill("exhaustion1", size, 1);
        fixture.fill("exhaustion2", size, 2);
        fixture.power_cycle();
        for seed in 3..6 {
            for name in ["exhaustion1", "exhaustion2"] {
                fixture.truncate(name, 0);
                fixture.flush();
                fixture.write(name, 0, size, seed);
                fixture.flush();
            }
            fixture.power_cycle();
        }
        // A hole too small for a directory, but not for a small file.
        exhaust(fixture, "exhaustion1");
        fixture.fails(mkdir("split"), Fail::NoSpace);
        let free = fixture.free();
        if fixture.apply(&create("notasplit")).is_ok() {
            fixture.write("notasplit", 0, 2, 9);
        }
        assert_eq!(fixture.free(), free);
    });
}

/// A failed write leaves the open file as it was, and it can be read at once.
#[test]
fn write_without_space_leaves_the_open_file() {
    on_each_geometry(|fixture| {
        fixture.fill("file", 100, 1);
        let file = fixture.open("file");
        let too_much = pattern(2, fixture.config.block_size * fixture.config.block_count);
        assert!(fixture.ours.fs.write(file, 50, &too_much).is_err());
        assert_eq!(fixture.ours.fs.file_size(file).expect("is open"), 100);
        assert_eq!(fixture.ours.read(file).expect("read"), fixture.expected("file"));
        fixture.ours.fs.close_file(file);
    });
}
