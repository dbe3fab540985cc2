//! The thread of metadata pairs: the table of the pairs, their order, the changed ones, and the
//! cache of their content.
//!
//! [`Thread`] owns all of that. What must hold:
//!
//! 1. `next` and `prev` of the pairs agree. They are the thread as it will be after the flush.
//!    `disk_tail` of a pair is its tail in the image. The flush makes the thread on disk equal to
//!    the thread in memory, perhaps in several steps ([`View`]).
//! 2. A [`PairIx`] is valid until its pair is forgotten. Then its place is reused. So everything
//!    that keeps a [`PairIx`] (directories, moves, lists of pairs in [`super::Fs`]) must drop it
//!    before another pair can get the place.
//! 3. The content of a changed pair stays in memory until it is on disk. The content of a pair also
//!    stays if entries in it wait for a move, are open, or have a name that occurs twice, because
//!    the log does not show this.
//! 4. The bytes of cached content are counted. A pair that changes is noted, and counted again
//!    before the next operation.

use std::collections::{BTreeSet, HashMap};

use super::budget::Budget;
use super::dirs::Directories;
use super::firsts::{First, Firsts};
use super::pairs::{Fate, PairInfo, PairIx, View};
use crate::bd::BlockDevice;
use crate::disk::{Tail, name};
use crate::error::Result;
use crate::mdir::{Double, Entry, Kind, Mdir, Role, store};

/// The results of walks back along the thread, so that neighbouring pairs share one walk.
pub(super) type WaysBack = HashMap<PairIx, Option<PairIx>>;

/// The metadata pairs.
#[derive(Debug)]
pub(super) struct Thread {
    pairs: Vec<Option<PairInfo>>,
    vacant: Vec<PairIx>,
    firsts: Firsts,
    /// The pairs that have changed.
    dirty: BTreeSet<PairIx>,
    /// Pairs whose content is counted as cached. Some of them may not exist any more.
    cached: Vec<PairIx>,
    /// How many bytes their content takes.
    cached_bytes: usize,
    /// How many of these bytes are content of changed pairs.
    dirty_bytes: usize,
    /// Pairs that have changed since they were counted.
    uncounted: Vec<PairIx>,
    /// How many bytes of content may be kept before some of it is evicted.
    cache_max: usize,
    /// With this many bytes of content, some of it is evicted.
    evict_at: usize,
    /// Counts the uses of pairs, to know which pair was used last.
    tick: u32,
    /// How often content was needed.
    wanted: u64,
    /// How often content had to be read.
    loaded: u64,
    /// How many times [`Self::keeps_next`] was called while there was little room.
    passed: u32,
}

/// While there is little room, one of this many pairs that are read for a single entry is kept.
const KEPT_OF: u32 = 8;

impl Thread {
    pub fn new(budget: Budget) -> Self {
        Self {
            pairs: Vec::new(),
            vacant: Vec::new(),
            firsts: Firsts::default(),
            dirty: BTreeSet::new(),
            cached: Vec::new(),
            cached_bytes: 0,
            dirty_bytes: 0,
            uncounted: Vec::new(),
            cache_max: budget.pairs(),
            evict_at: budget.pairs(),
            tick: 0,
            wanted: 0,
            loaded: 0,
            passed: 0,
        }
    }

    /// A pair which the caller knows to exist.
    pub fn get(&self, ix: PairIx) -> &PairInfo {
        match self.find(ix) {
            Some(p) => p,
            // code that keeps an index must drop it together with the pair
            None => panic!("stale pair index {ix:?}"),
        }
    }

    /// A pair which the caller knows to exist, for changing it.
    pub fn get_mut(&mut self, ix: PairIx) -> &mut PairInfo {
        match self.pairs.get_mut(ix.0 as usize) {
            Some(Some(p)) => p,
            _ => panic!("stale pair index {ix:?}"),
        }
    }

