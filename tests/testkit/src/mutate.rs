//! Corruption at random, from a seed.

use std::sync::Arc;

use littlefs::bd::{Geometry, RamDevice};
use littlefs::disk::{Tag, crc, read_u32_le, tag};
use littlefs::fs::{At, FormatOptions, Fs, OpenOptions, ROOT};

use crate::random::Random;

/// How many mutations there are of each base image. `HOSTILE_ROUNDS` asks for more.
pub fn rounds() -> u64 {
    std::env::var("HOSTILE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(700)
}

/// Images with directories of one pair and of several, small and large files, and attributes.
pub fn bases() -> Vec<(String, Geometry, Vec<u8>)> {
    let shapes = [(128, 512, 0x0002_0001), (512, 128, 0x0002_0001), (4096, 16, 0x0002_0000)];
    shapes
        .iter()
        .map(|&(block_size, block_count, version)| {
            let g = Geometry::new(block_size, block_count).expect("possible");
            (format!("{block_size} x {block_count}"), g, used_image(g, version))
        })
        .collect()
}

fn used_image(g: Geometry, disk_version: u32) -> Vec<u8> {
    let dev = Arc::new(RamDevice::new(g));
    Fs::format(&*dev, &FormatOptions { disk_version, ..FormatOptions::default() }).expect("format");
    let options = OpenOptions { prog_size: Some(16), ..OpenOptions::default() };
    let mut fs = Fs::open(dev.clone(), &options).expect("open");
    for d in 0..if g.block_size > 1000 { 2 } else { 3u8 } {
        let dir = fs.mkdir(ROOT, &[b'd', b'0' + d]).expect("mkdir");
        for f in 0..4 + 3 * d {
            let name = format!("file{f}");
            fs.create(dir, name.as_bytes()).expect("create");
            let file = fs.open_file(dir, name.as_bytes()).expect("open");
            let large = if g.block_size > 1000 { 30 } else { 700 };
            fs.write(file, 0, &vec![f; [5, 40, large, 3000][usize::from(f) % 4]]).expect("write");
            fs.close_file(file);
        }
        fs.flush().expect("flush");
        fs.set_attr(At::Entry(dir, b"file1"), 0x74, b"time").expect("attr");
    }
    for (name, size) in [("large", 3000), ("small", 9)] {
        fs.create(ROOT, name.as_bytes()).expect("create");
        let file = fs.open_file(ROOT, name.as_bytes()).expect("open");
        fs.write(file, 0, &vec![1; size]).expect("write");
        fs.close_file(file);
    }
    fs.flush().expect("flush");
    dev.image()
}

/// A few changes, chosen by `seed`.
pub fn corrupt(image: &[u8], g: Geometry, seed: u64) -> Vec<u8> {
    let mut bytes = image.to_vec();
    let mut r = Random(seed);
    let bs = g.block_size as usize;
    for _ in 0..1 + r.below(3) {
        let block = r.below(bytes.len() / bs);
        match r.below(8) {
            0 => {
                let at = r.below(bytes.len());
                bytes[at] = r.word() as u8;
            }
            1 => bytes[block * bs..][..bs].fill(if r.below(2) == 0 { 0xff } else { 0 }),
            2 => {
                let from = r.below(bytes.len() / bs);
                bytes.copy_within(from * bs..(from + 1) * bs, block * bs);
            }
            _ => forge(&mut bytes[block * bs..][..bs], &mut r),
        }
    }
    bytes
}

/// Change a byte or a word of a metadata block, and correct the CRCs.
fn forge(block: &mut [u8], r: &mut Random) {
    let ends = commit_ends(block);
    let Some(&end) = ends.last() else { return };
    let at = 4 + r.below(end - 4);
    if r.below(2) == 0 {
        block[at] = if r.below(2) == 0 { r.word() as u8 } else { block[at] ^ (1 << r.below(8)) };
    } else {
        // small numbers are block addresses, ids, sizes
        let word = [0, 1, 2, u32::MAX, r.below(64) as u32][r.below(5)];
        for (slot, byte) in block[at..].iter_mut().zip(word.to_le_bytes()) {
            *slot = byte;
        }
    }
    mend(block);
}

/// The offsets at which the CRC words end.
fn commit_ends(block: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    scan(block, |at, _| ends.push(at + 4));
    ends
}

/// Store the correct CRC at every CRC tag.
pub fn mend(block: &mut [u8]) {
    let mut sums = Vec::new();
    scan(block, |at, sum| sums.push((at, sum)));
    for (at, sum) in sums {
        block[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Call `found` with the place and the correct value of every CRC, whatever is stored there.
fn scan(block: &[u8], mut found: impl FnMut(usize, u32)) {
    let (mut off, mut ptag, mut start) = (4, tag::FIRST, 0);
    while let Some(raw) = block.get(off..off + 4) {
        let t = Tag(u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]) ^ ptag);
        let next = off + 4 + t.size() as usize;
        if !t.is_valid() || next > block.len() {
            return;
        }
        ptag = t.0;
        if t.is_ccrc() {
            if read_u32_le(block, off + 4).is_none() {
                return;
            }
            found(off + 4, crc::crc(crc::SEED, &block[start..off + 4]));
            ptag ^= u32::from(t.chunk() & 1) << 31;
            start = next;
        }
        off = next;
    }
}
