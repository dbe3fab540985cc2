//! Lists whose entry is gone: blocks that no list of any state has, and that lead to each other.

use std::collections::{HashMap, HashSet};

use super::lists::Chain;
use super::proof::Proofs;
use super::world::{Look, World};
use crate::disk::ctz;

/// Pointers that are looked at, in all, besides a few for each block.
const BUDGET: u64 = 1_000_000;

/// Find them, each by its last block; those of one block, too.
pub fn carve(world: &World<'_>, proofs: &Proofs<'_>) -> Vec<Chain> {
    let count = world.geometry.block_count;
    let is_free = |block: u32| world.look(block) == Look::Data && !proofs.is_used(block);
    let free: HashSet<u32> = (0..count).filter(|&block| is_free(block)).collect();
    // the blocks that say that a block is before them
    let mut after: HashMap<u32, u32> = HashMap::new();
    for &block in &free {
        let before = world.words.get(block as usize).filter(|word| free.contains(word));
        before.into_iter().for_each(|&before| *after.entry(before).or_default() += 1);
    }
    let mut heads: Vec<u32> = free.iter().copied().filter(|b| !after.contains_key(b)).collect();
    heads.sort_unstable();
    let mut budget = BUDGET + 8 * u64::from(count);
    let mut taken = HashSet::new();
    let mut chains: Vec<Chain> = Vec::new();
    // what only blocks of circles lead to comes last
    let mut rest: Vec<u32> = free.iter().copied().collect();
    rest.sort_unstable_by(|a, b| b.cmp(a));
    for head in heads.into_iter().chain(rest) {
        if taken.contains(&head) {
            continue;
        }
        let chain = longest(world, &free, head, &mut budget);
        taken.extend(chain.known().map(|(_, block)| block));
        chains.push(chain);
    }
    chains
}

/// The longest list that ends with this block and of which every pointer agrees.
fn longest(world: &World<'_>, free: &HashSet<u32>, head: u32, budget: &mut u64) -> Chain {
    let mut back = vec![head];
    let mut seen = HashSet::from([head]);
    while let Some(&last) = back.last()
        && let Some(&before) = world.words.get(last as usize)
        && free.contains(&before)
        && seen.insert(before)
    {
        back.push(before);
    }
    back.reverse();
    // the first block has no pointers, and its content may look like one
    for start in 0..back.len() {
        let blocks = back.get(start..).unwrap_or_default();
        if is_list(world, blocks, budget) {
            return Chain { blocks: blocks.iter().copied().map(Some).collect(), sound: false };
        }
    }
    Chain { blocks: vec![Some(head)], sound: false }
}

fn is_list(world: &World<'_>, blocks: &[u32], budget: &mut u64) -> bool {
    for (i, &block) in blocks.iter().enumerate().rev() {
        let i = i as u32;
        if *budget == 0 {
            return blocks.len() == 1;
        }
        *budget = budget.saturating_sub(u64::from(ctz::pointers(i)) + 1);
        let Some(pointers) = world.pointers(block, i) else { return false };
        let agrees = |(target, pointer): (u32, u32)| blocks.get(target as usize) == Some(&pointer);
        if !ctz::targets(i).zip(pointers).all(agrees) {
            return false;
        }
    }
    true
}
