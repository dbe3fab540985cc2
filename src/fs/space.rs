//! Space: which blocks are free, which are promised, and which will become free.
//!
//! [`Space`] owns this, and nothing else in the filesystem sees its fields. What must hold:
//!
//! 1. A block is taken only from a complete map. So code that takes a block must have called
//!    [`Fs::need_map`] or [`Fs::complete_map`] before.
//! 2. A block that something on disk names is never freed, only *retired*: it becomes free after
//!    the flush that removes the last reference to it from the image, and when no running read
//!    holds its list. If it were freed and overwritten earlier, a crash could bring back metadata
//!    that names it. Blocks that nothing on disk ever named are *discarded*, which frees them at
//!    once.
//! 3. No more blocks are promised to files than are free. So a flush finds the blocks that were
//!    promised to earlier operations.
//! 4. A list that cannot be followed may hold any block. From then on nothing is freed or taken,
//!    because the filesystem is read-only.
//!
//! [`Fs::need_map`]: super::Fs::need_map
//! [`Fs::complete_map`]: super::Fs::complete_map

use std::collections::HashSet;
use std::sync::Arc;

use super::Usage;
use super::list::{BlockList, Readings, reader};
use crate::alloc::Alloc;
use crate::bd::{BlockDevice, Geometry};
use crate::disk::list::{self, List};
use crate::disk::{ListIndex, Pair};
use crate::error::{Corrupt, Error, IoError, Result};

/// How many blocks of files are followed at a time for the map of free blocks.
const WALK_BLOCKS: u32 = 4096;

/// How many blocks of lists may be looked at for each block of the image. Sound lists do not share
/// blocks, so they need no more than one. This limits the time for damaged lists.
const LOOKS_PER_BLOCK: u64 = 8;

/// Blocks that nothing in memory needs any more. They become free when nothing on disk needs them.
#[derive(Debug)]
enum Retired {
    /// These blocks, as soon as no running read uses the list that they belong to.
    Blocks {
        /// The addresses of the blocks.
        blocks: Vec<u32>,
        /// The list that they belong to.
        guard: Arc<BlockList>,
    },
    /// The end of a list, as soon as no running read uses the list.
    Tail {
        /// The list.
        list: Arc<BlockList>,
        /// The index of the first block that becomes free.
        from: ListIndex,
    },
    /// A whole CTZ list.
    Stored(List),
}

impl Retired {
    fn is_being_read(&self) -> bool {
        match self {
            Self::Blocks { guard, .. } => Arc::strong_count(guard) > 1,
            Self::Tail { list, .. } => Arc::strong_count(list) > 1,
            Self::Stored(_) => false,
        }
    }

    fn addresses(&self, dev: &dyn BlockDevice) -> Result<Vec<u32>> {
        match self {
            Self::Blocks { blocks, .. } => Ok(blocks.clone()),
            Self::Tail { list, from } => list.addresses(dev, *from, ListIndex(list.len())),
            Self::Stored(list) => Ok(list::addresses(dev.geometry(), *list, reader(dev))
                .map_err(|broken| Error::of_list(*list, broken))?),
        }
    }

    #[cfg(feature = "mount")]
    fn count(&self, block_size: u32) -> u32 {
        match self {
            Self::Blocks { blocks, .. } => blocks.len() as u32,
            Self::Tail { list, from } => list.len().saturating_sub(from.0),
            Self::Stored(list) => list.blocks(block_size),
        }
    }
}

/// The result of adding the blocks of a list to the map.
pub(super) struct TakenUp {
    /// Whether its pointers disagree about the blocks that it has.
    pub disagrees: bool,
    /// Why the map cannot be completed any more.
    pub problem: Option<Error>,
}