    /// The pair at a place, if one exists.
    pub fn find(&self, ix: PairIx) -> Option<&PairInfo> {
        self.pairs.get(ix.0 as usize)?.as_ref()
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (PairIx, &PairInfo)> {
        let place = |(i, p)| (PairIx(i as u32), p);
        self.pairs.iter().enumerate().map(place).filter_map(|(ix, p)| Some((ix, p.as_ref()?)))
    }

    /// The indices of all pairs that exist now, for walks that change some of them.
    pub fn ids(&self) -> Vec<PairIx> {
        self.iter().map(|(ix, _)| ix).collect()
    }

    /// The content of every pair that is in memory.
    pub fn contents(&mut self) -> impl Iterator<Item = &mut Mdir> {
        self.pairs.iter_mut().flatten().filter_map(|p| p.mdir.as_deref_mut())
    }

    /// How many places the table has.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.pairs.len()
    }

    /// Add a pair. Nothing leads to it yet.
    pub fn add(&mut self, p: PairInfo) -> PairIx {
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

    /// Forget a pair that has left the thread.
    pub fn forget(&mut self, ix: PairIx) {
        self.mark_clean(ix);
        self.firsts.set(ix, None);
        if let Some(p) = self.pairs[ix.0 as usize].take() {
            self.cached_bytes -= p.counted;
            self.vacant.push(ix);
        }
    }

    /// Put `new`, to which nothing leads, into the place of `old` in the table and in the thread.
    pub fn replace(&mut self, old: PairIx, new: PairIx) {
        let Some(mut p) = self.pairs[new.0 as usize].take() else { return };
        self.vacant.push(new);
        self.firsts.shift(new, old);
        let o = self.get(old);
        (p.threaded, p.next, p.prev, p.listed) = (o.threaded, o.next, o.prev, o.listed);
        p.continues = o.continues;
        let counted = o.counted;
        self.cached_bytes -= counted;
        if self.dirty.contains(&old) {
            self.dirty_bytes = self.dirty_bytes - counted + p.counted;
        }
        self.pairs[old.0 as usize] = Some(p);
        self.count(old);
    }

    /// Note that a pair has changed.
    pub fn mark_dirty(&mut self, ix: PairIx) {
        if self.dirty.insert(ix) {
            self.dirty_bytes += self.get(ix).counted;
        }
        if self.uncounted.last() != Some(&ix) {
            self.uncounted.push(ix);
        }
    }

    /// Note that a pair has no changes that a flush would write.
    pub fn mark_clean(&mut self, ix: PairIx) {
        if self.dirty.remove(&ix) {
            self.dirty_bytes -= self.find(ix).map_or(0, |p| p.counted);
        }
    }

    /// The pairs that have changed.
    pub fn dirty(&self) -> &BTreeSet<PairIx> {
        &self.dirty
    }

    /// Put `ix` after `prev` in the thread, or in the directory of `prev` if this is not in the
    /// thread.
    pub fn link_after(&mut self, prev: PairIx, ix: PairIx) {
        let next = self.get_mut(prev).next.replace(ix);
        let threaded = self.get(prev).threaded;
        let p = self.get_mut(ix);
        p.prev = Some(prev);
        p.next = next;
        p.threaded = threaded;
        if let Some(next) = next {
            self.get_mut(next).prev = Some(ix);
        }
    }

    /// Take `ix` out of the thread.
    pub fn unlink(&mut self, ix: PairIx) {
        let p = self.get_mut(ix);
        let (prev, next) = (p.prev.take(), p.next.take());
        if let Some(prev) = prev {
            self.get_mut(prev).next = next;
        }
        if let Some(next) = next {
            self.get_mut(next).prev = prev;
        }
    }

    /// Whether the tails of `view` pass over `ix`.
    fn is_skipped(&self, ix: PairIx, view: View) -> bool {
        let p = self.get(ix);
        p.deferred
            || match (p.fate, view) {
                (Fate::Stays, _) => false,
                (Fate::Emptied, _) | (Fate::Removed, View::Final) => true,
                (Fate::Removed, View::Stubbed) => p.continues,
                (Fate::Removed, View::Grown) => false,
            }
    }

    /// The pairs after `ix` over which `view` passes, and the pair with which it continues.
    pub fn skip_from(&self, ix: PairIx, view: View) -> (Vec<PairIx>, Option<PairIx>) {
        let mut skipped = Vec::new();
        let mut next = self.get(ix).next;
        while let Some(n) = next.filter(|&n| self.is_skipped(n, view)) {
            skipped.push(n);
            next = self.get(n).next;
        }
        (skipped, next)
    }

    /// The tail that `ix` has in `view`.
    pub fn tail_in(&self, ix: PairIx, view: View) -> Tail {
        let (skipped, next) = self.skip_from(ix, view);
        match next {
            Some(n) => Tail { pair: self.get(n).blocks, hard: self.get(n).continues },
            None if self.get(ix).threaded => Tail::END,
            // the tail of the last pair of a directory that is not in the thread does not change
            None => {
                let last = self.get(skipped.last().copied().unwrap_or(ix)).disk_tail;
                if last.hard { Tail::END } else { last }
            }
        }
    }

    /// Whether the tail of `ix` on disk is the one that it has in `view`.
    pub fn tail_is_right(&self, ix: PairIx, view: View) -> bool {
        let (want, have) = (self.tail_in(ix, view), self.get(ix).disk_tail);
        (want.pair.is_null() && have.pair.is_null())
            || (want.hard == have.hard && want.pair.same(have.pair))
    }

    /// The pair whose commit makes `ix` reachable: `ix` itself if metadata on disk leads to it, and
    /// otherwise the nearest such pair before it.
    pub fn publisher(&self, ix: PairIx, ways: &mut WaysBack) -> PairIx {
        self.back_to(ix, |p| p.on_disk && p.fate != Fate::Emptied, ways).unwrap_or(ix)
    }

    /// The nearest pair for which `is_it` returns true, beginning with `ix` and going backwards.
    /// `ways` can be used again as long as these results do not change.
    pub fn back_to(
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
            let p = self.get(here);
            if is_it(p) {
                break Some(here);
            }
            passed.push(here);
            at = p.prev;
        };
        ways.extend(passed.into_iter().map(|p| (p, found)));
        found
    }

