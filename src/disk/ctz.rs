//! CTZ skip-lists: index arithmetic (SPEC: `0x202` CTZSTRUCT, DESIGN: CTZ skip-lists).
//!
//! `ctz(i)` is the number of trailing zeros of `i` in binary. Block `i > 0` of a file starts with
//! `ctz(i) + 1` pointers of 4 bytes, then comes data. The k-th pointer leads to block `i - 2^k`.
//! Block 0 has only data.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use super::num::widen;

/// The index of a block in the list of a file. It has a type of its own, because it is neither an
/// address nor a number of blocks.
///
/// A file has less than 2^32 bytes, and each of its blocks has 96 bytes of data or more. So the
/// index of a block is below 2^26, and a few more blocks cannot overflow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListIndex(pub u32);

impl ListIndex {
    /// The first block of a list.
    pub const FIRST: Self = Self(0);

    /// The last block of a list of `blocks` blocks; `None` if there are none.
    pub fn last_of(blocks: u32) -> Option<Self> {
        blocks.checked_sub(1).map(Self)
    }

    /// The indices from `self` up to, but without, `end`.
    pub fn up_to(self, end: Self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..end.0).map(Self)
    }

    /// The index to which pointer `k` of this block leads, `2^k` blocks before it.
    pub fn target(self, k: u32) -> Self {
        self - 1_u32.checked_shl(k).unwrap_or(u32::MAX)
    }

    /// The index in a table that has an item for each block of the list.
    pub fn as_usize(self) -> usize {
        widen(self.0)
    }
}

/// The index that many blocks later, or the largest one.
impl Add<u32> for ListIndex {
    type Output = Self;

    fn add(self, blocks: u32) -> Self {
        Self(self.0.saturating_add(blocks))
    }
}

impl AddAssign<u32> for ListIndex {
    fn add_assign(&mut self, blocks: u32) {
        *self = *self + blocks;
    }
}

/// The index that many blocks before. There must be that many blocks before it.
impl Sub<u32> for ListIndex {
    type Output = Self;

    fn sub(self, blocks: u32) -> Self {
        debug_assert!(blocks <= self.0, "{blocks} blocks before index {self}");
        Self(self.0.saturating_sub(blocks))
    }
}

/// How many blocks there are from `before` to this index, which must not be the smaller one.
impl Sub for ListIndex {
    type Output = u32;

    fn sub(self, before: Self) -> u32 {
        debug_assert!(before <= self, "index {before} is not before {self}");
        self.0.saturating_sub(before.0)
    }
}

impl fmt::Display for ListIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many pointers stand at the start of block `i`.
#[expect(clippy::arithmetic_side_effects, reason = "it is at most 31 + 1, because i is not 0")]
pub fn pointers(i: ListIndex) -> u32 {
    if i == ListIndex::FIRST { 0 } else { i.0.trailing_zeros() + 1 }
}

/// The indices of the blocks to which the pointers of block `i` lead, in the order of the pointers.
pub fn targets(i: ListIndex) -> impl Iterator<Item = ListIndex> {
    (0..pointers(i)).map(move |k| i.target(k))
}

