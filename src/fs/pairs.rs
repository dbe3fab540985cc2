//! The table of metadata pairs: the thread through them, and the cache of their content.

use std::collections::HashMap;

use super::{DirId, Fs};
use crate::disk::{GState, Pair, Tail, name};
use crate::error::{Corrupt, Result};
use crate::mdir::{Data, Double, Kind, LogEnd, Mdir, Role, store};

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

/// Where walks back along the thread ended: pairs in a row share one walk.
pub(super) type WaysBack = HashMap<PairIx, Option<PairIx>>;

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
    pub(super) fn pair(&self, ix: PairIx) -> &PairInfo {
        match self.pairs.get(ix.0 as usize) {
            Some(Some(p)) => p,
            // indices come from this table and are dropped with their pair
            _ => panic!("stale pair index {ix:?}"),
        }
    }

    pub(super) fn pair_mut(&mut self, ix: PairIx) -> &mut PairInfo {
        match self.pairs.get_mut(ix.0 as usize) {
            Some(Some(p)) => p,
            _ => panic!("stale pair index {ix:?}"),
        }
    }

    pub(super) fn add_pair(&mut self, p: PairInfo) -> PairIx {
        match self.vacant.pop() {
            Some(ix) => {
                self.pairs[ix.0 as usize] = Some(p);
                ix
            }
            None => {
                self.pairs.push(Some(p));
                PairIx(self.pairs.len() as u32 - 1)
            }
        }
    }

    /// Forget a pair that is out of the thread.
    pub(super) fn forget_pair(&mut self, ix: PairIx) {
        self.dirty_pairs.remove(&ix);
        if let Some(p) = self.pairs[ix.0 as usize].take() {
            self.cached_bytes -= p.counted;
            self.vacant.push(ix);
        }
    }

    /// Put `ix` behind `prev` in the thread, or in `prev`'s unthreaded chain.
    pub(super) fn link_after(&mut self, prev: PairIx, ix: PairIx) {
        let next = self.pair_mut(prev).next.replace(ix);
        let threaded = self.pair(prev).threaded;
        let p = self.pair_mut(ix);
        p.prev = Some(prev);
        p.next = next;
        p.threaded = threaded;
        if let Some(next) = next {
            self.pair_mut(next).prev = Some(ix);
        }
    }

    /// Take `ix` out of the thread.
    pub(super) fn unlink_pair(&mut self, ix: PairIx) {
        let p = self.pair_mut(ix);
        let (prev, next) = (p.prev.take(), p.next.take());
        if let Some(prev) = prev {
            self.pair_mut(prev).next = next;
        }
        if let Some(next) = next {
            self.pair_mut(next).prev = prev;
        }
    }

    /// Whether `ix` is passed over by the tails of `view`.
    fn is_skipped(&self, ix: PairIx, view: View) -> bool {
        let p = self.pair(ix);
        p.deferred
            || match (p.fate, view) {
                (Fate::Stays, _) => false,
                (Fate::Emptied, _) | (Fate::Removed, View::Final) => true,
                (Fate::Removed, View::Stubbed) => p.continues,
                (Fate::Removed, View::Grown) => false,
            }
    }

    /// The pairs that `view` leaves out behind `ix`, and the one it goes on with.
    pub(super) fn skip_from(&self, ix: PairIx, view: View) -> (Vec<PairIx>, Option<PairIx>) {
        let mut skipped = Vec::new();
        let mut next = self.pair(ix).next;
        while let Some(n) = next.filter(|&n| self.is_skipped(n, view)) {
            skipped.push(n);
            next = self.pair(n).next;
        }
        (skipped, next)
    }

    /// The tail that `ix` has in `view`.
    pub(super) fn tail_in(&self, ix: PairIx, view: View) -> Tail {
        let (skipped, next) = self.skip_from(ix, view);
        match next {
            Some(n) => Tail { pair: self.pair(n).blocks, hard: self.pair(n).continues },
            None if self.pair(ix).threaded => Tail::END,
            // whatever the last pair of an unthreaded directory points at stays
            None => {
                let last = self.pair(skipped.last().copied().unwrap_or(ix)).disk_tail;
                if last.hard { Tail::END } else { last }
            }
        }
    }

    /// Whether the tail on disk leads where `view` wants it to.
    pub(super) fn tail_is_right(&self, ix: PairIx, view: View) -> bool {
        let (want, have) = (self.tail_in(ix, view), self.pair(ix).disk_tail);
        (want.pair.is_null() && have.pair.is_null())
            || (want.hard == have.hard && want.pair.same(have.pair))
    }

    /// The nearest pair from `ix` backwards whose commit makes `ix` reachable: itself, if durable
    /// metadata reaches it.
    pub(super) fn publisher(&self, ix: PairIx, ways: &mut WaysBack) -> PairIx {
        self.back_to(ix, |p| p.on_disk && p.fate != Fate::Emptied, ways).unwrap_or(ix)
    }

    /// The nearest pair from `ix` backwards, itself included, that `is_it`. While nothing of that
    /// changes, `ways` may be used again.
    pub(super) fn back_to(
        &self,
        ix: PairIx,
        is_it: impl Fn(&PairInfo) -> bool,
        ways: &mut WaysBack,
    ) -> Option<PairIx> {
        let mut passed = Vec::new();
        let mut at = Some(ix);
        let found = loop {
            let Some(here) = at else { break None };
            if let Some(&known) = ways.get(&here) {
                break known;
            }
            let p = self.pair(here);
            if is_it(p) {
                break Some(here);
            }
            passed.push(here);
            at = p.prev;
        };
        ways.extend(passed.into_iter().map(|p| (p, found)));
        found
    }

    /// The content of a pair, read if need be.
    pub(super) fn mdir(&mut self, ix: PairIx) -> Result<&mut Mdir> {
        self.tick = self.tick.wrapping_add(1);
        self.tally.wanted += 1;
        if self.pair(ix).mdir.is_none() {
            self.tally.loaded += 1;
            let blocks = self.pair(ix).blocks;
            let Some(log) = store::read_log(&*self.dev, blocks.0[0])? else {
                return Err(Corrupt::NoValidCommit(blocks).into());
            };
            let mdir = self.resolve(ix, Mdir::from_log(log));
            self.evict();
            self.pair_mut(ix).mdir = Some(Box::new(mdir));
            self.count(ix);
        }
        let tick = self.tick;
        let p = self.pair_mut(ix);
        p.used = tick;
        Ok(p.mdir.get_or_insert_default())
    }

    /// The content of a pair, to be changed.
    pub(super) fn mdir_mut(&mut self, ix: PairIx) -> Result<&mut Mdir> {
        self.mdir(ix)?;
        self.dirty_pairs.insert(ix);
        self.mdir(ix)
    }

    /// Fill in which directory each directory entry of pair `ix` stands for: none if that belongs
    /// to another entry, lest the tree have loops.
    pub(super) fn resolve(&self, ix: PairIx, mut mdir: Mdir) -> Mdir {
        let parent = self.pair(ix).dir;
        for e in &mut mdir.entries {
            if let Data::Dir { pair, dir } = &mut e.data {
                let named = self.heads.get(&pair.0[0]).or_else(|| self.heads.get(&pair.0[1]));
                *dir = named.copied().filter(|d| {
                    let d = self.dirs.get(d.0);
                    d.is_some_and(|d| Some(d.parent) == parent && d.name == e.name)
                });
            }
        }
        mdir
    }

    /// Keep `first` in step with the content.
    ///
    /// It does not rise while the pair waits to be flushed: a name that was removed and comes back
    /// must meet its own pair, or a crash could show both or neither.
    pub(super) fn refresh_first(&mut self, ix: PairIx) {
        let dirty = self.dirty_pairs.contains(&ix);
        let p = self.pair_mut(ix);
        if let Some(m) = &p.mdir {
            let first = m.entries.iter().find(|e| e.kind != Kind::Superblock).map(|e| &*e.name);
            let rises = match (first, p.first.as_deref()) {
                (Some(new), Some(old)) => name::cmp(new, old).is_ge(),
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if !(dirty && rises) {
                p.first = first.map(Into::into);
            }
        }
    }

    /// Count the content of `ix` in the cache as large as it is now.
    pub(super) fn count(&mut self, ix: PairIx) {
        let p = self.pair_mut(ix);
        let bytes = p.mdir.as_ref().map_or(0, |m| m.footprint());
        let before = std::mem::replace(&mut p.counted, bytes);
        let listed = std::mem::replace(&mut p.listed, true);
        self.cached_bytes = self.cached_bytes - before + bytes;
        if !listed {
            self.cached.push(ix);
        }
    }

    /// Keep so many bytes of metadata pairs in memory, where most of them are not asked for again.
    #[cfg(feature = "transfer")]
    pub(crate) fn limit_cache(&mut self, bytes: usize) {
        self.cache_max = bytes;
        self.evict_at = bytes;
    }

    /// Drop the content of pairs long unused until the cache is well under its budget; dirty ones
    /// and those of open files stay.
    pub(super) fn evict(&mut self) {
        // indices are used again, so the list may name a pair more than once
        let is_long = self.cached.len() > 2 * self.pairs.len() + 1024;
        if self.cached_bytes <= self.evict_at && !is_long {
            return;
        }
        let mut listed = std::mem::take(&mut self.cached);
        listed.sort_unstable();
        listed.dedup();
        let mut clean: Vec<(u32, PairIx)> = Vec::new();
        let mut total = 0;
        for &ix in &listed {
            let Some(Some(p)) = self.pairs.get_mut(ix.0 as usize) else { continue };
            p.listed = false;
            let Some(m) = &p.mdir else { continue };
            let idle = m
                .entries
                .iter()
                .all(|e| e.file.is_none() && e.role == Role::Live && e.double == Double::No);
            if p.on_disk && idle && !self.dirty_pairs.contains(&ix) {
                clean.push((self.tick.wrapping_sub(p.used), ix));
            } else {
                total += p.counted;
                p.listed = true;
                self.cached.push(ix);
            }
        }
        // what cannot be dropped must not make every load look for something to drop
        self.evict_at = self.cache_max.max(total + self.cache_max / 4);
        let keep = self.cache_max / 4 * 3;
        clean.sort_unstable();
        for (_, ix) in clean {
            let p = self.pair_mut(ix);
            if total + p.counted > keep {
                p.mdir = None;
                p.counted = 0;
            } else {
                total += p.counted;
                p.listed = true;
                self.cached.push(ix);
            }
        }
        self.cached_bytes = total;
    }
}
