//! Pairs that are named by entries which are no directories: by entries without a name, and by
//! entries of a type that this version does not know.
//!
//! Nothing is read through such an entry. But another version may know its type, and a repair may
//! give it its name back, so everything that lies behind it counts as used.

use std::collections::HashSet;

use super::list::Reached;
use crate::bd::BlockDevice;
use crate::disk::{Pair, entry};
use crate::error::{Corrupt, Result};
use crate::mdir::store;

/// Pairs read for each block of the image. Directories that contain each other in ever new
/// combinations of blocks must not be followed without end.
const PAIRS_PER_BLOCK: usize = 4;

/// The blocks of `pairs` and of everything that they lead to, as far as it can be read: the pairs
/// of their directories, and every block that any pointer of a list leads to.
///
/// # Errors
/// `Corrupt` when they lead to more places than are looked at.
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
