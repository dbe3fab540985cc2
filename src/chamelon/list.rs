//! chamelon's lists of blocks.
//!
//! Block `i` starts with pointers: none if `i` is 0, `log2(i)` if `i` is a power of two above 1,
//! and one otherwise. The first pointer leads to block `i - 1`, and the k-th, counted from `k = 1`,
//! to block `i / 2^k`. Data follows the pointers.

use crate::bd::BlockDevice;
use crate::dialect::Lists;
use crate::disk::ListIndex;
use crate::error::{Corrupt, Result};

/// The lists of chamelon, for a view.
pub(super) static LISTS: ListsOfChamelon = ListsOfChamelon;

/// The type of these lists.
pub(super) struct ListsOfChamelon;

impl Lists for ListsOfChamelon {
    fn load(&self, dev: &dyn BlockDevice, head: u32, size: u32) -> Result<Vec<u32>> {
        load(dev, head, size)
    }

    fn locate(&self, block_size: u32, pos: u32) -> (ListIndex, u32) {
        let index = locate(block_size, pos);
        let within = u64::from(pos) - start(block_size, index);
        (ListIndex(index), 4 * pointers(index) + within as u32)
    }
}

/// How many pointers there are at the start of block `i`.
pub(super) fn pointers(i: u32) -> u32 {
    match i {
        0 => 0,
        _ if i.is_power_of_two() => i.ilog2().max(1),
        _ => 1,
    }
}

/// The position in the file of the first data byte of block `i`, for blocks of `block_size` bytes.
pub(super) fn start(block_size: u32, i: u32) -> u64 {
    let Some(before) = i.checked_sub(1) else { return 0 };
    // each of these blocks has one pointer, and each block 2^k has k - 1 more
    let m = u64::from(before.checked_ilog2().unwrap_or(0));
    let pointers = u64::from(before) + m * m.saturating_sub(1) / 2;
    u64::from(i) * u64::from(block_size) - 4 * pointers
}

/// The index of the block that holds byte `pos`.
fn locate(block_size: u32, pos: u32) -> u32 {
    let pos = u64::from(pos);
    // a block holds no more bytes than its size, and at least 4
    let (mut low, mut high) = (pos / u64::from(block_size), pos / 4 + 1);
    high = high.min(u64::from(u32::MAX));
    while low + 1 < high {
        let middle = low.midpoint(high);
        if start(block_size, middle as u32) <= pos {
            low = middle;
        } else {
            high = middle;
        }
    }
    low as u32
}

/// How many blocks a value of `size` bytes has: at least one.
pub(super) fn blocks(block_size: u32, size: u32) -> u32 {
    size.checked_sub(1).map_or(1, |last| locate(block_size, last) + 1)
}

/// The blocks of a list in the order of the file, found from its last block, `head`.
///
/// # Errors
/// If a pointer leads out of the image, if the list has more blocks than the image, or if it cannot
/// be read.
fn load(dev: &dyn BlockDevice, head: u32, size: u32) -> Result<Vec<u32>> {
    let g = dev.geometry();
    let len = blocks(g.block_size, size);
    if len > g.block_count {
        return Err(Corrupt::CtzTooLong { head, size }.into());
    }
    let mut list = vec![0; len as usize];
    let mut block = head;
    for (index, slot) in list.iter_mut().enumerate().rev() {
        if block >= g.block_count {
            return Err(Corrupt::CtzOutOfRange { head, index: index as u32, block }.into());
        }
        *slot = block;
        if index > 0 {
            let mut pointer = [0; 4];
            dev.read(block, 0, &mut pointer)?;
            block = u32::from_le_bytes(pointer);
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_as_documented() {
        let counted: Vec<u32> = (0..=17).map(pointers).collect();
        assert_eq!(counted, [0, 1, 1, 1, 2, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 4, 1]);
    }

    #[test]
    fn positions_follow_from_counting_data_bytes() {
        for bs in [104, 128, 512, 4096] {
            let mut pos = 0u32;
            for i in 0..300 {
                assert_eq!(start(bs, i), u64::from(pos), "block {i} of {bs}");
                assert_eq!(locate(bs, pos), i);
                pos += bs - 4 * pointers(i);
                assert_eq!(locate(bs, pos - 1), i);
                assert_eq!(blocks(bs, pos), i + 1);
            }
        }
        assert_eq!((blocks(4096, 0), blocks(4096, 1)), (1, 1));
        assert!(blocks(104, u32::MAX) > 40_000_000);
    }
}
