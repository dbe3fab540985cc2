//! Which blocks are in use, and whose list of blocks is not sound.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::model::Model;
use crate::alloc::Alloc;
use crate::bd::BlockDevice;
use crate::check::list_code;
use crate::disk::list::{self, Met, Place};
use crate::disk::{List, ctz};
use crate::fs::blocks_behind;
use crate::mdir::store;

/// How often every block of the image may be looked at for the sake of broken lists, which share
/// nothing with each other in an image that only one accident has hit.
const LOOKS_MAX: u64 = 8;

/// What is wrong with a file's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be followed to the file's beginning.
    Broken(&'static str),
    /// A block of it is used by something else as well, or twice.
    Shared,
    /// Its pointers disagree.
    Pointers,
}

/// A file with such a list.
pub(super) struct Damaged {
    /// The metadata pair of its entry: index in the model.
    pub node: usize,
    pub id: u16,
    pub list: List,
    pub fault: Fault,
}

/// Every block, and every list that is not sound.
pub(super) struct Census {
    /// In use, as far as any pointer tells.
    pub used: Alloc,
    /// Blocks of metadata pairs alone.
    pub metadata: Alloc,
    pub damaged: Vec<Damaged>,
}

impl Census {
    /// Whether some list leads to blocks that nobody knows.
    pub fn is_uncertain(&self) -> bool {
        self.damaged.iter().any(|d| matches!(d.fault, Fault::Broken(_) | Fault::Pointers))
    }

    /// Count every block that reads anything but erased as used: nothing that could be wanted is
    /// in the others.
    pub fn keep_to_erased(&mut self, dev: &dyn BlockDevice) {
        for block in 0..dev.geometry().block_count {
            if !self.used.is_used(block) && !store::is_erased_from(dev, block, 0) {
                self.used.mark(block);
            }
        }
    }
}

/// Look at every list.
pub(super) fn census(dev: &dyn BlockDevice, model: &Model) -> Census {
    let g = dev.geometry();
    let bitmap = || Alloc::new(g.block_count, 0);
    let mut metadata = bitmap();
    for pair in model.nodes.iter().map(|n| &n.pair).chain(&model.named) {
        for b in pair.0 {
            metadata.mark(b);
        }
    }
    let mut c = Counter {
        dev,
        used: metadata.clone(),
        owned: metadata.clone(),
        metadata,
        mine: bitmap(),
        looks: LOOKS_MAX * u64::from(g.block_count),
    };
    match blocks_behind(dev, model.stray.clone()) {
        Ok(blocks) => blocks.into_iter().for_each(|b| _ = c.used.mark(b)),
        // what they lead to cannot be told: nothing is free
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
    Census { used: c.used, metadata: c.metadata, damaged }
}

struct Counter<'a> {
    dev: &'a dyn BlockDevice,
    metadata: Alloc,
    used: Alloc,
    /// By metadata or by a list that is sound.
    owned: Alloc,
    /// By the list at hand.
    mine: Alloc,
    looks: u64,
}

impl Counter<'_> {
    /// Follow a list from its head, comparing all its pointers. Its blocks are its own from now on
    /// if it is sound.
    fn walk(&mut self, list: List, is_file: bool) -> Option<Fault> {
        let dev = self.dev;
        let mut blocks = Vec::new();
        let mut fault = None;
        let visit = |met: Met<'_>| {
            match met {
                Met::Block(at) if self.owned.is_used(at.block) || !self.mine.mark(at.block) => {
                    fault = Some(Fault::Shared);
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
        let sound = !matches!(fault, Some(Fault::Broken(_)));
        if !sound {
            self.looks = self.looks.saturating_sub(blocks.len() as u64);
        }
        for b in blocks {
            self.mine.free(b);
            self.used.mark(b);
            // lists that overlap without end must not be followed without end
            if is_file && (sound || self.looks == 0) {
                self.owned.mark(b);
            }
        }
        fault
    }

    /// Mark whatever any pointer of a list leads to.
    fn mark_all(&mut self, list: List) {
        let used = &mut self.used;
        let mut looks = self.looks;
        reach(self.dev, list, &self.metadata, |_, block| {
            looks = looks.saturating_sub(1);
            used.mark(block);
            looks > 0
        });
        self.looks = looks;
    }
}

/// The blocks of a list from the first on, by the pointers from each to the one before.
pub(super) fn chain(dev: &dyn BlockDevice, list: List) -> Option<Vec<u32>> {
    let mut blocks = Vec::new();
    let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
    let visit = |met: Met<'_>| {
        if let Met::Block(at) = met {
            blocks.push(at.block);
        }
        ControlFlow::Continue(())
    };
    list::follow(dev.geometry(), list, read, visit).ok()?;
    blocks.reverse();
    Some(blocks)
}

/// Call `found` with index and address of every block of a list that can be reached by any of its
/// pointers, from the last to the first, until it says no. Where pointers disagree, the nearest
/// counts that leads to a readable block not met before and not `barred`.
pub(super) fn reach(
    dev: &dyn BlockDevice,
    list: List,
    barred: &Alloc,
    mut found: impl FnMut(u32, u32) -> bool,
) {
    let g = dev.geometry();
    let count = list.blocks(g.block_size);
    if count == 0 || count > g.block_count {
        return;
    }
    let mut met = std::collections::HashSet::new();
    // who may be at an index, the nearest pointer last
    let mut candidates = BTreeMap::from([(count - 1, vec![list.head])]);
    while let Some((i, blocks)) = candidates.pop_last() {
        let readable = |&b: &u32| {
            if b >= g.block_count || met.contains(&b) || barred.is_used(b) {
                return None;
            }
            let at = Place { index: i, block: b };
            let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
            let ptrs = list::read_pointers(at, read).ok()?;
            // block 0 has no pointers: look at it all the same
            dev.read(b, 0, &mut [0; 4]).ok()?;
            Some((b, ptrs))
        };
        let Some((block, ptrs)) = blocks.iter().rev().find_map(readable) else { continue };
        met.insert(block);
        if !found(i, block) {
            return;
        }
        for (target, p) in ctz::targets(i).zip(ptrs) {
            candidates.entry(target).or_default().push(p);
        }
    }
}
