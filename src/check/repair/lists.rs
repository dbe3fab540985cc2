//! Which blocks are in use, and which files have lists that are not sound.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::ops::ControlFlow;

use super::model::Model;
use crate::alloc::Alloc;
use crate::bd::BlockDevice;
use crate::check::list_code;
use crate::disk::list::{self, AllWays, Met, Place};
use crate::disk::{List, ListIndex, ctz};
use crate::fs::blocks_behind;
use crate::mdir::store;

/// The bound for following broken lists: at most this many looks at blocks for each block of the
/// image. Damage by a single accident needs fewer, because such lists do not share blocks with each
/// other.
const LOOKS_MAX: u64 = 8;

/// What is wrong with a file's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be followed to the beginning of the file. The code says why.
    Broken(&'static str),
    /// One of its blocks is also used by something else, or used twice.
    Shared {
        /// Whether its pointers are known to agree, so that it is known which blocks it has.
        agrees: bool,
    },
    /// Its pointers disagree about the address of a block.
    Pointers,
}

/// A file with an unsound list.
pub(super) struct Damaged {
    /// The metadata pair of its entry, as an index in the model.
    pub node: usize,
    pub id: u16,
    pub list: List,
    pub fault: Fault,
}

/// Which blocks are in use, and all lists that are not sound.
pub(super) struct Census {
    /// The blocks in use, according to all pointers together.
    pub used: Alloc,
    /// Only the blocks of metadata pairs.
    pub metadata: Alloc,
    /// The blocks of metadata pairs, and of files whose lists can be followed.
    pub owned: Alloc,
    pub damaged: Vec<Damaged>,
}

impl Census {
    /// Whether there are lists whose blocks are not all known.
    pub fn is_uncertain(&self) -> bool {
        self.damaged.iter().any(|d| !matches!(d.fault, Fault::Shared { agrees: true }))
    }

    /// Count every block that is not erased as used. Erased blocks cannot hold anything that
    /// somebody may need.
    pub fn keep_to_erased(&mut self, dev: &dyn BlockDevice) {
        for block in 0..dev.geometry().block_count {
            if !self.used.is_used(block) && !store::is_erased_from(dev, block, 0) {
                self.used.mark(block);
            }
        }
    }
}

/// Take the census: look at every list.
pub(super) fn census(dev: &dyn BlockDevice, model: &Model) -> Census {
    let g = dev.geometry();
    let bitmap = || Alloc::new(g.block_count, 0);
    let mut metadata = bitmap();
    for pair in model.nodes.iter().map(|n| &n.pair).chain(&model.named) {
        for b in pair.0 {
            metadata.mark(b);
        }
    }
    let looks = LOOKS_MAX * u64::from(g.block_count);
    let mut c = Counter {
        dev,
        used: metadata.clone(),
        owned: metadata.clone(),
        metadata,
        mine: bitmap(),
        looks,
        ways: AllWays::new(looks),
    };
    match blocks_behind(dev, model.stray.clone()) {
        Ok(blocks) => blocks.into_iter().for_each(|b| _ = c.used.mark(b)),
        // It is not known what these pointers lead to, so no block counts as free.
        Err(_) => (0..g.block_count).for_each(|b| _ = c.used.mark(b)),
    }
    let mut damaged = Vec::new();
    for e in &model.lists {
        let fault = c.walk(e.list, e.is_file);
        if fault.is_some() {
            c.mark_all(e.list);
        }
        if let Some(fault) = fault.filter(|_| e.is_file) {
            damaged.push(Damaged { node: e.node, id: e.id, list: e.list, fault });
        }
    }
    Census { used: c.used, metadata: c.metadata, owned: c.owned, damaged }
}

struct Counter<'a> {
    dev: &'a dyn BlockDevice,
    metadata: Alloc,
    used: Alloc,
    /// Blocks of metadata, and of files whose list is sound.
    owned: Alloc,
    /// The blocks of the list that is being followed.
    mine: Alloc,
    /// How many more blocks of broken lists may be followed.
    looks: u64,
    /// What [`Self::mark_all`] has visited.
    ways: AllWays,
}

