//! Following a CTZ list from its head, every pointer of it (SPEC: `0x202` CTZSTRUCT).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{ctz, read_u32_le};
use crate::bd::Geometry;

/// One block of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its index in the list; the head has the highest.
    pub index: u32,
    /// Its address.
    pub block: u32,
    /// The addresses at its start, the k-th of the block `2^k` before this one.
    pub pointers: Vec<u32>,
    /// Whether this block and all that it points to are those that pointers of later blocks named.
    pub agrees: bool,
}

/// Why a list could not be followed to its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken<E> {
    /// It claims more blocks than the filesystem has.
    TooLong {
        /// How many it claims.
        blocks: u32,
    },
    /// The address of a block is outside the filesystem.
    Outside {
        /// Index of that block in the list.
        index: u32,
        /// The address.
        block: u32,
    },
    /// The pointers of a block cannot be read.
    Unreadable {
        /// Index of that block in the list.
        index: u32,
        /// Its address.
        block: u32,
        /// Why.
        error: E,
    },
}

/// Follow the list of `size` bytes of content from its `head` on, the last block first. `read` fills
/// a buffer from the start of a block; `visit` sees each block, and may end the walk.
///
/// It takes one read for each block of the list, and never more than there are blocks.
///
/// # Errors
/// Where the list ends too early, which is after `visit` saw all blocks behind that place.
pub fn follow<E>(
    geometry: Geometry,
    head: u32,
    size: u32,
    mut read: impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    mut visit: impl FnMut(Step) -> ControlFlow<()>,
) -> Result<(), Broken<E>> {
    let blocks = ctz::blocks(geometry.block_size, size);
    if blocks > geometry.block_count {
        return Err(Broken::TooLong { blocks });
    }
    // blocks still to come, by index, as pointers of later blocks name them
    let mut expected: BTreeMap<u32, u32> = BTreeMap::new();
    let mut block = head;
    for index in (0..blocks).rev() {
        if block >= geometry.block_count {
            return Err(Broken::Outside { index, block });
        }
        let mut bytes = [0; 4 * 32];
        let bytes = &mut bytes[..ctz::data_offset(index) as usize];
        if !bytes.is_empty() {
            read(block, bytes).map_err(|error| Broken::Unreadable { index, block, error })?;
        }
        let pointers: Vec<u32> =
            (0..bytes.len() / 4).filter_map(|k| read_u32_le(bytes, 4 * k)).collect();
        let mut agrees = expected.remove(&index).is_none_or(|named| named == block);
        for (k, &pointer) in pointers.iter().enumerate() {
            agrees &= expected.insert(index - (1 << k), pointer).is_none_or(|p| p == pointer);
        }
        let next = pointers.first().copied();
        if visit(Step { index, block, pointers, agrees }).is_break() {
            return Ok(());
        }
        if let Some(next) = next {
            block = next;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list over blocks 10, 11, 12... in order.
    fn image(blocks: u32) -> BTreeMap<u32, Vec<u8>> {
        let pointers = |i: u32| (0..ctz::pointers(i)).flat_map(move |k| (10 + i - (1 << k)).to_le_bytes());
        (0..blocks).map(|i| (10 + i, pointers(i).collect())).collect()
    }

    fn walk(blocks: &BTreeMap<u32, Vec<u8>>, count: u32) -> (Vec<Step>, Result<(), Broken<()>>) {
        let geometry = Geometry { block_size: 128, block_count: 64 };
        let size = ctz::start(128, count) as u32;
        let mut steps = Vec::new();
        let read = |block: u32, buf: &mut [u8]| match blocks.get(&block) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(()),
        };
        let outcome = follow(geometry, 10 + count - 1, size, read, |step| {
            steps.push(step);
            ControlFlow::Continue(())
        });
        (steps, outcome)
    }

    #[test]
    fn every_block_is_met_once_from_the_head_on() {
        let (steps, outcome) = walk(&image(20), 20);
        assert_eq!(outcome, Ok(()));
        let met: Vec<(u32, u32)> = steps.iter().map(|s| (s.index, s.block)).collect();
        let expected: Vec<(u32, u32)> = (0..20).rev().map(|i| (i, 10 + i)).collect();
        assert_eq!(met, expected);
        assert!(steps.iter().all(|s| s.agrees));
    }

    #[test]
    fn wrong_pointers_show_where_they_are_and_where_they_lead() {
        let mut blocks = image(20);
        // of block 16, the pointer to block 8 of the list
        blocks.get_mut(&26).expect("there")[12..16].copy_from_slice(&50_u32.to_le_bytes());
        let (steps, outcome) = walk(&blocks, 20);
        assert_eq!(outcome, Ok(()));
        let wrong: Vec<u32> = steps.iter().filter(|s| !s.agrees).map(|s| s.index).collect();
        assert_eq!(wrong, [12], "it names another block 8 than block 16 of the list");

        blocks.get_mut(&25).expect("there")[..4].copy_from_slice(&99_u32.to_le_bytes());
        let (steps, outcome) = walk(&blocks, 20);
        assert_eq!(outcome, Err(Broken::Outside { index: 14, block: 99 }));
        assert_eq!(steps.len(), 5);

        blocks.get_mut(&25).expect("there")[..4].copy_from_slice(&63_u32.to_le_bytes());
        let (_, outcome) = walk(&blocks, 20);
        assert_eq!(outcome, Err(Broken::Unreadable { index: 14, block: 63, error: () }));
        assert_eq!(walk(&blocks, 65).1, Err(Broken::TooLong { blocks: 65 }));
    }
}
