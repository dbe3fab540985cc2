//! Blocks that are at a lower position than their right one. Some tools leave bad blocks of NAND
//! flash out of a dump, so that all blocks behind them move towards the start.

use std::collections::{HashSet, VecDeque};

use super::evidence::{Node, pointers_agree};
use crate::bd::{BlockDevice, Geometry, IoResult};
use crate::disk::{List, Pair};

/// The largest number of blocks that may be left out before a block.
const LEFT_OUT_MAX: u32 = 16;
/// How many pairs and lists are examined.
const LOOKS_MAX: usize = 256;

/// A block that is not in its right place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved {
    /// The number that the block has in the filesystem.
    pub block: u32,
    /// How many blocks before its right place it is.
    pub by: u32,
}

/// The first blocks of directories and the last blocks of files that are not in their right places;
/// for each distance only the first such block. The superblock must be in its place.
pub fn find(dev: &dyn BlockDevice) -> Vec<Moved> {
    let count = dev.geometry().block_count;
    let (mut found, mut looks): (Vec<Moved>, usize) = (Vec::new(), 0);
    let (mut seen, mut queue) = (HashSet::new(), VecDeque::from([Pair::SUPERBLOCK]));
    while let Some(pair) = queue.pop_front() {
        let is_new = !pair.0.map(|block| seen.insert(block)).contains(&false);
        let is_possible = pair.0.iter().all(|&block| block < count);
        if !is_new || !is_possible || looks == LOOKS_MAX {
            continue;
        }
        looks += 1;
        let place = |by| Node::newest(dev, pair, by).map(|node| (node, by));
        let Some((node, by)) = (0..=LEFT_OUT_MAX).find_map(place) else { continue };
        note(&mut found, pair.0[0].min(pair.0[1]), by);
        for list in node.lists {
            looks += 1;
            if looks < LOOKS_MAX
                && let Some(by) = distance(dev, list)
            {
                note(&mut found, list.head, by);
            }
        }
        queue.extend(node.pairs);
    }
    found.sort_unstable();
    found
}

fn note(found: &mut Vec<Moved>, block: u32, by: u32) {
    match found.iter_mut().find(|moved| moved.by == by) {
        _ if by == 0 => {}
        Some(moved) => moved.block = moved.block.min(block),
        None => found.push(Moved { block, by }),
    }
}

/// How many blocks before its right place the last block of a list is; `None` if it cannot be
/// found.
fn distance(dev: &dyn BlockDevice, list: List) -> Option<u32> {
    // a single block has no pointers, so it is no evidence
    if list.blocks(dev.geometry().block_size) < 2 {
        return None;
    }
    (0..=LEFT_OUT_MAX.min(list.head)).find(|&by| pointers_agree(&Shifted { dev, by }, list))
}

/// A device whose blocks are a fixed number of blocks before their right places.
struct Shifted<'a> {
    dev: &'a dyn BlockDevice,
    by: u32,
}

impl BlockDevice for Shifted<'_> {
    fn geometry(&self) -> Geometry {
        self.dev.geometry()
    }

    fn read(&self, block: u32, off: u32, buf: &mut [u8]) -> IoResult<()> {
        self.dev.read(block.saturating_sub(self.by), off, buf)
    }

    fn prog(&self, block: u32, off: u32, data: &[u8]) -> IoResult<()> {
        self.dev.prog(block, off, data)
    }

    fn erase(&self, block: u32) -> IoResult<()> {
        self.dev.erase(block)
    }

    fn barrier(&self) -> IoResult<()> {
        self.dev.barrier()
    }

    fn sync(&self) -> IoResult<()> {
        self.dev.sync()
    }
}
