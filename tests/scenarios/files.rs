//! File contents of all sizes: written at once and in pieces, replaced, appended to, and
//! interleaved.

use testkit::calls::pattern;

use super::fixture::*;

/// Sizes near every limit at which the storage of a file changes.
const SIZES: [u32; 9] = [0, 7, 32, 511, 512, 8191, 8192, 8193, 100_000];
/// Sizes of single writes.
const CHUNKS: [u32; 4] = [31, 33, 1023, 65];

/// Write a file in pieces of `chunk` bytes.
fn write_in_chunks(fixture: &mut Fixture, path: &str, size: u32, chunk: u32, seed: u8) {
    let file = fixture.open(path);
    let mut off = 0;
    while off < size {
        let len = chunk.min(size - off);
        fixture.write(path, off, len, seed);
        off += len;
    }
    fixture.ours.fs.close_file(file);
}

#[test]
fn hello_world() {
    on_each_geometry(|fixture| {
        fixture.fill("hello", 13, 1);
        fixture.power_cycle();
        assert_eq!(fixture.read("hello", 0, 100), pattern(1, 13));
    });
}

#[test]
fn large_files_written_and_read_in_pieces() {
    for (i, size) in SIZES.into_iter().enumerate() {
        let chunk = CHUNKS[i % CHUNKS.len()];
        on_each_geometry(|fixture| {
            fixture.create("avacado");
            write_in_chunks(fixture, "avacado", size, chunk, 3);
            fixture.power_cycle();
            let file = fixture.open("avacado");
            let mut bytes = Vec::new();
            while bytes.len() < size as usize {
                let at = bytes.len() as u64;
                let plan = fixture.ours.fs.read(file, at, chunk as usize).expect("read");
                bytes.extend(plan.run().expect("read"));
            }
            fixture.ours.fs.close_file(file);
            assert_eq!(bytes, fixture.expected("avacado"));
        });
    }
}

/// Overwriting the start of a file keeps the rest, unless the file is truncated first.
#[test]
fn files_are_rewritten() {
    for size1 in [0, 32, 8192, 50_000] {
        for size2 in [0, 7, 8193, 60_000] {
            on_each_geometry(|fixture| {
                fixture.fill("avacado", size1, 1);
                fixture.power_cycle();
                write_in_chunks(fixture, "avacado", size2, 16 + size2 / 5, 2);
                assert_eq!(fixture.expected("avacado").len() as u32, size1.max(size2));
                fixture.power_cycle();
                fixture.fill("avacado", size2, 3);
                assert_eq!(fixture.expected("avacado").len() as u32, size2);
            });
        }
    }
}

#[test]
fn files_are_appended_to() {
    for size1 in [0, 32, 8191, 50_000] {
        for size2 in [7, 8193, 60_000] {
            on_each_geometry(|fixture| {
                fixture.fill("avacado", size1, 1);
                fixture.power_cycle();
                for piece in 0..4 {
                    let size = fixture.expected("avacado").len() as u32;
                    fixture.write("avacado", size, size2 / 4 + piece, 2);
                    fixture.flush();
                }
            });
        }
    }
}

#[test]
fn many_small_files() {
    for each_time in [false, true] {
        on_each_geometry(|fixture| {
            for i in 0..150u32 {
                fixture.fill(&format!("file_{i:03}"), 30, i as u8);
                if each_time && i % 10 == 0 {
                    fixture.power_cycle();
                }
            }
        });
    }
}

/// Ten open files grow by turns.
#[test]
fn interleaved_files() {
    for size in [10, 100, 3000] {
        on_each_geometry(|fixture| {
            let names: Vec<_> = ('a'..='j').map(String::from).collect();
            let open: Vec<_> = names
                .iter()
                .map(|name| {
                    fixture.create(name);
                    fixture.open(name)
                })
                .collect();
            let step = 1 + size / 50;
            for off in (0..size).step_by(step as usize) {
                for (i, name) in names.iter().enumerate() {
                    fixture.write(name, off, step, i as u8 + 1);
                }
                if off % 7 == 0 {
                    fixture.flush();
                }
            }
            for (file, name) in open.iter().zip(&names) {
                assert_eq!(fixture.ours.read(*file).expect("read"), fixture.expected(name));
                fixture.ours.fs.close_file(*file);
            }
            assert_eq!(fixture.names(""), names);
        });
    }
}

/// One file grows while others are removed one after the other.
#[test]
fn files_vanish_while_one_grows() {
    for (size, files) in [(10, 10), (100, 26), (3000, 10)] {
        on_each_geometry(|fixture| {
            for i in 0..files {
                fixture.fill(&format!("{i:02}"), size, i as u8 + 1);
            }
            fixture.power_cycle();
            fixture.create("zzz");
            let file = fixture.open("zzz");
            for i in 0..files {
                fixture.write("zzz", i * size, size, 99);
                fixture.flush();
                fixture.unlink(&format!("{i:02}"));
            }
            assert_eq!(fixture.ours.read(file).expect("read"), fixture.expected("zzz"));
            fixture.ours.fs.close_file(file);
            assert_eq!(fixture.names(""), ["zzz"]);
        });
    }
}

/// The second of three open files is removed while all of them grow.
#[test]
fn file_vanishes_between_open_neighbours() {
    for size in [10, 100, 5000] {
        on_each_geometry(|fixture| {
            for name in ["e", "f", "g"] {
                fixture.create(name);
            }
            let gone = fixture.open("f");
            let (left, right) = (fixture.open("e"), fixture.open("g"));
            for half in 0..2 {
                for (i, name) in ["e", "f", "g"].into_iter().enumerate() {
                    if half == 0 || name != "f" {
                        fixture.write(name, half * size, size, i as u8 + 1);
                    } else {
                        let data = pattern(9, size);
                        fixture.ours.fs.write(gone, u64::from(size), &data).expect("write");
                    }
                }
                if half == 0 {
                    fixture.flush();
                    fixture.unlink("f");
                    fixture.flush();
                }
            }
            // Without a name, but all there.
            let bytes = fixture.ours.read(gone).expect("read");
            assert_eq!(bytes, [pattern(2, size), pattern(9, size)].concat());
            for file in [left, gone, right] {
                fixture.ours.fs.close_file(file);
            }
            assert_eq!(fixture.names(""), ["e", "g"]);
        });
    }
}