impl Counter<'_> {
    /// Follow a list from its head, and compare all its pointers. If it is sound, its blocks belong
    /// to it from now on.
    fn walk(&mut self, list: List, is_file: bool) -> Option<Fault> {
        let dev = self.dev;
        let mut blocks = Vec::new();
        let mut fault = None;
        let visit = |met: Met<'_>| {
            match met {
                Met::Block(at) if self.owned.is_used(at.block) || !self.mine.mark(at.block) => {
                    fault = Some(Fault::Shared { agrees: false });
                    return ControlFlow::Break(());
                }
                Met::Block(at) => blocks.push(at.block),
                Met::Pointers { agrees: false, .. } => fault = Some(Fault::Pointers),
                Met::Pointers { .. } => {}
            }
            ControlFlow::Continue(())
        };
        let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
        if let Err(broken) = list::follow(dev.geometry(), list, read, visit) {
            fault = Some(Fault::Broken(list_code(&broken)));
        }
        if let Some(Fault::Shared { agrees }) = &mut fault {
            *agrees = self.agrees(list);
        }
        let sound = !matches!(fault, Some(Fault::Broken(_)));
        if !sound {
            self.looks = self.looks.saturating_sub(blocks.len() as u64);
        }
        for b in blocks {
            self.mine.free(b);
            self.used.mark(b);
            // When the bound is reached, broken lists keep their blocks, too. Lists that overlap
            // then end at once.
            if is_file && (sound || self.looks == 0) {
                self.owned.mark(b);
            }
        }
        fault
    }

    /// Whether all pointers of a list agree. False if too many lists had to be followed to find
    /// out.
    fn agrees(&mut self, list: List) -> bool {
        let count = u64::from(list.blocks(self.dev.geometry().block_size));
        let Some(looks) = self.looks.checked_sub(count) else { return false };
        self.looks = looks;
        let mut all = true;
        let visit = |met: Met<'_>| {
            if let Met::Pointers { agrees: false, .. } = met {
                all = false;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let read = |block, off, bytes: &mut [u8]| self.dev.read(block, off, bytes);
        list::follow(self.dev.geometry(), list, read, visit).is_ok() && all
    }

    /// Mark every block to which any pointer of a list leads. It is not known which of the pointers
    /// are right, so a copy that is written to one of these blocks could destroy what it is to
    /// save. If there are too many places to look at, no block counts as free.
    fn mark_all(&mut self, list: List) {
        let g = self.dev.geometry();
        let visit = |at: Place| -> Result<Vec<u32>, Infallible> {
            // what follows from a block of a metadata pair is not part of any file
            if self.metadata.is_used(at.block) {
                return Ok(Vec::new());
            }
            self.used.mark(at.block);
            let read = |block, off, bytes: &mut [u8]| self.dev.read(block, off, bytes);
            // there is no way on from a block that cannot be read
            Ok(list::read_pointers(at, read).unwrap_or_default())
        };
        if let Ok(Some(_)) = self.ways.follow(g, list, visit) {
            (0..g.block_count).for_each(|b| _ = self.used.mark(b));
        }
    }
}

/// The blocks of a list in the order of the file. If pointers disagree about a block, the address
/// counts that most of them give, and of several such addresses the one from the nearest block.
/// Addresses of `metadata` count only if there is no other.
pub(super) fn chain(dev: &dyn BlockDevice, list: List, metadata: &Alloc) -> Option<Vec<u32>> {
    let g = dev.geometry();
    let count = list.blocks(g.block_size);
    let last = ListIndex::last_of(count).filter(|_| count <= g.block_count)?;
    let mut blocks = Vec::with_capacity(count as usize);
    // the addresses given for each index; the one from the nearest block comes last
    let mut given = BTreeMap::from([(last, vec![list.head])]);
    for index in ListIndex::FIRST.up_to(ListIndex(count)).rev() {
        let addresses = given.remove(&index)?;
        let votes = |block: &u32| addresses.iter().filter(|other| *other == block).count();
        let weight = |block: &&u32| (!metadata.is_used(**block), votes(block));
        // of several equal ones, the last one counts
        let block = *addresses.iter().max_by_key(weight)?;
        if block >= g.block_count {
            return None;
        }
        let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
        let pointers = list::read_pointers(Place { index, block }, read).ok()?;
        for (target, pointer) in ctz::targets(index).zip(pointers) {
            given.entry(target).or_default().push(pointer);
        }
        blocks.push(block);
    }
    blocks.reverse();
    Some(blocks)
}

/// Call `found` with the index and address of a block for each index to which a pointer of a list
/// leads, from the last one to the first, until it returns false. If pointers disagree about a
/// block, one that no other file has is preferred, and then the pointer from the nearest block.
/// Blocks that cannot be read, were met before, or belong to metadata are not taken.
pub(super) fn reach(
    dev: &dyn BlockDevice,
    list: List,
    metadata: &Alloc,
    owned: &Alloc,
    mut found: impl FnMut(ListIndex, u32) -> bool,
) {
    let g = dev.geometry();
    let count = list.blocks(g.block_size);
    let last = ListIndex::last_of(count).filter(|_| count <= g.block_count);
    let Some(last) = last else { return };
    let mut met = HashSet::new();
    // the addresses given for each index; the one from the nearest block comes last
    let mut candidates = BTreeMap::from([(last, vec![list.head])]);
    while let Some((i, blocks)) = candidates.pop_last() {
        let readable = |&b: &u32| {
            if b >= g.block_count || met.contains(&b) || metadata.is_used(b) {
                return None;
            }
            let at = Place { index: i, block: b };
            let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
            let ptrs = list::read_pointers(at, read).ok()?;
            // the block with index 0 has no pointers, but it must be readable as well
            dev.read(b, 0, &mut [0; 4]).ok()?;
            Some((b, ptrs))
        };
        let nearest = || blocks.iter().rev();
        let preferred = nearest().filter(|&&b| !owned.is_used(b)).find_map(readable);
        let Some((block, ptrs)) = preferred.or_else(|| nearest().find_map(readable)) else {
            continue;
        };
        met.insert(block);
        if !found(i, block) {
            return;
        }
        for (target, p) in ctz::targets(i).zip(ptrs) {
            candidates.entry(target).or_default().push(p);
        }
    }
}
