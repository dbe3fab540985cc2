//! Following CTZ lists through blocks that may have been overwritten in the meantime.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::world::{Look, World};
use crate::disk::list::{self, List, Place};
use crate::disk::{ListIndex, ctz};

/// If content is expected in the last bytes of a block, this many of them must not all be erased.
/// Shorter content of a file that was written there later would end before them.
const END: usize = 16;

/// The blocks of a list, as far as pointers lead to them.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// The blocks by index. `None` if no remaining pointer leads to the block, or if the block
    /// cannot be part of a list.
    pub blocks: Arc<[Option<u32>]>,
    /// Whether every block is known, all pointers agree, and no block occurs twice.
    pub sound: bool,
}

impl Chain {
    /// The known blocks, with their indices.
    pub fn known(&self) -> impl Iterator<Item = (ListIndex, u32)> {
        let indexed = self.blocks.iter().enumerate();
        indexed.filter_map(|(i, block)| block.map(|block| (ListIndex(i as u32), block)))
    }
}

/// All lists that were followed.
pub struct Lists<'a> {
    world: &'a World<'a>,
    chains: HashMap<List, Chain>,
    /// How many more pointers may be read. A hostile image may name the same blocks again and
    /// again.
    budget: u64,
    /// Metadata blocks to which lists lead.
    metadata: HashSet<u32>,
}

impl<'a> Lists<'a> {
    /// Begin without any list.
    pub fn new(world: &'a World<'a>) -> Self {
        let budget = 2_000_000 + 4 * u64::from(world.geometry.block_count);
        Self { world, chains: HashMap::new(), budget, metadata: HashSet::new() }
    }

    /// Follow a list from its head, unless that has been done.
    pub fn follow(&mut self, list: List) {
        if !self.chains.contains_key(&list) {
            let chain = self.chain(list);
            self.chains.insert(list, chain);
        }
    }

    /// The blocks of a list that was followed.
    pub fn get(&self, list: List) -> Option<&Chain> {
        self.chains.get(&list)
    }

    /// Whether a list that was followed leads to this metadata block. If it was part of that file
    /// at another time, or still is, the metadata is file content.
    pub fn had(&self, block: u32) -> bool {
        self.metadata.contains(&block)
    }

    fn chain(&mut self, list: List) -> Chain {
        let geometry = self.world.geometry;
        let count = list.blocks(geometry.block_size);
        if count > geometry.block_count || u64::from(count) > self.budget {
            return Chain::default();
        }
        let mut blocks = vec![None; count as usize];
        let mut sound = true;
        let mut seen = HashSet::new();
        if let Some(last) = blocks.last_mut() {
            *last = Some(list.head);
        }
        for i in ListIndex::FIRST.up_to(ListIndex(count)).rev() {
            self.budget = self.budget.saturating_sub(u64::from(ctz::pointers(i)) + 1);
            let block = blocks.get(i.as_usize()).copied().flatten();
            self.metadata.extend(block.filter(|&b| self.world.look(b) == Look::Metadata));
            let Some(block) = block.filter(|&b| self.may_hold_data(b) && seen.insert(b)) else {
                sound = false;
                if let Some(unknown) = blocks.get_mut(i.as_usize()) {
                    *unknown = None;
                }
                continue;
            };
            let Some(pointers) = self.world.pointers(block, i) else {
                sound = false;
                continue;
            };
            for (target, pointer) in ctz::targets(i).zip(pointers) {
                match blocks.get_mut(target.as_usize()) {
                    Some(Some(known)) => sound &= *known == pointer,
                    Some(unknown) => *unknown = Some(pointer),
                    None => sound = false,
                }
            }
        }
        Chain { blocks: blocks.into(), sound }
    }

    fn may_hold_data(&self, block: u32) -> bool {
        matches!(self.world.look(block), Look::Data | Look::Zeros)
    }
}

impl World<'_> {
    /// The pointers of a block that has this index in its list.
    pub fn pointers(&self, block: u32, index: ListIndex) -> Option<Vec<u32>> {
        let read = |block, off, bytes: &mut [u8]| self.dev.read(block, off, bytes);
        list::read_pointers(Place { index, block }, read).ok()
    }

    /// The bytes of a file in the block with this index: their place in the block, and their place
    /// in the file.
    pub fn piece(&self, size: u32, index: ListIndex) -> (Range<u32>, u64) {
        let block_size = self.geometry.block_size;
        let (at, start) = (ctz::data_offset(index), ctz::start(block_size, index));
        let left = u64::from(size).saturating_sub(start);
        let len = u64::from(block_size - at.min(block_size)).min(left) as u32;
        (at..at + len, start)
    }

    /// Whether each block is filled exactly as far as a list of this size fills it. Drivers leave
    /// no other trace of the former use of a block, but content of another length ends at another
    /// place.
    pub fn fills(&self, list: List, chain: &Chain) -> bool {
        let block_size = self.geometry.block_size as usize;
        let mut bytes = vec![0; block_size];
        chain.known().all(|(i, block)| {
            if self.dev.read(block, 0, &mut bytes).is_err() {
                return false;
            }
            let (used, _) = self.piece(list.size, i);
            let (content, rest) = bytes.split_at((used.end as usize).min(block_size));
            let content = content.get(used.start as usize..).unwrap_or_default();
            let end = content.get(content.len().saturating_sub(END)..).unwrap_or_default();
            !end.iter().all(|&b| b == 0xff) && rest.iter().all(|&b| b == 0xff)
        })
    }
}
