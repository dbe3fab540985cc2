//! The engine compared with the other implementations of littlefs on crates.io, each on a device in
//! memory.
//!
//! `cargo run --release` prints a markdown table of medians. Every implementation starts with the
//! same image, which our engine made, and gets the same calls. The image has 4096 blocks of 4096
//! bytes. Its disk version is 2.1, except for littlefs2, which knows only 2.0. The others make
//! every call durable. Ours keeps changes in memory, so it is measured twice: with one flush at the
//! end, inside the measured time, and with a flush after every call. After a case that writes, our
//! engine reads the tree back.

mod peers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use littlefs::bd::{Geometry, RamDevice};
use littlefs::fs::{FormatOptions, Fs, Node, OpenOptions, ROOT};

use peers::{Ops, PEERS};

pub const BLOCK_SIZE: u32 = 4096;
pub const BLOCK_COUNT: u32 = 4096;
/// Size of the large file in bytes.
const LARGE: usize = 4 << 20;
/// Bytes of one sequential read or write.
const CHUNK: usize = 64 << 10;
/// How many files the directory has.
const FILES: usize = 500;
const ROUNDS: usize = 5;
/// The case that measures opening.
const MOUNT: &str = "mount";

/// What is done with an open filesystem. The result depends on what was read or listed, and must be
/// the same for all implementations.
type Work = Box<dyn Fn(&mut dyn Ops) -> Result<u64, String>>;

struct Case {
    name: &'static str,
    operations: usize,
    /// The images with which it starts, in disk versions 2.0 and 2.1.
    images: [Vec<u8>; 2],
    work: Work,
    /// Whether a flush after each call makes a difference.
    writes: bool,
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let names: Vec<&str> = PEERS.iter().map(|(name, ..)| *name).collect();
    println!(
        "| case | operations | {} |\n|---|---|{}",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for case in cases().iter().filter(|case| case.name.contains(&filter)) {
        let mut expected = None;
        let mut cells = Vec::new();
        for (name, minor, peer) in PEERS {
            if name.ends_with("each") && !case.writes {
                cells.push("-".to_owned());
                continue;
            }
            let mut times = Vec::new();
            let mut failed = None;
            for _ in 0..ROUNDS {
                match measured(*peer, &case.images[*minor], case) {
                    Ok((time, result)) => {
                        times.push(time);
                        let expected = *expected.get_or_insert(result);
                        assert_eq!(result, expected, "{name}: {}", case.name);
                    }
                    Err(e) => failed = Some(e),
                }
            }
            times.sort_unstable();
            cells.push(match (failed, times.get(times.len() / 2)) {
                (None, Some(time)) => {
                    format!("{:.2}", time.as_secs_f64() * 1e6 / case.operations as f64)
                }
                (failed, _) => format!("fails: {}", failed.unwrap_or_default()),
            });
        }
        println!("| {} | {} | {} |", case.name, case.operations, cells.join(" | "));
    }
}

/// How long the work took (in the case `mount`: how long opening took), and the result: the value
/// that the work returned, combined with the tree after a case that writes.
fn measured(peer: peers::Peer, image: &[u8], case: &Case) -> Result<(Duration, u64), String> {
    let (mut opening, mut working) = (Duration::ZERO, Duration::ZERO);
    let mut result = 0;
    let image = image.to_vec();
    let start = Instant::now();
    let image = peer(image, &mut |ops| {
        opening = start.elapsed();
        let start = Instant::now();
        result = (case.work)(ops)?;
        ops.finish()?;
        working = start.elapsed();
        Ok(())
    })?;
    let time = if case.name == MOUNT { opening } else { working };
    Ok((time, result.wrapping_add(if case.writes { tree(image) } else { 0 })))
}

/// The names and sizes in the image, as a checksum.
fn tree(image: Vec<u8>) -> u64 {
    let mut fs = open(image);
    let mut sum = 0_u64;
    let mut dirs = vec![ROOT];
    while let Some(dir) = dirs.pop() {
        for name in fs.list(dir).expect("list") {
            let bytes = name.iter().fold(7_u64, |sum, &b| sum.wrapping_mul(31) + u64::from(b));
            match fs.lookup(dir, &name).expect("lookup") {
                Node::Dir(inner) => dirs.push(inner),
                Node::File { size, .. } => {
                    sum = sum.wrapping_add(bytes.wrapping_mul(u64::from(size) + 1))
                }
            }
        }
    }
    sum
}

fn geometry() -> Geometry {
    Geometry::new(BLOCK_SIZE, BLOCK_COUNT).expect("geometry")
}

fn options() -> OpenOptions {
    OpenOptions { inline_max: Some(BLOCK_SIZE / 8), ..OpenOptions::default() }
}

/// Our engine on `image`.
fn open(image: Vec<u8>) -> Fs {
    Fs::open(Arc::new(RamDevice::from_image(geometry(), image)), &options()).expect("open")
}

/// New images of both disk versions, with the content that `fill` creates.
fn images(fill: impl Fn(&mut dyn Ops)) -> [Vec<u8>; 2] {
    [0x0002_0000, 0x0002_0001].map(|disk_version| {
        let dev = RamDevice::new(geometry());
        let options = FormatOptions { disk_version, ..FormatOptions::default() };
        Fs::format(&dev, &options).expect("format");
        peers::ours(dev.image(), &mut |ops| {
            fill(ops);
            ops.finish()
        })
        .expect("image")
    })
}

fn path(i: usize) -> String {
    // not in ascending order
    format!("dir/file{:06}", i * 7919 % FILES)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 7) as u8).collect()
}