/// The blocks of an open filesystem.
#[derive(Debug)]
pub(super) struct Space {
    geometry: Geometry,
    map: Alloc,
    /// The lists whose blocks are not in the map yet.
    unmapped: Vec<List>,
    /// How many blocks of lists are in the map.
    blocks_mapped: u64,
    /// How many blocks the lists have that cannot be followed, according to the sizes of their
    /// files.
    blocks_unknown: u32,
    /// Whether there is a list that cannot be followed, so that it is not known which blocks are
    /// free.
    is_unmappable: bool,
    /// Whether another thread completes the map.
    is_deferred: bool,
    retired: Vec<Retired>,
    /// If an operation was interrupted before the image was opened, the blocks of all pairs. In
    /// this case, two entries may name the same list.
    interrupted: Option<HashSet<u32>>,
}

impl Space {
    /// The space of an image that has these lists. `seed` chooses the block at which the search for
    /// free blocks starts.
    pub fn new(geometry: Geometry, seed: u32, lists: Vec<List>) -> Self {
        Self {
            geometry,
            map: Alloc::new(geometry.block_count, seed),
            unmapped: lists,
            blocks_mapped: 0,
            blocks_unknown: 0,
            is_unmappable: false,
            is_deferred: false,
            retired: Vec::new(),
            interrupted: None,
        }
    }

    /// Expect that two entries may name the same list. A list and one of `pairs` still must not
    /// share a block.
    pub fn expect_shared_lists(&mut self, pairs: HashSet<u32>) {
        self.interrupted = Some(pairs);
    }

    /// Use this map, which is complete.
    pub fn adopt(&mut self, map: Alloc) {
        self.map = map;
        self.unmapped = Vec::new();
        self.map.set_complete();
    }

    /// Like [`Alloc::mark`].
    pub fn mark(&mut self, block: u32) {
        self.map.mark(block);
    }

    /// Like [`Alloc::pin`].
    pub fn pin(&mut self, block: u32) {
        self.map.pin(block);
    }

    /// Like [`Alloc::search_from`].
    #[cfg(feature = "transfer")]
    pub fn search_from(&mut self, block: u32) {
        self.map.search_from(block);
    }

    /// Note that another thread completes the map.
    #[cfg(feature = "mount")]
    pub fn defer(&mut self) {
        self.is_deferred = true;
    }

    /// Whether another thread completes the map.
    pub fn is_deferred(&self) -> bool {
        self.is_deferred
    }

    /// Like [`Alloc::is_complete`].
    pub fn is_complete(&self) -> bool {
        self.map.is_complete()
    }

    /// Some of the lists whose blocks are not in the map yet. They must be followed, and the result
    /// must be passed to [`Self::take_up`]. `None` when the map is complete.
    pub fn next_lists(&mut self) -> Option<Vec<List>> {
        if self.map.is_complete() {
            return None;
        }
        let mut blocks = 0u32;
        let lists: Vec<List> = self
            .unmapped
            .iter()
            .rev()
            .take_while(|list| {
                let more = blocks < WALK_BLOCKS;
                blocks = blocks.saturating_add(list.blocks(self.geometry.block_size));
                more
            })
            .copied()
            .collect();
        if lists.is_empty() {
            self.map.set_complete();
            return None;
        }
        Some(lists)
    }

    /// Mark the blocks of a list that was followed. If it is not the next list, because another
    /// thread has marked it in the meantime, nothing is marked, and this returns `None`.
    pub fn take_up(&mut self, list: List, found: Result<Readings>) -> Option<TakenUp> {
        if self.unmapped.last() != Some(&list) {
            return None;
        }
        self.unmapped.pop();
        let disagrees = found.as_ref().is_ok_and(|readings| !readings.others.is_empty());
        let Geometry { block_size, block_count } = self.geometry;
        let blocks = list.blocks(block_size).min(block_count);
        if found.is_err() {
            self.blocks_unknown = self.blocks_unknown.saturating_add(blocks);
        }
        let marked = found.and_then(|readings| Ok(self.mark_list(list.head, &readings)?));
        let problem = marked.err();
        self.blocks_mapped += u64::from(blocks);
        if self.blocks_mapped > LOOKS_PER_BLOCK * u64::from(block_count) {
            self.unmapped = Vec::new();
        }
        Some(TakenUp { disagrees, problem })
    }

