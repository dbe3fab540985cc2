//! CTZ skip-lists: index arithmetic (SPEC: `0x202` CTZSTRUCT, DESIGN: CTZ skip-lists).
//!
//! `ctz(i)` is the number of trailing zeros of `i` in binary. Block `i > 0` of a file starts with
//! `ctz(i) + 1` pointers of 4 bytes, then comes data. The k-th pointer leads to block `i - 2^k`.
//! Block 0 has only data.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// The index of a block in the list of a file. It has a type of its own, because it is neither an
/// address nor a number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListIndex(pub u32);

impl ListIndex {
    /// The first block of a list.
    pub const FIRST: Self = Self(0);

    /// The last block of a list of that many blocks.
    pub fn last_of(blocks: u32) -> Option<Self> {
        blocks.checked_sub(1).map(Self)
    }

    /// The indices from `self` up to `end`, which is the first that is not among them.
    pub fn up_to(self, end: Self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..end.0).map(Self)
    }

    /// The index in a table that has an item for each block of the list.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// The index that many blocks later.
impl Add<u32> for ListIndex {
    type Output = Self;

    fn add(self, blocks: u32) -> Self {
        Self(self.0 + blocks)
    }
}

impl AddAssign<u32> for ListIndex {
    fn add_assign(&mut self, blocks: u32) {
        *self = *self + blocks;
    }
}

/// The index that many blocks before.
impl Sub<u32> for ListIndex {
    type Output = Self;

    fn sub(self, blocks: u32) -> Self {
        Self(self.0 - blocks)
    }
}

/// How many blocks lie between two indices.
impl Sub for ListIndex {
    type Output = u32;

    fn sub(self, before: Self) -> u32 {
        self.0 - before.0
    }
}

impl fmt::Display for ListIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many pointers stand at the start of block `i`.
pub fn pointers(i: ListIndex) -> u32 {
    if i == ListIndex::FIRST { 0 } else { i.0.trailing_zeros() + 1 }
}

/// The indices of the blocks to which the pointers of block `i` lead, in the order of the pointers.
pub fn targets(i: ListIndex) -> impl Iterator<Item = ListIndex> {
    (0..pointers(i)).map(move |k| i - (1 << k))
}

/// Offset in bytes of the first data byte in block `i`.
pub fn data_offset(i: ListIndex) -> u32 {
    4 * pointers(i)
}

/// The block that holds byte `pos` of a file, and the offset of the byte in that block.
///
/// The blocks 0 to `i` have `i + i/2 + i/4 + ...` pointers, each term rounded down, because every
/// block but the first has one, every second of these has another, and so on. This sum is `2i -
/// popcount(i)`. With 4 bytes for each pointer, and `b = block_size - 8`, the byte at offset `off`
/// of block `i` is at the position
///
/// ```text
/// pos = i * block_size - 4 * (2i - popcount(i)) + off
///     = i * b + 4 * popcount(i) + off
/// ```
///
/// The data of a block starts at `off = 4 * (ctz(i) + 1)`, and `popcount(i) + ctz(i)` is
/// `popcount(i - 1) + 1`. So block `i` starts at `pos = i * b + 4 * (popcount(i - 1) + 2)`, and the
/// block of a position is `(pos - 4 * (popcount(i - 1) + 2)) / b`. This needs the result to compute
/// it. But `pos / b` is either the result or one more, and with both as `i` on the right side, the
/// formula gives the result, as long as `4 * (popcount(i) + 2) <= b`. In files up to
/// [`FILE_MAX`](super::superblock::FILE_MAX), that holds for blocks of 112 bytes or more. In
/// smaller blocks, the result may be off by one; then the offset is outside the data of the block.
/// DESIGN.md of littlefs has the same formula.
pub fn locate(block_size: u32, pos: u32) -> (ListIndex, u32) {
    let b = u64::from(block_size) - 8;
    let pos = u64::from(pos);
    // the estimate
    let i = pos / b;
    if i == 0 {
        return (ListIndex::FIRST, pos as u32);
    }
    // the formula, with the estimate on its right side
    let i = (pos - 4 * (u64::from((i - 1).count_ones()) + 2)) / b;
    let off = (pos - b * i - 4 * u64::from(i.count_ones())) as u32;
    let i = ListIndex(i as u32);
    if off >= block_size {
        (i + 1, off - block_size + data_offset(i + 1))
    } else if off < data_offset(i) {
        (i - 1, off + block_size - data_offset(i))
    } else {
        (i, off)
    }
}

/// The position in the file of the first data byte of block `i`.
pub fn start(block_size: u32, i: ListIndex) -> u64 {
    if i == ListIndex::FIRST {
        return 0;
    }
    let b = u64::from(block_size) - 8;
    b * u64::from(i.0) + 4 * u64::from(i.0.count_ones()) + u64::from(data_offset(i))
}

/// How many blocks a file of `size` bytes has.
pub fn blocks(block_size: u32, size: u32) -> u32 {
    match size.checked_sub(1) {
        None => 0,
        Some(last) => locate(block_size, last).0.0 + 1,
    }
}

/// How many blocks hold the bytes from position `from` of a file of `size` bytes.
pub fn blocks_from(block_size: u32, size: u32, from: u32) -> u32 {
    if from < size { blocks(block_size, size) - locate(block_size, from).0.0 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where many pointers stand before a block, in the smallest blocks of all.
    #[test]
    fn positions_in_large_files_are_inside_their_blocks() {
        for bs in [104, 108, 112, 128] {
            for k in 8..25 {
                for i in [(1 << k) - 2, (1 << k) - 1, 1 << k, (1 << k) + 1].map(ListIndex) {
                    let Ok(pos) = u32::try_from(start(bs, i)) else { continue };
                    assert_eq!(locate(bs, pos), (i, data_offset(i)), "block {i} of {bs}");
                    assert_eq!(locate(bs, pos - 1), (i - 1, bs - 1), "block {i} of {bs}");
                }
            }
        }
    }

    #[test]
    fn positions_follow_from_counting_data_bytes() {
        for bs in [104, 128, 512, 4096] {
            let mut pos = 0u32;
            for i in (0..300).map(ListIndex) {
                assert_eq!(start(bs, i), u64::from(pos), "block {i} of {bs}");
                assert_eq!(locate(bs, pos), (i, data_offset(i)));
                let capacity = bs - data_offset(i);
                pos += capacity;
                assert_eq!(locate(bs, pos - 1), (i, bs - 1));
                assert_eq!(ListIndex(blocks(bs, pos)), i + 1);
            }
        }
        assert_eq!(blocks(4096, 0), 0);
        assert!(blocks(104, 0x7fff_ffff) > 20_000_000);
    }
}
