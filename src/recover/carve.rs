//! Lists without an entry: blocks that are in no list of any state, and that lead to each other.

use std::collections::HashSet;

use super::lists::Chain;
use super::proof::Proofs;
use super::world::{Look, World};
use crate::disk::{ListIndex, ctz};

/// How many pointers are followed in total, in addition to a few for each block.
const BUDGET: u64 = 1_000_000;

/// The blocks that are in no list of any state.
struct Free<'a> {
    world: &'a World<'a>,
    proofs: &'a Proofs<'a>,
}

impl Free<'_> {
    /// Whether a block may be in a list. A block of zeros has no pointers, so it can only be the
    /// first block.
    fn contains(&self, block: u32) -> bool {
        matches!(self.world.look(block), Look::Data | Look::Zeros) && !self.proofs.is_used(block)
    }

    /// The blocks that may be the end of a list. A list that has only zeros is not worth
    /// recovering.
    fn ends(&self) -> impl DoubleEndedIterator<Item = u32> {
        let is_end = |&block: &u32| self.world.look(block) == Look::Data && self.contains(block);
        (0..self.world.geometry.block_count).filter(is_end)
    }

    /// The block to which the first pointer of a block leads.
    fn before(&self, block: u32) -> Option<u32> {
        self.world.words.get(block as usize).copied().filter(|&before| self.contains(before))
    }
}

/// Find all lists without an entry, including those of one block. No two of them end with the same
/// block.
pub fn carve(world: &World<'_>, proofs: &Proofs<'_>) -> Vec<Chain> {
    let free = Free { world, proofs };
    // the blocks to which another block points
    let inner: HashSet<u32> = free.ends().filter_map(|block| free.before(block)).collect();
    let heads = free.ends().filter(|block| !inner.contains(block));
    let mut budget = BUDGET + 8 * u64::from(world.geometry.block_count);
    let mut taken = HashSet::new();
    let mut chains: Vec<Chain> = Vec::new();
    // blocks that only loops lead to come last
    for head in heads.chain(free.ends().rev()) {
        if taken.contains(&head) {
            continue;
        }
        let chain = longest(&free, head, &mut budget);
        taken.extend(chain.known().map(|(_, block)| block));
        chains.push(chain);
    }
    chains
}

/// The longest list that ends with this block and in which all pointers agree.
fn longest(free: &Free<'_>, head: u32, budget: &mut u64) -> Chain {
    let mut back = vec![head];
    let mut seen = HashSet::from([head]);
    while let Some(&last) = back.last()
        && let Some(before) = free.before(last)
        && *budget > 0
        && seen.insert(before)
    {
        *budget -= 1;
        back.push(before);
    }
    back.reverse();
    // the first block of a list has no pointers, but its content may look like one, so later blocks
    // are tried as the first one, too
    for start in 0..back.len() {
        let blocks = back.get(start..).unwrap_or_default();
        if is_list(free.world, blocks, budget) {
            return Chain { blocks: blocks.iter().copied().map(Some).collect(), sound: false };
        }
    }
    Chain { blocks: [Some(head)].into(), sound: false }
}

fn is_list(world: &World<'_>, blocks: &[u32], budget: &mut u64) -> bool {
    for (i, &block) in blocks.iter().enumerate().rev() {
        let i = ListIndex(i as u32);
        if *budget == 0 {
            return blocks.len() == 1;
        }
        *budget = budget.saturating_sub(u64::from(ctz::pointers(i)) + 1);
        let Some(pointers) = world.pointers(block, i) else { return false };
        let agrees =
            |(target, pointer): (ListIndex, u32)| blocks.get(target.as_usize()) == Some(&pointer);
        if !ctz::targets(i).zip(pointers).all(agrees) {
            return false;
        }
    }
    true
}