/// Offset in bytes of the first data byte in block `i`.
#[expect(clippy::arithmetic_side_effects, reason = "it is at most 4 * 32")]
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
/// block of a position is `(pos - 4 * (popcount(i - 1) + 2)) / b`. This formula computes `i`, but
/// needs `i` on its right side. There, the estimate `pos / b` can stand for `i`: it is either the
/// right index or one more, and the formula gives the right index for both, as long as `4 *
/// (popcount(i) + 2) <= b`. In files up to [`FILE_MAX`](super::superblock::FILE_MAX), that holds
/// for blocks of 112 bytes or more. In smaller blocks, the result may be off by one. Then the
/// computed offset is outside the data of the block, so the code notices this and goes to the next
/// block or the one before. DESIGN.md of littlefs has the same formula.
///
/// A block has 104 bytes or more, so nothing here overflows, whatever `pos` is. The subtractions
/// rely on their order:
///
/// - The estimate `e = pos / b` is at most `2^32 / 96`, and has at most 26 bits.
/// - First, `c = 4 * (popcount(e - 1) + 2)` is subtracted from `pos`. `c` is 8 if `e` is 1, and
///   otherwise at most 112, which is less than `2b`. So `i` is `e`, `e - 1` or `e - 2`, and `b * i
///   <= pos - c`.
/// - Then `b * i` and `4 * popcount(i)` are subtracted from `pos`. The second one is at most `c`.
///   If `i` is `e` or `e - 1`, this is clear. `i` is `e - 2` only if `c > b`. Then at most 3 of the
///   26 bits of `e - 1` are not set, so `e - 2` has at most 2 more bits set than `e - 1`.
/// - As `i` has at most 26 bits, `data_offset(i)` is at most 104.
#[expect(clippy::arithmetic_side_effects, reason = "the list above shows why none overflows")]
pub fn locate(block_size: u32, pos: u32) -> (ListIndex, u32) {
    let b = block_size - 8;
    // never too small, because `pos` is at least `i * b`
    let estimate = pos / b;
    if estimate == 0 {
        // block 0 has no pointers, so the position is the offset
        return (ListIndex::FIRST, pos);
    }
    // the formula, with the estimate on its right side
    let i = (pos - 4 * ((estimate - 1).count_ones() + 2)) / b;
    let off = pos - b * i - 4 * i.count_ones();
    let i = ListIndex(i);
    // In blocks of less than 112 bytes, the pointers of one block can be as long as its data, and
    // the formula can be wrong by one block. The offset shows in which direction.
    if off >= block_size {
        // the byte is behind this block: it has the same distance from the data of the next one
        (i + 1, off - block_size + data_offset(i + 1))
    } else if off < data_offset(i) {
        // the byte would be among the pointers: it is at the end of the block before
        (i - 1, off + block_size - data_offset(i))
    } else {
        (i, off)
    }
}

/// The position in the file of the first data byte of block `i`.
#[expect(clippy::arithmetic_side_effects, reason = "less than 2^32 * 2^32, as b is that less 8")]
pub fn start(block_size: u32, i: ListIndex) -> u64 {
    if i == ListIndex::FIRST {
        return 0;
    }
    // the formula of `locate` for the first data byte: `off` is the length of the pointers
    let b = u64::from(block_size) - 8;
    b * u64::from(i.0) + 4 * u64::from(i.0.count_ones()) + u64::from(data_offset(i))
}

/// How many blocks a file of `size` bytes has.
pub fn blocks(block_size: u32, size: u32) -> u32 {
    match size.checked_sub(1) {
        // an empty file has no list at all
        None => 0,
        // the block of the last byte is the last block
        Some(last) => (locate(block_size, last).0 + 1).0,
    }
}

/// How many blocks hold the bytes from position `from` of a file of `size` bytes.
pub fn blocks_from(block_size: u32, size: u32, from: u32) -> u32 {
    if from >= size {
        return 0;
    }
    ListIndex(blocks(block_size, size)) - locate(block_size, from).0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Near the blocks with the most pointers, for the smallest block sizes.
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

    /// An image can claim such sizes. In the tests, an overflow is a panic.
    #[test]
    fn positions_beyond_the_largest_file_do_not_overflow() {
        for bs in [104, 108, 112, 128, 4096, crate::bd::BLOCK_SIZE_MAX] {
            let b = u64::from(bs - 8);
            let powers = (0..=25).map(|k| 1 << k);
            // where many bits are set, and where few are
            let indices = powers.flat_map(|power| [power, (1 << 25) - power, (1 << 26) - power]);
            for pos in indices.flat_map(|i: u64| (i * b).saturating_sub(130)..i * b + 130) {
                let pos = u32::try_from(pos).unwrap_or(u32::MAX);
                let (i, off) = locate(bs, pos);
                assert!(off < 2 * bs && i.0 < 1 << 26, "byte {pos}: {off} in block {i} of {bs}");
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