    /// Mark the blocks of a list. A block that is in use already is an error, because it would be
    /// freed with one of its two owners while the other one still needs it. Only after an
    /// interrupted move may two entries name the same list, and even then no block may belong to a
    /// list and a metadata pair.
    ///
    /// If the pointers of a list disagree, everything that any of them leads to stays in use: a
    /// device may read the file by these pointers, and it is not known which of them are right.
    fn mark_list(&mut self, head: u32, readings: &Readings) -> Result<(), Corrupt> {
        for &block in &readings.others {
            self.map.pin(block);
        }
        let mut shared = None;
        for &block in &readings.list {
            let is_another =
                || self.interrupted.as_ref().is_none_or(|pairs| pairs.contains(&block));
            if !self.map.mark(block) && !self.map.is_pinned(block) && is_another() {
                shared.get_or_insert(Corrupt::CtzShared { head, block });
            }
        }
        shared.map_or(Ok(()), Err)
    }

    /// Note that it is not known any more which blocks are free. Returns false if that was noted
    /// before.
    pub fn set_unmappable(&mut self) -> bool {
        !std::mem::replace(&mut self.is_unmappable, true)
    }

    /// The error for a list that cannot be inside the image, if its head or its size shows this
    /// without following the list.
    pub fn list_outside(&self) -> Option<Corrupt> {
        let Geometry { block_size, block_count } = self.geometry;
        self.unmapped.iter().find_map(|&list| {
            let (List { head, size }, count) = (list, list.blocks(block_size));
            match count.checked_sub(1)? {
                index if count <= block_count && head >= block_count => {
                    Some(Corrupt::CtzOutOfRange { head, index, block: head })
                }
                _ if count > block_count => Some(Corrupt::CtzTooLong { head, size }),
                _ => None,
            }
        })
    }

    /// Like [`Alloc::is_used`].
    pub fn is_used(&self, block: u32) -> bool {
        self.map.is_used(block)
    }

    /// Like [`Alloc::end`].
    pub fn end(&self) -> u32 {
        self.map.end()
    }

    /// How many blocks are used and free according to the map. For lists that cannot be followed,
    /// their sizes are counted.
    pub fn usage(&self) -> Usage {
        self.usage_with(self.blocks_unknown)
    }

    /// How many blocks are used and free if that many blocks are in use beside those in the map.
    fn usage_with(&self, beside: u32) -> Usage {
        // only in a damaged image are there more blocks in lists than in the image
        let beside = beside.min(self.geometry.block_count.saturating_sub(self.map.used()));
        Usage {
            blocks_used: self.map.used() + beside,
            blocks_free: self.map.available().saturating_sub(beside),
        }
    }

    /// How many blocks are used and free. For lists whose blocks are not in the map yet, their
    /// sizes are counted.
    #[cfg(feature = "mount")]
    pub fn usage_so_far(&self) -> Usage {
        let block_size = self.geometry.block_size;
        let unmapped = self.unmapped.iter().map(|list| list.blocks(block_size));
        self.usage_with(unmapped.fold(self.blocks_unknown, u32::saturating_add))
    }

    /// Like [`Alloc::available`].
    pub fn available(&self) -> u32 {
        self.map.available()
    }

    /// Like [`Alloc::reserve`].
    #[must_use = "there may be no such blocks"]
    pub fn reserve(&mut self, old: u32, new: u32) -> bool {
        self.map.reserve(old, new)
    }

    /// Reduce a promise of `old` blocks to `new` blocks, if these are fewer.
    pub fn shrink_promise(&mut self, old: u32, new: u32) {
        self.map.reserve(old, new.min(old));
    }

