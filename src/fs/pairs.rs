//! What is known of a metadata pair, and the content of pairs for whoever works on the whole.

use super::{DirId, Fs};
use crate::disk::{GState, Pair, Tail};
use crate::error::Result;
use crate::mdir::{LogEnd, Mdir};

/// Bytes of clean parsed pairs kept in memory: 100,000 small entries.
pub(super) const CACHE_MAX: usize = 24 << 20;
/// How much of that opening fills.
pub(super) const CACHE_AT_OPEN: usize = CACHE_MAX / 3;

/// A metadata pair's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PairIx(pub u32);

/// What is to become of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays.
    Stays,
    /// It lost its last entry: passing over it deletes what it holds on disk.
    Emptied,
    /// It goes with its directory, once no entry on disk names that.
    Removed,
}

/// Which pairs a tail passes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// New pairs are in, emptied ones out, removed directories still in.
    Grown,
    /// Like `Grown`, but removed directories keep their first pair only.
    Stubbed,
    /// As it is to be in the end.
    Final,
}

/// A metadata pair: what must be known of it while its content is not in memory.
#[derive(Debug)]
pub(super) struct PairInfo {
    /// Active block, then its twin.
    pub blocks: Pair,
    /// Where the log of the active block ends.
    pub end: LogEnd,
    /// Whether all bytes behind that read 0xFF; unknown until looked at.
    pub appendable: Option<bool>,
    /// Whether the twin is durably erased.
    pub twin_erased: bool,
    /// The tail on disk.
    pub disk_tail: Tail,
    /// This pair's delta of the global state on disk.
    pub gdelta: GState,
    /// The directory it belongs to; none for superblocks apart from the root, and for orphans.
    pub dir: Option<DirId>,
    /// Whether a hardtail leads here.
    pub continues: bool,
    /// Whether it is of the superblock chain: blocks 0 and 1, and what hardtails lead to from
    /// there. It is never an orphan, whatever it holds.
    pub chain: bool,
    /// Whether durable metadata reaches it.
    pub on_disk: bool,
    /// Whether it is in the thread.
    pub threaded: bool,
    /// Whether it is to stay in the thread.
    pub fate: Fate,
    /// Whether names in it are, or were, there twice: it is never appended to.
    pub has_doubles: bool,
    /// Whether it has to wait for a later round of the flush.
    pub deferred: bool,
    /// The next pair of the thread, or of an unthreaded directory.
    pub next: Option<PairIx>,
    /// The one before.
    pub prev: Option<PairIx>,
    /// The first name in it.
    pub first: Option<Box<[u8]>>,
    /// Its content, if in memory.
    pub mdir: Option<Box<Mdir>>,
    /// When it was used last.
    pub used: u32,
    /// Bytes of its content counted in the cache.
    pub counted: usize,
    /// Whether the list of cached pairs names it.
    pub listed: bool,
}

impl PairInfo {
    /// A pair in memory only.
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
            first: None,
            mdir: Some(Box::default()),
            used: 0,
            counted: 0,
            listed: false,
        }
    }
}

impl Fs {
    /// What is known of a pair.
    pub(super) fn pair(&self, ix: PairIx) -> &PairInfo {
        self.thread.get(ix)
    }

    /// The same, to be changed.
    pub(super) fn pair_mut(&mut self, ix: PairIx) -> &mut PairInfo {
        self.thread.get_mut(ix)
    }

    /// The content of a pair, read if need be.
    pub(super) fn mdir(&mut self, ix: PairIx) -> Result<&mut Mdir> {
        self.thread.mdir(self.durable.dev(), &self.dirs, ix)
    }

    /// The content of a pair, to be changed.
    pub(super) fn mdir_mut(&mut self, ix: PairIx) -> Result<&mut Mdir> {
        self.mdir(ix)?;
        self.thread.mark_dirty(ix);
        self.mdir(ix)
    }

    /// Fill in again which directory each entry of a pair stands for, if its content is in memory.
    pub(super) fn resolve(&mut self, ix: PairIx) {
        let p = self.thread.get_mut(ix);
        if let Some(mdir) = p.mdir.take() {
            p.mdir = Some(Box::new(self.dirs.resolve(p.dir, *mdir)));
        }
    }

    /// Keep so many bytes of metadata pairs in memory, where most of them are not asked for again.
    #[cfg(feature = "transfer")]
    pub(crate) fn limit_cache(&mut self, bytes: usize) {
        self.thread.limit_cache(bytes);
    }
}
