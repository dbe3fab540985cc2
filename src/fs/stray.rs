//! Pairs that are named by entries other than directories: entries without a name, and entries of a
//! type that this version does not know.
//!
//! Nothing is read through such an entry. But another version may know its type, and a repair may
//! give it its name back. So all blocks to which it leads count as used.

use std::collections::HashSet;

use super::list::Reached;
use crate::bd::BlockDevice;
use crate::disk::{Pair, entry};
use crate::error::{Corrupt, Result};
use crate::mdir::store;

/// How many pairs are read at most for each block of the image. This limits the time for damaged
/// directories that name each other in ever new combinations of blocks.
const PAIRS_PER_BLOCK: usize = 4;

/// The blocks of `pairs`, and all blocks to which they lead, as far as they can be read: the pairs
/// of their directories, and every block to which any pointer of a list leads.
///
/// # Errors
/// [`Corrupt`](crate::error::Corrupt) if they lead to more places than may be looked at.
pub(crate) fn blocks_behind(dev: &dyn BlockDevice, mut pairs: Vec<Pair>) -> Result<HashSet<u32>> {
    let g = dev.geometry();
    let mut used = HashSet::new();
    let mut lists = Reached::new(g.block_count);
    let mut met: HashSet<[u32; 2]> = HashSet::new();
    while let Some(pair) = pairs.pop() {
        if !met.insert(pair.0) {
            continue;
        }
        if met.len() > PAIRS_PER_BLOCK * g.block_count as usize {
            return Err(Corrupt::PairReachedTwice(pair).into());
        }
        used.extend(pair.0.iter().filter(|&&b| b < g.block_count));
        let Ok(f) = store::fetch_dir(dev, pair) else { continue };
        pairs.extend(f.log.tail.filter(|t| t.hard && !t.pair.is_null()).map(|t| t.pair));
        pairs.extend(entry::dirs(&f.log.entries));
        for list in entry::lists(&f.log.entries) {
            lists.add(dev, list)?;
        }
    }
    used.extend(lists.blocks);
    Ok(used)
}