fn offsets(n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 % (LARGE / 4096)) * 4096) as u32).collect()
}

fn case(
    name: &'static str,
    operations: usize,
    images: &[Vec<u8>; 2],
    writes: bool,
    work: Work,
) -> Case {
    Case { name, operations, images: images.clone(), work, writes }
}

fn cases() -> Vec<Case> {
    let empty = images(|ops| ops.mkdir("dir").expect("mkdir"));
    let full = images(|ops| {
        ops.mkdir("dir").expect("mkdir");
        (0..FILES).for_each(|i| ops.write(&path(i), &content(100), CHUNK).expect("write"));
    });
    let large = images(|ops| ops.write("large", &content(LARGE), CHUNK).expect("write"));
    vec![
        case(MOUNT, 1, &full, false, Box::new(|_| Ok(0))),
        case(
            "create, 100 bytes each",
            FILES,
            &empty,
            true,
            Box::new(|ops| {
                let data = content(100);
                (0..FILES).try_for_each(|i| ops.write(&path(i), &data, CHUNK)).map(|()| 0)
            }),
        ),
        case(
            "stat",
            FILES,
            &full,
            false,
            Box::new(|ops| (0..FILES).map(|i| ops.stat(&path(i))).sum()),
        ),
        case("list", FILES, &full, false, Box::new(|ops| ops.list("dir"))),
        case(
            "read, 100 bytes each",
            FILES,
            &full,
            false,
            Box::new(|ops| {
                let mut buf = vec![0; CHUNK];
                (0..FILES).map(|i| ops.read(&path(i), &mut buf)).sum()
            }),
        ),
        case(
            "remove",
            FILES,
            &full,
            true,
            Box::new(|ops| (0..FILES).try_for_each(|i| ops.remove(&path(i))).map(|()| 0)),
        ),
        case(
            "sequential write of 64 KiB",
            LARGE / CHUNK,
            &empty,
            true,
            Box::new(|ops| ops.write("large", &content(LARGE), CHUNK).map(|()| 0)),
        ),
        case(
            "sequential read of 64 KiB",
            LARGE / CHUNK,
            &large,
            false,
            Box::new(|ops| ops.read("large", &mut vec![0; CHUNK])),
        ),
        case(
            "random read of 4 KiB in 4 MiB",
            500,
            &large,
            false,
            Box::new(|ops| ops.read_at("large", &offsets(500))),
        ),
        case(
            "append of 100 bytes, each synced",
            200,
            &empty,
            true,
            Box::new(|ops| ops.append("log", &content(100), 200).map(|()| 0)),
        ),
    ]
}