    /// The pairs in the thread whose tails on disk differ from the final ones.
    pub fn with_wrong_tails(&self) -> Vec<PairIx> {
        let stays = self.iter().filter(|(_, p)| p.threaded && p.fate == Fate::Stays);
        stays.map(|(ix, _)| ix).filter(|&ix| !self.tail_is_right(ix, View::Final)).collect()
    }

    /// The content of a pair. It is read if it is not in memory.
    ///
    /// # Errors
    /// [`Corrupt::LogChanged`](crate::error::Corrupt::LogChanged) if the log does not end any more
    /// as it is known, and the errors of the device.
    pub fn mdir(
        &mut self,
        dev: &dyn BlockDevice,
        dirs: &Directories,
        ix: PairIx,
    ) -> Result<&mut Mdir> {
        self.tick = self.tick.wrapping_add(1);
        self.wanted += 1;
        if self.get(ix).mdir.is_none() {
            let p = self.get_mut(ix);
            let (blocks, end, dir) = (p.blocks, p.end, p.dir);
            let mdir = if let Some(log) = p.take_packed() {
                Mdir::from_log(&log)
            } else {
                self.loaded += 1;
                Mdir::from_log(&store::read_known(dev, blocks, end)?)
            };
            let mdir = dirs.resolve(dir, mdir);
            self.evict();
            self.get_mut(ix).mdir = Some(Box::new(mdir));
            self.count(ix);
        }
        let tick = self.tick;
        let p = self.get_mut(ix);
        p.used = tick;
        Ok(p.mdir.get_or_insert_default())
    }

