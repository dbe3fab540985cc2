//! What is known about a metadata pair, and access to the content of pairs.

use super::{DirId, Fs};
use crate::disk::log::{Log, Packed};
use crate::disk::{GState, Pair, Tail};
use crate::error::Result;
use crate::mdir::{LogEnd, Mdir};

/// The place of a metadata pair in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PairIx(pub u32);

/// What will become of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays.
    Stays,
    /// It has lost its last entry in memory. Its entries on disk are deleted when a tail passes
    /// over it.
    Emptied,
    /// It leaves the thread with its directory, when no entry on disk names the directory any more.
    Removed,
}

/// Which pairs the tails in the thread pass over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// New pairs are in the thread and emptied pairs are not. Removed directories are still in it.
    Grown,
    /// Like `Grown`, but of each removed directory, only the first pair is in the thread.
    Stubbed,
    /// The thread as it will be in the end.
    Final,
}

/// A metadata pair, with everything that must be known about it while its content is not in memory.
#[derive(Debug)]
pub(super) struct PairInfo {
    /// Active block, then its twin.
    pub blocks: Pair,
    /// Where the log of the active block ends.
    pub end: LogEnd,
    /// Whether all bytes after the log read 0xFF. `None` if this was not checked yet.
    pub appendable: Option<bool>,
    /// Whether the twin is erased, durably.
    pub twin_erased: bool,
    /// The tail on disk.
    pub disk_tail: Tail,
    /// This pair's delta of the global state on disk.
    pub gdelta: GState,
    /// The directory that it belongs to. `None` for superblock pairs other than the root's, and for
    /// orphans.
    pub dir: Option<DirId>,
    /// Whether a hardtail leads here.
    pub continues: bool,
    /// Whether it belongs to the superblock chain: blocks 0 and 1, and all pairs to which hardtails
    /// lead from there. Such a pair is never an orphan, whatever it holds.
    pub chain: bool,
    /// Whether metadata on disk leads to it.
    pub on_disk: bool,
    /// Whether it is in the thread.
    pub threaded: bool,
    /// Whether it will stay in the thread.
    pub fate: Fate,
    /// Whether names in it occur twice, or once did. Such a pair is never appended to.
    pub has_doubles: bool,
    /// Whether it must wait for a later round of the flush.
    pub deferred: bool,
    /// The next pair in the thread, or in a directory that is not in the thread.
    pub next: Option<PairIx>,
    /// The pair before it.
    pub prev: Option<PairIx>,
    /// Its content, if it is in memory.
    pub mdir: Option<Box<Mdir>>,
    /// Its log as opening read it, until its content is needed for the first time.
    pub packed: Option<Box<Log<Packed>>>,
    /// When it was last used.
    pub used: u32,
    /// How many bytes of its content are counted in the cache.
    pub counted: usize,
    /// Whether it is in the list of cached pairs.
    pub listed: bool,
}

impl PairInfo {
    /// A pair that exists only in memory.
    pub fn new(blocks: Pair, dir: Option<DirId>, continues: bool) -> Self {
        Self {
            blocks,
            end: LogEnd::default(),
            appendable: None,
            twin_erased: false,
            disk_tail: Tail::END,
            gdelta: GState::default(),
            dir,
            continues,
            chain: false,
            on_disk: false,
            threaded: false,
            fate: Fate::Stays,
            has_doubles: false,
            deferred: false,
            next: None,
            prev: None,
            mdir: Some(Box::default()),
            packed: None,
            used: 0,
            counted: 0,
            listed: false,
        }
    }
}

impl PairInfo {
    /// Whether its content is available without reading the device.
    pub fn is_in_memory(&self) -> bool {
        self.mdir.is_some() || self.packed.is_some()
    }

    /// How many bytes of memory its content takes.
    pub fn footprint(&self) -> usize {
        self.mdir.as_ref().map_or(0, |m| m.footprint())
            + self.packed.as_ref().map_or(0, |log| log.entries.footprint())
    }

    /// Take the log that opening has read, if the log on disk is still the same.
    pub fn take_packed(&mut self) -> Option<Box<Log<Packed>>> {
        let end = self.end;
        self.packed.take().filter(|log| LogEnd::of(log) == end)
    }
}

impl Fs {
    /// What is known about a pair.
    pub(super) fn pair(&self, ix: PairIx) -> &PairInfo {
        self.thread.get(ix)
    }

    /// What is known about a pair, for changing it.
    pub(super) fn pair_mut(&mut self, ix: PairIx) -> &mut PairInfo {
        self.thread.get_mut(ix)
    }

    /// The content of a pair. It is read if it is not in memory.
    pub(super) fn mdir(&mut self, ix: PairIx) -> Result<&mut Mdir> {
        self.thread.mdir(self.durable.dev(), &self.dirs, ix)
    }

    /// The content of a pair, for changing it. The pair is marked as changed.
    pub(super) fn mdir_mut(&mut self, ix: PairIx) -> Result<&mut Mdir> {
        self.mdir(ix)?;
        self.thread.mark_dirty(ix);
        Ok(self.pair_mut(ix).mdir.get_or_insert_default())
    }

    /// If the content of a pair is in memory, set again which directory each of its entries names.
    pub(super) fn resolve(&mut self, ix: PairIx) {
        let p = self.thread.get_mut(ix);
        if let Some(mdir) = p.mdir.take() {
            p.mdir = Some(Box::new(self.dirs.resolve(p.dir, *mdir)));
        }
    }

    /// Keep only this many bytes of metadata pairs in memory, because most of them will not be
    /// needed again.
    #[cfg(feature = "transfer")]
    pub(crate) fn limit_cache(&mut self, bytes: usize) {
        self.thread.limit_cache(bytes);
    }
}
