//! Hot paths, one at a time, for counting instructions (see scripts/instructions.sh).
//!
//! `hot CASE OPERATIONS` prepares the case and does that many operations. So the difference of two
//! runs with different numbers is the cost of the operations.

use std::hint::black_box;
use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::fs::{DirId, FileId, FormatOptions, Fs, ROOT};
use testkit::bench;
use testkit::bench::BLOCK_SIZE;
use testkit::random::Random;

/// How many files there are at the start, or, in the create cases, at most at the end.
const FILES: usize = 20_000;
/// Size of the large file in bytes.
const SIZE: usize = 16 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [case, operations] = &args[..] else { return };
    let operations: usize = operations.parse().expect("a number of operations");
    let dev = Arc::new(RamDevice::new(Geometry::new(BLOCK_SIZE, 24576).expect("geometry")));
    Fs::format(&*dev, &FormatOptions::default()).expect("format");
    let mut fs = Fs::open(dev.clone(), &bench::options()).expect("open");
    let names: Vec<Vec<u8>> =
        Random(1).shuffled(FILES).into_iter().map(|i| format!("file{i:06}").into_bytes()).collect();
    match &case[..] {
        "read-4k" | "overwrite-4k" | "append-100" | "append-100-flush-each" => {
            in_a_large_file(&mut fs, case, operations);
        }
        "mount" => {
            files(&mut fs, &names);
            for _ in 0..operations {
                black_box(Fs::open(dev.clone(), &bench::options()).expect("open"));
            }
        }
        _ => in_a_directory(&mut fs, &names, case, operations),
    }
}

fn in_a_directory(fs: &mut Fs, names: &[Vec<u8>], case: &str, operations: usize) {
    let (old, new) = names.split_at(FILES / 2);
    match case {
        "create" => {
            let dir = files(fs, old);
            new[..operations].iter().for_each(|n| fs.create(dir, n).expect("create"));
        }
        "lookup" => {
            let dir = files(fs, names);
            for n in &names[..operations] {
                _ = black_box(fs.lookup(dir, n).expect("lookup"));
            }
        }
        "list" => {
            let dir = files(fs, names);
            // each entry counts as an operation
            for _ in 0..operations / FILES {
                black_box(fs.list(dir).expect("list"));
            }
        }
        "unlink" => {
            let dir = files(fs, names);
            names[..operations].iter().for_each(|n| fs.unlink(dir, n).expect("unlink"));
        }
        "create-and-flush" => {
            // one flush for 1000 new files
            let dir = files(fs, old);
            for some in new[..operations].chunks(1000) {
                some.iter().for_each(|n| fs.create(dir, n).expect("create"));
                fs.flush().expect("flush");
            }
        }
        "create-flush-each" => {
            let dir = files(fs, old);
            for n in &new[..operations] {
                fs.create(dir, n).expect("create");
                fs.flush().expect("flush");
            }
        }
        other => panic!("no case {other}"),
    }
}

fn in_a_large_file(fs: &mut Fs, case: &str, operations: usize) {
    let id = large(fs);
    match case {
        "append-100" => {
            for i in 0..operations {
                fs.write(id, (SIZE + i * 100) as u64, &[1; 100]).expect("write");
            }
        }
        "append-100-flush-each" => {
            for i in 0..operations {
                fs.write(id, (SIZE + i * 100) as u64, &[1; 100]).expect("write");
                fs.flush().expect("flush");
            }
        }
        _ => {
            let mut random = Random(2);
            for _ in 0..operations {
                let off = (random.below(SIZE / 4096) * 4096) as u64;
                if case == "read-4k" {
                    black_box(fs.read(id, off, 4096).expect("read").run().expect("read"));
                } else {
                    fs.write(id, off, &[1; 4096]).expect("write");
                }
            }
        }
    }
}

/// Make a directory of empty files, and flush it.
fn files(fs: &mut Fs, names: &[Vec<u8>]) -> DirId {
    let dir = fs.mkdir(ROOT, b"dir").expect("mkdir");
    names.iter().for_each(|n| fs.create(dir, n).expect("create"));
    fs.flush().expect("flush");
    dir
}

/// Make a large file, and flush it.
fn large(fs: &mut Fs) -> FileId {
    fs.create(ROOT, b"large").expect("create");
    let id = fs.open_file(ROOT, b"large").expect("open");
    fs.write(id, 0, &vec![7; SIZE]).expect("write");
    fs.flush().expect("flush");
    id
}