    /// Update `first` after a change of the content.
    ///
    /// The first name does not increase as long as the pair waits for a flush. Otherwise, a name
    /// that was removed and is created again could go to another pair, and a crash between the
    /// commits of the two pairs could show the name twice or not at all.
    pub fn refresh_first(&mut self, ix: PairIx) {
        let Some(Some(PairInfo { mdir: Some(m), .. })) = self.pairs.get(ix.0 as usize) else {
            return;
        };
        let first = m.entries.iter().find(|e| e.kind != Kind::Superblock).map(|e| &*e.name);
        let rises = match (first, self.firsts.get(ix).map(First::name)) {
            (Some(new), Some(old)) => name::cmp(new, old).is_ge(),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if !(rises && self.dirty.contains(&ix)) {
            self.firsts.set(ix, first);
        }
    }

    /// The first name in a pair.
    pub fn first(&self, ix: PairIx) -> Option<&First> {
        self.firsts.get(ix)
    }

    /// Set the first name in a pair whose content is not in memory.
    pub fn set_first(&mut self, ix: PairIx, first: Option<&[u8]>) {
        self.firsts.set(ix, first);
    }

    /// Count the content of `ix` in the cache with its present size.
    pub fn count(&mut self, ix: PairIx) {
        let p = self.get_mut(ix);
        let bytes = p.footprint();
        let before = std::mem::replace(&mut p.counted, bytes);
        let listed = std::mem::replace(&mut p.listed, true);
        self.cached_bytes = self.cached_bytes - before + bytes;
        if self.dirty.contains(&ix) {
            self.dirty_bytes = self.dirty_bytes - before + bytes;
        }
        if !listed {
            self.cached.push(ix);
        }
    }

    /// Count the pairs that have changed since they were counted.
    pub fn count_changed(&mut self) {
        while let Some(ix) = self.uncounted.pop() {
            if self.find(ix).is_some() {
                self.count(ix);
            }
        }
    }

    /// How many bytes the content of changed pairs takes.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Whether a pair that is read for a single entry should be kept in memory: every one while
    /// there is much room, and otherwise one of several, so that pairs that are often needed are
    /// kept sooner or later.
    pub fn keeps_next(&mut self) -> bool {
        if self.cached_bytes < self.cache_max / 2 {
            return true;
        }
        self.passed = self.passed.wrapping_add(1);
        self.passed.is_multiple_of(KEPT_OF)
    }

    /// How many bytes of content may be kept.
    pub fn cache_max(&self) -> usize {
        self.cache_max
    }

    /// How many bytes of content are cached.
    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// How often content was needed, and how often it had to be read.
    #[cfg(feature = "mount")]
    pub fn lookups(&self) -> (u64, u64) {
        (self.wanted, self.loaded)
    }

    /// Keep only this many bytes of content in memory, because most of it will not be needed again.
    #[cfg(feature = "transfer")]
    pub fn limit_cache(&mut self, bytes: usize) {
        self.cache_max = bytes;
        self.evict_at = bytes;
    }

    /// Evict the content of pairs that were not used for a long time, until the cache is well below
    /// its limit. Changed pairs and pairs with open files stay.
    pub fn evict(&mut self) {
        // places are reused, so a pair may be in this list more than once
        let is_long = self.cached.len() > 2 * self.pairs.len() + 1024;
        if self.cached_bytes <= self.evict_at && !is_long {
            return;
        }
        let mut by_age: Vec<(u32, PairIx)> = Vec::with_capacity(self.cached.len());
        let mut total = 0;
        for ix in std::mem::take(&mut self.cached) {
            let Some(Some(p)) = self.pairs.get_mut(ix.0 as usize) else { continue };
            if !std::mem::take(&mut p.listed) {
                // the pair was already seen
                continue;
            }
            if !p.is_in_memory() {
                // its log was unpacked, so nothing is counted here any more
                p.counted = 0;
                continue;
            }
            total += p.counted;
            by_age.push((self.tick.wrapping_sub(p.used), ix));
        }
        by_age.sort_unstable();
        let keep = self.cache_max / 4 * 3;
        for (_, ix) in by_age.into_iter().rev() {
            // only the oldest pairs are checked, because the check takes time
            if total > keep && self.is_evictable(ix) {
                let p = self.get_mut(ix);
                (p.mdir, p.packed) = (None, None);
                total -= std::mem::take(&mut p.counted);
            } else {
                self.get_mut(ix).listed = true;
                self.cached.push(ix);
            }
        }
        // if much of the content cannot be evicted, not every load should search for content to
        // evict
        self.evict_at = self.cache_max.max(total + self.cache_max / 4);
        self.cached_bytes = total;
    }

    /// Whether the content of `ix` can be read again as it is in memory.
    fn is_evictable(&self, ix: PairIx) -> bool {
        let p = self.get(ix);
        let is_idle =
            |e: &Entry| e.file.is_none() && e.role == Role::Live && e.double == Double::No;
        p.on_disk
            && !self.dirty.contains(&ix)
            && p.mdir.as_ref().is_none_or(|m| m.entries.iter().all(is_idle))
    }
}