    /// Take two free blocks that are not promised to anybody.
    pub fn take_pair(&mut self) -> Option<Pair> {
        if self.map.available() < 2 {
            return None;
        }
        Some(Pair([self.map.take()?, self.map.take()?]))
    }

    /// Like [`Alloc::take_to_write`].
    ///
    /// # Errors
    /// Those of [`Alloc::take_to_write`].
    pub fn take_to_write(&mut self) -> Result<u32> {
        self.map.take_to_write()
    }

    /// Like [`Alloc::written`].
    pub fn written(&mut self) {
        self.map.written();
    }

    /// Like [`Alloc::spoil`].
    ///
    /// # Errors
    /// Those of [`Alloc::spoil`].
    pub fn spoil(&mut self, block: u32, e: IoError) -> Result<()> {
        self.map.spoil(block, e)
    }

    /// Free this block. Nothing on disk has ever named it, and nothing in memory names it.
    pub fn free(&mut self, block: u32) {
        self.map.free(block);
    }

    /// Let these blocks become free as soon as no running read needs the list that they belong to.
    /// Nothing on disk has ever named them.
    pub fn discard(&mut self, blocks: Vec<u32>, guard: Arc<BlockList>) {
        if Arc::strong_count(&guard) > 1 {
            if !blocks.is_empty() {
                self.retired.push(Retired::Blocks { blocks, guard });
            }
        } else {
            blocks.into_iter().for_each(|b| self.map.free(b));
        }
    }

    /// Let these blocks of metadata become free when nothing on disk needs them.
    pub fn retire(&mut self, blocks: Vec<u32>) {
        if !blocks.is_empty() {
            self.retired.push(Retired::Blocks { blocks, guard: Arc::default() });
        }
    }

    /// Let the blocks of `list` from index `from` become free when nothing on disk and no running
    /// read needs them.
    pub fn retire_list(&mut self, list: Arc<BlockList>, from: ListIndex) {
        if from < ListIndex(list.len()) {
            self.retired.push(Retired::Tail { list, from });
        }
    }

    /// Like [`Self::retire_list`], for the list that the entry on disk names (`durable`) and for
    /// the list that should have replaced it. The two have their first `shared` blocks in common.
    pub fn retire_lists(&mut self, list: Arc<BlockList>, durable: Arc<BlockList>, shared: u32) {
        self.retire_list(list, ListIndex(shared));
        self.retire_list(durable, ListIndex::FIRST);
    }

    /// Like [`Self::retire_list`], for a whole list that was never loaded.
    pub fn retire_stored(&mut self, list: List) {
        self.retired.push(Retired::Stored(list));
    }

    /// Take `list` out of the retired lists, if it is there, because it is needed again.
    pub fn keep(&mut self, list: &Arc<BlockList>) {
        self.retired
            .retain(|r| !matches!(r, Retired::Tail { list: gone, .. } if Arc::ptr_eq(gone, list)));
    }

    /// Whether blocks wait to become free.
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// How many blocks wait to become free.
    #[cfg(feature = "mount")]
    pub fn blocks_retired(&self) -> u32 {
        let count = |r: &Retired| r.count(self.geometry.block_size);
        self.retired.iter().map(count).fold(0, u32::saturating_add).min(self.map.used())
    }

    /// Free the blocks that waited for a flush. Everything in memory is on disk now, and the map is
    /// complete.
    pub fn free_retired(&mut self, dev: &dyn BlockDevice) {
        let mut waiting = Vec::new();
        for r in std::mem::take(&mut self.retired) {
            if r.is_being_read() {
                waiting.push(r);
                continue;
            }
            match r.addresses(dev) {
                Ok(blocks) => blocks.into_iter().for_each(|b| self.map.free(b)),
                Err(e) => ::log::warn!("blocks of a removed file stay in use: {e}"),
            }
        }
        self.retired = waiting;
    }
}
